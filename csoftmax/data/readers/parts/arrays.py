"""Arrays of .npy files, and of .npy members of other files, that are mapped when they are read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import IO

from csoftmax.core.errors import DataError
from csoftmax.data.readers.npy import read_header
from csoftmax.data.readers.parts.files import MappedArray, Stamp, stamp_of


def open_array(path: Path) -> MappedArray:
    """Return a .npy file as an array that is mapped when it is read.

    Raises DataError for a broken header, pickled objects, or a size that is not the declared one.
    """
    stamp = stamp_of(path)
    with open(path, "rb") as file:
        return declared_array(str(path), file, stamp, 0, stamp.size)


def declared_array(where: str, file: IO[bytes], stamp: Stamp, begin: int, end: int) -> MappedArray:
    """Return the array that a .npy header declares, of a file that is at its byte `begin`.

    Its data must end at byte `end`.
    """
    header = read_header(where, file)
    at = file.tell()
    if end - at != header.n_bytes:
        raise DataError(f"{where}: byte {at - begin}: expected {header}, got {end - at} bytes")
    order = header.shape[::-1] if header.order == "C" else header.shape
    steps = [header.dtype.itemsize * math.prod(order[:i]) for i in range(len(order))]
    strides = tuple(reversed(steps)) if header.order == "C" else tuple(steps)
    return MappedArray(stamp, at, header.shape, header.dtype, strides)


def check_vector(array: MappedArray, where: str) -> None:
    """Raise DataError unless an array of labels or weights has one dimension."""
    if len(array.shape) != 1:
        raise DataError(f"{where}: expected one value for each row, got shape {array.shape}")
