"""The penalty on the weights: what it is worth, its gradient, its prox, its conjugate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Penalty:
    """``l1 ||W||_1 + l2 / 2 ||W||^2``: none, L2, L1 or the elastic net. b is not penalised.

    W is an array of any shape: the weights of a head as a matrix or flat.
    """

    l1: float
    l2: float

    @classmethod
    def of(cls, C: float, total: float, unit: float = 1.0) -> Penalty:
        """Return the L2 penalty of C where the rows weigh `total` in all: l2 = ``1 / (C total)``.

        `unit` is what W is multiplied by to be the caller's.
        """
        product = C * total  # 0 where no row counts, which is refused later
        return cls(0.0, unit * unit / product if product else math.inf)

    @property
    def strength(self) -> float:
        """What the penalty is in proportion to, along a path of C."""
        return self.l1 + self.l2

    def value(self, W: Array) -> float:
        W = W.astype(np.float64, copy=False)
        value = 0.5 * self.l2 * float(np.vdot(W, W))
        return value + self.l1 * float(np.abs(W).sum()) if self.l1 else value

    def add_gradient(self, W: Array, dW: Array) -> None:
        """Add the gradient of the smooth part, that of l2, to dW."""
        if self.l2:
            dW += W * W.dtype.type(self.l2)

    def smooth_change_from(self, other: Penalty) -> Penalty:
        """Return what the smooth part is more than another's, which may be below 0."""
        return Penalty(0.0, self.l2 - other.l2)

    def prox(self, W: Array, step: float) -> None:
        """Set W to the V that minimises ``step * value(V) + ||V - W||^2 / 2``."""
        if self.l1:
            threshold = W.dtype.type(step * self.l1)
            np.subtract(W, np.clip(W, -threshold, threshold), out=W)
        if self.l2:
            W /= W.dtype.type(1 + step * self.l2)

    def conjugate(self, R: Array) -> float:
        """Return the largest ``<R, W> - value(W)`` of all W; inf where it has no limit."""
        if self.l1:
            R = np.maximum(np.abs(R) - R.dtype.type(self.l1), 0)
        square = float(np.vdot(R, R))
        if self.l2:
            return square / (2 * self.l2)
        return 0.0 if square == 0 else math.inf

    def feasible(self, R: Array) -> float:
        """Return the largest factor <= 1 that R is to be multiplied by for a finite conjugate."""
        largest = float(np.abs(R).max(initial=0.0))
        return 1.0 if self.l2 or largest <= self.l1 else self.l1 / largest
