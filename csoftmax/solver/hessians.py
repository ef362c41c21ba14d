"""Preconditioners of the solver: approximate inverse Hessians, from a sample of the rows.

The Hessian of the mean loss has the blocks ``mean_i p_ik (delta_kl - p_il) x_i x_i^T``. In the
basis Q of the eigenvectors of the features' covariance (centred, as the intercept is free to
follow) two approximations are cheap to invert:

- where all weights are 0, every row has the same p, and the Hessian is the Kronecker product of
  ``A = diag(p) - p p^T = U diag(alpha) U^T`` and the covariance, for any lambda inverted by
  ``(U x Q) diag(1 / (alpha_k e_j + lambda)) (U x Q)^T``;
- at the current weights, the blocks k = l: exact on the sample in the leading directions of Q and
  the intercept, their diagonal in the rest.

By the second, Fashion-MNIST at C = 1 comes within 0.1 % of the optimum in 32 passes instead of 154;
the blocks k != l, or all directions instead of 100, save fewer passes than they cost.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.functional import linear, softmax
from csoftmax.solver.problem import Problem

Array = NDArray[Any]

SAMPLED_ROWS = 8192
LEAST_ROWS = 1024
SAMPLED_BYTES = 1 << 26  # of the sample, and of its probabilities
BLOCK_BYTES = 1 << 22
LEADING = 100
# The blocks of the leading directions cost at most about so many passes, if these are not fewer.
# Of digits (1,797 x 64, all rows in the sample) 100 cost 33 passes and, at C = 1000, saved none.
BLOCK_PASSES, LEAST_LEADING = 4, 16
RIDGE = 1e-3
# What is exact in the other directions is their diagonal, on so many rows and bytes of the sample;
# where a class has this many rows that count, it is believed as much as the covariance.
DIAGONAL_ROWS, DIAGONAL_BYTES = 2048, 1 << 24
BELIEF = 100
INVERSE_SIZE = 1 << 18  # of the inverted blocks of a head, or 4 times its parameters if more
# Of mean p (1 - p) of a class: where it has all but vanished, steps grow no further.
LEAST_CURVATURE = 1e-12
# Where variances differ by more, features get units of their own before they are decomposed.
UNITS_RATIO = {"f": 1e-9, "d": 1e-12}
SURPRISE = 5.0  # standard deviations of a mean
# Above so many features only their variances: an eigendecomposition costs about 10 n_features^3.
FULL_FEATURES = 4096
FULL_COST = 70  # and at most so much per n_samples x n_classes
ALONE_FLOP = 1e7  # for so little, the caller alone is as fast as threads that must be started


def wants_full(preconditioner: str | None, problem: Problem) -> bool:
    """Say whether the covariance of the features is worth its decomposition."""
    if preconditioner != "auto":
        return preconditioner == "full"
    f, size = problem.n_features, problem.n_rows * problem.n_classes
    return bool(f <= 128 or (f <= FULL_FEATURES and 10 * f * f <= FULL_COST * size))


class Sample:
    """Rows that stand for all rows with a weight > 0: at most SAMPLED_ROWS, drawn at random."""

    def __init__(self, problem: Problem, r: int, preconditioner: str | None) -> None:
        weight = problem.weight(r)
        rows = np.arange(problem.n_rows) if weight is None else np.flatnonzero(weight)
        row_bytes = max(problem.n_features * problem.dtype.itemsize, 4 * problem.n_classes)
        limit = max(LEAST_ROWS, min(SAMPLED_ROWS, SAMPLED_BYTES // max(1, row_bytes)))
        self.all_rows = len(rows) <= limit
        if not self.all_rows:
            rows = np.sort(np.random.default_rng(0).choice(rows, limit, replace=False))
        self.X = problem.X if len(rows) == problem.n_rows else problem.X[rows]
        self.target = problem.target[rows]
        self.weight = None if weight is None else weight[rows]
        self.share = np.full(len(rows), 1.0 / len(rows))
        if self.weight is not None:
            self.share = self.weight / self.weight.sum()
        self.problem, self.r = problem, r
        self.mean = problem.means[r].astype(problem.dtype)
        ones = np.ones(problem.n_features, problem.dtype)
        self.unit = ones  # that features are multiplied by
        self.vectors: Array | None = None
        # of each direction: its variance, and its penalty over lambda
        self.values: Array = ones
        self.penalty: Array = ones
        n = int(problem.fit_intercept)
        self.leading, self.leading_penalty = (
            np.ones((len(rows), n), problem.dtype),
            np.empty((0, 0)),
        )
        self.full = wants_full(preconditioner, problem)
        # every so many rows squared, in the other directions
        self.every, self.squares = 1, np.empty((len(rows), 0), problem.dtype)
        self._decomposed: dict[float | None, Sample] = {}
        # where one block holds all rows: the unit, and the rows in it
        self._whole: tuple[Array, Array] | None = None
        if preconditioner is not None:
            variances, means = np.zeros((2, problem.n_features))
            for some, block in self._blocks():
                variances += np.einsum("i,ij,ij->j", self.share[some], block, block)
                means += self.share[some] @ block
            square = np.square(means) * problem.fit_intercept  # without one, nothing is centred
            # what rounding leaves of constant features, and of the mean of all rows
            eps_mean = float(np.finfo(problem.dtype).eps) * problem.means[r]
            of_values, of_mean = np.square(8 * eps_mean), problem.n_rows * np.square(eps_mean)
            # A sample that is far from the mean of all rows has missed what varies: a value that
            # few rows have. A mean of n rows is off by 1/n of the variance, squared.
            far = len(rows) * square > SURPRISE**2 * (variances - square)
            far &= (square > np.maximum(of_values, of_mean)) & (not self.all_rows)
            missed = np.where(far, len(rows) * square, 0.0)
            # rounding of the gradient is not to move the weights of what does not vary
            constant = (variances - square <= of_values) & ~far
            self.missed = np.where(constant, variances.max(initial=0.0), missed)
            self.values = variances + self.missed
            if not self.full:
                self.values = _clamped(self.values, problem.dtype)
                self._square(None)

    def for_penalty(self, lam: float) -> Sample:
        """Return the sample in the directions of a penalty: the same for all, but for odd units."""
        if not self.full:
            return self
        ridge = lam * self.problem.n_classes  # 1 / n_classes is the curvature at W = 0
        largest = float(self.values.max(initial=0.0))
        least = float(self.values.min(initial=math.inf)) + ridge
        uneven = least < UNITS_RATIO[self.problem.dtype.char] * largest
        key = lam if uneven else None
        if key not in self._decomposed:
            sample = copy.copy(self)
            if uneven:
                sample.unit = (1 / np.sqrt(self.values + ridge)).astype(self.problem.dtype)
            sample._decompose(ridge if uneven else 0.0)
            self._decomposed[key] = sample
        return self._decomposed[key]

    def _blocks(self, every: int = 1) -> Iterator[tuple[slice, Array]]:
        """Yield blocks of (every so many) rows, scaled and centred."""
        dtype = self.problem.dtype
        step = every * max(64, BLOCK_BYTES // max(1, self.X.shape[1] * dtype.itemsize))
        if self._whole is not None and self._whole[0] is self.unit:
            yield slice(0, len(self.X), every), self._whole[1][::every]
            return
        for start in range(0, len(self.X), step):
            some = slice(start, start + step, every)
            block = self.X[some].astype(dtype)
            block *= dtype.type(self.problem.scale)
            block -= self.mean
            block *= self.unit
            if every == 1 and step >= len(self.X):
                self._whole = self.unit, block
            yield some, block

    def _decompose(self, ridge: float) -> None:
        """Set the directions, the largest variance first, and the rows in the leading ones."""
        dtype, n_features = self.problem.dtype, self.X.shape[1]
        moments = np.diag((ridge + self.missed) * self.unit.astype(np.float64) ** 2)
        for some, block in self._blocks():
            block = block * np.sqrt(self.share[some]).astype(dtype)[:, None]
            moments += block.T @ block
        values, vectors = np.linalg.eigh(moments)
        self.vectors = vectors[:, ::-1].astype(dtype)
        self.penalty = np.einsum("j,jk,jk->k", self.unit**2, self.vectors, self.vectors)
        self.values = _clamped(values[::-1] - ridge * self.penalty, dtype)
        n = int(max(4 * n_features, INVERSE_SIZE // self.problem.n_classes) ** 0.5) - 1
        n = min(LEADING, n, n_features, n_features if self.all_rows else len(self.X) // 8)
        paid = BLOCK_PASSES * 2 * n_features * self.problem.n_rows / max(1, len(self.X))
        n = min(n, max(LEAST_LEADING, int(paid**0.5)))
        directions = self.vectors[:, :n]
        self.leading_penalty = directions.T @ (directions * (self.unit**2)[:, None])
        self.leading = np.ones((len(self.X), n + self.problem.fit_intercept), dtype)
        for some, block in self._blocks():
            np.matmul(block, directions, out=self.leading[some, :n])
        self._square(np.ascontiguousarray(self.vectors[:, n:]))

    def _square(self, directions: Array | None) -> None:
        """Set the squares of some rows in the directions that are not leading (None: features)."""
        n_directions = self.X.shape[1] if directions is None else directions.shape[1]
        if n_directions == 0:
            return
        dtype = self.problem.dtype
        n_rows = min(DIAGONAL_ROWS, DIAGONAL_BYTES // (n_directions * dtype.itemsize))
        self.every = math.ceil(len(self.X) / max(1, n_rows))
        squares = np.empty((math.ceil(len(self.X) / self.every), n_directions), dtype)
        for some, block in self._blocks(self.every):
            rows = squares[some.start // self.every :][: len(block)]
            if directions is not None:
                block = linear(block, directions, n_threads=self.problem.threads)
            np.square(block, out=rows)
        self.squares = squares

    @property
    def n_leading(self) -> int:
        """How many directions there are rows in; the intercept is not counted."""
        return int(self.leading.shape[1]) - self.problem.fit_intercept

    def on(self, problem: Problem) -> Sample:
        """Return the same sample as all the rows of another problem."""
        other = copy.copy(self)
        other.problem, other.r, other._decomposed = problem, 0, {}
        if None in self._decomposed:  # the same for any penalty
            decomposed = copy.copy(self._decomposed[None])
            decomposed.problem, decomposed.r = problem, 0
            other._decomposed[None] = decomposed
        return other

    def reduce(self, gradient: Array) -> Array:
        """Return a gradient in u, by ``A^T``."""
        gW, gb = _parts(self.problem, gradient)
        v = gW - gb[:, None] * self.mean
        if self.vectors is not None:
            v *= self.unit
            v = v @ self.vectors
        return np.concatenate([v.reshape(-1), gb])

    def expand(self, step: Array, out: Array) -> None:
        """Set out to a step in x, ``A u``: W = v Q^T in the features' units, b = c - W mean."""
        v, b = _parts(self.problem, step)
        W, out_b = _parts(self.problem, out)
        if self.vectors is None:
            W[:] = v
        elif 2 * v.size * len(self.vectors) < ALONE_FLOP:
            np.multiply(v @ self.vectors.T, self.unit, W)
        else:
            np.multiply(linear(self.vectors, v.T, n_threads=self.problem.threads).T, self.unit, W)
        np.subtract(b, W @ self.mean, out=out_b)


