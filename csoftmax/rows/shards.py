"""Rows in many parts: files, or members of files, of which a part is read at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.errors import DataError
from csoftmax.core.sparse import CSR
from csoftmax.rows.base import Stored, blocks, stacked

Array = NDArray[Any]
Numbers = NDArray[np.int64]
# Rows that are taken by number are read so many at a time: a compressed part is decoded by blocks.
TAKEN_AT_ONCE = 8192
SAMPLED_SHARDS = 64  # of which a fingerprint reads the first and the last row


@dataclass(frozen=True)
class Shard:
    """One part of the rows: `read` gives those from a number to another, counted from its start.

    The functions open files by themselves, at each call or the first one, so that a shard is small
    when it is pickled. They give rows as they are stored: a view of a file where its format allows.
    """

    name: str  # for messages: "shard 17 (part-17.npy)"
    n_rows: int
    read: Callable[[int, int], Stored]  # (n, n_features), or CSR
    labels: Callable[[int, int], Array] | None = None  # not checked
    weights: Callable[[int, int], Array] | None = None  # not checked
    stamp: tuple[Any, ...] = ()  # of each file its path, size and time of change
    # The same rows in several arrays, where they do not lie in one: `read` copies them together.
    pieces: Callable[[int, int], Sequence[Array]] | None = None
    gives_views: bool = False  # of a file or an array: its rows take no memory. So do `pieces` then


class ShardRows:
    """Rows of X in shards, one after the other.

    It has the methods of `csoftmax.rows.memory.MemoryRows`. The rows of shard s have the numbers
    ``starts[s]`` to ``starts[s + 1] - 1``.

    Parameters
    ----------
    shards : sequence of Shard
    n_features : int
    dtype : dtype
        What the shards' `read` gives. Whoever makes the shards has compared them.
    is_sparse : bool
        Does `read` give `CSR`?
    """

    in_memory = False  # somewhere: no pass reads files

    def __init__(
        self,
        shards: Sequence[Shard],
        n_features: int,
        dtype: np.dtype[Any],
        is_sparse: bool = False,
    ) -> None:
        self.shards, self.n_features, self.dtype = tuple(shards), n_features, dtype
        self.is_sparse = is_sparse
        self.starts = np.zeros(len(self.shards) + 1, np.int64)
        np.cumsum([shard.n_rows for shard in self.shards], out=self.starts[1:])
        self.n_rows = int(self.starts[-1])

    @property
    def shape(self) -> tuple[int, int]:
        return self.n_rows, self.n_features

    def __len__(self) -> int:
        return self.n_rows

    def blocks(self, at_once: int) -> Iterator[tuple[slice, Stored]]:
        """Yield the slice and the rows of each block of `at_once` (at least 1) rows.

        Blocks are counted from the start of each shard: the last one of a shard may be shorter.
        They are the same every time.
        """
        for shard, start in zip(self.shards, self.starts.tolist(), strict=False):
            for some in blocks(shard.n_rows, at_once):
                yield (
                    slice(start + some.start, start + some.stop),
                    shard.read(some.start, some.stop),
                )

    def take(self, rows: slice | Array) -> Stored:
        """Return a copy of some rows, for a slice, numbers or a mask: in the order of these."""
        if isinstance(rows, slice):
            numbers = np.arange(*rows.indices(self.n_rows))
        elif rows.dtype == np.bool_:
            if len(rows) != self.n_rows:
                raise IndexError(f"the mask has {len(rows)} values, expected {self.n_rows}")
            numbers = np.flatnonzero(rows)
        else:
            numbers = np.where(rows < 0, rows + self.n_rows, rows).astype(np.int64)
            if len(numbers) and not 0 <= numbers.min() <= numbers.max() < self.n_rows:
                raise IndexError(f"rows are numbered 0..{self.n_rows - 1}, got {rows.min()} to "
                                 f"{rows.max()}")  # fmt: skip
        order = np.argsort(numbers, kind="stable")
        if self.is_sparse:
            parts = [block[local] for _, block, local in self._pieces(numbers[order])]
            parts = parts or [self.shards[0].read(0, 0)]
            back = np.empty(len(order), np.int64)
            back[order] = np.arange(len(order))
            return stacked(parts, self.n_features, self.dtype)[back]
        taken = np.empty((len(numbers), self.n_features), self.dtype)
        for some, block, local in self._pieces(numbers[order]):
            taken[order[some]] = block[local]
        return taken

    def _pieces(self, numbers: Numbers) -> Iterator[tuple[slice, Stored, Numbers]]:
        """Yield which of some sorted numbers a block has, the block, and their places in it."""
        done = 0
        while done < len(numbers):
            s = self.shard_of(int(numbers[done]))
            shard, start = self.shards[s], int(self.starts[s])
            first = (int(numbers[done]) - start) // TAKEN_AT_ONCE * TAKEN_AT_ONCE
            end = min(first + TAKEN_AT_ONCE, shard.n_rows)
            stop = int(np.searchsorted(numbers, start + end))
            local = numbers[done:stop] - start
            low, high = int(local[0]), int(local[-1]) + 1
            yield slice(done, stop), shard.read(low, high), local - low
            done = stop

    def shard_of(self, row: int) -> int:
        """Return in which shard a row is."""
        return int(np.searchsorted(self.starts, row, side="right")) - 1

    def place(self, row: int) -> str:
        """Return where a row is, for messages: its shard, its number there and that of all."""
        s = self.shard_of(row)
        return f"{self.shards[s].name}: row {row - self.starts[s]} (row {row} of all)"

    def check_finite(self, start: int, block: Stored) -> None:
        """Raise DataError for the first value of a block, whose first row is `start`, that is none.

        That is NaN or infinity; its shard, row and feature are named.
        """
        if block.dtype.kind != "f":
            return
        values = block.data if isinstance(block, CSR) else block
        finite = np.isfinite(values)
        if finite.all():
            return
        if isinstance(block, CSR):
            e = int(finite.argmin())
            i, j = int(np.searchsorted(block.indptr, e, side="right")) - 1, int(block.indices[e])
            value = values[e]
        else:
            i, j = map(int, np.argwhere(~finite)[0])
            value = values[i, j]
        raise DataError(
            f"{self.place(start + i)}: feature {j} is {value}, expected a finite number"
        )

    def fingerprint(self) -> bytes:
        """Return a digest of the shards' names, lengths, sizes and times, and of a few rows."""
        import hashlib  # loaded by no import of csoftmax itself

        digest = hashlib.blake2b(f"{self.n_features} {self.dtype.str}".encode(), digest_size=16)
        for shard in self.shards:
            digest.update(repr((shard.name, shard.n_rows, shard.stamp)).encode())
        some = np.unique(np.linspace(0, len(self.shards) - 1, SAMPLED_SHARDS).astype(np.int64))
        for shard in [self.shards[s] for s in some.tolist() if self.shards[s].n_rows]:
            for start in (0, shard.n_rows - 1):
                row = shard.read(start, start + 1)
                parts = (row.indices, row.data) if isinstance(row, CSR) else (row,)
                for part in parts:
                    digest.update(np.ascontiguousarray(part).reshape(-1).data)
        return digest.digest()
