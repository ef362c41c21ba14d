"""Shards that are .tar files of .npy members, as webdataset has them: views of the map.

Members of one name and several endings belong together: 000017.npy and its label 000017.cls. A
member is one sample where its label is a number or a word in a text; or it has many rows, and its
labels are a .npy member too.
"""

from __future__ import annotations

import math
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.errors import DataError
from csoftmax.core.names import listed
from csoftmax.data.readers.parts.arrays import declared_array
from csoftmax.data.readers.parts.files import Kept, MappedArray, Stamp, mapped, stamp_of
from csoftmax.data.readers.parts.npy import part_of
from csoftmax.data.readers.parts.part import Part, Wanted, numbers_or_texts

Array = NDArray[Any]
_LONGEST_TEXT = 1000  # bytes of a label
_ENDINGS_OF_LABELS = ("cls", "y.npy", "labels.npy")


class Member(NamedTuple):
    """Where the data of a member lie in the file."""

    start: int
    size: int


Groups = dict[str, dict[str, Member]]  # the members by name and ending


def open_parts(paths: Sequence[Path], wanted: Wanted) -> Iterator[Part]:
    """Yield a part for each file of samples, or for each member that has many rows."""
    for path in paths:
        stamp = stamp_of(path)
        groups = _groups(stamp)
        found = sorted({ending for group in groups.values() for ending in group})
        endings = _endings(path, found, wanted)
        if not groups:
            continue
        if _are_samples(path, stamp, groups, endings):
            yield _samples_part(path, stamp, groups, endings)
        else:
            yield from _block_parts(path, stamp, groups, endings)


