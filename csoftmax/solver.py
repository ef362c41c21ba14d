"""Softmax regression to the optimum: many problems over the same rows, one pass at a time.

A head is one problem: its C, its row weights. All heads that are still running are evaluated in the
same pass over X, which is read as it is stored; each walks by L-BFGS (`csoftmax._lbfgs`) in
coordinates that its Hessian at W = 0 has made round (`csoftmax._precondition`), and drops out when
it is close enough to its optimum.
"""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from csoftmax import _kernels
from csoftmax._lbfgs import Lbfgs, Point
from csoftmax._passes import as_stored
from csoftmax._precondition import FULL_FEATURES, Hessian, Spectrum
from csoftmax._validate import (
    as_array,
    as_features,
    as_labels,
    as_weights,
    check_number,
    check_positive,
    check_threads,
    compute_dtype,
)

Array = NDArray[Any]
Callback = Callable[["Progress"], object]

__all__ = ["ConvergenceWarning", "Progress", "Solution", "minimize"]

PRECONDITIONERS = ("auto", "full", "diagonal", None)
# The bias of a class that no row of the head has: its probability is 0 in either float type.
ABSENT_BIAS = -1e4


class ConvergenceWarning(UserWarning):
    """The solver stopped before the distance to the optimum was below `tol`."""


class Progress(NamedTuple):
    """What a callback is told after each pass; arrays over heads."""

    n_passes: int
    running: NDArray[np.bool_]
    objective: NDArray[np.float64]
    estimate: NDArray[np.float64]
    seconds: float


@dataclass(frozen=True, eq=False)
class Solution:
    """What `minimize` returns; arrays over heads, class-major weights.

    ``objective - bound <= optimum <= objective`` whatever the data; ``estimate`` is about how far
    the optimum is, usually far below the bound. ``history[h]`` has one entry for each iteration of
    head h: "passes", "objective", "estimate", "gradient_max", "seconds".
    """

    W: Array
    b: Array
    objective: NDArray[np.float64]
    loss: NDArray[np.float64]
    bound: NDArray[np.float64]
    estimate: NDArray[np.float64]
    gradient_max: NDArray[np.float64]
    passes: NDArray[np.int64]
    iterations: NDArray[np.int64]
    converged: NDArray[np.bool_]
    history: tuple[dict[str, list[float]], ...]
    n_passes: int
    seconds: float


