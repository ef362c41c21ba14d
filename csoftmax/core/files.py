"""Reading no more than a file declares, and writing all of a file or none of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

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
