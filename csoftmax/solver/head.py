"""One head on its way to its optimum: how far it is from it, and whether that is near enough."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.solver.bound import least_bound, lower_bound
from csoftmax.solver.hessians import Curvature
from csoftmax.solver.lbfgs import Descent, Point
from csoftmax.solver.problem import Problem

Array = NDArray[Any]

# The last iterations that are extrapolated: from so many of all to all, for each.
WINDOWS = 0.7, 0.8
MOST_RATIO = 0.98  # of the gains of two windows
# Near to the optimum, a steep gradient is forgiven after so many iterations and this share more, or
# at such a share of tol.
PATIENCE, MORE, FORGIVEN = 5, 0.1, 0.01
# A strong penalty leaves little to gain over the null model, and a distance that is small against
# the objective can be all of it. At most this share of the gain may be left, as the direction of W
# depends on it; less than the objective's rounding cannot be told.
UNGAINED = 0.01


@dataclass(frozen=True)
class Settings:
    tol: float
    gradient_tol: float
    max_iter: int
    history_size: int
    preconditioner: str | None
    least_nats: float = 0.0


class Head:
    """One head: its descent, and what is reported of it. Until it starts, it is its null model."""

    def __init__(self, problem: Problem, index: int, least_nats: float) -> None:
        self.index, self.penalty = index, problem.penalties[index]
        x, objective, gradient = problem.null_point(index)
        self._null = Point(x, objective, gradient, gradient, np.zeros_like(gradient))
        r = int(problem.weight_of_head[index])
        self.null_loss = float(problem.null_loss[r])
        # the distance is compared with the objective, or with this where the objective is less
        self.yardstick = min(self.null_loss, least_nats / problem.n_counting[r])
        self.state: Descent | None = None
        self.steps: Generator[bool, float, None] | None = None
        self.origin: Array | None = None  # where the preconditioner was computed: None, W = 0
        self.curvature: Curvature | None = None  # there
        self.age = 0  # iterations since, of this head and those before it along a path
        self.passes, self.iterations, self.refresh_at = problem.n_passes, 0, 0
        self.estimate = math.inf
        self.converged = self.stalled = False
        # after each iteration: the loss, the penalty over its strength, the Hessian's own estimate
        self.trace = np.empty((0, 3))
        self.factor = 1.0  # that was left at some iteration by what the Hessian said, at least
        # where it may start without an evaluation: x, objective, gradient
        self.at_least: tuple[Array, float, Array] | None = None
        self.inherited = 0  # of these, from heads before this one along a path
        self.history: dict[str, list[float]] = {
            name: [] for name in ("passes", "objective", "estimate", "gradient_max", "seconds")
        }

    @property
    def point(self) -> Point:
        started = self.state is not None and self.state.point is not None
        return self.state.point if started else self._null  # type: ignore[union-attr, return-value]

    def distance(self) -> float:
        """Return the estimate relative to what it is held against: what `tol` is compared with."""
        against = max(abs(self.point.objective), self.yardstick)
        return self.estimate / against if against else math.inf if self.estimate > 0 else 0.0

    def above_optimum(self) -> float:
        """Return the estimate relative to the objective."""
        objective = abs(self.point.objective)
        return self.estimate / objective if objective else 0.0

    def see_whether_near(self, problem: Problem, settings: Settings) -> None:
        """Set `converged`; a steep gradient is forgiven where it would take long to go down."""
        distance, tol, point = self.distance(), settings.tol, self.point
        self.gradient_max = problem.largest(point.gradient)
        least = UNGAINED * max(
            self.null_loss - point.objective, problem.penalty_at(self.index, point.x)
        )
        rounding = float(np.finfo(point.x.dtype).eps) * abs(point.objective)
        self.converged = (
            distance <= tol
            and (self.iterations > 0 or not point.reduced.any())
            and self.estimate <= max(least, rounding)
            and (
                self.gradient_max <= settings.gradient_tol
                or distance <= FORGIVEN * tol
                or self.iterations >= (1 + MORE) * self._first_near(tol) + PATIENCE
            )
        )

    def _first_near(self, tol: float) -> int:
        """Return the first iteration that ended as near as tol; the next one if none has."""
        told = zip(self.history["estimate"], self.history["objective"], strict=True)
        near = (
            i
            for i, (estimate, objective) in enumerate(told)
            if estimate <= tol * max(objective, self.yardstick)
        )
        return next(near, self.iterations)

    def note(self, problem: Problem, settings: Settings, seconds: float) -> None:
        """Record an iteration, and see whether the head is near enough."""
        point, strength = self.point, self.penalty.strength
        penalty = problem.penalty_at(self.index, point.x)
        of_strength_1 = penalty / strength if strength else 0.0
        loss = point.objective - penalty
        self.trace = np.concatenate([self.trace, [(loss, of_strength_1, point.estimate)]])
        self.estimate = max(point.estimate, self._extrapolated(point, settings), 0.0)
        self.estimate = min(self.estimate, abs(point.objective))  # the optimum is not below 0
        self.see_whether_near(problem, settings)
        exact = self.state is not None and self.state.exact
        if (
            not (self.converged or exact)
            and least_bound(problem, self.index, point.gradient) < self.estimate
        ):
            lower = lower_bound(problem, self.index, point.x, point.objective, point.gradient)
            self.estimate = max(point.estimate, min(self.estimate, point.objective - lower))
            self.see_whether_near(problem, settings)
        for name, value in (
            ("passes", self.passes),
            ("objective", point.objective),
            ("estimate", self.estimate),
            ("gradient_max", self.gradient_max),
            ("seconds", seconds),
        ):
            self.history[name].append(value)

    def _extrapolated(self, point: Point, settings: Settings) -> float:
        """Return what is left if the decrease goes on as it has.

        The Hessian's own estimate knows nothing of what couples the classes, and can be a hundredth
        of the distance where C is large. A head along a path begins where the heads before it have
        ended, and with what they have left: all their iterations count, with the objective of this
        head. Where C is small that says too much, but there the Hessian's estimate is good: what
        has been gained since an iteration tells how wrong it was then, at least. Without a
        preconditioner there is no such estimate, and the head's own iterations have to do.
        """
        assert self.state is not None
        objectives = self.trace[:, 0] + self.penalty.strength * self.trace[:, 1]
        first, last = self.inherited, len(objectives) - 1
        gained, said = objectives[first:last] - objectives[last], self.trace[first:last, 2]
        if (said > 0).any():
            ratios = gained[said > 0] / said[said > 0]
            self.factor = max(self.factor, float(ratios.max()))
        if self.state.exact:
            return self.state.untried * self.factor * point.estimate
        left = _left(objectives, 0)
        if settings.preconditioner is None:
            return max(_left(objectives, first), left)
        return min(self.state.untried * self.factor * point.estimate, left)

    def passes_to_go(self, tol: float) -> int | None:
        """Extrapolate the decay of the estimate over the second half of the way."""
        passes, estimates = self.history["passes"], self.history["estimate"]
        middle = len(passes) // 2
        target = tol * max(abs(self.point.objective), self.yardstick)
        if len(passes) - middle < 3 or not 0 < estimates[-1] < estimates[middle] or target <= 0:
            return None
        rate = math.log(estimates[middle] / estimates[-1]) / (passes[-1] - passes[middle])
        return math.ceil(max(0.0, math.log(estimates[-1] / target)) / rate)


def _left(objectives: Array, start: int) -> float:
    """Return what is left of a decrease with a power of the iterations; inf if these are too few.

    Decreases of a geometric series, as well conditioned problems have, are overestimated: their
    ratio is small, and with it the error. Ill-conditioned problems slow down as powers do.
    """
    rest, last = -math.inf, len(objectives) - 1
    for window in WINDOWS:
        middle, first = (start + int(share * (last - start)) for share in (window, window**2))
        if last - middle < 2 or middle - first < 2:
            continue
        before, gained = objectives[first] - objectives[middle], objectives[middle] - objectives[-1]
        ratio = min(gained / before, MOST_RATIO) if before > 0 else MOST_RATIO
        rest = max(rest, float(gained * ratio / (1 - ratio)))
    return rest if rest > -math.inf else math.inf
