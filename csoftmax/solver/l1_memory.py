"""What a fit with L1 takes in memory besides X, and how many rows are kept there."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from csoftmax.core.checks import Stored, compute_dtype
from csoftmax.core.sparse import CSR
from csoftmax.engine import chunks, passes
from csoftmax.engine.class_rows import PADDED_TO
from csoftmax.engine.sparse_shard_passes import sparse_shard_bytes
from csoftmax.rows.memory import mapped
from csoftmax.rows.shards import ShardRows
from csoftmax.solver import corrected, problem, proximal, small_model
from csoftmax.solver.arguments import shards_of, some_rows
from csoftmax.solver.corrected import ALWAYS, WANTED, n_free_parameters
from csoftmax.solver.memory import Plan
from csoftmax.solver.problem import Sizes
from csoftmax.solver.slopes import AT_ONCE

# With L1 a weight that is not 0 takes so many bytes in a model. Of text 1 in 270 was not 0 with L1
# alone at C = 10, 1 in 26 with an l1_ratio of .1 at C = 1, 1 in 4.5 with .02 at C = 10.
SELECTED_BYTES, LEAST_SELECTED = 240, 1 / 64
# Of files and shards all rows are in memory if a fit then takes at most so much in all; so much is
# what a sample takes, at most.
IN_MEMORY_BYTES = 1 << 30
# A sample has LEAST rows for each feature and MOST_SHARE of all rows, at most.
LEAST, MOST_SHARE = 15, 1 / 2
HEAD_VECTORS = 8  # of the size of W, for a head that goes by a sample


def l1_plans(
    X: Stored | ShardRows, n_classes: int, l1_ratio: float, n_threads: int, n_heads: int = 1,
    n_weights: int = 0, soft: bool = False,
) -> list[Plan]:  # fmt: skip
    """Return the plans that there are, the best first: all rows in memory, or a sample of them.

    The arguments are those of `l1_bytes`.
    """
    arguments = n_classes, l1_ratio, n_threads, n_heads, n_weights, soft
    all_bytes = l1_bytes(X, *arguments)
    of_shards = isinstance(X, ShardRows)
    if not of_shards and (isinstance(X, CSR) or mapped(X) is None):
        return [Plan(1, None, all_bytes)]
    n, d = X.shape
    whole = Plan(1, None, all_bytes + _stored_bytes(X, n) * of_shards)
    if hasattr(X, "client"):
        whole = whole._replace(n_bytes=math.inf)
    # the same choices for any number of threads
    alone = l1_bytes(X, n_classes, l1_ratio, 1, n_heads, n_weights, soft)
    are_few = whole.n_bytes - all_bytes + alone <= IN_MEMORY_BYTES
    of_row = l1_bytes(X, n_classes, 1.0, 1, n_rows=1 << 20)
    of_row = (of_row + 2 * _stored_bytes(X, 1 << 20)) / (1 << 20)
    most = min(int(MOST_SHARE * n), int(IN_MEMORY_BYTES / of_row))
    n_sampled = min(max(WANTED * n_free_parameters(d, n_classes), ALWAYS), most)
    sampled = []
    while n_sampled >= LEAST * (d + 1):
        n_bytes = _sampled_bytes(X, n_sampled, arguments)
        sampled.append(Plan(1, None, n_bytes, n_sampled))
        n_sampled //= 2
    if hasattr(X, "client"):  # a cluster's rows: not for one machine
        if not sampled:
            raise ValueError(
                f"X has {n} rows on a cluster, too few for a sample of {LEAST} for each of {d} "
                "features: expected more rows, or csoftmax.SoftmaxClassifier on one machine"
            )
        return sampled
    return [whole, *sampled] if are_few else [*sampled, whole]


def _sampled_bytes(
    X: Stored | ShardRows, n_sampled: int, arguments: tuple[int, float, int, int, int, bool]
) -> float:
    n_classes, _, n_threads, n_heads, n_weights, _ = arguments
    sizes = Sizes(
        X.shape[0], X.shape[1], n_classes, n_heads, n_weights, n_threads, compute_dtype(X).itemsize,
        X.dtype.itemsize,
    )  # fmt: skip
    n_bytes = float(problem.bytes_needed(sizes))
    if isinstance(X, ShardRows) and X.is_sparse:
        n_bytes += sparse_shard_bytes(X, n_heads, n_classes, sizes.itemsize, n_weights)
    else:
        n_bytes += passes.bytes_needed(
            sizes.n_rows, n_heads, n_classes, sizes.parameter_bytes, n_threads
        )
    n_bytes += l1_bytes(X, *arguments, int(1.1 * n_sampled))
    return n_bytes + corrected.bytes_needed(sizes, n_sampled, HEAD_VECTORS * sizes.parameter_bytes)


def check_l1_rows(sample_rows: int, n_features: int) -> None:
    """Raise ValueError if a sample of so many rows cannot stand for all of them."""
    least = LEAST * (n_features + 1)
    if sample_rows < least:
        raise ValueError(
            f"sample_rows is {sample_rows}, expected 0 or at least {least}: {LEAST} for each of "
            f"{n_features} features and the intercept"
        )


def usual_l1_rows(
    X: Any, n_classes: int, l1_ratio: float, sample_weight: ArrayLike | None, C: ArrayLike
) -> int:
    """Return how many rows a sample of X has; 0 where all rows are in memory.

    ValueError if neither can be.
    """
    rows = shards_of(X)
    if rows is None and (mapped(X) is None or np.ndim(X) != 2 or X.dtype.kind not in "uf"):
        return 0
    n_weights = 0 if sample_weight is None else int(np.prod(np.shape(sample_weight)[:-1]))
    plan = l1_plans(
        X if rows is None else rows, n_classes, l1_ratio, 1, max(np.size(C), n_weights), n_weights
    )[0]
    return plan.sample_rows


def _entries(X: Stored | ShardRows, n_rows: int) -> int | None:
    """Return how many entries so many sparse rows have; of shards about, by some of them."""
    if isinstance(X, ShardRows) and X.is_sparse:
        some = some_rows(X)
        assert isinstance(some, CSR)
        return int(1.2 * some.rows.n_entries / max(1, len(some)) * n_rows)
    return X.rows.n_entries * n_rows // max(1, len(X)) if isinstance(X, CSR) else None


def _stored_bytes(X: Stored | ShardRows, n_rows: int) -> int:
    """Return what so many rows take as they are stored."""
    n_entries, itemsize = _entries(X, n_rows), X.dtype.itemsize
    if n_entries is None:
        return n_rows * X.shape[1] * itemsize
    return n_entries * (itemsize + 4) + 8 * n_rows


def l1_bytes(
    X: Stored | ShardRows, n_classes: int, l1_ratio: float, n_threads: int, n_heads: int = 1,
    n_weights: int = 0, soft: bool = False, n_rows: int | None = None,
) -> float:  # fmt: skip
    """Return what `csoftmax.solver.l1.minimize_l1` takes at most; `soft`: y are probabilities.

    By rows: logits, steps, probabilities and their differences from y, each for all classes. By
    features: the weights of each head and of the one on its way, slopes, and those of the null
    model. By columns: the entries of X, or all columns of an array. How many weights are not 0 is
    not known before: it is an upper bound while there are as few as `l1_ratio` lets expect.
    `n_rows` is how many of the rows are in memory; None: all.
    """
    (n, d), K, itemsize = X.shape, n_classes, compute_dtype(X).itemsize
    n = n if n_rows is None else n_rows
    ld, soft_K = -(-n // PADDED_TO) * PADDED_TO, K * soft
    wave = proximal.wave_of(K)
    logits = 5 * K + soft_K + K + 16 + -(-K // wave) + wave + 4 * n_threads + 4
    by_rows = ld * logits * itemsize + 8 * n * (2 + n_weights + (n_weights > 0) * soft_K)
    by_weights = (3 + n_heads + soft) * d * K * itemsize
    selected = max(LEAST_SELECTED, (1 - l1_ratio) ** 4 / 4)
    by_weights += int(selected * SELECTED_BYTES * d * K) + 48 * min(AT_ONCE, d * K)
    by_classes = 8 * K * (6 * K + 5 * chunks.SUM_ROWS * soft)
    by_weights += small_model.bytes_needed(n, d * K, K)
    n_entries = _entries(X, n)
    if n_entries is not None:
        by_columns = 24 * d + n_entries * (4 + itemsize)
        before = n_entries * (8 + 2 * itemsize)
    else:
        by_columns = ld * d * itemsize
        by_weights += (16 + itemsize) * d * K
        before = min(n, chunks.SUM_ROWS) * d * 2 * itemsize - by_columns
    stored = _stored_bytes(X, n)
    some = stored if n_weights else 0  # the rows that count
    return float((2 << 20) + by_rows + by_columns + by_classes + max(by_weights, before) + some)
