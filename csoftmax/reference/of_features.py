"""The functions of features and parameters: the logits, the loss and its gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from csoftmax.core.checks import (
    as_labels,
    as_linear,
    as_weights,
    check_number,
    check_reduction,
)
from csoftmax.reference.formulas import (
    dense,
    label_dlogits,
    label_losses,
    quiet,
    reduced,
    sum_of,
    weighted,
)

Array = NDArray[Any]


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
    rows, W, b, dtype = as_linear(X, W, b)
    scale = check_number(scale, "scale")
    return logits_of(dense(rows, dtype), np.asarray(W, dtype), b, scale)


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
    losses = weighted(losses, s)
    return reduced(losses, sum_of(s), reduction, y.shape)


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
    losses = weighted(label_losses(logits, y)[0], s)
    right = (logits.argmax(axis=1) == y) & ~np.isnan(logits).any(axis=1)
    loss = reduced(losses, sum_of(s), "mean", y.shape)
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
    losses = weighted(losses, s)
    dlogits = label_dlogits(p, total, y)
    divisor = sum_of(s)
    if reduction == "mean" and divisor > 0:
        s = s / divisor
    dlogits = weighted(dlogits, s[:, np.newaxis])
    dW = np.where(s[:, np.newaxis] > 0, X, 0).T @ dlogits
    dW *= scale
    db = dlogits.sum(axis=0)
    return reduced(losses, divisor, reduction, y.shape), dW, db


def logits_of(X: Array, W: Array, b: Array | None, scale: float) -> Array:
    """Return ``scale * X @ W + b`` of checked arrays."""
    logits: Array = X @ W
    if scale != 1:
        logits *= scale
    if b is not None:
        logits += b
    return logits


def _linear_arguments(
    X: ArrayLike,
    W: ArrayLike,
    b: ArrayLike | None,
    y: ArrayLike,
    scale: float,
    sample_weight: ArrayLike | None,
) -> tuple[Array, Array, Array | None, Array, Array, float]:
    rows, W, b, dtype = as_linear(X, W, b)
    n_samples, n_classes = len(rows), W.shape[1]
    y = as_labels(y, n_samples, n_classes)
    s = np.ones(n_samples, dtype)
    if sample_weight is not None:
        s = as_weights(sample_weight, n_samples, "sample_weight", dtype)
    return dense(rows, dtype), np.asarray(W, dtype), b, y, s, check_number(scale, "scale")
