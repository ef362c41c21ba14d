"""Shards that are Parquet files: decoded while they are read, from a row group's start on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.errors import DataError
from csoftmax.data.readers.parts.columns import (
    FileColumns,
    broken_file,
    choose,
    declared,
    joined,
    pyarrow,
)
from csoftmax.data.readers.parts.files import Kept, Stamp, stamp_of
from csoftmax.data.readers.parts.part import Part, Wanted

Array = NDArray[Any]
DECODED_ROWS = 8192  # at a time: a row group can have a million rows
_MAGIC = b"PAR1"
_MOST_OPEN = 16  # files that are decoded half


def open_parts(paths: Sequence[Path], wanted: Wanted) -> Iterator[Part]:
    """Yield a part for each file: all of its row groups."""
    pyarrow()
    for path in paths:
        stamp = stamp_of(path)
        with broken_file(str(path)):
            yield _part_of(path, stamp, wanted)


def _check_ends(path: Path, stamp: Stamp) -> None:
    """Raise DataError unless a file begins and ends as one of Parquet: most are cut short."""
    with open(path, "rb") as file:
        for at in (0, max(0, stamp.size - len(_MAGIC))):
            file.seek(at)
            got = file.read(len(_MAGIC))
            if got != _MAGIC:
                raise DataError(
                    f"{path}: byte {at}: expected {_MAGIC!r} as at the {'end' if at else 'begin'} "
                    f"of a Parquet file, got {got!r} of {stamp.size} bytes"
                )


def _part_of(path: Path, stamp: Stamp, wanted: Wanted) -> Part:
    _check_ends(path, stamp)
    with _open_file(stamp) as file:
        schema, metadata = file.schema_arrow, file.metadata
    columns = choose(str(path), schema, wanted)
    counts = [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)]
    starts = np.cumsum([0, *counts])
    dtype, width = declared(schema, columns, str(path), wanted.dtype)

    def reader(names: tuple[str, ...], dtype: np.dtype[Any], width: int | None) -> ParquetColumns:
        return ParquetColumns(
            stamp, columns, names, wanted.dtype, dtype, width, tuple(starts.tolist())
        )

    if not width and starts[-1]:  # lists, of which the first one tells
        width = reader(columns.X, dtype, 0).first().shape[1]
    labels, weights = (
        None if name is None else reader((name,), np.dtype(np.float64), None).read
        for name in (columns.y, columns.weight)
    )
    is_bytes = pyarrow().types.is_fixed_size_binary(schema.field(columns.X[0]).type)
    return Part(
        path.name, int(starts[-1]), width, dtype, reader(columns.X, dtype, width).read, labels,
        weights, (stamp,), is_slow=not is_bytes or _is_compressed(metadata),
        feature_names=columns.X if columns.is_wide else (),
    )  # fmt: skip


def _is_compressed(metadata: Any) -> bool:
    """Tell by the sizes of the first row group: to ask a broken file for its codec is a crash."""
    if not metadata.num_row_groups:
        return False
    columns = map(metadata.row_group(0).column, range(metadata.num_columns))
    return any(c.total_compressed_size != c.total_uncompressed_size for c in columns)


def _open_file(stamp: Stamp) -> Any:
    stamp.check()
    return pyarrow().parquet.ParquetFile(stamp.path, memory_map=True, pre_buffer=False)


class ParquetColumns(FileColumns):
    """The columns of a file by row groups: group g begins at row ``starts[g]``.

    Rows in order are decoded once: where a call ended the next one goes on.
    """

    def read(self, start: int, stop: int) -> Array:
        """Return some rows, decoded."""
        self.stamp.check()
        if start >= stop:
            return self.empty()
        with broken_file(self.stamp.path):
            decoder = _half_decoded.pop(self.key)
            if decoder is None or not decoder.reaches(start):
                decoder = _Decoder(self, start)
            array = decoder.read(start, stop)
            _half_decoded.put(self.key, decoder)
            return array

    def first(self) -> Array:
        """Return the first rows, however wide they are."""
        return _Decoder(self, 0).next_rows()


class _Decoder:
    """A file that is decoded from a row group on, and what of it is decoded but not yet used up."""

    def __init__(self, source: ParquetColumns, start: int) -> None:
        self._source, starts = source, source.starts
        g = int(np.searchsorted(starts, start, side="right")) - 1
        self._file = _open_file(source.stamp)
        self._batches = self._file.iter_batches(
            DECODED_ROWS, row_groups=list(range(g, len(starts) - 1)), columns=list(source.names)
        )
        self._first = self._end = starts[g]  # of the rows that were decoded last
        self._last: Array | None = None

    def reaches(self, start: int) -> bool:
        """Is a row decoded still, or to come in the same row group or the next rows?"""
        ends = self._source.starts
        g = int(np.searchsorted(ends, self._end, side="right")) - 1
        return self._first <= start < max(self._end + DECODED_ROWS, ends[min(g + 1, len(ends) - 1)])

    def read(self, start: int, stop: int) -> Array:
        arrays = []
        while start < stop:
            if self._last is not None and start < self._end:
                end = min(stop, self._end)
                arrays.append(self._last[start - self._first : end - self._first])
                start = end
            else:
                self.next_rows()
        return joined(arrays)

    def next_rows(self) -> Array:
        """Decode the next rows."""
        batch = next(self._batches, None)
        if batch is None:
            raise DataError(f"{self._source.stamp.path}: expected {self._source.starts[-1]} rows, "
                            f"got {self._end}")  # fmt: skip
        batch.validate()
        self._first = self._end
        self._last = self._source.array(batch, self._first)
        self._end += batch.num_rows
        return self._last


_half_decoded: Kept[_Decoder] = Kept(_MOST_OPEN)
