"""Shards that are .npz files: a sparse matrix of scipy, or the arrays X and y; read as a whole."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.checks import Stored
from csoftmax.core.errors import DataError
from csoftmax.core.sparse import CSR
from csoftmax.data.readers.npz import Archive
from csoftmax.data.readers.parts.files import Kept, Stamp, stamp_of
from csoftmax.data.readers.parts.part import Part, Wanted, check_count
from csoftmax.data.readers.sparse_npz import is_matrix, read_matrix

Array = NDArray[Any]
_LABELS = (("y",), ("labels",))
_WEIGHTS = (("weight",), ("weights",))
_read: Kept[Stored] = Kept(2)  # the files of two blocks that follow each other


def open_parts(paths: Sequence[Path], wanted: Wanted) -> Iterator[Part]:
    """Yield a part for each file; each is read once, as its arrays are checked."""
    wanted.refuse_columns(".npz files")
    for path in paths:
        stamp = stamp_of(path)
        with Archive(path) as archive:
            labels, weights = archive.find(_LABELS), archive.find(_WEIGHTS)
        rows = ArrayOfFile(stamp, None)
        X = rows.load()
        columns = []
        for found in (labels, weights):
            column = None if found is None else ArrayOfFile(stamp, found[0])
            if column is not None:
                values = column.load()
                if values.ndim != 1:
                    raise DataError(f"{path}: {column.key}: expected one value for each row, got "
                                    f"shape {values.shape}")  # fmt: skip
                check_count(f"{path}: {column.key}", len(values), str(path), len(X))
            columns.append(None if column is None else column.read)
        yield Part(
            path.name, len(X), X.shape[1], X.dtype, rows.read, columns[0], columns[1], (stamp,),
            is_sparse=isinstance(X, CSR), is_slow=True,
        )  # fmt: skip


@dataclass(frozen=True)
class ArrayOfFile:
    """An array of a file, or the rows of X where no key is given."""

    stamp: Stamp
    key: str | None

    def read(self, start: int, stop: int) -> Stored:
        """Return some rows of the array that was read as a whole."""
        self.stamp.check()
        return _read.get(self, self.load)[start:stop]

    def load(self) -> Stored:
        """Read the array."""
        path = Path(self.stamp.path)
        with Archive(path) as archive:
            if self.key is not None:
                return archive.read(self.key)
            if is_matrix(archive.keys):
                return read_matrix(str(path), archive.keys, archive.read)
            found = archive.find((("x",),))
            if found is None:
                raise DataError(f"{path}: expected a sparse matrix of scipy or the array X, got "
                                f"{', '.join(archive.keys) or 'none'}")  # fmt: skip
            X = archive.read(found[0])
        if X.ndim < 2:
            raise DataError(f"{path}: {found[0]}: expected an array (n_rows, n_features), got "
                            f"shape {X.shape}")  # fmt: skip
        return np.reshape(X, (len(X), math.prod(X.shape[1:])))
