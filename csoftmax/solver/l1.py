"""The fit with L1 or elastic net, of several heads: arguments in, a `Solution` out.

`csoftmax.solver.proximal` solves one problem. Heads that share a row of weights are solved one
after the other.
"""

from __future__ import annotations

import math
import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from csoftmax.core.checks import check_number, check_positive, compute_dtype
from csoftmax.engine.class_rows import Array, ClassRows
from csoftmax.engine.passes import ABSENT_BIAS
from csoftmax.solver.checkpoint import Checkpoint
from csoftmax.solver.descent import named
from csoftmax.solver.l1_fit import Fit
from csoftmax.solver.l1_problem import L1Problem, checked_l1_problem, l1_starts
from csoftmax.solver.proximal import ProximalNewton
from csoftmax.solver.solution import ConvergenceWarning, Progress, Solution, in_percent
from csoftmax.solver.walk import one_blas_thread

NOTHING = np.zeros((0, 0))  # for weights that are kept elsewhere


def minimize_l1(
    X: ArrayLike,
    y: ArrayLike,
    n_classes: int,
    *,
    C: float | ArrayLike = 1.0,
    l1_ratio: float = 1.0,
    scale: float = 1.0,
    sample_weight: ArrayLike | None = None,
    weight_of_head: ArrayLike | None = None,
    fit_intercept: bool = True,
    one_row: bool = False,
    tol: float = 1e-4,
    max_iter: int = 1000,
    path: bool = False,
    W: ArrayLike | None = None,
    b: ArrayLike | None = None,
    n_threads: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: float = 60.0,
    callback: Callable[[Progress], object] | None = None,
    verbose: int = 0,
    warns: bool = True,
) -> Solution:
    """Minimise the objective of softmax regression with L1 or elastic net, for several heads.

    Head h minimises over W and b, with its row weights s and ``S = sum_i s_i``,

        ``1/S sum_i s_i loss_i(W, b) + 1/(C_h S) (l1_ratio ||W||_1 + (1 - l1_ratio)/2 ||W||^2)``

    Parameters
    ----------
    X : array_like or sparse matrix (n_samples, n_features)
        Sparse rows are read as they are. Of an array the columns whose weights move are copied in
        the compute type.
    y : array_like (n_samples,) or (n_samples, n_classes)
        Integer labels 0..n_classes-1, or probabilities whose rows sum to 1.
    n_classes : int
        Number of classes.
    C : float or array_like (n_heads,)
        Inverse strength of the penalty, > 0 and finite.
    l1_ratio : float
        The share of L1, above 0 and at most 1.
    scale, sample_weight, weight_of_head, fit_intercept, n_threads
        As for `csoftmax.solver.minimize`.
    one_row : bool
        For two classes: the weights and the intercept of class 0 are 0. This is the logistic
        regression of one row of weights, class 1's. (The softmax has a row for each class, and L1
        of the two is another problem than L1 of their difference.)
    tol : float
        A head has converged when its estimated distance to the optimum is at most so much of its
        objective.
    max_iter : int
        Iterations of a head, at most.
    path : bool
        Solve the heads that share a row of weights from small to large C, each from where the one
        before it ended.
    W, b : array_like (n_heads, n_classes, n_features), (n_heads, n_classes), optional
        Where to start; None: at ``W = 0``. With a path, where its first heads start.
    checkpoint : path, optional
        A file to save the state to. If it exists, the call goes on from there, to the same bits as
        without the interruption. `tol` and `max_iter` may differ: then heads that had ended, and
        not as these ask, go on from their W and b.
    checkpoint_every : float
        Seconds between saves, at least.
    callback : function, optional
        Called with a `Progress` after each iteration; if it returns True, the solver stops.
    verbose : int
        If not 0, a line on stderr after each iteration.
    warns : bool
        Whether to warn of heads that have not converged.

    Returns
    -------
    Solution
        `bound` is what is proved and `estimate` what the last iterations say, which is usually far
        less. `gradient_max` is the largest distance of a slope from where the penalty would hold
        it. `history` has "objective", "bound", "estimate", "selected" (weights that are not 0) and
        "seconds". Passes are iterations here.

    Raises
    ------
    TypeError, ValueError
        Arguments that do not fit, NaN or infinity in X (named).
    DataError
        A checkpoint of another problem, or a file that is no checkpoint.

    Warns
    -----
    ConvergenceWarning
        If a head has not converged.

    Notes
    -----
    The result is bitwise the same for any `n_threads`.

    Examples
    --------
    >>> import csoftmax as cs
    >>> from csoftmax.solver.l1 import minimize_l1
    >>> train, _ = cs.fashion_mnist_sample()
    >>> X = train.X.reshape(len(train), -1)
    >>> few = minimize_l1(X, train.y, 10, C=0.01, scale=1 / 255, tol=1e-3)
    >>> bool(few.converged[0]), bool((few.W == 0).mean() > 0.9)
    (True, True)
    """
    started = time.perf_counter()
    if check_number(tol, "tol") < 0:
        raise ValueError(f"tol is {tol}, expected a number >= 0")
    if max_iter != 0:
        check_positive(max_iter, "max_iter")
    if callback is not None and not callable(callback):
        raise TypeError(f"callback is a {type(callback).__name__}, expected a function")
    interval = check_number(checkpoint_every, "checkpoint_every")
    problem = checked_l1_problem(
        X, y, n_classes, C, l1_ratio, scale, sample_weight, weight_of_head, fit_intercept, one_row,
        n_threads,
    )  # fmt: skip
    starts = l1_starts(problem, W, b)
    heads = _Heads(
        problem, starts, float(tol), int(max_iter), bool(path), callback, verbose, started
    )
    if checkpoint is not None:
        digest = problem.fingerprint(starts, bool(path))
        heads.saved = Checkpoint(checkpoint, heads, digest)
        heads.interval = interval
        heads.saved.resume()
    with one_blas_thread():
        heads.run()
    solution = heads.solution()
    if warns and solution.message:
        warnings.warn(solution.message, ConvergenceWarning, stacklevel=2)
    return solution


