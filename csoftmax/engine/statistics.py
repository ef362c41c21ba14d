"""What a solver asks of the rows before its first step, in one pass: moments, sums, a sample.

It is for rows that are costly to read. The gradient of the null model follows from the sums by
class, and the sample is copied as its rows come by.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.sparse import CSR
from csoftmax.engine import calls
from csoftmax.engine.chunks import SUM_ROWS, mapping_of
from csoftmax.engine.local_passes import LocalPasses
from csoftmax.engine.passes import NullSums, Passes
from csoftmax.engine.shard_passes import ShardPasses
from csoftmax.engine.targets import Moments, moments_of_targets
from csoftmax.rows.base import as_stored, blocks

Array = NDArray[Any]
AT_ONCE = 16  # blocks that are summed side by side


class Statistics(NamedTuple):
    """Sums over all rows that do not depend on the parameters, and some of the rows."""

    moments: Moments
    class_sums: NDArray[np.float64]  # (n_weights, n_classes, n_features) of the rows, by target
    sample: LocalPasses  # rows of memory, with all rows of weights

    def null_sums(
        self, shares: NDArray[np.float64], of_features: bool, dtype: np.dtype[Any]
    ) -> NullSums:
        """Return the sums at W = 0 without a pass: all rows have the probabilities `shares`."""
        features, moments = self.class_sums.sum(axis=1), self.moments
        dW = shares[:, :, None] * features[:, None] - self.class_sums
        db = shares * moments.totals[:, None] - moments.mass
        losses = -(moments.mass * np.log(np.where(shares > 0, shares, 1.0))).sum(axis=1)
        return NullSums(features * of_features, losses.tolist(), dW.astype(dtype), db, 1)


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


def statistics(passes: Passes, n_sampled: int, seed: int = 0) -> Statistics:
    """Return the statistics, with about `n_sampled` of the rows, whatever they weigh.

    ValueError names the first value of X that is not finite.
    """
    share = n_sampled / max(1, passes.n_rows)
    sums = np.zeros((passes.n_weights, passes.n_classes, passes.n_features))
    parts = [np.empty((0, passes.n_features), passes.rows.dtype)]
    numbers = [np.empty(0, np.int64)]
    with mapping_of(passes.n_threads) as mapping:
        for window, X in _windows(passes):
            chosen = np.flatnonzero(is_sampled(window.start, len(X), share, seed))
            numbers.append(window.start + chosen)
            parts.append(X[chosen])
            of_block = partial(_class_sums, passes, window.start, X)
            for part in mapping(of_block, blocks(len(X), SUM_ROWS)):
                sums += part
            if not np.isfinite(sums).all():
                passes.raise_bad_value()
    rows = np.concatenate(numbers)
    of_rows = passes.target[rows]
    sample = LocalPasses(
        as_stored(np.concatenate(parts), passes.dtype),
        of_rows if of_rows.ndim == 2 else of_rows.astype(np.int64),  # shards have small labels
        passes.n_classes,
        weights=None if passes.weights is None else np.ascontiguousarray(passes.weights[:, rows]),
        scale=passes.scale, n_threads=passes.n_threads,
    )  # fmt: skip
    return Statistics(
        moments_of_targets(passes.target, passes.weights, passes.n_classes), sums, sample
    )


def _windows(passes: Passes) -> Iterator[tuple[slice, Array]]:
    """Yield the rows, so many at a time that threads have work; those of shards are read ahead."""
    if isinstance(passes, ShardPasses):
        yield from passes.windows()
        return
    for some, X in passes.rows.blocks(AT_ONCE * SUM_ROWS):
        assert not isinstance(X, CSR)
        yield some, X


def _class_sums(passes: Passes, first: int, X: Array, of_X: slice) -> Array:
    """Return the weighted sums of some of the rows X by class, for each row of weights.

    X are the rows from `first` on. The sums are gradients whose dlogits are the targets times the
    weights.
    """
    some, block = slice(first + of_X.start, first + of_X.stop), X[of_X]
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
