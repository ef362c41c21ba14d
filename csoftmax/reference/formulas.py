"""The formulas that the functions share, on arrays that are checked."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.sparse import CSR

Array = NDArray[Any]

# In these functions inf and NaN are results, not accidents.
quiet = np.errstate(all="ignore")


def dense(X: Any, dtype: np.dtype[Any]) -> Array:
    """Return rows as an array of `dtype`: of sparse rows, with their zeros."""
    return np.asarray(X.toarray() if isinstance(X, CSR) else X, dtype)


def exponentials_of(x: Array, axis: int) -> tuple[Array, Array, Array]:
    """Return ``x - max``, its exp, and the sum of that along the axis, which is at least 1."""
    shifted = x - x.max(axis=axis, keepdims=True)
    exponentials = np.exp(shifted)
    return shifted, exponentials, exponentials.sum(axis=axis, keepdims=True)


def label_losses(logits: Array, y: Array) -> tuple[Array, Array, Array]:
    """Return each row's loss, and the exponentials and their sum for the gradient."""
    shifted, exponentials, total = exponentials_of(logits, axis=1)
    # Adding the maximum back to the logarithm would lose everything at logits around 1e8.
    losses = np.log(total[:, 0]) - shifted[np.arange(y.size), y]
    return losses, exponentials, total


def label_dlogits(exponentials: Array, total: Array, y: Array) -> Array:
    """Return ``p - onehot(y)``, in place of the exponentials."""
    exponentials /= total
    exponentials[np.arange(y.size), y] -= 1
    return exponentials


def weighted(values: Array, weight: Array) -> Array:
    """Return ``weight * values``; weight 0 means left out, even where the value is inf or NaN."""
    return np.where(weight > 0, weight * values, 0)


def sum_of(losses: Array) -> float:
    """Return the sum, added in float64."""
    return float(losses.sum(dtype=np.float64))


def reduced(losses: Array, divisor: float, reduction: str, shape: tuple[int, ...]) -> float | Array:
    """Return what `reduction` asks for: each loss, their sum, or that divided by `divisor`."""
    if reduction == "none":
        return losses.reshape(shape)
    if reduction == "sum":
        return sum_of(losses)
    return sum_of(losses) / divisor if divisor > 0 else math.nan