class _Heads:
    """All heads, and what has come of them.

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
        H, K, d = len(problem.penalties), problem.n_classes, problem.X.shape[1]
        self.fits: list[Fit | None] = [None] * H
        dtype = compute_dtype(problem.X)
        # feature-major, as they come: the result shows them class-major
        self.W, self.b = np.zeros((H, d, K), dtype), np.zeros((H, K), dtype)
        self.numbers = {
            name: np.zeros(H) for name in ("objective", "loss", "bound", "estimate", "steepest")
        }
        self.done: set[int] = set()
        self.tols = np.full(H, tol)  # that heads have ended by
        self.saved_at = started
        self.numbers["estimate"][:] = math.inf  # of heads that have not begun
        self.ended = ""

    def run(self) -> None:
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

        def report(fit: Fit) -> bool:
            self._show(h, newton)
            if self.saved is not None and time.perf_counter() - self.saved_at >= self.interval:
                self.saved.save()
                self.saved_at = time.perf_counter()
            if self.verbose:
                print(
                    f"head {h}, iteration {fit.iterations}: objective {fit.objective:.6g}, "
                    f"{fit.history['selected'][-1]:.0f} weights selected, about "
                    f"{fit.estimate / fit.objective:.2%} to go",
                    file=sys.stderr,
                )
            answer = (
                self.callback(self._progress(h, newton)) if self.callback is not None else False
            )
            return isinstance(answer, (bool, np.bool_)) and bool(answer)

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
        self._show(h, newton)
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

    def _show(self, h: int, newton: ProximalNewton) -> None:
        fit = newton.fit
        for name, number in (
            ("objective", fit.objective),
            ("loss", fit.objective - newton.value),
            ("bound", max(fit.objective - fit.lower, 0.0)),
            ("estimate", fit.estimate),
            ("steepest", fit.steepest * self.problem.scale),
        ):
            self.numbers[name][h] = number

    def _keep(self, h: int, newton: ProximalNewton) -> None:
        """Note W and b of a head as its caller wants them."""
        fit, rows, problem = newton.fit, newton.rows, self.problem
        weights = newton.weights() / rows.dtype.type(problem.scale)
        self.W[h] = 0
        self.W[h].reshape(-1)[fit.support] = weights
        if problem.fit_intercept:
            b, present = fit.c - rows.at_centre(fit.W), rows.shares > 0
            b[present] -= b[0] if len(problem.free) < problem.n_classes else b[present].mean()
            b[~present] = ABSENT_BIAS
            self.b[h] = b

    def _progress(self, h: int, newton: ProximalNewton) -> Progress:
        running = np.zeros(len(self.fits), bool)
        running[h] = True

        def parameters(head: int) -> tuple[Array, Array]:
            if head == h:
                self._keep(h, newton)
            return self.W[head].T, self.b[head]

        return Progress(
            sum(fit.iterations for fit in self.fits if fit is not None), running,
            self.numbers["objective"].copy(), self.numbers["estimate"].copy(),
            time.perf_counter() - self.started, parameters,
        )  # fmt: skip

    def solution(self) -> Solution:
        fits = [fit for fit in self.fits if fit is not None]
        numbers, iterations = self.numbers, np.array([fit.iterations for fit in fits])
        return Solution(
            W=self.W.transpose(0, 2, 1), b=self.b, objective=numbers["objective"],
            loss=numbers["loss"], bound=numbers["bound"], estimate=numbers["estimate"],
            noise=np.full(len(fits), math.nan),
            gradient_max=numbers["steepest"], passes=iterations, iterations=iterations,
            converged=np.array([fit.status == "converged" for fit in fits]),
            status=tuple(fit.status for fit in fits), message=self._message(fits),
            history=tuple(fit.history for fit in fits), n_passes=int(iterations.sum()),
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
        text += f" after {worst.iterations} iterations"
        if worst.status == "stalled":
            text += "; rounding allows no further step"
        return text
