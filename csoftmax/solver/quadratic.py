"""The quadratic model of the mean loss about a point, with the penalty: how its minimum is found.

Sweeps of coordinate descent find out which weights are 0, and bring most of what there is to gain.
Where weights speak for much the same rows, sweeps gain little by little from then on. Then the
weights that are not 0 keep their signs, the model is a plain quadratic in them, and conjugate
gradients go to its minimum; a weight whose sign would change becomes 0.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from csoftmax.engine.class_rows import Array, Bias, ClassRows, Coordinates
from csoftmax.solver import small_model
from csoftmax.solver.penalty import Penalty

# A sweep visits each coordinate once, and those that are not 0 again.
ROUNDS = 2
# A model is left when a sweep gains less than this share of what all have gained, or after so many.
# Far from the optimum the model is not worth so much.
LAST_GAIN, ROUGH_GAIN, MOST_SWEEPS = 0.1, 0.1, 12
# Conjugate gradients follow a sweep that gained more than this share of what the one before did.
# They end when the slopes' square, weighed, has come down to CG_LEFT of what it was, or after
# CG_STEPS, and are called FEW_CG times. Where entries and logits are few there are more of both: as
# many as visit CHEAP_VISITS of them, but no more than MORE_CG_STEPS and MOST_CG.
SLOW, ROUGH_SLOW, CG_STEPS, CG_LEFT, FEW_CG = 0.2, 0.7, 12, 1e-2, 1
CHEAP_VISITS, MORE_CG_STEPS, MOST_CG = 1 << 22, 180, 6
# Conjugate gradients that gain less than so many sweeps are called no more.
PAYS = 10.0
# In so many turns, where that is cheap, the weights that reach 0 first are held there: those within
# the first tenth of a step, or twice the part of it that the first one takes.
MOST_HELD, AT_ONCE = 6, 0.1
# No logit moves further by them than this.
MOST_LOGIT = 8.0
# They leave alone what has less than this share of the largest curvature.
FLAT = 1e-8


class Free(NamedTuple):
    """The coordinates that are not 0."""

    at: NDArray[np.int64]  # their numbers among all
    starts: NDArray[np.int64]
    feature: NDArray[np.int32]


class Model:
    """The model of an iteration, and where its minimisation stands.

    Parameters
    ----------
    rows : ClassRows
        Their delta and s follow what moves.
    coordinates : Coordinates
        The working set.
    penalty : Penalty
    bias : Bias or None

    Attributes
    ----------
    gained : float
        What the minimisation has gained, about.
    left : float
        What more sweeps would gain, about.
    is_cut_short : bool
        Whether conjugate gradients ended before they were done.
    """

    def __init__(
        self, rows: ClassRows, coordinates: Coordinates, penalty: Penalty, bias: Bias | None
    ) -> None:
        self.rows, self.coordinates, self.penalty, self.bias = rows, coordinates, penalty, bias
        rows.forget_delta()
        self.gained, self.left, self._last_sweep = 0.0, math.inf, 0.0
        self.is_cut_short = False

    def minimise(self, classes: NDArray[np.int64], wave: int, is_far: bool, is_rough: bool) -> None:
        """Sweep over `classes`, `wave` of them at a time, until little is gained."""
        mass = self.rows.masses(classes, wave)
        gains: list[float] = []
        accelerates = 0 if is_far else FEW_CG + min(MOST_CG - FEW_CG, self._cheap(CG_STEPS))
        left, slow = (ROUGH_GAIN, ROUGH_SLOW) if is_rough else (LAST_GAIN, SLOW)
        for _ in range(MOST_SWEEPS):
            gains.append(
                self.rows.sweep(
                    self.coordinates, classes, wave, mass, (self.penalty.l1, self.penalty.l2),
                    self.bias, is_far, ROUNDS,
                )
            )  # fmt: skip
            self._note(gains[-1])
            is_done = len(gains) > 1 and gains[-1] <= left * sum(gains)
            if not (is_far or is_rough or is_done) and self._is_small():
                gains.append(self._accelerate())
                continue
            if is_done and not self.is_cut_short:
                break
            is_slow = len(gains) > 1 and gains[-1] > slow * gains[-2]
            if accelerates and (is_slow or self.is_cut_short):
                gains.append(self._accelerate())
                accelerates = accelerates - 1 if gains[-1] > PAYS * gains[-2] else 0
            elif is_done:
                break
        else:
            self.is_cut_short = True
        self.gained = sum(gains)

    def _note(self, gain: float) -> None:
        """Set what sweeps would still gain if they went on as the last two: a geometric series."""
        ratio = gain / self._last_sweep if self._last_sweep > 0 else 1.0
        self.left = gain * ratio / (1 - ratio) if ratio < 1 else math.inf
        self._last_sweep = gain

    def _cheap(self, steps: int) -> int:
        """Return how often so many steps of conjugate gradients cost little together."""
        rows = self.rows
        visits = rows.count_entries(self.coordinates.feature) + rows.n_rows * rows.n_classes
        often: int = CHEAP_VISITS // max(1, visits * steps)
        return often

    def _is_small(self) -> bool:
        return small_model.is_small(self.rows, int(np.count_nonzero(self.coordinates.u)))

    def _free(self) -> Free:
        u = self.coordinates.u
        at = np.flatnonzero(u)
        starts = np.searchsorted(at, self.coordinates.starts)
        return Free(at, starts.astype(np.int64), self.coordinates.feature[at])

    def _accelerate(self) -> float:
        """Go towards the minimum over the weights that are not 0; return what the model gains.

        Weights whose signs would change are held at 0, and the others' minimum is sought anew.
        """
        c, penalty = self.coordinates, self.penalty
        free, self.is_cut_short = self._free(), False
        if not len(free.at):
            return 0.0
        if self._is_small():
            return self._go_exactly(free)
        u = c.u[free.at].astype(np.float64)
        sign, held = np.sign(u), np.zeros(len(u), bool)
        slope, bias_slope = self._slopes(free)
        r, rb = -(slope + penalty.l2 * u + penalty.l1 * sign), -bias_slope
        at_0 = np.zeros_like(u)
        step, step_bias = self._conjugate_gradients(free, r, rb, held)
        plain = step, step_bias
        for _ in range(min(MOST_HELD, self._cheap(CG_STEPS))):
            parts = _parts_to_0(u + at_0, step)
            first = float(parts.min(initial=1.0))
            if first >= 1:
                break
            held |= parts <= max(2 * first, AT_ONCE)
            at_0 = np.where(held, -u, 0.0)
            Hd, Hdb = self._product(free, at_0, np.zeros_like(rb))
            step, step_bias = self._conjugate_gradients(free, r - Hd, rb - Hdb, held)
        return self._go(free, at_0, step, step_bias, plain)

    def _go_exactly(self, free: Free) -> float:
        """Go to the minimum over the weights that are not 0; return what the model gains."""
        m, l2 = len(free.at), self.penalty.l2
        u, slopes = self.coordinates.u[free.at].astype(np.float64), self._slopes(free)
        H = self._hessian.of(free.starts, free.feature)
        H[np.arange(m), np.arange(m)] += l2
        shares = self.rows.shares  # moving all intercepts alike changes nothing
        H[m:, m:] += np.outer(shares, shares)
        slope, at = np.append(slopes[0] + l2 * u, slopes[1]), np.append(u, np.zeros(len(slopes[1])))
        if self.bias is None:
            H, slope, at = H[:m, :m], slope[:m], at[:m]
        to, is_there = small_model.minimum(small_model.Quadratic(H, slope, at, self.penalty.l1, m))
        step, step_bias = to[:m] - u, np.append(to[m:], np.zeros(len(slopes[1]) - len(to[m:])))
        self._product(free, step, step_bias)
        t = min(1.0, MOST_LOGIT / max(float(np.abs(self._D).max()), 1e-300))
        self.is_cut_short = t < 1 or not is_there
        return self._take(free, slopes, to[:m] if t == 1 else u + t * step, t * step_bias)

    def _conjugate_gradients(
        self, free: Free, r: Array, rb: Array, held: NDArray[np.bool_]
    ) -> tuple[Array, Array]:
        """Return where slopes -r and -rb lead, in coordinates that are not held and intercepts."""
        curvatures = self.coordinates.curvature[free.at].astype(np.float64)
        still = held | (curvatures <= FLAT * curvatures.max())  # sweeps alone move flat ones
        scale = np.where(still, 0.0, 1 / np.where(still, 1.0, curvatures))
        step, step_bias = np.zeros_like(r), np.zeros_like(rb)
        first, before, d, db = 0.0, 1.0, np.zeros_like(r), np.zeros_like(rb)
        for n in range(CG_STEPS + min(MORE_CG_STEPS, self._cheap(1))):
            z = scale * r
            zb = self._bias_inverse @ rb
            square = float(r @ z + rb @ zb)
            first = first or square
            if not square > CG_LEFT * first:
                break
            d, db = z + square / before * d * (n > 0), zb + square / before * db * (n > 0)
            Hd, Hdb = self._product(free, d, db)
            curvature = float(d @ Hd + db @ Hdb)
            if not curvature > 0:
                break
            a = square / curvature
            step += a * d
            step_bias += a * db
            r = r - a * Hd
            rb = rb - a * Hdb
            before = square
        else:
            self.is_cut_short = True
        return step, step_bias

    def _slopes(self, free: Free) -> tuple[Array, NDArray[np.float64]]:
        """Return the slopes of the mean loss's model where it stands."""
        rows = self.rows
        slope, bias_slope = rows.slopes(free.starts, free.feature, rows.delta, rows.s)
        slope = slope + self.coordinates.gradient[free.at].astype(np.float64)
        if self.bias is None:
            return slope, np.zeros_like(bias_slope)
        return slope, bias_slope + self.bias.gradient

    def _product(self, free: Free, d: Array, db: Array) -> tuple[Array, NDArray[np.float64]]:
        """Return the Hessian times a step; `_D` and `_s` are then what the step adds."""
        rows = self.rows
        moved = None if self.bias is None else np.array(db)
        rows.follow(free.starts, free.feature, d.astype(rows.dtype), moved, self._D, self._s)
        Hd, Hdb = rows.slopes(free.starts, free.feature, self._D, self._s)
        return Hd + self.penalty.l2 * d, Hdb if self.bias is not None else np.zeros_like(Hdb)

    def _go(
        self, free: Free, at_0: Array, step: Array, step_bias: Array, plain: tuple[Array, Array]
    ) -> float:
        """Take `at_0` and a step, or a part of it, if the model falls; return by how much it does.

        The last resorts are steps that end where their first weight reaches 0: this, then `plain`.
        """
        u = self.coordinates.u[free.at].astype(np.float64)
        slopes = self._slopes(free)
        self._product(free, at_0 + step, step_bias)
        whole = min(1.0, MOST_LOGIT / max(float(np.abs(self._D).max()), 1e-300))
        held, none = (at_0, step, step_bias), (np.zeros_like(u), *plain)
        first = min(whole, float(_parts_to_0(u + at_0, step).min(initial=1.0)))
        first_plain = min(whole, float(_parts_to_0(u, plain[0]).min(initial=1.0)))
        for t, (base, along, along_bias) in (
            (whole, held), (0.5 * whole, held), (0.2 * whole, held), (first, held),
            (first_plain, none),
        ):  # fmt: skip
            to = u + base + t * along
            to[(to * u < 0) | (np.abs(to) < 1e-12 * np.abs(u))] = 0
            gain = self._take(free, slopes, to, t * along_bias)
            if gain > 0:
                self.is_cut_short |= t < 1
                return gain
        self.is_cut_short = True
        return 0.0

    def _take(self, free: Free, slopes: tuple[Array, Array], to: Array, moved_bias: Array) -> float:
        """Move some coordinates, and the intercepts, if the model falls; return by how much."""
        rows, c, penalty = self.rows, self.coordinates, self.penalty
        u, to = c.u[free.at].astype(np.float64), to.astype(rows.dtype)
        moved = to - u
        smooth, smooth_bias = self._product(free, moved, moved_bias)
        change = slopes[0] @ moved + 0.5 * float((smooth - penalty.l2 * moved) @ moved)
        change += slopes[1] @ moved_bias + 0.5 * float(smooth_bias @ moved_bias)
        change += penalty.value(to) - penalty.value(u)
        if not change < 0:
            return 0.0
        c.u[free.at] = to
        out = np.abs(to - c.start[free.at])
        c.room[free.at] = np.maximum(c.room[free.at], out)  # sweeps go on from there
        rows.delta += self._D
        rows.s += self._s
        if self.bias is not None:
            self.bias.moved[:] += moved_bias
            out_most = float(np.abs(self.bias.moved).max())
            self.bias = self.bias._replace(room=max(self.bias.room, out_most))
        return -float(change)

    @cached_property
    def _hessian(self) -> small_model.Hessian:
        return small_model.Hessian(self.rows)

    @cached_property
    def _D(self) -> Array:
        return np.zeros_like(self.rows.delta)

    @cached_property
    def _s(self) -> Array:
        return np.zeros_like(self.rows.s)

    @cached_property
    def _bias_inverse(self) -> NDArray[np.float64]:
        """Precondition the intercepts; all 0 without them."""
        shares = self.rows.shares
        if self.bias is None:
            return np.zeros((len(shares), len(shares)))
        H = self.rows.bias_hessian()
        H[np.diag_indices_from(H)] += 1e-12 + (np.diag(H) <= 0)
        H += np.outer(shares, shares)
        return np.linalg.inv(H).astype(np.float64)


def _parts_to_0(u: Array, step: Array) -> Array:
    """Return for each weight the part of its step at whose end it is 0; 1 if it is never."""
    crosses = u * (u + step) < 0
    parts: Array = np.where(crosses, u / np.where(crosses, -step, 1.0), 1.0)
    return parts
