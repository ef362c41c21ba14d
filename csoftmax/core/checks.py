"""What every function checks before it computes: dtypes, shapes, labels, weights, threads.

Each check names the argument, says what was expected and what came, and costs one pass over the
data without a temporary as long as the data is good; only a failed check looks for the culprit.
"""

from __future__ import annotations

import math
import numbers
import operator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from csoftmax.core.cpus import MAX_THREADS, usable_cpus
from csoftmax.core.sparse import as_csr, is_sparse

Array = NDArray[Any]
Stored: TypeAlias = Any  # rows of X as they are stored: an array (n_rows, n_features), or CSR

FLOAT32 = np.dtype(np.float32)
FLOAT64 = np.dtype(np.float64)
REDUCTIONS = ("mean", "sum", "none")


# ---------------------------------------------------------------- arrays and dtypes


def as_array(x: ArrayLike, name: str) -> Array:
    """Return `x` as an array of real numbers, without a copy where it is an array already.

    bfloat16 becomes float32, which holds it exactly.

    Raises TypeError for complex, longdouble, string and object arrays, ValueError for ragged lists.
    """
    array = widened(_to_array(x, name))
    if array.dtype == np.object_ and array.ndim == 0:  # such as None, or a whole Dataset
        raise TypeError(f"{name} is a {type(x).__name__}, expected an array")
    _compute_dtype_of(array.dtype, name)
    return array


def widened(array: Array) -> Array:
    """Return bfloat16, which NumPy knows only from other packages, as float32; else the array."""
    dtype = array.dtype
    if dtype.kind == "V" and dtype.itemsize == 2 and dtype.name == "bfloat16":  # a name takes time
        return array.astype(np.float32)
    return array


def compute_dtype(*arrays: Stored) -> np.dtype[Any]:
    """Return the dtype to compute in: float64 if any array needs it, else float32.

    float16, float32, bool and integers of up to 16 bits fit float32; float64 and wider integers
    need float64.
    """
    for array in arrays:
        if _compute_dtype_of(array.dtype, "an argument") is FLOAT64:
            return FLOAT64
    return FLOAT32


def _compute_dtype_of(dtype: np.dtype[Any], name: str) -> np.dtype[Any]:
    kind, size = dtype.kind, dtype.itemsize
    if kind == "f" and size <= 8:
        return FLOAT64 if size == 8 else FLOAT32
    if kind in "uib":
        return FLOAT64 if size >= 4 else FLOAT32
    raise TypeError(
        f"{name} has dtype {dtype}, expected bool, an integer type, float16, float32 or float64"
    )


def _to_array(x: ArrayLike, name: str) -> Array:
    try:
        return np.asarray(x)
    except ValueError as error:
        raise ValueError(f"{name} cannot be made an array: {error}") from None


def _aligned(array: Array) -> Array:
    return array if array.flags.aligned else array.copy()


def as_features(X: ArrayLike, name: str = "X") -> Stored:
    """Return `X` as it is stored, as (n_samples, n_features); images are flattened.

    Raises TypeError for an unsupported dtype, ValueError for fewer than two dimensions.
    """
    if type(X) is not np.ndarray and is_sparse(X):
        return as_csr(X, name)
    array = as_array(X, name)
    if array.ndim == 2:
        return array
    if array.ndim < 2:
        raise ValueError(
            f"{name} has shape {array.shape}, expected (n_samples, n_features) or image shapes "
            f"such as (n_samples, 28, 28)"
        )
    # Not reshape(n, -1): that is undefined for n = 0.
    return array.reshape(array.shape[0], math.prod(array.shape[1:]))


