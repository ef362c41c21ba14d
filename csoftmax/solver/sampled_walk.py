"""Heads on their way by steps of the corrected sample: few passes over rows costly to read."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from numpy.typing import NDArray

from csoftmax.solver.corrected import (
    Before,
    Corrected,
    SampledPoint,
    SampleProblem,
    have_enough,
    n_free_parameters,
)
from csoftmax.solver.descent import Descent
from csoftmax.solver.head import Head, SolverOptions
from csoftmax.solver.lbfgs import Lbfgs
from csoftmax.solver.problem import Problem
from csoftmax.solver.sample import Sample
from csoftmax.solver.stopping import tolerance
from csoftmax.solver.walk import Walk, metric_at

Array = NDArray[Any]

# When a minimisation on the sample has gone far enough: it is no further from its minimum than
# ENOUGH of what it has gained, or ENOUGH_TOL of `tol`. The very first one has nothing to gain from:
# it ends at ENOUGH_CHANCE of the loss that chance makes of m rows, n_parameters / (2 m) nats.
ENOUGH, ENOUGH_TOL, ENOUGH_CHANCE = 0.02, 0.1, 0.05
MOST_INNER = 200  # iterations on the sample for a step, at most


class InnerWalk(Walk):
    """A walk of some heads over the sample; each ends where `is_near` says so."""

    def __init__(
        self,
        outer: SampledWalk,
        heads: Sequence[Head],
        starts: dict[int, Array] | None,
        is_near: Callable[[Head], bool],
    ) -> None:
        options = replace(
            outer.options, tol=0.0, by_sampling=False, gradient_tol=math.inf, max_iter=MOST_INNER
        )
        super().__init__(outer.inner, options, outer.started, starts)
        self.is_small = False  # Newton's method knows nothing of the linear term
        self.heads = [self.heads[head.index] for head in heads]
        self.samples, self.is_near = outer.inner_samples, is_near

    def _advance(self, head: Head, objective: float) -> bool:
        return super()._advance(head, objective) and not self.is_near(head)


class SampledWalk(Walk):
    """A walk whose heads step by the corrected sample, and by L-BFGS once that is no good.

    Each head has a linear term of its own, so where several heads run at once their steps are
    sought one after the other on the sample; the passes over all rows they share. Heads with a row
    of weights that counts too few rows of the sample go by L-BFGS from the start.

    Attributes
    ----------
    inner : SampleProblem
    inner_samples : dict
        By the number of a row of weights: what `samples` is for the walks over the sample.
    has_enough : ndarray of bool
        For each row of weights, whether it counts enough rows of the sample.
    before : dict
        Along a path, for the index of a head that is about to start, the point that leads there.
    """

    def __init__(
        self,
        problem: Problem,
        options: SolverOptions,
        started: float,
        starts: Sequence[Array] | dict[int, Array] | None = None,
        path: bool = False,
    ) -> None:
        super().__init__(problem, options, started, starts, path)
        assert problem.kept is not None
        self.is_small = False
        self.inner, self.inner_samples = SampleProblem(problem, problem.kept), dict[int, Sample]()
        self.has_enough = have_enough(problem)
        self.before: dict[int, Before] = {}

    def _is_sampled(self, head: Head) -> bool:
        """Say whether a head steps by the sample: until it has a preconditioner, see `_advance`."""
        return head.preconditioned_at is None and bool(self.has_enough[self._weights_of(head)])

    def _step(
        self, head: Head, x: Array, objective: float, gradient: Array, before: Before | None = None
    ) -> SampledPoint:
        """Return the point at x: with the minimum of the corrected sample, from where it starts."""
        now = self.inner.agree(head.index, x, objective, gradient, before)
        least = ENOUGH_TOL * tolerance(head, self.options) * max(objective, head.least_divisor)

        def is_near(inner: Head) -> bool:
            gained = objective - inner.point.objective
            near = inner.estimate <= max(ENOUGH * gained, least) and inner.iterations > 0
            return near or gained > objective

        walk = InnerWalk(self, [head], {head.index: x.copy()}, is_near)  # a walk steps on its start
        walk.run()
        [inner] = walk.heads
        estimate = objective - inner.point.objective + inner.estimate
        return SampledPoint(x, objective, gradient, now.linear, inner.point.x, estimate)

    # ---- what differs from a walk by L-BFGS ----------------------------------------------------

    def _coarse_starts(self, heads: Sequence[Head]) -> dict[int, Array]:
        """Return the optima of the sample."""
        sampled = [head for head in heads if self._is_sampled(head)]
        starts = super()._coarse_starts([head for head in heads if head not in sampled])
        n_parameters = n_free_parameters(self.problem.n_features, self.problem.n_classes)

        def is_near(inner: Head) -> bool:
            n_rows = self.inner.n_counting[self._weights_of(inner)]
            return bool(inner.estimate <= ENOUGH_CHANCE * n_parameters / (2 * n_rows))

        if sampled:
            walk = InnerWalk(self, sampled, None, is_near)
            walk.run()
            starts |= {inner.index: inner.point.x for inner in walk.heads}
        return starts

    def _descent_of(self, head: Head, x: Array) -> Descent:
        if not self._is_sampled(head):
            return super()._descent_of(head, x)
        return Corrected(x, partial(self._step, head), self.before.pop(head.index, None))

    def _metric(self, head: Head) -> Callable[[Array], float]:
        if not isinstance(head.descent, Corrected):
            return super()._metric(head)
        return metric_at(self.inner_samples[self._weights_of(head)], head)

    def _start(self, head: Head, x: Array) -> None:
        if not self._is_sampled(head):
            super()._start(head, x)
            return
        head.descent = self._descent_of(head, x)
        self.running.append(head)

    def _hand_over_pairs(self, head: Head) -> None:
        if isinstance(head.descent, Lbfgs):
            super()._hand_over_pairs(head)

    def _predicted(self, follower: Head, head: Head) -> Array:
        """Return where the sample leads from the end of the head before, with the new penalty."""
        if not self._is_sampled(follower):
            return super()._predicted(follower, head)
        assert follower.fallback_start is not None
        point = self._step(follower, *follower.fallback_start)
        self.before[follower.index] = Before(point.x, point.linear)
        return point.following

    def _advance(self, head: Head, objective: float) -> bool:
        """Give a head its objective; where its steps are no good, L-BFGS goes on from its point."""
        goes_on = super()._advance(head, objective)
        if not (head.stalled and isinstance(head.descent, Corrected)):
            return goes_on
        point = head.descent.point
        head.stalled, head.preconditioned_at = False, point.x.copy()
        head.next_preconditioner_at = head.iterations + self.first_after_start
        head.descent = self._descent_of(head, point.x)
        head.descent.trial_gradient = point.gradient
        head.descent.start(point.objective)
        # the sample has slowed down from step to step: that says nothing of L-BFGS
        head.trace = head.trace[-1:].copy()
        head.trace[0, 2] = head.descent.point.estimate
        self._hand_over_pairs(head)
        head.steps = head.descent.steps()
        return self._to_next_trial(head)
