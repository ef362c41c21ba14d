"""Preconditioned L-BFGS of one head.

The head walks in coordinates u of its preconditioner, x = A u, in which P, an approximate inverse
Hessian, is cheap to apply: gradients come in by A^T, directions go out by A. The matrix of the
quasi-Newton method is kept in compact form (Byrd, Nocedal and Schnabel 1994, "Representations of
quasi-Newton matrices") with the steps s and the changes y of the gradient:

    H g = gamma P (g - Y w) + S p,    w = R^-1 S^T g,
    p = R^-T ((D + gamma Y^T P Y) w - gamma Y^T P g),

R being the upper triangle of S^T Y and D its diagonal.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from csoftmax.solver.descent import NEXT, Descent, Point, named
from csoftmax.solver.penalty import Penalty

Array = NDArray[Any]

BATCH_BYTES = 1 << 22  # of vectors that are preconditioned together
# Arrays of `Pairs` that a checkpoint saves whole; of S and Y it saves the slots in use.
SMALL_MATRICES = ("slots", "R_inverse", "YPY", "Sg", "YPg")


class Preconditioner(Protocol):
    """Coordinates u, and an approximate inverse Hessian P in them.

    `too_large` is how many times it is larger than the inverse Hessian, as far as that is known.
    """

    too_large: float

    def reduce(self, gradient: Array) -> Array:
        """Return ``A^T gradient``."""

    def expand(self, step: Array, out: Array) -> None:
        """Set out to ``A step``."""

    def __call__(self, g: Array) -> Array:
        """Return ``P g`` of a vector, or of each of several."""


def metric_of(precondition: Preconditioner) -> Callable[[Array], float]:
    """Return a function that makes ``g^T P g`` of a gradient."""

    def square(gradient: Array) -> float:
        reduced = precondition.reduce(gradient)
        return float(np.dot(reduced, precondition(reduced))) / precondition.too_large

    return square


class Pairs:
    """The last pairs of steps and gradient changes, in compact form.

    Attributes
    ----------
    S, Y : ndarray (size, n_parameters)
        Steps and gradient changes, each pair in its slot; `count` slots are in use. Once all are,
        `next` is the slot that is overwritten, that of the oldest pair.
    slots : ndarray (count,)
        The slots, the oldest pair first. The small matrices have this order too.
    R_inverse, YPY, gamma
        R^-1, Y^T P Y and gamma of the formula above; gamma is that of the last pair.
    Sg, YPg : ndarray (count,)
        S^T g and Y^T P g at the last point that `meet` was given.
    """

    def __init__(self, size: int, n_parameters: int, dtype: np.dtype[Any]) -> None:
        self.size = size
        self.S, self.Y = np.zeros((2, size, n_parameters), dtype)
        self.clear()

    def clear(self) -> None:
        self.count = self.next = 0
        self.slots = np.zeros(0, np.intp)
        self.R_inverse, self.YPY, self.gamma = np.zeros((0, 0)), np.zeros((0, 0)), 1.0
        self.Sg, self.YPg = np.zeros((2, 0))

    def precondition(self, precondition: Preconditioner) -> None:
        """Go over to another P in the same coordinates."""
        n = self.count
        YPY = np.empty((n, n))
        step = max(1, BATCH_BYTES // max(1, self.Y[:1].nbytes))
        for begin in range(0, n, step):
            some = slice(begin, min(begin + step, n))
            YPY[:, some] = self.Y[:n] @ precondition(self.Y[some]).T
        YPY = YPY[self.slots][:, self.slots]
        self.YPY = 0.5 * (YPY + YPY.T)
        if n:
            self.gamma = float(1 / (self.R_inverse[-1, -1] * self.YPY[-1, -1]))

    def penalize(self, change: Penalty, split: int, precondition: Preconditioner) -> None:
        """Go over to a function with a penalty on u[:split] that differs by the change.

        Each y changes by what the penalty adds to the gradient. If no curvature is left along one
        of the steps, which only rounding can do, the pairs are dropped.
        """
        n = self.count
        change.add_gradient(self.S[:n, :split], self.Y[:n, :split])
        SY = (self.S[:n] @ self.Y[:n].T)[self.slots][:, self.slots].astype(np.float64)
        if not (np.diagonal(SY) > 0).all():
            self.clear()
            return
        self.R_inverse = np.linalg.inv(np.triu(SY))
        self.precondition(precondition)
        if not (np.isfinite(self.R_inverse).all() and (np.diagonal(self.YPY) > 0).all()):
            self.clear()

    def state(self) -> dict[str, Array]:
        """Return all that the next directions depend on."""
        n = self.count
        state = {name: getattr(self, name) for name in SMALL_MATRICES}
        numbers = {"gamma": np.array(self.gamma), "next": np.array(self.next)}
        return {"S": self.S[:n], "Y": self.Y[:n], **state, **numbers}

    def restore(self, state: dict[str, Array]) -> None:
        """Set what `state` returned."""
        n = self.count = len(state["S"])
        self.S[:n], self.Y[:n] = state["S"], state["Y"]
        for name in SMALL_MATRICES:
            setattr(self, name, state[name])
        self.gamma, self.next = float(state["gamma"]), int(state["next"])

    def meet(self, point: Point) -> None:
        """Multiply the pairs by a new point's gradient, as `direction` needs it."""
        n = self.count
        self.Sg = (self.S[:n] @ point.reduced)[self.slots].astype(np.float64)
        self.YPg = (self.Y[:n] @ point.preconditioned)[self.slots].astype(np.float64)

    def add(self, s: Array, old: Point, new: Point) -> None:
        """Take in the step from the old point, met last, to the new one; the oldest is dropped.

        Products with y are differences of those with the gradients. A step along which rounding
        leaves no curvature is left out.
        """
        y = new.reduced - old.reduced
        Py = new.preconditioned - old.preconditioned
        sy, yPy = float(np.dot(s, y)), float(np.dot(y, Py))
        before = self.Sg, self.YPg
        self.meet(new)
        if not (sy > 0 and yPy > 0 and sy * sy > 1e-14 * yPy * float(np.dot(s, s))):
            return
        Sy, YPy = self.Sg - before[0], self.YPg - before[1]
        slot = self.count
        if self.count == self.size:
            slot, self.R_inverse, self.YPY = self.next, self.R_inverse[1:, 1:], self.YPY[1:, 1:]
            self.slots, Sy, YPy = self.slots[1:], Sy[1:], YPy[1:]
            self.Sg, self.YPg = self.Sg[1:], self.YPg[1:]
        self.S[slot], self.Y[slot] = s, y
        of_new = float(np.dot(s, new.reduced)), float(np.dot(y, new.preconditioned))
        self._append(slot, Sy, YPy, (sy, yPy, *of_new))

    def _append(
        self, slot: int, Sy: Array, YPy: Array, of_new: tuple[float, float, float, float]
    ) -> None:
        """Take the pair in a slot as the last one.

        Given are the products of the others with y, S y and Y P y, and ``s y, y P y, s g, y P g``.
        """
        n = self.count = len(Sy) + 1
        sy, yPy, sg, yPg = of_new
        self.next, self.slots = (slot + 1) % self.size, np.append(self.slots, slot)
        self.Sg, self.YPg = np.append(self.Sg, sg), np.append(self.YPg, yPg)
        R_inverse, YPY = self.R_inverse, self.YPY
        self.R_inverse, self.YPY, self.gamma = np.zeros((n, n)), np.empty((n, n)), sy / yPy
        self.R_inverse[:-1, :-1], self.YPY[:-1, :-1] = R_inverse, YPY
        self.R_inverse[:-1, -1], self.R_inverse[-1, -1] = R_inverse @ Sy / -sy, 1 / sy
        self.YPY[-1, :-1], self.YPY[:-1, -1], self.YPY[-1, -1] = YPy, YPy, yPy

    def coefficients(self) -> tuple[Array, Array]:
        """Return what multiplies S, and what multiplies Y before P, in a direction."""
        gamma = self.gamma
        w = self.R_inverse @ self.Sg
        p = self.R_inverse.T @ (w / np.diagonal(self.R_inverse) + gamma * (self.YPY @ w - self.YPg))
        return -p, gamma * w

    def direction(self, point: Point, precondition: Preconditioner) -> Array:
        """Return ``-H g`` in u, of the point that was met last."""
        n, gamma, dtype = self.count, self.gamma, self.S.dtype
        if n == 0:
            return -point.preconditioned
        by_slot = np.empty((2, n), dtype)
        by_slot[:, self.slots] = self.coefficients()
        direction: Array = precondition(by_slot[1] @ self.Y[:n] - dtype.type(gamma) * point.reduced)
        direction += by_slot[0] @ self.S[:n]
        return direction


