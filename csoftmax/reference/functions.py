"""The functions, and below them the formulas that they share."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from csoftmax.core.checks import (
    as_array,
    as_labels,
    as_linear,
    as_logits,
    as_target,
    as_weights,
    check_ignore_index,
    check_label_smoothing,
    check_number,
    check_reduction,
    compute_dtype,
)

Array = NDArray[Any]

# In these functions inf and NaN are results, not accidents.
quiet = np.errstate(all="ignore")


@quiet
def linear(X: ArrayLike, W: ArrayLike, b: ArrayLike | None = None, *, scale: float = 1.0) -> Array:
    """Return the logits ``scale * X @ W + b``: the twin of `csoftmax.linear`.

    Examples
    --------
    >>> import numpy as np
    >>> from csoftmax import reference
    >>> pixels = np.array([[0, 255], [255, 0]], dtype=np.uint8)
    >>> reference.linear(pixels, [[1.0, 2.0], [3.0, 4.0]], [0.0, 10.0], scale=1 / 255)
    array([[ 3., 14.],
           [ 1., 12.]])
    """
    X, W, b, dtype = as_linear(X, W, b)
    scale = check_number(scale, "scale")
    return logits_of(np.asarray(X, dtype), np.asarray(W, dtype), b, scale)


@quiet
def softmax(x: ArrayLike, axis: int = -1) -> Array:
    """Return ``exp(x[k]) / sum_c exp(x[c])``, numbers > 0 that sum to 1: as `csoftmax.softmax`.

    The maximum is subtracted first: that changes nothing but keeps exp from overflowing.

    Examples
    --------
    >>> from csoftmax import reference
    >>> reference.softmax([[0.0, 0.0], [1000.0, 0.0]])
    array([[0.5, 0.5],
           [1. , 0. ]])
    """
    x, axis = as_logits(x, axis, "x")
    _, p, total = _exponentials(np.asarray(x, compute_dtype(x)), axis)
    p /= total
    return p


@quiet
def log_softmax(x: ArrayLike, axis: int = -1) -> Array:
    """Return ``x[k] - max - log(sum_c exp(x[c] - max))``: the twin of `csoftmax.log_softmax`.

    Examples
    --------
    >>> from csoftmax import reference
    >>> reference.log_softmax([1000.0, 0.0])
    array([    0., -1000.])
    """
    x, axis = as_logits(x, axis, "x")
    shifted, _, total = _exponentials(np.asarray(x, compute_dtype(x)), axis)
    shifted -= np.log(total)
    return shifted


@quiet
def cross_entropy(probs: ArrayLike, y: ArrayLike) -> Array:
    """Return ``-log(probs[i, y[i]])`` for each sample: the twin of `csoftmax.cross_entropy`.

    Examples
    --------
    >>> from csoftmax import reference
    >>> reference.cross_entropy([[0.1, 0.3, 0.6], [0.3, 0.2, 0.5]], [0, 2])
    array([2.30258509, 0.69314718])
    """
    probs = as_array(probs, "probs")
    if probs.ndim != 2:
        raise ValueError(f"probs has shape {probs.shape}, expected (n_samples, n_classes)")
    n_samples, n_classes = probs.shape
    if n_classes == 0:
        raise ValueError("probs has 0 columns, expected at least one class")
    y = as_labels(y, n_samples, n_classes)
    p = probs[np.arange(n_samples), y].astype(compute_dtype(probs))
    losses: Array = 0 - np.log(p)  # not -log(p), which makes a perfect loss -0.0
    return losses


@quiet
def softmax_cross_entropy(
    logits: ArrayLike,
    y: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    axis: int = -1,
) -> float | Array:
    """Return ``-sum_k weight[k] * t[i, k] * log softmax(logits[i])[k]``, reduced over the samples.

    t is one-hot for a label, or the probabilities given as `y`; smoothing by eps replaces it by
    ``(1 - eps) * t + eps / n_classes``. The twin of `csoftmax.softmax_cross_entropy`.

    Examples
    --------
    >>> from csoftmax import reference
    >>> logits = [[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    >>> round(reference.softmax_cross_entropy(logits, [0, 1]), 6)
    0.669079
    >>> reference.softmax_cross_entropy(logits, [0, 1], reduction="none")
    array([0.23954477, 1.09861229])
    """
    check_reduction(reduction)
    rows = _rows(logits, y, weight, ignore_index, label_smoothing, axis)
    losses, _, _ = _losses(rows)
    return _reduce(losses, rows.divisor, reduction, rows.shape)


@quiet
def softmax_cross_entropy_grad(
    logits: ArrayLike,
    y: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    axis: int = -1,
) -> tuple[float | Array, Array]:
    """Return `softmax_cross_entropy` and its gradient by the logits.

    With the weighted target ``u[i, k] = weight[k] * t[i, k]``,

        dlogits[i, k] = softmax(logits[i])[k] * sum_c u[i, c] - u[i, k]

    which is ``p - onehot(y)`` in the plain case; reduction "mean" divides it by the mean's divisor;
    the gradient of the mean of nothing, whose divisor is 0, is 0.
    The twin of `csoftmax.softmax_cross_entropy_grad`.

    Examples
    --------
    >>> from csoftmax import reference
    >>> loss, dlogits = reference.softmax_cross_entropy_grad([[0.0, 0.0]], [1])
    >>> round(loss, 6), dlogits
    (0.693147, array([[ 0.5, -0.5]]))
    """
    check_reduction(reduction)
    rows = _rows(logits, y, weight, ignore_index, label_smoothing, axis)
    losses, exponentials, total = _losses(rows)
    dlogits = _dlogits(rows, exponentials, total)
    if reduction == "mean" and rows.divisor > 0:
        dlogits /= rows.divisor
    elif reduction == "mean":  # of nothing: its loss is NaN, and nothing moves
        dlogits[...] = 0
    dlogits = np.moveaxis(dlogits.reshape(*rows.shape, rows.logits.shape[1]), -1, axis)
    return _reduce(losses, rows.divisor, reduction, rows.shape), dlogits


@quiet
def linear_cross_entropy(
    X: ArrayLike,
    W: ArrayLike,
    b: ArrayLike | None,
    y: ArrayLike,
    *,
    scale: float = 1.0,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> float | Array:
    """Return the cross-entropy of ``scale * X @ W + b``: as `csoftmax.linear_cross_entropy`.

    Examples
    --------
    >>> import numpy as np
    >>> from csoftmax import reference
    >>> X, W, b, y = np.eye(3), np.zeros((3, 4)), np.zeros(4), [0, 1, 2]
    >>> round(reference.linear_cross_entropy(X, W, b, y), 6)  # log 4
    1.386294
    """
    check_reduction(reduction)
    X, W, b, y, s, scale = _linear_arguments(X, W, b, y, scale, sample_weight)
    losses, _, _ = label_losses(logits_of(X, W, b, scale), y)
    losses = _weighted(losses, s)
    return _reduce(losses, sum_of(s), reduction, y.shape)


@quiet
def linear_evaluate(
    X: ArrayLike,
    W: ArrayLike,
    b: ArrayLike | None,
    y: ArrayLike,
    *,
    scale: float = 1.0,
    sample_weight: ArrayLike | None = None,
) -> tuple[float, float]:
    """Return the mean loss, and ``sum_i s[i] [argmax_k logits[i, k] = y[i]]``.

    The twin of `csoftmax.linear_evaluate`. A row with NaN is wrong.

    Examples
    --------
    >>> from csoftmax import reference
    >>> reference.linear_evaluate([[1.0], [-1.0]], [[0.0, 0.0]], None, [0, 1])
    (0.6931471805599453, 1.0)
    """
    X, W, b, y, s, scale = _linear_arguments(X, W, b, y, scale, sample_weight)
    logits = logits_of(X, W, b, scale)
    losses = _weighted(label_losses(logits, y)[0], s)
    right = (logits.argmax(axis=1) == y) & ~np.isnan(logits).any(axis=1)
    loss = _reduce(losses, sum_of(s), "mean", y.shape)
    return float(loss), sum_of(s[right])


@quiet
def linear_cross_entropy_grad(
    X: ArrayLike,
    W: ArrayLike,
    b: ArrayLike | None,
    y: ArrayLike,
    *,
    scale: float = 1.0,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> tuple[float | Array, Array, Array]:
    """Return `linear_cross_entropy` and its gradients by W and b.

    With ``dlogits[i, k] = s[i] * (p[i, k] - onehot(y)[i, k])``, divided by ``sum_i s[i]`` for the
    mean, ``dW = scale * X.T @ dlogits`` and ``db[k] = sum_i dlogits[i, k]``. The twin of
    `csoftmax.linear_cross_entropy_grad`.

    Examples
    --------
    >>> import numpy as np
    >>> from csoftmax import reference
    >>> X, W, b = np.array([[1.0, 2.0]]), np.zeros((2, 2)), np.zeros(2)
    >>> loss, dW, db = reference.linear_cross_entropy_grad(X, W, b, [1])
    >>> round(loss, 6), dW, db
    (0.693147, array([[ 0.5, -0.5],
           [ 1. , -1. ]]), array([ 0.5, -0.5]))
    """
    check_reduction(reduction)
    X, W, b, y, s, scale = _linear_arguments(X, W, b, y, scale, sample_weight)
    losses, p, total = label_losses(logits_of(X, W, b, scale), y)
    losses = _weighted(losses, s)
    dlogits = label_dlogits(p, total, y)
    divisor = sum_of(s)
    if reduction == "mean" and divisor > 0:
        s = s / divisor
    dlogits = _weighted(dlogits, s[:, np.newaxis])
    dW = np.where(s[:, np.newaxis] > 0, X, 0).T @ dlogits
    dW *= scale
    db = dlogits.sum(axis=0)
    return _reduce(losses, divisor, reduction, y.shape), dW, db


# ---------------------------------------------------------------- the formulas


def logits_of(X: Array, W: Array, b: Array | None, scale: float) -> Array:
    logits: Array = X @ W
    if scale != 1:
        logits *= scale
    if b is not None:
        logits += b
    return logits


def _exponentials(x: Array, axis: int) -> tuple[Array, Array, Array]:
    """Return ``x - max``, its exp, and the sum of that along the axis, which is at least 1."""
    shifted = x - x.max(axis=axis, keepdims=True)
    exponentials = np.exp(shifted)
    return shifted, exponentials, exponentials.sum(axis=axis, keepdims=True)


def label_losses(logits: Array, y: Array) -> tuple[Array, Array, Array]:
    """Return each row's loss, and the exponentials and their sum for the gradient."""
    shifted, exponentials, total = _exponentials(logits, axis=1)
    # Adding the maximum back to the logarithm would lose everything at logits around 1e8.
    losses = np.log(total[:, 0]) - shifted[np.arange(y.size), y]
    return losses, exponentials, total


def label_dlogits(exponentials: Array, total: Array, y: Array) -> Array:
    """Return ``p - onehot(y)``, in place of the exponentials."""
    exponentials /= total
    exponentials[np.arange(y.size), y] -= 1
    return exponentials


class _Rows(NamedTuple):
    """A checked softmax cross-entropy with the classes along the last of two axes."""

    shape: tuple[int, ...]  # of the samples
    logits: Array  # (n_samples, n_classes)
    y: Array | None  # labels, 0 where ignored; None if u says it all
    u: Array  # weight of each sample (n_samples,); or weighted targets (n_samples, n_classes)
    divisor: float  # of the mean


def _rows(
    logits: ArrayLike,
    y: ArrayLike,
    weight: ArrayLike | None,
    ignore_index: int,
    label_smoothing: float,
    axis: int,
) -> _Rows:
    logits, axis = as_logits(logits, axis)
    dtype = compute_dtype(logits)
    ignore_index = check_ignore_index(ignore_index)
    eps = check_label_smoothing(label_smoothing)
    target = as_target(y, logits.shape, axis, dtype, ignore_index)
    x = np.moveaxis(np.asarray(logits, dtype), axis, -1)
    n_classes = x.shape[-1]
    shape, x = x.shape[:-1], x.reshape(-1, n_classes)
    w = np.ones(n_classes, dtype)
    if weight is not None:
        w = as_weights(weight, n_classes, "weight", dtype)

    if target.dtype.kind == "f":
        t = np.moveaxis(target, axis, -1).reshape(-1, n_classes)
        return _Rows(shape, x, None, w * ((1 - eps) * t + eps / n_classes), float(len(x)))
    counts = target.reshape(-1) != ignore_index
    labels = np.where(counts, target.reshape(-1), 0)
    u = w[labels] * counts
    if eps == 0:
        return _Rows(shape, x, labels, u, sum_of(u))
    t = (labels[:, np.newaxis] == np.arange(n_classes)).astype(dtype)
    smooth = w * ((1 - eps) * t + eps / n_classes) * counts[:, np.newaxis]
    return _Rows(shape, x, None, smooth, sum_of(u))


def _losses(rows: _Rows) -> tuple[Array, Array, Array]:
    """Return each row's weighted loss, and the exponentials and their sum for the gradient."""
    if rows.y is None:
        shifted, exponentials, total = _exponentials(rows.logits, axis=1)
        losses = np.log(total) - shifted
    else:
        losses, exponentials, total = label_losses(rows.logits, rows.y)
    losses = _weighted(losses, rows.u)
    return losses.sum(axis=1) if rows.y is None else losses, exponentials, total


def _weighted(values: Array, weight: Array) -> Array:
    """Return ``weight * values``; weight 0 means left out, even where the value is inf or NaN."""
    return np.where(weight > 0, weight * values, 0)


def _dlogits(rows: _Rows, exponentials: Array, total: Array) -> Array:
    """Return the gradient of the sum of the losses, in place of the exponentials."""
    if rows.y is None:
        row_weight = rows.u.sum(axis=1)
        exponentials /= total
        exponentials *= row_weight[:, np.newaxis]
        exponentials -= rows.u
    else:
        row_weight = rows.u
        exponentials = label_dlogits(exponentials, total, rows.y)
        exponentials *= row_weight[:, np.newaxis]
    exponentials[row_weight == 0] = 0
    return exponentials


def sum_of(losses: Array) -> float:
    return float(losses.sum(dtype=np.float64))


def _reduce(losses: Array, divisor: float, reduction: str, shape: tuple[int, ...]) -> float | Array:
    if reduction == "none":
        return losses.reshape(shape)
    if reduction == "sum":
        return sum_of(losses)
    return sum_of(losses) / divisor if divisor > 0 else math.nan


# ---------------------------------------------------------------- arguments


def _linear_arguments(
    X: ArrayLike,
    W: ArrayLike,
    b: ArrayLike | None,
    y: ArrayLike,
    scale: float,
    sample_weight: ArrayLike | None,
) -> tuple[Array, Array, Array | None, Array, Array, float]:
    X, W, b, dtype = as_linear(X, W, b)
    n_samples, n_classes = len(X), W.shape[1]
    y = as_labels(y, n_samples, n_classes)
    s = np.ones(n_samples, dtype)
    if sample_weight is not None:
        s = as_weights(sample_weight, n_samples, "sample_weight", dtype)
    return np.asarray(X, dtype), np.asarray(W, dtype), b, y, s, check_number(scale, "scale")
