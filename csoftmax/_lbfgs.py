"""L-BFGS of one head as a coroutine: it yields where to evaluate, and is sent the objective.

So a driver can step many heads together and evaluate all their points in one pass over the data.

The matrix of the quasi-Newton method is kept in compact form (Byrd, Nocedal and Schnabel 1994,
"Representations of quasi-Newton matrices"), with the steps s and z = P y, where P is the
preconditioner (an approximate inverse Hessian) and y the change of the gradient:

    H g = gamma P g + S p - gamma Z w,    w = R^-1 S^T g,
    p = R^-T ((D + gamma Y^T Z) w - gamma Z^T g),

R being the upper triangle of S^T Y and D its diagonal. Keeping Z instead of Y, an iteration applies
P once, to the new gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Preconditioner = Callable[[Array, Array], None]

# Constants of the line search: Nocedal and Wright, "Numerical Optimization" (2006), section 3.1.
DECREASE = 1e-4
CURVATURE = 0.9
MAX_TRIALS = 25

BATCH_BYTES = 1 << 22  # of vectors that are preconditioned together

EVALUATE, NEXT = False, True  # what `Lbfgs.steps` yields


class Point(NamedTuple):
    """Where a head is: parameters, objective, gradient, P gradient; replaced as a whole."""

    x: Array
    objective: float
    gradient: Array
    preconditioned: Array

    @property
    def estimate(self) -> float:
        """Return ``g^T P g / 2``, the distance to the optimum if P^-1 were the Hessian."""
        return 0.5 * float(np.dot(self.gradient, self.preconditioned))


class History:
    """The last pairs of steps and gradient changes, in compact form."""

    def __init__(self, size: int, n_parameters: int, dtype: np.dtype[Any]) -> None:
        self.size = size
        self.pairs = np.zeros((size, 2, n_parameters), dtype)  # (s, z) by slot
        self.changes = np.zeros((size, n_parameters), dtype)  # y
        self.clear()

    def clear(self) -> None:
        self.count = self.next = 0
        self.slots = np.zeros(0, np.intp)  # oldest first, as the small matrices
        self.R_inverse, self.YZ, self.gamma = np.zeros((0, 0)), np.zeros((0, 0)), 1.0

    def precondition(self, precondition: Preconditioner) -> None:
        """Go over to another preconditioner: every z changes, and what follows from them."""
        n = self.count
        step = max(1, BATCH_BYTES // max(1, self.changes[:1].nbytes))
        for begin in range(0, n, step):
            some = slice(begin, min(begin + step, n))
            precondition(self.changes[some], self.pairs[some, 1])
        YZ = (self.changes[:n] @ self.pairs[:n, 1].T)[self.slots][:, self.slots].astype(np.float64)
        self.YZ = 0.5 * (YZ + YZ.T)
        if n:
            self.gamma = float(1 / (self.R_inverse[-1, -1] * self.YZ[-1, -1]))

    def penalize(self, change: float, split: int, precondition: Preconditioner) -> None:
        """Go over to a function with another penalty, ``change / 2`` times the square of x[:split].

        Each y changes by what the penalty adds to the gradient. If rounding has eaten a curvature,
        the history is of no use any more.
        """
        n = self.count
        self.changes[:n, :split] += self.changes.dtype.type(change) * self.pairs[:n, 0, :split]
        SY = (self.pairs[:n, 0] @ self.changes[:n].T)[self.slots][:, self.slots].astype(np.float64)
        if not (np.diagonal(SY) > 0).all():
            self.clear()
            return
        self.R_inverse = np.linalg.inv(np.triu(SY))
        self.precondition(precondition)
        if not (np.isfinite(self.R_inverse).all() and (np.diagonal(self.YZ) > 0).all()):
            self.clear()

    def _products(self, v: Array) -> tuple[Array, Array]:
        """Return S^T v and Z^T v, oldest first."""
        n = self.count
        products = (self.pairs[:n].reshape(2 * n, -1) @ v).reshape(n, 2)[self.slots]
        return products[:, 0].astype(np.float64), products[:, 1].astype(np.float64)

    def add(self, s: Array, y: Array, z: Array) -> bool:
        """Take a pair in, dropping the oldest; False if rounding has eaten its curvature."""
        sy, yz = float(np.dot(s, y)), float(np.dot(y, z))
        if not (sy > 0 and yz > 0 and sy * sy > 1e-14 * yz * float(np.dot(s, s))):
            return False
        if self.count == self.size:
            self.slots = self.slots[1:]
            self.R_inverse, self.YZ = self.R_inverse[1:, 1:], self.YZ[1:, 1:]
            slot = self.next
        else:
            slot = self.count
            self.count += 1
        self.pairs[slot, 0], self.pairs[slot, 1], self.changes[slot] = s, z, y
        self.next = (slot + 1) % self.size
        self.slots = np.append(self.slots, slot)
        # the products with the pair itself are in these too
        n = self.count
        products = (self.pairs[:n].reshape(2 * n, -1) @ y).reshape(n, 2)[self.slots]
        Sy, Zy = products[:, 0].astype(np.float64), products[:, 1].astype(np.float64)
        R_inverse, YZ = np.zeros((n, n)), np.empty((n, n))
        R_inverse[:-1, :-1], YZ[:-1, :-1] = self.R_inverse, self.YZ
        R_inverse[:-1, -1] = self.R_inverse @ Sy[:-1] / -Sy[-1]
        R_inverse[-1, -1] = 1 / Sy[-1]
        YZ[-1], YZ[:, -1] = Zy, Zy
        self.R_inverse, self.YZ, self.gamma = R_inverse, YZ, float(Sy[-1] / Zy[-1])
        return True

    def direction(self, point: Point, out: Array) -> None:
        """Set out to ``-H g``."""
        gamma = self.gamma
        np.multiply(point.preconditioned, -gamma, out=out)
        n = self.count
        if n == 0:
            return
        Sg, Zg = self._products(point.gradient)
        w = self.R_inverse @ Sg
        p = self.R_inverse.T @ (w / np.diagonal(self.R_inverse) + gamma * (self.YZ @ w - Zg))
        coefficients = np.empty((n, 2))
        coefficients[self.slots, 0], coefficients[self.slots, 1] = -p, gamma * w
        out += coefficients.astype(out.dtype).reshape(-1) @ self.pairs[:n].reshape(2 * n, -1)


class Search:
    """A line search for the strong Wolfe conditions, accepting rounding of the objective.

    Where the objective no longer tells points apart, its slope decides (the approximate Wolfe
    condition of Hager and Zhang 2005, "A new conjugate gradient method with guaranteed descent").
    """

    def __init__(self, objective: float, slope: float, rounding: float) -> None:
        self.objective, self.slope = objective, slope
        self.highest = objective + rounding * abs(objective)
        self.low = (0.0, objective, slope)
        self.high: tuple[float, float, float] | None = None

    def accepts(self, t: float, objective: float, slope: float) -> bool:
        if not abs(slope) <= -CURVATURE * self.slope:
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


class Lbfgs:
    """Minimises one function; `steps` is the coroutine.

    `trial` is where to evaluate: the driver fills `trial_gradient` and sends the objective. `point`
    is the best point so far, whole at any moment.
    """

    def __init__(self, x: Array, history_size: int, precondition: Preconditioner) -> None:
        self.precondition = precondition
        self.trial, self.trial_gradient = x, np.empty_like(x)
        self.history = History(history_size, len(x), x.dtype)
        self.rounding = float(np.finfo(x.dtype).eps)
        self.point: Point | None = None
        self.stalled = False

    def start(self, objective: float) -> None:
        """Take the evaluation of the first trial."""
        preconditioned = np.empty_like(self.trial)
        self.precondition(self.trial_gradient, preconditioned)
        self.point = Point(self.trial, objective, self.trial_gradient, preconditioned)

    def restart(self, precondition: Preconditioner) -> None:
        """Go on from the same point with another preconditioner; only where `steps` said NEXT."""
        assert self.point is not None
        self.precondition = precondition
        self.history.precondition(precondition)
        preconditioned = np.empty_like(self.point.x)
        precondition(self.point.gradient, preconditioned)
        self.point = self.point._replace(preconditioned=preconditioned)

    def take_over(self, other: Lbfgs, change: float, split: int) -> None:
        """Take the history of another function that differs by a penalty; the other loses it."""
        self.history, other.history = other.history, self.history
        self.history.penalize(change, split, self.precondition)

    def steps(self) -> Generator[bool, float, None]:
        """Yield EVALUATE where `trial` is to be evaluated, NEXT after each iteration.

        It ends where no step helps: `stalled`.
        """
        assert self.point is not None
        spare = [np.empty_like(self.point.x) for _ in range(4)]
        while True:
            direction = spare[3]
            self.history.direction(self.point, direction)
            step, objective = yield from self._search(direction, *spare[:2])
            if step is None:
                if self.history.count == 0:
                    self.stalled = True
                    return
                self.history.clear()
                continue
            x, gradient, preconditioned = spare[:3]
            old = self.point
            self.precondition(gradient, preconditioned)
            self.point = Point(x, objective, gradient, preconditioned)
            np.subtract(gradient, old.gradient, out=old.gradient)
            np.subtract(preconditioned, old.preconditioned, out=old.preconditioned)
            np.multiply(direction, step, out=direction)
            self.history.add(direction, old.gradient, old.preconditioned)
            spare = [old.x, old.gradient, old.preconditioned, direction]
            yield NEXT

    def _search(
        self, direction: Array, x: Array, gradient: Array
    ) -> Generator[bool, float, tuple[float | None, float]]:
        """Return (step, objective); the step is None where none is good enough."""
        assert self.point is not None
        self.trial, self.trial_gradient = x, gradient
        start, start_objective = self.point.x, self.point.objective
        slope = float(np.dot(self.point.gradient, direction))
        if slope < 0:
            search, step = Search(start_objective, slope, self.rounding), 1.0
            for _ in range(MAX_TRIALS):
                np.multiply(direction, step, out=x)
                np.add(x, start, out=x)
                objective = yield EVALUATE
                slope = float(np.dot(gradient, direction))
                if search.accepts(step, objective, slope):
                    return step, objective
                step = search.next(step, objective, slope)
        return None, start_objective
