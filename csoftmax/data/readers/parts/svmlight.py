"""Shards that are files of svmlight or LIBSVM: read as a whole, and parsed in each pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.errors import DataError
from csoftmax.core.sparse import CSR
from csoftmax.data.readers.parts.files import Kept, Stamp, stamp_of
from csoftmax.data.readers.parts.part import Part, Wanted, numbers_or_texts
from csoftmax.data.readers.svmlight import SvmlightLines, as_rows, read_numbers
from csoftmax.data.readers.table.options import TableOptions

Array = NDArray[Any]


def open_parts(paths: Sequence[Path], wanted: Wanted) -> Iterator[Part]:
    """Yield a part for each file; all are read once, as only the indices say how many there are."""
    wanted.refuse_columns("files of svmlight")
    dtype = np.dtype(np.float64 if wanted.dtype == np.float64 else np.float32)
    stamps, counts, is_text, least, most = [], [], False, 1, 0
    has_labels = []
    for path in paths:
        stamps.append(stamp_of(path))
        lines = read_numbers(path, TableOptions(dtype=dtype))
        _check_labels(path, lines)
        counts.append(len(lines.counts))
        least = min(least, int(lines.indices.min(initial=1)))
        most = max(most, int(lines.indices.max(initial=0)))
        is_text |= numbers_or_texts(lines.labels).dtype.kind == "U"
        has_labels.append(any(lines.labels))
    n_features = most + 1 - least
    for path, stamp, n_rows, labelled in zip(paths, stamps, counts, has_labels, strict=True):
        rows = SvmlightRows(stamp, dtype, least, n_features, is_text)
        yield Part(
            path.name, n_rows, n_features, dtype, rows.read,
            rows.labels if labelled or (not n_rows and any(has_labels)) else None, None, (stamp,),
            is_sparse=True, is_slow=True,
        )  # fmt: skip


class _File(NamedTuple):
    rows: CSR
    labels: Array


_read: Kept[_File] = Kept(2)


@dataclass(frozen=True)
class SvmlightRows:
    """The rows of a file and their labels."""

    stamp: Stamp
    dtype: np.dtype[Any]
    first: int  # the index of the first feature
    n_features: int
    is_text: bool  # are the labels of any file words?

    def read(self, start: int, stop: int) -> CSR:
        """Return some rows of the file that was parsed as a whole."""
        return self._file().rows[start:stop]

    def labels(self, start: int, stop: int) -> Array:
        """Return the labels of some rows."""
        return self._file().labels[start:stop]

    def _file(self) -> _File:
        self.stamp.check()
        return _read.get(self, self._parse)

    def _parse(self) -> _File:
        path = Path(self.stamp.path)
        lines = read_numbers(path, TableOptions(dtype=self.dtype))
        rows = as_rows(path, lines, self.first, self.n_features)
        labels = np.array(lines.labels, np.str_)
        return _File(rows, labels if self.is_text else numbers_or_texts(lines.labels))


def _check_labels(path: Path, lines: SvmlightLines) -> None:
    for label, number in zip(lines.labels, lines.numbers, strict=True):
        if "," in label or (not label and any(lines.labels)):
            raise DataError(f"{path}: line {number}: expected one label before the features, got "
                            f"{label or 'none'}")  # fmt: skip
