"""Shards that take longer to decode than to use, written once as files that are mapped."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.files import write_npy, write_npy_blocks
from csoftmax.core.sparse import CSR
from csoftmax.data.readers.parts import npy
from csoftmax.data.readers.parts.part import Part, Wanted
from csoftmax.rows.base import blocks

Array = NDArray[Any]
_FORM = "1"  # of the folders: another one when what is in them changes
AT_ONCE = 8192  # rows that are decoded and written at a time


def cached(parts: Sequence[Part], folder: str | os.PathLike[str], how: str) -> list[Part]:
    """Return parts of which those that are slow to read are in a folder of maps.

    `how` tells how the files are read, as another reading of them is another folder. A part that
    is there already is not made anew. A folder that is not whole is never used.

    Raises ValueError for parts of no file, OSError where the disk has too little space.
    """
    top = Path(folder)
    slow = [part for part in parts if part.is_slow and part.n_rows]
    for part in slow:
        if not part.stamps:
            raise ValueError(f"cache is {str(folder)!r}, but {part.name} is no file, of which one "
                             "could know whether it has changed")  # fmt: skip
    places = {id(part): top / _key(part, how) for part in slow}
    todo = [part for part in slow if not places[id(part)].exists()]
    if todo:
        top.mkdir(parents=True, exist_ok=True)
        _convert(todo, [places[id(part)] for part in todo], top)
    return [_from_folder(part, places[id(part)]) if id(part) in places else part for part in parts]


def _key(part: Part, how: str) -> str:
    told = repr((_FORM, how, part.name, part.stamps, part.kind, part.n_rows))
    return hashlib.blake2b(told.encode(), digest_size=12).hexdigest()


def _from_folder(part: Part, folder: Path) -> Part:
    """Return a part that reads what was written, under the name and with the stamps of its file."""
    (found,) = npy.open_parts([folder], Wanted())
    return replace(found, name=part.name, stamps=part.stamps, feature_names=part.feature_names)


def _bytes_of(part: Part) -> int:
    """Say how much a part takes: of sparse rows about as much as their file."""
    if part.is_sparse:
        return sum(stamp.size for stamp in part.stamps)
    return part.n_rows * part.n_features * part.dtype.itemsize


def _convert(parts: Sequence[Part], places: Sequence[Path], top: Path) -> None:
    from tqdm import tqdm

    n_bytes = sum(map(_bytes_of, parts))
    size, free = tqdm.format_sizeof(n_bytes), shutil.disk_usage(top).free
    if free < n_bytes:
        raise OSError(f"cache is {str(top)!r}: expected room for {size}B, got "
                      f"{tqdm.format_sizeof(free)}B")  # fmt: skip
    told = f"{size}B of {len(parts)} shards to {top}"
    with tqdm(total=sum(part.n_rows for part in parts), desc=told, unit="row") as bar:
        for part, place in zip(parts, places, strict=True):
            unfinished = place.with_name(f".{place.name}.{os.urandom(8).hex()}")
            unfinished.mkdir()
            try:
                _write(part, unfinished, bar.update)
                unfinished.rename(place)
            except BaseException:
                shutil.rmtree(unfinished, ignore_errors=True)
                if not place.exists():  # else another process was first: its folder has the same
                    raise


def _write(part: Part, folder: Path, tell: Callable[[int], Any]) -> None:
    if part.is_sparse:
        _write_sparse(part, folder, tell)
    else:
        shape = (part.n_rows, part.n_features)
        write_npy_blocks(folder / "X.npy", shape, part.dtype, _rows(part, tell))
    for name, column in (("y", part.labels), ("weight", part.weights)):
        if column is not None:
            values = [column(some.start, some.stop) for some in blocks(part.n_rows, 1 << 20)]
            write_npy(folder / f"{name}.npy", np.concatenate(values))


def _rows(part: Part, tell: Callable[[int], Any]) -> Iterator[Any]:
    for some in blocks(part.n_rows, AT_ONCE):
        yield part.read(some.start, some.stop)
        tell(some.stop - some.start)


def _write_sparse(part: Part, folder: Path, tell: Callable[[int], Any]) -> None:
    block: CSR
    data, indices, counts = [], [], [np.zeros(1, np.int64)]
    for block in _rows(part, tell):
        data.append(block.data)
        indices.append(block.indices)
        counts.append(np.diff(block.indptr))
    arrays = {
        "data": np.concatenate(data),
        "indices": np.concatenate(indices),
        "indptr": np.cumsum(np.concatenate(counts), dtype=np.int64),
        "shape": np.array([part.n_rows, part.n_features]),
    }
    for name, array in arrays.items():
        write_npy(folder / f"{name}.npy", array)
