"""The one door to the kernels' passes: what goes in has a name, and this module alone calls them.

Arrays come checked: `csoftmax.functional` checks what its users pass, and `csoftmax.model`,
`csoftmax.training` and `csoftmax.solver` check theirs. The kernels check what memory safety needs,
but not the labels: one that is out of range reads and writes memory that is not theirs. X is as
`csoftmax.rows.base.as_stored` gives it; all other floats are of one type, that of b. W and its
gradient are class-major, (n_classes, n_features); for sparse rows (CSR) they are feature-major,
(n_features, n_classes), as a row gathers the features that it has: `weights_for` makes either.

Four of the records are compiled, because a call for one row would feel what named tuples cost.
`src_cy/records.pxi` says what their fields mean.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from csoftmax import _kernels
from csoftmax._kernels import Parameters, Sink, SparseColumns, StoredRows, Targets
from csoftmax.core.checks import Stored
from csoftmax.core.sparse import CSR
from csoftmax.engine.units import CHUNK_ROWS, SumTree, n_chunks

__all__ = [
    "LogitTargets",
    "Parameters",
    "Sink",
    "SparseColumns",
    "Step",
    "StoredRows",
    "Targets",
    "add_sparse_columns",
    "add_sparse_evaluation",
    "cross_entropy",
    "evaluate",
    "evaluate_heads",
    "forward",
    "gradient_for",
    "linear_gradient",
    "minibatches",
    "shuffle",
    "softmax",
    "sparse_gradient",
    "sum_chunks",
    "weights_for",
    "wide_labels",
]

Array = NDArray[Any]


class Step(NamedTuple):
    """How the gradient of a minibatch moves W and b: see `csoftmax.SGD`."""

    learning_rate: float
    momentum: float
    nesterov: bool
    weight_decay: float
    W_velocity: Array | None = None  # None: no momentum
    b_velocity: Array | None = None
    bias_rate: float | None = None  # None: the learning rate
    l1: float = 0.0  # without momentum only


class LogitTargets(NamedTuple):
    """The target of rows of logits: ``dense[k]``, plus ``label_weight[k]`` where k is the label.

    Logits and `dense` are (n_outer, n_classes, n_inner), labels (n_outer * n_inner,).
    """

    dense: Array | None  # None: 0
    labels: NDArray[np.int64] | None
    label_weight: Array | None  # (n_classes,); None: 1
    ignored: int | None  # the label of rows that do not count


def wide_labels(y: Array) -> NDArray[np.int64]:
    """Return labels as the kernels of sparse rows read them; those of arrays read small ones."""
    wide: NDArray[np.int64] = y.astype(np.int64, copy=False)
    return wide


def weights_for(X: Stored, W: Array, dtype: np.dtype[Any]) -> Array:
    """Return W (n_features, n_classes) as the kernels read it for such rows; a view if it can be.

    A matrix of one row or column may have either layout.
    """
    wanted = W if isinstance(X, CSR) else W.T
    flags = wanted.flags
    if wanted.dtype == dtype and flags.c_contiguous and flags.aligned:
        return wanted
    return np.array(wanted, dtype, order="C")


def gradient_for(X: Stored, n_classes: int, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """Return empty dW and db for such rows."""
    shape = (X.shape[1], n_classes) if isinstance(X, CSR) else (n_classes, X.shape[1])
    return np.empty(shape, dtype), np.empty(n_classes, dtype)


def forward(rows: StoredRows, parameters: Parameters, sink: Sink, n_threads: int) -> None:
    """Fill the logits or predictions of the rows."""
    if type(rows.X) is CSR:
        _kernels.sparse_pass(
            rows.X.rows, parameters.W, parameters.b, rows.scale, logits=sink.logits,
            predictions=sink.predictions, n_threads=n_threads,
        )  # fmt: skip
        return
    _kernels.row_pass(
        rows.X, parameters.W, parameters.b, rows.scale, order=rows.order, logits=sink.logits,
        first_class=sink.first_class, predictions=sink.predictions, n_threads=n_threads,
    )  # fmt: skip


def evaluate(
    rows: StoredRows, parameters: Parameters, targets: Targets, sink: Sink, n_threads: int
) -> tuple[float, int]:
    """Return the weighted sum of the losses, and how many rows are predicted right."""
    if type(rows.X) is CSR:
        result: tuple[float, int] = _sparse_evaluate(
            rows, parameters, targets, sink, n_threads, None
        )
        return result
    return _kernels.row_pass(
        rows.X, parameters.W, parameters.b, rows.scale, order=rows.order, y=targets.y,
        sample_weight=targets.weight, gradient=sink.gradient, factor=sink.factor,
        losses=sink.losses, predictions=sink.predictions, n_threads=n_threads,
    )  # fmt: skip


def evaluate_heads(
    rows: StoredRows, parameters: Parameters, targets: Targets, sink: Sink, n_threads: int
) -> tuple[list[float], list[int]]:
    """Return the sums of `evaluate` for each of the heads, all in one pass over the rows.

    Where X, W and the logits are finite, every head has the bits that it would have alone. For
    sparse rows the classes of all heads lie side by side: W is (n_features, n_heads * n_classes).
    """
    if type(rows.X) is CSR:
        sums: tuple[list[float], list[int]] = _sparse_evaluate(
            rows, parameters, targets, sink, n_threads, len(parameters.b)
        )
        return sums
    return _kernels.row_pass(
        rows.X, parameters.W, parameters.b.reshape(-1), rows.scale, order=rows.order, y=targets.y,
        sample_weight=targets.weight, weight_of_head=targets.weight_of_head,
        heads=len(parameters.W), gradient=sink.gradient, factor=sink.factor, n_threads=n_threads,
    )  # fmt: skip


def sum_chunks(
    rows: StoredRows,
    parameters: Parameters,
    targets: Targets,
    sink: Sink,
    tree: SumTree,
    n_threads: int,
) -> list[int]:
    """Add the gradients and losses of the rows' chunks to a tree; return how many rows are right.

    The sums of a chunk are those of W, of b, and the losses, all of them for each head. The rows
    are an array, or a tuple of arrays, one after the other; `sink.gradient` is only worked in.
    """
    _, n_correct = _kernels.row_pass(
        rows.X, parameters.W, parameters.b.reshape(-1), rows.scale, y=targets.y,
        sample_weight=targets.weight, weight_of_head=targets.weight_of_head,
        heads=len(parameters.W), gradient=sink.gradient, factor=sink.factor,
        tree=tree.nodes, leaf_rows=CHUNK_ROWS, first_leaf=tree.n, n_threads=n_threads,
    )  # fmt: skip
    tree.n += n_chunks(len(targets.y))
    return n_correct


def _sparse_evaluate(
    rows: StoredRows,
    parameters: Parameters,
    targets: Targets,
    sink: Sink,
    n_threads: int,
    heads: int | None,
) -> Any:
    columns, gradient = None, None
    if sink.gradient is not None:
        columns = rows.X.columns(parameters.b.dtype)
        gradient = sink.gradient[0], sink.gradient[1].reshape(-1)
        if targets.weight is not None and targets.weight.ndim == 1 and not columns.finite:
            # A row of weight 0 may hold NaN, and 0 * NaN would reach the gradient.
            columns = rows.X.without(targets.weight == 0).columns(parameters.b.dtype)
    return _kernels.sparse_pass(
        rows.X.rows, parameters.W, parameters.b.reshape(-1), rows.scale, y=wide_labels(targets.y),
        sample_weight=targets.weight, weight_of_head=targets.weight_of_head, heads=heads,
        gradient=gradient, columns=columns, factor=sink.factor, losses=sink.losses,
        predictions=sink.predictions, n_threads=n_threads,
    )  # fmt: skip


def minibatches(
    rows: StoredRows,
    parameters: Parameters,
    targets: Targets,
    step: Step,
    batch_size: int,
    n_threads: int,
) -> tuple[float, int]:
    """Update W and b after each minibatch; return the sums of `evaluate`, taken before updates.

    W is class-major, for sparse rows too: they make lines of it and of its velocity, and write them
    back at the end, which takes as long as some minibatches.
    """
    if type(rows.X) is CSR:
        return _kernels.sparse_minibatches(
            rows.X.rows, parameters.W, parameters.b, rows.scale, order=rows.order,
            y=wide_labels(targets.y), sample_weight=targets.weight, batch_rows=batch_size,
            sgd=step[:6], bias_rate=step.bias_rate, l1=step.l1, n_threads=n_threads,
        )  # fmt: skip
    if step.l1:
        return _minibatches_with_l1(rows, parameters, targets, step, batch_size, n_threads)
    return _kernels.row_pass(
        rows.X, parameters.W, parameters.b, rows.scale, order=rows.order, y=targets.y,
        sample_weight=targets.weight, batch_rows=batch_size, sgd=step[:6],
        bias_rate=step.bias_rate, n_threads=n_threads,
    )  # fmt: skip


def _minibatches_with_l1(
    rows: StoredRows,
    parameters: Parameters,
    targets: Targets,
    step: Step,
    batch_size: int,
    n_threads: int,
) -> tuple[float, int]:
    """Go through an array one minibatch after the other: the kernel of arrays knows no L1."""
    order = np.arange(len(rows.X)) if rows.order is None else rows.order
    W, shrinks, rest = parameters.W, step.learning_rate * step.l1, step._replace(l1=0.0)
    loss, n_correct = 0.0, 0
    for start in range(0, len(order), batch_size):
        some = StoredRows(rows.X, rows.scale, order[start : start + batch_size])
        sums = minibatches(some, parameters, targets, rest, batch_size, n_threads)
        loss, n_correct = loss + sums[0], n_correct + sums[1]
        W -= np.clip(W, -shrinks, shrinks)
    return loss, n_correct


def linear_gradient(rows: StoredRows, dlogits: Array, dW: Array, db: Array) -> None:
    """Set ``dW = scale * dlogits @ X`` and ``db = dlogits.sum(axis=1)``, on this thread alone.

    dlogits is class-major, (n_classes, n_rows). All rows of X are summed in one float type: for
    many rows, call it by blocks.
    """
    X = np.require(rows.X, rows.X.dtype.newbyteorder("="), ["C", "A"])
    _kernels.linear_gradient(X, dlogits, rows.scale, dW, db)


def sparse_gradient(
    columns: SparseColumns,
    dlogits: Array,
    scale: float,
    dW: Array,
    n_threads: int = 1,
    squares: bool = False,
) -> None:
    """Set ``dW = scale * X.T @ dlogits``, feature-major; with `squares`, of the squares of X."""
    _kernels.sparse_gradient(columns, dlogits, scale, dW, squares=squares, n_threads=n_threads)


def add_sparse_evaluation(
    rows: StoredRows, parameters: Parameters, targets: Targets, heads: int,
    sums: NDArray[np.float64], n_threads: int,
) -> list[int]:  # fmt: skip
    """Add the gradients and losses of heads to sums, row after row; return how many are right.

    The sums are those of W (n_features, heads * n_classes) without the scale, of b, and the losses,
    flat. They have the same bits however the rows are cut into calls of multiples of 64.
    """
    _, n_correct = _kernels.sparse_pass(
        rows.X.rows, parameters.W, parameters.b.reshape(-1), rows.scale, y=targets.y,
        sample_weight=targets.weight, weight_of_head=targets.weight_of_head, heads=heads, sums=sums,
        n_threads=n_threads,
    )  # fmt: skip
    right: list[int] = n_correct
    return right


def add_sparse_columns(
    X: CSR, factors: Array, sums: NDArray[np.float64], squares: bool = False, n_threads: int = 1
) -> None:
    """Add ``X.T @ factors`` to sums (n_features, n), row after row; with `squares`, of X squared.

    A row whose factors are all 0 may hold anything.
    """
    _kernels.sparse_add(X.rows, factors, sums, squares=squares, n_threads=n_threads)


def softmax(kind: str, logits: Array, out: Array, n_threads: int) -> None:
    """Fill `out` with the "softmax" or "log_softmax" of (n_outer, n_classes, n_inner) logits."""
    _kernels.softmax_pass(kind, logits, out, n_threads=n_threads)


def cross_entropy(
    logits: Array,
    targets: LogitTargets,
    losses: Array,
    dlogits: Array | None,
    factor: float,
    n_threads: int,
) -> None:
    """Fill the losses of rows of logits and, unless it is None, `factor` times their gradient."""
    _kernels.softmax_pass(
        "cross_entropy", logits, dlogits, dense=targets.dense, y=targets.labels,
        ignored=targets.ignored, label_weight=targets.label_weight, losses=losses, factor=factor,
        n_threads=n_threads,
    )  # fmt: skip


def shuffle(order: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
    """Put `order` into a random order, in place, and return it: `random.shuffle` takes longer."""
    _kernels.shuffle(order, random.integers(2**64, size=math.ceil(len(order) / 2), dtype=np.uint64))
    return order
