"""L1 and elastic net: a proximal Newton method by coordinate descent on working sets.

What is minimised over W and b is, with the weights s of the rows and ``S = sum_i s_i``,

    F(W, b) = 1/S sum_i s_i loss_i(W, b) + l1 ||W||_1 + l2 / 2 ||W||^2.

Each iteration makes the quadratic model of the mean loss where it is. With probabilities p and a
step's logits delta its slope in weight (j, k) is ``mean_i x_ij p_ik (delta_ik - s_i)``, where
``s_i = sum_l p_il delta_il``: one vector of rows couples all classes, and no Hessian is made.
Coordinate descent (`src_cy/coordinate_descent.pxi`) moves the weights of a working set in it: those
that are not 0, and those whose gradients exceed l1. A line search along the logits ends the
iteration.

Yuan, Ho and Lin, "An improved GLMNET for L1-regularized logistic regression" (2012).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from csoftmax.engine.class_rows import Array, Bias, ClassRows, Coordinates
from csoftmax.solver.penalty import Penalty
from csoftmax.solver.stopping import MOST_UNGAINED

# Classes that are descended side by side: 8, but no more than a fifth of all. Those of a wave do
# not see each other move, and the more of a row's probability a wave has, the shorter its steps.
WAVE, WAVE_SHARE = 8, 5
# A sweep visits each coordinate once, and those that are not 0 again.
ROUNDS = 3
# A model is left when a sweep gains less than this share of what all have gained, or after so many.
LAST_GAIN, MOST_SWEEPS = 0.02, 12
# A working set has the weights that are not 0, and at most so many times as many others, at least
# LEAST_NEW for each class; those whose gradients are largest.
GROWTH, LEAST_NEW = 1.0, 20
# No logit is moved by one coordinate by more than a box. It starts at BOX, is halved where a line
# search had to shorten its step, and grows otherwise.
BOX, LEAST_BOX, MOST_BOX = 2.0, 0.25, 4.0
# The line search takes a step that gains this share of what the slope promises.
DECREASE, LEAST_STEP = 1e-3, 1e-3
# With more classes than this the intercepts move by a bound of their Hessian.
MOST_BIAS_CLASSES = 256
# What an iteration gains is at most this share of what the one before it gained, or the distance to
# the optimum is not known.
MOST_RATIO = 0.9
COLUMNS = ("objective", "bound", "estimate", "selected", "seconds")  # of a fit's history


@dataclass
class Fit:
    """Where a fit is: weights, intercepts at the features' mean, and what is known of them.

    Attributes
    ----------
    W, c : ndarray (n_features, n_classes), (n_classes,)
    objective : float
    lower : float
        A proved lower bound of the optimum; the best so far.
    estimate : float
        How far the objective is above the optimum, as the steps say.
    steepest : float
        The largest distance of a slope from where the penalty would hold it.
    status : str
        Why it ended, as in `csoftmax.solver.Solution`; empty while it goes on.
    history : dict of lists
        What `csoftmax.solver.Solution.history` shows.
    """

    W: Array
    c: NDArray[np.float64]
    objective: float = math.inf
    lower: float = 0.0
    estimate: float = math.inf
    iterations: int = 0
    steepest: float = math.inf
    status: str = ""
    history: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in COLUMNS})


class ProximalNewton:
    """Minimises the objective of one problem.

    Parameters
    ----------
    rows : ClassRows
    penalty : Penalty
    free : int64 array
        The classes whose weights may move. The others' stay 0.
    fit_intercept : bool
    """

    def __init__(
        self, rows: ClassRows, penalty: Penalty, free: NDArray[np.int64], fit_intercept: bool
    ) -> None:
        self.rows, self.penalty, self.free = rows, penalty, free
        self.fit_intercept = fit_intercept
        self.present = rows.shares > 0
        self.wave = max(1, min(WAVE, len(free) // WAVE_SHARE))
        self.rounding = float(np.finfo(rows.dtype).eps)
        c = rows.null_bias() if fit_intercept else np.zeros(rows.n_classes)
        self.null_loss = rows.set_logits(np.zeros((1, 1), rows.dtype), c)
        # of the probabilities that all rows have there
        self.null_gradient = rows.gradient(np.zeros(rows.n_classes))[:, free]

    def start(self, W: Array, c: NDArray[np.float64]) -> None:
        self.fit = Fit(W, c)
        self.box, self.rise = BOX, 0.0 if W.any() else BOX
        self.value = self.penalty.value(W)
        self.loss = self.rows.set_logits(W, c)

    # ---- one iteration ------------------------------------------------------------------------

    def solve_bias(self, most: int) -> NDArray[np.float64]:
        """Move the intercepts towards their best; return the gradient in them."""
        rows, fit, tiny = self.rows, self.fit, 4 * self.rounding
        for trial in range(most + 1):
            g = rows.mean_probabilities() - rows.shares
            if not self.fit_intercept:
                return g
            g[self.present] -= g[self.present].mean()
            if trial == most or np.abs(g).max() <= tiny:
                return g
            step = self._bias_step(g)
            before, self.loss = self.loss, rows.move_bias(step)
            fit.c += step
            while not self.loss <= before + tiny * abs(before) and np.abs(step).max() > tiny:
                step *= 0.5
                fit.c -= step
                self.loss = rows.move_bias(-step)
        raise AssertionError

    def _bias_step(self, g: NDArray[np.float64]) -> NDArray[np.float64]:
        step, present = np.zeros(len(g)), self.present
        shares = self.rows.shares[present]
        if len(g) > MOST_BIAS_CLASSES:
            step[present] = -np.log1p(g[present] / shares)
            return step
        H = self.rows.bias_hessian()[np.ix_(present, present)]
        H += np.outer(shares, shares)  # moving all alike changes nothing: any curvature will do
        H[np.diag_indices_from(H)] += 1e-12
        step[present] = -np.linalg.solve(H, g[present])
        step[present] -= step[present].mean()
        step *= min(1.0, self.box / max(float(np.abs(step).max()), 1e-300))
        return step

    def lower_bound(self, G: Array, g: NDArray[np.float64]) -> float:
        """Return what the dual point at P proves: a lower bound of the optimum.

        See `csoftmax.solver.bound` for the point whose classes have the shares of the labels. Here
        y + factor (p' - y) follows, with the largest factor for which the penalty's conjugate is
        finite.
        """
        rows, mix, v = self.rows, 0.0, np.zeros(self.rows.n_classes)
        R = G[:, self.free]
        if self.fit_intercept:
            shares, c = rows.shares[self.present], g[self.present]
            mix = max(0.0, float((1 - shares / np.maximum(shares + c, 1e-300)).max()))
            if mix > 0:
                v[self.present] = np.maximum((shares - (1 - mix) * (shares + c)) / mix, 0.0)
            left = rows.mean - rows.centre  # what the gradient of centred features has not lost yet
            if left.any():
                R = R - np.outer(left, g[self.free]).astype(R.dtype)
            R = R * R.dtype.type(1 - mix) + self.null_gradient * R.dtype.type(mix)
        best = 0.0
        for factor in {1.0, Penalty(self.penalty.l1, 0.0).feasible(R)}:
            conjugate = self.penalty.conjugate(R * R.dtype.type(factor * (1 - self.rounding)))
            if conjugate < math.inf:
                best = max(best, rows.entropy(factor, mix, v) - conjugate)
        return best

    def steepest(self, G: Array) -> float:
        W, l1, l2 = self.fit.W[:, self.free], self.penalty.l1, self.penalty.l2
        slopes = G[:, self.free] + W * W.dtype.type(l2)
        at_zero = np.maximum(np.abs(slopes) - l1, 0)
        missing = np.where(W == 0, at_zero, np.abs(slopes + np.sign(W) * l1))
        return float(missing.max(initial=0.0))

    def working_set(self, G: Array, g: NDArray[np.float64]) -> tuple[Coordinates, Array]:
        """Return the weights that are to move, and the class of each."""
        W, rows, l1 = self.fit.W, self.rows, self.penalty.l1
        nonzero = W != 0
        exceeds = np.abs(G) > l1
        pinned = np.ones(rows.n_classes, bool)
        pinned[self.free] = False
        exceeds[:, pinned] = False
        new = np.flatnonzero(exceeds & ~nonzero)
        n_old = int(np.count_nonzero(nonzero))
        most = max(int(GROWTH * n_old), LEAST_NEW * len(self.free))
        if len(new) > most:
            slopes = np.abs(G.reshape(-1)[new])
            new = new[np.argpartition(-slopes, most)[:most]]
        chosen = np.concatenate([np.flatnonzero(nonzero), new])
        feature, of_class = np.divmod(chosen, rows.n_classes)
        order = np.lexsort((feature, of_class))
        feature, of_class = feature[order], of_class[order]
        starts = np.zeros(rows.n_classes + 1, np.int64)
        np.cumsum(np.bincount(of_class, minlength=rows.n_classes), out=starts[1:])
        u = W[feature, of_class]
        room = (self.box / rows.largest[feature]).astype(rows.dtype)
        coordinates = Coordinates(
            starts, feature.astype(np.int32), u.copy(), u, G[feature, of_class], room,
            np.full(len(u), -1, rows.dtype),
        )  # fmt: skip
        return coordinates, of_class

    def step(self, G: Array, g: NDArray[np.float64]) -> None:
        """Solve the model, and go where that leads."""
        rows, fit, penalty = self.rows, self.fit, self.penalty
        coordinates, of_class = self.working_set(G, g)
        sizes = np.diff(coordinates.starts)[self.free]
        classes = self.free[np.argsort(-sizes, kind="stable")]
        mass = rows.masses(classes, self.wave)
        bias = Bias(np.zeros(rows.n_classes), g, self.box) if self.fit_intercept else None
        rows.forget_delta()
        gains: list[float] = []
        while len(gains) < MOST_SWEEPS and (len(gains) < 2 or gains[-1] > LAST_GAIN * sum(gains)):
            gains.append(
                rows.sweep(
                    coordinates, classes, self.wave, mass, (penalty.l1, penalty.l2), bias,
                    self.rise, ROUNDS,
                )
            )  # fmt: skip
        u, u0 = coordinates.u, coordinates.start
        du = (u - u0).astype(np.float64)
        base = self.value - penalty.value(u0)
        slope = float(coordinates.gradient.astype(np.float64) @ du)
        slope += penalty.value(u) - penalty.value(u0)
        if bias is not None:
            slope += float(g @ bias.moved)
        t, old = 1.0, self.loss + self.value
        while True:
            loss = rows.step(t)
            moved = u if t == 1 else u0 + u.dtype.type(t) * (u - u0)
            value = base + penalty.value(moved)
            if loss + value <= old + DECREASE * t * slope or t < LEAST_STEP:
                break
            t *= 0.5
        if not loss + value < old:
            fit.status = "stalled"
            self.loss = rows.step(0.0)
            return
        self.box = min(max(self.box * (0.5 if t < 1 else 1.5), LEAST_BOX), MOST_BOX)
        self.rise = 0.0 if t == 1 else 1.0
        rows.accept(t)
        fit.W[coordinates.feature, of_class] = moved
        if bias is not None:
            fit.c += t * bias.moved
        self.loss, self.value = loss, value

    def evaluate(self) -> None:
        """Compute the objective anew, from W and c: logits that were added up have rounding."""
        self.value = self.penalty.value(self.fit.W)
        self.loss = self.rows.set_logits(self.fit.W, self.fit.c)
        self.fit.objective = self.loss + self.value

    def is_near(self, tol: float) -> bool:
        """Say whether the fit has converged.

        Under a strong penalty little is gained over the null model, and a distance that is small
        against the objective can be all of that.
        """
        fit = self.fit
        gained = max(self.null_loss - fit.objective, self.value)
        told_apart = max(MOST_UNGAINED * gained, self.rounding * fit.objective)
        return fit.estimate <= tol * fit.objective and fit.estimate <= told_apart

    def run(self, tol: float, max_iter: int, report: Callable[[Fit], bool] | None = None) -> Fit:
        """Go on until the estimate, or what is proved, is below tol * objective."""
        fit, began = self.fit, time.perf_counter()
        gains = [math.inf]
        while True:
            g = self.solve_bias(2)
            G = self.rows.gradient(g)
            fit.lower = max(fit.lower, self.lower_bound(G, g))
            fit.steepest = self.steepest(G)
            gains.append(fit.objective - self.loss - self.value)
            fit.objective = self.loss + self.value
            fit.estimate = max(min(_left(gains), fit.objective - fit.lower), 0.0)
            for name, number in (
                ("objective", fit.objective),
                ("bound", fit.objective - fit.lower),
                ("estimate", fit.estimate),
                ("selected", float(np.count_nonzero(fit.W))),
                ("seconds", time.perf_counter() - began),
            ):
                fit.history[name].append(number)
            if report is not None and report(fit):
                fit.status = "callback"
            elif self.is_near(tol):
                fit.status = "converged"
            elif fit.iterations >= max_iter:
                fit.status = "limit"
            if fit.status:
                return fit
            self.step(G, g)
            fit.iterations += 1


def _left(gains: list[float]) -> float:
    """Return how far the optimum is if iterations go on to gain as they have: a geometric series.

    Its ratio is the worse of the last two.
    """
    if len(gains) < 4 or not gains[-1] > 0:
        return math.inf if len(gains) < 4 else max(gains[-2], 0.0)
    ratio = max(gains[-1] / gains[-2], gains[-2] / gains[-3], 0.0)
    return gains[-1] * ratio / (1 - ratio) if ratio < MOST_RATIO else math.inf
