"""A head with L1 that goes from pass to pass: where it is, and its part of a checkpoint."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from csoftmax.engine.class_rows import Array
from csoftmax.solver.corrected_rows import L1Before, Linear
from csoftmax.solver.l1_dual import L1Point
from csoftmax.solver.l1_fit import Fit
from csoftmax.solver.l1_heads import NOTHING
from csoftmax.solver.penalty import Penalty

# What a checkpoint saves of a head as one number each.
NUMBERS = ("promised", "times", "largest", "is_proving")


@dataclass
class L1Head:
    """A head on its way: where it is, and where it goes to.

    Attributes
    ----------
    trial : tuple of W and b, or None
        Where all rows are to be evaluated next; None if the head has ended.
    promised : float
        What the sample says the trial gains.
    times : float
        What the sample's loss is multiplied by.
    is_proving : bool
        Whether the trial is there for the bound, after which the head ends.
    """

    penalty: Penalty
    row: int
    point: L1Point
    fit: Fit = field(default_factory=lambda: Fit(NOTHING, np.zeros(0), np.zeros(0, np.int64)))
    before: L1Before | None = None
    trial: tuple[Array, NDArray[np.float64]] | None = None
    promised: float = 0.0
    times: float = 1.0
    largest: float = math.inf  # see `csoftmax.solver.l1_dual.Proved`
    is_proving: bool = False
    gains: list[float] = field(default_factory=list)  # of the last steps

    def state(self) -> dict[str, Array]:
        """Return where the head is, and what led it there."""
        state: dict[str, Array] = {
            "numbers": np.array([float(getattr(self, name)) for name in NUMBERS])
        }
        state |= {f"point.{name}": np.array(value) for name, value in self.point._asdict().items()}
        if self.before is not None:
            W, c, linear, times = self.before
            state |= {"before.W": W, "before.c": c, "before.times": np.array(times)}
            state |= {"linear.W": linear.W, "linear.c": linear.c}
        if self.trial is not None:
            state |= {"trial.W": self.trial[0], "trial.b": self.trial[1]}
        return state | {"gains": np.array(self.gains)} | self.fit.state()

    def restore(self, state: dict[str, Array]) -> None:
        """Set what `state` returned."""
        for name, number in zip(NUMBERS, state["numbers"].tolist(), strict=True):
            setattr(self, name, type(getattr(self, name))(number))
        W, b, loss, dW, db = (state[f"point.{name}"] for name in L1Point._fields)
        self.point = L1Point(W, b, float(loss), dW, db)
        if "before.W" in state:
            linear = Linear(state["linear.W"], state["linear.c"])
            self.before = L1Before(
                state["before.W"], state["before.c"], linear, float(state["before.times"])
            )
        if "trial.W" in state:
            self.trial = state["trial.W"], state["trial.b"]
        self.gains = state["gains"].tolist()
        self.fit.restore(state)
