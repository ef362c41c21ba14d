"""Minibatches of rows in shards: windows of them, each in memory and in a random order of its own.

Each epoch puts the shards in a random order, and reads them one after the other. So many rows that
follow each other are a window: they are copied to memory, and minibatches are drawn from them in
random order. Rows of shards that lie far apart are never in one minibatch, so files should not be
sorted by class: with a window smaller than a class, minibatches would have one class only.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from csoftmax.data.loader import DataLoader
from csoftmax.data.pictures import PictureRecipe
from csoftmax.rows.base import Stored, stacked
from csoftmax.rows.shards import ShardRows

if TYPE_CHECKING:
    from csoftmax.data.shards import Shards

Array = NDArray[Any]
WINDOW_BYTES = 1 << 28
WINDOW_ROWS = 1 << 20


class ShardLoader:
    """Minibatches of shards, with what a `DataLoader` says of its data.

    Parameters
    ----------
    shards : Shards
        With labels.
    batch_size : int
    seed : int, optional
        Of the order of the rows.
    scale : float, optional
        Multiplies the rows; None: 1/255 for bytes, which are pixels, else 1.
    classes : array_like, optional
        The classes to expect, sorted; None: those that occur.

    Attributes
    ----------
    X : ShardRows
    y : array (n_rows,) of small unsigned integers
        Each row's number in `class_names`.
    weights : float64 array (n_rows,) or None
    """

    def __init__(
        self,
        shards: Shards,
        batch_size: int = 256,
        *,
        seed: int | None = None,
        scale: float | None = None,
        classes: ArrayLike | None = None,
    ) -> None:
        self.shards, self.batch_size, self.X = shards, batch_size, shards.rows
        known, self.y = shards.encoded(classes)
        self.class_names = tuple(map(str, known.tolist()))
        self.feature_names = shards.feature_names
        self.weights = shards.weights()
        of_pixels = 1 / 255 if shards.dtype == np.uint8 and not shards.is_sparse else 1.0
        self.scale = of_pixels if scale is None else scale
        self.recipe: PictureRecipe | None = None
        self._seed, self._random = seed, np.random.default_rng(seed)

    def some(self, numbers: Sequence[int]) -> ShardLoader:
        """Return a loader of some shards, whose labels and weights need not be read anew."""
        other = copy.copy(self)
        other.shards = self.shards[numbers]
        other.X = other.shards.rows
        starts = self.X.starts
        at = [slice(int(starts[s]), int(starts[s + 1])) for s in numbers]
        other.y = np.concatenate([self.y[rows] for rows in at])
        if self.weights is not None:
            other.weights = np.concatenate([self.weights[rows] for rows in at])
        other._random = np.random.default_rng(self._seed)
        return other

    def __len__(self) -> int:
        return math.ceil(self.X.n_rows / self.batch_size)

    def epoch(self) -> Iterator[tuple[DataLoader, Array | None]]:
        """Yield a loader for each window of an epoch, and the weights of its rows: their mean is 1.

        The mean is that of all rows that count; rows of weight 0 are left out.
        """
        weights, mean = self.weights, 1.0
        if weights is not None:
            mean = weights.sum() / np.count_nonzero(weights)
        for X, places in windows(self.X, rows_of_window(self.X, self.batch_size), self._random):
            at = np.concatenate([np.arange(some.start, some.stop) for some in places])
            weight = None
            if weights is not None:
                weight = weights[at] / mean
                counting = np.flatnonzero(weight)
                if not len(counting):
                    continue
                X, at, weight = X[counting], at[counting], weight[counting]
            loader = DataLoader(
                X, self.y[at], self.batch_size, shuffle=True, scale=self.scale,
                seed=int(self._random.integers(2**31)), class_names=self.class_names,
                feature_names=self.feature_names,
            )  # fmt: skip
            yield loader, weight


def rows_of_window(rows: ShardRows, batch_size: int, n_bytes: float = WINDOW_BYTES) -> int:
    """Return how many rows are in memory at a time: what so many bytes hold, at least a batch."""
    if rows.is_sparse:
        return max(batch_size, WINDOW_ROWS >> 4)
    n_rows = n_bytes // max(1, rows.n_features * rows.dtype.itemsize)
    return int(max(batch_size, min(n_rows, WINDOW_ROWS)))


def windows(
    rows: ShardRows, n: int, random: np.random.Generator
) -> Iterator[tuple[Stored, list[slice]]]:
    """Yield windows of n rows and where these come from; the last one has those that are left.

    Rows are copied. They are in the order in which they are read.
    """
    parts: list[Stored] = []
    at: list[slice] = []
    room = n
    for s in random.permutation(len(rows.shards)).tolist():
        shard, first, start = rows.shards[s], int(rows.starts[s]), 0
        while start < shard.n_rows:
            stop = min(start + room, shard.n_rows)
            parts.append(shard.read(start, stop))
            at.append(slice(first + start, first + stop))
            room -= stop - start
            start = stop
            if not room:
                yield stacked(parts, rows.n_features, rows.dtype), at
                parts, at, room = [], [], n
    if parts:
        yield stacked(parts, rows.n_features, rows.dtype), at
