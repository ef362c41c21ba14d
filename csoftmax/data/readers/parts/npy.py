"""Shards that are .npy files, or folders with X.npy and y.npy, or with a sparse matrix: maps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from csoftmax.core.errors import DataError
from csoftmax.data.readers.parts import csr
from csoftmax.data.readers.parts.arrays import check_vector, open_array
from csoftmax.data.readers.parts.files import MappedArray
from csoftmax.data.readers.parts.part import Part, Wanted, check_count


def open_parts(paths: Sequence[Path], wanted: Wanted) -> Iterator[Part]:
    """Yield a part for each .npy file, or each folder with X.npy and perhaps y.npy, weight.npy."""
    wanted.refuse_columns(".npy files")
    for path in paths:
        if not path.is_dir():
            yield part_of(path.name, open_array(path))
            continue
        beside = {
            name: open_array(path / f"{name}.npy")
            for name in ("y", "weight")
            if (path / f"{name}.npy").exists()
        }
        if csr.is_matrix(path):
            yield _sparse_part(path, **beside)
        else:
            yield part_of(path.name, open_array(path / "X.npy"), **beside)


def part_of(
    name: str, X: MappedArray, y: MappedArray | None = None, weight: MappedArray | None = None
) -> Part:
    """Return the part of an array of rows, and arrays of a label and of a weight for each."""
    if len(X.shape) < 2:
        raise DataError(f"{X.stamp.path}: expected an array (n_rows, n_features) or (n_rows, "
                        f"height, width), got shape {X.shape}")  # fmt: skip
    n_features, dtype = math.prod(X.shape[1:]), np.dtype(X.dtype)
    part = Part(name, X.shape[0], n_features, dtype, X.read, stamps=(X.stamp,), gives_views=True)
    return _with_columns(part, X.stamp.path, y, weight)


def _sparse_part(
    folder: Path, y: MappedArray | None = None, weight: MappedArray | None = None
) -> Part:
    matrix, n_rows, arrays = csr.open_matrix(folder)
    part = Part(
        folder.name, n_rows, matrix.n_features, np.dtype(matrix.data.dtype), matrix.read,
        stamps=tuple(array.stamp for array in arrays), is_sparse=True,
    )  # fmt: skip
    return _with_columns(part, str(folder), y, weight)


def _with_columns(part: Part, of: str, y: MappedArray | None, weight: MappedArray | None) -> Part:
    stamps = [*part.stamps]
    for array in (y, weight):
        if array is not None:
            check_vector(array, array.stamp.path)
            check_count(array.stamp.path, array.shape[0], of, part.n_rows)
            stamps.append(array.stamp)
    labels, weights = (None if array is None else array.read for array in (y, weight))
    return replace(part, labels=labels, weights=weights, stamps=tuple(dict.fromkeys(stamps)))
