"""The compiled module; what each function does is said in src_cy/_kernels.pyx."""

from typing import Any, final, overload

from numpy.typing import NDArray

__all__ = [
    "LogitRows",
    "Parameters",
    "Sink",
    "SparseColumns",
    "SparseRows",
    "StoredRows",
    "Targets",
    "active",
    "available",
    "count_threads_cost",
    "elementary",
    "helpers_started",
    "largest_slopes",
    "linear_gradient",
    "model_product",
    "multiply_adds",
    "read_all",
    "row_pass",
    "softmax_pass",
    "sparse_add",
    "sparse_gradient",
    "sparse_minibatches",
    "sparse_pass",
    "sweep",
    "use",
]

_Array = NDArray[Any]

@final
class SparseRows:
    n_rows: int
    n_features: int
    n_entries: int
    def __init__(
        self, values: _Array, indices: _Array, indptr: _Array, n_features: int
    ) -> None: ...

@final
class SparseColumns:
    n_rows: int
    n_features: int
    n_entries: int
    nbytes: int
    finite: bool
    def __init__(self, rows: SparseRows, dtype: str) -> None: ...
    def as_arrays(self) -> tuple[_Array, _Array, _Array]: ...

@final
class LogitRows:
    arrays: tuple[Any, ...]
    def __init__(
        self,
        Z: _Array,
        delta: _Array,
        P: _Array,
        R: _Array,
        y: _Array,
        weight: _Array | None,
    ) -> None: ...
    def step(self, step: float, n_threads: int = 1) -> float: ...
    def entropy(self, factor: float, mix: float, v: _Array, n_threads: int = 1) -> float: ...

@final
class StoredRows:
    def __init__(self, X: Any, scale: float = 1.0, order: _Array | None = None) -> None: ...
    @property
    def X(self) -> Any: ...
    @property
    def scale(self) -> float: ...
    @property
    def order(self) -> _Array | None: ...

@final
class Parameters:
    def __init__(self, W: _Array, b: _Array) -> None: ...
    @property
    def W(self) -> _Array: ...
    @property
    def b(self) -> _Array: ...

@final
class Targets:
    def __init__(
        self, y: _Array, weight: _Array | None = None, weight_of_head: _Array | None = None
    ) -> None: ...
    @property
    def y(self) -> _Array: ...
    @property
    def weight(self) -> _Array | None: ...
    @property
    def weight_of_head(self) -> _Array | None: ...

@final
class Sink:
    def __init__(
        self,
        gradient: tuple[_Array, _Array] | None = None,
        factor: float = 1.0,
        losses: _Array | None = None,
        predictions: _Array | None = None,
        logits: _Array | None = None,
        first_class: int = 0,
    ) -> None: ...
    @property
    def gradient(self) -> tuple[_Array, _Array] | None: ...
    @property
    def factor(self) -> float: ...
    @property
    def losses(self) -> _Array | None: ...
    @property
    def predictions(self) -> _Array | None: ...
    @property
    def logits(self) -> _Array | None: ...
    @property
    def first_class(self) -> int: ...