def as_linear(
    X: ArrayLike, W: ArrayLike, b: ArrayLike | None
) -> tuple[Stored, Array, Array | None, np.dtype[Any]]:
    """Return X (n_samples, n_features), W, b as they are stored, and the dtype to compute in.

    Raises TypeError for an unsupported dtype, ValueError for shapes that do not fit together.
    """
    features, W = as_features(X), as_array(W, "W")
    if W.ndim != 2:
        raise ValueError(f"W has shape {W.shape}, expected (n_features, n_classes)")
    n_features, n_classes = W.shape
    if n_classes == 0:
        raise ValueError("W has 0 columns, expected at least one class")
    if features.shape[1] != n_features:
        raise ValueError(f"X has {features.shape[1]} features but W has {n_features} rows")
    if b is None:
        return features, W, None, compute_dtype(features, W)
    b = as_array(b, "b")
    if b.shape != (n_classes,):
        raise ValueError(f"b has shape {b.shape} but W has {n_classes} columns")
    return features, W, b, compute_dtype(features, W, b)


def as_logits(logits: ArrayLike, axis: int = -1, name: str = "logits") -> tuple[Array, int]:
    """Return `logits` as they are stored, and the class axis as an index 0..ndim-1.

    Raises TypeError for an unsupported dtype, ValueError where there is no class axis or no class.
    """
    array = as_array(logits, name)
    if array.ndim == 0:
        raise ValueError(f"{name} is a single number, expected at least one dimension")
    axis = _index(axis, "axis")
    if not -array.ndim <= axis < array.ndim:
        raise ValueError(f"axis is {axis} but {name} has {array.ndim} dimensions")
    axis %= array.ndim
    if array.shape[axis] == 0:
        raise ValueError(f"{name} has shape {array.shape}: axis {axis} has no classes")
    return array, axis


def check_out(
    out: object, shape: tuple[int, ...], dtype: np.dtype[Any], name: str = "out"
) -> Array:
    """Return `out` if it is a writable array of this shape and dtype (native byte order).

    Raises TypeError for no array or another dtype, ValueError for another shape or read-only.
    """
    if not isinstance(out, np.ndarray):
        raise TypeError(f"{name} is a {type(out).__name__}, expected a NumPy array")
    if out.dtype != dtype:
        raise TypeError(f"{name} has dtype {out.dtype}, expected {dtype}")
    if out.shape != shape:
        raise ValueError(f"{name} has shape {out.shape}, expected {shape}")
    if not out.flags.writeable:
        raise ValueError(f"{name} is read-only, expected a writable array")
    return out


# ---------------------------------------------------------------- labels, targets, weights


def as_labels(
    y: ArrayLike,
    n_samples: int | tuple[int, ...],
    n_classes: int,
    ignore_index: int | None = None,
    name: str = "y",
) -> NDArray[np.int64]:
    """Return labels as a C-contiguous int64 array, each in 0..n_classes-1 or equal to ignore_index.

    `n_samples` is the number of labels, or their shape for N-dimensional logits.
    Raises TypeError for anything but integers and bool, ValueError for a shape or a label.
    """
    given = _to_array(y, name)
    if given.dtype.kind not in "iub":
        if given.size or isinstance(y, np.ndarray):
            raise TypeError(f"{name} has dtype {given.dtype}, expected integer labels")
        given = given.astype(np.int64)  # an empty list says nothing of its type
    shape = (n_samples,) if isinstance(n_samples, int) else n_samples
    if given.shape != shape:
        raise ValueError(_shape_message(given.shape, shape, name))
    labels = _aligned(np.asarray(given, dtype=np.int64, order="C"))
    # Seen as unsigned numbers, negative labels are huge: one maximum finds both kinds of error.
    if labels.size and int(np.maximum.reduce(labels.view(np.uint64), axis=None)) >= n_classes:
        _find_bad_label(given, n_classes, ignore_index, name)
    return labels


def as_small_labels(y: ArrayLike, n_samples: int, n_classes: int, name: str = "y") -> Array:
    """Return the labels of `as_labels` as the smallest unsigned integers that hold the classes.

    It is what a fit keeps: 1 byte a row for up to 256 classes. Labels of that type are not copied.
    """
    given, small = _to_array(y, name), np.min_scalar_type(n_classes - 1)
    if given.dtype != small or given.shape != (n_samples,):
        if given.dtype.kind not in "iub" or given.shape != (n_samples,):
            return as_labels(y, n_samples, n_classes, name=name).astype(small)  # most are refused
        _check_range(given, n_classes, name)
        return given.astype(small)
    _check_range(given, n_classes, name)
    return _aligned(np.ascontiguousarray(given, small))