def _parts(problem: Problem, v: Array) -> tuple[Array, Array]:
    """Return views of W and b of flat vectors."""
    W = v[..., : problem.split].reshape(*v.shape[:-1], problem.n_classes, problem.n_features)
    return W, v[..., problem.split :]


def _clamped(variances: Array, dtype: np.dtype[Any]) -> Array:
    """Return variances > 0: those that are rounding only become as large as rounding."""
    floor = float(np.finfo(dtype).eps) / 4 * float(variances.max(initial=0.0))
    return np.maximum(variances, floor or 1.0)


def _for_each_class(problem: Problem, do: Callable[[int], None], flop: float) -> None:
    """Do it for all classes, each on one of the problem's threads (BLAS is held to one)."""
    if problem.threads == 1 or problem.n_classes * flop < ALONE_FLOP:
        for k in range(problem.n_classes):
            do(k)
        return
    with ThreadPoolExecutor(min(problem.threads, problem.n_classes)) as pool:
        for _ in pool.map(do, range(problem.n_classes)):
            pass


class InCoordinates:
    """What the approximate Hessians of a sample share: its coordinates."""

    def __init__(self, sample: Sample) -> None:
        self.sample, self.problem = sample, sample.problem
        self.reduce, self.expand = sample.reduce, sample.expand


