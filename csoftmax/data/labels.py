"""From the features and labels of a file to a checked ``Dataset``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.checks import Stored
from csoftmax.core.errors import DataError
from csoftmax.core.names import is_integer_name
from csoftmax.core.sparse import CSR
from csoftmax.data.dataset import Dataset, is_numeric
from csoftmax.data.text import MISSING, as_number, whole_number
from csoftmax.rows.base import blocks, take

# An array of text is as wide as its longest label: one very long label would cost much memory.
_MAX_LABEL = 1000
_BLOCK_VALUES = 1 << 20


def make_dataset(
    where: str,
    X: Stored,
    labels: NDArray[Any],
    *,
    class_names: Sequence[str] | None = None,
    locate: Callable[[int], str] = "sample {}".format,
    labels_where: str | None = None,
    name: str = "",
    feature_names: Sequence[str] = (),
    checked: bool = False,
) -> Dataset:
    """Check what a file held and encode its labels; uint8 features get the scale 1/255.

    ``where`` and ``labels_where`` name the source of X and of the labels in messages; ``locate``
    turns the index of a sample into its place there. With ``checked`` X is known to be right.
    Sparse bytes are counts, and get the scale 1.
    """
    if not checked:
        check_features(where, X)
    labels_where = labels_where or where
    values = _clean_labels(labels_where, labels, locate)
    if len(values) != len(X):
        raise DataError(f"{labels_where}: expected {len(X)} labels, one per sample of X in "
                        f"{where}, got {len(values)}")  # fmt: skip
    y, names = _encode(labels_where, values, class_names, locate)
    is_pixels = X.dtype == np.uint8 and not isinstance(X, CSR)  # sparse bytes are counts
    scale = 1 / 255 if is_pixels else 1.0
    known = feature_names if isinstance(feature_names, tuple) else tuple(feature_names)
    return Dataset(X, y, scale, names, name, known)


def check_features(where: str, X: Stored) -> None:
    """Raise DataError unless X is (n_samples, ...), numeric, finite and not empty.

    Finiteness is checked block by block, so that a memory-mapped file is read, never copied.
    """
    if not is_numeric(X.dtype):
        raise DataError(f"{where}: expected booleans, integers or floats of at most 64 bits, "
                        f"got dtype {X.dtype}")  # fmt: skip
    if X.ndim < 2:
        raise DataError(f"{where}: expected an array (n_samples, n_features) or (n_samples, "
                        f"height, width), got shape {X.shape}")  # fmt: skip
    if 0 in X.shape:
        raise DataError(f"{where}: expected at least one sample and one feature, got {X.shape}")
    if isinstance(X, CSR):
        X.check_finite(f"{where}: X", DataError)
        return
    if X.dtype.kind != "f":
        return
    for rows in blocks(len(X), _BLOCK_VALUES // math.prod(X.shape[1:])):
        finite = np.isfinite(take(X, rows))
        if not finite.all():
            at = np.argwhere(~finite)[0]
            at[0] += rows.start
            place = ", ".join(map(str, at))
            raise DataError(f"{where}: expected finite numbers, got {X[tuple(at)]} at [{place}]")


def labels_from_text(
    where: str,
    texts: Sequence[str],
    locate: Callable[[int], str],
    *,
    as_text: bool = False,
    drop: bool = False,
    decimal: str = ".",
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the labels of a table, and for each row whether it has one.

    The labels are integers if each is written as an integer (3) or as a float without fraction
    (3.0), and if no two different texts mean the same integer. Otherwise they are text. A label is
    missing where the cell is empty and, if all other labels are numbers, where the cell holds one
    of MISSING. Missing labels are refused unless ``drop`` is true.
    """
    stripped = [text.strip() for text in texts]
    distinct = set(stripped)
    named = distinct - set(MISSING)
    numbers = {text: as_number(text, decimal) for text in named}
    all_numbers = bool(named) and not as_text and None not in numbers.values()
    absent = set(MISSING) if all_numbers else {""}
    refused = set() if drop else distinct & absent
    refused |= {text for text in distinct if len(text) > _MAX_LABEL}
    if all_numbers:
        refused |= {text for text in named if not float(numbers[text] or 0).is_integer()}
    if refused:
        i = next(i for i, text in enumerate(stripped) if text in refused)
        _refuse_label(f"{where}: {locate(i)}", stripped[i], stripped[i] in absent)
    present = np.array([text not in absent for text in stripped], np.bool_)
    kept = [text for text in stripped if text not in absent]
    codes = {} if as_text else {text: _integer(text) for text in distinct - absent}
    values = set(codes.values())
    if codes and None not in values and len(values) == len(codes):
        return np.array([codes[text] for text in kept], np.int64), present
    return np.array(kept, np.str_), present


