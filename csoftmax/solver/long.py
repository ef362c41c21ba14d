"""L-BFGS of sparse rows: their vectors are so long that passes over them take most of the time.

It is the method of `csoftmax.solver.lbfgs` with `csoftmax.solver.diagonal` as P, in the problem's
own coordinates. An iteration reads each pair twice: once for its products with the gradient, which
also make the new pair, and once for the direction. ``P g`` is kept nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from csoftmax.engine.lines import Lines
from csoftmax.solver.descent import NEXT
from csoftmax.solver.diagonal import DiagonalInverse
from csoftmax.solver.hessians import excess
from csoftmax.solver.lbfgs import Pairs, PairsDescent
from csoftmax.solver.penalty import Penalty
from csoftmax.solver.problem import Sizes

Array = NDArray[Any]


def bytes_needed(sizes: Sizes, n_pairs: int) -> int:
    """Return what heads over sparse rows take, and the gradients of their null models.

    A head takes its pairs, two points, a direction, its diagonal and where that was made; three
    more are for the start and the solution.
    """
    of_null = sizes.parameter_bytes // sizes.n_heads * sizes.n_samples
    return sizes.parameter_bytes * (2 * n_pairs + 10) + of_null


class LongPoint(NamedTuple):
    """A `Point` in the problem's coordinates, of which the estimate is kept, but not ``P g``."""

    x: Array
    objective: float
    gradient: Array
    estimate: float

    @property
    def reduced(self) -> Array:
        return self.gradient


class LongPairs(Pairs):
    """Pairs whose products are made in one pass over all of them."""

    def __init__(self, size: int, lines: Lines, dtype: np.dtype[Any]) -> None:
        super().__init__(size, lines.split + lines.n_classes, dtype)
        self.lines = lines

    def _of_c(self, vector: Array, slots: Array | list[int]) -> NDArray[np.float64]:
        """Return the part of some vectors that belongs to the intercept."""
        of_c: Array = vector[..., self.lines.split :][slots]
        return of_c.astype(np.float64)

    def precondition_by(self, P: DiagonalInverse) -> None:
        """Go over to another P."""
        Y = self._of_c(self.Y, self.slots)
        YPY: NDArray[np.float64] = self.lines.gram(
            self.S, self.Y, self.slots, P.diagonal.of_W, P.l2
        )
        self.YPY = YPY + Y @ P.solve_c(Y).T
        if self.count:
            self.gamma = float(1 / (self.R_inverse[-1, -1] * self.YPY[-1, -1]))

    def penalize_by(self, change: Penalty, P: DiagonalInverse) -> None:
        """Go over to a function whose penalty differs by the change: see `Pairs.penalize`."""
        n, lines = self.count, self.lines
        SY: Array = np.zeros((n, n))
        for j, slot in enumerate(self.slots):
            y, of_c = self.Y[slot], self.Y[slot, lines.split :].copy()
            lines.step(y, self.S[slot], change.l2, y)
            y[lines.split :] = of_c
            for i in range(j + 1):
                (SY[i, j],) = lines.products([self.S[self.slots[i]], y], [(0, 1)])
        if not (np.diagonal(SY) > 0).all():
            self.clear()
            return
        self.R_inverse = np.linalg.inv(SY)
        self.precondition_by(P)
        if not (np.isfinite(self.R_inverse).all() and (np.diagonal(self.YPY) > 0).all()):
            self.clear()

    def meet_gradient(self, g: Array, P: DiagonalInverse, **pair: Any) -> tuple[float, list[float]]:
        """Multiply the pairs by a new gradient; return ``g P g``, and products of a new pair."""
        n = len(self.slots)
        sums = self.lines.meet(self.S, self.Y, self.slots, g, P.diagonal.of_W, P.l2, **pair)
        of_c = g[self.lines.split :].astype(np.float64)
        solved = P.solve_c(of_c)
        self.Sg = np.array(sums[1 : 1 + n]) + self._of_c(self.S, self.slots) @ of_c
        self.YPg = np.array(sums[1 + n : 1 + 2 * n]) + self._of_c(self.Y, self.slots) @ solved
        return sums[0] + float(of_c @ solved), sums[1 + 2 * n :]

    def take_step(
        self, direction: Array, step: float, old: Array, g: Array, P: DiagonalInverse
    ) -> float:
        """Take in a step from the gradient met last to a new one; return ``g P g`` of this.

        Where it leaves no curvature, the pair is left out; with it goes the oldest, whose place it
        took.
        """
        split, before = self.lines.split, (self.Sg, self.YPg)
        slot, is_full = self.count, self.count == self.size
        if is_full:
            slot, self.slots = int(self.slots[0]), self.slots[1:]
            self.R_inverse, self.YPY = self.R_inverse[1:, 1:], self.YPY[1:, 1:]
            before = self.Sg[1:], self.YPg[1:]
        gPg, sums = self.meet_gradient(g, P, slot=slot, old=old, direction=direction, step=step)
        self.S[slot, split:] = step * direction[split:]
        self.Y[slot, split:] = g[split:] - old[split:]
        s, y = self._of_c(self.S, [slot])[0], self._of_c(self.Y, [slot])[0]
        of_c, solved = g[split:].astype(np.float64), P.solve_c(y)
        pairs = ((s, y), (solved, y), (s, s), (s, of_c), (solved, of_c))
        sy, yPy, ss, sg, yPg = (a + float(u @ v) for a, (u, v) in zip(sums, pairs, strict=True))
        if not (sy > 0 and yPy > 0 and sy * sy > 1e-14 * yPy * ss):
            if is_full:  # the slots in use are the first ones
                self.clear()
            return gPg
        self._append(slot, self.Sg - before[0], self.YPg - before[1], (sy, yPy, sg, yPg))
        return gPg

    def direction_to(self, g: Array, P: DiagonalInverse, out: Array) -> float:
        """Set out to ``-H g`` of the gradient that was met last; return ``-g H g``."""
        split, slots = self.lines.split, self.slots
        of_S, of_Y = self.coefficients()
        slope = self.lines.direction(
            self.S, self.Y, slots, of_S, of_Y, self.gamma, g, P.diagonal.of_W, P.l2, out
        )
        of_c = g[split:].astype(np.float64)
        rest = of_Y @ self._of_c(self.Y, slots) - self.gamma * of_c
        out[split:] = P.solve_c(rest) + of_S @ self._of_c(self.S, slots)
        return slope + float(of_c @ out[split:])


