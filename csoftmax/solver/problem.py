"""What the solver minimises: the data, the heads over it, their objectives and lower bounds.

The objective of head h, with row weights s and ``S = sum_i s_i``, is scikit-learn's:

    F(W, b) = 1/S sum_i s_i loss_i(W, b) + lambda/2 ||W||^2,    lambda = 1 / (C S).

Where the targets are probabilities t_i, the loss is ``log sum_k exp o_ik - t_i . o_i``. It differs
from that of the most probable class by ``(e_yi - t_i) . o_i``, which is linear in W and b: a pass
takes the most probable classes for labels, and a matrix made once (`_soft_excess`) does the rest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from csoftmax import _kernels
from csoftmax.core.checks import (
    as_array,
    as_features,
    as_labels,
    as_labels_or_probabilities,
    as_weights,
    check_number,
    check_positive,
    check_threads,
    compute_dtype,
)
from csoftmax.engine.passes import mass_of_classes
from csoftmax.rows.base import as_stored

Array = NDArray[Any]

# The bias of a class that no row of the head has. Its weights are 0, and the logits of the others
# sum to 0: their largest is at least 0, so its probability is 0 in either float type.
ABSENT_BIAS = -1e4
BLOCK_BYTES = 1 << 22  # of rows in float64 at a time
# Squares of features within 2^32 of 1, and of W with them, are far from float32's limit, 2^126.
UNIT_ROWS, UNIT_BITS = 1024, 16
MOST_BITS = {"f": 100, "d": 900}  # of a unit, and of lambda in it


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
        self.unit = unit  # W here is that of the caller over this: `_unit_of`
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
        self.lam = unit * unit / (C * self.total)
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
            total, lam = float(self.total[head]), float(self.lam[head])
            loss = float(losses[i])
            if self.soft_excess is not None:
                excess = self.soft_excess[rows[i]]
                loss += float(np.dot(excess, x))
                g += excess
            g *= 1.0 / total
            if lam:
                g[:split] += x[:split] * self.dtype.type(lam)
            if not self.fit_intercept:
                g[split:] = 0
            objectives.append(loss / total + self.penalty(head, x))
        return objectives

    def penalty(self, head: int, x: Array) -> float:
        W = x[: self.split].astype(np.float64, copy=False)
        return 0.5 * float(self.lam[head]) * float(np.dot(W, W))

    # ---- the certificate -----------------------------------------------------------------------

    def least_bound(self, head: int, g: Array) -> float:
        """Return what `lower_bound` proves of the distance where the classes' shares are right."""
        W, lam = g[: self.split], float(self.lam[head])
        return float(np.dot(W, W)) / (2 * lam) if lam else math.inf

    def lower_bound(self, head: int, x: Array, objective: float, g: Array) -> float:
        """Return a number that the optimum of a head is not below; without a penalty, 0.

        Let p' be any probabilities of the rows that give each class as much weight as the labels
        do, ``mean`` the mean weighted by s, and ``R' = mean_i (p'_i - e_yi) x_i^T``. Since
        ``loss_i >= (p'_i - e_yi) . logits_i + entropy(p'_i)`` with equality at p' = p, the optimum
        is at least ``mean_i entropy(p'_i) - ||R'||^2 / (2 lambda)``: the bias drops out, and W is
        minimised in closed form. (Without an intercept any p' will do.)

        Were p of the point allowed, the distance to its objective would be
        ``||gradient||^2 / (2 lambda)``. Its shares of the classes are off by c, the gradient of the
        intercept, so p' is the mixture ``(1 - t) p + t v`` with one constant v that makes up for
        it; t is the smallest for which v >= 0. By concavity its entropy is at least the mixture of
        the two, and ``R' = (1 - t) (R - c mean(x)^T) + t R_0``, R_0 being R of the null model.
        """
        lam = float(self.lam[head])
        if lam == 0:
            return 0.0
        W, b = (part.astype(np.float64) for part in self.parameters(x))
        R, c = (part.astype(np.float64) for part in self.parameters(g))
        R -= lam * W
        entropy = objective - self.penalty(head, x) - float(np.vdot(R, W))
        if self.fit_intercept:
            r = int(self.weight_of_head[head])
            present = self.shares[r] > 0
            shares, c = self.shares[r][present], c[present]
            c -= c.mean()  # 0 but for rounding
            entropy -= float(c @ b[present])
            t = max(0.0, float((1 - shares / np.maximum(shares + c, 1e-300)).max()))
            R *= 1 - t
            R[present] -= (1 - t) * c[:, None] * self.means[r]
            R += t * self.null_gradient[r]
            if t > 0:
                v = np.maximum((shares - (1 - t) * (shares + c)) / t, 0.0)
                entropy = (1 - t) * entropy - t * float(v @ np.log(np.where(v > 0, v, 1.0)))
        return max(0.0, entropy - float(np.vdot(R, R)) / (2 * lam))


# ---- arguments ---------------------------------------------------------------------------------