def _groups(stamp: Stamp) -> Groups:
    """Return the members by name and by ending; raise DataError for a broken or compressed file."""
    groups: Groups = {}
    path = stamp.path
    try:
        with open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for info in archive:
                if not info.isreg():
                    continue
                if info.issparse() or info.offset_data + info.size > stamp.size:
                    raise DataError(
                        f"{path}: byte {info.offset_data}: expected {info.size} bytes of the "
                        f"member {info.name!r:.80}, got {max(0, stamp.size - info.offset_data)}"
                    )
                folder, slash, name = info.name.rpartition("/")
                stem, _, ending = name.partition(".")
                group = groups.setdefault(folder + slash + stem, {})
                group[ending] = Member(info.offset_data, info.size)
            _check_end(file, path, archive)
    except tarfile.TarError as error:
        raise DataError(f"{path}: expected a .tar file that is not compressed: {error}") from error
    except (ValueError, OverflowError, MemoryError, UnicodeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: expected a .tar file: {error}") from error
    return groups


def _check_end(file: IO[bytes], path: str, archive: tarfile.TarFile) -> None:
    """Raise DataError where no block of zeros ends the members, as in a file that is cut off."""
    file.seek(archive.offset)
    if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise DataError(f"{path}: byte {archive.offset}: expected a member or the end of a .tar "
                        "file, got neither")  # fmt: skip


class Endings(NamedTuple):
    """Which members have what."""

    X: str
    y: str | None
    weight: str | None


def _endings(path: Path, found: Sequence[str], wanted: Wanted) -> Endings:
    y = wanted.y or next((ending for ending in _ENDINGS_OF_LABELS if ending in found), None)
    if isinstance(wanted.X, tuple):
        raise ValueError(f"X is {wanted.X}, expected one ending of members of .tar files")
    arrays = [e for e in found if e.endswith("npy") and e not in (y, wanted.weight)]
    X = wanted.X or (arrays[0] if len(arrays) == 1 else None)
    for name, ending in (("X", X), ("y", y), ("weight", wanted.weight)):
        if ending is None and name == "X":
            raise DataError(f"{path}: say the ending of the members with features, as X='npy': it "
                            f"has members with {listed(list(found)) or 'none'}")  # fmt: skip
        if ending is not None and ending not in found:
            raise DataError(f"{path}: there are no members {'*.' + ending!r} for {name}: it has "
                            f"members with {listed(list(found)) or 'none'}")  # fmt: skip
    assert X is not None
    return Endings(X, y, wanted.weight)


def _are_samples(path: Path, stamp: Stamp, groups: Groups, endings: Endings) -> bool:
    """Is each member one sample?"""
    if endings.y is not None:
        return not endings.y.endswith("npy")
    first = next(group[endings.X] for group in groups.values() if endings.X in group)
    return len(_array(path, stamp, first).shape) == 1


def _array(path: Path, stamp: Stamp, member: Member) -> MappedArray:
    with open(path, "rb") as file:
        file.seek(member.start)
        return _array_at(file, stamp, member)


def _array_at(file: IO[bytes], stamp: Stamp, member: Member) -> MappedArray:
    where = f"{stamp.path}: member at byte {member.start}"
    return declared_array(where, file, stamp, member.start, member.start + member.size)


def _complete(path: str, groups: Groups, endings: Endings) -> dict[str, list[Member | None]]:
    """Return the members of each name, in the order of `endings`; raise where one is missing."""
    found = {}
    for name, group in groups.items():
        if endings.X not in group and (endings.y is None or endings.y not in group):
            continue  # something else, such as a text about all
        for ending in endings:
            if ending is not None and ending not in group:
                raise DataError(f"{path}: the member {name!r} has no {'.' + ending!r}")
        found[name] = [None if ending is None else group[ending] for ending in endings]
    return found


# ---- members of many rows ----------------------------------------------------------------------


def _block_parts(path: Path, stamp: Stamp, groups: Groups, endings: Endings) -> Iterator[Part]:
    for name, members in _complete(str(path), groups, endings).items():
        arrays = [None if member is None else _array(path, stamp, member) for member in members]
        X, y, weight = arrays
        assert X is not None
        yield part_of(f"{path.name}: {name}", X, y, weight)


# ---- a sample a member -------------------------------------------------------------------------


class Index(NamedTuple):
    """Where the samples of a file begin, and the texts beside them."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    starts: NDArray[np.int64]  # the byte of each one's first value
    labels: Array | None
    weights: Array | None


_indices: Kept[Index] = Kept(64)


@dataclass(frozen=True)
class TarSamples:
    """The samples of a file; where they lie is found out once in each process."""

    stamp: Stamp
    endings: Endings

    def index(self) -> Index:
        """Return where the samples are."""
        self.stamp.check()
        return _indices.get(self, lambda: self.read_index(_groups(self.stamp)))

    def read(self, start: int, stop: int) -> Array:
        """Return some samples: a view of the file where they lie at even distances."""
        index = self.index()
        starts, n_features = index.starts[start:stop], math.prod(index.shape)
        if not len(starts):
            return np.empty((0, n_features), index.dtype)
        data, step = mapped(self.stamp), index.dtype.itemsize
        distances = np.diff(starts)
        if not len(distances) or (distances == distances[0]).all():
            stride = int(distances[0]) if len(distances) else n_features * step
            rows: Array = np.ndarray(
                (len(starts), n_features), index.dtype, data, int(starts[0]), (stride, step)
            )
            return rows
        rows = np.empty((len(starts), n_features), index.dtype)
        for i, at in enumerate(starts.tolist()):
            rows[i] = np.frombuffer(data, index.dtype, n_features, at)
        return rows

    def labels(self, start: int, stop: int) -> Array:
        """Return the labels of some samples."""
        labels = self.index().labels
        assert labels is not None
        return labels[start:stop]

    def weights(self, start: int, stop: int) -> Array:
        """Return the weights of some samples."""
        weights = self.index().weights
        assert weights is not None
        return weights[start:stop]

    def read_index(self, groups: Groups) -> Index:
        """Look where the samples are that these members have."""
        path = self.stamp.path
        members = _complete(path, groups, self.endings)
        starts = np.empty(len(members), np.int64)
        first: MappedArray | None = None
        header = b""  # of the first member: the others have the same, so it is parsed once
        texts: list[list[str]] = [[], []]
        with open(path, "rb") as file:
            for i, (name, (X, *others)) in enumerate(members.items()):
                assert X is not None
                file.seek(X.start)
                if not header or file.read(len(header)) != header:
                    file.seek(X.start)
                    array = _array_at(file, self.stamp, X)
                    first = first or array
                    if (array.shape, array.dtype) != (first.shape, first.dtype):
                        raise DataError(f"{path}: {name!r} has shape {array.shape} {array.dtype}, "
                                        f"expected {first.shape} {first.dtype} as before it"
                                        )  # fmt: skip
                    if not header:
                        file.seek(X.start)
                        header = file.read(array.offset - X.start)
                    starts[i] = array.offset
                else:
                    starts[i] = X.start + len(header)
                    _check_size(path, name, X, first, len(header))
                for kept, member in zip(texts, others, strict=True):
                    if member is not None:
                        kept.append(_text(path, name, file, member))
        if first is None:
            return Index((0,), np.dtype(np.uint8), starts, None, None)
        labels, weights = texts
        return Index(
            first.shape, first.dtype, starts,
            numbers_or_texts(labels) if self.endings.y else None,
            _floats(path, weights) if self.endings.weight else None,
        )  # fmt: skip


def _check_size(path: str, name: str, X: Member, first: MappedArray | None, header: int) -> None:
    assert first is not None
    expected = header + math.prod(first.shape) * first.dtype.itemsize
    if X.size != expected:
        raise DataError(f"{path}: byte {X.start}: expected {expected} bytes of {name!r}, got "
                        f"{X.size}")  # fmt: skip


def _text(path: str, name: str, file: IO[bytes], member: Member) -> str:
    if member.size > _LONGEST_TEXT:
        raise DataError(f"{path}: byte {member.start}: expected a label of {name!r}, got "
                        f"{member.size} bytes")  # fmt: skip
    file.seek(member.start)
    try:
        return file.read(member.size).decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {member.start}: the label of {name!r} is not UTF-8 text"
                        ) from error  # fmt: skip


def _floats(path: str, texts: Sequence[str]) -> Array:
    try:
        return np.array([float(text) for text in texts])
    except ValueError as error:
        raise DataError(f"{path}: expected weights that are numbers: {error}") from error


def _samples_part(path: Path, stamp: Stamp, groups: Groups, endings: Endings) -> Part:
    samples = TarSamples(stamp, endings)
    index = samples.read_index(groups)
    _indices.put(samples, index)
    return Part(
        path.name, len(index.starts), math.prod(index.shape), index.dtype, samples.read,
        None if endings.y is None else samples.labels,
        None if endings.weight is None else samples.weights,
        (stamp,), gives_views=len(set(np.diff(index.starts).tolist())) < 2,
    )  # fmt: skip
