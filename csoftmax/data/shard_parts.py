"""Parts of shards as they are wanted: rows of one type, with labels and weights beside them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from csoftmax.core.checks import Stored, as_array
from csoftmax.core.errors import DataError
from csoftmax.core.names import listed
from csoftmax.core.sparse import CSR
from csoftmax.data.readers.parts.files import Stamp
from csoftmax.data.readers.parts.formats import find, open_vectors
from csoftmax.data.readers.parts.part import Column, Part, Read, check_count

Array = NDArray[Any]
DTYPES = tuple(map(np.dtype, (np.uint8, np.float16, np.float32, np.float64)))


def checked_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """Return the type to convert to, in native byte order; raise ValueError for another one."""
    as_dtype: np.dtype[Any] = np.dtype(dtype)
    if as_dtype not in DTYPES:
        raise ValueError(f"dtype is {as_dtype}, expected {', '.join(d.name for d in DTYPES)}")
    native: np.dtype[Any] = as_dtype.newbyteorder("=")
    return native


def readable(s: int, part: Part, dtype: np.dtype[Any] | None) -> Part:
    """Return a part whose rows have a type that passes read, or raise."""
    where = f"shard {s} ({part.name})"
    if part.n_features == 0:
        raise DataError(f"{where}: expected at least one feature, got none")
    if part.dtype.kind not in "biuf" or part.dtype.itemsize > 8:
        raise DataError(f"{where}: expected booleans, integers or floats of at most 64 bits, got "
                        f"{part.dtype}")  # fmt: skip
    if dtype is None:
        dtype = np.dtype(np.uint8) if part.dtype == np.bool_ else part.dtype
        if dtype not in DTYPES or not dtype.isnative:
            wide = "float32" if part.dtype.itemsize <= 2 else "float64"
            raise DataError(
                f"{where}: {part.kind} would be converted to {wide} in each pass: say "
                f'dtype="{wide}" to allow it, or store {", ".join(d.name for d in DTYPES)}'
            )
    if dtype == part.dtype and part.dtype.isnative:
        return part
    if part.is_sparse and dtype.name not in ("float32", "float64"):
        raise ValueError(f"dtype is {dtype}, expected float32 or float64 for sparse rows ({where})")
    read = partial(_converted, where, part.read, dtype)
    return replace(part, dtype=dtype, read=read, pieces=None, gives_views=False)


def of_width(part: Part, width: int) -> Part:
    """Return a part without rows as one of so many features: no list tells how many it has."""
    return replace(part, n_features=width, read=partial(_no_rows, width, part.dtype))


def _no_rows(n_features: int, dtype: np.dtype[Any], start: int, stop: int) -> Array:
    return np.empty((0, n_features), dtype)


def _converted(where: str, read: Read, dtype: np.dtype[Any], start: int, stop: int) -> Stored:
    rows = read(start, stop)
    if isinstance(rows, CSR):
        return rows.times(1.0, dtype)
    if rows.dtype == np.bool_:
        return rows.view(np.uint8).astype(dtype, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):  # told below, or as not finite by the pass
        converted: Array = rows.astype(dtype)
    if dtype == np.uint8:
        bad = converted != rows
        if bad.any():
            i, j = (int(at[0]) for at in np.nonzero(bad))
            raise DataError(f"{where}: row {start + i}: feature {j} is {rows[i, j]}, expected an "
                            "integer 0..255 for dtype=uint8")  # fmt: skip
    return converted


def check_same(parts: Sequence[Part]) -> None:
    """Raise DataError for a part of another type or width than the first one."""
    first = parts[0]
    for s, part in enumerate(parts):
        if part.feature_names != first.feature_names and first.feature_names:
            _refuse_columns(f"shard {s} ({part.name})", part.feature_names, first.feature_names)
        if part.kind != first.kind:
            raise DataError(f"shard {s} ({part.name}): {part.kind}, expected "
                            f"{first.kind.removesuffix(' features')} as in shard 0")  # fmt: skip
        for name in ("labels", "weights"):
            if (getattr(part, name) is None) != (getattr(first, name) is None):
                has, lacks = ("no", "has them") if getattr(part, name) is None else ("has", "none")
                raise DataError(f"shard {s} ({part.name}): {has} {name}, but shard 0 {lacks}")


def _refuse_columns(where: str, names: tuple[str, ...], expected: tuple[str, ...]) -> None:
    """Raise DataError for columns that are not those of the first shard in the same order."""
    lacking = [name for name in expected if name not in names]
    more = [name for name in names if name not in expected]
    if lacking:
        problem = f"there is no column {lacking[0]!r}, which shard 0 has"
    elif more:
        problem = f"there is a column {more[0]!r}, which shard 0 has not"
    else:
        problem = f"its columns are {listed(names)}, expected {listed(expected)} as in shard 0"
    raise DataError(f"{where}: {problem}: X=[...] says which to read, in which order")


def with_column(parts: Sequence[Part], name: str, given: Any) -> list[Part]:
    """Return parts with labels or weights of files, or of an array in memory."""
    counts = [part.n_rows for part in parts]
    is_paths = isinstance(given, (str, os.PathLike)) or (
        isinstance(given, (list, tuple)) and given and isinstance(given[0], (str, os.PathLike))
    )
    columns: list[Column]
    if not is_paths:
        array = np.asarray(given) if name == "labels" else as_array(given, name)
        if array.shape != (sum(counts),):
            raise ValueError(f"{name} has shape {array.shape}, expected ({sum(counts)},), one "
                             "for each row")  # fmt: skip
        columns = [_of_array(some) for some in np.split(array, np.cumsum(counts)[:-1])]
        return [_with(part, name, column, ()) for part, column in zip(parts, columns, strict=True)]
    vectors = open_vectors(find(given, name), name)
    if len(vectors) == 1 < len(parts):
        (vector,) = vectors
        check_count(vector.stamp.path, vector.shape[0], "all shards", sum(counts))
        starts = np.cumsum([0, *counts]).tolist()
        columns = [partial(_shifted, vector.read, start) for start in starts[:-1]]
        stamps = [vector.stamp] * len(parts)
    else:
        if len(vectors) != len(parts):
            raise DataError(f"{name}: {len(vectors)} files match {given!r}, expected "
                            f"{len(parts)}, one for each shard")  # fmt: skip
        for s, (part, vector) in enumerate(zip(parts, vectors, strict=True)):
            check_count(vector.stamp.path, vector.shape[0], f"shard {s} ({part.name})", part.n_rows)
        columns, stamps = [v.read for v in vectors], [v.stamp for v in vectors]
    return [
        _with(part, name, column, (stamp,))
        for part, column, stamp in zip(parts, columns, stamps, strict=True)
    ]


def _with(part: Part, name: str, column: Column, stamps: tuple[Stamp, ...]) -> Part:
    stamps = (*part.stamps, *stamps)
    if name == "labels":
        return replace(part, labels=column, stamps=stamps)
    return replace(part, weights=column, stamps=stamps)


def _of_array(array: Array) -> Callable[[int, int], Array]:
    return partial(_cut, np.ascontiguousarray(array))


def is_of_array(column: Column | None) -> bool:
    """Is this a column of an array in memory?"""
    return getattr(column, "func", None) is _cut


def _cut(array: Array, start: int, stop: int) -> Array:
    return array[start:stop]


def _shifted(read: Column, by: int, start: int, stop: int) -> Array:
    return read(by + start, by + stop)
