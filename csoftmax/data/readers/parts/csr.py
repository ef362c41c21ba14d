"""Shards that are folders of the arrays of a sparse matrix: data, indices, indptr and shape.npy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from csoftmax.core.errors import DataError
from csoftmax.core.sparse import CSR
from csoftmax.data.readers.parts.arrays import check_vector, open_array
from csoftmax.data.readers.parts.files import MappedArray

ARRAYS = ("data", "indices", "indptr")


def is_matrix(folder: Path) -> bool:
    """Has this folder the arrays of a sparse matrix?"""
    return (folder / "indptr.npy").exists()


@dataclass(frozen=True)
class MappedCSR:
    """Sparse rows whose arrays are maps of files."""

    data: MappedArray
    indices: MappedArray
    indptr: MappedArray
    n_features: int

    def read(self, start: int, stop: int) -> CSR:
        """Return some rows, checked, with views of the files."""
        bounds = self.indptr.read(start, max(start, stop) + 1)
        first, last = (int(bounds[0]), int(bounds[-1])) if len(bounds) else (0, 0)
        try:
            return CSR(
                self.data.read(first, last), self.indices.read(first, last), bounds - first,
                self.n_features,
            )  # fmt: skip
        except (TypeError, ValueError) as error:
            raise DataError(f"{self.indptr.stamp.path}: rows {start} to {stop}: expected sparse "
                            f"rows: {error}") from error  # fmt: skip


def open_matrix(folder: Path) -> tuple[MappedCSR, int, tuple[MappedArray, ...]]:
    """Return the rows of a folder, how many there are, and the arrays whose files they are."""
    arrays = [open_array(folder / f"{name}.npy") for name in (*ARRAYS, "shape")]
    for array in arrays:
        check_vector(array, array.stamp.path)
    data, indices, indptr, sizes = arrays
    shape = sizes.read(0, 2)
    if len(shape) != 2 or shape.dtype.kind not in "iu" or (shape < 0).any():
        raise DataError(f"{sizes.stamp.path}: expected the numbers of rows and of features, got "
                        f"{shape.tolist()}")  # fmt: skip
    n_rows, n_features = map(int, shape)
    for array, expected in ((indptr, n_rows + 1), (indices, data.shape[0])):
        if array.shape[0] != expected:
            raise DataError(f"{array.stamp.path}: expected {expected} numbers, got "
                            f"{array.shape[0]}")  # fmt: skip
    for array, kinds in ((data, ("u1", "f4", "f8")), (indices, ("i4", "i8")), (indptr, ("i8",))):
        if array.dtype not in map(np.dtype, kinds):
            raise DataError(f"{array.stamp.path}: expected {' or '.join(kinds)}, got {array.dtype}")
    return MappedCSR(data, indices, indptr, n_features), n_rows, tuple(arrays)
