"""The labels of all shards as numbers of classes, of the smallest type that holds them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.errors import DataError
from csoftmax.core.names import listed
from csoftmax.rows.base import blocks
from csoftmax.rows.shards import ShardRows

Array = NDArray[Any]
AT_ONCE = 1 << 17  # labels that are read at a time
COUNTED = 1 << 16  # integers below this are counted, as sorting takes longer


def encoded(rows: ShardRows, classes: Array | None = None) -> tuple[Array, Array]:
    """Return the classes, sorted, and each row's number among them.

    Raises ValueError where the shards have no labels, DataError for a label that is none, or not
    one of the given classes.
    """
    if classes is None:
        classes, _ = counted(rows)
    elif len(classes) > 1 and not (classes[:-1] < classes[1:]).all():
        raise ValueError("classes must be sorted, and no two the same")
    codes = np.empty(rows.n_rows, np.min_scalar_type(max(len(classes) - 1, 0)))
    is_text = classes.dtype.kind == "U"
    for start, labels in _read(rows):
        if len(labels) and (labels.dtype.kind == "U") != is_text:
            _refuse(rows, start, labels[0], classes)
        at = np.searchsorted(classes, labels)
        np.minimum(at, len(classes) - 1, out=at)
        bad = classes[at] != labels
        if bad.any():
            i = int(bad.argmax())
            _refuse(rows, start + i, labels[i], classes)
        codes[start : start + len(at)] = at
    return classes, codes


def codes(classes: Array, rows: ShardRows) -> Array:
    """Return the number of each row's label among the classes."""
    return encoded(rows, classes)[1]


def _refuse(rows: ShardRows, row: int, label: Any, classes: Array) -> None:
    names = listed([str(name) for name in classes.tolist()])
    raise DataError(f"{rows.place(row)}: the label {label!s:.60} is not one of the "
                    f"{len(classes)} classes {names}")  # fmt: skip


def counted(rows: ShardRows) -> tuple[Array, NDArray[np.int64]]:
    """Return the labels that occur, sorted, and how often."""
    found: list[tuple[Array, NDArray[np.int64]]] = []
    for start, labels in _read(rows):
        if not len(labels):
            continue
        if found and labels.dtype.kind != found[0][0].dtype.kind:
            kind = "text" if found[0][0].dtype.kind == "U" else "numbers"
            raise DataError(f"{rows.place(start)}: expected labels that are {kind}, as before, "
                            f"got {labels[0].item()!r}")  # fmt: skip
        found = [added([*found, _distinct(labels)])]
    return found[0] if found else (np.empty(0, np.int64), np.empty(0, np.int64))


def added(
    found: Sequence[tuple[Array, NDArray[np.int64]]],
) -> tuple[Array, NDArray[np.int64]]:
    """Return the labels and numbers of several `counted` together, which are of one kind."""
    labels, place = np.unique(np.concatenate([labels for labels, _ in found]), return_inverse=True)
    counts = np.zeros(len(labels), np.int64)
    np.add.at(counts, place, np.concatenate([counts for _, counts in found]))
    return labels, counts


def _distinct(labels: Array) -> tuple[Array, NDArray[np.int64]]:
    if labels.dtype.kind == "i" and labels.min() >= 0 and labels.max() < COUNTED:
        counts = np.bincount(labels)
        return np.flatnonzero(counts), counts[counts > 0]
    return np.unique(labels, return_counts=True)


def _read(rows: ShardRows) -> Iterator[tuple[int, Array]]:
    """Yield the labels as int64 or as text, with the number of the first one's row."""
    for shard, start in zip(rows.shards, rows.starts.tolist(), strict=False):
        if shard.labels is None:
            raise ValueError("the shards have no labels: say labels='lab/*.npy', or y='label' for "
                             "files with columns")  # fmt: skip
        for some in blocks(shard.n_rows, AT_ONCE):
            first = start + some.start
            yield first, _clean(rows, first, shard.labels(some.start, some.stop))


def _clean(rows: ShardRows, first: int, labels: Array) -> Array:
    kind = labels.dtype.kind
    if kind == "U":
        return labels
    if kind == "S":
        try:
            return np.char.decode(labels, "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{rows.place(first)}: labels are not UTF-8 text: {error}") from error
    if kind == "f":
        bad = ~(np.abs(labels) < 2.0**53) | (labels != np.trunc(labels))
        _refuse_first(rows, first, labels, bad)
    elif kind == "u":
        _refuse_first(rows, first, labels, labels > np.iinfo(np.int64).max)
    elif kind not in "bi":
        raise DataError(f"{rows.place(first)}: expected labels that are integers or text, got "
                        f"{labels.dtype}")  # fmt: skip
    return labels.astype(np.int64)


def _refuse_first(rows: ShardRows, first: int, labels: Array, bad: Array) -> None:
    if bad.any():
        i = int(bad.argmax())
        raise DataError(f"{rows.place(first + i)}: expected a label that is an integer of 64 bits "
                        f"or text, got {labels[i]}")  # fmt: skip
