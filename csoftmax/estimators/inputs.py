"""What an estimator is given, checked: samples, classes, settings, memory."""

from __future__ import annotations

import math
import numbers
import os
import re
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import assert_all_finite
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_y,
    _num_samples,
    check_consistent_length,
    validate_data,
)

from csoftmax.core.checks import (
    Stored,
    as_labels_or_probabilities,
    check_number,
    check_positive,
    check_threads,
    widened,
)
from csoftmax.core.cpus import MAX_THREADS
from csoftmax.core.sparse import CSR, as_csr, is_sparse
from csoftmax.rows.base import blocks
from csoftmax.rows.memory import mapped
from csoftmax.solver.stopping import check_tol

Array = NDArray[Any]
Labels = NDArray[np.int64]
# The kernels read these as they are; anything else numeric becomes the first of them.
FEATURE_DTYPES = [np.float64, np.float32, np.float16, np.uint8]
FINITE_BYTES = 1 << 22  # of X that are looked through at a time
LABELS_AT_ONCE = 1 << 17
SOLVERS = ("auto", "lbfgs", "newton-cd", "sgd")
_BYTES = {"": 1, "B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
          "KIB": 2.0**10, "MIB": 2.0**20, "GIB": 2.0**30, "TIB": 2.0**40}  # fmt: skip


class MemoryBudgetError(ValueError, MemoryError):
    """A fit needs more memory than `max_memory` allows; it did not start.

    Examples
    --------
    >>> from csoftmax.estimators import MemoryBudgetError
    >>> issubclass(MemoryBudgetError, MemoryError)
    True
    """


class TrainingSet(NamedTuple):
    """Checked samples: X as stored, the classes, and each sample's small index into them.

    Where the targets are probabilities, y has a row of them for each sample, a column a class.
    """

    X: Stored
    classes: Array
    y: Array


# ---- samples and classes -----------------------------------------------------------------------


def features(estimator: Any, X: Any, *, reset: bool = False) -> Stored:
    """Return X as the kernels read it, checked against what the estimator was fitted on."""
    if is_sparse(X):
        return _sparse_features(estimator, X, reset)
    checked: Array = validate_data(
        estimator, _table(X), reset=reset, dtype=FEATURE_DTYPES, accept_sparse=False,
        ensure_all_finite=False,
    )  # fmt: skip
    _check_finite(checked)
    return checked


