"""What a solution takes in memory besides X: the plans there are, the fastest first."""

from __future__ import annotations

from typing import NamedTuple

from csoftmax.core.checks import Stored, compute_dtype
from csoftmax.core.sparse import CSR
from csoftmax.engine import passes
from csoftmax.engine.sparse_shard_passes import sparse_shard_bytes
from csoftmax.rows.shards import ShardRows
from csoftmax.solver import (
    bound,
    corrected,
    diagonal,
    hessians,
    lbfgs,
    long,
    newton,
    problem,
    sample,
)
from csoftmax.solver.arguments import is_dense_enough
from csoftmax.solver.problem import Sizes

# L-BFGS keeps as many pairs as HISTORY_BYTES hold: at least LEAST_PAIRS, at most MOST_PAIRS. A path
# over LONG_PATH_ROWS rows or more may keep MOST_PAIRS_OF_PATH. The passes that 10, 30 and 100 took:
# - a path of 15 C over 60,000 images: 261, 255 and 262; over 8,000 of them: 3,984, 2,946 and 1,650;
# - a path of 8 C over digits (1,797 rows): 142, 109 and 143;
# - C = 1000 alone over 15,000 images: 622, 523 and 440 (no faster); over digits: 103, 126 and 189.
HISTORY_BYTES, LEAST_PAIRS, MOST_PAIRS = 1 << 24, 10, 30
# Of sparse rows at least LEAST_LONG_PAIRS: with vectors of 17 MB, 5 pairs took 2.2 s to 1e-3 of the
# optimum where 10 took 3.1 s and 3 took 2.1 s, in 61, 64 and 66 passes (C = 100).
LEAST_LONG_PAIRS = 5
MOST_PAIRS_OF_PATH, LONG_PATH_ROWS = 100, 4096
SHORTER_HISTORIES = (10, 5, 3)  # pairs, where memory does not hold the usual number


class Plan(NamedTuple):
    """How a problem is solved, and how many bytes that takes at most, besides X."""

    history_size: int
    preconditioner: str | None
    n_bytes: float
    sample_rows: int = 0  # of the corrected sample

    def of_one(self, X: Stored | ShardRows, n_classes: int) -> Plan:
        """Return the plan for one head after a path, with the pairs of a call for it alone."""
        is_sparse = stays_sparse(X, n_classes)
        usual = usual_pairs(len(X), head_bytes(X, n_classes), False, is_sparse)
        return self._replace(history_size=min(self.history_size, usual))


def stays_sparse(X: Stored | ShardRows, n_classes: int) -> bool:
    """Say whether these are sparse rows that do not become an array; shards never do."""
    if isinstance(X, ShardRows):
        return X.is_sparse
    return isinstance(X, CSR) and not is_dense_enough(X, n_classes)


def head_bytes(X: Stored | ShardRows, n_classes: int) -> int:
    """Return the bytes of one head's W and b."""
    return int(n_classes * (X.shape[1] + 1) * compute_dtype(X).itemsize)


def usual_pairs(n_rows: int, head_bytes: int, path: bool, is_sparse: bool = False) -> int:
    """Return how many pairs of L-BFGS a head with so many bytes of parameters usually keeps."""
    most = MOST_PAIRS_OF_PATH if path and n_rows >= LONG_PATH_ROWS else MOST_PAIRS
    least = LEAST_LONG_PAIRS if is_sparse else LEAST_PAIRS
    return min(max(HISTORY_BYTES // (2 * head_bytes), least), most)


def plans(
    X: Stored | ShardRows, n_classes: int, n_threads: int, n_heads: int = 1, n_weights: int = 0,
    path: bool = False, evaluates: bool = False, by_blocks: bool = False,
) -> list[Plan]:  # fmt: skip
    """Return the plans that there are, the best first; the first one that fits is chosen.

    `n_weights` is how many rows of weights there are, 0 where all samples weigh 1. With `evaluates`
    no step is made: ``max_iter`` is 0. Weights that are made `by_blocks` are not counted.
    """
    (n_rows, n_features), itemsize = X.shape, compute_dtype(X).itemsize
    of_shards, is_sparse = isinstance(X, ShardRows), stays_sparse(X, n_classes)
    stored_itemsize = itemsize if isinstance(X, CSR) else X.dtype.itemsize
    sizes = Sizes(
        n_rows, n_features, n_classes, n_heads, n_weights, n_threads, itemsize, stored_itemsize
    )
    of_rows = sizes._replace(n_weights=0) if by_blocks else sizes
    always = float(problem.bytes_needed(of_rows))
    usual = usual_pairs(n_rows, head_bytes(X, n_classes), path, is_sparse)
    numbers = (usual, *(m for m in SHORTER_HISTORIES if m < usual))
    if is_sparse:
        always += (
            sparse_shard_bytes(X, n_heads, n_classes, itemsize, n_weights)
            if isinstance(X, ShardRows)
            else passes.sparse_bytes_needed(X, n_heads, n_classes, itemsize)
        )
        if evaluates:
            return [Plan(1, None, always + long.bytes_needed(sizes, 1))]
        always += diagonal.bytes_needed(sizes, of_shards)
        return [Plan(m, "auto", always + long.bytes_needed(sizes, m)) for m in numbers]
    always += passes.bytes_needed(n_rows, n_heads, n_classes, sizes.parameter_bytes, n_threads)
    if isinstance(X, CSR):
        always += n_rows * n_features * itemsize  # as an array
    if evaluates:
        always += bound.bytes_needed(sizes)
        return [Plan(1, None, always + lbfgs.bytes_needed(sizes.parameter_bytes, 1))]
    by_lbfgs = [
        Plan(pairs, kind, always + extra + lbfgs.bytes_needed(sizes.parameter_bytes, pairs))
        for kind, extra in _preconditioners(sizes).items()
        for pairs in numbers
    ]
    sampled = corrected.usual_rows(X, n_classes)
    if not sampled:
        return by_lbfgs
    of_descent = lbfgs.bytes_needed(head_bytes(X, n_classes), usual)
    more = corrected.bytes_needed(sizes, sampled, of_descent)
    best = by_lbfgs[0]
    return [best._replace(n_bytes=best.n_bytes + more, sample_rows=sampled), *by_lbfgs]


def _preconditioners(sizes: Sizes) -> dict[str, float]:
    """Return the bytes that solving takes with the preconditioners "auto" and "diagonal".

    They come on top of those of the passes, the rows and the pairs of L-BFGS.
    """
    diagonal = _in_turn(sizes, full=False)
    if newton.suits(*sizes[:3]):
        by_newton = newton.bytes_needed(sizes) + bound.bytes_needed(sizes)
        return {"auto": by_newton, "diagonal": diagonal}
    coarse = sizes._replace(n_rows=sample.sampled_rows(sizes), n_weights=0)
    start = newton.bytes_needed(coarse) if newton.suits(*coarse[:3]) else 0.0
    return {"auto": _in_turn(sizes, sample.wants_full("auto", sizes), start), "diagonal": diagonal}


def _in_turn(sizes: Sizes, full: bool, start: float = 0.0) -> float:
    """Return the bytes that are kept, and the most that one of the steps takes.

    The steps follow each other: samples, the start on one of them, Hessians, and at last bounds.
    """
    kept = sample.kept_bytes(sizes, full) + hessians.kept_bytes(sizes, full)
    making = sample.making_bytes(sizes, full), hessians.making_bytes(sizes, full)
    return kept + max(start, *making, bound.bytes_needed(sizes))