def _integer(text: str) -> int | None:
    """Return what is written as an integer of 64 bits, or as a float like 2.0, or None."""
    number = whole_number(text.removesuffix(".0"))
    return None if number is None or abs(number) >= 2**63 else number


def _refuse_label(place: str, text: str, is_absent: bool) -> None:
    if len(text) > _MAX_LABEL:
        raise DataError(f"{place}: expected a label, got {len(text)} characters")
    if is_absent:
        got = repr(text) if text else "an empty cell"
        raise DataError(f"{place}: expected a label, got {got}; say missing='drop' to leave such "
                        "rows out")  # fmt: skip
    raise DataError(f"{place}: expected an integer label or a class name, got {text}; say "
                    "labels='text' if these numbers are names")  # fmt: skip


def _clean_labels(
    where: str, labels: NDArray[Any], locate: Callable[[int], str]
) -> NDArray[np.int64] | NDArray[np.str_]:
    """Return booleans, integers, floats or strings as int64 or as strings, one per sample."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise DataError(f"{where}: expected labels of shape (n_samples,), got {labels.shape}")
    kind = labels.dtype.kind
    if kind == "f":
        bad = ~(np.isfinite(labels) & (np.abs(labels) < 2.0**53) & (labels == np.trunc(labels)))
        if bad.any():
            i = int(bad.argmax())
            raise DataError(f"{where}: {locate(i)}: expected an integer label or a class name, "
                            f"got {labels[i]}")  # fmt: skip
    elif kind == "u" and labels.size and labels.max() > np.iinfo(np.int64).max:
        i = int(labels.argmax())
        raise DataError(f"{where}: {locate(i)}: label {labels[i]} does not fit 64-bit integers")
    elif kind == "S":
        try:
            return np.char.decode(labels, "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{where}: labels are not UTF-8 text: {error}") from error
    elif kind == "U":
        return labels
    return np.ascontiguousarray(labels, np.int64)


def _encode(
    where: str,
    values: NDArray[Any],
    class_names: Sequence[str] | None,
    locate: Callable[[int], str],
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return labels 0..n_classes-1 and the name of each class.

    Without class_names the distinct values are the classes, in sorted order (integers by value).
    With them each value is looked up by name; where no name is an integer, integers are
    positions.
    """
    classes, codes = np.unique(values, return_inverse=True)
    names = tuple(str(value) for value in classes)
    codes = codes.reshape(-1).astype(np.int64, copy=False)
    if class_names is None:
        if len(classes) < 2:
            raise DataError(f"{where}: expected at least two classes, got only {names[0]!r}")
        return codes, names
    given = tuple(str(name) for name in class_names)
    positions = {name: k for k, name in enumerate(given)}
    if classes.dtype.kind == "i" and not any(map(is_integer_name, given)):
        positions = {str(k): k for k in range(len(given))}
    unknown = [c for c, name in enumerate(names) if name not in positions]
    if unknown:
        i = int(np.isin(codes, unknown).argmax())
        known = ", ".join(given[:10]) + (", ..." if len(given) > 10 else "")
        raise DataError(f"{where}: {locate(i)}: class {str(values[i])!r} is not one of the "
                        f"{len(given)} known classes: {known}")  # fmt: skip
    table = np.array([positions[name] for name in names], np.int64)
    return table[codes], given
