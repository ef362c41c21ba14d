"""Where a fit with L1 is, what is known of it, and how far the optimum is by its history."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from csoftmax.engine.class_rows import Array
from csoftmax.solver.stopping import MOST_UNGAINED

# Where a model was left early, the iterations are taken to go on: a gain is at most this share of
# the one before it. Where conjugate gradients were cut short, gains are uneven: two together count,
# and the slowest of the last LOOKED_BACK.
MOST_SLOWER, LOOKED_BACK = 0.95, 3
# A distance of so many roundings of the objective is none: sums over the rows have as many.
ROUNDINGS = 32
COLUMNS = ("objective", "bound", "estimate", "selected", "seconds")  # of a fit's history
# What a checkpoint saves as one number each.
NUMBERS = ("objective", "lower", "estimate", "iterations", "steepest")


@dataclass
class Fit:
    """Where a fit is: weights, intercepts at the features' mean, and what is known of them.

    Attributes
    ----------
    W, c : ndarray (n_features, n_classes), (n_classes,)
    support : ndarray
        The places in W, as a flat array, of the weights that are not 0.
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
    support: NDArray[np.int64]
    objective: float = math.inf
    lower: float = 0.0
    estimate: float = math.inf
    iterations: int = 0
    steepest: float = math.inf
    status: str = ""
    history: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in COLUMNS})

    def state(self) -> dict[str, Array]:
        """Return all but W and c."""
        state = {name: np.array(getattr(self, name)) for name in NUMBERS}
        state["status"] = np.frombuffer(self.status.encode(), np.uint8)
        return state | {f"history.{name}": np.array(self.history[name]) for name in COLUMNS}

    def restore(self, state: dict[str, Array]) -> None:
        """Set what `state` returned."""
        for name in NUMBERS:
            setattr(self, name, state[name].item())
        self.status = state["status"].tobytes().decode()
        self.history = {name: state[f"history.{name}"].tolist() for name in COLUMNS}

    def times_too_low(self) -> float:
        """Return by how much the worst of the estimates so far was too low, as is known now.

        What has been gained since then is at most the distance that it was to be.
        """
        objectives, said = (np.array(self.history[name]) for name in ("objective", "estimate"))
        gained = (objectives - self.objective)[said > 0]
        return float((gained / said[said > 0]).max(initial=1.0))


def is_near(fit: Fit, tol: float, null_loss: float, value: float, rounding: float) -> bool:
    """Say whether a fit has converged; `value` is that of its penalty.

    Under a strong penalty little is gained over the null model, and a distance that is small
    against the objective can be all of that.
    """
    gained = max(null_loss - fit.objective, value)
    told_apart = max(MOST_UNGAINED * gained, ROUNDINGS * rounding * fit.objective)
    return fit.estimate <= tol * fit.objective and fit.estimate <= told_apart


def left_of_gains(gains: Array, are_uneven: bool) -> float:
    """Return what iterations are still to gain, if they go on as they have."""
    if len(gains) < 2:
        return float(gains[-1] * MOST_SLOWER / (1 - MOST_SLOWER))
    ratios = np.minimum(gains[1:] / gains[:-1], MOST_SLOWER)
    left = float(gains[-1] * ratios[-1] / (1 - ratios[-1]))
    if are_uneven:
        slowest = float(ratios.max())
        left = max(left, min(1.0, slowest / (1 - slowest)) * float(gains[-2:].sum()))
    return left
