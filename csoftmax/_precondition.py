"""Preconditioners of the solver: approximate inverse Hessians, from a sample of the rows.

The Hessian of the mean loss has the blocks ``mean_i p_ik (delta_kl - p_il) x_i x_i^T``. In the
basis Q of the eigenvectors of the features' covariance (centred, as the intercept is free to
follow) two approximations are cheap to invert:

- where all weights are 0, every row has the same p, and the Hessian is the Kronecker product of
  ``A = diag(p) - p p^T = U diag(alpha) U^T`` and the covariance, for any lambda inverted by
  ``(U x Q) diag(1 / (alpha_k e_j + lambda)) (U x Q)^T``;
- at the current weights, the blocks k = l: exact on the sample in the leading directions of Q and
  the intercept, and ``alpha_k e_j + lambda`` with ``alpha_k = mean_i p_ik (1 - p_ik)`` in the rest.

By the second, Fashion-MNIST at C = 1 comes within 0.1 % of the optimum in 36 passes instead of 154;
the blocks k != l, or all directions instead of 100, save fewer passes than they cost.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax._problem import Problem
from csoftmax.functional import linear, softmax

Array = NDArray[Any]

SAMPLED_ROWS = 8192
LEAST_ROWS = 1024
SAMPLED_BYTES = 1 << 26  # of the sample, and of its probabilities
BLOCK_BYTES = 1 << 22
LEADING = 100
RIDGE = 1e-3
INVERSE_SIZE = 1 << 18  # of the inverted blocks of a head, or 4 times its parameters if more
# Of mean p (1 - p) of a class: where it has all but vanished, steps grow no further.
LEAST_CURVATURE = 1e-12
# Variances that differ by more are made equal before they are decomposed.
UNITS_RATIO = {"f": 1e-9, "d": 1e-12}
# Above so many features only their variances: an eigendecomposition costs about 10 n_features^3.
FULL_FEATURES = 4096
FULL_COST = 70  # and at most so much per n_samples x n_classes


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
        self.y = problem.y[rows]
        self.weight = None if weight is None else weight[rows]
        self.share = np.full(len(rows), 1.0 / len(rows))
        if self.weight is not None:
            self.share = self.weight / self.weight.sum()
        self.problem, self.r = problem, r
        self.mean = problem.means[r].astype(problem.dtype)
        self.vectors: Array | None = None
        self.values: Array = np.ones(problem.n_features)
        self.unit = np.ones(problem.n_features, problem.dtype)  # that features are multiplied by
        self.penalty: Array = self.unit  # of a direction, times lambda
        self.leading, self.leading_penalty = np.empty((0, 0)), np.empty((0, 0))
        if preconditioner is not None:
            self._decompose(wants_full(preconditioner, problem))

    def _blocks(self) -> Iterator[tuple[slice, Array]]:
        """Yield blocks of rows, scaled and centred."""
        dtype = self.problem.dtype
        step = max(64, BLOCK_BYTES // max(1, self.X.shape[1] * dtype.itemsize))
        for start in range(0, len(self.X), step):
            some = slice(start, start + step)
            block = self.X[some].astype(dtype)
            block *= dtype.type(self.problem.scale)
            block -= self.mean
            block *= self.unit
            yield some, block

    def _decompose(self, full: bool) -> None:
        """Set values, vectors (largest first) and the rows in the leading directions."""
        dtype, n_features = self.problem.dtype, self.X.shape[1]
        variances = np.zeros(n_features)
        for some, block in self._blocks():
            variances += np.einsum("i,ij,ij->j", self.share[some], block, block)
        self.values = variances
        positive = variances[variances > 0]
        if full and positive.size and positive.min() < UNITS_RATIO[dtype.char] * positive.max():
            self.unit = 1 / np.sqrt(np.where(variances > 0, variances, 1.0))
            self.unit = self.unit.astype(dtype)
        n = 0
        if full:
            moments = np.zeros((n_features, n_features))
            for some, block in self._blocks():
                block *= np.sqrt(self.share[some]).astype(dtype)[:, None]
                moments += block.T @ block
            values, vectors = np.linalg.eigh(moments)
            self.values, self.vectors = values[::-1], vectors[:, ::-1].astype(dtype)
            self.penalty = np.einsum("j,jk,jk->k", self.unit**2, self.vectors, self.vectors)
            K = self.problem.n_classes
            n = int(max(4 * n_features, INVERSE_SIZE // K) ** 0.5) - 1
            n = min(LEADING, n, n_features, len(self.X) // 8)
        floor = float(np.finfo(dtype).eps) / 4 * float(self.values.max(initial=0.0))
        self.values = np.maximum(self.values, floor or 1.0)
        self.leading = np.ones((len(self.X), n + self.problem.fit_intercept), dtype)
        if self.vectors is not None:
            leading = self.vectors[:, :n]
            self.leading_penalty = leading.T @ (leading * (self.unit**2)[:, None])
            for some, block in self._blocks():
                np.matmul(block, leading, out=self.leading[some, :n])

    def on(self, problem: Problem) -> Sample:
        """Return the same sample as all the rows of another problem."""
        other = copy.copy(self)
        other.problem, other.r = problem, 0
        return other

    def rotate(self, v: Array) -> Array:
        return v if self.vectors is None else (v * self.unit) @ self.vectors

    def rotate_back(self, v: Array) -> Array:
        return v if self.vectors is None else (v @ self.vectors.T) * self.unit


class AtNull:
    """The inverse Hessian of a head at its null model."""

    def __init__(self, sample: Sample, lam: float) -> None:
        problem = self.problem = sample.problem
        self.sample = sample
        p = problem.shares[sample.r]
        alpha, U = np.linalg.eigh(np.diag(p) - np.outer(p, p))
        # Not the null vectors: all classes alike, and classes that never occur.
        alive = alpha > 1e-9 * alpha[-1]
        self.U = U[:, alive].astype(problem.dtype)
        curvature = alpha[alive, None] * sample.values + lam * sample.penalty
        self.weights = (1 / curvature).astype(problem.dtype)
        self.of_bias = np.where(p > 0, 1 / np.where(p > 0, p, 1.0), 0.0).astype(problem.dtype)
        self.of_bias *= problem.fit_intercept

    def __call__(self, g: Array, out: Array) -> None:
        (gW, gb), (W, b) = self.problem.parameters(g), self.problem.parameters(out)
        v = self.sample.rotate(self.U.T @ (gW - gb[:, None] * self.sample.mean))
        v *= self.weights
        np.matmul(self.U, self.sample.rotate_back(v), out=W)
        np.multiply(gb, self.of_bias, out=b)
        b -= W @ self.sample.mean


class AtWeights:
    """The inverse of a head's Hessian at x without what couples the classes."""

    def __init__(self, sample: Sample, x: Array, lam: float) -> None:
        problem = self.problem = sample.problem
        self.sample = sample
        dtype, K = problem.dtype, problem.n_classes
        W, b = problem.parameters(x)
        probs = linear(sample.X, W.T, b, scale=problem.scale, n_threads=problem.threads)
        softmax(probs, out=probs, n_threads=problem.threads)
        self.present = problem.shares[sample.r] > 0
        Z, n = sample.leading, sample.leading.shape[1] - problem.fit_intercept
        diagonal = np.arange(Z.shape[1])
        values = np.append(sample.values[:n], np.ones(Z.shape[1] - n))
        self.blocks = np.empty((K, Z.shape[1], Z.shape[1]), dtype)
        self.weights = np.empty((K, problem.n_features - n), dtype)
        for k in range(K):
            q = probs[:, k] * (1 - probs[:, k]) * sample.share
            alpha = max(float(q.sum()), LEAST_CURVATURE)
            self.weights[k] = 1 / (alpha * sample.values[n:] + lam * sample.penalty[n:])
            weighted = Z * np.sqrt(q).astype(dtype)[:, None]
            block = (weighted.T @ weighted).astype(np.float64)
            # so much of the coarser approximation keeps it positive definite
            block[diagonal, diagonal] += RIDGE * alpha * values
            block[:n, :n] += lam * sample.leading_penalty
            self.blocks[k] = np.linalg.inv(block)

    def __call__(self, g: Array, out: Array) -> None:
        (gW, gb), (W, b) = self.problem.parameters(g), self.problem.parameters(out)
        sample, intercept = self.sample, self.problem.fit_intercept
        v = sample.rotate(gW - gb[:, None] * sample.mean)
        n = v.shape[1] - self.weights.shape[1]
        if self.blocks.shape[1]:
            leading = np.concatenate([v[:, :n], gb[:, None]], axis=1) if intercept else v[:, :n]
            solved = np.matmul(self.blocks, leading[:, :, None])[:, :, 0]
            v[:, :n] = solved[:, :n]
            b[:] = solved[:, n] if intercept else 0
        else:
            b[:] = 0
        v[:, n:] *= self.weights
        np.copyto(W, sample.rotate_back(v))
        b -= W @ sample.mean
        # to where the gradient lives: the classes' weights sum to 0
        W -= W[self.present].mean(axis=0)
        b -= b[self.present].mean() if intercept else 0
        if not self.present.all():
            W[~self.present], b[~self.present] = 0, 0
