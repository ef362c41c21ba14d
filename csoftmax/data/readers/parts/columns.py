"""Columns of Arrow and Parquet as arrays of NumPy: in the same memory where they can be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.errors import DataError
from csoftmax.core.names import listed
from csoftmax.data.readers.parts.files import Stamp
from csoftmax.data.readers.parts.part import Wanted

Array = NDArray[Any]


def pyarrow() -> Any:
    """Return the package, or raise ImportError that says how to install it."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        if error.name != "pyarrow":
            raise
        raise ImportError("files of Arrow and Parquet need pyarrow: pip install 'csoftmax[arrow]'"
                          ) from error  # fmt: skip
    return pyarrow


@contextmanager
def broken_file(path: str) -> Iterator[None]:
    """Raise DataError with the file's name for what pyarrow says of it."""
    try:
        yield
    except DataError:
        raise
    except (pyarrow().lib.ArrowException, OSError, ValueError, OverflowError) as error:
        # of a broken file some messages are pages long
        raise DataError(f"{path}: {str(error).strip().partition(chr(10))[0]:.300}") from error


class Columns(NamedTuple):
    """Which columns of a file have what."""

    X: tuple[str, ...]  # one of rows, or one for each feature
    y: str | None
    weight: str | None
    is_wide: bool  # is each column a feature?


_names: dict[tuple[str, ...], tuple[str, ...]] = {}


def choose(path: str, schema: Any, wanted: Wanted) -> Columns:
    """Return the columns that are asked for.

    Without X it is the only column of lists or bytes, or else all columns of numbers but y and
    weight.
    """
    kinds = {field.name: storage(field.type) for field in schema}
    for argument in ("y", "weight"):
        name = getattr(wanted, argument)
        if name is not None and name not in kinds:
            raise DataError(f"{path}: there is no column {name!r} for {argument}: it has "
                            f"{listed(list(kinds))}")  # fmt: skip
    names: tuple[str, ...]
    if isinstance(wanted.X, str):
        names = (wanted.X,)
    elif wanted.X is not None:
        names = wanted.X
    else:
        names = _default_columns(path, kinds, wanted)
    missing = [name for name in names if name not in kinds]
    if missing:
        raise DataError(f"{path}: there is no column {missing[0]!r} for X: it has "
                        f"{listed(list(kinds))}")  # fmt: skip
    is_wide = not isinstance(wanted.X, str) and not _holds_rows(kinds[names[0]])
    for name in names:
        kind = kinds[name]
        if not (is_number(kind) if is_wide else _holds_rows(kind)):
            expected = "numbers" if is_wide else "lists of numbers, or bytes"
            raise DataError(f"{path}: column {name!r} is {kind!s:.60}, expected {expected}")
    if len(names) > 1 and not is_wide:
        raise DataError(f"{path}: X is {len(names)} columns, of which {names[0]!r} has "
                        f"{kinds[names[0]]!s:.60}: expected numbers")  # fmt: skip
    # one tuple for all shards: it is pickled once
    return Columns(_names.setdefault(names, names), wanted.y, wanted.weight, is_wide)


def _default_columns(path: str, kinds: dict[str, Any], wanted: Wanted) -> tuple[str, ...]:
    others = {name: kind for name, kind in kinds.items() if name not in (wanted.y, wanted.weight)}
    of_rows = tuple(name for name, kind in others.items() if _holds_rows(kind))
    numbers = tuple(name for name, kind in others.items() if is_number(kind))
    if len(of_rows) == 1:
        return of_rows
    if of_rows or not numbers or wanted.y is None:
        raise DataError(f"{path}: say which columns are the features, as X='embedding' or "
                        f"X=['a', 'b']: it has {listed(list(kinds))}")  # fmt: skip
    return numbers


def storage(kind: Any) -> Any:
    """Return the type that an extension type is stored as."""
    return getattr(kind, "storage_type", kind)


