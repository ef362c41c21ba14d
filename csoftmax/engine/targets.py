"""What labels and weights of rows tell without the rows, and which rows are drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from csoftmax.rows.base import blocks

Array = NDArray[Any]

BLOCK_ROWS = 1 << 20  # labels and weights that are looked through at a time


class CountedLabels:
    """Labels that are not here: known are how many each class has, and how they are read.

    Parameters
    ----------
    counts : int64 array (n_classes,)
    read : callable
        Given `csoftmax.rows.shards.ShardRows`, it returns their labels as numbers of classes.
    """

    ndim = 1

    def __init__(self, counts: NDArray[np.int64], read: Callable[[Any], Array]) -> None:
        self.counts, self.read = counts, read
        self.shape = (int(counts.sum()),)

    def __len__(self) -> int:
        return self.shape[0]


class Moments(NamedTuple):
    """Sums over the rows that do not depend on the parameters; row r is of row r of weights."""

    totals: NDArray[np.float64]  # (n_weights,) sums of the weights
    n_counting: NDArray[np.int64]  # (n_weights,) how many rows have a weight > 0
    mass: NDArray[np.float64]  # (n_weights, n_classes) `mass_of_classes`


def digest_targets(
    digest: Any, target: Array, weights: Array | None, n_classes: int, scale: float
) -> None:
    """Add labels or probabilities, weights and scale to a digest; labels of any type alike."""
    digest.update(f"{n_classes} {scale!r} {target.shape}".encode())
    if isinstance(target, CountedLabels):  # the rows have the stamps of their files
        digest.update(target.counts.tobytes())
        target = target.counts[:0]
    for some in blocks(len(target), BLOCK_ROWS):
        of_rows: Array = np.ascontiguousarray(target[some])
        digest.update((of_rows.astype(np.int64) if of_rows.ndim == 1 else of_rows).data)
    if weights is not None:
        digest.update(np.ascontiguousarray(weights).reshape(-1).data)


def moments_of_targets(target: Array, weights: Array | None, n_classes: int) -> Moments:
    """Return the moments of labels or probabilities, for which no row of X is read."""
    n = 1 if weights is None else len(weights)
    totals, n_counting = np.full(n, float(len(target))), np.full(n, len(target))
    if weights is not None:
        totals, n_counting = weights.sum(axis=1), np.count_nonzero(weights, axis=1)
    of_rows = [None] if weights is None else weights
    mass = [mass_of_classes(target, weight, n_classes) for weight in of_rows]
    return Moments(totals, n_counting, np.array(mass))


def drawn(n_rows: int, weight: Array | None, n: int, seed: int) -> slice | NDArray[np.int64]:
    """Return at most n of the rows of weight > 0, drawn at random, in order; a slice for all rows.

    Nothing is made that has a number for each row.
    """
    n_counting = n_rows if weight is None else int(np.count_nonzero(weight))
    if n_counting == n_rows <= n:
        return slice(None)
    ranks = np.arange(min(n, n_counting))
    if n_counting > n:
        ranks = np.sort(np.random.default_rng(seed).choice(n_counting, n, replace=False))
    if n_counting == n_rows:
        return ranks
    assert weight is not None
    rows, before = [], 0
    for some in blocks(n_rows, BLOCK_ROWS):
        counting = np.flatnonzero(weight[some])
        first, end = np.searchsorted(ranks, (before, before + len(counting)))
        rows.append(some.start + counting[ranks[first:end] - before])
        before += len(counting)
    return np.concatenate(rows)


def mass_of_classes(target: Array, weight: Array | None, n_classes: int) -> NDArray[np.float64]:
    """Return how much weight each class has, by labels or by rows of probabilities."""
    if isinstance(target, CountedLabels):
        return target.counts.astype(np.float64)
    if target.ndim == 1:
        if weight is not None:
            return np.bincount(target, weight, n_classes).astype(np.float64)
        counts = np.zeros(n_classes, np.int64)
        for some in blocks(len(target), BLOCK_ROWS):  # each becomes int64
            counts += np.bincount(target[some], minlength=n_classes)
        return counts.astype(np.float64)
    mass: NDArray[np.float64] = target.sum(axis=0) if weight is None else weight @ target
    return mass
