"""Shards that are Arrow IPC files or streams: views of the map, or decoded where compressed.

The files of a folder that Hugging Face's `datasets` saved are such streams.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.errors import DataError
from csoftmax.data.readers.parts.columns import (
    Columns,
    broken_file,
    choose,
    declared,
    joined,
    pyarrow,
    rows_of,
    vector_of,
)
from csoftmax.data.readers.parts.files import Kept, Stamp, mapped, stamp_of
from csoftmax.data.readers.parts.part import Part, Wanted

Array = NDArray[Any]
_MAGIC = b"ARROW1\0\0"
_MOST_FILES = 64  # open at a time, with the views of all their batches
_MOST_DECODED = 2  # batches that are kept after decoding: those at the ends of a block


def open_parts(paths: Sequence[Path], wanted: Wanted) -> Iterator[Part]:
    """Yield a part for each file: all of its record batches."""
    pyarrow()
    for path in paths:
        stamp = stamp_of(path)
        with broken_file(str(path)):
            yield _part_of(path, stamp, wanted)


def _part_of(path: Path, stamp: Stamp, wanted: Wanted) -> Part:
    if not stamp.size:
        raise DataError(f"{path}: expected an Arrow file or stream, got no bytes")
    schema = OpenFile(stamp, None).schema
    columns = choose(str(path), schema, wanted)
    others = [name for name in schema.names if name not in columns.X]
    counted = OpenFile(stamp, (columns.y or (others or columns.X)[0],))
    starts = np.cumsum([0, *(counted.batch(b).num_rows for b in range(counted.n_batches))])
    dtype, width = declared(schema, columns, str(path), wanted.dtype)
    first = int(np.searchsorted(starts, 0, side="right")) - 1  # the first batch that has rows
    is_slow = False
    if starts[-1]:
        of_rows = OpenFile(stamp, columns.X)
        batch = of_rows.batch(first)
        is_slow = columns.is_wide or not of_rows.holds(batch)
        width = rows_of(batch, columns, str(path), 0, wanted.dtype).shape[1]

    def reader(names: tuple[str, ...], dtype: np.dtype[Any], width: int | None) -> ArrowColumns:
        return ArrowColumns(
            stamp, columns, names, wanted.dtype, dtype, width, tuple(starts.tolist())
        )

    labels, weights = (
        None if name is None else reader((name,), np.dtype(np.float64), None).read
        for name in (columns.y, columns.weight)
    )
    rows = reader(columns.X, dtype, width)
    return Part(
        path.name, int(starts[-1]), width, dtype, rows.read, labels, weights, (stamp,),
        is_slow=is_slow, feature_names=columns.X if columns.is_wide else (), pieces=rows.pieces,
    )  # fmt: skip


@dataclass(frozen=True)
class ArrowColumns:
    """The features of a file, or one column of values, by record batches.

    Batch b begins at row ``starts[b]``.
    """

    stamp: Stamp
    columns: Columns
    names: tuple[str, ...]  # of the columns that are read
    of_bytes: np.dtype[Any] | None  # what columns of bytes hold
    dtype: np.dtype[Any]
    width: int | None  # how many features; None for one column of values
    starts: tuple[int, ...]

    def read(self, start: int, stop: int) -> Array:
        """Return some rows: a view of the file where a batch has all of them, else a copy."""
        return joined(self.pieces(start, stop))

    def pieces(self, start: int, stop: int) -> list[Array]:
        """Return some rows, those of each batch by themselves: views where they can be."""
        self.stamp.check()
        if start >= stop:
            return [np.empty((0,) if self.width is None else (0, self.width), self.dtype)]
        with broken_file(self.stamp.path):
            file = _open.get(self._key, lambda: OpenFile(self.stamp, self.names))
            b = int(np.searchsorted(self.starts, start, side="right")) - 1
            arrays = []
            while start < stop:
                first, end = self.starts[b], min(stop, self.starts[b + 1])
                if start < end:
                    arrays.append(self._batch(file, b)[start - first : end - first])
                    start = end
                b += 1
            return arrays

    @property
    def _key(self) -> tuple[Any, ...]:
        """What tells whether two of these read the same: `starts` follow from it."""
        return self.stamp, self.names, self.of_bytes, self.width

    def _batch(self, file: OpenFile, b: int) -> Array:
        if b in file.views:
            return file.views[b]
        key = (*self._key, b)
        array = _decoded.pop(key)
        if array is None:
            batch = file.batch(b)
            array = self._array(batch, self.starts[b])
            if file.holds(batch) and array.base is not None:
                file.views[b] = array
                return array
        _decoded.put(key, array)
        return array

    def _array(self, batch: Any, first: int) -> Array:
        path = self.stamp.path
        if self.width is None:
            (name,) = self.names
            array = vector_of(batch.column(name), f"{path}: column {name!r}", first)
        else:
            array = rows_of(batch, self.columns, path, first, self.of_bytes)
            if array.shape[1] != self.width:
                raise DataError(f"{path}: column {self.names[0]!r}: row {first} has "
                                f"{array.shape[1]} values, expected {self.width} as in row 0"
                                )  # fmt: skip
        return array


class OpenFile:
    """An open file or stream, of which some columns are read, or all where none are named.

    Where the file is not compressed its batches are views, of all columns: nothing is read of those
    that nobody uses. Reading some columns of it would copy them.
    """

    def __init__(self, stamp: Stamp, names: Sequence[str] | None) -> None:
        ipc = pyarrow().ipc
        self.map = mapped(stamp)
        self.buffer = pyarrow().py_buffer(self.map)
        self.views: dict[int, Array] = {}
        self._batches: list[Any] | None = None
        self._before: list[Any] = []  # the messages of a stream before its batches
        self._messages: list[Any] = []
        self._file: Any = None
        if self.map[:8] == _MAGIC:
            self._file = ipc.open_file(self.buffer)
            self.schema, self.n_batches = self._file.schema, self._file.num_record_batches
        else:
            self.schema = ipc.open_stream(self.buffer).schema
            for message in ipc.MessageReader.open_stream(self.buffer):
                is_batch = message.type == "record batch"
                (self._messages if is_batch else self._before).append(message)
            self.n_batches = len(self._messages)
        fields = [self.schema.get_field_index(name) for name in names or ()]
        self._options = ipc.IpcReadOptions(included_fields=fields)
        if self._first_is_a_view():
            whole = map(self._file.get_batch, range(self.n_batches)) if self._file else None
            self._batches = list(whole or ipc.open_stream(self.buffer))
        elif self._file is not None:
            self._file = ipc.open_file(self.buffer, options=self._options)

    def _first_is_a_view(self) -> bool:
        whole: Any = pyarrow().ipc.open_stream(self.buffer) if self._file is None else None
        for b in range(self.n_batches):
            batch = whole.read_next_batch() if self._file is None else self._file.get_batch(b)
            if batch.num_rows:
                return self.holds(batch)
        return True

    def batch(self, b: int) -> Any:
        """Return a record batch whose buffers have the lengths that they should."""
        batch = self._read(b)
        batch.validate()
        return batch

    def _read(self, b: int) -> Any:
        if self._batches is not None:
            return self._batches[b]
        if self._file is not None:
            return self._file.get_batch(b)
        ipc = pyarrow().ipc
        one = [message.serialize().to_pybytes() for message in (*self._before, self._messages[b])]
        return ipc.open_stream(b"".join(one), options=self._options).read_next_batch()

    def holds(self, batch: Any) -> bool:
        """Is this batch a view of the file, not a copy?"""
        begin, end = self.buffer.address, self.buffer.address + self.buffer.size
        buffers = [b for column in batch.columns for b in column.buffers() if b is not None]
        return all(begin <= b.address <= end for b in buffers if b.size)


_open: Kept[OpenFile] = Kept(_MOST_FILES)
_decoded: Kept[Array] = Kept(_MOST_DECODED)
