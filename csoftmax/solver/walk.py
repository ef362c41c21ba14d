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
from csoftmax.solver.descent import NEXT, Descent, named
from csoftmax.solver.diagonal import Diagonal, DiagonalInverse
from csoftmax.solver.head import Head, SolverOptions
from csoftmax.solver.hessians import AtNull, AtWeights, Curvature
from csoftmax.solver.lbfgs import Lbfgs, metric_of
from csoftmax.solver.long import LongLbfgs
from csoftmax.solver.noise import Units
from csoftmax.solver.problem import Problem
from csoftmax.solver.sample import Sample, most_rows
from csoftmax.solver.stopping import note_iteration, see_whether_converged

Array = NDArray[Any]

_blas: Any = None

# A head first computes its preconditioner anew at iteration 8 if it began with that of the null
# model, at iteration 20 otherwise. It does so again each time that it has made 2.5 times as many
# iterations in all, but not before iteration 20.
FIRST_AFTER_NULL, FIRST_AFTER_START, GROWTH = 8, 20, 2.5
# The diagonal of sparse rows costs no more than two passes: it is made at iterations 4, 8, 16, ...
FIRST_DIAGONAL, GROWTH_OF_DIAGONAL = 4, 2.0
# Along a path, a preconditioner that has served fewer iterations than this serves the next head
# too.
REUSED_BELOW = 8
# Heads that are given no start are first solved on the sample of the rows, for COARSE_ITERATIONS
# iterations at most, if all rows are at least COARSE_RATIO times as many.
COARSE_RATIO, COARSE_ITERATIONS = 4, 20


def one_blas_thread() -> AbstractContextManager[object]:
    """Hold BLAS to one thread: its others spin after a product, on the CPUs of the next pass."""
    global _blas
    if _blas is None:
        from threadpoolctl import ThreadpoolController

        _blas = ThreadpoolController()
    held: AbstractContextManager[object] = _blas.limit(limits=1, user_api="blas")
    return held


def metric_at(sample: Sample, head: Head) -> Callable[[Array], float]:
    """Return what makes ``g^T P g`` of a gradient, by the Hessian of a sample at a head's point."""
    curvature = Curvature(sample.for_penalty(head.penalty), head.point.x)
    return metric_of(AtWeights(curvature, head.penalty))


