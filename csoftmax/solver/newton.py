"""Newton's method for problems so small that the whole Hessian costs less than a few passes.

It is made in coordinates u = (V, c). They leave out moving all classes alike, along which there is
no curvature:

    W = Q V diag(unit),    b = Q c - W mean,

the columns of Q (n_present, n_present - 1) being orthonormal and orthogonal to the vector of ones,
as the weights of the classes sum to 0 at any minimum; features are centred, and divided by their
standard deviations. With ``z_i = (unit (scale x_i - mean), 1)`` the Hessian is

    1/S sum_i s_i (Q^T (diag(p_i) - p_i p_i^T) Q) x (z_i z_i^T) + l2 diag(unit^2, 0).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.functional import softmax
from csoftmax.solver.descent import NEXT, Descent, Point
from csoftmax.solver.penalty import Penalty
from csoftmax.solver.problem import Problem, Sizes

Array = NDArray[Any]

# Newton's method is taken where a Hessian costs at most as much as three passes and 1e7 operations
# together. An iteration of L-BFGS takes a pass and about 0.15 ms of Python, and three or four of
# them do what one step of Newton's does.
CHEAP_FLOP, CHEAP_PASSES = 1e7, 3
MOST_BYTES = 1 << 23  # of the rows in float64, which Newton's method copies
# Every Hessian gets LEAST_RIDGE times its largest diagonal entry added to its diagonal. Where a
# step promises too much, ridges from the same size on are tried, each ten times the one before: in
# all at most MOST_RIDGES steps.
LEAST_RIDGE, MOST_RIDGES = 1e-12, 300


class SmallProblem:
    """The rows of a small problem that count for one row of weights, in coordinates u.

    Attributes
    ----------
    share : ndarray (n_rows,)
        The weights of the rows, with the sum 1.
    present : ndarray (n_present,)
        The classes that occur.
    Q, Q_products : ndarray
        The basis of the classes' directions, and the products of each two of its columns by row.
    Z : ndarray (n_rows, n_features + 1)
        The rows, centred and in units of their own, and a 1 for the intercept if there is one.
    mean, unit : ndarray (n_features,)
        What was subtracted from features, and what they were then multiplied by.
    squares_of_W : ndarray
        For each direction, ||W||^2 of a step of length 1.
    target : ndarray (n_rows, n_present)
        The probabilities that the classes should have.
    """

    def __init__(self, problem: Problem, r: int) -> None:
        self.problem = problem
        passes = problem.passes.sample(r, problem.n_rows, 0)
        weight = passes.weight(0)
        self.share = np.full(passes.n_rows, 1 / passes.n_rows)
        if weight is not None:
            self.share = weight / problem.totals[r]
        self.present = np.flatnonzero(problem.shares[r])
        n = len(self.present)
        # the vectors (1, .., 1, -k, 0, ..) / sqrt(k (k + 1))
        k = np.arange(1, n)
        self.Q = np.triu(np.ones((n, n - 1))) / np.sqrt(k * (k + 1.0))
        self.Q[k, k - 1] = -np.sqrt(k / (k + 1.0))
        self.Q_products = (self.Q[:, :, None] * self.Q[:, None, :]).reshape(n, -1)
        f = problem.n_features
        self.Z = Z = np.ones((passes.n_rows, f + problem.fit_intercept))
        z = Z[:, :f]
        for some, block in passes.rows.blocks(passes.n_rows):
            np.multiply(block, passes.scale, out=z[some], dtype=np.float64)
        self.mean = problem.means[r]
        if problem.fit_intercept:
            z -= self.mean
            # the mean of the problem is off by its rounding: constant features become 0 here
            rest = self.share @ z
            z -= rest
            self.mean = self.mean + rest
        deviations = np.sqrt(self.share @ np.square(z))
        varies = deviations > 8 * np.finfo(problem.dtype).eps * np.abs(self.mean)
        self.unit = 1 / np.where(varies, deviations, np.maximum(np.abs(self.mean), 1.0))
        z *= np.where(varies, self.unit, 0.0)
        squares = np.zeros((n - 1, Z.shape[1]))
        squares[:, :f] = np.square(self.unit)
        self.squares_of_W = squares.reshape(-1)
        target = passes.target
        if target.ndim == 1:
            self.target = (target[:, None] == self.present).astype(np.float64)
        else:
            self.target = target[:, self.present]

    def expand(self, u: Array, out: Array) -> None:
        """Set out to a step in x."""
        W, b = self.problem.parameters(out)
        f = self.problem.n_features
        step = self.Q @ u
        of_W = step[:, :f] * self.unit
        out[:] = 0
        W[self.present] = of_W
        if self.problem.fit_intercept:
            b[self.present] = step[:, f] - of_W @ self.mean

    def reduce(self, gradient: Array) -> Array:
        """Return a gradient in u: the transpose of `expand`."""
        gW, gb = (g[self.present].astype(np.float64) for g in self.problem.parameters(gradient))
        of_u = gW * self.unit
        if self.problem.fit_intercept:
            of_u -= gb[:, None] * (self.mean * self.unit)
            of_u = np.concatenate([of_u, gb[:, None]], axis=1)
        reduced: Array = (self.Q.T @ of_u).reshape(-1)
        return reduced

    def derivatives(self, x: Array, penalty: Penalty) -> tuple[Array, Array]:
        """Return gradient (n_u,) and Hessian (n_u, n_u) in u at x.

        The gradient is made here too. That of a pass in float32 has rounding in directions without
        a curvature, and a step would take that rounding for something to gain.
        """
        problem, Q, Z = self.problem, self.Q, self.Z
        W, b = (part[self.present].astype(np.float64) for part in problem.parameters(x))
        f, n, side = problem.n_features, Q.shape[1], Z.shape[1]
        of_u = W / self.unit
        if problem.fit_intercept:
            of_u = np.concatenate([of_u, (b + W @ self.mean)[:, None]], axis=1)
        p = softmax(Z @ of_u.T, n_threads=1)
        g = (Q.T @ ((p - self.target) * self.share[:, None]).T) @ Z
        g[:, :f] += penalty.l2 * self.unit * (Q.T @ W)
        pQ = p @ Q
        curvature = p @ self.Q_products
        curvature -= (pQ[:, :, None] * pQ[:, None, :]).reshape(len(p), -1)
        curvature *= self.share[:, None]
        blocks = Z.T @ (curvature[:, :, None] * Z[:, None, :]).reshape(len(Z), -1)
        H = blocks.reshape(side, n, n, side).transpose(1, 0, 2, 3).reshape(n * side, n * side)
        diagonal = np.einsum("ii->i", H)
        # it matters only where features are linearly dependent: such a direction has no curvature,
        # but no gradient either
        diagonal += LEAST_RIDGE * (float(diagonal.max(initial=0.0)) or 1.0)
        diagonal += penalty.l2 * self.squares_of_W
        return g.reshape(-1), H


def newton_step(g: Array, H: Array, objective: float) -> Array:
    """Return ``(H + ridge I)^-1 g`` with the least ridge of a few whose gain is believable.

    Where all rows are saturated the Hessian has all but vanished, and a step by it promises more
    than there is to gain: the objective itself, or by rounding less than nothing.
    """
    most, ridge = float(np.diagonal(H).max(initial=0.0)) or 1.0, 0.0
    for _ in range(MOST_RIDGES):
        step: Array = np.linalg.solve(H + ridge * np.eye(len(H)) if ridge else H, g)
        if 0 <= 0.5 * float(g @ step) <= 2 * objective:
            return step
        ridge = max(10 * ridge, LEAST_RIDGE * most)
    return np.full_like(g, np.nan)  # nothing is known of the distance


class Newton(Descent):
    """Newton's method with the line search of `Lbfgs`: each step has a Hessian of its own."""

    has_whole_hessian, margin = True, 2.0
    # The line search goes on for longer than that of L-BFGS. Where the labels are all but explained
    # the objective falls as exp(-t) does, and a step goes from t to t + 1: to evaluate further
    # along it is cheaper than another Hessian.
    most_slope_left = 0.1

    def __init__(self, x: Array, rows: SmallProblem, penalty: Penalty) -> None:
        super().__init__(x)
        self.rows, self.penalty = rows, penalty

    def _at_trial(self, objective: float) -> Point:
        g, H = self.rows.derivatives(self.trial, self.penalty)
        step = newton_step(g, H, objective) if g.size else g
        return Point(self.trial, objective, self.trial_gradient, g, step)

    def metric(self) -> Callable[[Array], float]:
        _, H = self.rows.derivatives(self.point.x, self.penalty)

        def square(gradient: Array) -> float:
            g = self.rows.reduce(gradient)
            return float(g @ np.linalg.solve(H, g)) if g.size else 0.0

        return square

    def steps(self) -> Generator[bool, float, None]:
        """Yield EVALUATE where `trial` is to be evaluated, NEXT after each iteration."""
        assert self.point is not None
        x, gradient, direction = (np.empty_like(self.point.x) for _ in range(3))
        while True:
            u = -self.point.preconditioned.reshape(self.rows.Q.shape[1], self.rows.Z.shape[1])
            self.rows.expand(u, direction)
            step, objective = yield from self._search(direction, x, gradient)
            if step is None:
                self.stalled = True
                return
            old, self.point = self.point, self._at_trial(objective)
            x, gradient = old.x, old.gradient
            yield NEXT


def suits(n_rows: int, n_features: int, n_classes: int) -> bool:
    """Say whether Hessians are cheap against what they save."""
    n_u = (n_classes - 1) * (n_features + 1)
    a_pass = 4.0 * n_rows * n_classes * n_features
    hessian = n_rows * float(n_u) ** 2 + float(n_u) ** 3
    cheap: bool = hessian <= CHEAP_FLOP + CHEAP_PASSES * a_pass
    return n_u > 0 and 8 * n_rows * (n_features + 1) <= MOST_BYTES and cheap


def bytes_needed(sizes: Sizes) -> int:
    """Return what the rows take for each row of weights, and a Hessian as it is made and solved."""
    n, side = sizes.n_classes - 1, sizes.n_features + 1
    kept = sizes.n_samples * (side + sizes.n_classes)  # features and targets
    made = n * n * (side + 2) + 3 * sizes.n_classes  # curvatures times features; probabilities
    return 8 * (sizes.n_rows * (kept + made) + 5 * (n * side) ** 2)
