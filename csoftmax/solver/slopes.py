"""The slopes of the mean loss in all weights, and what follows from them where a fit is.

They say which weights should move (`working_set`), how far from an optimum the fit is at most
(`lower_bound`), and how much an optimum's slopes are missed (`steepest`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from csoftmax.engine.class_rows import Array, ClassRows
from csoftmax.rows.base import blocks
from csoftmax.solver.penalty import Penalty

# A working set has the weights that are not 0, and at most so many times as many others, at least
# LEAST_NEW for each class; those whose slopes are largest.
GROWTH, LEAST_NEW = 1.0, 20
# So many slopes are copied at a time.
AT_ONCE = 1 << 17


def in_blocks(features: NDArray[np.int64], n_classes: int) -> Iterator[NDArray[np.int64]]:
    """Cut features into parts, each with few weights."""
    for some in blocks(len(features), AT_ONCE // n_classes):
        yield features[some]


class Slopes:
    """The slopes at the probabilities that rows have.

    Parameters
    ----------
    rows : ClassRows
    penalty : Penalty
    counts : ndarray (n_classes,)
        1 for the classes whose weights may move, 0 for the others.
    g : ndarray (n_classes,)
        The slopes in the intercepts.
    null_gradient : ndarray (n_features, n_classes) or None
        The slopes of the probabilities that are the shares of the labels; None without intercepts.
    """

    def __init__(
        self,
        rows: ClassRows,
        penalty: Penalty,
        counts: Array,
        g: NDArray[np.float64],
        null_gradient: Array | None,
    ) -> None:
        self.rows, self.penalty, self.counts, self.g = rows, penalty, counts, g
        self.G = rows.gradient(g)
        self.mix, self.v = 0.0, np.zeros(rows.n_classes)
        self.dual: tuple[Array, Array | None, Array, float] | None = None
        if null_gradient is not None:
            self._mix_in(null_gradient)
        self.most, self.most_dual = rows.largest_slopes(self.G, counts, self.dual)
        self.steep = np.flatnonzero(self.most > penalty.l1)  # features

    def _mix_in(self, null_gradient: Array) -> None:
        """Set the dual point whose classes have the shares of the labels.

        See `csoftmax.solver.bound`: it is ``(1 - mix) p + mix v``.
        """
        rows, g = self.rows, self.g
        present = rows.shares > 0
        shares, c = rows.shares[present], g[present]
        self.mix = max(0.0, float((1 - shares / np.maximum(shares + c, 1e-300)).max()))
        if self.mix > 0:
            left = np.maximum(shares - (1 - self.mix) * (shares + c), 0.0)
            self.v[present] = left / self.mix
        left = rows.mean - rows.centre  # what the slopes of centred features have not lost yet
        dtype = rows.dtype
        self.dual = (
            null_gradient, left.astype(dtype) if left.any() else None, g.astype(dtype), self.mix
        )  # fmt: skip

    def lower_bound(self) -> float:
        """Return what the dual point proves: a lower bound of the optimum.

        The point is ``y + factor (p' - y)``, p' having the shares of the labels. With the largest
        factor for which the penalty's conjugate is finite it may be far from p where a slope is too
        large anywhere.
        """
        penalty, rows = self.penalty, self.rows
        largest, rounding = float(self.most_dual.max(initial=0.0)), float(np.finfo(rows.dtype).eps)
        fitting = 1.0 if largest <= penalty.l1 else penalty.l1 / largest * (1 - rounding)
        best = max(0.0, rows.entropy(fitting, self.mix, self.v))
        if penalty.l2 and fitting < 1:
            features = in_blocks(np.flatnonzero(self.most_dual > penalty.l1), rows.n_classes)
            conjugate = sum(penalty.conjugate(self._dual_slopes(some)) for some in features)
            best = max(best, rows.entropy(1.0, self.mix, self.v) - conjugate)
        return best

    def _held(self, W: Array, features: NDArray[np.int64]) -> Array:
        """Return the sizes of the slopes in weights that are 0 and may move; 0 for the others."""
        held: Array = np.abs(self.G[features]) * self.counts
        held *= W[features] == 0
        return held

    def _dual_slopes(self, features: NDArray[np.int64]) -> Array:
        R = self.G[features].astype(np.float64)
        if self.dual is not None:
            null, left, c, mix = self.dual
            if left is not None:
                R -= np.outer(left[features], c)
            R = (1 - mix) * R + mix * null[features]
        return R * self.counts

    def steepest(self, W: Array, support: NDArray[np.int64]) -> float:
        """Return the largest distance of a slope from where the penalty would hold it.

        `support` has the places of the weights that are not 0, in W as a flat array.
        """
        l1, l2 = self.penalty.l1, self.penalty.l2
        u = W.reshape(-1)[support]
        missing = np.abs(self.G.reshape(-1)[support] + l2 * u + l1 * np.sign(u))
        held = max(
            (self._held(W, some).max() for some in in_blocks(self.steep, W.shape[1])), default=0.0
        )
        return max(float(missing.max(initial=0.0)), float(held) - l1)

    def working_set(self, W: Array, support: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the places of the weights that are to move."""
        most = max(int(GROWTH * len(support)), LEAST_NEW * int(self.counts.sum()))
        places, sizes = [support[:0]], [self.G[:0, 0]]
        for features in in_blocks(self.steep, W.shape[1]):
            held = self._held(W, features)
            row, of_class = np.nonzero(held > self.penalty.l1)
            places.append(features[row] * W.shape[1] + of_class)
            sizes.append(held[row, of_class])
        new = np.concatenate(places)
        if len(new) > most:
            new = new[np.argpartition(-np.concatenate(sizes), most)[:most]]
        return np.concatenate([support, new])
