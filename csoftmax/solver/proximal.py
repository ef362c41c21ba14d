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

import numpy as np
from numpy.typing import NDArray

from csoftmax.engine.class_rows import Array, Bias, ClassRows, Coordinates
from csoftmax.solver.l1_fit import LOOKED_BACK, ROUNDINGS, Fit, is_near, left_of_gains
from csoftmax.solver.l1_path import Solved, ahead
from csoftmax.solver.penalty import Penalty
from csoftmax.solver.quadratic import Model
from csoftmax.solver.slopes import Slopes, in_blocks

# Classes that are descended side by side: 8, but no more than a fifth of all. Those of a wave do
# not see each other move, and the more of a row's probability a wave has, the shorter its steps.
WAVE, WAVE_SHARE = 8, 5
# No logit is moved by one coordinate by more than a box. It starts at BOX, is halved where a line
# search had to shorten its step, and grows otherwise.
BOX, LEAST_BOX, MOST_BOX = 2.0, 0.25, 4.0
# The line search takes a step that gains this share of what the slope promises, if it is at least
# LEAST_STEP of the whole.
DECREASE, LEAST_STEP = 1e-3, 1e-3
# Where that is less than this share of what the model gained, half the step may gain more.
POOR = 0.5
# A fit begins at penalties so many times as strong, with as many steps at most, until a step
# promises no more than PATH_LEFT of the objective.
PATH, PATH_STEPS, PATH_LEFT = (100.0, 30.0, 10.0, 3.0), 3, 3e-2
# Models are minimised roughly until a step promises no more than this share of the objective.
ROUGH = 3e-3
# With more classes than this the intercepts move by a bound of their Hessian.
MOST_BIAS_CLASSES = 256
# By that bound a class is brought down from no more than so many times its share. (The mean
# probability of a corrected sample may seem to be below 0.)
LEAST_SHARE = 1e-3
# What is left to gain after a step, as the estimate has it. Where the gain differs from the model's
# by at most MOST_WRONG of it, that difference is left. A share of the gain is added, as the model
# was not minimised to its end: UNSOLVED; or CUT_SHORT, if the minimisation was cut short or the
# step is the fit's first, whose working set may lack weights. Where the model is further off, what
# is left is DOUBT times what the step promised.
MOST_WRONG, UNSOLVED, CUT_SHORT, DOUBT = 0.3, 0.1, 0.5, 1.5
# Where no part of a step gains, it is made anew, at most CAREFUL_STEPS times: by plain sweeps, one
# class after the other, and each time with boxes of CAREFUL_BOX of their size.
CAREFUL_STEPS, CAREFUL_BOX = 6, 0.25
# What a checkpoint saves as one number each.
NUMBERS = ("loss", "value", "box", "is_far", "promised")


