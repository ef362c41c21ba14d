"""Shards that are .npy files, or folders with X.npy and y.npy: maps of the files."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from csoftmax.core.errors import DataError
from csoftmax.data.readers.npy import read_header
from csoftmax.data.readers.parts.files import MappedArray, Stamp, stamp_of
from csoftmax.data.readers.parts.part import Part, Wanted, check_count


def open_parts(paths: Sequence[Path], wanted: Wanted) -> Iterator[Part]:
    """Yield a part for each .npy file, or each folder with X.npy and perhaps y.npy, weight.npy."""
    wanted.refuse_columns(".npy files")
    for path in paths:
        if not path.is_dir():
            yield part_of(path.name, open_array(path))
            continue
        arrays = {
            name: open_array(path / f"{name}.npy")
            for name in ("X", "y", "weight")
            if (path / f"{name}.npy").exists()
        }
        yield part_of(path.name, **arrays)


def open_array(path: Path) -> MappedArray:
    """Return a .npy file as an array that is mapped when it is read.

    Raises DataError for a broken header, pickled objects, or a size that is not the declared one.
    """
    stamp = stamp_of(path)
    with open(path, "rb") as file:
        return declared_array(str(path), file, stamp, 0, stamp.size)


def declared_array(where: str, file: object, stamp: Stamp, begin: int, end: int) -> MappedArray:
    """Return the array that a .npy header declares, of a file that is at its byte `begin`.

    Its data must end at byte `end`.
    """
    header = read_header(where, file)  # type: ignore[arg-type]
    at = file.tell()  # type: ignore[attr-defined]
    if end - at != header.n_bytes:
        raise DataError(f"{where}: byte {at - begin}: expected {header}, got {end - at} bytes")
    order = header.shape[::-1] if header.order == "C" else header.shape
    steps = [header.dtype.itemsize * math.prod(order[:i]) for i in range(len(order))]
    strides = tuple(reversed(steps)) if header.order == "C" else tuple(steps)
    return MappedArray(stamp, at, header.shape, header.dtype, strides)


def part_of(
    name: str, X: MappedArray, y: MappedArray | None = None, weight: MappedArray | None = None
) -> Part:
    """Return the part of an array of rows, and arrays of a label and of a weight for each."""
    if len(X.shape) < 2:
        raise DataError(f"{X.stamp.path}: expected an array (n_rows, n_features) or (n_rows, "
                        f"height, width), got shape {X.shape}")  # fmt: skip
    stamps = [X.stamp]
    for array in (y, weight):
        if array is not None:
            check_vector(array, array.stamp.path)
            check_count(array.stamp.path, array.shape[0], X.stamp.path, X.shape[0])
            stamps.append(array.stamp)
    labels, weights = (None if array is None else array.read for array in (y, weight))
    return Part(
        name, X.shape[0], math.prod(X.shape[1:]), np.dtype(X.dtype), X.read, labels, weights,
        tuple(dict.fromkeys(stamps)),
    )  # fmt: skip


def check_vector(array: MappedArray, where: str) -> None:
    """Raise DataError unless an array of labels or weights has one dimension."""
    if len(array.shape) != 1:
        raise DataError(f"{where}: expected one value for each row, got shape {array.shape}")
