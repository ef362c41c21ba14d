"""What the solver minimises: the data, the heads over it, and their objectives.

The objective of head h, with row weights s and ``S = sum_i s_i``, is scikit-learn's:

    F(W, b) = 1/S sum_i s_i loss_i(W, b) + penalty(W),    `csoftmax.solver.penalty`.

Where the targets are probabilities t_i, the loss is ``log sum_k exp o_ik - t_i . o_i``. It differs
from that of the most probable class by ``(e_yi - t_i) . o_i``, which is linear in W and b: a pass
takes the most probable classes for labels, and a matrix made once (`_soft_excess`) does the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from csoftmax import _kernels
from csoftmax.core.checks import compute_dtype
from csoftmax.engine.passes import mass_of_classes
from csoftmax.solver.penalty import Penalty

Array = NDArray[Any]

# The bias of a class that no row of the head has. Its weights are 0, and the logits of the others
# sum to 0: their largest is at least 0, so its probability is 0 in either float type.
ABSENT_BIAS = -1e4
BLOCK_BYTES = 1 << 22  # of rows in float64 at a time


class Sizes(NamedTuple):
    """What memory depends on."""

    n_rows: int
    n_features: int
    n_classes: int
    n_heads: int
    n_weights: int  # rows of weights; 0 where all samples weigh 1
    n_threads: int
    itemsize: int  # of the parameters
    stored_itemsize: int  # of X

    @property
    def parameter_bytes(self) -> int:
        """Of all heads' W and b."""
        return self.n_heads * self.n_classes * (self.n_features + 1) * self.itemsize

    @property
    def n_samples(self) -> int:
        """How many samples of the rows there are: one for each row of weights."""
        return max(1, self.n_weights)


def bytes_needed(sizes: Sizes) -> int:
    """Return what labels and weights of the rows take, with what they are checked and drawn by.

    A fit of 1,000,000 rows took 17 bytes a row, with weights 35.
    """
    return 24 * sizes.n_rows * (1 + sizes.n_weights)