def wave_of(n_classes: int) -> int:
    """Return how many classes are descended side by side."""
    return max(1, min(WAVE, n_classes // WAVE_SHARE))


class ProximalNewton:
    """Minimises the objective of rows and of one penalty after the other.

    Parameters
    ----------
    rows : ClassRows
    free : int64 array
        The classes whose weights may move. The others' stay 0.
    fit_intercept : bool

    Attributes
    ----------
    is_changing : bool
        Whether the fit is between two points that `run` reports; `state` is then of neither.
    """

    penalty: Penalty
    fit: Fit
    loss: float
    value: float
    is_changing = True

    def __init__(self, rows: ClassRows, free: NDArray[np.int64], fit_intercept: bool) -> None:
        self.rows, self.free, self.fit_intercept = rows, free, fit_intercept
        self.present = rows.shares > 0
        self.before: Solved | None = None  # the last fit but one of a path
        self.wave = wave_of(len(free))
        self.rounding = float(np.finfo(rows.dtype).eps)
        self.null_c = rows.null_bias() if fit_intercept else np.zeros(rows.n_classes)
        self.null_loss = rows.set_logits(np.zeros((1, 1), rows.dtype), self.null_c)
        self.null_slopes = rows.gradient(np.zeros(rows.n_classes))
        self.null_gradient = self.null_slopes if fit_intercept else None
        self.counts = np.zeros(rows.n_classes, rows.dtype)
        self.counts[free] = 1
        # classes whose weights can move alike without a change: all that have a probability
        whole = len(free) == rows.n_classes
        self.alike = free[self.present[free] | (not fit_intercept)] if whole else free[:0]

    def start(self, penalty: Penalty, W: Array, c: NDArray[np.float64]) -> None:
        """Begin a fit at W (n_features, n_classes) and c, which it will change.

        It begins at ``W = 0`` where that is better: boxes make the way from far off a long one.
        """
        self.loss = self.rows.set_logits(W, c)
        if not self.loss + penalty.value(W) <= self.null_loss:
            W[:], c[:] = 0, self.null_c
            self.loss = self.rows.set_logits(W, c)
        self._begin(penalty, Fit(W, c, np.flatnonzero(W)))
        self.before = None
        # from the null model there is far to go
        self.is_far, self.promised = True, math.inf

    def go_on(self, penalty: Penalty) -> None:
        """Begin the fit of another penalty where the last two point, or where the last ended."""
        fit, before = self.fit, self.before
        self.before = last = Solved(self.penalty.strength, fit.support, self.weights(), fit.c)
        self._begin(penalty, Fit(fit.W, fit.c.copy(), fit.support))
        self.is_far, self.promised = False, 0.0
        if before is None:
            return
        objective, fit = self.loss + self.value, self.fit
        for weights, c in (ahead(before, last, penalty.strength), (last.weights, last.c)):
            fit.W.reshape(-1)[last.support], fit.c[:] = weights, c
            self.loss, self.value = self.rows.set_logits(fit.W, fit.c), penalty.value(weights)
            if self.loss + self.value < objective:
                break
        fit.support = np.flatnonzero(fit.W)

    def _begin(self, penalty: Penalty, fit: Fit) -> None:
        self.penalty, self.fit, self.box, self.is_changing = penalty, fit, BOX, True
        self.gains: list[float] = []  # of the last iterations
        self.value = penalty.value(self.weights())

    def state(self) -> dict[str, Array]:
        """Return where `run` has reported the fit: what `restore` goes on from.

        Z is not quite what W and c give: it has the rounding of the steps that led there.
        """
        fit, state = self.fit, {name: np.array(getattr(self, name)) for name in NUMBERS}
        state |= {"Z": self.rows.Z, "c": fit.c, "support": fit.support, "weights": self.weights()}
        if self.before is not None:
            state |= self.before.state("before")
        return state | {"gains": np.array(self.gains)} | fit.state()

    def restore(self, penalty: Penalty, state: dict[str, Array]) -> None:
        """Set what `state` returned."""
        rows = self.rows
        W = np.zeros((rows.n_features, rows.n_classes), rows.dtype)
        W.reshape(-1)[state["support"]] = state["weights"]
        rows.Z[:] = state["Z"]
        rows.step(0.0)
        self._begin(penalty, Fit(W, state["c"], state["support"]))
        self.before = Solved.restored("before", state)
        self.fit.restore(state)
        if self.fit.status != "stalled":  # what ended it otherwise is asked anew
            self.fit.status = ""
        for name in NUMBERS:
            setattr(self, name, state[name].item())
        self.gains, self.is_changing = state["gains"].tolist(), False

    def weights(self) -> Array:
        """Return those that are not 0."""
        weights: Array = self.fit.W.reshape(-1)[self.fit.support]
        return weights

    def recentre(self) -> None:
        """Move a feature's weights of all classes alike where that makes the penalty less.

        The loss does not change, and coordinates that move one at a time would take long for it.
        """
        fit, classes = self.fit, self.alike
        if len(classes) < 2:
            return
        features, counts = np.unique(fit.support // self.rows.n_classes, return_counts=True)
        features = features[2 * counts > len(classes)]
        moved = [self._recentre(some, classes) for some in in_blocks(features, len(classes))]
        if any(moved):
            fit.support = np.flatnonzero(fit.W)
            self.value = self.penalty.value(self.weights())

    def _recentre(self, features: NDArray[np.int64], classes: NDArray[np.int64]) -> bool:
        fit, middle = self.fit, len(classes) // 2
        at = np.ix_(features, classes)
        U = fit.W[at].astype(np.float64)
        ordered = np.sort(U, axis=1)
        shifts = (ordered[:, middle], ordered[:, (len(classes) - 1) // 2], U.mean(axis=1))
        moved = np.array([U, *(U - shift[:, None] for shift in shifts)])
        l1, l2 = self.penalty.l1, self.penalty.l2
        values = l1 * np.abs(moved).sum(axis=2) + l2 / 2 * np.square(moved).sum(axis=2)
        values[0] *= 1 - 4 * self.rounding  # a shift is to gain more than rounding
        least = values.argmin(axis=0)
        if least.any():
            fit.W[at] = moved[least, np.arange(len(features))]
        return bool(least.any())

    def approach(self) -> None:
        """Come near from the null model, by way of stronger penalties.

        There few weights have to move, and none of them far.
        """
        if len(self.fit.support):
            return
        aim = self.penalty
        most = float(self.rows.largest_slopes(self.null_slopes, self.counts, None)[0].max())
        for times in PATH:
            if aim.l1 * times >= most:
                continue
            self.penalty = Penalty(aim.l1 * times, aim.l2 * times)
            self.value = self.penalty.value(self.weights())
            for _ in range(PATH_STEPS):
                self.step(self.slopes(1))
                if self.promised <= PATH_LEFT * (self.loss + self.value):
                    break
        self.penalty = aim
        self.value = self.penalty.value(self.weights())
        self.fit.status, self.fit.estimate = "", math.inf

    # ---- one iteration ------------------------------------------------------------------------

    def solve_bias(self, most: int) -> NDArray[np.float64]:
        """Move the intercepts towards their best; return the gradient in them."""
        rows, fit, tiny = self.rows, self.fit, 4 * self.rounding
        for trial in range(most + 1):
            g = rows.bias_gradient()
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
            step[present] = -np.log1p(np.maximum(g[present] / shares, LEAST_SHARE - 1))
            return step
        H = self.rows.bias_hessian()[np.ix_(present, present)]
        H += np.outer(shares, shares)  # moving all alike changes nothing: any curvature will do
        H[np.diag_indices_from(H)] += 1e-12
        step[present] = -np.linalg.solve(H, g[present])
        step[present] -= step[present].mean()
        step *= min(1.0, self.box / max(float(np.abs(step).max()), 1e-300))
        return step

    def slopes(self, most: int) -> Slopes:
        """Move the intercepts, `most` times at most; return the slopes there."""
        self.recentre()
        return self._slopes_at(self.solve_bias(most))

    def _slopes_at(self, g: NDArray[np.float64]) -> Slopes:
        return Slopes(self.rows, self.penalty, self.counts, g, self.null_gradient)

    def coordinates(self, slopes: Slopes) -> tuple[Coordinates, NDArray[np.int64]]:
        """Return the weights that are to move, class after class, and their places in W."""
        rows, W = self.rows, self.fit.W
        places = slopes.working_set(W, self.fit.support)
        feature, of_class = np.divmod(places, rows.n_classes)
        order = np.lexsort((feature, of_class))
        places, feature, of_class = places[order], feature[order], of_class[order]
        starts = np.zeros(rows.n_classes + 1, np.int64)
        np.cumsum(np.bincount(of_class, minlength=rows.n_classes), out=starts[1:])
        u = W.reshape(-1)[places]
        coordinates = Coordinates(
            starts, feature.astype(np.int32), u.copy(), u, slopes.G.reshape(-1)[places],
            (self.box / rows.largest[feature]).astype(rows.dtype), np.full(len(u), -1, rows.dtype),
        )  # fmt: skip
        return coordinates, places

    def step(self, slopes: Slopes) -> None:
        """Go down, with ever more care; the fit has stalled where there is rounding alone to gain.

        The sums that a model is minimised by have rounding, and may lead astray.
        """
        rounding, is_down = ROUNDINGS * self.rounding * (self.loss + self.value), False
        for care in range(1 + CAREFUL_STEPS):
            old = self.loss + self.value
            if care:
                self.box, self.is_far = CAREFUL_BOX * self.box, True
            said = self._try_step(slopes, bool(care))
            is_down = self.loss + self.value < old
            if is_down or max(said, self.promised) <= rounding:
                break
        if not is_down:
            self.fit.status = "stalled"

    def _try_step(self, slopes: Slopes, is_careful: bool) -> float:
        """Solve the model, and go where that leads if it is down; return what the model gained."""
        rows, fit, penalty = self.rows, self.fit, self.penalty
        coordinates, places = self.coordinates(slopes)
        g = slopes.g
        sizes = np.diff(coordinates.starts)[self.free]
        classes = self.free[np.argsort(-sizes, kind="stable")]
        bias = Bias(np.zeros(rows.n_classes), g, self.box) if self.fit_intercept else None
        model = Model(rows, coordinates, penalty, bias)
        is_rough = is_careful or self.promised > ROUGH * (self.loss + self.value)
        model.minimise(classes, 1 if is_careful else self.wave, self.is_far, is_rough)
        u, u0 = coordinates.u, coordinates.start
        du = (u - u0).astype(np.float64)
        base = self.value - penalty.value(u0)
        slope = float(coordinates.gradient.astype(np.float64) @ du)
        slope += penalty.value(u) - penalty.value(u0)
        if bias is not None:
            slope += float(g @ bias.moved)
        old, self.is_changing = self.loss + self.value, True
        self.promised = -slope
        rows.aim(places, du, None if bias is None else bias.moved)

        def at(t: float) -> tuple[Array, float, float]:
            moved = u if t == 1 else u0 + u.dtype.type(t) * (u - u0)
            return moved, rows.step(t), base + penalty.value(moved)

        t, (moved, loss, value) = 1.0, at(1.0)
        while not loss + value <= old + DECREASE * t * slope and t >= LEAST_STEP:
            t *= 0.5
            moved, loss, value = at(t)
        while old - loss - value < POOR * t * model.gained and t >= LEAST_STEP:
            half = at(0.5 * t)
            if not half[1] + half[2] < loss + value:
                rows.step(t)
                break
            t *= 0.5
            moved, loss, value = half
        if not loss + value < old:
            self.loss = rows.step(0.0)
            return model.gained
        self.box = min(max(self.box * (0.5 if t < 1 else 1.5), LEAST_BOX), MOST_BOX)
        gained = old - loss - value
        ratio = gained / model.gained
        unsolved = UNSOLVED if self.gains and not model.is_cut_short else CUT_SHORT
        fit.estimate = DOUBT * self.promised
        if t == 1 and not (is_rough or self.is_far) and abs(ratio - 1) < MOST_WRONG:
            fit.estimate = min(fit.estimate, gained * (abs(ratio - 1) + unsolved))
            fit.estimate += model.left
        self.gains = [*self.gains[-LOOKED_BACK:], gained]
        if is_rough or model.is_cut_short:  # iterations may go on to gain as they have
            fit.estimate = max(
                fit.estimate, left_of_gains(np.array(self.gains), model.is_cut_short)
            )
        if is_rough:  # sweeps that come slowly to the minimum look as if there were little to gain
            fit.estimate = max(fit.estimate, DOUBT * ROUGH * (loss + value))
        self.is_far = not (t == 1 and ratio > 1 - MOST_WRONG)
        rows.accept(t)
        fit.W.reshape(-1)[places] = moved
        fit.support = np.sort(places[moved != 0])
        if bias is not None:
            fit.c += t * bias.moved
        self.loss, self.value = loss, value
        return model.gained

    def evaluate(self) -> None:
        """Compute the objective anew, from W and c: logits that were added up have rounding."""
        self.value = self.penalty.value(self.weights())
        self.loss = self.rows.set_logits(self.fit.W, self.fit.c)
        self.fit.objective = self.loss + self.value

    def run(self, tol: float, max_iter: int, report: Callable[[Fit], bool] | None = None) -> Fit:
        """Go on until the estimate, or what is proved, is below tol * objective."""
        fit, began = self.fit, time.perf_counter() - sum(self.fit.history["seconds"][-1:])
        if self.is_changing:
            self.approach()
            slopes = self._note(began)
        else:  # restored
            slopes = self._slopes_at(self.solve_bias(0))
        while True:
            if report is not None and report(fit):
                fit.status = "callback"
            elif is_near(fit, tol, self.null_loss, self.value, self.rounding):
                fit.status = "converged"
            elif fit.iterations >= max_iter:
                fit.status = "limit"
            if fit.status:
                return fit
            self.step(slopes)
            fit.iterations += 1
            del slopes  # before there are new ones
            slopes = self._note(began)

    def _note(self, began: float) -> Slopes:
        """Note in the fit where it is; return the slopes there."""
        fit, slopes = self.fit, self.slopes(2)
        fit.lower = max(fit.lower, slopes.lower_bound())
        fit.steepest = slopes.steepest(fit.W, fit.support)
        fit.objective = self.loss + self.value
        fit.estimate *= fit.times_too_low()
        fit.estimate = max(min(fit.estimate, fit.objective - fit.lower), 0.0)
        for name, number in (
            ("objective", fit.objective),
            ("bound", fit.objective - fit.lower),
            ("estimate", fit.estimate),
            ("selected", float(len(fit.support))),
            ("seconds", time.perf_counter() - began),
        ):
            fit.history[name].append(number)
        self.is_changing = False
        return slopes
