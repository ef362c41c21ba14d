"""What a solver asks of the rows before its first step, in one pass: moments, sums, a sample.

It is for rows that are costly to read. The gradient of the null model follows from the sums by
class, and the sample is copied as its rows come by.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.sparse import CSR
from csoftmax.engine import calls
from csoftmax.engine.passes import LocalPasses, Moments
from csoftmax.rows.base import Stored

Array = NDArray[Any]
SUM_ROWS = 1024  # that are summed in float32 before their sum joins one in float64
BLOCKS_PER_THREAD = 4  # that are read before they are summed: parts of files are not kept longer


class Statistics(NamedTuple):
    """Sums over all rows that do not depend on the parameters, and some of the rows."""

    moments: Moments
    class_sums: NDArray[np.float64]  # (n_weights, n_classes, n_features) of the rows, by target
    sample: LocalPasses  # rows of memory, with all rows of weights


def is_sampled(first: int, n: int, share: float, seed: int = 0) -> NDArray[np.bool_]:
    """Say which of n rows from `first` on belong to a sample of so large a share of all rows.

    A hash of a row's number decides: whoever has some of the rows can tell by them alone, and a
    smaller share is a part of a larger one.

    Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators".

    Examples
    --------
    >>> is_sampled(1000, 6, 0.5).tolist()
    [True, False, True, False, False, True]
    >>> is_sampled(1004, 2, 0.5).tolist()
    [False, True]
    """
    if share >= 1:
        return np.ones(n, np.bool_)
    mixed = np.arange(first + 1, first + n + 1, dtype=np.uint64)
    mixed *= np.uint64(0x9E3779B97F4A7C15)
    mixed += np.uint64(seed)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed ^= mixed >> np.uint64(shift)
        mixed *= np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    chosen: NDArray[np.bool_] = mixed < np.uint64(share * 2.0**64)
    return chosen


def statistics(passes: LocalPasses, n_sampled: int, seed: int = 0) -> Statistics:
    """Return the statistics, with about `n_sampled` of the rows, whatever they weigh.

    ValueError names the first value of X that is not finite.
    """
    share = n_sampled / max(1, passes.n_rows)
    sums = np.zeros((passes.n_weights, passes.n_classes, passes.n_features))
    rows = [np.empty((0, passes.n_features), passes.rows.dtype)]
    numbers = [np.empty(0, np.int64)]

    def of_block(given: tuple[slice, Stored]) -> tuple[Array, NDArray[np.int64], Array]:
        some, block = given
        assert not isinstance(block, CSR)
        chosen = is_sampled(some.start, len(block), share, seed)
        return _class_sums(passes, some, block), np.flatnonzero(chosen), block[chosen]

    blocks = passes.rows.blocks(SUM_ROWS)
    with ThreadPoolExecutor(passes.n_threads) as pool:
        while window := list(islice(blocks, BLOCKS_PER_THREAD * passes.n_threads)):
            done = pool.map(of_block, window)
            for (some, _), (part, chosen, taken) in zip(window, done, strict=True):
                sums += part
                numbers.append(some.start + chosen)
                rows.append(taken)
            if not np.isfinite(sums).all():
                passes.raise_bad_value()
    moments = passes.moments(of_features=False)._replace(feature_sums=sums.sum(axis=1))
    X = np.concatenate(rows)
    rows.clear()  # there is room for one copy of them
    return Statistics(moments, sums, passes.take(np.concatenate(numbers), X))


def _class_sums(passes: LocalPasses, some: slice, block: Array) -> Array:
    """Return the weighted sums of a block's rows by class, for each row of weights.

    They are gradients whose dlogits are the targets times the weights.
    """
    n, K, f = passes.n_weights, passes.n_classes, passes.n_features
    sums, db = np.empty((n, K, f), passes.dtype), np.empty(K, passes.dtype)
    target = passes.target[some].T
    if target.ndim == 1:
        target = target == np.arange(K)[:, None]
    for r, of_classes in enumerate(sums):
        weight = passes.weight(r)
        dlogits = (target if weight is None else target * weight[some]).astype(
            passes.dtype, order="C"
        )
        calls.linear_gradient(calls.StoredRows(block, passes.scale), dlogits, of_classes, db)
        if weight is not None and not np.isfinite(of_classes).all():
            # a row that does not count may hold anything, and 0 times NaN is NaN
            finite = np.where((weight[some] > 0)[:, None], block, 0).astype(block.dtype)
            calls.linear_gradient(calls.StoredRows(finite, passes.scale), dlogits, of_classes, db)
    return sums
