"""What the solver minimises: the data, the heads over it, and their objectives.

The objective of head h, with row weights s and ``S = sum_i s_i``, is scikit-learn's:

    F(W, b) = 1/S sum_i s_i loss_i(W, b) + penalty(W).

`csoftmax.engine.passes` makes the sums over rows. Here they become means, and the penalty of
`csoftmax.solver.penalty` is added.

Sparse rows are centred without being touched: whatever solves the problem sees the coordinates W
and ``c = b + W mean``, in which the features have the mean 0.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from csoftmax.engine.lines import Lines
from csoftmax.engine.local_passes import LocalPasses
from csoftmax.engine.passes import ABSENT_BIAS, Passes
from csoftmax.engine.row_weights import BLOCK_ROWS
from csoftmax.engine.statistics import Statistics
from csoftmax.engine.targets import moments_of_targets
from csoftmax.solver.penalty import Penalty

Array = NDArray[Any]


class Sizes(NamedTuple):
    """What memory depends on."""

    n_rows: int
    n_features: int
    n_classes: int
    n_heads: int
    n_weights: int  # rows of weights; 0 where all rows of X weigh 1
    n_threads: int
    itemsize: int  # of the parameters
    stored_itemsize: int  # of X

    @property
    def parameter_bytes(self) -> int:
        """Of all heads' W and b."""
        return self.n_heads * self.n_classes * (self.n_features + 1) * self.itemsize

    @property
    def n_samples(self) -> int:
        """How many `Sample`s are drawn: one for each row of weights, at least one."""
        return max(1, self.n_weights)


def bytes_needed(sizes: Sizes) -> int:
    """Return what labels and weights of the rows take, checked, and with a sample drawn of them.

    Labels are of the smallest type that holds the classes; blocks of them become int64 meanwhile.
    A fit of 20,000,000 rows took 1.6 bytes a row, and 17.4 with weights of rows and of classes.
    """
    small = np.min_scalar_type(sizes.n_classes - 1).itemsize
    of_blocks = 24 * min(sizes.n_rows, BLOCK_ROWS)
    return sizes.n_rows * (small + 24 * sizes.n_weights) + of_blocks


