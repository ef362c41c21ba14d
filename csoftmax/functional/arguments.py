"""From what users give to what `csoftmax.engine.calls` takes: checks, layouts, results."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from csoftmax.core.checks import (
    Stored,
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
from csoftmax.core.sparse import CSR
from csoftmax.engine import calls
from csoftmax.engine.linear import contiguous_bias
from csoftmax.rows.base import as_stored

Array = NDArray[Any]


class LinearArguments:
    """The checked arguments of the linear_cross_entropy functions."""

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

    def run(
        self,
        losses: Array | None = None,
        gradient: tuple[Array, Array] | None = None,
        predictions: Array | None = None,
    ) -> tuple[float, int]:
        """Return the sum of the losses and the number predicted right; fill what is given."""
        factor = 1.0
        if self.reduction == "mean":
            factor = 1 / self.divisor if self.divisor else 0.0
        return calls.evaluate(
            calls.StoredRows(as_stored(self.X, self.dtype), self.scale),
            calls.Parameters(
                calls.weights_for(self.X, self.W, self.dtype),
                contiguous_bias(self.b, self.W, self.dtype),
            ),
            calls.Targets(self.y, self.weight),
            calls.Sink(gradient, factor, losses, predictions),
            self.threads,
        )

    def reduced(self, total: float) -> float:
        return reduced(total, self.divisor, self.reduction)


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
    """Check the arguments, run the pass, and return the loss and the gradient by the logits."""
    x, axis = as_logits(logits, axis)
    dtype = compute_dtype(x)
    check_reduction(reduction)
    ignored = check_ignore_index(ignore_index)
    smoothing = check_label_smoothing(label_smoothing)
    threads = check_threads(n_threads)
    target = as_target(y, x.shape, axis, dtype, ignored)
    class_weight = None if weight is None else as_weights(weight, x.shape[axis], "weight", dtype)
    if out is not None and reduction != "none":
        raise ValueError('out is given but reduction is not "none": there is no array to return')
    losses, place = result_array(out, x.shape[:axis] + x.shape[axis + 1 :], dtype, x, target)
    dlogits, gradient_place = None, None
    if wants_gradient:
        dlogits, gradient_place = result_array(dlogits_out, x.shape, dtype, x, target, in_place=x)
    targets, divisor = _logit_targets(
        target, x.shape, axis, dtype, class_weight, smoothing, ignored
    )
    factor = 1.0
    if reduction == "mean":
        factor = 1 / divisor if divisor else 0.0
    calls.cross_entropy(
        _three_dimensions(np.asarray(x, dtype), axis),
        targets,
        losses.reshape(-1),
        None if dlogits is None else _three_dimensions(dlogits, axis),
        factor,
        threads,
    )
    if dlogits is not None:
        if reduction == "mean" and not divisor:  # of nothing: 0, also where 0 times NaN was added
            dlogits[...] = 0
        dlogits = placed(dlogits, gradient_place)
    if reduction == "none":
        return placed(losses, place), dlogits  # type: ignore[return-value]
    return reduced(float(losses.sum(dtype=np.float64)), divisor, reduction), dlogits  # type: ignore[return-value]


def _logit_targets(
    target: Array,
    shape: tuple[int, ...],
    axis: int,
    dtype: np.dtype[Any],
    class_weight: Array | None,
    smoothing: float,
    ignored: int,
) -> tuple[calls.LogitTargets, float]:
    """Return labels or probabilities, weighted and smoothed, and the divisor of the mean."""
    n_classes = shape[axis]
    along_axis = [1] * len(shape)
    along_axis[axis] = n_classes
    dense, label_weight = None, class_weight
    if smoothing:
        share = np.full(n_classes, smoothing / n_classes, dtype)
        dense = (share if class_weight is None else share * class_weight).reshape(along_axis)
        label_weight = (np.ones_like(share) if class_weight is None else class_weight) * (
            dtype.type(1 - smoothing)
        )
    if target.dtype.kind == "f":
        scaled = target if label_weight is None else target * label_weight.reshape(along_axis)
        dense = scaled if dense is None else scaled + dense
        dense = _three_dimensions(np.broadcast_to(dense, shape), axis)
        return calls.LogitTargets(dense, None, None, None), float(target.size // n_classes)
    if dense is not None:
        dense = _three_dimensions(np.broadcast_to(dense, shape), axis)
    divisor = _label_mass(target, ignored, class_weight)
    return calls.LogitTargets(dense, target.reshape(-1), label_weight, ignored), divisor


def _label_mass(labels: Array, ignored: int, class_weight: Array | None) -> float:
    """The divisor of the mean: how much the labels that count weigh."""
    if class_weight is None:
        return float(labels.size - np.count_nonzero(labels == ignored))
    return float(class_weight[labels[labels != ignored]].sum(dtype=np.float64))


def reduced(total: float, divisor: float, reduction: str) -> float:
    """Return a sum of losses as it is asked for."""
    if reduction == "sum":
        return total
    return total / divisor if divisor else math.nan


def softmax_along_axis(
    kind: str, x: Array, axis: int, out: Array | None, n_threads: int | None
) -> Array:
    """Return the "softmax" or "log_softmax" of checked logits."""
    threads = check_threads(n_threads)
    dtype = compute_dtype(x)
    result, place = result_array(out, x.shape, dtype, x, in_place=x)
    calls.softmax(
        kind,
        _three_dimensions(np.asarray(x, dtype), axis),
        _three_dimensions(result, axis),
        threads,
    )
    return placed(result, place)


def _three_dimensions(x: Array, axis: int) -> Array:
    """View x as (everything before the axis, the axis, everything after), a copy if need be."""
    shape = x.shape
    return x.reshape(math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))


def result_array(
    out: Array | None,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    *inputs: Stored | None,
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
        if isinstance(array, CSR) or np.may_share_memory(array, out):
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
