"""The model of few weights: its whole Hessian, and its exact minimum by an active set.

Conjugate gradients need many steps where weights speak for much the same rows, and start anew
whenever a weight reaches 0. Where the Hessian is small, its factors go to the minimum at once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from csoftmax.engine.class_rows import ClassRows

Array = NDArray[Any]

# So many multiplications a Hessian may take, so many numbers what it is made of may be, and so many
# times it is factored at most.
MULTIPLICATIONS, MOST_NUMBERS, MOST_TURNS = 1 << 28, 1 << 20, 100
# The Hessian may be singular: this share of its diagonal is added. What has less than the share
# FLAT of the largest curvature does not move.
RIDGE, FLAT = 1e-10, 1e-12
# A weight leaves 0 where its slope is larger than l1 by this share of it.
TOO_STEEP = 1e-6
# Parts of a step that are tried; weights whose signs would change stay at 0.
PARTS = 1.0, 0.5, 0.2


class Quadratic(NamedTuple):
    """``slope . (v - at) + (v - at)^T H (v - at) / 2 + l1 |v[:n]|_1``; slopes have l2's part."""

    H: Array
    slope: Array
    at: Array
    l1: float
    n: int

    def value(self, v: Array) -> float:
        step = v - self.at
        smooth = float(step @ (self.slope + 0.5 * (self.H @ step)))
        return smooth + self.l1 * float(np.abs(v[: self.n]).sum())

    def slopes(self, v: Array) -> Array:
        slopes: Array = self.slope + self.H @ (v - self.at)
        return slopes


def is_small(rows: ClassRows, n_weights: int) -> bool:
    """Say whether the Hessian of so many weights costs little."""
    n = n_weights + rows.n_classes
    return bool(n * n * max(rows.n_rows, n) <= MULTIPLICATIONS and n * rows.n_rows <= MOST_NUMBERS)


def bytes_needed(n_rows: int, n_weights: int, n_classes: int) -> int:
    """Return what a Hessian of so many weights, or of as many as are few, takes at most."""
    by_work = min(MULTIPLICATIONS ** (1 / 3), (MULTIPLICATIONS / n_rows) ** 0.5)
    n = min(n_weights + n_classes, int(by_work), MOST_NUMBERS // n_rows)
    return 8 * (5 * n * n_rows + 6 * n * n) if n > n_classes else 0


class Hessian:
    """The Hessian of the mean loss in all intercepts and in some weights, which become more.

    Parameters
    ----------
    rows : ClassRows
    """

    def __init__(self, rows: ClassRows) -> None:
        K, n = rows.n_classes, rows.n_rows
        self.rows, self.share = rows, rows.share[:n].astype(np.float64)
        self.P = rows.P[:, :n].astype(np.float64)
        self.P /= self.P.sum(axis=0)  # float32 has not quite 1: curvatures may be below 0
        self.of_class = np.empty(0, np.int64)
        self.known: dict[int, int] = {}  # a weight's place in W, and in H
        self.lines, self.weighed, self.H = np.empty((0, n)), np.empty((0, n)), np.empty((0, 0))
        self._add(np.arange(K), np.ones((K, n)))

    def of(self, starts: NDArray[np.int64], feature: NDArray[np.int32]) -> Array:
        """Return that of some weights, class after class, and of all intercepts."""
        K = self.rows.n_classes
        of_class = np.repeat(np.arange(K), np.diff(starts))
        places = (feature.astype(np.int64) * K + of_class).tolist()
        new = np.array([i for i, place in enumerate(places) if place not in self.known], np.int64)
        if len(new):
            for i in new.tolist():
                self.known[places[i]] = len(self.known) + K
            distinct, line = np.unique(feature[new], return_inverse=True)
            self._add(of_class[new], self.rows.lines(distinct.astype(np.int64))[line])
        at = np.array([self.known[place] for place in places] + list(range(K)), np.int64)
        H: Array = self.H[np.ix_(at, at)]
        return H

    def _add(self, of_class: NDArray[np.int64], lines: Array) -> None:
        old, weighed = len(self.H), lines * self.P[of_class]
        self.of_class = np.append(self.of_class, of_class)
        self.lines = np.concatenate([self.lines, lines])
        self.weighed = np.concatenate([self.weighed, weighed])
        weighed *= self.share
        H = -weighed @ self.weighed.T
        for k in np.unique(of_class):
            new, same = np.flatnonzero(of_class == k), np.flatnonzero(self.of_class == k)
            H[np.ix_(new, same)] += weighed[new] @ self.lines[same].T
        both = np.empty((old + len(lines), old + len(lines)))
        both[:old, :old], both[old:], both[:old, old:] = self.H, H, H[:, :old].T
        self.H = both


def minimum(model: Quadratic) -> tuple[Array, bool]:
    """Return where a model has its minimum, and whether it is there. It never rises on the way.

    Weights that reach 0 stay there, until the others have their minimum; then the one that wants
    most to leave 0 does.
    """
    v, value = model.at.copy(), model.value(model.at)
    sign, curvatures = np.zeros(len(v)), model.H.diagonal()
    sign[: model.n] = np.sign(v[: model.n])
    moves = curvatures > FLAT * curvatures.max(initial=0.0)
    left_out = ~moves
    for _ in range(MOST_TURNS):
        some, step = np.flatnonzero(moves), np.zeros_like(v)
        H = model.H[np.ix_(some, some)]
        H[np.diag_indices_from(H)] *= 1 + RIDGE
        step[some] = -np.linalg.solve(H, (model.slopes(v) + model.l1 * sign)[some])
        crosses = (v + step) * sign < 0
        at_0 = np.where(crosses, v / np.where(crosses, -step, 1.0), np.inf)
        falls, t = False, 1.0
        for t in (*PARTS, float(at_0.min())) if crosses.any() else PARTS[:1]:
            to = np.where(at_0 <= t, 0.0, v + t * step)
            new = model.value(to)
            if new < value:
                v, value, falls = to, new, True
                break
        hit = (v == 0) & (sign != 0)
        if falls and (t < 1 or hit.any()):  # the others are not at their minimum yet
            moves[hit], sign[hit] = False, 0.0
            continue
        slopes = np.where(moves | left_out, 0.0, model.slopes(v))
        most = int(np.abs(slopes).argmax())
        if not falls or abs(slopes[most]) <= model.l1 * (1 + TOO_STEEP):
            return v, True
        moves[most], sign[most] = True, -np.sign(slopes[most])
    return v, False
