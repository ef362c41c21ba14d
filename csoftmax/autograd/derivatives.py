"""The derivative of each recorded NumPy function: what it sends to each of its inputs.

A formula takes the gradient ``d`` of the result, the result ``z`` and the inputs ``x``, ``y``, and
returns the gradient by one input, in the shape of the result; `unbroadcast` then sums it to the
shape of the input. Where two inputs of a maximum are equal, each gets half.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from csoftmax.engine import calls
from csoftmax.engine.linear import gradients, matmul
from csoftmax.rows.base import as_stored

Array = NDArray[Any]
Back: TypeAlias = "Callable[[Array], Array]"

UNARY: dict[np.ufunc, Callable[[Array, Array, Array], Array]] = {
    np.negative: lambda d, z, x: -d,
    np.positive: lambda d, z, x: d,
    np.exp: lambda d, z, x: d * z,
    np.expm1: lambda d, z, x: d * (z + 1),
    np.log: lambda d, z, x: d / x,
    np.log1p: lambda d, z, x: d / (1 + x),
    np.sqrt: lambda d, z, x: d / (2 * z),
    np.square: lambda d, z, x: 2 * d * x,
    np.reciprocal: lambda d, z, x: -d * z * z,
    np.absolute: lambda d, z, x: d * np.sign(x),
    np.tanh: lambda d, z, x: d * (1 - z * z),
}

# by x, by y
BINARY: dict[np.ufunc, tuple[Callable[[Array, Array, Any, Any], Array], ...]] = {
    np.add: (lambda d, z, x, y: d, lambda d, z, x, y: d),
    np.subtract: (lambda d, z, x, y: d, lambda d, z, x, y: -d),
    np.multiply: (lambda d, z, x, y: d * y, lambda d, z, x, y: d * x),
    np.divide: (lambda d, z, x, y: d / y, lambda d, z, x, y: -d * z / y),
    np.power: (
        # where y is 0 the power is the constant 1, also at x = 0
        lambda d, z, x, y: np.where(np.equal(y, 0), 0, d * y * np.power(x, y - 1)),
        lambda d, z, x, y: d * np.where((z == 0) | ((x == 0) & (y >= 0)), 0, z * np.log(x)),
    ),
    np.maximum: (
        lambda d, z, x, y: d * (np.greater(x, y) + np.equal(x, y) / 2),
        lambda d, z, x, y: d * (np.less(x, y) + np.equal(x, y) / 2),
    ),
    np.minimum: (
        lambda d, z, x, y: d * (np.less(x, y) + np.equal(x, y) / 2),
        lambda d, z, x, y: d * (np.greater(x, y) + np.equal(x, y) / 2),
    ),
}

# Their formulas read no input, so that an input may be updated before backward().
READ_NO_INPUT = {
    np.negative, np.positive, np.add, np.subtract, np.exp, np.expm1, np.sqrt, np.reciprocal, np.tanh
}  # fmt: skip
READ_THE_OTHER = {np.multiply, np.matmul}  # input only
# What readers see overflow. (To name their line costs 2.5 us, so sums and products do not.)
OVERFLOW = {np.exp, np.log, np.divide, np.power}


def derivatives_of(ufunc: np.ufunc) -> tuple[Callable[..., Array], ...] | None:
    """Return the formula by each input, None where there is none."""
    if ufunc in UNARY:
        return (UNARY[ufunc],)
    if ufunc is np.matmul:
        return (_by_left, _by_right)
    return BINARY.get(ufunc)


def picked(array: Array, index: Any) -> tuple[Array, Back]:
    """Return ``array[index]``, and its derivative."""
    parts = index if isinstance(index, tuple) else (index,)
    once = all(part is None or part is ... or isinstance(part, (int, slice)) for part in parts)

    def back(d: Array) -> Array:
        full = np.zeros_like(array)
        if once:
            full[index] = d
        else:  # an entry may be picked several times
            np.add.at(full, index, d)
        return full

    return array[index], back


def reduced(name: str, array: Array, axis: Any, keepdims: bool) -> tuple[Array, Back]:
    """Return the "sum", "mean", "max" or "min" of an array along `axis`, and its derivative.

    Equal maxima share the gradient equally.
    """
    kept = np.asarray(getattr(array, name)(axis=axis, keepdims=True))
    result = kept if keepdims else np.squeeze(kept, axis)

    def back(d: Array) -> Array:
        d = d.reshape(kept.shape)
        if name in ("max", "min"):
            is_it = array == kept
            d = is_it * (d / is_it.sum(axis=axis, keepdims=True, dtype=array.dtype))
        elif name == "mean":
            d = d / array.dtype.type(max(array.size // max(kept.size, 1), 1))
        return np.broadcast_to(d, array.shape)

    return result, back


def transposed(array: Array, axes: Any) -> tuple[Array, Back]:
    """Return ``array.transpose(*axes)``, and its derivative."""
    order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes
    result = array.transpose(*axes)
    places = None if not order else np.argsort([axis % array.ndim for axis in order])
    return result, lambda d: d.transpose(places)


def clipped(array: Array, low: Any, high: Any) -> tuple[Array, Back]:
    """Return ``array.clip(low, high)``, and its derivative: 1 inside and on the limits."""
    result = array.clip(low, high)

    def back(d: Array) -> Array:
        inside = np.ones(result.shape, bool)
        inside &= True if low is None else np.greater_equal(array, low)
        inside &= True if high is None else np.less_equal(array, high)
        return unbroadcast(d * inside, array)

    return result, back


def unbroadcast(gradient: Array, like: Array) -> Array:
    """Return the gradient summed over the axes along which `like` was repeated."""
    shape = like.shape
    if gradient.shape != shape:
        new = gradient.ndim - len(shape)
        repeated = tuple(i + new for i, n in enumerate(shape) if n == 1 != gradient.shape[i + new])
        gradient = gradient.sum(axis=(*range(new), *repeated)).reshape(shape)
    return gradient


def _by_left(d: Array, z: Array, x: Array, y: Array) -> Array:
    if x.ndim == y.ndim == 2:
        return matmul(d, y.T)
    if y.ndim == 1:
        return np.expand_dims(d, -1) * y
    d = np.expand_dims(d, -2) if x.ndim == 1 else d
    by_x: Array = np.matmul(d, np.swapaxes(y, -1, -2))
    return by_x[..., 0, :] if x.ndim == 1 else by_x


def _by_right(d: Array, z: Array, x: Array, y: Array) -> Array:
    if x.ndim == y.ndim == 2 and d.dtype in (np.float32, np.float64):
        dW, _ = gradients(calls.StoredRows(as_stored(x, d.dtype)), d)
        return dW
    if x.ndim == 1:
        return np.expand_dims(d, -2) * np.expand_dims(x, -1) if y.ndim > 1 else d * x
    d = np.expand_dims(d, -1) if y.ndim == 1 else d
    by_y: Array = np.matmul(np.swapaxes(x, -1, -2), d)
    return by_y[..., 0] if y.ndim == 1 else by_y
