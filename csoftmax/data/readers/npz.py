"""NumPy's .npz files: the arrays of a zip archive, each read as an .npy file is."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.errors import DataError
from csoftmax.core.files import DEFLATE_MAX_RATIO, read_at_most
from csoftmax.data.dataset import Dataset
from csoftmax.data.labels import make_dataset
from csoftmax.data.readers.npy import open_npy, read_header
from csoftmax.data.readers.reader import ClassNames, Reader, Samples
from csoftmax.data.readers.sparse_npz import is_matrix, read_matrix
from csoftmax.data.readers.table.options import TableOptions

# names of (X, y), compared in lower case
_TRAIN_KEYS = (("x", "y"), ("x_train", "y_train"), ("train_images", "train_labels"))
_TEST_KEYS = (("x_test", "y_test"), ("test_images", "test_labels"))


class Archive:
    """The arrays of an .npz file, read one at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as error:
            raise DataError(f"{path}: expected an .npz (zip) file: {error}") from error
        self._members = {info.filename.removesuffix(".npy"): info for info in self._zip.infolist()}

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *exception: object) -> None:
        self._zip.close()

    @property
    def keys(self) -> list[str]:
        return list(self._members)

    def find(self, names: tuple[tuple[str, ...], ...]) -> tuple[str, ...] | None:
        """Return the first group of names that is there, as spelled in the file."""
        spelled = {key.lower(): key for key in self._members}
        for group in names:
            if all(name in spelled for name in group):
                return tuple(spelled[name] for name in group)
        return None

    def read(self, key: str) -> NDArray[Any]:
        info = self._members[key]
        where = f"{self.path}: {key}"
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(f"{where}: expected a stored or deflated member, got compression "
                            f"type {info.compress_type}")  # fmt: skip
        try:
            with self._zip.open(info) as file:
                header = read_header(where, file)
                start = file.tell()
                at_most = info.compress_size * DEFLATE_MAX_RATIO
                if header.n_bytes != info.file_size - start or header.n_bytes > at_most:
                    raise DataError(f"{where}: byte {start}: expected {header}, but the member "
                                    f"has {info.file_size - start} bytes, {info.compress_size} "
                                    "compressed")  # fmt: skip
                data = read_at_most(file, header.n_bytes + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError) as error:
            raise DataError(f"{where}: broken .npz member: {error}") from error
        if len(data) != header.n_bytes:
            raise DataError(f"{where}: byte {start}: expected {header}, got {len(data)} bytes")
        if not data:
            return np.empty(header.shape, header.dtype)
        order: Any = header.order
        return np.frombuffer(data, header.dtype).reshape(header.shape, order=order)


def read_npz(
    path: str | os.PathLike[str], *, class_names: Sequence[str] | None = None
) -> tuple[Dataset, Dataset | None]:
    """Read an .npz file with the arrays X and y, and a test pair if there is one.

    A file of ``scipy.sparse.save_npz`` is read too: the matrix is X, and y is an array of the same
    file or the file ``y.npy`` beside it.

    The names, in capital or small letters: ``X``, ``y``; or ``X_train``, ``y_train``; or
    ``train_images``, ``train_labels``; and for the test pair ``X_test``, ``y_test`` or
    ``test_images``, ``test_labels``.

    Parameters
    ----------
    path : path of the file
    class_names : sequence of str, optional
        The classes to expect. Without it they are the labels of the train part.

    Returns
    -------
    train : Dataset
    test : Dataset or None

    Raises
    ------
    DataError
        For a broken file, pickled objects, missing arrays, counts that differ, NaN or infinity,
        one class only, or no samples.

    Examples
    --------
    >>> import numpy as np, pathlib, tempfile
    >>> from csoftmax.data import read_npz
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "data.npz"
    >>> np.savez(path, X=np.eye(3), y=[1, 2, 3])
    >>> train, test = read_npz(path)
    >>> train.y.tolist(), train.class_names, test
    ([0, 1, 2], ('1', '2', '3'), None)
    """
    path = Path(path)
    with Archive(path) as archive:
        if is_matrix(archive.keys):
            return _with_labels(archive, class_names), None
        parts: list[Dataset] = []
        for part, names in (("train", _TRAIN_KEYS), ("test", _TEST_KEYS)):
            keys = archive.find(names)
            if keys is None:
                continue
            X, y = archive.read(keys[0]), archive.read(keys[1])
            where = [f"{path}: {key}" for key in keys]
            data = make_dataset(where[0], X, y, class_names=class_names, labels_where=where[1],
                                name=f"{path.stem} {part}")  # fmt: skip
            if parts and X.shape[1:] != parts[0].X.shape[1:]:
                raise DataError(f"{where[0]}: expected samples of shape {parts[0].X.shape[1:]}, "
                                f"as in the train part, got {X.shape[1:]}")  # fmt: skip
            parts.append(data)
            class_names = data.class_names
        if not parts:
            raise DataError(f"{path}: expected the arrays X and y (or X_train, y_train, X_test, "
                            f"y_test), got {', '.join(archive.keys) or 'none'}")  # fmt: skip
    return parts[0], parts[1] if len(parts) == 2 else None


def _with_labels(archive: Archive, class_names: ClassNames) -> Dataset:
    """Return a sparse matrix with the labels of its file, or of y.npy beside it."""
    path = archive.path
    X = read_matrix(str(path), archive.keys, archive.read)
    keys, beside = archive.find((("y",), ("labels",))), path.with_name("y.npy")
    if keys is None and not beside.exists():
        raise DataError(f"{path}: expected labels: an array y beside the matrix, or the file "
                        f"{beside}")  # fmt: skip
    where = str(beside) if keys is None else f"{path}: {keys[0]}"
    y = open_npy(beside) if keys is None else archive.read(keys[0])
    return make_dataset(
        str(path), X, y, class_names=class_names, labels_where=where, name=path.stem
    )


def _takes(path: Path) -> bool:
    return path.name.lower().endswith(".npz") and not path.is_dir()


def _read_parts(
    path: Path, options: TableOptions, class_names: ClassNames
) -> tuple[Dataset, Dataset | None]:
    return read_npz(path, class_names=class_names)


def _read_samples(
    path: Path, options: TableOptions, n_features: int | None, class_names: ClassNames
) -> Samples:
    """Read the array X of an .npz file, or its test or train samples, or its only array.

    Or a sparse matrix of scipy.
    """
    with Archive(path) as archive:
        if is_matrix(archive.keys):
            return read_matrix(str(path), archive.keys, archive.read), None
        groups = tuple((pair[0],) for pair in (_TRAIN_KEYS[0], *_TEST_KEYS, *_TRAIN_KEYS[1:]))
        keys = archive.find(groups) or tuple(archive.keys)
        if len(keys) != 1:
            raise DataError(f"{path}: expected an array X, got {', '.join(keys) or 'none'}")
        return archive.read(keys[0]), None


READER = Reader(".npz", _takes, _read_parts, _read_samples)
