"""Heads with L1: what has come of them, and what is told of them on the way and in the end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.checks import compute_dtype
from csoftmax.engine.class_rows import Array
from csoftmax.engine.passes import ABSENT_BIAS
from csoftmax.solver.checkpoint import Checkpoint
from csoftmax.solver.l1_fit import Fit
from csoftmax.solver.l1_problem import L1Problem
from csoftmax.solver.solution import Progress, Solution, in_percent

NOTHING = np.zeros((0, 0))  # for weights that are kept elsewhere


class L1Heads:
    """All heads of a problem, and how they are to be run.

    Attributes
    ----------
    fits : list of Fit or None
        What is known of each head.
    W, b : ndarray (n_heads, n_features, n_classes), (n_heads, n_classes)
        As the caller wants them; feature-major, as they come.
    ended : str
        What ended all heads before their time: "callback" or "interrupted".
    steps : str
        What an iteration is, for messages.
    """

    steps = "iterations"
    saved: Checkpoint | None = None
    interval = 0.0

    def __init__(
        self,
        problem: L1Problem,
        starts: tuple[Array | None, Array | None],
        tol: float,
        max_iter: int,
        path: bool,
        callback: Callable[[Progress], object] | None,
        verbose: int,
        started: float,
    ) -> None:
        self.problem, self.starts, self.tol, self.max_iter = problem, starts, tol, max_iter
        self.path, self.callback, self.verbose, self.started = path, callback, verbose, started
        H, K, d = len(problem.penalties), problem.n_classes, problem.n_features
        self.fits: list[Fit | None] = [None] * H
        dtype = compute_dtype(problem.X)
        self.W, self.b = np.zeros((H, d, K), dtype), np.zeros((H, K), dtype)
        self.numbers = {
            name: np.zeros(H) for name in ("objective", "loss", "bound", "estimate", "steepest")
        }
        self.saved_at = started
        self.numbers["estimate"][:] = math.inf  # of heads that have not begun
        self.ended = ""

    @property
    def n_passes(self) -> int:
        """How many iterations, or passes, all heads took together."""
        return sum(fit.iterations for fit in self.fits if fit is not None)

    @property
    def passes(self) -> NDArray[np.int64]:
        """How many each head took part in."""
        return np.array([0 if fit is None else fit.iterations for fit in self.fits])

    def save_in_time(self) -> None:
        """Save, if there is a file to save to and it is time to."""
        if self.saved is not None and time.perf_counter() - self.saved_at >= self.interval:
            self.saved.save()
            self.saved_at = time.perf_counter()

    def ask(self, running: NDArray[np.bool_], keep: Callable[[int], None]) -> bool:
        """Tell the callback where the heads are; True if it wants to stop.

        `keep` makes W and b of a head those of now.
        """
        if self.callback is None:
            return False

        def parameters(head: int) -> tuple[Array, Array]:
            keep(head)
            return self.W[head].T, self.b[head]

        progress = Progress(
            self.n_passes, running, self.numbers["objective"].copy(),
            self.numbers["estimate"].copy(), time.perf_counter() - self.started, parameters,
        )  # fmt: skip
        answer = self.callback(progress)
        return isinstance(answer, (bool, np.bool_)) and bool(answer)

    def show(self, h: int, fit: Fit, value: float) -> None:
        """Note the numbers of a head; `value` is that of its penalty."""
        for name, number in (
            ("objective", fit.objective),
            ("loss", fit.objective - value),
            ("bound", max(fit.objective - fit.lower, 0.0)),
            ("estimate", fit.estimate),
            ("steepest", fit.steepest * self.problem.scale),
        ):
            self.numbers[name][h] = number

    def keep(
        self, h: int, places: NDArray[np.int64], weights: Array, b: NDArray[np.float64],
        present: NDArray[np.bool_],
    ) -> None:  # fmt: skip
        """Note W, by the weights that are not 0 and their places, and b, as the caller wants them.

        `present` says which classes the head has.
        """
        problem = self.problem
        self.W[h] = 0
        self.W[h].reshape(-1)[places] = weights / weights.dtype.type(problem.scale)
        if problem.fit_intercept:
            b = b.copy()
            b[present] -= b[0] if len(problem.free) < problem.n_classes else b[present].mean()
            b[~present] = ABSENT_BIAS
            self.b[h] = b

    def solution(self) -> Solution:
        """Return what has come of the heads."""
        fits = [fit for fit in self.fits if fit is not None]
        numbers, iterations = self.numbers, np.array([fit.iterations for fit in fits])
        return Solution(
            W=self.W.transpose(0, 2, 1), b=self.b, objective=numbers["objective"],
            loss=numbers["loss"], bound=numbers["bound"], estimate=numbers["estimate"],
            noise=np.full(len(fits), math.nan),
            gradient_max=numbers["steepest"], passes=self.passes, iterations=iterations,
            converged=np.array([fit.status == "converged" for fit in fits]),
            status=tuple(fit.status for fit in fits), message=self._message(fits),
            history=tuple(fit.history for fit in fits), n_passes=self.n_passes,
            seconds=time.perf_counter() - self.started,
        )  # fmt: skip

    def _message(self, fits: list[Fit]) -> str:
        """Say how far heads are that have not converged; nothing if the callback stopped them."""
        left = [fit for fit in fits if fit.status != "converged"]
        if not left or self.ended == "callback":
            return ""
        worst = max(left, key=lambda fit: fit.estimate / fit.objective)
        text = "interrupted: this is the best so far; " if self.ended else ""
        if len(fits) > 1:
            text += f"{len(left)} of {len(fits)} heads have not converged, the worst is "
        if math.isfinite(worst.estimate):
            text += (
                f"{in_percent(worst.estimate / worst.objective)} % above the optimum by estimate"
            )
        else:
            text += "at an unknown distance from the optimum"
        text += f" after {worst.iterations} {self.steps}"
        return text + self.advice(worst)

    def advice(self, fit: Fit) -> str:
        """Say why a fit has ended too early, if that is known."""
        return "; rounding allows no further step" if fit.status == "stalled" else ""
