"""Reading no more than a file declares, and writing all of a file or none of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import gzip

# deflate codes at best a run of 258 bytes in 2 bits
DEFLATE_MAX_RATIO = 1032
_CHUNK = 1 << 20


def read_at_most(file: IO[bytes] | gzip.GzipFile, n_bytes: int) -> bytearray:
    """Read up to n_bytes, with memory that grows with what is there, not with what is asked."""
    data = bytearray()
    while len(data) < n_bytes:
        chunk = file.read(min(_CHUNK, n_bytes - len(data)))
        if not chunk:
            break
        data += chunk
    return data


def write_atomically(path: str | os.PathLike[str], write: Callable[[IO[bytes]], Any]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then put it in place of ``path``.

    Readers see the old file or the new one, never a part; after an error the old one stays.

    Parameters
    ----------
    path : path of the file to write
    write : function
        Called with the binary file, open for writing.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "two.bin"
    >>> write_atomically(path, lambda file: file.write(b"ab"))
    >>> path.read_bytes()
    b'ab'
    """
    from pathlib import Path  # here and not above: `import csoftmax` stays light

    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder, for the file {path.name}")
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    try:
        with open(temporary, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def refuse_to_overwrite(
    path: str | os.PathLike[str] | None, name: str, inputs: Iterable[str | os.PathLike[str]]
) -> None:
    """Raise ValueError if a result, the argument or option `name`, would replace one of its inputs.

    Examples
    --------
    >>> refuse_to_overwrite("no such file", "out", ["another one"])
    """
    if path is None or not os.path.isfile(path):
        return
    for each in inputs:
        if os.path.exists(each) and os.path.samefile(path, each):
            raise ValueError(f"{name} is {path}, which is read: expected another file")


def write_npy(path: str | os.PathLike[str], array: NDArray[Any]) -> None:
    """Write an array as a .npy file, all of it or nothing."""
    write_npy_blocks(path, array.shape, array.dtype, [array])


def write_npy_blocks(
    path: str | os.PathLike[str],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    blocks: Iterable[NDArray[Any]],
) -> None:
    """Write a .npy file of this shape whose rows come block after block, all of it or nothing.

    Examples
    --------
    >>> import numpy as np, pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "X.npy"
    >>> write_npy_blocks(path, (3,), np.dtype(np.uint8), [np.zeros(2), np.ones(1)])
    >>> np.load(path)
    array([0, 0, 1], dtype=uint8)
    """

    def write(file: IO[bytes]) -> None:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False}
        np.lib.format.write_array_header_1_0(file, {**header, "shape": shape})
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype).reshape(-1).view(np.uint8).data)

    write_atomically(path, write)