def _check_range(given: Array, n_classes: int, name: str) -> None:
    if given.size and not (0 <= int(given.min()) <= int(given.max()) < n_classes):
        _find_bad_label(given, n_classes, None, name)


def _shape_message(got: tuple[int, ...], expected: tuple[int, ...], name: str) -> str:
    if len(got) == 1 and len(expected) == 1:
        return f"{name} has {got[0]} labels but there are {expected[0]} samples"
    hint = f"; {name}.ravel() has it" if got == (*expected, 1) else ""
    return f"{name} has shape {got}, expected {expected}{hint}"


def _find_bad_label(given: Array, n_classes: int, ignore_index: int | None, name: str) -> None:
    bad = (given < 0) | (given >= n_classes)
    if ignore_index is not None:
        bad &= given != ignore_index
    if bad.any():
        index = _first(bad)
        ignored = "" if ignore_index is None else f" (or {ignore_index}, ignored)"
        raise ValueError(
            f"{name}[{index}] is {int(given[bad][0])}, expected an integer in "
            f"0..{n_classes - 1}{ignored}"
        )


def as_target(
    y: ArrayLike,
    shape: tuple[int, ...],
    axis: int,
    dtype: np.dtype[Any],
    ignore_index: int | None = None,
    name: str = "y",
) -> Array:
    """Return int64 labels of the logits' `shape` without `axis`, or class probabilities in `dtype`.

    The kind of the result's dtype tells the two apart. `axis` is 0..ndim-1.
    Raises TypeError for floating labels, ValueError for a shape, a label or a probability.
    """
    given = widened(_to_array(y, name))
    label_shape = shape[:axis] + shape[axis + 1 :]
    if given.dtype.kind != "f" or (given.size == 0 and isinstance(y, (list, tuple))):
        # y itself, not `given`: an empty list is labels, an empty float array is not.
        return as_labels(y, label_shape, shape[axis], ignore_index, name)
    if given.shape == label_shape:
        raise TypeError(
            f"{name} has dtype {given.dtype}, expected integer labels of shape {label_shape} "
            f"or class probabilities of shape {shape}"
        )
    return as_probabilities(given, shape, dtype, name)


def as_probabilities(
    y: ArrayLike, shape: tuple[int, ...], dtype: np.dtype[Any], name: str = "y"
) -> Array:
    """Return class probabilities in `dtype`, of the logits' shape, finite and not negative.

    They need not sum to 1: any such target is a weighting of the classes.
    """
    given = as_array(y, name)
    if given.shape != shape:
        raise ValueError(
            f"{name} has shape {given.shape}, expected the shape of the logits {shape}"
        )
    return _nonnegative(given, dtype, name)


def as_labels_or_probabilities(
    y: ArrayLike, n_samples: int, n_classes: int, name: str = "y"
) -> Array:
    """Return small labels (n_samples,), or float64 probabilities (n_samples, n_classes).

    Rows of probabilities that were rounded are divided by their sums. Raises TypeError for labels
    that are no integers, ValueError for a shape, a label, a probability, or a row whose sum is not
    1 within a thousandth (half a unit of float16 in each of few classes).
    """
    given = widened(_to_array(y, name))
    if given.ndim != 2:
        return as_small_labels(y, n_samples, n_classes, name)
    probabilities = as_probabilities(given, (n_samples, n_classes), FLOAT64, name)
    sums = probabilities.sum(axis=1)
    bad = ~(np.abs(sums - 1.0) <= 1e-3)
    if bad.any():
        i = int(bad.argmax())
        raise ValueError(
            f"{name}[{i}] has the sum {sums[i]:.6g}, expected probabilities with the sum 1"
        )
    normalised: Array = probabilities / sums[:, None]
    return normalised


