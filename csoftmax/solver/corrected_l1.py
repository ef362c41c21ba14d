"""L1 and elastic net over many rows by few passes: steps to the optima of a corrected sample.

At a point a pass has given the objective of all rows and its gradient. The sample's mean loss is
made to agree with them (`csoftmax.solver.corrected_rows`), and `csoftmax.solver.proximal` finds its
optimum with the penalty, in memory: the next point. The very first is the optimum of the sample as
it is. A step that rises, or gains little of what the sample promised, shows that the sample curves
less than all rows do; from then on its loss is taken TIMES as often.

When a head has converged, one more pass proves how far it is at most. A bound needs slopes that the
penalty holds (`csoftmax.solver.l1_dual`), and those of an inexact optimum are too large by some
share of l1. The bound would be that share of the objective. So the pass is made at the sample's
optimum for an l1 that is less by a part of that share: there all slopes are held. The bound is then
that part of the penalty, which is far less.

Wang, Kolar, Srebro and Zhang 2017, "Efficient distributed learning with sparsity".
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.engine.class_rows import Array
from csoftmax.engine.passes import ABSENT_BIAS
from csoftmax.solver.checkpoint import digest_of
from csoftmax.solver.corrected_rows import CorrectedRows, Linear
from csoftmax.solver.descent import named
from csoftmax.solver.l1_dual import lower_bound, steepest
from csoftmax.solver.l1_fit import COLUMNS, LOOKED_BACK, ROUNDINGS, Fit, is_near, left_of_gains
from csoftmax.solver.l1_head import L1Head
from csoftmax.solver.l1_heads import L1Heads
from csoftmax.solver.l1_problem import L1Problem, counted_rows
from csoftmax.solver.l1_whole import evaluate, null_of
from csoftmax.solver.penalty import Penalty
from csoftmax.solver.problem import Problem
from csoftmax.solver.proximal import ProximalNewton

# When a minimisation on the sample has gone far enough: it is no further from its optimum than
# ENOUGH of what it has gained, or ENOUGH_TOL of `tol`. The very first one has nothing to gain from:
# it ends at ENOUGH_CHANCE of the loss that chance makes of m rows and n weights, n / (2 m) nats.
ENOUGH, ENOUGH_TOL, ENOUGH_CHANCE = 0.02, 0.1, 0.05
MOST_INNER = 200  # iterations on the sample for a step, at most
# A step that gains less than this share of what was promised makes the sample's loss count TIMES as
# often, MOST_TIMES at most.
LEAST_GAIN, TIMES, MOST_TIMES = 0.25, 4.0, 1024.0
# What is promised is multiplied by this before it is believed.
MARGIN = 2.0
# By this part of the share by which a slope exceeds l1, and by no more than MOST_LESS, l1 is less
# where the bound is proved.
LESS, MOST_LESS = 0.25, 0.5


class SampledHeads(L1Heads):
    """Heads that share passes over all rows, and go from one to the next by a sample in memory.

    Parameters
    ----------
    whole : Problem
        All rows; with a sample of them, if that was drawn with the statistics.
    problem : L1Problem
        The heads. Its rows are only looked at for their shape and type.
    n_sampled : int
    """

    steps = "passes"

    def __init__(self, whole: Problem, problem: L1Problem, n_sampled: int, *options: Any) -> None:
        super().__init__(problem, *options)
        self.whole, self.n_sampled = whole, n_sampled
        self.dtype = whole.dtype
        self.nulls = [null_of(whole, r) for r in range(len(whole.totals))]
        self.of_rows: tuple[int, CorrectedRows] | None = None
        self.heads = [
            L1Head(penalty, r, self.nulls[r].point)
            for penalty, r in zip(problem.penalties, problem.weight_of_head.tolist(), strict=True)
        ]
        self.fits = [head.fit for head in self.heads]
        for head in self.heads:
            proved = lower_bound(head.point, head.penalty, self.nulls[head.row], problem.free)
            head.fit.lower = proved.lower
        self.rounding = float(np.finfo(self.dtype).eps)
        self._passes = np.zeros(len(self.heads), np.int64)
        self.is_changing = True  # nothing to save yet

    @property
    def n_passes(self) -> int:
        return self.whole.n_passes

    @property
    def passes(self) -> NDArray[np.int64]:
        return self._passes

    def fingerprint(self) -> str:
        """Return a digest of all that the bits depend on, except tol and max_iter."""
        problem, whole = self.problem, self.whole
        settings = (
            "l1 of a sample", problem.penalties, problem.scale, whole.fit_intercept, self.path,
            [start is None for start in self.starts], self.n_sampled,
        )  # fmt: skip
        arrays = (problem.weight_of_head, problem.free, *self.starts)
        return digest_of(whole.passes.fingerprint(), settings, arrays)

    def run(self) -> None:
        """Bring all heads to their ends."""
        try:
            if self.is_changing:
                self._begin()
                self.is_changing = False
                if not self._has_starts and self._report(range(len(self.heads))):
                    self._end_all("callback")
            while not self.ended and (running := self._running()):
                self._pass(running)
                for r in sorted({self.heads[h].row for h in running}):
                    for h in running:
                        if self.heads[h].row == r:
                            self._go_on(h)
                self.is_changing = False
                if self._report(running):
                    self._end_all("callback")
        except KeyboardInterrupt:
            self._end_all("interrupted")
        if self.saved is not None and not self.is_changing:
            self.saved.save()
        for h in range(len(self.heads)):
            self._keep(h)

    def _running(self) -> list[int]:
        return [h for h, head in enumerate(self.heads) if head.trial is not None]

    def _end_all(self, status: str) -> None:
        self.ended = status
        for head in self.heads:
            if head.trial is not None and not head.is_proving:
                head.fit.status = status

    # ---- all rows ------------------------------------------------------------------------------

    def _pass(self, running: Sequence[int]) -> None:
        """Evaluate the trials, and move the heads that they are good for."""
        trials = [trial for head in self.heads if (trial := head.trial) is not None]
        points = evaluate(self.whole, running, trials)
        self.is_changing = True
        for h, point in zip(running, points, strict=True):
            self._passes[h] += 1
            head, null = self.heads[h], self.nulls[self.heads[h].row]
            proved = lower_bound(point, head.penalty, null, self.problem.free)
            head.fit.lower = max(head.fit.lower, proved.lower)
            old, new = head.point.objective(head.penalty), point.objective(head.penalty)
            if head.is_proving:
                if new < old:
                    head.point = point
                continue
            is_start = self._passes[h] == 1 and self._has_starts
            if not is_start:
                head.fit.iterations += 1
                if not old - new >= LEAST_GAIN * head.promised:
                    head.times *= TIMES
            is_corrected = head.before is not None  # the first step is to the sample's own optimum
            if is_corrected and new < old:
                head.gains = [*head.gains[-LOOKED_BACK:], old - new]
            if new < old or (is_start and not self.max_iter):
                head.point, head.largest = point, proved.largest

    # ---- the sample ----------------------------------------------------------------------------

    def _rows(self, r: int) -> CorrectedRows:
        """Return the sample of a row of weights; one is kept."""
        if self.of_rows is None or self.of_rows[0] != r:
            self.of_rows = None  # makes room
            whole, kept = self.whole, self.whole.kept
            if kept is None:
                sample = whole.passes.sample(r, self.n_sampled, 0)
            else:
                sample = kept.sample(r, kept.n_rows, 0)
            rows = counted_rows(
                CorrectedRows, sample.rows.X, sample.target, whole.n_classes, sample.weight(0),
                whole.fit_intercept, whole.passes.n_threads,
            )  # fmt: skip
            if whole.fit_intercept:
                rows.shares = self.nulls[r].shares
            self.of_rows = r, rows
        return self.of_rows[1]

    def _begin(self) -> None:
        """Set where the heads go first: to their starts, or to the optima of the sample."""
        if self._has_starts:
            for h, head in enumerate(self.heads):
                head.trial = self._start_of(h)
            return
        for h, head in enumerate(self.heads):
            self._note(h, math.inf)  # the null model may be the optimum, which is proved then
            head.fit.status = "converged" if self._is_near(head) else ""
            if self.max_iter == 0:
                head.fit.status = head.fit.status or "limit"
        if self.max_iter:
            for r in sorted({head.row for head in self.heads}):
                self._to_optima_of_sample(r)

    @property
    def _has_starts(self) -> bool:
        return any(start is not None for start in self.starts)

    def _is_near(self, head: L1Head) -> bool:
        null_loss, value = self.nulls[head.row].point.loss, head.penalty.value(head.point.W)
        return is_near(head.fit, self.tol, null_loss, value, self.rounding)

    def _start_of(self, h: int) -> tuple[Array, NDArray[np.float64]]:
        (given_W, given_b), null = self.starts, self.nulls[self.heads[h].row]
        free, present = self.problem.free, null.shares > 0
        W, b = null.point.W.copy(), null.point.b.copy()
        if given_W is not None:
            W[:, free] = given_W[h, free].T * self.problem.scale
            if null.fit_intercept:
                W[:, ~present] = 0
        if given_b is not None and null.fit_intercept:
            b[present] = given_b[h, present] - given_b[h, present].mean()
        return W, b

    def _to_optima_of_sample(self, r: int) -> None:
        """Let the heads of a row of weights go to the optima of its sample, as it is."""
        null, rows = self.nulls[r], self._rows(r)
        rows.stand_alone()
        newton = ProximalNewton(rows, self.problem.free, null.fit_intercept)
        heads = [head for head in self.heads if head.row == r and not head.fit.status]
        heads.sort(key=lambda head: -head.penalty.strength)
        for n, head in enumerate(heads):
            if n:
                newton.go_on(head.penalty)
            else:
                W = np.zeros_like(null.point.W)
                newton.start(head.penalty, W, newton.null_c.copy())
            tol = ENOUGH_TOL * self.tol

            def is_near(fit: Fit, tol: float = tol) -> bool:
                by_chance = ENOUGH_CHANCE * len(fit.support) / (2 * rows.n_rows)
                return bool(fit.estimate <= max(by_chance, tol * fit.objective))

            newton.run(0.0, MOST_INNER, is_near)
            head.promised = null.point.loss - newton.fit.objective
            head.trial = self._end_of(newton)

    def _end_of(self, newton: ProximalNewton) -> tuple[Array, NDArray[np.float64]]:
        fit, present = newton.fit, newton.present
        b = fit.c - newton.rows.at_centre(fit.W)
        if newton.fit_intercept:
            b[present] -= b[present].mean()
            b[~present] = ABSENT_BIAS
        return fit.W.copy(), b

    def _agree(self, head: L1Head) -> None:
        """Make the sample agree with all rows where a head is."""
        point, rows = head.point, self._rows(head.row)
        c = point.b + rows.at_centre(point.W)
        at_c = point.dW - np.outer(rows.centre, point.db).astype(self.dtype)
        head.before = rows.agree(
            point.W, c, point.loss, Linear(at_c, point.db), head.times, head.before
        )

    def _to_optimum(self, head: L1Head, penalty: Penalty) -> float:
        """Let a head go to the optimum of the sample that agrees; return how near that is."""
        objective, rows = head.point.objective(penalty), self._rows(head.row)
        assert head.before is not None
        newton = ProximalNewton(rows, self.problem.free, self.whole.fit_intercept)
        newton.start(penalty, head.point.W.copy(), head.before.c.copy())
        newton.is_far, newton.promised = False, 0.0  # it is near

        def is_near(fit: Fit) -> bool:
            least = max(ENOUGH * (objective - fit.objective), ENOUGH_TOL * self.tol * objective)
            return fit.iterations > 0 and fit.estimate <= least

        newton.run(0.0, MOST_INNER, is_near)
        newton.evaluate()
        head.trial, head.promised = self._end_of(newton), objective - newton.fit.objective
        if newton.fit.status == "stalled":  # a model that rounding ended may have been a rough one
            return max(newton.promised, ROUNDINGS * self.rounding * objective)
        return newton.fit.estimate

    def _go_on(self, h: int) -> None:
        """Find where a head goes next, or that it ends here."""
        head = self.heads[h]
        fit, tol = head.fit, self.tol
        if head.is_proving:
            self._note(h, fit.estimate)
            head.trial, head.before = None, None
            return
        if self.max_iter == 0:
            self._note(h, math.inf)
            fit.status, head.trial = "limit", None
            return
        self._agree(head)
        near = self._to_optimum(head, head.penalty)
        smallest = ROUNDINGS * self.rounding * head.point.objective(head.penalty)
        # a sample that counts `times` promises at least 1/times of what it would if counted once,
        # and what it promises is known to a rounding
        promised = max(head.promised, smallest if head.times > 1 else 0.0)
        estimate = MARGIN * head.times * (promised + near)
        if len(head.gains) > 1:
            estimate = max(estimate, left_of_gains(np.array(head.gains), False))
        self._note(h, estimate)
        if self._is_near(head):
            fit.status = "converged"
        elif fit.iterations >= self.max_iter:
            fit.status = "limit"
        elif head.times > MOST_TIMES or not head.promised > smallest:
            fit.status = "stalled"
        if not fit.status:
            return
        is_loose = fit.objective - fit.lower > tol * fit.objective
        if fit.status == "converged" and is_loose and fit.iterations < self.max_iter:
            less = 1 - min(LESS * (head.largest - 1), MOST_LESS)
            if head.penalty.l2 == 0 and 0 < less < 1:
                self._to_optimum(head, Penalty(less * head.penalty.l1, 0.0))
                head.is_proving = True
                return
        head.trial, head.before = None, None

    # ---- checkpoints ---------------------------------------------------------------------------

    def state(self) -> dict[str, Array]:
        """Return where the heads are after a pass."""
        state = {"n_passes": np.array(self.n_passes), "passes": self._passes}
        for h, head in enumerate(self.heads):
            state |= {f"{h}.{name}": np.asarray(value) for name, value in head.state().items()}
        return state

    def restore(self, state: dict[str, Array]) -> None:
        """Set what `state` returned; heads that had ended, and not as is asked now, go on."""
        self.whole.n_passes, self._passes = int(state["n_passes"]), state["passes"].copy()
        for h, head in enumerate(self.heads):
            head.restore(named(f"{h}.", state))
            self._reopen(head)
            self.show(h, head.fit, head.penalty.value(head.point.W))
        self.is_changing = False

    def _reopen(self, head: L1Head) -> None:
        fit = head.fit
        if head.trial is not None:
            fit.status = "converged" if head.is_proving else ""
            return
        asks_more = fit.estimate > self.tol * fit.objective
        goes_on = {"converged": asks_more, "limit": fit.iterations < self.max_iter}
        if goes_on.get(fit.status, False):
            fit.status, head.is_proving = "", False
            self._agree(head)
            self._to_optimum(head, head.penalty)

    # ---- what is told --------------------------------------------------------------------------

    def _note(self, h: int, estimate: float) -> None:
        head = self.heads[h]
        fit = head.fit
        fit.objective, fit.estimate = head.point.objective(head.penalty), estimate
        fit.estimate *= fit.times_too_low()
        fit.estimate = max(min(fit.estimate, fit.objective - fit.lower), 0.0)
        fit.steepest = steepest(head.point, head.penalty, self.problem.free)
        numbers = (
            fit.objective, fit.objective - fit.lower, fit.estimate,
            float(np.count_nonzero(head.point.W)), time.perf_counter() - self.started,
        )  # fmt: skip
        for name, number in zip(COLUMNS, numbers, strict=True):
            fit.history[name].append(number)
        self.show(h, fit, head.penalty.value(head.point.W))

    def _keep(self, h: int) -> None:
        head = self.heads[h]
        if not math.isfinite(head.fit.objective):  # interrupted before its first pass
            self._note(h, math.inf)
        W, b = head.point.W, head.point.b
        places, null = np.flatnonzero(W), self.nulls[head.row]
        present = null.shares > 0 if null.fit_intercept else np.ones(len(b), np.bool_)
        self.keep(h, places, W.reshape(-1)[places], b, present)

    def advice(self, fit: Fit) -> str:
        head = next(head for head in self.heads if head.fit is fit)
        if head.times == 1:
            return super().advice(fit)
        n_selected = np.count_nonzero(head.point.W)
        return (
            f"; the sample of {self.n_sampled} rows is small for {n_selected} weights that are not "
            "0: more sample_rows, or more max_memory, take fewer passes"
        )

    def _report(self, told: Sequence[int]) -> bool:
        """Tell of a pass; True if the callback wants to stop."""
        self.save_in_time()
        running = np.array([head.trial is not None for head in self.heads])
        if self.verbose:
            fits = [self.heads[h].fit for h in told]
            worst = max(fits, key=lambda fit: fit.estimate / fit.objective)
            print(
                f"pass {self.n_passes}: {running.sum()} of {len(running)} heads running, objective "
                f"{worst.objective:.6g}, {worst.history['selected'][-1]:.0f} weights selected, "
                f"about {worst.estimate / worst.objective:.2%} to go",
                file=sys.stderr,
            )
        return self.ask(running, self._keep)
