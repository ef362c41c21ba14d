"""Every formula once more, the plainest way there is, in a type wider than the one under test.

Nothing here is shared with csoftmax: labels become matrices, each loss is a full sum over classes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def wider(dtype: Any) -> Any:
    """The type of the truth: float64 for float32, longdouble for float64."""
    return np.float64 if np.dtype(dtype) == np.float32 else np.longdouble


def linear(X: Array, W: Array, b: Array | None, scale: float, wide: Any) -> Array:
    logits = wide(scale) * (X.astype(wide) @ W.astype(wide))
    return logits if b is None else logits + b.astype(wide)


def log_softmax(x: Array, axis: int = -1) -> Array:
    shifted = x - x.max(axis=axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))


def softmax(x: Array, axis: int = -1) -> Array:
    return np.exp(log_softmax(x, axis))


class Loss(NamedTuple):
    losses: Array  # (n,) weighted, not reduced
    dlogits: Array  # (n, k) gradient of the sum of the losses
    divisor: float  # of the mean


def cross_entropy(
    logits: Array,
    y: Array,
    *,
    weight: Array | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    sample_weight: Array | None = None,
) -> Loss:
    """logits (n, k); y labels (n,) or probabilities (n, k)."""
    wide = logits.dtype.type
    n, k = logits.shape
    weights = np.ones(k, wide) if weight is None else weight.astype(wide)
    if y.ndim == 1:
        t = (y[:, None] == np.arange(k)).astype(wide)
        counts = np.ones(n, bool) if ignore_index is None else y != ignore_index
        divisor = (t @ weights)[counts].sum()
    else:
        t, counts, divisor = y.astype(wide), np.ones(n, bool), float(n)
    u = weights * ((1 - wide(label_smoothing)) * t + wide(label_smoothing) / k)
    u[~counts] = 0
    if sample_weight is not None:
        u *= sample_weight.astype(wide)[:, None]
        divisor = sample_weight.astype(wide).sum()
    log_p = log_softmax(logits)
    losses = -np.where(u == 0, 0, u * log_p).sum(axis=1)
    dlogits = np.exp(log_p) * u.sum(axis=1, keepdims=True) - u
    dlogits[u.sum(axis=1) == 0] = 0
    return Loss(losses, dlogits, float(divisor))


def reduce(loss: Loss, reduction: str) -> Any:
    if reduction == "none":
        return loss.losses
    total = loss.losses.sum()
    return total if reduction == "sum" else total / loss.divisor


def central_difference(f: Any, x: Array, step: float = 1e-5) -> Array:
    """The gradient of the float f() by the float64 array x, which f reads; x is put back."""
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        kept = x[index]
        x[index] = kept + step
        above = f()
        x[index] = kept - step
        below = f()
        x[index] = kept
        gradient[index] = (above - below) / (2 * step)
    return gradient
