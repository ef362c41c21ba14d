"""The preconditioner of sparse rows: the diagonal of the Hessian, without a sample or a matrix.

The problem centres sparse features in effect (`csoftmax.solver.problem`): for weight k of feature j
the Hessian of the mean loss then has ``mean_i p_ik (1 - p_ik) (x_ij - mean_j)^2`` on its diagonal,
and what couples W with c is small. The block of c alone, ``mean_i diag(p_i) - p_i p_i^T``, is kept
whole unless there are many classes.
"""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.sparse import CSR
from csoftmax.engine.passes import SparsePasses
from csoftmax.engine.sparse_shard_passes import BLOCK_ROWS
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


def bytes_needed(sizes: Sizes, of_shards: bool = False) -> int:
    """Return what a diagonal is made in: the sums of one head, and probabilities of the rows.

    The diagonal itself, and what it was made at, are vectors of a head (`long.bytes_needed`). Of
    shards a block of rows is looked at; the sums are counted with those of the passes.
    """
    if of_shards:
        return 3 * BLOCK_ROWS * sizes.n_classes * sizes.itemsize
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
        passes, dtype = cast(SparsePasses, problem.passes), problem.dtype
        mean = np.zeros(problem.n_features, dtype) if problem.centre is None else problem.centre[r]
        if x is None:
            p = problem.shares[r]
            is_whole = problem.n_classes <= WHOLE_CLASSES
            self.of_c = np.diag(p) - np.outer(p, p) if is_whole else p - p * p
            variances = np.ones((problem.n_features, 1), dtype)
            if not plain:
                [variances] = passes.column_sums(self._share, 1, [True])
                _centre(variances, mean, np.ones(1))
            self.of_W = variances * (p - p * p).astype(dtype)
        else:
            curvatures = Curvatures(self, *problem.parameters(x))
            squares = [True] if problem.centre is None else [True, False]
            self.of_W, *sums = passes.column_sums(curvatures.of_rows, problem.n_classes, squares)
            self.of_c = curvatures.of_c()
            if problem.centre is not None:
                _centre(self.of_W, mean, curvatures.mass, *sums)
        if not np.isfinite(self.of_W).all():
            passes.raise_bad_value()
        least = LEAST_SHARE * float(self.of_W.max(initial=0.0)) or 1.0
        np.maximum(self.of_W, dtype.type(least), out=self.of_W)
        self.of_W[:, ~self.present] = math.inf

    def _share(self, some: slice, X: CSR) -> Array:
        """Return what rows weigh in the mean, (n_rows, 1)."""
        weight = self.problem.passes.weight(self.r)
        share = np.ones(len(X)) if weight is None else weight[some]
        column: Array = (share / self.problem.totals[self.r]).astype(self.problem.dtype)[:, None]
        return column


class Curvatures:
    """The weighted ``p (1 - p)`` of rows, whose sums are those of c; they come block by block."""

    def __init__(self, diagonal: Diagonal, W: Array, c: Array) -> None:
        problem = diagonal.problem
        self.passes, self.share, self.W = problem.passes, diagonal._share, W
        self.b = c - problem.shift_of(diagonal.r, W)
        self.mass = np.zeros(problem.n_classes)  # of p (1 - p)
        self.of_p = np.zeros(problem.n_classes)
        is_whole = problem.n_classes <= WHOLE_CLASSES
        self.products = np.zeros((problem.n_classes,) * 2) if is_whole else None

    def of_rows(self, some: slice, X: CSR) -> Array:
        n_threads = self.passes.n_threads
        p = linear(cast(Any, X), self.W.T, self.b, scale=self.passes.scale, n_threads=n_threads)
        p = softmax(p, out=p, n_threads=n_threads)
        weighted = p * self.share(some, X)
        if self.products is not None:
            self.of_p += weighted.sum(axis=0, dtype=np.float64)
            self.products += p.T @ weighted
        np.subtract(1, p, out=p)
        p *= weighted
        self.mass += p.sum(axis=0, dtype=np.float64)
        return p

    def of_c(self) -> Array:
        """Return the block of c or, with many classes, its diagonal."""
        return self.mass if self.products is None else np.diag(self.of_p) - self.products


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
