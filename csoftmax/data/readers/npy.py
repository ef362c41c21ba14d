"""NumPy's .npy files, read without ever unpickling and without trusting a header."""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.errors import DataError
from csoftmax.data.dataset import Dataset
from csoftmax.data.labels import make_dataset
from csoftmax.data.readers.reader import ClassNames, Reader, Samples
from csoftmax.data.readers.table.options import TableOptions

_KINDS = "biufSU"


class Header(NamedTuple):
    """What an .npy header declares."""

    shape: tuple[int, ...]
    order: str
    dtype: np.dtype[Any]

    @property
    def n_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.n_bytes} bytes of data {self.shape} {self.dtype}"


def read_header(where: str, file: IO[bytes]) -> Header:
    """Return what the header declares; refuse pickled objects and impossible shapes."""
    try:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        elif version == (2, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
        else:
            raise ValueError(f"format version {version} is for structured arrays")
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError):
        raise
    except Exception as error:  # the header is parsed as Python source, which fails in many ways
        reason = str(error).partition("\n")[0]
        raise DataError(f"{where}: byte 0: expected a NumPy .npy header: {reason}") from error
    if dtype.hasobject:
        raise DataError(f"{where}: expected numbers or strings, got pickled Python objects, "
                        "which are never loaded")  # fmt: skip
    if dtype.kind not in _KINDS or dtype.itemsize == 0:
        raise DataError(f"{where}: expected numbers or strings, got dtype {dtype}")
    # the second test is for an empty array whose other sizes overflow
    if min(shape, default=0) < 0 or math.prod(max(size, 1) for size in shape) > 2**60:
        raise DataError(f"{where}: expected a possible shape, got {shape}")
    return Header(shape, "F" if fortran else "C", dtype)


def open_npy(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Memory-map a .npy file, read-only, after comparing its header with its size.

    Parameters
    ----------
    path : path of the file

    Returns
    -------
    array
        A read-only view of the file: values are read from the disk when they are used.

    Raises
    ------
    DataError
        For a broken header, pickled objects, or a file shorter or longer than declared.

    Examples
    --------
    >>> import numpy as np, pathlib, tempfile
    >>> from csoftmax.data import open_npy
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "X.npy"
    >>> np.save(path, np.eye(2))
    >>> open_npy(path)
    array([[1., 0.],
           [0., 1.]])
    """
    path = Path(path)
    with open(path, "rb") as file:
        header = read_header(str(path), file)
        start = file.tell()
        got = os.fstat(file.fileno()).st_size - start
        if got != header.n_bytes:
            raise DataError(f"{path}: byte {start}: expected {header}, got {got} bytes")
        if got == 0:
            return np.empty(header.shape, header.dtype)
        order: Any = header.order
        mapped = np.memmap(file, header.dtype, "r", start, header.shape, order)
    return np.asarray(mapped)


def read_npy(
    path: str | os.PathLike[str],
    labels: str | os.PathLike[str] | None = None,
    *,
    class_names: Sequence[str] | None = None,
) -> Dataset:
    """Read a pair of .npy files; X is memory-mapped, not loaded.

    Parameters
    ----------
    path : path
        The file of X, or a folder that holds ``X.npy`` and ``y.npy``.
    labels : path, optional
        The file of y; by default ``y.npy`` in the folder of X.
    class_names : sequence of str, optional
        The classes to expect. Without it they are the labels that occur.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        For a broken file, counts that differ, NaN or infinity, one class only, or no samples.

    Examples
    --------
    >>> import numpy as np, pathlib, tempfile
    >>> from csoftmax.data import read_npy
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> np.save(folder / "X.npy", np.eye(3, dtype=np.float16))
    >>> np.save(folder / "y.npy", ["cat", "dog", "cat"])
    >>> data = read_npy(folder)
    >>> data.X.dtype, data.y.tolist(), data.class_names
    (dtype('float16'), [0, 1, 0], ('cat', 'dog'))
    """
    path = Path(path)
    name = path.name
    if path.is_dir():
        path = path / "X.npy"
    labels = path.with_name("y.npy") if labels is None else Path(labels)
    X = open_npy(path)
    return make_dataset(
        str(path), X, open_npy(labels), class_names=class_names, labels_where=str(labels), name=name
    )


def _takes(path: Path) -> bool:
    return (path / "X.npy").exists() if path.is_dir() else path.name.lower().endswith(".npy")


def _read_parts(
    path: Path, options: TableOptions, class_names: ClassNames
) -> tuple[Dataset, Dataset | None]:
    train = read_npy(path, class_names=class_names)
    test_path = path / "X_test.npy"
    if not test_path.exists():
        return train, None
    test = read_npy(test_path, path / "y_test.npy", class_names=train.class_names)
    if test.X.shape[1:] != train.X.shape[1:]:
        raise DataError(f"{test_path}: expected samples of shape {train.X.shape[1:]}, as in X.npy, "
                        f"got {test.X.shape[1:]}")  # fmt: skip
    return train, test


def _read_samples(
    path: Path, options: TableOptions, n_features: int | None, class_names: ClassNames
) -> Samples:
    return open_npy(path), None


READER = Reader(".npy", _takes, _read_parts, _read_samples)