class Problem:
    """H heads over the rows of X: what a pass needs, and what no pass changes."""

    def __init__(
        self,
        X: ArrayLike,
        y: ArrayLike,
        n_classes: int,
        C: float | ArrayLike,
        scale: float,
        sample_weight: ArrayLike | None,
        weight_of_head: ArrayLike | None,
        fit_intercept: bool,
        n_threads: int | None,
    ) -> None:
        features = as_features(X)
        self.dtype = compute_dtype(features)
        self.X = as_stored(features, self.dtype)
        self.n_rows, self.n_features = self.X.shape
        self.n_classes = check_positive(n_classes, "n_classes")
        self.y = as_labels(y, self.n_rows, self.n_classes)
        self.scale = check_number(scale, "scale")
        self.fit_intercept = bool(fit_intercept)
        self.threads = check_threads(n_threads)
        self.weights, self.weight_of_head = _as_head_weights(
            sample_weight, weight_of_head, self.n_rows
        )
        self.C = _as_C(C, None if self.weight_of_head is None else len(self.weight_of_head))
        if self.weights is not None and self.weight_of_head is None:
            n_weights = len(self.weights)
            if len(self.C) == 1:
                self.C = np.repeat(self.C, n_weights)
            if n_weights not in (1, len(self.C)):
                raise ValueError(
                    f"sample_weight has {n_weights} rows and C has {len(self.C)} values: expected "
                    f"weight_of_head to say which head has which"
                )
            of_head = np.arange(n_weights) if n_weights > 1 else np.zeros(len(self.C))
            self.weight_of_head = of_head.astype(np.int64)
        if self.weight_of_head is None:
            self.weight_of_head = np.zeros(len(self.C), np.int64)
        self.n_heads = len(self.C)
        if self.weights is None:
            self.totals = np.array([float(self.n_rows)])
        else:
            self.totals = self.weights.sum(axis=1)
        if not self.totals.all():
            what = "X has 0 rows" if not self.n_rows else "sample_weight has a row that sums to 0"
            raise ValueError(f"{what}, expected a sample that counts")
        self.total = self.totals[self.weight_of_head]
        self.lam = 1.0 / (self.C * self.total)
        self._null_models()

    def of(self, head: int) -> int:
        """Return the row of `weights` that a head uses."""
        return int(self.weight_of_head[head])  # type: ignore[index]

    def _null_models(self) -> None:
        """Weights of 0 and the best bias, once per row of weights: where heads start.

        Also the weighted mean of the features, exactly: gradients of two classes at p = 1/2.
        """
        n, shape = len(self.totals), (len(self.totals), self.n_classes)
        shares = np.zeros(shape)
        for r in range(n):
            weight = None if self.weights is None else self.weights[r]
            shares[r] = np.bincount(self.y, weight, self.n_classes) / self.totals[r]
        self.shares = shares if self.fit_intercept else np.full(shape, 1.0 / self.n_classes)
        with np.errstate(divide="ignore"):
            bias = np.where(self.shares > 0, np.log(self.shares), ABSENT_BIAS)
        if self.fit_intercept:
            bias -= np.where(self.shares > 0, bias, 0).sum(axis=1, keepdims=True) / (
                self.shares > 0
            ).sum(axis=1, keepdims=True)
        self.null_bias = np.where(self.shares > 0, bias, ABSENT_BIAS).astype(self.dtype)
        W = np.zeros((*shape, self.n_features), self.dtype)
        self.null_gradient, db = np.empty_like(W), np.empty(shape, self.dtype)
        losses = self._pass(range(n), W, self.null_bias, self.null_gradient, db, self.y)
        self.null_loss = losses / self.totals
        for r in range(n):
            self.null_gradient[r] /= self.totals[r]
        self.null_bias_gradient = db / self.totals[:, None]
        if not (np.isfinite(losses).all() and np.isfinite(self.null_gradient).all()):
            _find_bad_value(self.X)
        self.means = np.zeros((n, self.n_features))
        if self.fit_intercept:
            W = np.zeros((n, 2, self.n_features), self.dtype)
            dW, b = np.empty_like(W), np.zeros((n, 2), self.dtype)
            self._pass(range(n), W, b, dW, np.empty_like(b), np.zeros_like(self.y))
            self.means[:] = -2.0 * dW[:, 0] / self.totals[:, None]

    def _pass(
        self, weight_rows: Sequence[int], W: Array, b: Array, dW: Array, db: Array, y: Array
    ) -> NDArray[np.float64]:
        """Evaluate stacked heads: the weighted sums of losses and of gradients."""
        losses = np.empty(len(W))
        for h, r in enumerate(weight_rows):
            losses[h], _ = _kernels.row_pass(
                self.X, W[h], b[h], self.scale, y=y,
                sample_weight=None if self.weights is None else self.weights[r],
                gradient=(dW[h], db[h]), n_threads=self.threads,
            )  # fmt: skip
        return losses

    def evaluate(self, heads: Sequence[int], states: Sequence[Lbfgs]) -> list[float]:
        """Evaluate each head at its trial point: one pass."""
        n, split = len(heads), self.n_classes * self.n_features
        shape = (self.n_classes, self.n_features)
        if n == 1:
            x, g = states[0].trial, states[0].trial_gradient
            W, b = x[:split].reshape(1, *shape), x[split:].reshape(1, -1)
            dW, db = g[:split].reshape(1, *shape), g[split:].reshape(1, -1)
        else:
            W, b = np.empty((n, *shape), self.dtype), np.empty((n, self.n_classes), self.dtype)
            dW, db = np.empty_like(W), np.empty_like(b)
            for i, state in enumerate(states):
                W[i].reshape(-1)[:], b[i] = state.trial[:split], state.trial[split:]
        losses = self._pass([self.of(h) for h in heads], W, b, dW, db, self.y)
        objectives = []
        for i, (h, state) in enumerate(zip(heads, states, strict=True)):
            x, g = state.trial, state.trial_gradient
            if n > 1:
                g[:split], g[split:] = dW[i].reshape(-1), db[i]
            objectives.append(self.objective(h, float(losses[i]), x, g))
        return objectives

    def objective(self, head: int, losses: float, x: Array, g: Array) -> float:
        """Return the objective; `g`, of the sum of losses, becomes its gradient."""
        split, lam = self.n_classes * self.n_features, float(self.lam[head])
        g *= 1.0 / float(self.total[head])
        g[:split] += x[:split] * lam
        if not self.fit_intercept:
            g[split:] = 0
        return losses / float(self.total[head]) + 0.5 * lam * _square(x[:split])

    def lower_bound(self, head: int, point: Point) -> float:
        """Return a number that the optimum of a head is not below, from the dual problem.

        For any probabilities p' whose shares of the classes are those of the labels, and
        ``R' = mean_i s_i (p'_i - e_yi) x_i^T``, the optimum is at least
        ``mean_i s_i entropy(p'_i) - ||R'||^2 / (2 lambda)`` (the Fenchel dual; without an intercept
        any p' will do). At the point's own p the distance to its objective is
        ``||gradient||^2 / (2 lambda)``. The shares of p miss those of the labels by the gradient c
        of the intercept, so p' is the mixture ``(1 - t) p + t v`` with the constant v that makes up
        for it, t as small as keeps v >= 0. Entropy is concave, so that of p' is at least the
        mixture of the two, and ``R' = (1 - t)(R - c mean(x)^T) + t R_0`` with R_0 of the null model.
        """
        lam = float(self.lam[head])
        if lam == 0:
            return -math.inf
        r, split = self.of(head), self.n_classes * self.n_features
        W = point.x[:split].reshape(self.n_classes, -1).astype(np.float64)
        b = point.x[split:].astype(np.float64)
        R = point.gradient[:split].reshape(W.shape) - lam * W
        c = point.gradient[split:].astype(np.float64)
        loss = point.objective - 0.5 * lam * _square(W.reshape(-1))
        entropy = loss - float(np.vdot(R, W))
        if self.fit_intercept:
            entropy -= float(c @ b)
            shares = self.shares[r]
            present = shares > 0
            c = np.where(present, c - c[present].mean(), 0.0)
            of_point = shares + c
            t = max(0.0, float((1 - shares[present] / of_point[present]).max()))
            R = (1 - t) * (R - c[:, None] * self.means[r]) + t * self.null_gradient[r]
            if t > 0:
                v = (shares - (1 - t) * of_point)[present] / t
                v = np.maximum(v, 0)
                entropy = (1 - t) * entropy - t * float(v @ np.log(np.where(v > 0, v, 1)))
        return entropy - float(np.vdot(R, R)) / (2 * lam)


