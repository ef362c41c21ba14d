"""Heads on their way to their optima, stepped together: one pass evaluates all that are running."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax._lbfgs import NEXT, Lbfgs, Point
from csoftmax._precondition import AtNull, AtWeights, Sample
from csoftmax._problem import Problem

Array = NDArray[Any]

# Iterations at which the preconditioner is computed anew: the next after GROWTH times as many.
FIRST_REFRESH = 8
REFRESH = 20
GROWTH = 2.5
# Where there are so many rows for one in the sample, a cold start is made on the sample.
COARSE_RATIO = 4
COARSE_ITERATIONS = 20
# Before there are iterations to extrapolate, the Hessian's estimate is taken times so much.
UNTRIED = 10.0


@dataclass(frozen=True)
class Settings:
    tol: float
    max_iter: int
    history_size: int
    preconditioner: str | None


class Head:
    """One head: its L-BFGS, and what is reported of it. Until it starts, it is its null model."""

    def __init__(self, problem: Problem, index: int) -> None:
        self.index = index
        x, objective, gradient = problem.null_point(index)
        self._null = Point(x, objective, gradient, np.zeros_like(gradient))
        self.state: Lbfgs | None = None
        self.steps: Generator[bool, float, None] | None = None
        self.passes, self.iterations, self.refresh_at = 1, 0, 0
        self.estimate = math.inf
        self.converged = self.stalled = False
        self.trace: list[tuple[float, float]] = []  # loss and ||W||^2 after each iteration
        self.inherited = 0  # of these, from heads before this one along a path
        self.history: dict[str, list[float]] = {
            name: [] for name in ("passes", "objective", "estimate", "gradient_max", "seconds")
        }

    @property
    def point(self) -> Point:
        started = self.state is not None and self.state.point is not None
        return self.state.point if started else self._null  # type: ignore[union-attr, return-value]

    def distance(self) -> float:
        """Return the estimate relative to the objective."""
        objective = abs(self.point.objective)
        return self.estimate / objective if objective else math.inf * (self.estimate > 0)

    def note(self, problem: Problem, tol: float, seconds: float) -> None:
        """Record an iteration, and see whether the head is near enough."""
        point, lam = self.point, float(problem.lam[self.index])
        penalty = problem.penalty(self.index, point.x)
        self.trace.append((point.objective - penalty, 2 * penalty / lam if lam else 0.0))
        self.estimate = max(point.estimate, self._extrapolated(point, lam))
        near = tol * abs(point.objective)
        self.converged = self.estimate <= near
        if not self.converged and point.estimate <= near:
            lower = problem.lower_bound(self.index, point.x, point.objective, point.gradient)
            self.estimate = max(point.estimate, min(self.estimate, point.objective - lower))
            self.converged = self.estimate <= near
        for name, value in (
            ("passes", self.passes),
            ("objective", point.objective),
            ("estimate", self.estimate),
            ("gradient_max", float(np.abs(point.gradient).max(initial=0.0))),
            ("seconds", seconds),
        ):
            self.history[name].append(value)

    def _extrapolated(self, point: Point, lam: float) -> float:
        """Return what is left if the decrease goes on as over the last half of the iterations.

        The Hessian's own estimate knows nothing of what couples the classes, and can be a twentieth
        of the distance. A head along a path begins near its optimum, where few steps of its own say
        too little, and those of the heads before it, with the objective of this one, too much: the
        geometric mean.
        """
        objectives = [loss + 0.5 * lam * square for loss, square in self.trace[self.inherited :]]
        own = _left_of_series(objectives)
        if own is None:
            own = UNTRIED * point.estimate
        if not self.inherited:
            return own
        objectives = [loss + 0.5 * lam * square for loss, square in self.trace]
        return math.sqrt(own * (_left_of_series(objectives) or 0.0))

    def passes_to_go(self, tol: float) -> int | None:
        """Extrapolate the decay of the estimate over the second half of the way."""
        passes, estimates = self.history["passes"], self.history["estimate"]
        middle, target = len(passes) // 2, tol * abs(self.point.objective)
        if len(passes) - middle < 3 or not 0 < estimates[-1] < estimates[middle] or target <= 0:
            return None
        rate = math.log(estimates[middle] / estimates[-1]) / (passes[-1] - passes[middle])
        return math.ceil(max(0.0, math.log(estimates[-1] / target)) / rate)


def _left_of_series(objectives: list[float]) -> float | None:
    """Return the rest of a geometric series with the decreases of the last two quarters."""
    last = len(objectives) - 1
    width = max(3, last // 4)
    if last < 2 * width:
        return None
    first, middle, now = (objectives[i] for i in (last - 2 * width, last - width, last))
    if not middle > now:
        return 0.0
    ratio = min((middle - now) / (first - middle), 0.98) if first > middle else 0.98
    return (middle - now) * ratio / (1 - ratio)


class Walk:
    """The heads of a problem, from their starting points until all have stopped."""

    def __init__(
        self,
        problem: Problem,
        settings: Settings,
        started: float,
        starts: list[Array] | None = None,
        path: bool = False,
        samples: dict[int, Sample] | None = None,
    ) -> None:
        self.problem, self.settings, self.started = problem, settings, started
        self.heads = [Head(problem, h) for h in range(problem.n_heads)]
        self.running: list[Head] = []
        self.stopped = False
        self.starts = starts
        self.samples = {} if samples is None else samples
        self.refresh = REFRESH
        # a head waits for the one before it: along a path, that of the next smaller C
        self.after: dict[int, Head] = {}
        self.first = list(self.heads)
        if path:
            order = sorted(self.heads, key=lambda head: float(problem.C[head.index]))
            last: dict[int, Head] = {}
            for head in order:
                r = int(problem.weight_of_head[head.index])
                if r in last:
                    self.after[last[r].index] = head
                    self.first.remove(head)
                last[r] = head

    def run(self, report: Callable[[Walk], bool] | None = None) -> None:
        starts = self.starts
        if starts is None:
            starts = self._coarse_starts()
        for head in self.first:
            x = starts[head.index]
            self._start(head, head.point.x.copy() if x is None else x)
        while self.running:
            states = [head.state for head in self.running]
            objectives = self.problem.evaluate(
                [head.index for head in self.running],
                [state.trial for state in states],  # type: ignore[union-attr]
                [state.trial_gradient for state in states],  # type: ignore[union-attr]
            )
            before, self.running = self.running, []
            for head, objective in zip(before, objectives, strict=True):
                head.passes += 1
                if self._advance(head, objective):
                    self.running.append(head)
                elif head.index in self.after:
                    follower = self.after[head.index]
                    follower.trace, follower.inherited = head.trace.copy(), len(head.trace)
                    self._start(follower, head.point.x.copy())
            if report is not None and report(self):
                self.stopped = True
                return

    def _start(self, head: Head, x: Array) -> None:
        sample = self._sample(int(self.problem.weight_of_head[head.index]))
        lam = float(self.problem.lam[head.index])
        if x[: self.problem.split].any() and self.settings.preconditioner is not None:
            precondition: Any = AtWeights(sample, x, lam)
            head.refresh_at = self.refresh
        else:
            precondition = AtNull(sample, lam)
            head.refresh_at = FIRST_REFRESH
        head.state = Lbfgs(x, self.settings.history_size, precondition)
        self.running.append(head)

    def _sample(self, r: int) -> Sample:
        if r not in self.samples:
            self.samples[r] = Sample(self.problem, r, self.settings.preconditioner)
        return self.samples[r]

    def _advance(self, head: Head, objective: float) -> bool:
        """Give a head its objective; True if it wants another evaluation."""
        state = head.state
        assert state is not None
        if state.point is None:
            state.start(objective)
            head.steps = state.steps()
        else:
            assert head.steps is not None
            try:
                if head.steps.send(objective) is not NEXT:
                    return True
            except StopIteration:
                head.stalled = True
                return False
            head.iterations += 1
        head.note(self.problem, self.settings.tol, time.perf_counter() - self.started)
        if head.converged or head.iterations >= self.settings.max_iter:
            return False
        if head.iterations >= head.refresh_at and self.settings.preconditioner is not None:
            sample = self._sample(int(self.problem.weight_of_head[head.index]))
            lam = float(self.problem.lam[head.index])
            state.restart(AtWeights(sample, state.point.x, lam))  # type: ignore[union-attr]
            head.refresh_at = max(self.refresh, int(head.refresh_at * GROWTH))
        try:
            next(head.steps)
        except StopIteration:
            head.stalled = True
            return False
        return True

    def _coarse_starts(self) -> list[Array | None]:
        """Minimise over the samples first, where they are small against all rows."""
        problem, settings = self.problem, self.settings
        starts: list[Array | None] = [None] * problem.n_heads
        for r in sorted({int(problem.weight_of_head[head.index]) for head in self.first}):
            sample = self._sample(r)
            if settings.preconditioner is None or COARSE_RATIO * len(sample.y) > problem.n_rows:
                continue
            heads = [head for head in self.first if problem.weight_of_head[head.index] == r]
            coarse = Problem(
                sample.X, sample.y, problem.n_classes,
                C=problem.C[[head.index for head in heads]], scale=problem.scale,
                weights=None if sample.weight is None else sample.weight[None],
                weight_of_head=np.zeros(len(heads), np.int64),
                fit_intercept=problem.fit_intercept, n_threads=problem.threads,
            )  # fmt: skip
            own = sample.on(coarse)
            limits = replace(settings, max_iter=min(COARSE_ITERATIONS, settings.max_iter))
            walk = Walk(coarse, limits, self.started, [None] * len(heads), samples={0: own})
            walk.refresh = COARSE_ITERATIONS
            walk.run()
            for head, rough in zip(heads, walk.heads, strict=True):
                starts[head.index] = _carried_over(problem, head.index, coarse, rough.point.x)
        return starts


def _carried_over(problem: Problem, head: int, coarse: Problem, x: Array) -> Array:
    """Return a point of the coarse problem, with a bias for classes that its rows have not."""
    x = x.copy()
    present = problem.shares[problem.weight_of_head[head]] > 0
    missing = present & (coarse.shares[0] == 0)
    if missing.any():
        _, b = problem.parameters(x)
        b[missing] = b[coarse.shares[0] > 0].min() - 2
        b[present] -= b[present].mean()
    return x