def is_number(kind: Any) -> bool:
    types = pyarrow().types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def _is_list(kind: Any) -> bool:
    types = pyarrow().types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _is_bytes(kind: Any) -> bool:
    types = pyarrow().types
    return bool(types.is_fixed_size_binary(kind) or types.is_binary(kind)
                or types.is_large_binary(kind))  # fmt: skip


def _holds_rows(kind: Any) -> bool:
    if _is_list(kind):
        inner = storage(kind.value_type)
        return is_number(inner) or _is_list(inner)
    return _is_bytes(kind)


# ---- from a column to an array -----------------------------------------------------------------


def rows_of(batch: Any, columns: Columns, where: str, first: int, dtype: Any) -> Array:
    """Return the features of a record batch, (n_rows, n_features).

    `first` is the number of its first row in the file, for messages; `dtype` is what bytes are.
    """
    found = [batch.column(batch.schema.get_field_index(name)) for name in columns.X]
    if not columns.is_wide:
        values, width = _flat(found[0], f"{where}: column {columns.X[0]!r}", first, dtype)
        return values.reshape(batch.num_rows, width)
    arrays = [
        vector_of(column, f"{where}: column {name!r}", first)
        for column, name in zip(found, columns.X, strict=True)
    ]
    if dtype is None:
        for array, name in zip(arrays, columns.X, strict=True):
            if array.dtype != arrays[0].dtype:
                raise DataError(
                    f"{where}: column {name!r} is {array.dtype}, expected {arrays[0].dtype} as "
                    f"column {columns.X[0]!r}: say dtype='float32' to convert all of them"
                )
    rows: Array = np.empty((batch.num_rows, len(arrays)), np.result_type(*arrays))
    for j, array in enumerate(arrays):
        rows[:, j] = array
    return rows


def declared(schema: Any, columns: Columns, where: str, dtype: Any) -> tuple[np.dtype[Any], int]:
    """Return the type of the features, and how many there are: 0 where only the rows tell."""
    pa = pyarrow()
    empty = [pa.array([], field.type) for field in schema]
    rows = rows_of(pa.RecordBatch.from_arrays(empty, schema=schema), columns, where, 0, dtype)
    return rows.dtype, rows.shape[1]


def vector_of(column: Any, where: str, first: int) -> Array:
    """Return a column of numbers or texts, (n_rows,); raise DataError for a null."""
    column = getattr(column, "storage", column)
    _refuse_null(column, where, first, 1)
    types, kind = pyarrow().types, column.type
    if types.is_dictionary(kind):
        values = vector_of(column.dictionary, where, 0)
        numbers = vector_of(column.indices, where, first)
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(values):
            raise DataError(f"{where}: expected numbers of {len(values)} values, got "
                            f"{numbers.min()} to {numbers.max()}")  # fmt: skip
        return values[numbers]
    if is_number(kind):
        array: Array = column.to_numpy(zero_copy_only=False)
        return array
    if types.is_string(kind) or types.is_large_string(kind):
        return np.array(column.to_pylist(), np.str_)
    raise DataError(f"{where} is {kind!s:.60}, expected numbers or text")


def _flat(column: Any, where: str, first: int, dtype: Any) -> tuple[Array, int]:
    """Return the values of rows, one after the other, and how many a row has."""
    n, per_row = len(column), 1
    while True:
        column = getattr(column, "storage", column)
        kind = column.type
        _refuse_null(column, where, first, per_row)
        if _is_bytes(kind):
            values, width = _bytes(column, where, first, per_row)
            return _as_dtype(values, width, where, dtype), per_row * width // dtype_size(dtype)
        if not _is_list(kind):
            break
        width = _width(column, kind, where, first, per_row)
        begin = _begin(column, kind)
        column = column.values.slice(begin, len(column) * width)
        per_row *= width
    if len(column) != n * per_row:
        raise DataError(f"{where}: expected {n * per_row} values, got {len(column)}")
    return vector_of(column, where, first), per_row


def dtype_size(dtype: Any) -> int:
    return 1 if dtype is None else int(np.dtype(dtype).itemsize)


