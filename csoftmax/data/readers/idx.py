"""IDX files, the format of MNIST and its relatives: plain or gzip-compressed.

A file is two zero bytes, a type code, the number of dimensions, each dimension as a big-endian
32-bit integer, and then the values. Everything in a header is a claim to be checked.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.errors import DataError
from csoftmax.core.files import DEFLATE_MAX_RATIO, read_at_most, write_atomically
from csoftmax.data.dataset import Dataset
from csoftmax.data.labels import make_dataset
from csoftmax.data.readers.reader import ClassNames, Reader, Samples
from csoftmax.data.readers.table.options import TableOptions

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MAX_DIMENSIONS = 8
_MORE_CHUNKS = 64  # of a MB, of a compressed file that does not hold what it declares


def read_idx(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read one IDX file, plain or gzip-compressed (told by its content, not its name).

    Parameters
    ----------
    path : path of the file

    Returns
    -------
    array
        In native byte order: uint8, int8, int16, int32, float32 or float64.

    Raises
    ------
    DataError
        For a wrong magic number, more or fewer bytes than the header declares, or broken gzip.
        No more is kept than the declared size and one byte.
    FileNotFoundError
        If there is no such file.

    References
    ----------
    The end of yann.lecun.com/exdb/mnist describes the format.

    Examples
    --------
    >>> from csoftmax.data import read_idx, sample_folder
    >>> read_idx(sample_folder() / "t10k-labels-idx1-ubyte.gz").shape
    (1000,)
    """
    path = Path(path)
    with open(path, "rb") as file:
        stored = os.fstat(file.fileno()).st_size
        is_gzip = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not is_gzip:
            return _read_array(path, file, stored)
        try:
            with gzip.GzipFile(fileobj=file) as inflated:
                try:
                    return _read_array(path, inflated, stored * DEFLATE_MAX_RATIO)
                except DataError:
                    # damage can look like anything: what the checksum at the end says goes first
                    for _ in range(_MORE_CHUNKS):
                        if not inflated.read(1 << 20):
                            break
                    raise
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{path}: broken gzip file: {error}") from error