class AtNull(InCoordinates):
    """The inverse Hessian of a head at its null model."""

    def __init__(self, sample: Sample, lam: float) -> None:
        super().__init__(sample)
        problem = sample.problem
        p = problem.shares[sample.r]
        alpha, U = np.linalg.eigh(np.diag(p) - np.outer(p, p))
        # Not the null vectors: all classes alike, and classes that never occur. By interlacing, the
        # other values are at least the smallest share.
        n_alive = max(np.count_nonzero(p) - 1, 0)
        alive = slice(len(p) - n_alive, None)
        self.U = U[:, alive].astype(problem.dtype)
        alpha = np.maximum(alpha[alive], p[p > 0].min())
        curvature = alpha[:, None] * sample.values + lam * sample.penalty
        self.weights = (1 / curvature).astype(problem.dtype)
        self.of_bias = np.where(p > 0, 1 / np.where(p > 0, p, 1.0), 0.0).astype(problem.dtype)
        self.of_bias *= problem.fit_intercept

    def __call__(self, g: Array) -> Array:
        """Return ``P g`` of a vector, or of each of several."""
        out = np.empty_like(g)
        (v, gb), (W, b) = _parts(self.problem, g), _parts(self.problem, out)
        np.matmul(self.U, (self.U.T @ v) * self.weights, out=W)
        np.multiply(gb, self.of_bias, out=b)
        return out