def checked_problem(
    X: ArrayLike,
    y: ArrayLike,
    n_classes: int,
    *,
    C: float | ArrayLike,
    scale: float,
    sample_weight: ArrayLike | None,
    weight_of_head: ArrayLike | None,
    fit_intercept: bool,
    n_threads: int | None,
) -> Problem:
    """Check the arguments of `minimize` that describe the problem."""
    features = as_features(X)
    stored = as_stored(features, compute_dtype(features))
    n_classes = check_positive(n_classes, "n_classes")
    target = as_labels_or_probabilities(y, len(stored), n_classes)
    weights = _as_weight_rows(sample_weight, len(stored))
    values, of_head = _as_heads(C, weight_of_head, weights)
    if weights is not None:
        weights, values = _of_mean_near_1(weights, values, of_head)
    scale = check_number(scale, "scale")
    total = len(stored) if weights is None else weights.sum(axis=1).min()
    unit = _unit_of(stored, scale, float(values.min() * total))
    return Problem(
        stored, target, n_classes, C=values, scale=scale, weights=weights,
        weight_of_head=of_head, fit_intercept=bool(fit_intercept),
        n_threads=check_threads(n_threads), unit=unit,
    )  # fmt: skip


def _of_mean_near_1(
    weights: NDArray[np.float64], C: NDArray[np.float64], of_head: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return weights that float32 holds, and the C of the same objectives.

    Rows of weights whose mean is far from 1 are multiplied by a power of two.
    """
    counting = np.maximum(np.count_nonzero(weights, axis=1), 1)
    largest = np.maximum(weights.max(axis=1, initial=0.0), 2.0**-1000)  # the sum may overflow
    means = largest * (weights / largest[:, None]).sum(axis=1) / counting
    bits = np.round(np.log2(np.where(means > 0, means, 1.0)))
    factors = np.exp2(np.where(np.abs(bits) > UNIT_BITS, -bits, 0.0))
    if (factors == 1).all():
        return weights, C
    return weights * factors[:, None], C / factors[of_head]


def _unit_of(X: Array, scale: float, least_C: float) -> float:
    """Return the power of two that features are multiplied by, so that float32 holds the squares.

    It is 1 unless features are very far from 1. Then the root mean squares of the columns, on some
    of the rows, are centred: the largest is as far above 1 as the smallest is below it. W and
    lambda change with the unit, so `least_C`, the least 1 / lambda, limits it.
    """
    if X.dtype.kind != "f" or X.dtype.itemsize < 4 or not X.size:
        return 1.0
    rows = X[:: -(-len(X) // UNIT_ROWS)].astype(np.float64, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("ij,ij->j", rows, rows) * (scale * scale / len(rows))
    if X.dtype.itemsize == 8 and np.isposinf(squares).any() and np.isfinite(rows).all():
        j = int(squares.argmax())
        raise ValueError(
            f"column {j} of X has values up to {np.abs(rows[:, j]).max():.3g}, whose squares "
            "overflow float64: expected smaller numbers or a smaller scale"
        )
    squares = squares[(squares > 0) & (squares < math.inf)]
    if not squares.size:
        return 1.0
    middle = 0.25 * (math.log2(squares.min()) + math.log2(squares.max()))
    if abs(middle) <= UNIT_BITS:
        return 1.0
    most = MOST_BITS[X.dtype.char]
    by_lambda = 0.5 * (most + math.log2(max(least_C, 2.0**-most)))
    return 2.0 ** round(max(-most, min(-middle, by_lambda, most)))


def _as_weight_rows(sample_weight: ArrayLike | None, n_rows: int) -> NDArray[np.float64] | None:
    """Return (n_weights, n_rows) weights."""
    if sample_weight is None:
        return None
    given = as_array(sample_weight, "sample_weight")
    if given.ndim not in (1, 2) or given.shape[-1] != n_rows or not len(given):
        raise ValueError(
            f"sample_weight has shape {given.shape}, expected ({n_rows},) or (n_weights, {n_rows})"
        )
    flat = as_weights(given.reshape(-1), given.size, "sample_weight", np.dtype(np.float64))
    return flat.reshape(-1, n_rows)


def _as_heads(
    C: float | ArrayLike, weight_of_head: ArrayLike | None, weights: Array | None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return C and the row of weights of each head; one value of C serves any number of heads."""
    values = np.atleast_1d(as_array(C, "C")).astype(np.float64)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"C has shape {values.shape}, expected a number or one for each head")
    bad = ~(values > 0)  # NaN too
    if bad.any():
        raise ValueError(f"C is {values[bad][0]}, expected a number > 0 (inf: no penalty)")
    n_weights = 1 if weights is None else len(weights)
    if weight_of_head is not None:
        of_head = as_labels(
            weight_of_head, np.size(weight_of_head), n_weights, name="weight_of_head"
        )
    elif n_weights == 1:
        of_head = np.zeros(len(values), np.int64)
    else:
        of_head = np.arange(n_weights)
    if len(values) == 1:
        values = np.repeat(values, len(of_head))
    if len(values) != len(of_head):
        raise ValueError(
            f"C has {len(values)} values for {len(of_head)} heads: expected one for each, "
            "with weight_of_head for rows of weights that several heads share"
        )
    return values, of_head


def as_parameters(values: ArrayLike, shape: tuple[int, ...], name: str) -> Array:
    """Return starting values; ValueError for another shape, NaN or infinity."""
    array = as_array(values, name)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} has a NaN or an infinite value, expected finite numbers")
    return array


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
