"""Heads on their way to their optima, stepped together: one pass evaluates all that are running."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.solver import newton
from csoftmax.solver.head import Head, Settings
from csoftmax.solver.hessians import AtNull, AtWeights, Curvature
from csoftmax.solver.lbfgs import NEXT, Descent, Lbfgs, Point
from csoftmax.solver.problem import Problem
from csoftmax.solver.sample import Sample

Array = NDArray[Any]

_blas: Any = None

# Iterations at which the preconditioner is computed anew: the next after GROWTH times as many.
FIRST_REFRESH = 8
REFRESH = 20
GROWTH = 2.5
# Along a path, a curvature that has not served so many iterations serves the next head too.
KEEP = 8
# Where there are so many rows for one in the sample, a cold start is made on the sample.
COARSE_RATIO = 4
COARSE_ITERATIONS = 20


def one_blas_thread() -> AbstractContextManager[object]:
    """Hold BLAS to one thread: its others spin after a product, on the CPUs of the next pass."""
    global _blas
    if _blas is None:
        from threadpoolctl import ThreadpoolController

        _blas = ThreadpoolController()
    held: AbstractContextManager[object] = _blas.limit(limits=1, user_api="blas")
    return held


class Walk:
    """The heads of a problem, from their starting points until all have stopped.

    Along a path, a head waits for the one of the next smaller C with the same row weights, and
    starts where the path leads; otherwise all run at once.
    """

    def __init__(
        self,
        problem: Problem,
        settings: Settings,
        started: float,
        starts: Sequence[Array] | None = None,
        path: bool = False,
    ) -> None:
        self.problem, self.settings, self.started = problem, settings, started
        self.starts, self.is_path = starts, path
        self.heads = [Head(problem, h, settings.least_nats) for h in range(problem.n_heads)]
        self.running: list[Head] = []
        self.stopped = False  # by the report
        self.changing = True  # False while X is passed over: the heads are then as they were
        self.samples: dict[int, Sample] = {}
        self.is_small = settings.preconditioner == "auto" and newton.suits(
            problem.n_rows, problem.n_features, problem.n_classes
        )
        self.small: dict[int, newton.SmallProblem] = {}
        self.refresh = REFRESH
        self.before: dict[int, Head] = {}
        if path:
            last: dict[int, Head] = {}
            for head in sorted(self.heads, key=lambda head: float(problem.C[head.index])):
                r = self._weights_of(head)
                if r in last:
                    self.before[head.index] = last[r]
                last[r] = head

    def _weights_of(self, head: Head) -> int:
        return int(self.problem.weight_of_head[head.index])

    def run(self, report: Callable[[Walk], bool] | None = None) -> None:
        """Go on until every head has stopped, or `report` says so after a pass."""
        with one_blas_thread():
            self._begin()
            self._run(report)

    def _run(self, report: Callable[[Walk], bool] | None) -> None:
        while self.running:
            states = [head.state for head in self.running if head.state is not None]
            self.changing = False
            objectives = self.problem.evaluate(
                [head.index for head in self.running],
                [state.trial for state in states],
                [state.trial_gradient for state in states],
            )
            self.changing = True
            evaluated, self.running = self.running, []
            for head, objective in zip(evaluated, objectives, strict=True):
                head.passes += 1
                if self._advance(head, objective):
                    self.running.append(head)
                else:
                    self._start_followers(head)
            if report is not None and report(self):
                self.stopped = True
                return

    def _begin(self) -> None:
        """Start the heads that wait for none, and go on with those of a checkpoint."""
        fresh = [h for h in self.heads if h.state is None and h.index not in self.before]
        starts = self._coarse_starts(fresh) if self.starts is None else self.starts
        for head in fresh:
            self._start(head, starts[head.index])
        for head in self.heads:
            if head.steps is not None and self._goes_on(head) and self._to_next_trial(head):
                self.running.append(head)
        for head in list(self.heads):
            if head.steps is not None and head not in self.running:
                self._start_followers(head)

    def _goes_on(self, head: Head) -> bool:
        limits = self.settings
        head.see_whether_near(self.problem, limits)
        return not (head.converged or head.stalled or head.iterations >= limits.max_iter)

    def _start_followers(self, head: Head) -> None:
        for follower in self.heads:
            if self.before.get(follower.index) is head and follower.state is None:
                follower.trace, follower.inherited = head.trace.copy(), len(head.trace)
                follower.factor = head.factor
                follower.at_least = self._moved(follower, head.point)
                self._start(follower, self._predicted(follower, head))

    def _predicted(self, follower: Head, head: Head) -> Array:
        """Return where a path leads, by the last two of its points: a line in log C.

        It saves a third of the passes of a sweep, and more where the optimum is hard to come by.
        """
        x: Array = head.point.x.copy()
        before = self.before.get(head.index)
        if before is not None:
            C = [float(self.problem.C[h.index]) for h in (before, head, follower)]
            if C[0] < C[1] and C[2] < math.inf:
                ahead = math.log(C[2] / C[1]) / math.log(C[1] / C[0])
                x += x.dtype.type(min(ahead, 1.0)) * (x - before.point.x)
        return x

    def _moved(self, follower: Head, point: Point) -> tuple[Array, float, Array]:
        """Return the point of a head of another C: only the penalty differs."""
        new, old = follower.penalty, self.before[follower.index].penalty
        W, gradient = point.x[: self.problem.split], point.gradient.copy()
        objective = point.objective - old.value(W) + new.value(W)
        new.smooth_change_from(old).add_gradient(W, gradient[: self.problem.split])
        return point.x.copy(), objective, gradient

    def _hand_over(self, head: Head) -> None:
        """Give a head the history of the one before it along a path: only the penalty differs.

        It saves half of the passes of a sweep, and more with a longer history.
        """
        before = self.before.get(head.index)
        if before is None or not isinstance(before.state, Lbfgs):
            return
        state = before.state
        assert isinstance(head.state, Lbfgs)
        if state.precondition.reduce == head.state.precondition.reduce:
            change = head.penalty.smooth_change_from(before.penalty)
            head.state.take_over(state, change, self.problem.split)

    def _start(self, head: Head, x: Array) -> None:
        if self.is_small:
            head.state = self.descent(head, x)
            self.running.append(head)
            return
        at_null = not x[: self.problem.split].any() or self.settings.preconditioner is None
        before = self.before.get(head.index)
        if before is not None and before.age < KEEP and self._shares_sample(before, head):
            head.origin, head.curvature, head.age = before.origin, before.curvature, before.age
        elif not at_null:
            head.origin = x.copy()
        head.refresh_at = FIRST_REFRESH if head.origin is None else self.refresh
        head.state = self.descent(head, x)
        self.running.append(head)

    def descent(self, head: Head, x: Array) -> Descent:
        """Return what steps a head from x on."""
        if not self.is_small:
            return Lbfgs(x, self.settings.history_size, self.preconditioner(head))
        r = self._weights_of(head)
        if r not in self.small:
            self.small[r] = newton.SmallProblem(self.problem, r)
        return newton.Newton(x, self.small[r], head.penalty)

    def _shares_sample(self, a: Head, b: Head) -> bool:
        """Say whether a curvature of one head serves the other: in the same directions."""
        sample = self.samples[self._weights_of(a)]
        return sample.for_penalty(a.penalty) is sample.for_penalty(b.penalty)

    def preconditioner(self, head: Head) -> AtNull | AtWeights:
        """Return the approximate inverse Hessian at the head's origin."""
        r = self._weights_of(head)
        if r not in self.samples:
            self.samples[r] = Sample(self.problem, r, self.settings.preconditioner)
        sample = self.samples[r].for_penalty(head.penalty)
        if head.origin is None:
            return AtNull(sample, head.penalty)
        if head.curvature is None or head.curvature.sample is not sample:
            head.curvature = Curvature(sample, head.origin)
        return AtWeights(head.curvature, head.penalty)

    def _advance(self, head: Head, objective: float) -> bool:
        """Give a head its objective; True if it wants another evaluation."""
        state = head.state
        assert state is not None
        if state.point is None:
            if head.at_least is not None and not objective <= head.at_least[1]:
                state.trial, objective, state.trial_gradient = head.at_least
            head.at_least = None
            state.start(objective)
            self._hand_over(head)
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
            head.age += 1
        head.note(self.problem, self.settings, time.perf_counter() - self.started)
        if head.converged or head.iterations >= self.settings.max_iter:
            return False
        return self._to_next_trial(head)

    def _to_next_trial(self, head: Head) -> bool:
        """Let a head take its next direction; False if it is stuck."""
        assert head.steps is not None
        assert head.state is not None
        refreshes = self.settings.preconditioner is not None and isinstance(head.state, Lbfgs)
        if refreshes and head.iterations >= head.refresh_at:
            head.origin, head.curvature, head.age = head.point.x.copy(), None, 0
            assert isinstance(head.state, Lbfgs)
            head.state.restart(self.preconditioner(head))
            head.refresh_at = max(self.refresh, int(head.refresh_at * GROWTH))
        head.stalled = next(head.steps, None) is None
        return not head.stalled

    def _coarse_starts(self, heads: Sequence[Head]) -> list[Array]:
        """Return null models, or where the samples are small against all rows, their minima."""
        problem, settings = self.problem, self.settings
        starts = [problem.null_point(h)[0] for h in range(problem.n_heads)]
        if self.is_small:
            return starts
        for r in sorted({self._weights_of(head) for head in heads}):
            some = [head for head in heads if self._weights_of(head) == r]
            self.preconditioner(some[0])
            sample = self.samples[r]
            if (
                settings.preconditioner is None
                or COARSE_RATIO * len(sample.target) > problem.n_rows
            ):
                continue
            coarse = Problem(
                sample.X, sample.target, problem.n_classes,
                C=problem.C[[head.index for head in some]], scale=problem.scale / problem.unit,
                weights=None if sample.weight is None else sample.weight[None],
                weight_of_head=np.zeros(len(some), np.int64),
                fit_intercept=problem.fit_intercept, n_threads=problem.threads,
                unit=problem.unit,
            )  # fmt: skip
            limits = replace(settings, max_iter=min(COARSE_ITERATIONS, settings.max_iter))
            nulls = [coarse.null_point(h)[0] for h in range(len(some))]
            walk = Walk(coarse, limits, self.started, nulls)
            walk.samples, walk.refresh = {0: sample.on(coarse)}, COARSE_ITERATIONS
            walk.run()
            for head, rough in zip(some, walk.heads, strict=True):
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