class Curvature:
    """The Hessian of the loss at x without what couples the classes, for any penalty."""

    def __init__(self, sample: Sample, x: Array) -> None:
        problem = sample.problem
        self.sample, dtype, K = sample, problem.dtype, problem.n_classes
        W, b = problem.parameters(x)
        q = np.empty((K, len(sample.X)), dtype)  # by class, as they are read
        step = max(256, BLOCK_BYTES // (K * dtype.itemsize))
        for start in range(0, len(sample.X), step):
            some = slice(start, start + step)
            p = linear(sample.X[some], W.T, b, scale=problem.scale, n_threads=problem.threads)
            q[:, some] = softmax(p, out=p, n_threads=problem.threads).T
        Z, n = sample.leading, sample.n_leading
        values = np.append(sample.values[:n], np.ones(Z.shape[1] - n))
        self.blocks = np.empty((K, Z.shape[1], Z.shape[1]), dtype)
        alpha = np.empty(K)
        diagonal = np.arange(Z.shape[1])

        def curve(k: int) -> None:
            q[k] *= (1 - q[k]) * sample.share
            alpha[k] = max(float(q[k].sum(dtype=np.float64)), LEAST_CURVATURE)
            weighted = Z * np.sqrt(q[k])[:, None]
            np.matmul(weighted.T, weighted, out=self.blocks[k])
            # so much of a coarser approximation keeps it positive definite
            self.blocks[k, diagonal, diagonal] += RIDGE * alpha[k] * values

        _for_each_class(problem, curve, 2 * Z.size * Z.shape[1])
        # in the other directions alpha_k e_j, with the variance e_j of the rows that count for k
        counted = q[:, :: sample.every] / alpha.astype(dtype)[:, None]
        mass, squares = counted.sum(axis=1), np.square(counted).sum(axis=1)
        n_rows = np.divide(mass * mass, squares, out=np.zeros_like(mass), where=squares > 0)
        belief = n_rows / (n_rows + BELIEF)
        counted *= (belief / np.where(mass > 0, mass, 1))[:, None]
        self.rest = np.outer(1 - belief, sample.values[n:]).astype(dtype)
        self.rest += counted @ sample.squares
        self.rest *= alpha.astype(dtype)[:, None]


class AtWeights(InCoordinates):
    """The inverse of a curvature with a penalty."""

    def __init__(self, curvature: Curvature, lam: float) -> None:
        sample = curvature.sample
        super().__init__(sample)
        self.absent, n = np.flatnonzero(self.problem.shares[sample.r] == 0), sample.n_leading
        self.share = self.problem.dtype.type(1 / (self.problem.n_classes - len(self.absent)))
        of_rest = curvature.rest + lam * sample.penalty[n:]
        self.weights = (1 / of_rest).astype(self.problem.dtype)
        self.blocks = np.empty_like(curvature.blocks)

        def invert(k: int) -> None:
            penalized = curvature.blocks[k].astype(np.float64)
            penalized[:n, :n] += lam * sample.leading_penalty
            self.blocks[k] = np.linalg.inv(penalized)

        _for_each_class(self.problem, invert, 2.0 * len(self.blocks[0]) ** 3)

    def __call__(self, g: Array) -> Array:
        """Return ``P g`` of a vector, or of each of several."""
        out = np.empty_like(g)
        (v, gb), (W, b) = _parts(self.problem, g), _parts(self.problem, out)
        n, intercept = self.sample.n_leading, self.problem.fit_intercept
        leading = v[..., :n]
        if intercept:
            leading = np.concatenate([leading, gb[..., None]], axis=-1)
        n_vectors = math.prod(leading.shape[:-2])
        columns = leading.reshape(n_vectors, *leading.shape[-2:]).transpose(1, 2, 0)
        solved = np.matmul(self.blocks, columns).transpose(2, 0, 1).reshape(leading.shape)
        W[..., :n] = solved[..., :n]
        np.multiply(v[..., n:], self.weights, out=W[..., n:])
        b[:] = solved[..., n] if intercept else 0
        # to where the gradient lives: the classes' weights sum to 0
        W[..., self.absent, :], b[..., self.absent] = 0, 0
        W -= W.sum(axis=-2, keepdims=True) * self.share
        b -= b.sum(axis=-1, keepdims=True) * (self.share * intercept)
        W[..., self.absent, :], b[..., self.absent] = 0, 0
        return out