class Walk:
    """The heads of a problem, from their starting points until all have stopped.

    Along a path, a head waits for the one of the next smaller C with the same row weights, and
    starts where the path leads; otherwise all run at once.

    Attributes
    ----------
    heads, running : list of Head
        All of them, and those that the next pass evaluates.
    predecessor : dict
        For the index of a head, the head that it waits for.
    stopped : bool
        Whether the report has ended the walk.
    changing : bool
        True while heads are changed. While X is passed over it is False, and all heads are where
        their last iteration ended.
    samples, small, units : dict
        By the number of a row of weights: the sample of the rows that it counts, or all of these
        for Newton's method; groups of them that tell the noise.
    is_small : bool
        Whether heads walk by Newton's method.
    first_after_start : int
        The iteration at which a head that did not begin at the null model first computes a
        preconditioner anew.
    """

    def __init__(
        self,
        problem: Problem,
        options: SolverOptions,
        started: float,
        starts: Sequence[Array] | dict[int, Array] | None = None,
        path: bool = False,
    ) -> None:
        self.problem, self.options, self.started = problem, options, started
        self.starts, self.is_path = starts, path
        self.heads = [Head(problem, h, options.least_nats) for h in range(problem.n_heads)]
        self.running: list[Head] = []
        self.stopped, self.changing = False, True
        self.samples: dict[int, Sample] = {}
        self.is_small = (
            options.preconditioner == "auto"
            and not problem.passes.is_sparse
            and newton.suits(problem.n_rows, problem.n_features, problem.n_classes)
        )
        self.small: dict[int, newton.SmallProblem] = {}
        self.units: dict[int, Units] = {}
        self.first_after_null, self.first_after_start = FIRST_AFTER_NULL, FIRST_AFTER_START
        self.growth = GROWTH
        if problem.passes.is_sparse:
            self.first_after_null = self.first_after_start = FIRST_DIAGONAL
            self.growth = GROWTH_OF_DIAGONAL
        self.predecessor: dict[int, Head] = {}
        if path:
            last: dict[int, Head] = {}
            for head in sorted(self.heads, key=lambda head: float(problem.C[head.index])):
                r = self._weights_of(head)
                if r in last:
                    self.predecessor[head.index] = last[r]
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
            descents = [head.descent for head in self.running if head.descent is not None]
            self.changing = False
            objectives = self.problem.evaluate(
                [head.index for head in self.running],
                [descent.trial for descent in descents],
                [descent.trial_gradient for descent in descents],
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

    def state(self) -> dict[str, Array]:
        """Return where all heads are, between iterations: what `restore` goes on from."""
        state: dict[str, Array] = {}
        for head in self.heads:
            of_descent = {} if head.descent is None else head.descent.state()
            state |= {f"{head.index}.{name}": array for name, array in head.state().items()}
            state |= {f"{head.index}.descent.{name}": a for name, a in of_descent.items()}
        return state

    def restore(self, state: dict[str, Array]) -> None:
        """Set all heads to what `state` returned, before the walk is run."""
        for head in self.heads:
            of_head = named(f"{head.index}.", state)
            head.restore(of_head)
            of_descent = named("descent.", of_head)
            if of_descent:
                head.descent = self._descent_of(head, of_descent["x"])
                head.descent.restore(of_descent)
                head.steps = head.descent.steps()

    def _begin(self) -> None:
        """Start the heads that wait for none, and go on with those of a checkpoint."""
        fresh = [h for h in self.heads if h.descent is None and h.index not in self.predecessor]
        coarse = self._coarse_starts(fresh) if self.starts is None else {}
        for head in fresh:
            start = coarse.pop(head.index) if self.starts is None else self.starts[head.index]
            self._start(head, start)
        for head in self.heads:
            if head.steps is not None and self._goes_on(head) and self._to_next_trial(head):
                self.running.append(head)
        for head in list(self.heads):
            if head.steps is not None and head not in self.running:
                self._start_followers(head)

    def _goes_on(self, head: Head) -> bool:
        see_whether_converged(
            head, self.problem, self.options, self.problem.largest(head.index, head.point.gradient)
        )
        return not (head.converged or head.stalled or head.iterations >= self.options.max_iter)

    def _start_followers(self, head: Head) -> None:
        """Start the heads that wait for this one, with what it knows."""
        for follower in self.heads:
            if self.predecessor.get(follower.index) is head and follower.descent is None:
                follower.trace, follower.inherited_iterations = head.trace.copy(), len(head.trace)
                follower.times_too_low = head.times_too_low
                follower.fallback_start = self._with_penalty_of(follower, head)
                self._start(follower, self._predicted(follower, head))

    def _predicted(self, follower: Head, head: Head) -> Array:
        """Return where a path leads, by the last two of its points: a line in log C.

        It saves a third of the passes of a sweep, and more where the optimum is hard to come by.
        """
        x: Array = head.point.x.copy()
        before = self.predecessor.get(head.index)
        if before is not None:
            C = [float(self.problem.C[h.index]) for h in (before, head, follower)]
            if C[0] < C[1] and C[2] < math.inf:
                ahead = math.log(C[2] / C[1]) / math.log(C[1] / C[0])
                x += x.dtype.type(min(ahead, 1.0)) * (x - before.point.x)
        return x

    def _with_penalty_of(self, follower: Head, head: Head) -> tuple[Array, float, Array]:
        """Return a head's point as its follower sees it: only the penalty differs."""
        new, old, point = follower.penalty, head.penalty, head.point
        lines, split = self.problem.lines, self.problem.split
        if lines is not None:
            gradient, change = point.gradient.copy(), new.l2 - old.l2
            lines.step(gradient, point.x, change, gradient)
            gradient[split:] = point.gradient[split:]
            square = lines.products([point.x], [(0, 0)], whole=False)[0]
            return point.x.copy(), point.objective + 0.5 * change * square, gradient
        W, gradient = point.x[:split], point.gradient.copy()
        objective = point.objective - old.value(W) + new.value(W)
        new.smooth_change_from(old).add_gradient(W, gradient[:split])
        return point.x.copy(), objective, gradient

    def _hand_over_pairs(self, head: Head) -> None:
        """Give a head the pairs of L-BFGS of its predecessor: only the penalty differs.

        It saves half of the passes of a sweep, and more with more pairs.
        """
        before = self.predecessor.get(head.index)
        if before is not None and isinstance(before.descent, LongLbfgs):
            assert isinstance(head.descent, LongLbfgs)
            change = head.penalty.smooth_change_from(before.penalty)
            head.descent.take_over(before.descent, change)
            return
        if before is None or not isinstance(before.descent, Lbfgs):
            return
        assert isinstance(head.descent, Lbfgs)
        if before.descent.precondition.reduce == head.descent.precondition.reduce:
            change = head.penalty.smooth_change_from(before.penalty)
            head.descent.take_over(before.descent, change, self.problem.split)

    def _start(self, head: Head, x: Array) -> None:
        """Set a head to start at x, with the preconditioner of its predecessor if that is fresh."""
        at_null = not x[: self.problem.split].any() or self.options.preconditioner is None
        before = self.predecessor.get(head.index)
        if self.is_small:
            pass  # Newton's method has no preconditioner
        elif (
            before is not None
            and before.preconditioner_iterations < REUSED_BELOW
            and self._share_directions(before, head)
        ):
            head.preconditioned_at, head.curvature = before.preconditioned_at, before.curvature
            head.preconditioner_iterations = before.preconditioner_iterations
        elif not at_null:
            head.preconditioned_at = x.copy()
        head.next_preconditioner_at = (
            self.first_after_null if head.preconditioned_at is None else self.first_after_start
        )
        head.descent = self._descent_of(head, x)
        self.running.append(head)

    def _descent_of(self, head: Head, x: Array) -> Descent:
        """Return what steps a head from x on."""
        if self.problem.lines is not None:
            P, size = self._diagonal(head), self.options.history_size
            return LongLbfgs(x, size, P, self.problem.lines)
        if not self.is_small:
            return Lbfgs(x, self.options.history_size, self._preconditioner(head))
        r = self._weights_of(head)
        if r not in self.small:
            self.small[r] = newton.SmallProblem(self.problem, r)
        return newton.Newton(x, self.small[r], head.penalty)

    def _share_directions(self, a: Head, b: Head) -> bool:
        """Say whether the curvature of one head serves the other: in the same directions."""
        if self.problem.passes.is_sparse:
            return True
        sample = self.samples[self._weights_of(a)]
        return sample.for_penalty(a.penalty) is sample.for_penalty(b.penalty)

    def _diagonal(self, head: Head) -> DiagonalInverse:
        """Return the approximate inverse Hessian of sparse rows at `preconditioned_at`."""
        if not isinstance(head.curvature, Diagonal):
            r, plain = self._weights_of(head), self.options.preconditioner is None
            head.curvature = Diagonal(self.problem, r, head.preconditioned_at, plain)
        return DiagonalInverse(head.curvature, head.penalty)

    def _preconditioner(self, head: Head) -> AtNull | AtWeights:
        """Return the approximate inverse Hessian at `preconditioned_at`."""
        r = self._weights_of(head)
        if r not in self.samples:
            self.samples[r] = Sample(self.problem, r, self.options.preconditioner)
        sample = self.samples[r].for_penalty(head.penalty)
        if head.preconditioned_at is None:
            return AtNull(sample, head.penalty)
        if not isinstance(head.curvature, Curvature) or head.curvature.sample is not sample:
            head.curvature = Curvature(sample, head.preconditioned_at)
        return AtWeights(head.curvature, head.penalty)

    def _advance(self, head: Head, objective: float) -> bool:
        """Give a head its objective; True if it wants another evaluation."""
        descent = head.descent
        assert descent is not None
        if descent.point is None:
            fallback, head.fallback_start = head.fallback_start, None
            if fallback is not None and not objective <= fallback[1]:
                descent.trial, objective, descent.trial_gradient = fallback
            descent.start(objective)
            self._hand_over_pairs(head)
            head.steps = descent.steps()
        else:
            assert head.steps is not None
            try:
                if head.steps.send(objective) is not NEXT:
                    return True
            except StopIteration:
                head.stalled = True
                return False
            head.iterations += 1
            head.preconditioner_iterations += 1
        note_iteration(head, self.problem, self.options, time.perf_counter() - self.started)
        if self.options.by_sampling:
            self._measure_noise(head)
        if head.converged or head.iterations >= self.options.max_iter:
            return False
        return self._to_next_trial(head)

    def _measure_noise(self, head: Head) -> None:
        """Measure the noise of a head that is so near that it matters, and see whether it ends."""
        if not math.isfinite(head.estimate) or head.estimate > head.noise or head.descent is None:
            return
        r, problem = self._weights_of(head), self.problem
        if r not in self.units:
            limit = most_rows(problem.n_features, problem.n_classes, problem.dtype.itemsize)
            known = self.samples[r].passes if r in self.samples else problem.sample(r, limit)
            self.units[r] = Units(problem, r, known)
        head.noise = self.units[r].noise(head.point.x, self._metric(head))
        steepest = problem.largest(head.index, head.point.gradient)
        see_whether_converged(head, problem, self.options, steepest)

    def _metric(self, head: Head) -> Callable[[Array], float]:
        """Return what makes ``g^T P g`` of a gradient at a head's point.

        Once the head is near, the P of the null model will not do: it was half of what it should be
        where most rows had become sure of their class.
        """
        if isinstance(head.descent, Lbfgs) and head.preconditioned_at is None and head.noise > 0:
            return metric_at(self.samples[self._weights_of(head)], head)
        assert head.descent is not None
        return head.descent.metric()

    def _to_next_trial(self, head: Head) -> bool:
        """Let a head take its next direction; False if it is stuck."""
        assert head.steps is not None
        is_due = head.iterations >= head.next_preconditioner_at
        is_due &= self.options.preconditioner is not None
        if is_due and isinstance(head.descent, (Lbfgs, LongLbfgs)):
            head.preconditioned_at, head.curvature = head.point.x.copy(), None
            head.preconditioner_iterations = 0
            if isinstance(head.descent, LongLbfgs):
                head.descent.precondition = None  # there is memory for one of them
                head.descent.restart(self._diagonal(head))
            else:
                head.descent.restart(self._preconditioner(head))
            later = int(head.next_preconditioner_at * self.growth)
            head.next_preconditioner_at = max(self.first_after_start, later)
        head.stalled = next(head.steps, None) is None
        return not head.stalled

    def _coarse_starts(self, heads: Sequence[Head]) -> dict[int, Array]:
        """Return where heads start: at the null model, or at the optimum of a small sample.

        The sample is taken where it is small against all rows, and the optimum is a rough one.
        """
        problem, options = self.problem, self.options
        starts = {head.index: problem.null_point(head.index)[0] for head in heads}
        if self.is_small or problem.lines is not None:
            return starts
        for r in sorted({self._weights_of(head) for head in heads}):
            some = [head for head in heads if self._weights_of(head) == r]
            self._preconditioner(some[0])
            sample = self.samples[r]
            few = COARSE_RATIO * sample.passes.n_rows <= problem.n_rows
            if options.preconditioner is None or not few:
                continue
            coarse = Problem(
                sample.passes, C=problem.C[[head.index for head in some]],
                weight_of_head=np.zeros(len(some), np.int64),
                fit_intercept=problem.fit_intercept, unit=problem.unit,
            )  # fmt: skip
            limits = replace(options, max_iter=min(COARSE_ITERATIONS, options.max_iter))
            nulls = [coarse.null_point(h)[0] for h in range(len(some))]
            walk = Walk(coarse, limits, self.started, nulls)
            walk.samples, walk.first_after_start = {0: sample.on(coarse)}, COARSE_ITERATIONS
            walk.run()
            for head, rough in zip(some, walk.heads, strict=True):
                starts[head.index] = _carried_over(problem, head.index, coarse, rough.point.x)
        return starts


def _carried_over(problem: Problem, head: int, coarse: Problem, x: Array) -> Array:
    """Return a point of the coarse problem, with biases for classes that its rows lack."""
    x = x.copy()
    present = problem.shares[problem.weight_of_head[head]] > 0
    missing = present & (coarse.shares[0] == 0)
    if missing.any():
        _, b = problem.parameters(x)
        b[missing] = b[coarse.shares[0] > 0].min() - 2
        b[present] -= b[present].mean()
    return x