class LongLbfgs(PairsDescent):
    """Preconditioned L-BFGS of long vectors."""

    has_whole_hessian, margin, most_slope_left = False, 10.0, 0.9
    point_type = LongPoint

    def __init__(
        self, x: Array, history_size: int, precondition: DiagonalInverse, lines: Lines
    ) -> None:
        super().__init__(x)
        self.precondition: DiagonalInverse | None = precondition
        self.lines = lines
        self.pairs = LongPairs(history_size, lines, x.dtype)

    def _at_trial(self, objective: float) -> LongPoint:
        assert self.precondition is not None
        gPg, _ = self.pairs.meet_gradient(self.trial_gradient, self.precondition)
        return LongPoint(self.trial, objective, self.trial_gradient, 0.5 * gPg)

    def metric(self) -> Callable[[Array], float]:
        P, pairs, split = self.precondition, self.pairs, self.lines.split
        assert P is not None
        none = np.zeros(0, np.intp)

        def square(g: Array) -> float:
            of_c = g[split:].astype(np.float64)
            of_W = self.lines.meet(pairs.S, pairs.Y, none, g, P.diagonal.of_W, P.l2)[0]
            return of_W / excess(P.diagonal.present.sum()) + float(of_c @ P.solve_c(of_c))

        return square

    def restart(self, precondition: DiagonalInverse) -> None:
        """Go on with another preconditioner; where `steps` said NEXT."""
        assert self.point is not None
        self.precondition = precondition
        self.pairs.precondition_by(precondition)
        gPg, _ = self.pairs.meet_gradient(self.point.gradient, precondition)
        self.point = self.point._replace(estimate=0.5 * gPg)

    def take_over(self, other: LongLbfgs, change: Penalty) -> None:
        """Take the pairs of another descent, whose function differs by a penalty; it loses them."""
        assert self.precondition is not None
        self.pairs, other.pairs = other.pairs, self.pairs
        self.pairs.penalize_by(change, self.precondition)
        self.pairs.meet_gradient(self.point.gradient, self.precondition)

    def _slope(self, gradient: Array, direction: Array) -> float:
        return self.lines.products([gradient, direction], [(0, 1)])[0]

    def _go(self, start: Array, direction: Array, step: float, x: Array) -> None:
        self.lines.step(start, direction, step, x)

    def steps(self) -> Generator[bool, float, None]:
        assert self.point is not None
        x, gradient, direction = (np.empty_like(self.point.x) for _ in range(3))
        while True:
            assert self.precondition is not None
            slope = self.pairs.direction_to(self.point.gradient, self.precondition, direction)
            step, objective = yield from self._search(direction, x, gradient, slope)
            if step is None:
                if self.pairs.count == 0:
                    self.stalled = True
                    return
                self.pairs.clear()
                continue
            old = self.point
            gPg = self.pairs.take_step(direction, step, old.gradient, gradient, self.precondition)
            self.point = LongPoint(x, objective, gradient, 0.5 * gPg)
            x, gradient = old.x, old.gradient
            yield NEXT
