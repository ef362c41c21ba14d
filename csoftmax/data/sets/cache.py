"""The user's cache of decompressed arrays, so that later starts need not decompress them.

The cache holds one .npy file per array, and an empty marker per source whose contents were
checked. A source is known by the path, size and time of its files, so that a changed file is
checked anew and an unchanged one costs only a look at the folder.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.errors import DataError
from csoftmax.core.files import write_atomically
from csoftmax.data.readers.npy import open_npy


def user_cache_folder() -> Path | None:
    """Return where this user's data is cached, or None for a user without a home folder.

    On Linux ``$XDG_CACHE_HOME/csoftmax``, or ``~/.cache/csoftmax`` where that is not set.
    """
    import platformdirs  # here and not above: `import csoftmax` stays light

    try:
        folder = platformdirs.user_cache_path("csoftmax", appauthor=False)
    except RuntimeError:
        return None
    return folder if folder.is_absolute() else None  # "~/.cache" of older releases: no home


def mapped_arrays(
    folder: Path, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, NDArray[Any]] | None:
    """Map the cached uint8 arrays into memory; None unless all are there and whole."""
    arrays = {}
    for key, shape in shapes.items():
        try:
            arrays[key] = open_npy(folder / f"{key}.npy")
        except (OSError, DataError):
            return None
        if arrays[key].shape != shape or arrays[key].dtype != np.uint8:
            return None
    return arrays


def load_arrays(
    folder: Path, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, NDArray[Any]] | None:
    """Read the cached arrays into memory; None unless all are there and whole.

    They are not mapped, because a shuffled epoch reads rows at random: that is faster in memory of
    NumPy's, for which it asks for huge pages.
    """
    if not mapped_arrays(folder, shapes):
        return None
    arrays = {}
    for key, shape in shapes.items():
        array = np.empty(shape, np.uint8)
        with open(folder / f"{key}.npy", "rb") as file:
            file.seek(-array.nbytes, os.SEEK_END)  # what follows the header
            if file.readinto(array.reshape(-1).data) != array.nbytes:
                return None
        array.flags.writeable = False
        arrays[key] = array
    return arrays


def cached_arrays(
    folder: Path | None,
    files: Mapping[str, Path],
    read: Callable[[str, Path], NDArray[Any]],
    shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, NDArray[Any]]:
    """Return the arrays of the files, from the cache if these very files were read before.

    ``read(key, path)`` reads and checks one. A cache that cannot be written is a warning, and the
    arrays stay in memory.
    """
    marker = f"checked-{_identity(files)}"
    if folder and (folder / marker).exists() and (arrays := load_arrays(folder, shapes)):
        return arrays
    fresh = {key: read(key, path) for key, path in files.items()}
    try:
        if folder is None:
            raise OSError("this user has no home folder")
        folder.mkdir(parents=True, exist_ok=True)
        for key, array in fresh.items():
            write_atomically(folder / f"{key}.npy", partial(np.save, arr=array))
        (folder / marker).touch()
    except OSError as error:
        warnings.warn(
            f"the cache {folder or ''} cannot be written ({error}): the data is decompressed anew "
            "at each start; set XDG_CACHE_HOME to a folder that can be written",
            RuntimeWarning,
            stacklevel=4,
        )
        return fresh
    return load_arrays(folder, shapes) or fresh


def _identity(files: Mapping[str, Path]) -> str:
    import hashlib

    digest = hashlib.sha256()
    for key, path in sorted(files.items()):
        status = path.stat()
        digest.update(f"{key} {path.resolve()} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]
