"""What a solver asks of labelled rows, as sums over all of them: it never sees how they are stored.

`Passes` is what every kind of rows gives: rows in this process
(`csoftmax.engine.local_passes.LocalPasses`), in shards
(`csoftmax.engine.shard_passes.ShardPasses`), on a cluster (`csoftmax.engine.dask.DaskPasses`). They
give sums and never means, as the sums of several parts of the rows can be added up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.sparse import CSR
from csoftmax.engine.row_weights import Weights
from csoftmax.engine.targets import mass_of_classes as mass_of_classes
from csoftmax.engine.units import SumTree, n_chunks

if TYPE_CHECKING:
    from csoftmax.engine.local_passes import LocalPasses

Array = NDArray[Any]

# What each thread of a pass takes for the parts of X and W that it multiplies.
PANEL_BYTES = 3 << 20
# The bias of a class that no row of the head has. Its weights are 0, and the logits of the others
# sum to 0: their largest is at least 0, so its probability is 0 in either float type.
ABSENT_BIAS = -1e4


def bytes_needed(
    n_rows: int, n_heads: int, n_classes: int, parameter_bytes: int, n_threads: int
) -> int:
    """Return what a pass over rows takes, at most; `parameter_bytes` are those of all heads."""
    partial_gradients = 8 * parameter_bytes if parameter_bytes <= n_heads << 19 else 0
    levels = n_chunks(n_rows).bit_length()
    if levels > 1:  # the tree, its sum, and more partial gradients at a time
        partial_gradients += 2 * (levels + 2) * parameter_bytes + (2 << 20)
    logits = 16 * min(n_rows, 512) * n_heads * n_classes
    return (4 << 20) + logits + (n_threads - 1) * PANEL_BYTES + partial_gradients


def sparse_bytes_needed(X: CSR, n_heads: int, n_classes: int, itemsize: int) -> int:
    """Return what a pass over sparse rows takes: its copy by columns, dlogits, and small things.

    The parameters of several heads are laid side by side, and so are their gradients.
    """
    n_rows, n_features = X.shape
    side_by_side = n_heads * n_classes * itemsize
    by_columns = 8 * (n_features + 2) + X.rows.n_entries * (4 + itemsize)
    copies = 2 * n_features * side_by_side if n_heads > 1 else 0
    return (4 << 20) + by_columns + n_rows * (side_by_side + 64) + copies


class Sums(NamedTuple):
    """What a pass sums up, a number for each head."""

    losses: list[float]  # times the weights of the rows
    n_correct: list[int]  # rows predicted right, whatever they weigh


class NullSums(NamedTuple):
    """Sums over the rows at W = 0, a head for each row of weights."""

    feature_sums: NDArray[np.float64]  # (n_weights, n_features), 0 if not asked for
    losses: list[float]
    dW: Array  # as `Passes.evaluate` gives it
    db: Array
    n_passes: int  # over the rows, for all that


class ClassSums(NamedTuple):
    """The sums of rows by class, and some of the rows: of one pass."""

    tree: SumTree  # of (n_weights, n_classes, n_features) flat, by target and weights
    numbers: NDArray[np.int64]  # of the rows of the sample, in order
    X: Array  # these rows, as they are stored
    target: Array  # of these rows


class Passes(Protocol):
    """Passes over rows, wherever these are, for heads that share X and the targets.

    Attributes
    ----------
    rows : object
        The rows of X, with `blocks`, `take`, `n_rows`, `n_features` and `dtype`, as
        `csoftmax.rows.memory.MemoryRows` has them.
    dtype : dtype
        Of the parameters and of sums.
    target : array (n_rows,) of labels, or float64 (n_rows, n_classes) of probabilities
    weights : float64 array (n_weights, n_rows), FoldWeights or None
        Rows of weights >= 0, of which each head has one; None: one row of ones.
    scale : float
        Multiplies X.
    n_threads : int
        The bits do not depend on it.
    is_sparse : bool
        Whether few features of a row are not 0, and W is feature-major.
    """

    rows: Any
    dtype: np.dtype[Any]
    n_rows: int
    n_features: int
    n_classes: int
    target: Array
    scale: float
    n_threads: int

    @property
    def weights(self) -> Weights | None: ...

    @property
    def is_sparse(self) -> bool: ...

    @property
    def n_weights(self) -> int: ...

    def weight(self, r: int) -> Weights | None:
        """Return one of the rows of weights; None where all rows weigh 1."""

    def evaluate(
        self, W: Any, b: Array, weight_of_head: NDArray[np.int64], dW: Any, db: Array
    ) -> Sums:
        """Return the sums of heads at W and b, and set dW and db to the gradients of the losses."""

    def null_sums(self, b: Array, of_features: bool) -> NullSums:
        """Return the sums at W = 0, a head for each row of weights, and those of the features.

        ValueError with the value of X that makes one of them not finite.
        """

    def class_sums(self, share: float, seed: int) -> ClassSums:
        """Return the sums by class, and the rows of which `is_sampled` says that they are drawn.

        Dense rows have it. What is not finite makes sums that are not.
        """

    def sample(self, weight_row: int, n: int, seed: int) -> LocalPasses:
        """Return at most n of the rows that a row of weights counts, drawn at random, in order."""

    def raise_bad_value(self) -> None:
        """Raise ValueError with what of X spoils sums: NaN, infinity, or the largest column."""

    def fingerprint(self) -> bytes:
        """Return a digest of the rows, the targets, the weights and the scale."""


class SparsePasses(Passes, Protocol):
    """Passes over sparse rows, of which solvers ask one thing more."""

    def column_sums(
        self, factors: Callable[[slice, CSR], Array], n: int, squares: Sequence[bool]
    ) -> list[Array]:
        """Return ``scale X^T F``, (n_features, n), or of the squares of scale X, for each flag.

        ``factors(some, X)`` returns the rows `some` of F, (len(X), n). It is called for all rows,
        in order, in blocks that are the same every time. The sums are of `dtype`.
        """


def raise_overflow(dtype: np.dtype[Any], largest: Array) -> None:
    """Raise ValueError for the column of which sums are too large, by the columns' values."""
    j = int(largest.argmax())
    raise ValueError(overflow_text(dtype, j, float(largest[j])))


def overflow_text(dtype: np.dtype[Any], column: int, largest: float) -> str:
    return (
        f"sums over the rows of X overflow {dtype}: column {column} has values up to "
        f"{largest:.3g}, expected smaller numbers or a smaller scale"
    )
