"""What labels and weights of rows tell without the rows, and which rows are drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from csoftmax.engine.row_weights import BLOCK_ROWS, Weights, n_counting, totals_of, weight_blocks
from csoftmax.rows.base import blocks

Array = NDArray[Any]


class CountedLabels:
    """Labels that are not here: known are how many each class has, and how they are read.

    Parameters
    ----------
    counts : int64 array (n_classes,)
    read : callable
        Given `csoftmax.rows.shards.ShardRows`, it returns their labels as numbers of classes.
    """

    ndim, nbytes = 1, 0  # here

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
    digest: Any, target: Array, weights: Weights | None, n_classes: int, scale: float
) -> None:
    """Add labels or probabilities, weights and scale to a digest; labels of any type alike."""
    digest.update(f"{n_classes} {scale!r} {target.shape}".encode())
    if isinstance(target, CountedLabels):  # the rows have the stamps of their files
        digest.update(target.counts.tobytes())
        target = target.counts[:0]
    for some in blocks(len(target), BLOCK_ROWS):
        of_rows: Array = np.ascontiguousarray(target[some])
        digest.update((of_rows.astype(np.int64) if of_rows.ndim == 1 else of_rows).data)
    for _, block in () if weights is None else weight_blocks(weights):
        digest.update(np.ascontiguousarray(block).reshape(-1).data)


def moments_of_targets(target: Array, weights: Weights | None, n_classes: int) -> Moments:
    """Return the moments of labels or probabilities, for which no row of X is read."""
    if weights is None:
        mass = mass_of_classes(target, None, n_classes)[None]
        return Moments(np.full(1, float(len(target))), np.full(1, len(target)), mass)
    mass = np.zeros((len(weights), n_classes))
    for some, block in weight_blocks(weights):
        mass += [mass_of_classes(target[some], weight, n_classes) for weight in block]
    return Moments(totals_of(weights), n_counting(weights), mass)


def drawn(n_rows: int, weight: Weights | None, n: int, seed: int) -> slice | NDArray[np.int64]:
    """Return at most n of the rows of weight > 0, drawn at random, in order; a slice for all rows.

    Nothing is made that has a number for each row.
    """
    n_there = n_rows if weight is None else int(n_counting(weight))
    if n_there == n_rows <= n:
        return slice(None)
    ranks = np.arange(min(n, n_there))
    if n_there > n:
        ranks = np.sort(np.random.default_rng(seed).choice(n_there, n, replace=False))
    if n_there == n_rows:
        return ranks
    assert weight is not None
    rows, before = [], 0
    for some, block in weight_blocks(weight):
        counting = np.flatnonzero(block)
        first, end = np.searchsorted(ranks, (before, before + len(counting)))
        rows.append(some.start + counting[ranks[first:end] - before])
        before += len(counting)
    return np.concatenate(rows)


def mass_of_classes(target: Array, weight: Array | None, n_classes: int) -> NDArray[np.float64]:
    """Return how much weight each class has, by labels or by rows of probabilities."""
    if isinstance(target, CountedLabels):
        return target.counts.astype(np.float64)
    if target.ndim == 1:
        counts = np.zeros(n_classes)
        for some in blocks(len(target), BLOCK_ROWS):  # each becomes int64
            counts += np.bincount(target[some], None if weight is None else weight[some], n_classes)
        return counts
    mass: NDArray[np.float64] = target.sum(axis=0) if weight is None else weight @ target
    return mass