class Head:
    """One head on its way: its L-BFGS, and what is reported of it."""

    def __init__(self, index: int, state: Lbfgs) -> None:
        self.index, self.state = index, state
        self.steps: Any = None
        self.passes = self.iterations = 0
        self.lower = -math.inf
        self.converged = False
        self.history: dict[str, list[float]] = {
            name: [] for name in ("passes", "objective", "estimate", "gradient_max", "seconds")
        }

    @property
    def point(self) -> Point:
        assert self.state.point is not None
        return self.state.point

    def note(self, problem: Problem, tol: float, seconds: float) -> None:
        """Record an iteration and see whether it is near enough."""
        point = self.point
        estimate = point.estimate
        self.lower = max(self.lower, problem.lower_bound(self.index, point))
        self.converged = estimate <= tol * abs(point.objective)
        for name, value in (
            ("passes", self.passes),
            ("objective", point.objective),
            ("estimate", estimate),
            ("gradient_max", float(np.abs(point.gradient).max(initial=0.0))),
            ("seconds", seconds),
        ):
            self.history[name].append(value)


def minimize(
    X: ArrayLike,
    y: ArrayLike,
    n_classes: int,
    *,
    C: float | ArrayLike = 1.0,
    scale: float = 1.0,
    sample_weight: ArrayLike | None = None,
    weight_of_head: ArrayLike | None = None,
    fit_intercept: bool = True,
    tol: float = 1e-4,
    max_iter: int = 1000,
    history_size: int = 10,
    preconditioner: str | None = "auto",
    W: ArrayLike | None = None,
    b: ArrayLike | None = None,
    n_threads: int | None = None,
    callback: Callback | None = None,
    verbose: int = 0,
) -> Solution:
    """Minimise the objective of softmax regression, for several heads in the same passes over X."""
    started = time.perf_counter()
    tol, max_iter = check_number(tol, "tol"), check_positive(max_iter, "max_iter")
    history_size = check_positive(history_size, "history_size")
    if preconditioner not in PRECONDITIONERS:
        raise ValueError(
            f'preconditioner is {preconditioner!r}, expected "auto", "full", "diagonal" or None'
        )
    problem = Problem(
        X, y, n_classes, C, scale, sample_weight, weight_of_head, fit_intercept, n_threads
    )
    start = _starting_points(problem, W, b)
    spectra: dict[int, Spectrum | None] = {}
    heads = []
    for h in range(problem.n_heads):
        r = problem.of(h)
        if r not in spectra:
            spectra[r] = _spectrum(problem, r, preconditioner)
        hessian = Hessian(
            spectra[r], problem.shares[r], float(problem.lam[h]), problem.n_features,
            problem.fit_intercept, problem.dtype,
        )  # fmt: skip
        heads.append(Head(h, Lbfgs(start[h], history_size, hessian.apply)))
    n_passes = 1
    running = heads
    try:
        objectives = problem.evaluate(range(len(heads)), [head.state for head in heads])
        for head, objective in zip(heads, objectives, strict=True):
            head.passes = 1
            head.state.start(objective)
            head.steps = head.state.steps()
        answers: list[float | None] = [None] * len(heads)
        while True:
            still = []
            for head, answer in zip(running, answers, strict=True):
                iterated = next(head.steps, None) if answer is None else _send(head.steps, answer)
                if iterated:
                    head.iterations += answer is not None
                    head.note(problem, tol, time.perf_counter() - started)
                if iterated is not None and not head.converged and head.iterations < max_iter:
                    still.append(head)
            running = still
            if callback is not None or verbose:
                stop = _report(problem, heads, running, n_passes, started, callback, verbose)
                if stop:
                    break
            if not running:
                break
            answers = list(
                problem.evaluate([h.index for h in running], [h.state for h in running])
            )
            n_passes += 1
            for head in running:
                head.passes += 1
    except KeyboardInterrupt:
        if any(head.state.point is None for head in heads):
            raise
        warnings.warn("interrupted: this is the best so far", ConvergenceWarning, stacklevel=2)
    else:
        _warn_if_unconverged(heads, tol)
    return _solution(problem, heads, n_passes, started)


