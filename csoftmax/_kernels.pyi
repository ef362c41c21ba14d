"""The compiled module; what each function does is said in src_cy/_kernels.pyx."""

from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

def available() -> tuple[str, ...]: ...
def active() -> str: ...
def use(name: str) -> None: ...
def row_pass(
    X: Array,
    W: Array,
    b: Array,
    scale: float,
    *,
    y: Array | None = None,
    order: Array | None = None,
    sample_weight: Array | None = None,
    batch_rows: int = 0,
    factor: float = 1.0,
    gradient: tuple[Array, Array] | None = None,
    sgd: tuple[float, float, bool, float, Array | None, Array | None] | None = None,
    logits: Array | None = None,
    losses: Array | None = None,
    predictions: Array | None = None,
    n_threads: int = 1,
) -> tuple[float, int]: ...
def linear_gradient(X: Array, dlogits: Array, scale: float, dW: Array, db: Array) -> None: ...
def softmax_pass(
    kind: str,
    logits: Array,
    out: Array | None,
    *,
    dense: Array | None = None,
    y: Array | None = None,
    ignored: int | None = None,
    label_weight: Array | None = None,
    losses: Array | None = None,
    factor: float = 1.0,
    n_threads: int = 1,
) -> None: ...
def elementary(name: str, x: Array, out: Array) -> None: ...
def multiply_adds(dtype: str, n: int) -> float: ...
def read_all(array: Array) -> int: ...