class Problem:
    """H heads over the rows of X; the null models (W = 0, the best b) are evaluated at once."""

    def __init__(
        self,
        X: Array,
        target: Array,
        n_classes: int,
        *,
        C: NDArray[np.float64],
        scale: float,
        weights: NDArray[np.float64] | None,
        weight_of_head: NDArray[np.int64],
        fit_intercept: bool,
        n_threads: int,
        unit: float = 1.0,
    ) -> None:
        self.X, self.scale, self.C = X, scale * unit, C
        self.unit = unit  # W here is that of the caller over this: `csoftmax.solver.arguments`
        self.target = target  # labels, or a row of probabilities for each sample
        self.y = target if target.ndim == 1 else target.argmax(axis=1)
        self.dtype = compute_dtype(X)
        self.n_rows, self.n_features = X.shape
        self.n_classes, self.n_heads = n_classes, len(C)
        self.split = n_classes * self.n_features  # of a flat vector: W before it, b after
        self.weights, self.weight_of_head = weights, weight_of_head
        self.fit_intercept, self.threads = fit_intercept, n_threads
        self.totals = np.array([float(self.n_rows)]) if weights is None else weights.sum(axis=1)
        if not self.totals.all():
            what = "X has 0 rows" if not self.n_rows else "sample_weight has a row that sums to 0"
            raise ValueError(f"{what}, expected at least one sample that counts")
        self.total = self.totals[weight_of_head]
        self.penalties = [
            Penalty.of(float(c), float(total), unit) for c, total in zip(C, self.total, strict=True)
        ]
        self.n_counting = np.array(
            [self.n_rows] if weights is None else np.count_nonzero(weights, axis=1)
        )
        self.n_passes = 0
        self.soft_excess = None if target.ndim == 1 else self._soft_excess()
        self._evaluate_null_models()

    def _evaluate_null_models(self) -> None:
        """Weights of 0 and the best bias, once per row of weights: where heads start.

        Also the weighted means of the features: gradients of two classes, all rows labelled 0.
        """
        n, K = len(self.totals), self.n_classes
        shares = np.empty((n, K))
        for r in range(n):
            shares[r] = mass_of_classes(self.target, self.weight(r), K) / self.totals[r]
        if not self.fit_intercept:
            shares[:] = 1.0 / K
        self.shares = shares  # the probabilities of the null models
        present = shares > 0
        log_shares = np.log(np.where(present, shares, 1.0))
        log_shares -= log_shares.sum(axis=1, keepdims=True) / present.sum(axis=1, keepdims=True)
        self.null_bias = np.where(present, log_shares, ABSENT_BIAS).astype(self.dtype)
        W = np.zeros((n, K, self.n_features), self.dtype)
        self.null_gradient, db = np.empty_like(W), np.empty((n, K), self.dtype)
        losses = self._pass(range(n), W, self.null_bias, self.null_gradient, db, self.y)
        if self.soft_excess is not None:
            of_W, of_b = self.soft_excess[:, : self.split], self.soft_excess[:, self.split :]
            losses += (of_b * self.null_bias).sum(axis=1)
            self.null_gradient += of_W.reshape(W.shape)
            db = db + of_b
        self.null_gradient /= self.totals[:, None, None].astype(self.dtype)
        self.null_bias_gradient = db / self.totals[:, None] * self.fit_intercept
        self.null_loss = losses / self.totals
        self.means = np.zeros((n, self.n_features))
        if self.fit_intercept:
            W, b = np.zeros((n, 2, self.n_features), self.dtype), np.zeros((n, 2), self.dtype)
            dW, db = np.empty_like(W), np.empty_like(b)
            self._pass(range(n), W, b, dW, db, np.zeros_like(self.y))
            self.means[:] = -2.0 * dW[:, 0] / self.totals[:, None]
        sums = (losses, self.null_gradient, self.means)
        if not all(np.isfinite(array).all() for array in sums):
            _raise_bad_value(self.X)

    def _soft_excess(self) -> NDArray[np.float64]:
        """Return ``sum_i s_i (e_yi - t_i) (scale x_i, 1)``, flat, for each row of weights.

        Its product with the parameters is what the losses of probabilities t are above those of
        the labels y that stand for them; it is added to their gradient.
        """
        n, K, f = len(self.totals), self.n_classes, self.n_features
        excess = np.zeros((n, K, f + 1))
        step = max(1, BLOCK_BYTES // (8 * (f + K + 1)))
        for start in range(0, self.n_rows, step):
            rows = slice(start, start + step)
            features = self.X[rows].astype(np.float64) * self.scale
            more = -self.target[rows]
            more[np.arange(len(more)), self.y[rows]] += 1.0
            for r in range(n):
                weight = self.weight(r)
                weighted = more if weight is None else more * weight[rows, None]
                excess[r, :, :f] += weighted.T @ features
                excess[r, :, f] += weighted.sum(axis=0)
        return np.concatenate([excess[:, :, :f].reshape(n, -1), excess[:, :, f]], axis=1)

    def weight(self, r: int) -> NDArray[np.float64] | None:
        return None if self.weights is None else self.weights[r]

    def parameters(self, x: Array) -> tuple[Array, Array]:
        """Return views of W (n_classes, n_features) and b of a flat vector, or of each of some."""
        W = x[..., : self.split].reshape(*x.shape[:-1], self.n_classes, self.n_features)
        return W, x[..., self.split :]

    def null_point(self, head: int) -> tuple[Array, float, Array]:
        """Return parameters, objective and gradient of a head's null model."""
        r, split = int(self.weight_of_head[head]), self.split
        x, g = np.zeros((2, split + self.n_classes), self.dtype)
        x[split:] = self.null_bias[r]
        g[:split], g[split:] = self.null_gradient[r].reshape(-1), self.null_bias_gradient[r]
        return x, float(self.null_loss[r]), g

    def own_parameters(self, x: Array) -> tuple[Array, Array]:
        """Return W and b of a flat vector in the caller's units: views where these are ours."""
        W, b = self.parameters(x)
        return (W, b) if self.unit == 1 else (W * W.dtype.type(self.unit), b)

    def largest(self, gradient: Array) -> float:
        """Return the largest entry of a gradient, in the caller's units."""
        W, b = self.parameters(gradient)
        return max(float(np.abs(W).max(initial=0.0)) / self.unit, float(np.abs(b).max()))

    # ---- passes --------------------------------------------------------------------------------

    def _pass(
        self, weight_rows: Sequence[int], W: Array, b: Array, dW: Array, db: Array, y: Array
    ) -> NDArray[np.float64]:
        """Evaluate stacked heads: the weighted sums of losses and of gradients."""
        self.n_passes += 1
        of_head = None if self.weights is None else np.array(weight_rows, np.int64)
        losses, _ = _kernels.row_pass(
            self.X, W, b.reshape(-1), self.scale, y=y, sample_weight=self.weights, heads=len(W),
            weight_of_head=of_head, gradient=(dW, db), n_threads=self.threads,
        )  # fmt: skip
        return np.array(losses)

    def evaluate(
        self, heads: Sequence[int], xs: Sequence[Array], gs: Sequence[Array]
    ) -> list[float]:
        """Return the objectives of heads at xs in one pass; gs are filled with the gradients."""
        n, K, split = len(heads), self.n_classes, self.split
        if n == 1:
            W, b = xs[0][None, :split], xs[0][None, split:]
            dW, db = gs[0][None, :split], gs[0][None, split:]
        else:
            W, b = np.empty((n, split), self.dtype), np.empty((n, K), self.dtype)
            dW, db = np.empty_like(W), np.empty_like(b)
            for i, x in enumerate(xs):
                W[i], b[i] = x[:split], x[split:]
        rows = [int(self.weight_of_head[head]) for head in heads]
        losses = self._pass(rows, W, b, dW, db, self.y)
        objectives = []
        for i, (head, x, g) in enumerate(zip(heads, xs, gs, strict=True)):
            if n > 1:
                g[:split], g[split:] = dW[i], db[i]
            total, loss = float(self.total[head]), float(losses[i])
            if self.soft_excess is not None:
                excess = self.soft_excess[rows[i]]
                loss += float(np.dot(excess, x))
                g += excess
            g *= 1.0 / total
            self.penalties[head].add_gradient(x[:split], g[:split])
            if not self.fit_intercept:
                g[split:] = 0
            objectives.append(loss / total + self.penalty_at(head, x))
        return objectives

    def penalty_at(self, head: int, x: Array) -> float:
        """Return what a flat vector costs a head."""
        return self.penalties[head].value(x[: self.split])


def _raise_bad_value(X: Array) -> None:
    """Raise ValueError with what of X made a pass fail: NaN, infinity, or the largest column."""
    step = max(1, (1 << 22) // max(1, X.shape[1]))
    largest = np.zeros(X.shape[1])
    for start in range(0, len(X), step):
        block = X[start : start + step]
        bad = ~np.isfinite(block)
        if bad.any():
            i, j = (int(index) for index in np.argwhere(bad)[0])
            raise ValueError(f"X[{start + i}, {j}] is {X[start + i, j]}, expected finite numbers")
        np.maximum(largest, np.abs(block).max(axis=0), out=largest)
    j = int(largest.argmax())
    raise ValueError(
        f"sums over the rows of X overflow {compute_dtype(X)}: column {j} has values up to "
        f"{largest[j]:.3g}, expected smaller numbers or a smaller scale"
    )