def _send(steps: Any, answer: float) -> bool | None:
    try:
        return bool(steps.send(answer))
    except StopIteration:
        return None


def _report(
    problem: Problem, heads: list[Head], running: list[Head], n_passes: int, started: float,
    callback: Callback | None, verbose: int,
) -> bool:  # fmt: skip
    flags = np.zeros(problem.n_heads, bool)
    flags[[head.index for head in running]] = True
    progress = Progress(
        n_passes,
        flags,
        np.array([head.point.objective for head in heads]),
        np.array([head.point.estimate for head in heads]),
        time.perf_counter() - started,
    )
    if verbose:
        worst = int(np.argmax(progress.estimate / np.abs(progress.objective)))
        print(
            f"pass {n_passes}: {len(running)} of {len(heads)} heads running, objective "
            f"{progress.objective[worst]:.6g} (about {progress.estimate[worst]:.1e} to go)",
            file=sys.stderr,
        )
    answer = callback(progress) if callback is not None else False
    return isinstance(answer, (bool, np.bool_)) and bool(answer)


def _solution(problem: Problem, heads: list[Head], n_passes: int, started: float) -> Solution:
    split = problem.n_classes * problem.n_features
    points = [head.point for head in heads]
    x = np.stack([point.x for point in points])
    objective = np.array([point.objective for point in points])
    penalty = [0.5 * lam * _square(p.x[:split]) for lam, p in zip(problem.lam, points, strict=True)]
    return Solution(
        W=x[:, :split].reshape(len(heads), problem.n_classes, problem.n_features),
        b=x[:, split:],
        objective=objective,
        loss=objective - penalty,
        bound=np.maximum(objective - [head.lower for head in heads], 0.0),
        estimate=np.array([point.estimate for point in points]),
        gradient_max=np.array([np.abs(p.gradient).max(initial=0.0) for p in points], float),
        passes=np.array([head.passes for head in heads]),
        iterations=np.array([head.iterations for head in heads]),
        converged=np.array([head.converged for head in heads]),
        history=tuple(head.history for head in heads),
        n_passes=n_passes,
        seconds=time.perf_counter() - started,
    )


def _warn_if_unconverged(heads: list[Head], tol: float) -> None:
    left = [head for head in heads if not head.converged]
    if not left:
        return
    head = max(left, key=lambda head: head.point.estimate / abs(head.point.objective or 1.0))
    distance = head.point.estimate / abs(head.point.objective or 1.0)
    text = f"{distance:.2%} above the optimum by estimate after {head.passes} passes"
    if len(heads) > 1:
        text = f"{len(left)} of {len(heads)} heads stopped early, the worst {text}"
    more = _passes_to_go(head, tol)
    if head.state.stalled:
        text += f"; {head.point.x.dtype} rounding allows no further step"
    elif more is not None:
        text += f"; about {more} more to reach {tol:.2g} of the objective"
    warnings.warn(text, ConvergenceWarning, stacklevel=3)


