"""Files that are opened when they are read, and not too many at a time."""

from __future__ import annotations

import math
import mmap
import os
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.errors import DataError

Value = TypeVar("Value")
MOST_MAPS = 64  # an open map holds a file descriptor, of which a process often has 1,024


class Stamp(NamedTuple):
    """What tells whether a file is still the one that was opened."""

    path: str
    size: int
    changed: int  # in nanoseconds

    def check(self) -> None:
        """Raise DataError if the file has changed since: what was read of it may not fit any more.

        A map of a file that became shorter would end the process at the first byte beyond its end.
        """
        try:
            now = stamp_of(self.path)
        except OSError as error:
            raise DataError(f"{self.path}: the file was there when the shards were opened: "
                            f"{error.strerror}") from error  # fmt: skip
        if now != self:
            what = "size" if now.size != self.size else "time of change"
            raise DataError(
                f"{self.path}: the file has changed since the shards were opened: expected "
                f"{self.size} bytes, got {now.size} bytes and another {what}; open the shards anew"
            )


def stamp_of(path: str | os.PathLike[str]) -> Stamp:
    """Return path, size and time of change of a file."""
    status = os.stat(path)
    return Stamp(os.fspath(path), status.st_size, status.st_mtime_ns)


class Kept(Generic[Value]):
    """The values that were asked for last, at most so many; for all threads of the process."""

    def __init__(self, at_most: int) -> None:
        self._at_most, self._lock = at_most, Lock()
        self._values: OrderedDict[Hashable, Value] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return the value of a key, made by `make` where it is not kept."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()
        self.put(key, value)
        return value

    def put(self, key: Hashable, value: Value) -> None:
        """Keep a value."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            while len(self._values) > self._at_most:
                self._values.popitem(last=False)

    def pop(self, key: Hashable) -> Value | None:
        """Return the value of a key, if it is kept, which is then the caller's alone."""
        with self._lock:
            return self._values.pop(key, None)


_maps: Kept[mmap.mmap] = Kept(MOST_MAPS)


def mapped(stamp: Stamp) -> mmap.mmap:
    """Return the map of a whole file, read-only; raise DataError if the file has changed.

    The map is closed when no array of it is in use and `MOST_MAPS` others were asked for.
    """
    stamp.check()
    return _maps.get(stamp, lambda: _map(stamp.path))


def _map(path: str) -> mmap.mmap:
    with open(path, "rb") as file:
        whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    # a pass goes through a file once: the system then reads further ahead, and waits are fewer
    whole.madvise(mmap.MADV_SEQUENTIAL)
    return whole


@dataclass(frozen=True)
class MappedArray:
    """An array that lies in a file as it is in memory."""

    stamp: Stamp
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    strides: tuple[int, ...]

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return some rows, (stop - start, n_features), as a read-only view of the file.

        An array of one dimension, of labels, keeps it.
        """
        rows: NDArray[Any] = self.whole()[start:stop]
        if rows.ndim > 2:
            rows = np.reshape(rows, (len(rows), math.prod(self.shape[1:])))
        return rows

    def whole(self) -> NDArray[Any]:
        """Return the array as it is declared."""
        if 0 in self.shape:
            return np.empty(self.shape, self.dtype)
        array: NDArray[Any] = np.ndarray(
            self.shape, self.dtype, mapped(self.stamp), self.offset, self.strides
        )
        return array


def suffix_of(path: str | os.PathLike[str]) -> str:
    """Return the ending of a file's name in small letters; that before .gz is part of it."""
    name = Path(path).name.lower()
    before = name.removesuffix(".gz")
    return Path(before).suffix + name[len(before) :]
