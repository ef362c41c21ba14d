"""Sums by class, and a sample of the rows, in one pass over windows of rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.engine.chunks import add_class_sums, mapping_of
from csoftmax.engine.passes import ClassSums, Passes
from csoftmax.engine.units import SumTree

Array = NDArray[Any]


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


def class_sums(
    passes: Passes, windows: Iterable[tuple[slice, Array]], n_chunks: int, share: float, seed: int,
    first: int = 0,
) -> ClassSums:  # fmt: skip
    """Return the sums of windows of whole chunks, and so large a share of their rows.

    The rows of `passes` are numbered from `first` on: all rows may be more than these.
    """
    tree = SumTree(n_chunks, passes.n_weights * passes.n_classes * passes.n_features)
    parts = [np.empty((0, passes.n_features), passes.rows.dtype)]
    numbers = [np.empty(0, np.int64)]
    with mapping_of(passes.n_threads) as mapping:
        for some, X in windows:
            chosen = np.flatnonzero(is_sampled(first + some.start, len(X), share, seed))
            numbers.append(first + some.start + chosen)
            parts.append(X[chosen])
            weights = None if passes.weights is None else passes.weights[:, some]
            add_class_sums(
                tree, X, passes.target[some], weights, passes.n_classes, passes.scale,
                passes.dtype, mapping,
            )  # fmt: skip
    chosen = np.concatenate(numbers)
    return ClassSums(tree, chosen, np.concatenate(parts), passes.target[chosen - first])
