"""Rows and their targets by classes: what the proximal Newton keeps of them between its steps.

The logits Z stay from step to step, so a step along a direction delta needs no pass over X. X is
read for gradients, and coordinate descent reads columns of it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from csoftmax import _kernels
from csoftmax.core.sparse import CSR
from csoftmax.engine import calls
from csoftmax.engine.chunks import SUM_ROWS
from csoftmax.engine.passes import ABSENT_BIAS, mass_of_classes
from csoftmax.rows.base import Stored, blocks

Array = NDArray[Any]

PADDED_TO = 128  # rows; LOGIT_ROWS of the kernels


class Coordinates(NamedTuple):
    """Weights that are descended, class after class."""

    starts: NDArray[np.int64]  # (n_classes + 1,) where those of each class begin
    feature: NDArray[np.int32]
    u: Array
    start: Array  # where they were when the model was made
    gradient: Array  # of the mean loss there
    room: Array  # how far they may move
    curvature: Array  # below 0: not known yet


class Bias(NamedTuple):
    """How intercepts move in a model."""

    moved: NDArray[np.float64]
    gradient: NDArray[np.float64]
    room: float


class ClassRows:
    """Rows, their targets and weights; the arrays of all rows by their classes.

    Parameters
    ----------
    X : CSR or array (n_rows, n_features), as `csoftmax.rows.base.as_stored` gives it
    target : array (n_rows,) of labels, or float64 (n_rows, n_classes) of probabilities
        Checked.
    n_classes : int
    weight : float64 array (n_rows,) > 0, or None
    dtype : float32 or float64
    centred : bool
        Whether columns of an array are centred, and b is understood at the features' mean.
    n_threads : int
        At most so many threads. The bits do not depend on it.

    Attributes
    ----------
    Z, delta, P : ndarray (n_classes, n_rows and padding)
        Logits, what a step adds to them, probabilities.
    total : float
        The weight of all rows.
    shares : ndarray (n_classes,)
        Of the classes in it.
    largest : ndarray (n_features,)
        The largest absolute value of each (centred) feature; 1 where all are 0.
    mean, centre : ndarray (n_features,)
        Of the features, and what is subtracted from them: the mean or 0.
    """

    def __init__(
        self,
        X: Stored,
        target: Array,
        n_classes: int,
        weight: NDArray[np.float64] | None,
        dtype: np.dtype[Any],
        centred: bool,
        n_threads: int,
    ) -> None:
        self.X, self.weight, self.n_threads = X, weight, n_threads
        self.y = calls.wide_labels(target if target.ndim == 1 else target.argmax(axis=1))
        self.n_rows, self.n_features = X.shape
        self.n_classes, self.dtype = n_classes, dtype
        n, ld = self.n_rows, -(-self.n_rows // PADDED_TO) * PADDED_TO
        self.total = float(n) if weight is None else float(weight.sum())
        self.shares = mass_of_classes(target, weight, n_classes) / self.total
        self.share = np.zeros(ld, dtype)
        self.share[:n] = (1.0 if weight is None else weight) / self.total
        self.Z, self.delta, self.P = (np.zeros((n_classes, ld), dtype) for _ in range(3))
        self.R = np.empty((n, -(-n_classes // 16) * 16), dtype)
        self.s = np.zeros(ld, dtype)
        self._rows = _kernels.LogitRows(self.Z, self.delta, self.P, self.R, self.y, weight)
        self.columns = X.columns(dtype) if isinstance(X, CSR) else None
        self.mean = self._means()
        is_moved = centred and self.columns is None
        self.centre = self.mean if is_moved else np.zeros_like(self.mean)
        self.largest = self._largest()
        if isinstance(X, CSR):
            self._counts = np.bincount(X.indices, minlength=self.n_features)
        # columns of an array that were asked for; pages of the others are never touched
        self._is_copied = np.zeros(self.n_features, bool)
        self._dense = np.zeros((0 if self.columns else self.n_features, ld), dtype)
        self._more: Array | None = None
        if target.ndim == 2:
            self._set_probabilities(target)

    def _set_probabilities(self, target: NDArray[np.float64]) -> None:
        """Note what a row of probabilities t adds to its most probable class as a label y.

        The loss is more by ``(e_y - t) . z``, z being the logits. The slopes are more by what does
        not depend on the parameters: they are summed once.
        """
        self._more = np.zeros_like(self.Z)
        self.R[:] = 0
        for some in blocks(self.n_rows, SUM_ROWS):
            more = -target[some]
            more[np.arange(len(more)), self.y[some]] += 1
            self._more[:, some] = more.T
            self.R[some, : self.n_classes] = more
        if self.weight is not None:
            self.R *= self.weight[:, None].astype(self.dtype)
        self._more_slopes = self._sums()

    def null_bias(self) -> NDArray[np.float64]:
        """Return the intercepts that give every row the shares of the labels."""
        present = self.shares > 0
        c = np.log(np.where(present, self.shares, 1.0))
        bias: NDArray[np.float64] = np.where(present, c - c[present].mean(), ABSENT_BIAS)
        return bias

    # ---- logits -------------------------------------------------------------------------------

    def set_logits(self, W: Array, c: NDArray[np.float64]) -> float:
        """Set Z, P to what they are at W (n_features, n_classes) and c; return the mean loss."""
        n = self.n_rows
        if W.any():
            logits = np.empty((n, self.n_classes), self.dtype)
            b = (c - self.at_centre(W)).astype(self.dtype)
            parameters = calls.Parameters(calls.weights_for(self.X, W, self.dtype), b)
            calls.forward(
                calls.StoredRows(self.X, 1.0), parameters, calls.Sink(logits=logits), self.n_threads
            )
            self.Z[:, :n] = logits.T
        else:
            self.Z[:, :n] = c[:, None]
        return self.step(0.0)

    def at_centre(self, W: Array) -> NDArray[np.float64]:
        """Return ``centre @ W``: what intercepts lose where features are not centred."""
        if self.columns is not None:
            return np.zeros(self.n_classes)
        product: NDArray[np.float64] = self.centre @ W
        return product

    def step(self, t: float) -> float:
        """Set P and R to what they are at ``Z + t * delta``; return the mean loss."""
        total: float = self._rows.step(t, self.n_threads)
        return total / self.total + self._more_loss(t)

    def _more_loss(self, t: float) -> float:
        more, n = 0.0, self.n_rows
        for k, of_class in enumerate(() if self._more is None else self._more):
            weighted = of_class[:n].astype(np.float64)
            if self.weight is not None:
                weighted *= self.weight
            for factor, logits in ((1.0, self.Z[k, :n]), (t, self.delta[k, :n])):
                if factor:
                    more += factor * float(weighted @ logits.astype(np.float64))
        return more / self.total

    def accept(self, t: float) -> None:
        """Make ``Z + t * delta`` the new Z."""
        if t != 1:
            self.delta *= self.dtype.type(t)
        self.Z += self.delta

    def move_bias(self, step: NDArray[np.float64]) -> float:
        """Add to the logits of each class; return the mean loss."""
        self.Z[:, : self.n_rows] += step[:, None].astype(self.dtype)
        return self.step(0.0)

    def mean_probabilities(self) -> NDArray[np.float64]:
        """Return the weighted means of P's classes."""
        if self.weight is None:
            means: NDArray[np.float64] = np.add.reduce(self.P, axis=1) / self.total
        else:
            means = (self.P @ self.share).astype(np.float64)
        return means

    def bias_gradient(self) -> NDArray[np.float64]:
        """Return the first derivatives of the mean loss in the intercepts."""
        return self.mean_probabilities() - self.shares

    def aim(
        self, places: NDArray[np.int64], moved: Array, moved_bias: NDArray[np.float64] | None
    ) -> None:
        """Be told by which moves of weights and intercepts delta came about, before `step`s."""

    def bias_hessian(self) -> NDArray[np.float64]:
        """Return the second derivatives of the mean loss in the intercepts."""
        H: NDArray[np.float64] = -((self.P * self.share) @ self.P.T).astype(np.float64)
        H[np.diag_indices_from(H)] += self.mean_probabilities()
        return H

    def entropy(self, factor: float, mix: float, v: NDArray[np.float64]) -> float:
        """Return the mean entropy of ``factor ((1 - mix) p + mix v) + (1 - factor) t``.

        Of labels t is ``e_y``.
        """
        if self._more is not None:
            return self._entropy(self._more, factor, mix, v)
        total: float = self._rows.entropy(factor, mix, v, self.n_threads)
        return total / self.total

    def _entropy(
        self, e_y_minus_t: Array, factor: float, mix: float, v: NDArray[np.float64]
    ) -> float:
        total = 0.0
        for some in blocks(self.n_rows, SUM_ROWS):
            q = -e_y_minus_t[:, some].astype(np.float64)
            q[self.y[some], np.arange(q.shape[1])] += 1
            q *= 1 - factor
            q += factor * ((1 - mix) * self.P[:, some] + mix * v[:, None])
            of_rows = -(q * np.log(np.maximum(q, 1e-300))).sum(axis=0)
            total += float(self.share[some].astype(np.float64) @ of_rows)
        return total

    # ---- features -----------------------------------------------------------------------------

    def gradient(self, bias_gradient: NDArray[np.float64]) -> Array:
        """Return that of the mean loss (n_features, n_classes) at P, of centred features."""
        sums = self._sums()
        if self._more is not None:
            sums += self._more_slopes
        if self.columns is not None:
            return sums
        sums /= self.total
        sums -= bias_gradient[:, None] * self.centre
        return np.ascontiguousarray(sums.T, self.dtype)

    def _sums(self) -> Array:
        """Return the mean of R times the features (n_features, n_classes) of sparse rows.

        Of an array it is the sum, (n_classes, n_features) in float64.
        """
        if self.columns is not None:
            G = np.empty((self.n_features, self.n_classes), self.dtype)
            calls.sparse_gradient(self.columns, self.R, 1 / self.total, G, self.n_threads)
            return G
        sums = np.zeros((self.n_classes, self.n_features))
        dW, db = np.empty_like(sums, self.dtype), np.empty(self.n_classes, self.dtype)
        for some in blocks(self.n_rows, SUM_ROWS):
            dlogits = np.ascontiguousarray(self.R[some, : self.n_classes].T)
            calls.linear_gradient(calls.StoredRows(self.X[some], 1.0), dlogits, dW, db)
            sums += dW
        return sums

    def _means(self) -> NDArray[np.float64]:
        sums = np.zeros(self.n_features)
        if self.columns is not None:
            dX = np.empty((self.n_features, 1), self.dtype)
            calls.sparse_gradient(
                self.columns, self.share[: self.n_rows, None], 1.0, dX, self.n_threads
            )
            return dX[:, 0].astype(np.float64)
        for some in blocks(self.n_rows, SUM_ROWS):
            weight = np.ones(some.stop - some.start) if self.weight is None else self.weight[some]
            sums += weight @ self.X[some].astype(np.float64)
        means: NDArray[np.float64] = sums / self.total
        return means

    def _largest(self) -> Array:
        """Return the largest absolute value of each (centred) feature; 1 where all are 0."""
        most = np.zeros(self.n_features, self.dtype)
        if isinstance(self.X, CSR):
            with np.errstate(invalid="ignore"):  # NaN is found by what comes out
                np.maximum.at(most, self.X.indices, np.abs(self.X.data).astype(self.dtype))
        else:
            centre = self.centre.astype(self.dtype)
            for some in blocks(self.n_rows, SUM_ROWS):
                block = np.abs(self.X[some].astype(self.dtype) - centre)
                np.maximum(most, block.max(axis=0, initial=0), out=most)
        most[most == 0] = 1
        return most

    def count_entries(self, features: NDArray[np.int32]) -> int:
        """Return how many entries these columns have together."""
        if self.columns is None:
            return int(self.n_rows) * len(features)
        return int(self._counts[features].sum())

    def _lines_of(self, features: NDArray[np.int32]) -> tuple[Any, NDArray[np.int32]]:
        """Return columns that coordinate descent reads, and the number of each feature's."""
        if self.columns is not None:
            return self.columns, features
        new = np.unique(features)
        new = new[~self._is_copied[new]]
        if len(new):
            for some in blocks(self.n_rows, SUM_ROWS):
                self._dense[new, some] = self.X[some][:, new].T - self.centre[new, None]
            self._is_copied[new] = True
        return self._dense, features

    def lines(self, features: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return some (centred) features of all rows, a line for each."""
        if isinstance(self.X, CSR):
            slot = np.full(self.n_features, -1)
            slot[features] = np.arange(len(features))
            of_entry = slot[self.X.indices]
            wanted = np.flatnonzero(of_entry >= 0)
            rows = np.searchsorted(self.X.indptr, wanted, side="right") - 1
            lines = np.zeros((len(features), self.n_rows))
            np.add.at(lines, (of_entry[wanted], rows), self.X.data[wanted])
            return lines
        dense, slots = self._lines_of(features.astype(np.int32))
        some: NDArray[np.float64] = dense[slots, : self.n_rows].astype(np.float64)
        return some

    def largest_slopes(
        self, G: Array, counts: Array, dual: tuple[Array, Array | None, Array, float] | None
    ) -> tuple[Array, Array]:
        """Return the largest |G| of each feature, and the largest slope of a dual point's.

        `counts` is 1 for the classes that are looked at, 0 for the others. The dual point's are
        ``(1 - mix) (G - left[j] c[k]) + mix null``, with dual = (null, left, c, mix); None: G.
        """
        return _kernels.largest_slopes(G, counts, dual, n_threads=self.n_threads)

    def masses(self, classes: NDArray[np.int64], wave: int) -> Array:
        """Return the probability of each wave of classes, by row."""
        n_waves = -(-len(classes) // wave)
        sums = np.zeros((n_waves, self.P.shape[1]), self.dtype)
        for i, k in enumerate(classes):
            sums[i // wave] += self.P[k]
        return sums

    def forget_delta(self) -> None:
        self.delta[:] = 0
        self.s[:] = 0

    def sweep(
        self,
        coordinates: Coordinates,
        classes: NDArray[np.int64],
        wave: int,
        mass: Array,
        penalty: tuple[float, float],
        bias: Bias | None,
        is_far: bool,
        n_rounds: int,
    ) -> float:
        """Descend each class once; return about what the model gains."""
        columns, lines = self._lines_of(coordinates.feature)
        gain: float = _kernels.sweep(
            self._rows, columns, (coordinates.starts, lines, *coordinates[2:]), classes, wave, mass,
            self.share, self.s, penalty, bias=bias, is_far=is_far, n_rounds=n_rounds,
            n_threads=self.n_threads,
        )  # fmt: skip
        return gain

    def follow(
        self, starts: NDArray[np.int64], feature: NDArray[np.int32], step: Array,
        bias: NDArray[np.float64] | None, delta: Array, s: Array,
    ) -> None:  # fmt: skip
        """Set delta and s to what a step of some coordinates, and of the intercepts, makes them."""
        self._product("follow", starts, feature, step, bias, delta, s)

    def slopes(
        self, starts: NDArray[np.int64], feature: NDArray[np.int32], delta: Array, s: Array
    ) -> tuple[Array, NDArray[np.float64]]:
        """Return what delta and s add to the model's slopes in some coordinates and intercepts.

        Of the step that `follow` was given these are its products with the Hessian.
        """
        of_step, of_bias = np.empty(len(feature), self.dtype), np.empty(self.n_classes)
        self._product("slopes", starts, feature, of_step, of_bias, delta, s)
        return of_step, of_bias

    def _product(
        self, name: str, starts: NDArray[np.int64], feature: NDArray[np.int32], step: Array,
        bias: NDArray[np.float64] | None, delta: Array, s: Array,
    ) -> None:  # fmt: skip
        columns, lines = self._lines_of(feature)
        _kernels.model_product(
            name, self._rows, columns, starts, lines, step, bias, delta, s, self.share,
            n_threads=self.n_threads,
        )  # fmt: skip
