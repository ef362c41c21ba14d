"""What a solution takes in memory besides X: the plans there are, the fastest first."""

from __future__ import annotations

from typing import NamedTuple

from csoftmax.core.checks import Stored, compute_dtype
from csoftmax.core.sparse import CSR
from csoftmax.engine import chunks, passes
from csoftmax.engine.class_rows import PADDED_TO
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
    proximal,
    sample,
    small_model,
)
from csoftmax.solver.arguments import is_dense_enough
from csoftmax.solver.problem import Sizes
from csoftmax.solver.slopes import AT_ONCE

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
# With L1 a weight that is not 0 takes so many bytes in a model. Of text 1 in 270 was not 0 with L1
# alone at C = 10, 1 in 26 with an l1_ratio of .1 at C = 1, 1 in 4.5 with .02 at C = 10.
SELECTED_BYTES, LEAST_SELECTED = 240, 1 / 64


class Plan(NamedTuple):
    """How a problem is solved, and how many bytes that takes at most, besides X."""

    history_size: int
    preconditioner: str | None
    n_bytes: float
    sample_rows: int = 0  # of the corrected sample

    def of_one(self, X: Stored, n_classes: int) -> Plan:
        """Return the plan for one head after a path, with the pairs of a call for it alone."""
        is_sparse = isinstance(X, CSR) and not is_dense_enough(X, n_classes)
        usual = usual_pairs(len(X), head_bytes(X, n_classes), False, is_sparse)
        return self._replace(history_size=min(self.history_size, usual))


def head_bytes(X: Stored, n_classes: int) -> int:
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
    is_sparse = isinstance(X, CSR) and not is_dense_enough(X, n_classes)
    stored_itemsize = itemsize if isinstance(X, CSR) else X.dtype.itemsize
    sizes = Sizes(
        n_rows, n_features, n_classes, n_heads, n_weights, n_threads, itemsize, stored_itemsize
    )
    of_shards = isinstance(X, ShardRows)
    of_rows = sizes._replace(n_weights=0) if by_blocks else sizes
    always = float(problem.bytes_needed(of_rows, of_shards))
    usual = usual_pairs(n_rows, head_bytes(X, n_classes), path, is_sparse)
    numbers = (usual, *(m for m in SHORTER_HISTORIES if m < usual))
    if isinstance(X, CSR) and is_sparse:
        always += passes.sparse_bytes_needed(X, n_heads, n_classes, itemsize)
        if evaluates:
            return [Plan(1, None, always + long.bytes_needed(sizes, 1))]
        always += diagonal.bytes_needed(sizes)
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


def l1_bytes(
    X: Stored, n_classes: int, l1_ratio: float, n_threads: int, n_heads: int = 1,
    n_weights: int = 0, soft: bool = False,
) -> float:  # fmt: skip
    """Return what `csoftmax.solver.l1.minimize_l1` takes at most; `soft`: y are probabilities.

    By rows: logits, steps, probabilities and their differences from y, each for all classes. By
    features: the weights of each head and of the one on its way, slopes, and those of the null
    model. By columns: the entries of X, or all columns of an array. How many weights are not 0 is
    not known before: it is an upper bound while there are as few as `l1_ratio` lets expect.
    """
    (n, d), K, itemsize = X.shape, n_classes, compute_dtype(X).itemsize
    ld, soft_K = -(-n // PADDED_TO) * PADDED_TO, K * soft
    wave = proximal.wave_of(K)
    logits = 5 * K + soft_K + K + 16 + -(-K // wave) + wave + 4 * n_threads + 4
    by_rows = ld * logits * itemsize + 8 * n * (2 + n_weights + (n_weights > 0) * soft_K)
    by_weights = (3 + n_heads + soft) * d * K * itemsize
    selected = max(LEAST_SELECTED, (1 - l1_ratio) ** 4 / 4)
    by_weights += int(selected * SELECTED_BYTES * d * K) + 48 * min(AT_ONCE, d * K)
    by_classes = 8 * K * (6 * K + 5 * chunks.SUM_ROWS * soft)
    by_weights += small_model.bytes_needed(n, d * K, K)
    if isinstance(X, CSR):
        n_entries = X.rows.n_entries
        by_columns = 24 * d + n_entries * (4 + itemsize)
        before = n_entries * (8 + 2 * itemsize)
    else:
        by_columns = ld * d * itemsize
        by_weights += (16 + itemsize) * d * K
        before = min(n, chunks.SUM_ROWS) * d * 2 * itemsize - by_columns
    some = X.nbytes if n_weights else 0  # the rows that count
    return float((2 << 20) + by_rows + by_columns + by_classes + max(by_weights, before) + some)


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