class Problem:
    """H heads over the same rows; the null models (W = 0, the best b) are evaluated at once.

    Attributes
    ----------
    passes : Passes
        The rows, their targets and weights, and how they are passed over.
    unit : float
        W here is that of the caller divided by this; `csoftmax.solver.arguments` chooses it.
    split : int
        In a flat vector of parameters, W comes before this index and b after it. W is class-major;
        that of sparse rows is feature-major, as their kernels read it. `parameters` knows.
    lines : Lines or None
        How vectors are worked with for sparse rows, which have so many features.
    centre : ndarray (n_weights, n_features) or None
        For sparse rows with an intercept, what is subtracted from the features: their means. All
        vectors then hold c in the place of b, and gradients in W are at a fixed c.
    totals, n_counting, shares, means, null_* : ndarrays
        For each row of weights: their sum, how many are > 0, the probabilities of the null model,
        the weighted means of the features (0 if they are centred, or without an intercept), and
        bias, loss and gradients (flat) of the null model.
    total : ndarray
        For each head, the sum of its weights.
    n_passes : int
        Passes over the rows so far.
    has_bound : bool
        Whether `csoftmax.solver.bound` proves something of this objective.
    kept : LocalPasses or None
        Some of the rows, in memory, where all of them are costly to read.
    """

    has_bound = True

    def __init__(
        self,
        passes: Passes,
        *,
        C: NDArray[np.float64],
        weight_of_head: NDArray[np.int64],
        fit_intercept: bool,
        unit: float = 1.0,
        statistics: Statistics | None = None,
    ) -> None:
        self.passes, self.C, self.unit = passes, C, unit
        self.dtype, self.n_rows, self.n_features = passes.dtype, passes.n_rows, passes.n_features
        self.n_classes, self.n_heads = passes.n_classes, len(C)
        self.split = self.n_classes * self.n_features
        self.weight_of_head, self.fit_intercept = weight_of_head, fit_intercept
        self.kept = None if statistics is None else statistics.sample
        moments = (
            statistics.moments
            if statistics
            else moments_of_targets(passes.target, passes.weights, passes.n_classes)
        )
        self.totals, self.n_counting = moments.totals, moments.n_counting
        if not self.totals.all():
            what = "X has 0 rows" if not self.n_rows else "sample_weight has a row that sums to 0"
            raise ValueError(f"{what}, expected at least one sample that counts")
        self.total = self.totals[weight_of_head]
        self.penalties = [
            Penalty.of(float(c), float(total), unit) for c, total in zip(C, self.total, strict=True)
        ]
        self.centre: Array | None = None
        self.lines: Lines | None = None
        # by head: where it was evaluated last, and ||W||^2 there
        self._squares: dict[int, tuple[Array, float]] = {}
        if passes.is_sparse:
            self.lines = Lines(self.n_features, self.n_classes, passes.n_threads)
        self._evaluate_null_models(moments.mass / self.totals[:, None], statistics)

    def _evaluate_null_models(
        self, shares: NDArray[np.float64], statistics: Statistics | None
    ) -> None:
        """Evaluate weights of 0 and the best bias, for each row of weights: where heads start."""
        n, K = shares.shape
        if not self.fit_intercept:
            shares[:] = 1.0 / K
        self.shares = shares
        present = shares > 0
        log_shares = np.log(np.where(present, shares, 1.0))
        log_shares -= log_shares.sum(axis=1, keepdims=True) / present.sum(axis=1, keepdims=True)
        self.null_bias = np.where(present, log_shares, ABSENT_BIAS).astype(self.dtype)
        centres = self.fit_intercept  # without one, nothing is centred
        if statistics is None:
            sums = self.passes.null_sums(self.null_bias, centres)
        else:
            sums = statistics.null_sums(shares, centres, self.dtype)
        self.n_passes = sums.n_passes
        self.means = sums.feature_sums / self.totals[:, None]
        self.null_gradient = sums.dW.reshape(n, self.split)
        if self.fit_intercept and self.lines is not None:
            self.centre = np.ascontiguousarray(self.means, self.dtype)
            self.means, w = np.zeros_like(self.means), np.zeros(self.split, self.dtype)
            for of_W, of_b, mean in zip(self.null_gradient, sums.db, self.centre, strict=True):
                self.lines.finish(of_W, w, 1.0, mean, of_b, 0.0)
        self.null_gradient /= self.totals[:, None].astype(self.dtype)
        self.null_bias_gradient = sums.db / self.totals[:, None] * self.fit_intercept
        self.null_loss = np.array(sums.losses) / self.totals
        if not np.isfinite(self.null_gradient).all():
            self.passes.raise_bad_value()

    def sample(self, r: int, n: int) -> LocalPasses:
        """Return at most n of the rows that a row of weights counts, of those kept if it can."""
        of_kept = None if self.kept is None else self.kept.sample(r, n, 0)
        if of_kept is None or of_kept.n_rows < min(n, self.n_counting[r]):
            return self.passes.sample(r, n, 0)
        return of_kept

    def of_rows(self, passes: LocalPasses, r: int) -> Problem:
        """Return the sum of the losses of some rows, which have the row of weights r, as a problem.

        It has one head, no penalty, and the coordinates of this problem.
        """
        other = copy.copy(self)
        other.passes, other.n_rows, other._squares = passes, passes.n_rows, {}
        other.weight_of_head, other.total = np.zeros(1, np.int64), np.ones(1)
        other.penalties = [Penalty(0.0, 0.0)]
        other.centre = None if self.centre is None else self.centre[r : r + 1]
        return other

    def parameters(self, x: Array) -> tuple[Array, Array]:
        """Return views of W (n_classes, n_features) and b of a flat vector, or of each of some.

        For sparse rows W is the transpose of what lies in memory, and b is c.
        """
        return self.weights(x[..., : self.split]), x[..., self.split :]

    def weights(self, flat: Array) -> Array:
        """Return a view of W (n_classes, n_features) of its part of a flat vector, or of some."""
        if self.passes.is_sparse:
            by_feature = flat.reshape(*flat.shape[:-1], self.n_features, self.n_classes)
            W: Array = by_feature.swapaxes(-1, -2)
            return W
        return flat.reshape(*flat.shape[:-1], self.n_classes, self.n_features)

    def shift(self, head: int, W: Array) -> Array | float:
        """Return ``c - b``, which is ``W mean``: what centred features take from the logits."""
        return self.shift_of(int(self.weight_of_head[head]), W)

    def shift_of(self, r: int, W: Array) -> Array | float:
        """Return the same for a row of weights."""
        if self.centre is None or self.lines is None:
            return 0.0
        by_feature = np.ascontiguousarray(W.T, self.dtype).reshape(-1)
        return self.lines.shift(by_feature, self.centre[r]).astype(self.dtype)

    def null_point(self, head: int) -> tuple[Array, float, Array]:
        """Return parameters, objective and gradient of a head's null model."""
        r, split = int(self.weight_of_head[head]), self.split
        x, g = np.zeros((2, split + self.n_classes), self.dtype)
        x[split:] = self.null_bias[r]
        g[:split], g[split:] = self.null_gradient[r], self.null_bias_gradient[r]
        return x, float(self.null_loss[r]), g

    def own_parameters(self, head: int, x: Array) -> tuple[Array, Array]:
        """Return W and b of a flat vector in the caller's units: views where these are ours."""
        W, b = self.parameters(x)
        if self.centre is not None:
            b = b - self.shift(head, W)
        return (W, b) if self.unit == 1 else (W * W.dtype.type(self.unit), b)

    def largest(self, head: int, gradient: Array) -> float:
        """Return the largest entry of a gradient in the caller's coordinates and units."""
        W, b = self.parameters(gradient)
        if self.lines is not None:
            mean = None if self.centre is None else self.centre[self.weight_of_head[head]]
            of_W = self.lines.largest(gradient, mean, gradient[self.split :])
            return max(of_W / self.unit, float(np.abs(b).max()))
        return max(float(np.abs(W).max(initial=0.0)) / self.unit, float(np.abs(b).max()))

    # ---- passes --------------------------------------------------------------------------------

    def _pass(
        self, weight_rows: NDArray[np.int64], W: Array, b: Array, dW: Array, db: Array
    ) -> list[float]:
        """Evaluate stacked heads: the weighted sums of losses and of gradients."""
        self.n_passes += 1
        return self.passes.evaluate(W, b, weight_rows, dW, db).losses

    def evaluate(
        self, heads: Sequence[int], xs: Sequence[Array], gs: Sequence[Array]
    ) -> list[float]:
        """Return the objectives of heads at xs in one pass; gs are filled with the gradients."""
        n, K, split = len(heads), self.n_classes, self.split
        if self.lines is not None:
            return self._evaluate_lines(self.lines, heads, xs, gs)
        if n == 1:
            W, b = xs[0][None, :split], xs[0][None, split:]
            dW, db = gs[0][None, :split], gs[0][None, split:]
        else:
            W, b = np.empty((n, split), self.dtype), np.empty((n, K), self.dtype)
            dW, db = np.empty_like(W), np.empty_like(b)
            for i, x in enumerate(xs):
                W[i], b[i] = x[:split], x[split:]
        losses = self._pass(self.weight_of_head[list(heads)], W, b, dW, db)
        objectives = []
        for i, (head, x, g) in enumerate(zip(heads, xs, gs, strict=True)):
            if n > 1:
                g[:split], g[split:] = dW[i], db[i]
            total = float(self.total[head])
            g *= 1.0 / total
            self.penalties[head].add_gradient(x[:split], g[:split])
            if not self.fit_intercept:
                g[split:] = 0
            objectives.append(losses[i] / total + self.penalty_at(head, x))
        return objectives

    def _evaluate_lines(
        self, lines: Lines, heads: Sequence[int], xs: Sequence[Array], gs: Sequence[Array]
    ) -> list[float]:
        """Evaluate sparse rows: what follows the pass is done in one more over the vectors."""
        split, weight_rows = self.split, self.weight_of_head[list(heads)]
        b, db = (np.empty((len(heads), self.n_classes), self.dtype) for _ in range(2))
        for of_b, head, x in zip(b, heads, xs, strict=True):
            of_b[:] = x[split:] - self.shift(head, self.weights(x[:split]))
        W, dW = ([vector[:split] for vector in some] for some in (xs, gs))
        self.n_passes += 1
        losses = self.passes.evaluate(W, b, weight_rows, dW, db).losses
        objectives = []
        for head, loss, x, g, of_b, r in zip(heads, losses, xs, gs, db, weight_rows, strict=True):
            total, l2 = float(self.total[head]), self.penalties[head].l2
            mean = None if self.centre is None else self.centre[r]
            square = lines.finish(g, x, 1.0 / total, mean, of_b, l2)
            g[split:] = of_b * self.dtype.type(1.0 / total) if self.fit_intercept else 0
            self._squares[head] = x, square
            objectives.append(loss / total + (0.5 * l2 * square if l2 else 0.0))
        return objectives

    def square_of(self, lines: Lines, head: int, x: Array) -> float:
        """Return ``||W||^2`` of a flat vector: the one of the last evaluation may be known."""
        evaluated, square = self._squares.get(head, (None, 0.0))
        return square if evaluated is x else lines.products([x], [(0, 0)], whole=False)[0]

    def penalty_at(self, head: int, x: Array) -> float:
        """Return what a flat vector costs a head."""
        if self.lines is not None:
            l2 = self.penalties[head].l2
            return 0.5 * l2 * self.square_of(self.lines, head, x) if l2 else 0.0
        return self.penalties[head].value(x[: self.split])
