"""The functions of logits or probabilities: softmax, its logarithm, and the losses."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from csoftmax.core.checks import (
    as_array,
    as_labels,
    as_logits,
    as_target,
    as_weights,
    check_ignore_index,
    check_label_smoothing,
    check_reduction,
    compute_dtype,
)
from csoftmax.reference.formulas import (
    exponentials_of,
    label_dlogits,
    label_losses,
    quiet,
    reduced,
    sum_of,
    weighted,
)

Array = NDArray[Any]


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
    _, p, total = exponentials_of(np.asarray(x, compute_dtype(x)), axis)
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
    shifted, _, total = exponentials_of(np.asarray(x, compute_dtype(x)), axis)
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
    return reduced(losses, rows.divisor, reduction, rows.shape)


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
    return reduced(losses, rows.divisor, reduction, rows.shape), dlogits


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
        shifted, exponentials, total = exponentials_of(rows.logits, axis=1)
        losses = np.log(total) - shifted
    else:
        losses, exponentials, total = label_losses(rows.logits, rows.y)
    losses = weighted(losses, rows.u)
    return losses.sum(axis=1) if rows.y is None else losses, exponentials, total


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
