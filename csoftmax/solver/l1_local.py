"""Heads with L1 over rows in memory, one after the other."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.engine.class_rows import Array, ClassRows
from csoftmax.solver.descent import named
from csoftmax.solver.l1_fit import Fit
from csoftmax.solver.l1_heads import NOTHING, L1Heads
from csoftmax.solver.l1_problem import L1Problem
from csoftmax.solver.proximal import ProximalNewton


class LocalHeads(L1Heads):
    """All heads, one after the other, over rows in memory.

    Attributes
    ----------
    done : set of int
        The heads that have ended.
    current : tuple or None
        The head that is on its way, and what makes it.
    begun : tuple or None
        The head that a checkpoint found on its way, and its state.
    """

    current: tuple[int, ProximalNewton] | None = None
    begun: tuple[int, dict[str, Array]] | None = None

    def __init__(self, problem: L1Problem, *options: Any) -> None:
        super().__init__(problem, *options)
        self.done: set[int] = set()
        self.tols = np.full(len(self.fits), self.tol)  # that heads have ended by

    def fingerprint(self) -> str:
        """Return a digest of all that the bits depend on, except tol and max_iter."""
        return self.problem.fingerprint(self.starts, self.path)

    def run(self) -> None:
        """Solve the heads of each row of weights."""
        for r in sorted(set(self.problem.weight_of_head.tolist())):
            self._run_row(r)
            self.current = None  # makes room for other rows

    def _run_row(self, r: int) -> None:
        """Solve the heads of a row of weights."""
        problem = self.problem
        heads = np.flatnonzero(problem.weight_of_head == r)
        if self.done.issuperset(heads.tolist()):
            return
        strengths = [problem.penalties[h].strength for h in heads]
        rows = problem.rows(r)
        newton = ProximalNewton(rows, problem.free, problem.fit_intercept)
        for n, h in enumerate(heads[np.argsort(strengths, kind="stable")[::-1]].tolist()):
            if h in self.done:
                continue
            if self.begun is not None and self.begun[0] == h:
                newton.restore(problem.penalties[h], self.begun[1])
                self.begun = None
            elif self.fits[h] is not None:  # it had ended, but not as tol and max_iter ask
                ended_at = self.W.transpose(0, 2, 1), self.b
                newton.start(problem.penalties[h], *self._start_of(h, rows, *ended_at))
            elif n > 0 and self.path:
                newton.go_on(problem.penalties[h])
            else:
                newton.start(problem.penalties[h], *self._start_of(h, rows, *self.starts))
            self._run(h, newton)

    def _start_of(
        self, h: int, rows: ClassRows, given_W: Array | None, given_b: Array | None
    ) -> tuple[Array, NDArray[np.float64]]:
        problem = self.problem
        W = np.zeros((rows.n_features, rows.n_classes), rows.dtype)
        c = rows.null_bias() if problem.fit_intercept else np.zeros(rows.n_classes)
        present = rows.shares > 0 if problem.fit_intercept else np.ones(rows.n_classes, bool)
        if given_W is not None:
            W[:, problem.free] = given_W[h, problem.free].T * problem.scale
            W[:, ~present] = 0
        if given_b is not None and problem.fit_intercept:
            c[present] = (given_b[h] + rows.at_centre(W))[present]
            c[present] -= c[present].mean()
        return W, c

    def _run(self, h: int, newton: ProximalNewton) -> None:
        self.fits[h], self.current = newton.fit, (h, newton)

        running = np.zeros(len(self.fits), bool)
        running[h] = True

        def keep(head: int) -> None:
            if head == h:
                self._keep(h, newton)

        def report(fit: Fit) -> bool:
            self.show(h, fit, newton.value)
            self.save_in_time()
            if self.verbose:
                print(
                    f"head {h}, iteration {fit.iterations}: objective {fit.objective:.6g}, "
                    f"{fit.history['selected'][-1]:.0f} weights selected, about "
                    f"{fit.estimate / fit.objective:.2%} to go",
                    file=sys.stderr,
                )
            return self.ask(running, keep)

        if self.ended:
            newton.fit.status = self.ended
        else:
            try:
                newton.run(self.tol, self.max_iter, report)
                self.ended = newton.fit.status if newton.fit.status == "callback" else ""
            except KeyboardInterrupt:
                self.ended = newton.fit.status = "interrupted"
            is_last = len(self.done) == len(self.fits) - 1
            if self.saved is not None and (is_last or self.ended) and not newton.is_changing:
                self.saved.save()
        newton.evaluate()
        self.show(h, newton.fit, newton.value)
        self._keep(h, newton)
        self.fits[h] = replace(newton.fit, W=NOTHING)
        self.done.add(h)
        self.tols[h] = self.tol

    def state(self) -> dict[str, Array]:
        """Return what is known of the heads that have ended, and where the current one is."""
        assert self.current is not None
        now, newton = self.current
        state = {f"now.{name}": array for name, array in newton.state().items()}
        state["now"] = np.array(now)
        for h, fit in enumerate(self.fits):
            if fit is None or h == now:
                continue
            W = self.W[h].reshape(-1)
            support = np.flatnonzero(W)
            numbers = np.array([column[h] for column in self.numbers.values()])
            of_head = fit.state() | {
                "support": support, "W": W[support], "b": self.b[h], "numbers": numbers,
                "tol": self.tols[h : h + 1],
            }  # fmt: skip
            state |= {f"{h}.{name}": array for name, array in of_head.items()}
        return state

    def restore(self, state: dict[str, Array]) -> None:
        """Set what `state` returned, before the heads are run."""
        self.begun = int(state["now"]), named("now.", state)
        for h in range(len(self.fits)):
            of_head = named(f"{h}.", state)
            if not of_head:
                continue
            fit = self.fits[h] = Fit(NOTHING, np.zeros(0), of_head["support"])
            fit.restore(of_head)
            self.W[h].reshape(-1)[of_head["support"]] = of_head["W"]
            self.b[h] = of_head["b"]
            for column, number in zip(self.numbers.values(), of_head["numbers"], strict=True):
                column[h] = number
            self.tols[h] = of_head["tol"].item()
            asks_more = self.tol < self.tols[h]
            goes_on = {"converged": asks_more, "limit": fit.iterations < self.max_iter}
            if not goes_on.get(fit.status, False):
                self.done.add(h)

    def _keep(self, h: int, newton: ProximalNewton) -> None:
        fit, rows = newton.fit, newton.rows
        b = fit.c - rows.at_centre(fit.W)
        self.keep(h, fit.support, newton.weights(), b, rows.shares > 0)