def _passes_to_go(head: Head, tol: float) -> int | None:
    """Extrapolate the decay of the estimate over the second half of the way."""
    passes, estimates = head.history["passes"], head.history["estimate"]
    middle = len(passes) // 2
    target = tol * abs(head.point.objective)
    if len(passes) - middle < 3 or not (0 < estimates[-1] < estimates[middle]) or target <= 0:
        return None
    rate = math.log(estimates[middle] / estimates[-1]) / (passes[-1] - passes[middle])
    return math.ceil(max(0.0, math.log(estimates[-1] / target)) / rate)


# ---- arguments ---------------------------------------------------------------------------------


def _spectrum(problem: Problem, r: int, preconditioner: str | None) -> Spectrum | None:
    if preconditioner is None:
        return None
    full = preconditioner == "full" or (
        preconditioner == "auto" and problem.n_features <= FULL_FEATURES
    )
    weight = None if problem.weights is None else problem.weights[r]
    return Spectrum(problem.X, problem.scale, weight, problem.means[r], full, problem.dtype)


def _starting_points(problem: Problem, W: ArrayLike | None, b: ArrayLike | None) -> Array:
    """Return (H, K f + K) starting points: the null models, or what is given, centred."""
    H, K, f = problem.n_heads, problem.n_classes, problem.n_features
    x = np.zeros((H, K * f + K), problem.dtype)
    for h in range(H):
        r = problem.of(h)
        present = problem.shares[r] > 0
        bias = x[h, K * f :]
        bias[:] = problem.null_bias[r]
        if W is not None:
            given = _as_parameters(W, (H, K, f), "W")[h]
            centred = np.where(present[:, None], given - given[present].mean(axis=0), 0.0)
            x[h, : K * f] = centred.reshape(-1)
        if b is not None and problem.fit_intercept:
            given = _as_parameters(b, (H, K), "b")[h]
            bias[present] = (given - given[present].mean())[present]
    return x


def _as_parameters(values: ArrayLike, shape: tuple[int, ...], name: str) -> Array:
    array = as_array(values, name)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} has a NaN or an infinite value, expected finite numbers")
    return array


def _as_C(C: float | ArrayLike, n_heads: int | None) -> NDArray[np.float64]:
    values = np.atleast_1d(as_array(C, "C")).astype(np.float64)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"C has shape {values.shape}, expected a number or one number per head")
    bad = ~(values > 0)  # NaN too
    if bad.any():
        raise ValueError(f"C is {values[bad][0]}, expected a number > 0 (inf: no penalty)")
    if n_heads is not None and len(values) == 1:
        values = np.repeat(values, n_heads)
    if n_heads is not None and len(values) != n_heads:
        raise ValueError(f"C has {len(values)} values, weight_of_head has {n_heads}")
    return values


def _as_head_weights(
    sample_weight: ArrayLike | None, weight_of_head: ArrayLike | None, n_rows: int
) -> tuple[Array | None, NDArray[np.int64] | None]:
    if sample_weight is None:
        if weight_of_head is not None:
            raise ValueError("weight_of_head is given but sample_weight is not")
        return None, None
    given = as_array(sample_weight, "sample_weight")
    if given.ndim not in (1, 2) or given.shape[-1] != n_rows or not given.size:
        raise ValueError(
            f"sample_weight has shape {given.shape}, expected ({n_rows},) or (n_weights, {n_rows})"
        )
    flat = as_weights(given.reshape(-1), given.size, "sample_weight", np.dtype(np.float64))
    weights = flat.reshape(-1, n_rows)
    if weight_of_head is None:
        return weights, None
    of_head = np.asarray(weight_of_head)
    return weights, as_labels(of_head, of_head.size, len(weights), name="weight_of_head")


def _find_bad_value(X: Array) -> None:
    """Raise ValueError naming the first NaN or infinite value of X."""
    step = max(1, (1 << 22) // max(1, X.shape[1]))
    for start in range(0, len(X), step):
        bad = ~np.isfinite(X[start : start + step])
        if bad.any():
            i, j = np.argwhere(bad)[0]
            raise ValueError(
                f"X[{start + i}, {j}] is {X[start + i, j]}, expected finite numbers"
            )
    raise ValueError("X is so large that sums over its rows overflow: expected smaller numbers")


def _square(x: Array) -> float:
    x = x.astype(np.float64, copy=False)
    return float(np.dot(x, x))