def as_weights(weight: ArrayLike, n: int, name: str, dtype: np.dtype[Any]) -> Array:
    """Return `n` weights as a C-contiguous array of `dtype`, finite and not negative.

    Raises TypeError for an unsupported dtype, ValueError for a shape or a weight.
    """
    given = as_array(weight, name)
    if given.shape != (n,):
        raise ValueError(f"{name} has shape {given.shape}, expected ({n},)")
    return _nonnegative(given, dtype, name)


def _nonnegative(given: Array, dtype: np.dtype[Any], name: str) -> Array:
    if given.dtype.itemsize > dtype.itemsize:
        with np.errstate(over="ignore"):  # an overflow is reported below, by name
            values = given.astype(dtype, order="C")
    else:
        values = _aligned(np.asarray(given, dtype=dtype, order="C"))
    # NaN passes through both reductions and fails both comparisons.
    if values.size and not (
        np.minimum.reduce(values, axis=None) >= 0
        and np.maximum.reduce(values, axis=None) < math.inf
    ):
        bad = ~((values >= 0) & (values < math.inf))
        raise ValueError(
            f"{name}[{_first(bad)}] is {given[bad][0]}, expected a finite {dtype} >= 0"
        )
    return values


def _first(bad: Array) -> str:
    return ", ".join(map(str, np.unravel_index(int(bad.argmax()), bad.shape)))


# ---------------------------------------------------------------- numbers


def check_reduction(reduction: str) -> None:
    """Raise ValueError unless `reduction` is "mean", "sum" or "none"."""
    if not (isinstance(reduction, str) and reduction in REDUCTIONS):
        raise ValueError(f'reduction is {reduction!r}, expected "mean", "sum" or "none"')


def check_number(value: float, name: str) -> float:
    """Return a finite real number as a float; TypeError for no number, ValueError for NaN, inf."""
    if not isinstance(value, numbers.Real):
        raise TypeError(f"{name} is a {type(value).__name__}, expected a number")
    try:
        number = float(value)
    except OverflowError:  # an int of 400 digits
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{name} is {value}, expected a finite number")
    return number


def check_learning_rate(value: float, name: str = "lr") -> float:
    """Return `value` as a float; ValueError unless it is finite and > 0."""
    number = check_number(value, name)
    if number <= 0:
        raise ValueError(f"{name} is {number}, expected a number > 0")
    return number


def check_not_negative(value: float, name: str) -> float:
    """Return `value` as a float; ValueError unless it is finite and >= 0."""
    number = check_number(value, name)
    if number < 0:
        raise ValueError(f"{name} is {number}, expected at least 0")
    return number


def check_label_smoothing(label_smoothing: float) -> float:
    """Return `label_smoothing` as a float; ValueError outside [0, 1]."""
    value = check_number(label_smoothing, "label_smoothing")
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"label_smoothing is {value}, expected a number in [0, 1]")
    return value


def check_ignore_index(ignore_index: int) -> int:
    """Return `ignore_index` as an int that fits int64."""
    value = _index(ignore_index, "ignore_index")
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"ignore_index is {value}, expected a 64-bit integer")
    return value


def check_positive(value: int, name: str) -> int:
    """Return `value` as an int >= 1.

    Raises TypeError for bool, float and the like, ValueError for 0 and less.
    """
    number = _index(value, name)
    if number <= 0:
        raise ValueError(f"{name} is {number}, expected at least 1")
    return number


def _index(value: int, name: str) -> int:
    try:
        if not isinstance(value, (bool, np.bool_)):
            return operator.index(value)
    except TypeError:
        pass
    raise TypeError(f"{name} is a {type(value).__name__}, expected an integer")


# ---------------------------------------------------------------- threads


def check_threads(n_threads: int | None) -> int:
    """Return how many threads to use; None means the CPUs that this process may use."""
    if n_threads is None:
        return usable_cpus()
    try:
        return min(check_positive(n_threads, "n_threads"), MAX_THREADS)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{error}, or None for all CPUs") from None
