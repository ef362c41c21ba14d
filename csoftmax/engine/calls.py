"""From checked arguments to one call into compiled code: layouts, targets, results, reductions.

`csoftmax.functional` documents the functions and records them for backward; this is how they run.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from csoftmax import _kernels
from csoftmax.core.checks import (
    as_labels,
    as_linear,
    as_logits,
    as_target,
    as_weights,
    check_ignore_index,
    check_label_smoothing,
    check_number,
    check_out,
    check_reduction,
    check_threads,
    compute_dtype,
)

Array = NDArray[Any]
UINT8 = np.dtype(np.uint8)  # a dtype is compared with a type by making it a dtype first


class LinearArguments:
    """The checked arguments of the two linear_cross_entropy functions."""

    def __init__(
        self,
        X: ArrayLike,
        W: ArrayLike,
        b: ArrayLike | None,
        y: ArrayLike,
        scale: float,
        sample_weight: ArrayLike | None,
        reduction: str,
        n_threads: int | None,
    ) -> None:
        self.X, self.W, self.b, self.dtype = as_linear(X, W, b)
        self.y = as_labels(y, len(self.X), self.W.shape[1])
        self.scale = check_number(scale, "scale")
        check_reduction(reduction)
        self.reduction = reduction
        self.threads = check_threads(n_threads)
        self.weight: Array | None = None
        self.divisor = float(len(self.y))
        if sample_weight is not None:
            self.weight = as_weights(
                sample_weight, len(self.y), "sample_weight", np.dtype(np.float64)
            )
            self.divisor = float(self.weight.sum())

    def run(self, **results: Any) -> tuple[float, int]:
        factor = 1.0
        if self.reduction == "mean":
            factor = 1 / self.divisor if self.divisor else 0.0
        return _kernels.row_pass(
            as_stored(self.X, self.dtype),
            class_major(self.W, self.dtype),
            contiguous_bias(self.b, self.W, self.dtype),
            self.scale,
            y=self.y,
            sample_weight=self.weight,
            factor=factor,
            n_threads=self.threads,
            **results,
        )

    def reduced(self, total: float) -> float:
        return _reduced(total, self.divisor, self.reduction)


def cross_entropy_pass(
    logits: ArrayLike,
    y: ArrayLike,
    weight: ArrayLike | None,
    ignore_index: int,
    label_smoothing: float,
    reduction: str,
    axis: int,
    n_threads: int | None,
    out: Array | None,
    dlogits_out: Array | None,
    wants_gradient: bool,
) -> tuple[float | Array, Array]:
    x, axis = as_logits(logits, axis)
    dtype = compute_dtype(x)
    check_reduction(reduction)
    ignored = check_ignore_index(ignore_index)
    smoothing = check_label_smoothing(label_smoothing)
    threads = check_threads(n_threads)
    target = as_target(y, x.shape, axis, dtype, ignored)
    n_classes = x.shape[axis]
    class_weight = None if weight is None else as_weights(weight, n_classes, "weight", dtype)
    if out is not None and reduction != "none":
        raise ValueError('out is given but reduction is not "none": there is no array to return')
    losses, place = result_array(out, x.shape[:axis] + x.shape[axis + 1 :], dtype, x, target)
    dlogits, gradient_place = None, None
    if wants_gradient:
        dlogits, gradient_place = result_array(dlogits_out, x.shape, dtype, x, target, in_place=x)

    # target[k] = dense[k], plus label_weight[k] where k is the label
    along_axis = [1] * x.ndim
    along_axis[axis] = n_classes
    dense, labels, label_weight = None, None, class_weight
    if smoothing:
        share = np.full(n_classes, smoothing / n_classes, dtype)
        dense = (share if class_weight is None else share * class_weight).reshape(along_axis)
        label_weight = (np.ones_like(share) if class_weight is None else class_weight) * (
            dtype.type(1 - smoothing)
        )
    if target.dtype.kind == "f":
        scaled = target if label_weight is None else target * label_weight.reshape(along_axis)
        dense = scaled if dense is None else scaled + dense
        divisor = float(target.size // n_classes)
        label_weight = None
    else:
        labels = target
        divisor = _label_mass(labels, ignored, class_weight)
    factor = 1.0
    if reduction == "mean":
        factor = 1 / divisor if divisor else 0.0
    _kernels.softmax_pass(
        "cross_entropy",
        _three_dimensions(np.asarray(x, dtype), axis),
        None if dlogits is None else _three_dimensions(dlogits, axis),
        dense=None if dense is None else _three_dimensions(np.broadcast_to(dense, x.shape), axis),
        y=None if labels is None else labels.reshape(-1),
        ignored=None if labels is None else ignored,
        label_weight=label_weight,
        losses=losses.reshape(-1),
        factor=factor,
        n_threads=threads,
    )
    if dlogits is not None:
        if reduction == "mean" and not divisor:  # of nothing: 0, also where 0 times NaN was added
            dlogits[...] = 0
        dlogits = placed(dlogits, gradient_place)
    if reduction == "none":
        return placed(losses, place), dlogits  # type: ignore[return-value]
    return _reduced(float(losses.sum(dtype=np.float64)), divisor, reduction), dlogits  # type: ignore[return-value]


def _label_mass(labels: Array, ignored: int, class_weight: Array | None) -> float:
    """The divisor of the mean: how much the labels that count weigh."""
    if class_weight is None:
        return float(labels.size - np.count_nonzero(labels == ignored))
    return float(class_weight[labels[labels != ignored]].sum(dtype=np.float64))


def _reduced(total: float, divisor: float, reduction: str) -> float:
    if reduction == "sum":
        return total
    return total / divisor if divisor else math.nan


def softmax_along_axis(
    kind: str, x: Array, axis: int, out: Array | None, n_threads: int | None
) -> Array:
    threads = check_threads(n_threads)
    dtype = compute_dtype(x)
    result, place = result_array(out, x.shape, dtype, x, in_place=x)
    _kernels.softmax_pass(
        kind,
        _three_dimensions(np.asarray(x, dtype), axis),
        _three_dimensions(result, axis),
        n_threads=threads,
    )
    return placed(result, place)


def _three_dimensions(x: Array, axis: int) -> Array:
    """View x as (everything before the axis, the axis, everything after), a copy if need be."""
    shape = x.shape
    return x.reshape(math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))


# ---- layouts -----------------------------------------------------------------------------------


def as_stored(X: Array, dtype: np.dtype[Any]) -> Array:
    """Return X as the kernels read it: itself, unless its dtype is one they do not know."""
    if X.dtype.kind == "f" or X.dtype == UINT8:
        return X
    if X.dtype.kind == "b":
        return X.view(UINT8)
    return X.astype(dtype)


def class_major(W: Array, dtype: np.dtype[Any]) -> Array:
    """Return W.T as a C-contiguous array of the compute type, without a copy if W is stored so."""
    transposed: Array = W.T
    flags = transposed.flags
    if transposed.dtype == dtype and flags.c_contiguous and flags.aligned:
        return transposed
    return np.array(transposed, dtype, order="C")


def contiguous_bias(b: Array | None, W: Array, dtype: np.dtype[Any]) -> Array:
    if b is None:
        return np.zeros(W.shape[1], dtype)
    if b.dtype == dtype and b.flags.c_contiguous and b.flags.aligned:
        return b
    return np.array(b, dtype, order="C")


def result_array(
    out: Array | None,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    *inputs: Array | None,
    in_place: Array | None = None,
) -> tuple[Array, Array | None]:
    """Return the array that the kernel fills, and `out` if the result must be copied there."""
    if out is None:
        return np.empty(shape, dtype), None
    check_out(out, shape, dtype)
    flags = out.flags
    if not (flags.c_contiguous and flags.aligned):
        return np.empty(shape, dtype), out
    for array in inputs:
        same = array is in_place and array is not None and array.dtype == dtype
        if array is None or (same and _same_place(array, out)):
            continue
        if np.may_share_memory(array, out):
            return np.empty(shape, dtype), out
    return out, None


def _same_place(a: Array, b: Array) -> bool:
    return (
        a.strides == b.strides
        and a.__array_interface__["data"][0] == b.__array_interface__["data"][0]
    )


def placed(result: Array, place: Array | None) -> Array:
    if place is None:
        return result
    np.copyto(place, result)
    return place


def forward(
    features: Array,
    weight: Array,
    bias: Array,
    scale: float,
    n_threads: int | None,
    **results: Array,
) -> None:
    """Fill `logits` or `predictions` for a model's own class-major parameters, in their dtype."""
    threads = check_threads(n_threads)
    stored = as_stored(features, weight.dtype)
    _kernels.row_pass(stored, weight, bias, scale, n_threads=threads, **results)  # type: ignore[call-overload]