def _read_array(path: Path, file: IO[bytes] | gzip.GzipFile, at_most: int) -> NDArray[Any]:
    magic = file.read(4)
    if len(magic) < 4:
        raise DataError(f"{path}: expected a magic number of 4 bytes, got {len(magic)} bytes")
    n_dimensions = magic[3]
    if magic[:2] != b"\0\0" or magic[2] not in _TYPES or not 1 <= n_dimensions <= _MAX_DIMENSIONS:
        raise DataError(f"{path}: byte 0: expected an IDX magic number such as 0x00000803 "
                        f"(images) or 0x00000801 (labels), got 0x{magic.hex()}")  # fmt: skip
    header = file.read(4 * n_dimensions)
    if len(header) < 4 * n_dimensions:
        raise DataError(f"{path}: byte 4: expected {4 * n_dimensions} bytes with the sizes of "
                        f"{n_dimensions} dimensions, got {len(header)}")  # fmt: skip
    shape = struct.unpack(f">{n_dimensions}I", header)
    dtype = np.dtype(_TYPES[magic[2]])
    start = 4 + len(header)
    n_bytes = math.prod(shape) * dtype.itemsize
    declared = f"{n_bytes} bytes of data ({' x '.join(map(str, shape))} {dtype.name})"
    # the second test is for an empty array whose other sizes overflow
    if n_bytes > at_most or math.prod(max(size, 1) for size in shape) > 2**60:
        raise DataError(f"{path}: byte {start}: expected {declared}, but the file can hold "
                        f"at most {at_most} bytes")  # fmt: skip
    data = read_at_most(file, n_bytes + 1)
    if len(data) != n_bytes:
        got = f"only {len(data)}" if len(data) < n_bytes else "more: trailing bytes"
        raise DataError(f"{path}: byte {start + min(len(data), n_bytes)}: expected {declared}, "
                        f"got {got}")  # fmt: skip
    if n_bytes == 0:
        return np.empty(shape, dtype.newbyteorder("="))
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def write_idx(path: str | os.PathLike[str], array: NDArray[Any]) -> None:
    """Write an array as IDX, gzip-compressed if the name ends in .gz, atomically.

    The gzip header holds neither name nor time: the same array gives the same bytes.

    Parameters
    ----------
    path : path of the file to write
    array : array of uint8, int8, int16, int32, float32 or float64, 1 to 8 dimensions

    Raises
    ------
    TypeError
        For another dtype.
    ValueError
        For another number of dimensions.

    Examples
    --------
    >>> import numpy as np, pathlib, tempfile
    >>> from csoftmax.data import read_idx, write_idx
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "labels.gz"
    >>> write_idx(path, np.array([3, 1, 2], np.uint8))
    >>> read_idx(path).tolist()
    [3, 1, 2]
    """
    stored_type = array.dtype.newbyteorder(">")
    codes = [code for code, name in _TYPES.items() if np.dtype(name) == stored_type]
    if not codes:
        raise TypeError(f"array has dtype {array.dtype}, which IDX cannot hold")
    if not 1 <= array.ndim <= _MAX_DIMENSIONS:
        raise ValueError(f"array must have 1 to {_MAX_DIMENSIONS} dimensions, got {array.ndim}")
    header = bytes([0, 0, codes[0], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    data = header + array.astype(stored_type).tobytes()
    if Path(path).suffix == ".gz":
        # wbits 31: zlib's own gzip header, without name and time
        deflate = zlib.compressobj(9, zlib.DEFLATED, 31)
        data = deflate.compress(data) + deflate.flush()
    write_atomically(path, lambda file: file.write(data))


def find_idx_files(folder: Path) -> dict[tuple[str, str], Path]:
    """Map ("train" or "test", "images" or "labels") to the IDX file of that role in a folder.

    An IDX file has "images" or "labels" in its name, and "idx" or "ubyte"; with "t10k" or "test"
    it is of the test part. Where a file is there plain and as .gz, the plain one is taken.
    """
    found: dict[tuple[str, str], Path] = {}
    for path in sorted(folder.iterdir()):
        name = path.name.lower().removesuffix(".gz")
        kind = "images" if "images" in name else "labels"
        if kind not in name or not ("idx" in name or "ubyte" in name) or name.startswith("."):
            continue
        part = "test" if "t10k" in name or "test" in name else "train"
        other = found.setdefault((part, kind), path)
        if other.name.lower().removesuffix(".gz") != name:
            raise DataError(f"{folder}: expected one IDX file of {part} {kind}, got {other.name} "
                            f"and {path.name}")  # fmt: skip
    return found


def read_idx_folder(
    path: str | os.PathLike[str], *, class_names: Sequence[str] | None = None
) -> tuple[Dataset, Dataset | None]:
    """Read a folder of IDX files: images and labels, and a test pair if there is one.

    The names are those of MNIST (``train-images-idx3-ubyte``, ``t10k-labels-idx1-ubyte.gz``, ...)
    or similar: "images" or "labels", "idx" or "ubyte", and "t10k" or "test" for the test pair.

    Parameters
    ----------
    path : path of the folder
    class_names : sequence of str, optional
        The classes to expect. Without it they are the labels of the train part.

    Returns
    -------
    train : Dataset
    test : Dataset or None

    Raises
    ------
    DataError
        For a broken file, counts that differ, one class only, or no samples.

    Examples
    --------
    >>> from csoftmax.data import read_idx_folder, sample_folder
    >>> train, test = read_idx_folder(sample_folder())
    >>> train.X.shape, test.X.shape, train.class_names[:3]
    ((6000, 28, 28), (1000, 28, 28), ('0', '1', '2'))
    """
    folder = Path(path)
    files = find_idx_files(folder)
    parts: list[Dataset] = []
    for part in ("train", "test"):
        images, labels = files.get((part, "images")), files.get((part, "labels"))
        if images is None and labels is None:
            continue
        if images is None or labels is None:
            lacking, other = ("images", labels) if images is None else ("labels", images)
            raise DataError(f"{folder}: expected {part} {lacking} beside {Path(str(other)).name}")
        parts.append(_read_pair(images, labels, class_names, f"{folder.name} {part}"))
        class_names = parts[0].class_names
    if not parts:
        raise DataError(f"{folder}: expected IDX files of images and labels, got none")
    if len(parts) == 2 and parts[0].X.shape[1:] != parts[1].X.shape[1:]:
        raise DataError(f"{folder}: expected test images of shape {parts[0].X.shape[1:]}, as in "
                        f"the train part, got {parts[1].X.shape[1:]}")  # fmt: skip
    return parts[0], parts[1] if len(parts) == 2 else None


def _read_pair(images: Path, labels: Path, class_names: Sequence[str] | None, name: str) -> Dataset:
    y = read_idx(labels)
    if y.ndim != 1:
        raise DataError(f"{labels}: byte 3: expected labels (1 dimension, magic 0x00000801), got "
                        f"{y.ndim} dimensions")  # fmt: skip
    X = read_idx(images)
    if X.ndim < 2:
        raise DataError(f"{images}: byte 3: expected images (3 dimensions, magic 0x00000803), "
                        f"got {X.ndim} dimension")  # fmt: skip
    return make_dataset(
        str(images), X, y, class_names=class_names, labels_where=str(labels), name=name
    )


def _takes(path: Path) -> bool:
    """Take any folder, and a file with "idx" or "ubyte" in its name."""
    name = path.name.lower()
    return path.is_dir() or "idx" in name or "ubyte" in name


def _read_parts(
    path: Path, options: TableOptions, class_names: ClassNames
) -> tuple[Dataset, Dataset | None]:
    if path.is_dir():
        return read_idx_folder(path, class_names=class_names)
    raise DataError(f"{path}: expected labels too: give the folder that holds the IDX files of "
                    "images and labels")  # fmt: skip


def _read_samples(
    path: Path, options: TableOptions, n_features: int | None, class_names: ClassNames
) -> Samples:
    return read_idx(path), None


READER = Reader("an IDX file or a folder", _takes, _read_parts, _read_samples)
