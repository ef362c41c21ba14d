"""Rows of a sample whose mean loss agrees with that of all rows at a point, for a fit with L1.

At (W', c') a pass over all rows has given their mean loss f and its gradient g. The sample's mean
loss f_m is made to agree with them by a linear term, as in `csoftmax.solver.corrected`:

    m(W, c) = times f_m(W, c) + <g - times grad f_m(W', c'), (W, c) - (W', c')> + offset.

`times` is 1, or more where the sample is known to curve less than all rows do. What m leaves out,
the difference of the curvatures, is known along the last step by the change of the linear term:
there m has a parabola, too.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from csoftmax.engine.class_rows import Array, ClassRows

Float64s = NDArray[np.float64]


class Linear(NamedTuple):
    """A linear function of weights (n_features, n_classes) and intercepts at the centre."""

    W: Array
    c: Float64s

    def at(self, W: Array, c: Float64s) -> float:
        places = np.flatnonzero(W)
        return self.of_places(places, W.reshape(-1)[places]) + float(self.c @ c)

    def of_places(self, places: NDArray[np.int64], u: Array) -> float:
        """Return what some weights, by their places in W, are worth."""
        return float(self.W.reshape(-1)[places].astype(np.float64) @ u.astype(np.float64))


class L1Before(NamedTuple):
    """A point at which all rows were evaluated, and the linear term there."""

    W: Array
    c: Float64s
    linear: Linear
    times: float


class CorrectedRows(ClassRows):
    """Rows of a sample; `agree` makes them stand for all rows.

    Attributes
    ----------
    shares : ndarray (n_classes,)
        Of the classes; set to those among all rows, as the sample may lack a class.
    own_shares : ndarray (n_classes,)
        Of the classes in the sample.
    """

    linear: Linear | None = None
    parabola: Linear | None = None
    offset = factor = 0.0
    times = 1.0
    # the linear term and the parabola's at W and c, and along delta
    _here = _along = _parabola_here = _parabola_along = 0.0

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.own_shares, self._own_share = self.shares, self.share

    def stand_alone(self) -> None:
        """Forget where the rows agreed with all.

        A class that the sample lacks would go away; it gets the slope of its share of all rows.
        """
        self._forget(1.0)
        shares = self.shares
        lacking = (self.own_shares == 0) & (shares > 0)
        if lacking.any():
            aim = np.where(lacking, shares, self.own_shares * (1 - shares[lacking].sum()))
            none = np.zeros((self.n_features, self.n_classes), self.dtype)
            self.linear = Linear(none, self.own_shares - aim)

    def _forget(self, times: float) -> None:
        self.linear = self.parabola = None
        self.offset = 0.0
        self.total *= self.times / times
        self.times, self.share = times, self._own_share * self.dtype.type(times)

    def agree(
        self,
        W: Array,
        c: Float64s,
        loss: float,
        gradient: Linear,
        times: float,
        before: L1Before | None,
    ) -> L1Before:
        """Make mean loss and gradient at W and c these, and the gradient at the point before.

        Return the point, to be known at the next one.
        """
        self._forget(times)
        own_loss = self.set_logits(W, c)
        g = self.bias_gradient()
        linear = Linear(gradient.W - self.gradient(g), gradient.c - g)
        if before is not None and before.times == times:
            change = Linear(linear.W - before.linear.W, linear.c - before.linear.c)
            curvature = change.at(W, c) - change.at(before.W, before.c)
            if curvature > 0:
                self.parabola, self.factor = change, 1 / curvature
                self._parabola_from = change.at(W, c)
        self.linear, self.offset = linear, loss - own_loss - linear.at(W, c)
        return L1Before(W, c, linear, times)

    # ---- what differs from rows that stand for themselves --------------------------------------

    def set_logits(self, W: Array, c: Float64s) -> float:
        self._here = self._along = self._parabola_here = self._parabola_along = 0.0
        if self.linear is not None:
            self._here = self.linear.at(W, c)
        if self.parabola is not None:
            self._parabola_here = self.parabola.at(W, c) - self._parabola_from
        return super().set_logits(W, c)

    def aim(self, places: NDArray[np.int64], moved: Array, moved_bias: Float64s | None) -> None:
        if self.linear is not None:
            self._along = self._term(self.linear, places, moved, moved_bias)
        if self.parabola is not None:
            self._parabola_along = self._term(self.parabola, places, moved, moved_bias)

    def _term(
        self, linear: Linear, places: NDArray[np.int64], moved: Array, moved_bias: Float64s | None
    ) -> float:
        of_bias = 0.0 if moved_bias is None else float(linear.c @ moved_bias)
        return linear.of_places(places, moved) + of_bias

    def step(self, t: float) -> float:
        square = (self._parabola_here + t * self._parabola_along) ** 2
        more = self.offset + self._here + t * self._along + 0.5 * self.factor * square
        return super().step(t) + more

    def accept(self, t: float) -> None:
        super().accept(t)
        self._here += t * self._along
        self._parabola_here += t * self._parabola_along
        self._along = self._parabola_along = 0.0

    def move_bias(self, step: Float64s) -> float:
        if self.linear is not None:
            self._here += float(self.linear.c @ step)
        if self.parabola is not None:
            self._parabola_here += float(self.parabola.c @ step)
        return super().move_bias(step)

    def _own_bias_gradient(self) -> Float64s:
        return self.mean_probabilities() - self.times * self.own_shares

    def bias_gradient(self) -> Float64s:
        g = self._own_bias_gradient()
        if self.linear is not None:
            g += self.linear.c
        if self.parabola is not None:
            g += self.factor * self._parabola_here * self.parabola.c
        return g

    def gradient(self, bias_gradient: Float64s) -> Array:
        # features are centred by the sample's own gradient in the intercepts
        G = super().gradient(self._own_bias_gradient())
        if self.linear is not None:
            G += self.linear.W
        if self.parabola is not None:
            G += G.dtype.type(self.factor * self._parabola_here) * self.parabola.W
        return G

    def entropy(self, factor: float, mix: float, v: Float64s) -> float:
        """Return 0: a point of the sample's dual problem knows nothing of the linear term."""
        return 0.0
