"""The preconditioner of sparse rows: the diagonal of the Hessian, without a sample or a matrix.

The problem centres sparse features in effect (`csoftmax.solver.problem`): for weight k of feature j
the Hessian of the mean loss then has ``mean_i p_ik (1 - p_ik) (x_ij - mean_j)^2`` on its diagonal,
and what couples W with c is small. The block of c alone, ``mean_i diag(p_i) - p_i p_i^T``, is kept
whole.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.functional import linear, softmax
from csoftmax.solver import bound
from csoftmax.solver.penalty import Penalty
from csoftmax.solver.problem import Problem, Sizes

Array = NDArray[Any]

# A variance of a feature that is a smaller share of its mean square than this is rounding.
LEAST_VARIANCE = 1e-5
# Curvatures of classes, and eigenvalues of the block of c, are taken to be at least this share of
# the largest.
LEAST_SHARE = 1e-7


def bytes_needed(sizes: Sizes) -> int:
    """Return what the heads' diagonals take, and what one is made in, or a bound after it."""
    n_classes, itemsize = sizes.n_classes, sizes.itemsize
    kept = 2 * sizes.parameter_bytes
    of_rows, of_W = sizes.n_rows * n_classes * itemsize, sizes.n_features * n_classes * itemsize
    return kept + max(3 * of_rows + 3 * of_W, bound.bytes_needed(sizes))


class Diagonal:
    """The diagonal of the Hessian of the loss at x, and its block of c; None: at the null model.

    With `plain`, all features have the variance 1.
    `of_W` (n_features, n_classes) are the curvatures of the weights, `of_c` is the block.
    """

    def __init__(self, problem: Problem, r: int, x: Array | None, plain: bool = False) -> None:
        self.problem, self.r = problem, r
        self.present = problem.shares[r] > 0
        passes, dtype = problem.passes, problem.dtype
        weight = passes.weight(r)
        share = np.ones(passes.n_rows) if weight is None else weight
        share = (share / problem.totals[r]).astype(dtype)
        mean = np.zeros(problem.n_features, dtype) if problem.centre is None else problem.centre[r]
        if x is None:
            p = problem.shares[r]
            self.of_c = np.diag(p) - np.outer(p, p)
            variances = np.ones((problem.n_features, 1), dtype)
            if not plain:
                squares = passes.column_sums(share[:, None], squares=True)
                variances = self._centred(squares, mean[:, None], np.ones(1))
            self.of_W = variances * (p - p * p).astype(dtype)
            return
        W, c = problem.parameters(x)
        b = (c - W @ mean).astype(dtype)
        p = linear(passes.rows.X, W.T, b, scale=passes.scale, n_threads=passes.n_threads)
        p = softmax(p, out=p, n_threads=passes.n_threads)
        weighted = p * share[:, None]
        self.of_c = np.diag(weighted.sum(axis=0, dtype=np.float64)) - p.T @ weighted
        np.subtract(1, p, out=p)
        p *= weighted
        mass = p.sum(axis=0, dtype=np.float64)
        self.of_W = passes.column_sums(p, squares=True)
        if problem.centre is not None:
            cross = passes.column_sums(p)
            cross *= -2 * mean[:, None]
            self.of_W = self._centred(self.of_W, mean[:, None], mass, cross)

    def _centred(
        self, squares: Array, mean: Array, mass: Array, cross: Array | None = None
    ) -> Array:
        """Return squares of centred features, or those of the features where they are constant."""
        of_mean = np.square(mean) * mass.astype(mean.dtype)
        if cross is None:
            cross = -2 * of_mean
        cross += squares
        cross += of_mean
        constant = cross <= LEAST_VARIANCE * squares
        return np.where(constant, squares, cross)


def _same(gradient: Array) -> Array:
    return gradient


def _copy(step: Array, out: Array) -> None:
    out[:] = step


class DiagonalInverse:
    """The inverse of a diagonal with a penalty: a `Preconditioner`."""

    def __init__(self, diagonal: Diagonal, penalty: Penalty) -> None:
        self.diagonal, self.problem = diagonal, diagonal.problem
        dtype, present = self.problem.dtype, diagonal.present
        curvature = diagonal.of_W + dtype.type(penalty.l2)
        least = LEAST_SHARE * float(curvature.max(initial=0.0)) or 1.0
        self.inverse = 1 / np.maximum(curvature, dtype.type(least))
        self.inverse[:, ~present] = 0
        self.total = self.inverse.sum(axis=1, keepdims=True)
        self.inverse_of_c = np.zeros_like(diagonal.of_c)
        if self.problem.fit_intercept:
            some = np.ix_(present, present)
            self.inverse_of_c[some] = np.linalg.pinv(
                diagonal.of_c[some], rcond=LEAST_SHARE, hermitian=True
            )
        self.inverse_of_c = self.inverse_of_c.astype(dtype)

    reduce, expand = staticmethod(_same), staticmethod(_copy)  # the problem's own coordinates

    def __call__(self, g: Array) -> Array:
        """Return ``P g`` of a vector, or of each of several.

        It is the inverse among the weights that sum to 0 over the classes, as those of a minimum
        do.
        """
        out = np.empty_like(g)
        (v, gc), (W, c) = self.problem.parameters(g), self.problem.parameters(out)
        v, W = v.swapaxes(-1, -2), W.swapaxes(-1, -2)
        np.multiply(v, self.inverse, out=W)
        W -= self.inverse * (W.sum(axis=-1, keepdims=True) / self.total)
        c[:] = gc @ self.inverse_of_c
        return out
