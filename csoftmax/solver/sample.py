"""Rows that stand for all rows, and the directions in which approximate Hessians are made.

The directions are the eigenvectors Q of the features' covariance (centred, as the intercept is free
to follow). Where a decomposition costs too much they are the features themselves, and all that is
known of them is their variance.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.functional import linear
from csoftmax.rows.base import take
from csoftmax.solver.penalty import Penalty
from csoftmax.solver.problem import Problem, Sizes

Array = NDArray[Any]

# A sample has all rows that count, but at most 8,192. Where their features or their probabilities
# would take more than 64 MB it has fewer, but still 1,024.
SAMPLED_ROWS, LEAST_ROWS, SAMPLED_BYTES = 8192, 1024, 1 << 26
BLOCK_BYTES = 1 << 22  # of rows that are made floats at a time
# In the leading directions, those of most variance, a Hessian is kept as a matrix for each class;
# there are at most so many.
LEADING = 100
# Making these matrices costs at most what BLOCK_PASSES passes do, which LEAST_LEADING directions
# may exceed. Of digits (1,797 x 64, all rows in the sample) all 64 directions and the intercept
# cost what 33 passes do and, at C = 1000, saved none.
BLOCK_PASSES, LEAST_LEADING = 4, 16
# The matrices of all classes have at most so many entries, or 4 times as many as there are weights,
# if that is more.
INVERSE_SIZE = 1 << 18
# In the other directions only the diagonal of a Hessian is kept. It is made from DIAGONAL_ROWS rows
# of the sample, or fewer where their squares would take more than DIAGONAL_BYTES.
DIAGONAL_ROWS, DIAGONAL_BYTES = 2048, 1 << 24
# By float type: where the least variance is a smaller share of the largest than this, the rounding
# of a decomposition would hide it. Features are then first multiplied so that variances are alike.
UNITS_RATIO = {"f": 1e-9, "d": 1e-12}
# A mean of the sample that is so many of its standard deviations away from the mean of all rows is
# no chance: the sample has missed rows with other values.
SURPRISE = 5.0
# A decomposition costs about 10 n_features^3 operations. Up to 128 features it is always made. Up
# to FULL_FEATURES it is made where it costs at most FULL_COST operations for each product of a
# pass. Of these there are n_rows x n_classes x n_features; a pass takes 4 operations for each.
FULL_FEATURES, FULL_COST = 4096, 70
# Below so many operations the caller alone is as fast as threads, which have to be started.
ALONE_FLOP = 1e7


def wants_full(preconditioner: str | None, of: Problem | Sizes) -> bool:
    """Say whether the covariance of the features is worth its decomposition."""
    if preconditioner != "auto":
        return preconditioner == "full"
    f, size = of.n_features, of.n_rows * of.n_classes
    return bool(f <= 128 or (f <= FULL_FEATURES and 10 * f * f <= FULL_COST * size))


def most_rows(n_features: int, n_classes: int, itemsize: int) -> int:
    """Return how many rows a sample has at most."""
    row_bytes = max(n_features * itemsize, 4 * n_classes)
    return max(LEAST_ROWS, min(SAMPLED_ROWS, SAMPLED_BYTES // max(1, row_bytes)))


def sampled_rows(sizes: Sizes) -> int:
    """Return how many rows a sample has, at most."""
    return min(sizes.n_rows, most_rows(sizes.n_features, sizes.n_classes, sizes.itemsize))


def squared_rows(sizes: Sizes) -> int:
    """Return for how many rows of a sample squares are kept, at most."""
    at_once = DIAGONAL_BYTES // (sizes.n_features * sizes.itemsize)
    return min(sampled_rows(sizes), DIAGONAL_ROWS, 1 + at_once)


def most_leading(n_features: int, n_classes: int) -> int:
    """Return how many leading directions there are at most."""
    side = max(4 * n_features, INVERSE_SIZE // n_classes) ** 0.5  # with the intercept
    return min(LEADING, n_features, int(side) - 1)


def leading_side(sizes: Sizes, full: bool) -> float:
    """Return how many leading directions there are, and the intercept, at most."""
    return float(most_leading(sizes.n_features, sizes.n_classes) + 1) if full else 1.0


def kept_bytes(sizes: Sizes, full: bool) -> float:
    """Return what the samples take: rows, also in the leading directions, squares, eigenvectors."""
    n_features, itemsize = sizes.n_features, sizes.itemsize
    a_row = n_features * sizes.stored_itemsize + leading_side(sizes, full) * itemsize
    others = squared_rows(sizes) + (n_features if full else 0)
    return sizes.n_samples * (sampled_rows(sizes) * a_row + others * n_features * itemsize)


def making_bytes(sizes: Sizes, full: bool) -> int:
    """Return what a sample is made in: blocks of rows, and what decomposes their covariance.

    Those are matrices in float64: the covariance, a copy, the eigenvectors, and two for LAPACK to
    work in.
    """
    blocks = 4 * min(BLOCK_BYTES, sampled_rows(sizes) * sizes.n_features * sizes.itemsize)
    return blocks + (5 * 8 * sizes.n_features**2 if full else 0)


class Sample:
    """Rows that stand for all rows with a weight > 0: at most SAMPLED_ROWS, drawn at random.

    Attributes
    ----------
    passes : LocalPasses
        The rows, their targets, and their weights.
    all_rows : bool
        Whether these are all the rows that count.
    share : ndarray (n_sampled,)
        The weights of the rows, with the sum 1.
    mean, unit : ndarray (n_features,)
        What is subtracted from features, and what they are then multiplied by.
    full : bool
        Whether directions are eigenvectors, the columns of `vectors`; otherwise they are features.
    values, squares_of_W : ndarray (n_directions,)
        Of each direction the variance, and the ||W||^2 of a step of length 1 along it.
    leading : ndarray (n_sampled, n_leading + 1)
        The rows in the directions of most variance, and a 1 for the intercept if there is one.
    leading_products_of_W : ndarray (n_leading, n_leading)
        The inner products of the steps in W along each two of these directions.
    every, squares : int and ndarray (n_squared, n_directions - n_leading)
        The squares in the other directions, of each row whose number is a multiple of `every`.
    missed : ndarray (n_features,)
        What was added to the variances of the features: more than 0 where the sample cannot tell.
    """

    def __init__(self, problem: Problem, r: int, preconditioner: str | None) -> None:
        limit = most_rows(problem.n_features, problem.n_classes, problem.dtype.itemsize)
        self.passes = problem.sample(r, limit)
        n_rows, weight = self.passes.n_rows, self.passes.weight(0)
        self.all_rows = n_rows == problem.n_counting[r]
        self.share = np.full(n_rows, 1.0 / n_rows) if weight is None else weight / weight.sum()
        self.problem, self.r = problem, r
        self.mean = problem.means[r].astype(problem.dtype)
        ones = np.ones(problem.n_features, problem.dtype)
        self.unit = self.values = self.squares_of_W = ones
        self.vectors: Array | None = None
        n = int(problem.fit_intercept)
        self.leading = np.ones((n_rows, n), problem.dtype)
        self.leading_products_of_W = np.empty((0, 0))
        self.full = wants_full(preconditioner, problem)
        self.every, self.squares = 1, np.empty((n_rows, 0), problem.dtype)
        self._decomposed: dict[float | None, Sample] = {}
        # where one block holds all rows: the unit that it was made in, and the block
        self._whole: tuple[Array, Array] | None = None
        if preconditioner is not None:
            self._measure_variances()

    def _measure_variances(self) -> None:
        """Set the variances of the features, larger where the sample cannot be trusted."""
        problem, n_rows = self.problem, self.passes.n_rows
        variances, means = np.zeros((2, problem.n_features))
        for some, block in self._blocks():
            variances += np.einsum("i,ij,ij->j", self.share[some], block, block)
            means += self.share[some] @ block
        square = np.square(means) * problem.fit_intercept  # without one, nothing is centred
        # the squares of what rounding leaves: of a constant feature, and of the mean of all rows
        eps_mean = float(np.finfo(problem.dtype).eps) * problem.means[self.r]
        of_values, of_mean = np.square(8 * eps_mean), problem.n_rows * np.square(eps_mean)
        # The square of a mean of n rows is about 1/n of the variance. A sample whose mean is far
        # from that of all rows has missed what varies: a value that few rows have.
        far = n_rows * square > SURPRISE**2 * (variances - square)
        far &= (square > np.maximum(of_values, of_mean)) & (not self.all_rows)
        missed = np.where(far, n_rows * square, 0.0)
        # a constant feature gets a large variance, so that the rounding of its gradient does not
        # move its weights
        constant = (variances - square <= of_values) & ~far
        self.missed = np.where(constant, variances.max(initial=0.0), missed)
        self.values = variances + self.missed
        if not self.full:
            self.values = _clamped(self.values, problem.dtype)
            self._square(None)

    def for_penalty(self, penalty: Penalty) -> Sample:
        """Return the sample in the directions that suit a penalty.

        They are the same for all penalties, unless the variances differ so much that features get
        other units: then it matters what the penalty adds to them.
        """
        if not self.full:
            return self
        ridge = penalty.l2 * self.problem.n_classes  # 1 / n_classes is the curvature at W = 0
        largest = float(self.values.max(initial=0.0))
        least = float(self.values.min(initial=math.inf)) + ridge
        uneven = least < UNITS_RATIO[self.problem.dtype.char] * largest
        key = penalty.l2 if uneven else None
        if key not in self._decomposed:
            sample = copy.copy(self)
            if uneven:
                sample.unit = (1 / np.sqrt(self.values + ridge)).astype(self.problem.dtype)
            sample._decompose(ridge if uneven else 0.0)
            self._decomposed[key] = sample
        return self._decomposed[key]

    def _blocks(self, every: int = 1) -> Iterator[tuple[slice, Array]]:
        """Yield blocks of the rows (or of each `every`-th), scaled and centred."""
        dtype = self.problem.dtype
        step = every * max(64, BLOCK_BYTES // max(1, self.problem.n_features * dtype.itemsize))
        if self._whole is not None and self._whole[0] is self.unit:
            yield slice(0, self.passes.n_rows, every), self._whole[1][::every]
            return
        for some, stored in self.passes.rows.blocks(step):
            block = take(stored, slice(None, None, every)).astype(dtype)
            block *= dtype.type(self.passes.scale)
            block -= self.mean
            block *= self.unit
            if every == 1 and step >= self.passes.n_rows:
                self._whole = self.unit, block
            yield slice(some.start, some.stop, every), block

    def _decompose(self, ridge: float) -> None:
        """Set the directions, the largest variance first, and the rows in the leading ones."""
        dtype, n_features = self.problem.dtype, self.problem.n_features
        moments = np.diag((ridge + self.missed) * self.unit.astype(np.float64) ** 2)
        for some, block in self._blocks():
            block = block * np.sqrt(self.share[some]).astype(dtype)[:, None]
            moments += block.T @ block
        values, vectors = np.linalg.eigh(moments)
        self.vectors = vectors[:, ::-1].astype(dtype)
        self.squares_of_W = np.einsum("j,jk,jk->k", self.unit**2, self.vectors, self.vectors)
        self.values = _clamped(values[::-1] - ridge * self.squares_of_W, dtype)
        n = most_leading(n_features, self.problem.n_classes)
        n = min(n, n_features if self.all_rows else self.passes.n_rows // 8)
        paid = BLOCK_PASSES * 2 * n_features * self.problem.n_rows / max(1, self.passes.n_rows)
        n = min(n, max(LEAST_LEADING, int(paid**0.5)))
        directions = self.vectors[:, :n]
        self.leading_products_of_W = directions.T @ (directions * (self.unit**2)[:, None])
        self.leading = np.ones((self.passes.n_rows, n + self.problem.fit_intercept), dtype)
        for some, block in self._blocks():
            np.matmul(block, directions, out=self.leading[some, :n])
        self._square(np.ascontiguousarray(self.vectors[:, n:]))

    def _square(self, directions: Array | None) -> None:
        """Set the squares of some rows in the directions that are not leading (None: features)."""
        n_directions = self.problem.n_features if directions is None else directions.shape[1]
        if n_directions == 0:
            return
        dtype = self.problem.dtype
        n_rows = min(DIAGONAL_ROWS, DIAGONAL_BYTES // (n_directions * dtype.itemsize))
        self.every = math.ceil(self.passes.n_rows / max(1, n_rows))
        squares = np.empty((math.ceil(self.passes.n_rows / self.every), n_directions), dtype)
        for some, block in self._blocks(self.every):
            rows = squares[some.start // self.every :][: len(block)]
            if directions is not None:
                block = linear(block, directions, n_threads=self.passes.n_threads)
            np.square(block, out=rows)
        self.squares = squares

    @property
    def n_leading(self) -> int:
        """How many leading directions there are, without the intercept."""
        return int(self.leading.shape[1]) - self.problem.fit_intercept

    def on(self, problem: Problem) -> Sample:
        """Return this sample for another problem, whose rows are just those of the sample."""
        other = copy.copy(self)
        other.problem, other.r, other._decomposed = problem, 0, {}
        if None in self._decomposed:  # the same for any penalty
            decomposed = copy.copy(self._decomposed[None])
            decomposed.problem, decomposed.r = problem, 0
            other._decomposed[None] = decomposed
        return other

    def reduce(self, gradient: Array) -> Array:
        """Return a gradient in u, by ``A^T``."""
        gW, gb = self.problem.parameters(gradient)
        v = gW - gb[:, None] * self.mean
        if self.vectors is not None:
            v *= self.unit
            v = v @ self.vectors
        return np.concatenate([v.reshape(-1), gb])

    def expand(self, step: Array, out: Array) -> None:
        """Set out to a step in x, ``A u``: W = v Q^T in the features' units, b = c - W mean."""
        v, b = self.problem.parameters(step)
        W, out_b = self.problem.parameters(out)
        if self.vectors is None:
            W[:] = v
        elif 2 * v.size * len(self.vectors) < ALONE_FLOP:
            np.multiply(v @ self.vectors.T, self.unit, W)
        else:
            np.multiply(linear(self.vectors, v.T, n_threads=self.passes.n_threads).T, self.unit, W)
        np.subtract(b, W @ self.mean, out=out_b)


def _clamped(variances: Array, dtype: np.dtype[Any]) -> Array:
    """Return variances > 0: those that are only rounding are raised to what rounding can be."""
    floor = float(np.finfo(dtype).eps) / 4 * float(variances.max(initial=0.0))
    return np.maximum(variances, floor or 1.0)
