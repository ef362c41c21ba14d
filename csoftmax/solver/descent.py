"""A descent of one head as a coroutine: it yields where to evaluate, and is sent the objective.

So a driver can step many heads together and evaluate all their points in one pass over the data.
What every descent shares is here: the point, and the line search.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# Constants of the line search: Nocedal and Wright, "Numerical Optimization" (2006), section 3.1.
# The objective has to fall by at least DECREASE times the step times the slope at the start. After
# MAX_TRIALS steps without one that is accepted the search gives up.
DECREASE = 1e-4
MAX_TRIALS = 25

EVALUATE, NEXT = False, True  # what `Descent.steps` yields


def named(prefix: str, state: dict[str, Array]) -> dict[str, Array]:
    """Return the part of a state whose names begin with a prefix, without it."""
    return {
        name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)
    }


class Point(NamedTuple):
    """Where a head is; replaced as a whole.

    A descent may walk in coordinates u of its own, in which P is an approximate inverse Hessian.
    """

    x: Array
    objective: float
    gradient: Array
    reduced: Array  # the gradient in u
    preconditioned: Array  # P times the reduced gradient

    @property
    def estimate(self) -> float:
        """Return ``g^T P g / 2``, the distance to the optimum if P^-1 were the Hessian."""
        return 0.5 * float(np.dot(self.reduced, self.preconditioned))


class Search:
    """A line search for the strong Wolfe conditions, to which a rise within rounding is no rise.

    Where the objective no longer tells points apart, its slope decides (the approximate Wolfe
    condition of Hager and Zhang 2005, "A new conjugate gradient method with guaranteed descent").
    """

    def __init__(
        self, objective: float, slope: float, rounding: float, most_slope_left: float
    ) -> None:
        self.objective, self.slope, self.most_slope_left = objective, slope, most_slope_left
        self.highest = objective + rounding * abs(objective)  # up to here a rise may be rounding
        self.low = (0.0, objective, slope)
        self.high: tuple[float, float, float] | None = None

    def accepts(self, t: float, objective: float, slope: float) -> bool:
        if not abs(slope) <= -self.most_slope_left * self.slope:
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

    Attributes
    ----------
    trial, trial_gradient : ndarray
        Where to evaluate, and what the driver fills before it sends the objective.
    point : Point or None
        Where the last iteration ended, replaced as a whole; None before `start`.
    stalled : bool
        Whether no step helps any more.
    has_whole_hessian : bool
        Whether `Point.estimate` is by the Hessian itself, not by an approximation.
    margin : float
        `Point.estimate` is multiplied by this before it is believed: its error may yet become
        worse than the worst so far.
    most_slope_left : float
        The line search ends where at most this share of the slope is left.
    rounding : float
        The relative rounding of the float type.
    """

    has_whole_hessian: bool
    margin: float
    point_type: Any = Point
    most_slope_left: float

    def __init__(self, x: Array) -> None:
        self.trial, self.trial_gradient = x, np.empty_like(x)
        self.rounding = float(np.finfo(x.dtype).eps)
        self.point: Any = None
        self.stalled = False

    def start(self, objective: float) -> None:
        """Take the evaluation of the first trial."""
        self.point = self._at_trial(objective)

    def state(self) -> dict[str, Array]:
        """Return all that the next steps depend on, between iterations; nothing before `start`."""
        if self.point is None:
            return {}
        return {name: np.asarray(value) for name, value in self.point._asdict().items()}

    def restore(self, state: dict[str, Array]) -> None:
        """Set what `state` returned; `steps` then goes on from there, to the same bits."""
        values = [np.array(state[name]) for name in self.point_type._fields]  # writable
        self.point = self.point_type(*(v if v.ndim else float(v) for v in values))

    def metric(self) -> Callable[[Array], float]:
        """Return a function that makes ``g^T P g`` of a gradient, P as it is at the point."""
        raise NotImplementedError

    def _at_trial(self, objective: float) -> Any:
        raise NotImplementedError

    def steps(self) -> Generator[bool, float, None]:
        """Yield EVALUATE where `trial` is to be evaluated, NEXT after each iteration.

        It ends where no step helps: `stalled`.
        """
        raise NotImplementedError

    def _slope(self, gradient: Array, direction: Array) -> float:
        return float(np.dot(gradient, direction))

    def _go(self, start: Array, direction: Array, step: float, x: Array) -> None:
        """Set x to ``start + step * direction``."""
        np.multiply(direction, step, out=x)
        np.add(x, start, out=x)

    def _search(
        self, direction: Array, x: Array, gradient: Array, slope: float | None = None
    ) -> Generator[bool, float, tuple[float | None, float]]:
        """Return (step, objective); the step is None where none is good enough.

        `slope` is the one at the start, if that is known.
        """
        assert self.point is not None
        self.trial, self.trial_gradient = x, gradient
        start, start_objective = self.point.x, self.point.objective
        if slope is None:
            slope = self._slope(self.point.gradient, direction)
        if slope < 0:
            search = Search(start_objective, slope, self.rounding, self.most_slope_left)
            step = 1.0
            for _ in range(MAX_TRIALS):
                self._go(start, direction, step, x)
                objective = yield EVALUATE
                slope = self._slope(gradient, direction)
                if search.accepts(step, objective, slope):
                    return step, objective
                step = search.next(step, objective, slope)
        return None, start_objective
