"""The quadratic model of the mean loss about a point, with the penalty: how its minimum is found.

Sweeps of coordinate descent find out which weights are 0, and bring most of what there is to gain.
Where weights speak for much the same rows, sweeps gain little by little from then on. Then the
weights that are not 0 keep their signs, the model is a plain quadratic in them, and conjugate
gradients go to its minimum; a weight whose sign would change becomes 0.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from csoftmax.engine.class_rows import Array, Bias, ClassRows, Coordinates
from csoftmax.solver.penalty import Penalty

# A sweep visits each coordinate once, and those that are not 0 again.
ROUNDS = 3
# A model is left when a sweep gains less than this share of what all have gained, or after so many.
# Far from the optimum the model is not worth so much.
LAST_GAIN, ROUGH_GAIN, MOST_SWEEPS = 0.02, 0.1, 12
# Conjugate gradients follow a sweep that gained more than this share of what the one before did.
# They end when the slopes' square, weighed, has come down to CG_LEFT of what it was, or after
# CG_STEPS; a step over few entries costs little, and there are more. They are called MOST_CG times.
SLOW, ROUGH_SLOW, CG_STEPS, CG_LEFT, MOST_CG = 0.2, 0.7, 20, 1e-3, 6
MORE_CG_STEPS, CHEAP_ENTRIES = 180, 1 << 24
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
    is_cut_short : bool
        Whether conjugate gradients ended before they were done.
    """

    def __init__(
        self, rows: ClassRows, coordinates: Coordinates, penalty: Penalty, bias: Bias | None
    ) -> None:
        self.rows, self.coordinates, self.penalty, self.bias = rows, coordinates, penalty, bias
        rows.forget_delta()
        self.gained = 0.0
        self.is_cut_short = False

    def minimise(self, classes: NDArray[np.int64], wave: int, is_far: bool, is_rough: bool) -> None:
        """Sweep over `classes`, `wave` of them at a time, until little is gained."""
        mass = self.rows.masses(classes, wave)
        gains: list[float] = []
        accelerates = 0 if is_far else MOST_CG
        left, slow = (ROUGH_GAIN, ROUGH_SLOW) if is_rough else (LAST_GAIN, SLOW)
        for _ in range(MOST_SWEEPS):
            gains.append(
                self.rows.sweep(
                    self.coordinates, classes, wave, mass, (self.penalty.l1, self.penalty.l2),
                    self.bias, is_far, ROUNDS,
                )
            )  # fmt: skip
            is_done = len(gains) > 1 and gains[-1] <= left * sum(gains)
            if is_done and not self.is_cut_short:
                break
            is_slow = len(gains) > 1 and gains[-1] > slow * gains[-2]
            if accelerates and (is_slow or self.is_cut_short):
                gains.append(self._conjugate_gradients())
                accelerates = accelerates - 1 if gains[-1] > 0 else 0
            elif is_done:
                break
        else:
            self.is_cut_short = True
        self.gained = sum(gains)

    def _free(self) -> Free:
        u = self.coordinates.u
        at = np.flatnonzero(u)
        starts = np.searchsorted(at, self.coordinates.starts)
        return Free(at, starts.astype(np.int64), self.coordinates.feature[at])

    def _conjugate_gradients(self) -> float:
        """Go to the minimum over the weights that are not 0; return what the model gains."""
        rows, c, bias, penalty = self.rows, self.coordinates, self.bias, self.penalty
        free = self._free()
        self.is_cut_short = False
        u = c.u[free.at].astype(np.float64)
        sign = np.sign(u)
        slope, bias_slope = rows.slopes(free.starts, free.feature, rows.delta, rows.s)
        r = -(slope + c.gradient[free.at].astype(np.float64) + penalty.l2 * u + penalty.l1 * sign)
        if bias is None:
            rb, precondition_bias = np.zeros(rows.n_classes), None
        else:
            rb, precondition_bias = -(bias_slope + bias.gradient), self._bias_inverse()
        curvatures = c.curvature[free.at].astype(np.float64)
        flat = curvatures <= FLAT * curvatures.max()  # sweeps alone move these
        scale = np.where(flat, 0.0, 1 / np.where(flat, 1.0, curvatures))
        step, step_bias = np.zeros_like(r), np.zeros_like(rb)
        first, before, d, db = 0.0, 1.0, np.zeros_like(r), np.zeros_like(rb)
        D, s = np.empty_like(rows.delta), np.empty_like(rows.s)
        D[:, rows.n_rows :] = 0
        if not len(u):
            return 0.0
        entries = rows.count_entries(free.feature)
        for n in range(CG_STEPS + min(MORE_CG_STEPS, CHEAP_ENTRIES // max(1, entries))):
            z = scale * r
            zb = rb if precondition_bias is None else precondition_bias @ rb
            square = float(r @ z + rb @ zb)
            first = first or square
            if not square > CG_LEFT * first:
                break
            d, db = z + square / before * d * (n > 0), zb + square / before * db * (n > 0)
            Hd, Hdb = self._product(free, d, db, D, s)
            curvature = float(d @ Hd + db @ Hdb)
            if not curvature > 0:
                break
            a = square / curvature
            step += a * d
            step_bias += a * db
            r -= a * Hd
            rb = rb - a * Hdb
            before = square
        else:
            self.is_cut_short = True
        return self._go(free, u, sign, step, step_bias, D, s)

    def _product(
        self, free: Free, d: Array, db: Array, D: Array, s: Array
    ) -> tuple[Array, NDArray[np.float64]]:
        """Return the Hessian times a step."""
        rows = self.rows
        moved = None if self.bias is None else db
        rows.follow(free.starts, free.feature, d.astype(rows.dtype), moved, D, s)
        Hd, Hdb = rows.slopes(free.starts, free.feature, D, s)
        return Hd + self.penalty.l2 * d, Hdb if self.bias is not None else np.zeros_like(Hdb)

    def _go(
        self, free: Free, u: Array, sign: Array, step: Array, step_bias: Array, D: Array, s: Array
    ) -> float:
        """Take a step, or a part of it, if the model falls; return by how much it does."""
        rows, c, bias, penalty = self.rows, self.coordinates, self.bias, self.penalty
        slope, bias_slope = rows.slopes(free.starts, free.feature, rows.delta, rows.s)
        slope = slope + c.gradient[free.at].astype(np.float64)
        if bias is not None:
            bias_slope += bias.gradient
        rows.follow(
            free.starts, free.feature, step.astype(rows.dtype),
            None if bias is None else step_bias, D, s,
        )  # fmt: skip
        whole = min(1.0, MOST_LOGIT / max(float(np.abs(D).max()), 1e-300))
        crosses = sign * (u + step) < 0
        first = float((u[crosses] / -step[crosses]).min(initial=1.0))
        for t in (whole, 0.5 * whole, 0.2 * whole, min(first, whole)):
            to = (u + t * step).astype(rows.dtype)
            to[np.sign(to) != sign] = 0
            if t == first < 1:
                to[crosses & (u / np.where(crosses, -step, 1.0) <= first)] = 0
            moved, moved_bias = to - u, t * step_bias
            smooth, smooth_bias = self._product(free, moved, moved_bias, D, s)
            change = slope @ moved + 0.5 * float((smooth - penalty.l2 * moved) @ moved)
            if bias is not None:
                change += bias_slope @ moved_bias + 0.5 * float(smooth_bias @ moved_bias)
            change += penalty.value(to) - penalty.value(u)
            if change < 0:
                c.u[free.at] = to
                out = np.abs(to - c.start[free.at])
                c.room[free.at] = np.maximum(c.room[free.at], out)  # sweeps go on from there
                rows.delta += D
                rows.s += s
                if bias is not None:
                    bias.moved[:] += moved_bias
                self.is_cut_short |= t < 1
                return -float(change)
        self.is_cut_short = True
        return 0.0

    def _bias_inverse(self) -> NDArray[np.float64]:
        H = self.rows.bias_hessian()
        m = np.diag(H).copy()
        H += np.outer(self.rows.shares, self.rows.shares)
        H[np.diag_indices_from(H)] += 1e-12 + (m <= 0)
        return np.linalg.inv(H).astype(np.float64)
