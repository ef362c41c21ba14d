"""Rows of weights that are made block by block, where an array of them would be large."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.rows.base import blocks

Array = NDArray[Any]
Float64 = NDArray[np.float64]

BLOCK_ROWS = 1 << 17  # labels and weights that are looked through at a time


class FoldWeights:
    """Rows of weights: of row i of X, ``times[r, code[i]] * weight[i]``.

    It is indexed as the array (n_weights, n_rows) would be, and makes what it is asked for. Of five
    folds it takes a byte for each row of X, where the array takes 40.

    Parameters
    ----------
    times : float64 array (n_weights, n_codes), or (n_codes,) for one of the rows
    code : array (n_rows,) of unsigned integers
    weight : float64 array (n_rows,), optional
        None: 1.

    Examples
    --------
    >>> weights = FoldWeights(np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([0, 1, 1], np.uint8))
    >>> weights.shape, weights[:, 1:].tolist(), weights[1][np.array([0, 2])].tolist()
    ((2, 3), [[1.0, 1.0], [0.0, 0.0]], [1.0, 0.0])
    """

    def __init__(self, times: Float64, code: Array, weight: Float64 | None = None) -> None:
        self.times, self.code, self.weight = times, code, weight

    @property
    def shape(self) -> tuple[int, ...]:
        return *self.times.shape[:-1], len(self.code)

    @property
    def nbytes(self) -> int:
        """What codes and times take; weights belong to whoever gave them."""
        return self.times.nbytes + self.code.nbytes

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, at: Any) -> Any:
        times, rows = self.times, at
        if isinstance(at, tuple):
            times, rows = times[at[0]], at[1]
        elif times.ndim == 2:
            return FoldWeights(times[at], self.code, self.weight)
        made = np.take(times, self.code[rows], axis=-1)
        if self.weight is not None:
            made *= self.weight[rows]
        return made

    def part(self, rows: slice) -> FoldWeights:
        """Return the weights of some rows of X."""
        weight = None if self.weight is None else self.weight[rows]
        return FoldWeights(self.times, self.code[rows], weight)

    def scaled(self, factors: Float64) -> FoldWeights:
        """Return each row of weights times a number."""
        return FoldWeights(self.times * factors[:, None], self.code, self.weight)


Weights = Float64 | FoldWeights


def weight_blocks(weights: Weights) -> Iterator[tuple[slice, Float64]]:
    """Yield slices of the rows of X, and their weights."""
    for some in blocks(weights.shape[-1], BLOCK_ROWS):
        yield some, weights[..., some]


def totals_of(weights: Weights) -> Float64:
    """Return the sum of each row of weights."""
    totals = np.zeros(weights.shape[:-1])
    for _, block in weight_blocks(weights):
        totals += block.sum(axis=-1)
    return totals


def n_counting(weights: Weights) -> NDArray[np.int64]:
    """Return of each row of weights how many are not 0."""
    counts = np.zeros(weights.shape[:-1], np.int64)
    for _, block in weight_blocks(weights):
        counts += np.count_nonzero(block, axis=-1)
    return counts