def available() -> tuple[str, ...]: ...
def active() -> str: ...
def use(name: str) -> None: ...
def wait_at_most(seconds: float) -> float: ...
def count_threads_cost(factor: float) -> float: ...
def helpers_started() -> int: ...
@overload
def row_pass(
    X: _Array | tuple[_Array, ...],
    W: _Array,
    b: _Array,
    scale: float,
    *,
    y: _Array | None = None,
    order: _Array | None = None,
    sample_weight: _Array | None = None,
    batch_rows: int = 0,
    factor: float = 1.0,
    gradient: tuple[_Array, _Array] | None = None,
    sgd: tuple[float, float, bool, float, _Array | None, _Array | None] | None = None,
    bias_rate: float | None = None,
    logits: _Array | None = None,
    losses: _Array | None = None,
    predictions: _Array | None = None,
    first_class: int = 0,
    heads: None = None,
    weight_of_head: None = None,
    n_threads: int = 1,
) -> tuple[float, int]: ...
@overload
def row_pass(
    X: _Array | tuple[_Array, ...],
    W: _Array,
    b: _Array,
    scale: float,
    *,
    y: _Array,
    order: _Array | None = None,
    sample_weight: _Array | None = None,
    batch_rows: int = 0,
    factor: float = 1.0,
    gradient: tuple[_Array, _Array] | None = None,
    sgd: tuple[float, float, bool, float, _Array | None, _Array | None] | None = None,
    bias_rate: float | None = None,
    logits: _Array | None = None,
    losses: _Array | None = None,
    predictions: _Array | None = None,
    first_class: int = 0,
    heads: int,
    weight_of_head: _Array | None = None,
    tree: NDArray[Any] | None = None,
    leaf_rows: int = 0,
    first_leaf: int = 0,
    n_threads: int = 1,
) -> tuple[list[float], list[int]]: ...
def linear_gradient(X: _Array, dlogits: _Array, scale: float, dW: _Array, db: _Array) -> None: ...
def softmax_pass(
    kind: str,
    logits: _Array,
    out: _Array | None,
    *,
    dense: _Array | None = None,
    y: _Array | None = None,
    ignored: int | None = None,
    label_weight: _Array | None = None,
    losses: _Array | None = None,
    factor: float = 1.0,
    n_threads: int = 1,
) -> None: ...
def shuffle(order: _Array, words: _Array) -> None: ...
def elementary(name: str, x: _Array, out: _Array) -> None: ...
def multiply_adds(dtype: str, n: int) -> float: ...
def read_all(array: _Array) -> int: ...
def sparse_pass(
    rows: SparseRows,
    W: _Array,
    b: _Array,
    scale: float,
    *,
    y: _Array | None = None,
    sample_weight: _Array | None = None,
    factor: float = 1.0,
    gradient: tuple[_Array, _Array] | None = None,
    columns: SparseColumns | None = None,
    sums: _Array | None = None,
    logits: _Array | None = None,
    losses: _Array | None = None,
    predictions: _Array | None = None,
    heads: int | None = None,
    weight_of_head: _Array | None = None,
    n_threads: int = 1,
) -> Any: ...
def sparse_minibatches(
    rows: SparseRows,
    W: _Array,
    b: _Array,
    scale: float,
    *,
    y: _Array,
    sgd: tuple[float, float, bool, float, _Array | None, _Array | None],
    batch_rows: int,
    order: _Array | None = None,
    sample_weight: _Array | None = None,
    bias_rate: float | None = None,
    l1: float = 0.0,
    n_threads: int = 1,
) -> tuple[float, int]: ...
def sparse_add(
    rows: SparseRows,
    factors: _Array,
    sums: _Array,
    *,
    squares: bool = False,
    n_threads: int = 1,
) -> None: ...
def sparse_gradient(
    columns: SparseColumns,
    dlogits: _Array,
    scale: float,
    dW: _Array,
    *,
    squares: bool = False,
    n_threads: int = 1,
) -> None: ...
def sweep(
    of: LogitRows,
    columns: SparseColumns | _Array,
    coordinates: tuple[_Array, ...],
    classes: _Array,
    wave: int,
    mass: _Array,
    share: _Array,
    s: _Array,
    penalty: tuple[float, float],
    *,
    bias: tuple[_Array, _Array, float] | None = None,
    is_far: bool = False,
    n_rounds: int = 1,
    n_threads: int = 1,
) -> float: ...
def line_products(
    n_lines: int, n: int, vectors: Any, pairs: Any, n_threads: int
) -> list[float]: ...
def line_step(
    n_lines: int, n: int, start: _Array, direction: _Array, step: float, out: _Array, n_threads: int
) -> None: ...
def line_shift(n_lines: int, n: int, W: _Array, mean: _Array, n_threads: int) -> list[float]: ...
def line_finish(
    n_lines: int,
    n: int,
    dW: _Array,
    W: _Array,
    factor: float,
    mean: _Array | None,
    bias: _Array,
    l2: float,
    n_threads: int,
) -> float: ...
def line_largest(
    n_lines: int, n: int, g: _Array, mean: _Array | None, bias: _Array, n_threads: int
) -> float: ...
def line_direction(
    n_lines: int,
    n: int,
    S: _Array,
    Y: _Array,
    slots: _Array,
    of_S: _Array,
    of_Y: _Array,
    gamma: float,
    g: _Array,
    diagonal: _Array,
    l2: float,
    out: _Array,
    n_threads: int,
) -> float: ...
def line_meet(
    n_lines: int,
    n: int,
    S: _Array,
    Y: _Array,
    slots: _Array,
    g: _Array,
    diagonal: _Array,
    l2: float,
    n_threads: int,
    *,
    slot: int = -1,
    old: _Array | None = None,
    direction: _Array | None = None,
    step: float = 0.0,
) -> list[float]: ...
def line_gram(
    n_lines: int,
    n: int,
    S: _Array,
    Y: _Array,
    slots: _Array,
    diagonal: _Array,
    l2: float,
    n_threads: int,
) -> list[float]: ...
def model_product(
    name: str,
    of: LogitRows,
    columns: SparseColumns | _Array,
    starts: _Array,
    line_of: _Array,
    u: _Array,
    bias: _Array | None,
    delta: _Array,
    s: _Array,
    share: _Array,
    *,
    n_threads: int = 1,
) -> None: ...
def largest_slopes(
    G: _Array,
    counts: _Array,
    dual: tuple[_Array, _Array | None, _Array, float] | None,
    *,
    n_threads: int = 1,
) -> tuple[_Array, _Array]: ...
