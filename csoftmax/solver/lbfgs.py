"""L-BFGS of one head as a coroutine: it yields where to evaluate, and is sent the objective.

So a driver can step many heads together and evaluate all their points in one pass over the data.

The head walks in coordinates u of its preconditioner, x = A u, in which P, an approximate inverse
Hessian, is cheap to apply: gradients come in by A^T, directions go out by A. The matrix of the
quasi-Newton method is kept in compact form (Byrd, Nocedal and Schnabel 1994, "Representations of
quasi-Newton matrices") with the steps s and the changes y of the gradient:

    H g = gamma P (g - Y w) + S p,    w = R^-1 S^T g,
    p = R^-T ((D + gamma Y^T P Y) w - gamma Y^T P g),

R being the upper triangle of S^T Y and D its diagonal.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from csoftmax.solver.penalty import Penalty

Array = NDArray[Any]

# Constants of the line search: Nocedal and Wright, "Numerical Optimization" (2006), section 3.1.
DECREASE = 1e-4
CURVATURE = 0.9
MAX_TRIALS = 25

BATCH_BYTES = 1 << 22  # of vectors that are preconditioned together

EVALUATE, NEXT = False, True  # what `Lbfgs.steps` yields


class Preconditioner(Protocol):
    """Coordinates u, and an approximate inverse Hessian P in them."""

    def reduce(self, gradient: Array) -> Array:
        """Return ``A^T gradient``."""

    def expand(self, step: Array, out: Array) -> None:
        """Set out to ``A step``."""

    def __call__(self, g: Array) -> Array:
        """Return ``P g`` of a vector, or of each of several."""


class Point(NamedTuple):
    """Where a head is: parameters, objective, gradient; replaced as a whole."""

    x: Array
    objective: float
    gradient: Array
    reduced: Array  # the gradient in u
    preconditioned: Array  # and P times that

    @property
    def estimate(self) -> float:
        """Return ``g^T P g / 2``, the distance to the optimum if P^-1 were the Hessian."""
        return 0.5 * float(np.dot(self.reduced, self.preconditioned))


class History:
    """The last pairs of steps and gradient changes, in compact form."""

    def __init__(self, size: int, n_parameters: int, dtype: np.dtype[Any]) -> None:
        self.size = size
        self.S, self.Y = np.zeros((2, size, n_parameters), dtype)  # by slot
        self.clear()

    def clear(self) -> None:
        self.count = self.next = 0
        self.slots = np.zeros(0, np.intp)  # oldest first, as the small matrices
        self.R_inverse, self.YPY, self.gamma = np.zeros((0, 0)), np.zeros((0, 0)), 1.0
        self.Sg, self.YPg = np.zeros((2, 0))  # products with the point that was met last

    def precondition(self, precondition: Preconditioner) -> None:
        """Go over to another P in the same coordinates."""
        n = self.count
        YPY = np.empty((n, n))
        step = max(1, BATCH_BYTES // max(1, self.Y[:1].nbytes))
        for begin in range(0, n, step):
            some = slice(begin, min(begin + step, n))
            YPY[:, some] = self.Y[:n] @ precondition(self.Y[some]).T
        YPY = YPY[self.slots][:, self.slots]
        self.YPY = 0.5 * (YPY + YPY.T)
        if n:
            self.gamma = float(1 / (self.R_inverse[-1, -1] * self.YPY[-1, -1]))

    def penalize(self, change: Penalty, split: int, precondition: Preconditioner) -> None:
        """Go over to a function with a penalty on u[:split] that differs by the change.

        Each y changes by what the penalty adds to the gradient. If rounding has eaten a curvature,
        the history is of no use any more.
        """
        n = self.count
        change.add_gradient(self.S[:n, :split], self.Y[:n, :split])
        SY = (self.S[:n] @ self.Y[:n].T)[self.slots][:, self.slots].astype(np.float64)
        if not (np.diagonal(SY) > 0).all():
            self.clear()
            return
        self.R_inverse = np.linalg.inv(np.triu(SY))
        self.precondition(precondition)
        if not (np.isfinite(self.R_inverse).all() and (np.diagonal(self.YPY) > 0).all()):
            self.clear()

    def meet(self, point: Point) -> None:
        """Multiply with a new point."""
        n = self.count
        self.Sg = (self.S[:n] @ point.reduced)[self.slots].astype(np.float64)
        self.YPg = (self.Y[:n] @ point.preconditioned)[self.slots].astype(np.float64)

    def add(self, s: Array, old: Point, new: Point) -> None:
        """Take in the step from the old point, met last, to the new one; the oldest is dropped.

        Products with y are differences of those with the gradients. A step whose curvature rounding
        has eaten is left out.
        """
        y = new.reduced - old.reduced
        Py = new.preconditioned - old.preconditioned
        sy, yPy = float(np.dot(s, y)), float(np.dot(y, Py))
        before = self.Sg, self.YPg
        self.meet(new)
        if not (sy > 0 and yPy > 0 and sy * sy > 1e-14 * yPy * float(np.dot(s, s))):
            return
        Sy, YPy = self.Sg - before[0], self.YPg - before[1]
        R_inverse, YPY = self.R_inverse, self.YPY
        slot = self.count
        if self.count == self.size:
            slot, R_inverse, YPY = self.next, R_inverse[1:, 1:], YPY[1:, 1:]
            self.slots, Sy, YPy = self.slots[1:], Sy[1:], YPy[1:]
            self.Sg, self.YPg = self.Sg[1:], self.YPg[1:]
        n = self.count = len(Sy) + 1
        self.S[slot], self.Y[slot], self.next = s, y, (slot + 1) % self.size
        self.slots = np.append(self.slots, slot)
        self.Sg = np.append(self.Sg, np.dot(s, new.reduced))
        self.YPg = np.append(self.YPg, np.dot(y, new.preconditioned))
        self.R_inverse, self.YPY, self.gamma = np.zeros((n, n)), np.empty((n, n)), sy / yPy
        self.R_inverse[:-1, :-1], self.YPY[:-1, :-1] = R_inverse, YPY
        self.R_inverse[:-1, -1], self.R_inverse[-1, -1] = R_inverse @ Sy / -sy, 1 / sy
        self.YPY[-1, :-1], self.YPY[:-1, -1], self.YPY[-1, -1] = YPy, YPy, yPy

    def direction(self, point: Point, precondition: Preconditioner) -> Array:
        """Return ``-H g`` in u, of the point that was met last."""
        n, gamma, dtype = self.count, self.gamma, self.S.dtype
        if n == 0:
            return -point.preconditioned
        w = self.R_inverse @ self.Sg
        p = self.R_inverse.T @ (w / np.diagonal(self.R_inverse) + gamma * (self.YPY @ w - self.YPg))
        by_slot = np.empty((2, n), dtype)
        by_slot[:, self.slots] = gamma * w, -p
        direction: Array = precondition(by_slot[0] @ self.Y[:n] - dtype.type(gamma) * point.reduced)
        direction += by_slot[1] @ self.S[:n]
        return direction


def bytes_needed(parameter_bytes: int, n_pairs: int) -> int:
    """Return what heads of so many bytes of parameters take: the pairs, points, a step."""
    return parameter_bytes * (2 * n_pairs + 14)


class Search:
    """A line search for the strong Wolfe conditions, accepting rounding of the objective.

    Where the objective no longer tells points apart, its slope decides (the approximate Wolfe
    condition of Hager and Zhang 2005, "A new conjugate gradient method with guaranteed descent").
    """

    def __init__(
        self, objective: float, slope: float, rounding: float, curvature: float = CURVATURE
    ) -> None:
        self.objective, self.slope, self.curvature = objective, slope, curvature
        self.highest = objective + rounding * abs(objective)
        self.low = (0.0, objective, slope)
        self.high: tuple[float, float, float] | None = None

    def accepts(self, t: float, objective: float, slope: float) -> bool:
        if not abs(slope) <= -self.curvature * self.slope:
            return False
        if objective <= self.objective + DECREASE * t * self.slope:
            return True
        return objective <= self.highest and slope <= (2 * DECREASE - 1) * self.slope

    def next(self, t: float, objective: float, slope: float) -> float:
        """Narrow the bracket by a trial that was not accepted; return the next step."""
        too_high = not objective <= max(
            self.highest, self.objective + DECREASE * t * self.slope
        )  # NaN is too high
        if too_high or slope >= 0:
            self.high = (t, objective, slope)
        else:
            self.low = (t, objective, slope)
        if self.high is None:
            return min(max(2 * t, _cubic(self.low, (0.0, self.objective, self.slope))), 10 * t)
        low, high = self.low[0], self.high[0]
        step, margin = _cubic(self.low, self.high), 0.1 * (high - low)
        if not math.isfinite(step):
            return 0.5 * (low + high)
        return min(max(step, low + margin), high - margin)


def _cubic(a: tuple[float, float, float], b: tuple[float, float, float]) -> float:
    """Return the minimum of the cubic through two (t, objective, slope), or NaN."""
    (ta, fa, sa), (tb, fb, sb) = a, b
    d = sa + sb - 3 * (fa - fb) / (ta - tb)
    square = d * d - sa * sb
    if not 0 <= square < math.inf:
        return math.nan
    root = math.copysign(math.sqrt(square), tb - ta)
    divisor = sb - sa + 2 * root
    return tb - (tb - ta) * (sb + root - d) / divisor if divisor else math.nan


class Descent:
    """Minimises one function; `steps` is the coroutine.

    `trial` is where to evaluate: the driver fills `trial_gradient` and sends the objective. `point`
    is the best point so far, whole at any moment.
    """

    history: History
    exact: bool  # whether `Point.estimate` is by the Hessian itself
    untried: float  # times this it is not too low, if its error stays what it has been
    curvature: float  # the line search ends where this share of the slope is left, or less

    def __init__(self, x: Array) -> None:
        self.trial, self.trial_gradient = x, np.empty_like(x)
        self.rounding = float(np.finfo(x.dtype).eps)
        self.point: Point | None = None
        self.stalled = False

    def start(self, objective: float) -> None:
        """Take the evaluation of the first trial."""
        self.point = self._at_trial(objective)

    def _at_trial(self, objective: float) -> Point:
        raise NotImplementedError

    def steps(self) -> Generator[bool, float, None]:
        """Yield EVALUATE where `trial` is to be evaluated, NEXT after each iteration.

        It ends where no step helps: `stalled`.
        """
        raise NotImplementedError

    def _search(
        self, direction: Array, x: Array, gradient: Array
    ) -> Generator[bool, float, tuple[float | None, float]]:
        """Return (step, objective); the step is None where none is good enough."""
        assert self.point is not None
        self.trial, self.trial_gradient = x, gradient
        start, start_objective = self.point.x, self.point.objective
        slope = float(np.dot(self.point.gradient, direction))
        if slope < 0:
            search = Search(start_objective, slope, self.rounding, self.curvature)
            step = 1.0
            for _ in range(MAX_TRIALS):
                np.multiply(direction, step, out=x)
                np.add(x, start, out=x)
                objective = yield EVALUATE
                slope = float(np.dot(gradient, direction))
                if search.accepts(step, objective, slope):
                    return step, objective
                step = search.next(step, objective, slope)
        return None, start_objective


class Lbfgs(Descent):
    """Preconditioned L-BFGS."""

    exact, untried, curvature = False, 10.0, CURVATURE

    def __init__(self, x: Array, history_size: int, precondition: Preconditioner) -> None:
        super().__init__(x)
        self.precondition = precondition
        self.history = History(history_size, len(x), x.dtype)

    def _at_trial(self, objective: float) -> Point:
        reduced = self.precondition.reduce(self.trial_gradient)
        return Point(
            self.trial, objective, self.trial_gradient, reduced, self.precondition(reduced)
        )

    def restart(self, precondition: Preconditioner) -> None:
        """Go on with another preconditioner in the same coordinates; where `steps` said NEXT."""
        assert self.point is not None
        self.precondition = precondition
        self.history.precondition(precondition)
        self.point = self.point._replace(preconditioned=precondition(self.point.reduced))
        self.history.meet(self.point)

    def take_over(self, other: Lbfgs, change: Penalty, split: int) -> None:
        """Take the history of another function that differs by a penalty; the other loses it."""
        assert self.point is not None
        self.history, other.history = other.history, self.history
        self.history.penalize(change, split, self.precondition)
        self.history.meet(self.point)

    def steps(self) -> Generator[bool, float, None]:
        assert self.point is not None
        x, gradient, direction = (np.empty_like(self.point.x) for _ in range(3))
        while True:
            u = self.history.direction(self.point, self.precondition)
            self.precondition.expand(u, direction)
            step, objective = yield from self._search(direction, x, gradient)
            if step is None:
                if self.history.count == 0:
                    self.stalled = True
                    return
                self.history.clear()
                continue
            old, self.point = self.point, self._at_trial(objective)
            u *= step
            self.history.add(u, old, self.point)
            x, gradient = old.x, old.gradient
            yield NEXT
