"""What a pass over all rows proves of a fit with L1: a lower bound, without a look at rows.

The dual problem asks for a distribution q_i over the classes for each row i; with the mean slopes
``R = mean_i x_i (q_i - t_i)`` of its distance from the targets t the optimum is at least

    D(q) = mean_i H(q_i) - penalty*(R),

where H is the entropy and penalty* the conjugate of the penalty, if the classes have the shares of
the targets (that is for the intercepts). At a point with probabilities p the sums of a pass tell
the mean entropy, as ``mean H(p) = loss - <gradient, parameters>``. The point taken is

    q = factor ((1 - mix) p + mix v) + (1 - factor) t

with the mix and the v of `csoftmax.solver.bound`, which give the classes their shares, and a factor
that makes R small enough. H is concave, and 0 at a label, so

    mean H(q) >= factor ((1 - mix) mean H(p) + mix H(v)).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from csoftmax.engine.class_rows import Array
from csoftmax.solver.penalty import Penalty

Float64s = NDArray[np.float64]


class L1Point(NamedTuple):
    """Where all rows were evaluated; their mean loss, and its gradient at fixed intercepts."""

    W: Array  # (n_features, n_classes), of X as it is stored
    b: Float64s
    loss: float
    dW: Array
    db: Float64s

    def objective(self, penalty: Penalty) -> float:
        return self.loss + penalty.value(self.W)


class Null(NamedTuple):
    """The model of W = 0 with the best intercepts, if there are any, and what goes with it."""

    point: L1Point
    shares: Float64s  # of the classes
    means: Float64s  # of the features
    fit_intercept: bool


class Proved(NamedTuple):
    """The lower bound of the optimum, and the largest slope in proportion to l1."""

    lower: float
    largest: float


def lower_bound(point: L1Point, penalty: Penalty, null: Null, free: NDArray[np.int64]) -> Proved:
    """Return what the pass at a point proves; `free` are the classes whose weights may move."""
    entropy = point.loss - float(np.vdot(point.dW.astype(np.float64), point.W))
    entropy -= float(point.db @ point.b)
    R = point.dW.astype(np.float64)
    if null.fit_intercept:
        mix, v = _mixed_in(null.shares, point.db)
        R -= np.outer(null.means, point.db)
        R = (1 - mix) * R + mix * null.point.dW
        of_v = -float(v @ np.log(np.maximum(v, 1e-300)))
        entropy = (1 - mix) * entropy + mix * of_v
    R = R[:, free]
    largest = float(np.abs(R).max(initial=0.0)) / penalty.l1
    lower = entropy / max(1.0, largest)
    if penalty.l2:
        lower = max(lower, entropy - penalty.conjugate(R))
    return Proved(max(lower, 0.0), largest)


def _mixed_in(shares: Float64s, db: Float64s) -> tuple[float, Float64s]:
    """Return the least mix, and v, for which the classes of ``(1 - mix) p + mix v`` have shares.

    Those of p are ``shares + db``.
    """
    present = shares > 0
    of_p = np.where(present, np.maximum(shares + db, 1e-300), 0.0)
    ratios = shares[present] / of_p[present]
    mix = max(0.0, float((1 - ratios).max(initial=0.0)))
    left = np.maximum(shares - (1 - mix) * of_p, 0.0)
    return mix, left / max(mix, 1e-300)


def steepest(point: L1Point, penalty: Penalty, free: NDArray[np.int64]) -> float:
    """Return the largest distance of a slope from where the penalty would hold it."""
    W, slopes = point.W[:, free], point.dW[:, free] + penalty.l2 * point.W[:, free]
    held = np.maximum(np.abs(slopes) - penalty.l1, 0)
    return float(np.where(W == 0, held, np.abs(slopes + penalty.l1 * np.sign(W))).max(initial=0.0))
