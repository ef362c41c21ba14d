"""The preconditioner of sparse rows: the diagonal of the Hessian, without a sample or a matrix.

The problem centres sparse features in effect (`csoftmax.solver.problem`): for weight k of feature j
the Hessian of the mean loss then has ``mean_i p_ik (1 - p_ik) (x_ij - mean_j)^2`` on its diagonal,
and what couples W with c is small. The block of c alone, ``mean_i diag(p_i) - p_i p_i^T``, is kept
whole unless there are many classes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.engine.local_passes import LocalPasses
from csoftmax.functional import linear, softmax
from csoftmax.solver.penalty import Penalty
from csoftmax.solver.problem import Problem, Sizes

Array = NDArray[Any]

# A variance of a feature that is a smaller share of its mean square than this is rounding.
LEAST_VARIANCE = 1e-5
# Curvatures of classes, and eigenvalues of the block of c, are taken to be at least this share of
# the largest.
LEAST_SHARE = 1e-7
# With more classes than this, only the diagonal of the block of c is kept: the block would cost
# more than passes do.
WHOLE_CLASSES = 256
BLOCK_SIZE = 1 << 16  # numbers that are centred at a time


def bytes_needed(sizes: Sizes) -> int:
    """Return what a diagonal is made in: the sums of one head, and probabilities of the rows.

    The diagonal itself, and what it was made at, are vectors of a head (`long.bytes_needed`).
    """
    n_lines = 2 * sizes.n_features + 3 * sizes.n_rows
    return n_lines * sizes.n_classes * sizes.itemsize


class Diagonal:
    """The diagonal of the Hessian of the loss at x, and its block of c; None: at the null model.

    With `plain`, all features have the variance 1.
    `of_W` (n_features, n_classes) are the curvatures of the weights, `of_c` is the block of c or,
    with many classes, its diagonal.
    """

    def __init__(self, problem: Problem, r: int, x: Array | None, plain: bool = False) -> None:
        self.problem, self.r = problem, r
        self.present = problem.shares[r] > 0
        passes, dtype = problem.passes, problem.dtype
        assert isinstance(passes, LocalPasses)
        weight = passes.weight(r)
        share = np.ones(passes.n_rows) if weight is None else weight
        share = (share / problem.totals[r]).astype(dtype)
        mean = np.zeros(problem.n_features, dtype) if problem.centre is None else problem.centre[r]
        is_whole = problem.n_classes <= WHOLE_CLASSES
        if x is None:
            p = problem.shares[r]
            self.of_c = np.diag(p) - np.outer(p, p) if is_whole else p - p * p
            variances = np.ones((problem.n_features, 1), dtype)
            if not plain:
                variances = passes.column_sums(share[:, None], squares=True)
                _centre(variances, mean, np.ones(1))
            self.of_W = variances * (p - p * p).astype(dtype)
        else:
            W, c = problem.parameters(x)
            b = c - problem.shift_of(r, W)
            p = linear(passes.rows.X, W.T, b, scale=passes.scale, n_threads=passes.n_threads)
            p = softmax(p, out=p, n_threads=passes.n_threads)
            weighted = p * share[:, None]
            if is_whole:
                self.of_c = np.diag(weighted.sum(axis=0, dtype=np.float64)) - p.T @ weighted
            np.subtract(1, p, out=p)
            p *= weighted
            mass = p.sum(axis=0, dtype=np.float64)
            if not is_whole:
                self.of_c = mass
            self.of_W = passes.column_sums(p, squares=True)
            if problem.centre is not None:
                _centre(self.of_W, mean, mass, passes.column_sums(p))
        if not np.isfinite(self.of_W).all():
            passes.raise_bad_value()
        least = LEAST_SHARE * float(self.of_W.max(initial=0.0)) or 1.0
        np.maximum(self.of_W, dtype.type(least), out=self.of_W)
        self.of_W[:, ~self.present] = math.inf


def _centre(squares: Array, mean: Array, mass: Array, sums: Array | None = None) -> None:
    """Turn sums of squares into those of centred features; constant features stay as they are.

    `mass` are the weights of the rows for each class, `sums` those of the features; None: as the
    means say.
    """
    step = max(1, BLOCK_SIZE // squares.shape[1])
    for begin in range(0, len(squares), step):
        some = slice(begin, begin + step)
        of_mean = mean[some, None] * mass.astype(mean.dtype)
        centred = 2 * sums[some] if sums is not None else 2 * of_mean
        with np.errstate(over="ignore", invalid="ignore"):  # such squares are refused later
            centred = squares[some] - (centred - of_mean) * mean[some, None]
        np.copyto(squares[some], centred, where=centred > LEAST_VARIANCE * squares[some])


class DiagonalInverse:
    """The inverse of a diagonal with a penalty, among weights that sum to 0 over the classes.

    Those of a minimum do. `csoftmax.engine.lines` applies it to W.
    """

    def __init__(self, diagonal: Diagonal, penalty: Penalty) -> None:
        self.diagonal, self.l2 = diagonal, penalty.l2
        of_c, some = diagonal.of_c, diagonal.present
        self.inverse_of_c = np.zeros_like(of_c)
        if not diagonal.problem.fit_intercept:
            return
        if of_c.ndim == 1:
            least = LEAST_SHARE * float(of_c.max()) or 1.0
            self.inverse_of_c[some] = 1 / np.maximum(of_c[some], least)
            return
        both = np.ix_(some, some)
        self.inverse_of_c[both] = np.linalg.pinv(of_c[both], rcond=LEAST_SHARE, hermitian=True)

    def solve_c(self, g: Array) -> Array:
        """Return what P makes of the intercept's part of a gradient, or of each of several."""
        a = self.inverse_of_c
        if a.ndim == 2:
            whole: Array = g @ a
            return whole
        step: Array = a * g
        step -= a * (step.sum(axis=-1, keepdims=True) / max(float(a.sum()), 1e-300))
        return step
