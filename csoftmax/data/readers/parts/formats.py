"""From a pattern to files in natural order, and from files to the parts of their format."""

from __future__ import annotations

import glob
import importlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from csoftmax.core.errors import DataError
from csoftmax.data.readers.parts.arrays import check_vector, open_array
from csoftmax.data.readers.parts.csr import is_matrix
from csoftmax.data.readers.parts.files import MappedArray, suffix_of
from csoftmax.data.readers.parts.part import Part, Wanted

# The module that opens files of an ending; it is imported when the first such file is opened.
FORMATS = {
    ".npy": "npy",
    ".npz": "npz",
    ".arrow": "arrow", ".feather": "arrow", ".ipc": "arrow",
    ".parquet": "parquet", ".pq": "parquet",
    ".tar": "tar",
    ".svm": "svmlight", ".libsvm": "svmlight", ".svmlight": "svmlight",
    ".svm.gz": "svmlight", ".libsvm.gz": "svmlight", ".svmlight.gz": "svmlight",
}  # fmt: skip

# Hugging Face's `datasets` writes the first of these into a folder of data sets, the second where
# it was told to save one, the third where it keeps one for itself.
_SAVED = ("dataset_dict.json", "state.json", "dataset_info.json")


def find(source: Any, name: str) -> list[Path]:
    """Return the files of a pattern, of a folder, or of a sequence of these.

    Raises FileNotFoundError if a pattern matches nothing, and says what is there.
    """
    if isinstance(source, (str, os.PathLike)):
        return _matching(os.fspath(source), name)
    if not isinstance(source, (list, tuple)) or not source:
        raise TypeError(f"{name} is {source!r:.60}, expected a pattern such as 'emb/*.npy', a "
                        "folder, or a list of files")  # fmt: skip
    return [path for each in source for path in _matching(os.fspath(each), name)]


def natural(path: Path) -> list[Any]:
    """Return a key that sorts part-2 before part-10."""
    return [int(piece) if piece.isdigit() else piece for piece in re.split(r"([0-9]+)", str(path))]


def _matching(pattern: str, name: str) -> list[Path]:
    path = Path(pattern)
    if path.is_file() or _holds_arrays(path):
        return [path]
    if path.is_dir() and is_saved_by_datasets(path):
        return _saved_by_datasets(path)
    if path.is_dir():
        found = [each for each in path.iterdir() if suffix_of(each) in FORMATS]
    else:
        found = [Path(each) for each in glob.glob(pattern, recursive=True)]
    if not found:
        raise FileNotFoundError(f"{name}: no file matches {pattern!r}{_what_is_there(path)}")
    return sorted(found, key=natural)


def _holds_arrays(path: Path) -> bool:
    return (path / "X.npy").exists() or is_matrix(path)


def is_saved_by_datasets(folder: Path) -> bool:
    """Did Hugging Face's `datasets` write this folder?"""
    return any((folder / each).exists() for each in _SAVED)


def _saved_by_datasets(folder: Path) -> list[Path]:
    """Return the Arrow files of a folder that Hugging Face's `datasets` wrote."""
    for name in _SAVED:
        path = folder / name
        if not path.exists():
            continue
        try:
            told = json.loads(path.read_bytes())
            if name == "dataset_dict.json":
                splits = " or ".join(repr(f"{folder}/{split}") for split in told["splits"])
                raise DataError(f"{folder}: it holds several data sets: say {splits}")
            if name == "state.json":
                return [folder / each["filename"] for each in told["_data_files"]]
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise DataError(f"{path}: expected what `datasets` writes: {error!r}") from error
    found = sorted(folder.glob("*.arrow"), key=natural)
    if not found:
        raise DataError(f"{folder}: expected .arrow files beside dataset_info.json, got none")
    return found


def _what_is_there(path: Path) -> str:
    folder = path if path.is_dir() else path.parent
    if glob.has_magic(str(folder)):
        return ""
    if not folder.is_dir():
        return f": there is no folder {str(folder)!r}"
    names = sorted((each for each in folder.iterdir()), key=natural)
    some = ", ".join(each.name for each in names[:3]) + (", ..." if len(names) > 3 else "")
    return f": {str(folder)!r} has {some}" if names else f": {str(folder)!r} is empty"


def open_files(paths: Sequence[Path], wanted: Wanted) -> Iterator[Part]:
    """Yield the parts of files, all of one format.

    Raises DataError for files of several formats, or of none.
    """
    kinds = [_format_of(path) for path in paths]
    for path, kind in zip(paths, kinds, strict=True):
        if kind != kinds[0]:
            raise DataError(f"{path}: expected a file as {paths[0]}, as all shards have one format")
    module = importlib.import_module(f"{__package__}.{kinds[0]}")
    parts: Iterator[Part] = module.open_parts(paths, wanted)
    return parts


def _format_of(path: Path) -> str:
    if path.is_dir():
        if _holds_arrays(path):
            return "npy"
        raise DataError(f"{path}: expected a folder with X.npy and y.npy")
    suffix = suffix_of(path)
    if suffix not in FORMATS:
        raise DataError(f"{path}: expected one of {', '.join(FORMATS)}")
    return FORMATS[suffix]


def open_vectors(paths: Sequence[Path], name: str) -> list[MappedArray]:
    """Return .npy files with one value a row."""
    vectors = []
    for path in paths:
        if path.is_dir() or suffix_of(path) != ".npy":
            raise DataError(f"{name}: {path}: expected a .npy file")
        vectors.append(open_array(path))
        check_vector(vectors[-1], str(path))
    return vectors