def _as_dtype(values: Array, width: int, where: str, dtype: Any) -> Array:
    if dtype is None:
        return values
    if width % dtype_size(dtype):
        raise DataError(f"{where}: {width} bytes a row are no whole number of {dtype}")
    return values.view(dtype)


def _begin(column: Any, kind: Any) -> int:
    if pyarrow().types.is_fixed_size_list(kind):
        return int(column.offset) * int(kind.list_size)
    return int(column.offsets[0].as_py()) if len(column) else 0


def _width(column: Any, kind: Any, where: str, first: int, per_row: int) -> int:
    """Return how many values each list has; raise DataError where they differ."""
    if pyarrow().types.is_fixed_size_list(kind):
        return int(kind.list_size)
    return _even(column.offsets.to_numpy(), len(column.values), where, first, per_row)


def _bytes(column: Any, where: str, first: int, per_row: int) -> tuple[Array, int]:
    kind, n = column.type, len(column)
    if pyarrow().types.is_fixed_size_binary(kind):
        width, begin, data = kind.byte_width, column.offset * kind.byte_width, column.buffers()[1]
    else:
        wide = pyarrow().types.is_large_binary(kind)
        _, offsets, data = column.buffers()
        bounds: Array = np.zeros(1, np.int64)
        if n:
            bounds = np.frombuffer(offsets, np.int64 if wide else np.int32)
            bounds = bounds[column.offset : column.offset + n + 1]
        width = _even(bounds, 0 if data is None else data.size, where, first, per_row)
        begin = int(bounds[0])
    if not n or not width:
        return np.empty(0, np.uint8), int(width)
    return np.frombuffer(data, np.uint8, n * width, begin), int(width)


def _even(bounds: Array, most: int, where: str, first: int, per_row: int) -> int:
    widths = np.diff(bounds)
    if not len(widths):
        return 0
    bad = widths != widths[0]
    if bad.any():
        i = int(bad.argmax())
        raise DataError(f"{where}: row {first + i // per_row} has {widths[i]} values, expected "
                        f"{widths[0]} as in row {first}")  # fmt: skip
    if not 0 <= bounds[0] <= bounds[-1] <= most:
        raise DataError(f"{where}: rows end at value {bounds[-1]}, expected at most {most}")
    return int(widths[0])


def _refuse_null(column: Any, where: str, first: int, per_row: int) -> None:
    if column.null_count:
        i = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
        raise DataError(f"{where}: row {first + i // max(per_row, 1)} has a null, expected values")


def joined(arrays: Sequence[Array]) -> Array:
    """Return rows one after the other: the array itself where there is one."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


@dataclass(frozen=True)
class FileColumns:
    """The features of a file, or one column of values; how they are read is for the format."""

    stamp: Stamp
    columns: Columns
    names: tuple[str, ...]  # of the columns that are read
    of_bytes: np.dtype[Any] | None  # what columns of bytes hold
    dtype: np.dtype[Any]
    width: int | None  # how many features; None for one column of values
    starts: tuple[int, ...]  # rows at which pieces of the file begin, and the end of the last

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells whether two of these read the same: `starts` follow from it."""
        return self.stamp, self.names, self.of_bytes, self.width

    def empty(self) -> Array:
        """Return no rows."""
        return np.empty((0,) if self.width is None else (0, self.width), self.dtype)

    def array(self, batch: Any, first: int) -> Array:
        """Return what a record batch has, whose first row has the number `first`."""
        path = self.stamp.path
        if self.width is None:
            (name,) = self.names
            return vector_of(batch.column(name), f"{path}: column {name!r}", first)
        array = rows_of(batch, self.columns, path, first, self.of_bytes)
        if self.width and array.shape[1] != self.width:
            raise DataError(f"{path}: column {self.names[0]!r}: row {first} has {array.shape[1]} "
                            f"values, expected {self.width} as in row 0")  # fmt: skip
        return array