def bytes_needed(parameter_bytes: int, n_pairs: int) -> int:
    """Return what heads of so many bytes of parameters take: the pairs, points, a step.

    Besides the pairs, 15 vectors of the parameters' size were measured; 18 are allowed for.
    """
    return parameter_bytes * (2 * n_pairs + 18)


class PairsDescent(Descent):
    """A descent that goes by pairs of steps and gradients: they are part of its state."""

    pairs: Any

    def state(self) -> dict[str, Array]:
        state = super().state()
        if state:
            state |= {f"pairs.{name}": array for name, array in self.pairs.state().items()}
        return state

    def restore(self, state: dict[str, Array]) -> None:
        super().restore(state)
        self.pairs.restore(named("pairs.", state))


class Lbfgs(PairsDescent):
    """Preconditioned L-BFGS."""

    # most_slope_left is Nocedal and Wright's for quasi-Newton methods
    has_whole_hessian, margin, most_slope_left = False, 10.0, 0.9

    def __init__(self, x: Array, history_size: int, precondition: Preconditioner) -> None:
        super().__init__(x)
        self.precondition = precondition
        self.pairs = Pairs(history_size, len(x), x.dtype)

    def _at_trial(self, objective: float) -> Point:
        reduced = self.precondition.reduce(self.trial_gradient)
        return Point(
            self.trial, objective, self.trial_gradient, reduced, self.precondition(reduced)
        )

    def metric(self) -> Callable[[Array], float]:
        return metric_of(self.precondition)

    def restart(self, precondition: Preconditioner) -> None:
        """Go on with another preconditioner in the same coordinates; where `steps` said NEXT."""
        assert self.point is not None
        self.precondition = precondition
        self.pairs.precondition(precondition)
        self.point = self.point._replace(preconditioned=precondition(self.point.reduced))
        self.pairs.meet(self.point)

    def take_over(self, other: Lbfgs, change: Penalty, split: int) -> None:
        """Take the pairs of another descent, whose function differs by a penalty; it loses them."""
        assert self.point is not None
        self.pairs, other.pairs = other.pairs, self.pairs
        self.pairs.penalize(change, split, self.precondition)
        self.pairs.meet(self.point)

    def steps(self) -> Generator[bool, float, None]:
        assert self.point is not None
        x, gradient, direction = (np.empty_like(self.point.x) for _ in range(3))
        while True:
            u = self.pairs.direction(self.point, self.precondition)
            self.precondition.expand(u, direction)
            step, objective = yield from self._search(direction, x, gradient)
            if step is None:
                if self.pairs.count == 0:
                    self.stalled = True
                    return
                self.pairs.clear()
                continue
            old, self.point = self.point, self._at_trial(objective)
            u *= step
            self.pairs.add(u, old, self.point)
            x, gradient = old.x, old.gradient
            yield NEXT