def _check_finite(X: Array) -> None:
    """Refuse what is not finite, block by block: scikit-learn would make an array of X's size."""
    if X.dtype.kind == "f":
        for some in blocks(len(X), FINITE_BYTES // max(1, X[:1].nbytes)):
            assert_all_finite(X[some], input_name="X")


def _sparse_features(estimator: Any, X: Any, reset: bool) -> CSR:
    """Do for sparse rows what scikit-learn's checks do, without the copies that they make."""
    validate_data(estimator, X, reset=reset, skip_check_array=True)  # names, number of features
    rows = as_csr(X)
    for size, what in zip(rows.shape, ("sample", "feature"), strict=True):
        if not size:
            raise ValueError(
                f"Found array with 0 {what}(s) (shape={rows.shape}) while a minimum of 1 is "
                f"required by {type(estimator).__name__}."
            )
    rows.check_finite()
    return rows


def _samples(
    estimator: Any, X: Any, y: Any, reset: bool = True, finite_later: bool = False
) -> tuple[Stored, Array]:
    """Return checked X and y, as many of one as of the other."""
    if not is_sparse(X):
        X, y = validate_data(
            estimator, _table(X), y, reset=reset, dtype=FEATURE_DTYPES, accept_sparse=False,
            ensure_all_finite=False,
        )  # fmt: skip
        if not (finite_later and mapped(X) is not None):
            _check_finite(X)
        return X, y
    if y is None:
        validate_data(estimator, X, None, skip_check_array=True)  # says that it is required
    rows, y = _sparse_features(estimator, X, reset), _check_y(y, estimator=estimator)
    check_consistent_length(rows, y)
    return rows, y


def training_set(
    estimator: Any, X: Any, y: Any, *, soft: bool = False, finite_later: bool = False
) -> TrainingSet:
    """Return checked samples; the estimator learns the number and the names of the features.

    With `soft`, y may be probabilities; the classes are then 0, 1, ... With `finite_later`, a
    mapped file is not read here to see whether it is finite: the solver's first pass tells.
    """
    target = probabilities_in(y) if soft else None
    if target is not None:
        classes = np.arange(target.shape[1])
        X = features(estimator, X, reset=True)
        return TrainingSet(X, classes, checked_probabilities(target, X, classes, "y"))
    X, y = _samples(estimator, X, y, finite_later=finite_later)
    _check_targets(y)
    found = [np.unique(y[some]) for some in blocks(len(y), LABELS_AT_ONCE)]
    classes = found[0] if len(found) == 1 else np.unique(np.concatenate(found))
    if len(classes) < 2:
        raise ValueError(f"y has only one class, {classes.tolist()[0]!r}; expected at least two")
    return TrainingSet(X, classes, _numbered(y, classes))


def more_samples(
    estimator: Any, X: Any, y: Any, classes: Array, name: str, *, reset: bool = False
) -> TrainingSet:
    """Return checked samples whose classes, and unless `reset` features, are known already."""
    target = probabilities_in(y)
    if target is not None:
        X = features(estimator, X, reset=reset)
        return TrainingSet(X, classes, checked_probabilities(target, X, classes, name))
    X, y = _samples(estimator, X, y, reset)
    _check_targets(y)
    of_blocks = [np.setdiff1d(y[some], classes) for some in blocks(len(y), LABELS_AT_ONCE)]
    unknown = np.unique(np.concatenate(of_blocks))
    if len(unknown):
        raise ValueError(
            f"{name} has the label {unknown.tolist()[0]!r}, expected one of the classes "
            f"{listed(classes)}"
        )
    return TrainingSet(X, classes, _numbered(y, classes))


def _check_targets(y: Array) -> None:
    """Refuse labels that are no classes; of integers and texts, a part tells what all are.

    scikit-learn sorts a copy of what it looks at.
    """
    check_classification_targets(y[:LABELS_AT_ONCE] if y.dtype.kind in "biuU" else y)


def _numbered(y: Array, classes: Array) -> Array:
    """Return the number of each label in the sorted classes, of the smallest type."""
    numbers = np.empty(len(y), np.min_scalar_type(len(classes) - 1))
    for some in blocks(len(y), LABELS_AT_ONCE):  # of each block they are int64 for a while
        numbers[some] = np.searchsorted(classes, y[some])
    return numbers


def probabilities_in(y: Any) -> Array | None:
    """Return y as an array if it has several numbers for each sample; None if it has labels."""
    if isinstance(y, (list, tuple)) and not (len(y) and np.iterable(y[0])):
        return None  # labels, which need not become an array twice
    try:
        array = widened(np.asarray(y))
    except ValueError:  # ragged: for the check of labels to tell
        return None
    return array if array.ndim == 2 and array.shape[1] > 1 and array.dtype.kind in "biuf" else None


def checked_probabilities(target: Array, X: Any, classes: Array, name: str) -> Array:
    """Return probabilities in float64, a row for each sample and a column for each class."""
    if len(target) != _num_samples(X):
        raise ValueError(f"{name} has {len(target)} rows but X has {_num_samples(X)} samples")
    if target.shape[1] != len(classes):
        raise ValueError(
            f"{name} has {target.shape[1]} columns, expected one for each of the "
            f"{len(classes)} classes {listed(classes)}"
        )
    return as_labels_or_probabilities(target, len(target), len(classes), name)


def most_probable(y: Array) -> Labels:
    """Return labels as they are, and the most probable class of rows of probabilities."""
    return y if y.ndim == 1 else y.argmax(axis=1)


def is_dask(X: Any) -> bool:
    """Is this a collection of Dask?"""
    return type(X).__module__.partition(".")[0] in ("dask", "dask_expr")


def _table(X: Any) -> Any:
    """Return X as scikit-learn's checks are to see it; images and Dask collections are refused.

    They would make bool, int8 and bfloat16 float64: bool is read as bytes, the others as float32.
    """
    if is_dask(X):
        raise TypeError(
            "X is a collection of Dask, which would be fetched into this process: "
            "the estimators of csoftmax.dask fit and predict where it is, X.compute() fetches it"
        )
    if _fits_float32(X):
        X = np.asarray(X).astype(np.float32)
    if not isinstance(X, np.ndarray):
        return X
    if X.ndim > 2:
        raise ValueError(
            f"X has shape {X.shape}, expected (n_samples, n_features); X.reshape(len(X), -1) has it"
        )
    return X.view(np.uint8) if X.dtype == np.bool_ else X


def _fits_float32(X: Any) -> bool:
    """Say whether X is an array of int8, or of bfloat16, which other packages give to NumPy."""
    dtype = getattr(X, "dtype", None)
    if getattr(dtype, "kind", "f") not in "iV":  # numbers of NumPy, whose names take time
        return False
    return getattr(dtype, "name", None) in ("bfloat16", "int8")


def listed(classes: Array) -> str:
    """Return classes as a message shows them: the first six."""
    shown = ", ".join(map(repr, classes[:6].tolist()))
    return shown + (f", ... ({len(classes)} in all)" if len(classes) > 6 else "")


# ---- settings ----------------------------------------------------------------------------------


def check_C(C: Any, name: str = "C") -> None:
    """Refuse anything but a number > 0; inf is no penalty."""
    if not isinstance(C, numbers.Real) or isinstance(C, bool):
        raise TypeError(f"{name} is {C!r}, expected a number > 0")
    if not float(C) > 0:
        raise ValueError(f"{name} is {C}, expected a number > 0 (inf for no penalty)")


def check_l1_ratio(l1_ratio: Any, name: str) -> None:
    if not 0 <= check_number(l1_ratio, name) <= 1:
        raise ValueError(f"{name} is {l1_ratio}, expected a number from 0 to 1")


def check_solver(solver: Any, l1_ratio: float) -> None:
    """Refuse an unknown solver, and one that cannot minimise with or without L1."""
    if solver not in SOLVERS:
        raise ValueError(f"solver is {solver!r}, expected one of {', '.join(map(repr, SOLVERS))}")
    if solver == ("lbfgs" if l1_ratio else "newton-cd"):
        suits = '"auto", "newton-cd" or "sgd"' if l1_ratio else '"auto", "lbfgs" or "sgd"'
        penalty = "with L1" if l1_ratio else "without L1 (l1_ratio is 0, or C is inf)"
        raise ValueError(f"solver is {solver!r}, expected {suits} {penalty}")


def number_of(tol: float | str) -> float:
    """Return tol as a number, for what knows nothing of "sampling": the default then."""
    return 1e-4 if isinstance(tol, str) else float(tol)


def check_flag(value: Any, name: str) -> None:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {value!r}, expected True or False")


def threads(n_threads: int | None) -> int:
    """Return how many threads to use; None also heeds what joblib tells its worker processes."""
    if n_threads is not None:
        return check_threads(n_threads)
    told = os.environ.get("OMP_NUM_THREADS", "")
    return min(check_threads(None), int(told) if told.isdecimal() and int(told) else MAX_THREADS)


def check_common_parameters(estimator: Any) -> None:
    """Check the settings that both estimators have."""
    check_tol(estimator.tol)
    check_flag(estimator.fit_intercept, "fit_intercept")
    if not isinstance(estimator.max_iter, numbers.Integral) or isinstance(estimator.max_iter, bool):
        check_positive(estimator.max_iter, "max_iter")
    if estimator.max_iter < 0:
        raise ValueError(f"max_iter is {estimator.max_iter}, expected at least 0")
    threads(estimator.n_threads)
    as_bytes(estimator.max_memory)
    if not isinstance(estimator.verbose, numbers.Integral) or estimator.verbose < 0:
        raise ValueError(f"verbose is {estimator.verbose!r}, expected 0 or more")


# ---- memory ------------------------------------------------------------------------------------


def as_bytes(max_memory: Any) -> float:
    """Return a budget in bytes; None is no limit.

    >>> as_bytes("1.5 GB"), as_bytes("64 MiB"), as_bytes(10**6), as_bytes(None)
    (1500000000.0, 67108864.0, 1000000.0, inf)
    """
    if max_memory is None:
        return math.inf
    if isinstance(max_memory, str):
        match = re.fullmatch(r"\s*([0-9.]+(?:[eE]\+?[0-9]+)?)\s*([A-Za-z]*)\s*", max_memory)
        try:
            if match is not None:
                return float(match[1]) * _BYTES[match[2].upper()]
        except (KeyError, ValueError):
            pass
    elif not isinstance(max_memory, bool) and isinstance(max_memory, numbers.Real):
        n_bytes = float(max_memory)
        if n_bytes > 0:
            return n_bytes
    raise ValueError(
        f'max_memory is {max_memory!r}, expected bytes > 0, a string such as "2 GB", or None'
    )


def conversion_bytes(X: Any) -> int:
    """Return how much memory the copy of X takes that the checks must make, 0 for none."""
    if is_sparse(X):
        is_read = isinstance(X, CSR) or (
            getattr(X, "format", "") == "csr" and X.dtype in (*FEATURE_DTYPES, np.bool_)
        )
        return 0 if is_read else 16 * _n_entries(X)
    if _fits_float32(X):
        return 4 * int(math.prod(X.shape))
    if isinstance(X, np.ndarray):
        readable = X.dtype == np.bool_ or X.dtype in FEATURE_DTYPES
        return 0 if readable and X.dtype.isnative else 8 * X.size
    shape = getattr(X, "shape", ())
    return 8 * math.prod(shape) if len(shape) == 2 else 0


def _n_entries(X: Any) -> int:
    n_entries = getattr(X, "nnz", None)  # a table of pandas has them column by column
    if n_entries is None:
        n_entries = sum(X.iloc[:, j].sparse.npoints for j in range(X.shape[1]))
    return int(n_entries)


def in_rows(X: Stored, budget: float) -> Stored:
    """Return X with each row in one piece, which makes a pass twice as fast, if memory allows.

    A column-major array is copied once; one mapped from a file stays there.
    """
    if isinstance(X, CSR):
        return X
    if X.strides[1] == X.itemsize or X.shape[1] == 1 or X.nbytes > budget or mapped(X) is not None:
        return X
    return np.ascontiguousarray(X)


def in_units(n_bytes: float) -> str:
    """Return a number of bytes as people write it.

    >>> in_units(1_234_567), in_units(999), in_units(2.5e9)
    ('1.23 MB', '999 B', '2.5 GB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} B" if unit == "B" else f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"
