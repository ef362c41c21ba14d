"""Passes over rows in shards: the sums and, where shards are whole chunks, the bits of one array.

Shards are read one window after the other, the next one while a window is summed. Of a mapped file
a window is a view, whose pages the reading thread asks for. Chunks begin anew with each shard. So
shards whose lengths are multiples of a chunk have the bits of one array; others are rounded in
other places.
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.checks import compute_dtype
from csoftmax.core.errors import DataError
from csoftmax.engine.chunks import Evaluation, add_feature_sums, mapping_of
from csoftmax.engine.class_sums import class_sums
from csoftmax.engine.local_passes import LocalPasses
from csoftmax.engine.passes import ClassSums, NullSums, Sums, raise_overflow
from csoftmax.engine.targets import digest_targets, drawn
from csoftmax.engine.units import CHUNK_ROWS, SumTree, n_chunks, runs
from csoftmax.rows.base import Stored, as_stored
from csoftmax.rows.shards import Shard, ShardRows

Array = NDArray[Any]
Rows = TypeVar("Rows")

# Windows have as many chunks as so many bytes hold, at least one.
WINDOW_BYTES = 1 << 24
# Linux from 5.14 on: read and map the pages of a range, for which no thread of a pass then waits.
_POPULATE_READ = 22


def window_bytes(rows: ShardRows) -> int:
    """Return what windows take at most, where a shard is no map of a file: three at a time."""
    return 3 * max(WINDOW_BYTES, 2 * CHUNK_ROWS * rows.n_features * rows.dtype.itemsize)


def read_ahead(
    jobs: Iterable[tuple[int, Shard, slice]], read: Callable[[Shard, slice], Rows]
) -> Iterator[tuple[slice, Rows]]:
    """Yield what `read` gives of runs of shards, and the numbers of its rows; the next one is read.

    `jobs` have the number of a shard's first row, the shard, and the run.
    """
    before: tuple[slice, Future[Rows]] | None = None
    with ThreadPoolExecutor(1) as reader:
        for start, shard, run in jobs:
            some = slice(start + run.start, start + run.stop)
            ahead = some, reader.submit(read, shard, run)
            if before is not None:
                yield before[0], before[1].result()
            before = ahead
        if before is not None:
            yield before[0], before[1].result()


class ShardPasses:
    """Passes over dense rows in shards, for heads that share X and the labels.

    They are `csoftmax.engine.passes.Passes`, bit for bit as `LocalPasses` over the same rows.

    Parameters
    ----------
    rows : ShardRows
    target : array (n_rows,) of labels, checked, of unsigned integers or int64
    n_classes : int
    weights : float64 array (n_weights, n_rows), optional
        Rows of weights >= 0, of which each head has one; None: one row of ones.
    scale : float
        Multiplies X.
    n_threads : int
        At most so many threads, and one that reads ahead. The bits do not depend on it.
    n_sampled : int
        So many rows are kept by `null_sums` for `sample` to return.
    """

    is_sparse = False

    def __init__(
        self,
        rows: ShardRows,
        target: Array,
        n_classes: int,
        *,
        weights: NDArray[np.float64] | None = None,
        scale: float = 1.0,
        n_threads: int = 1,
        n_sampled: int = 0,
    ) -> None:
        self.rows, self.dtype = rows, compute_dtype(rows)
        self.n_rows, self.n_features = rows.n_rows, rows.n_features
        self.n_classes, self.scale, self.n_threads = n_classes, scale, n_threads
        self.target, self.weights, self.n_sampled = target, weights, n_sampled
        self.n_chunks = sum(n_chunks(shard.n_rows) for shard in rows.shards)
        self._samples: dict[int, LocalPasses] = {}

    @property
    def n_weights(self) -> int:
        """How many rows of weights there are."""
        return 1 if self.weights is None else len(self.weights)

    def weight(self, r: int) -> NDArray[np.float64] | None:
        """Return one of the rows of weights; None where all rows weigh 1."""
        return None if self.weights is None else self.weights[r]

    def _weights_of(self, some: slice) -> Array | None:
        return None if self.weights is None else np.ascontiguousarray(self.weights[:, some])

    def windows(self) -> Iterator[tuple[slice, Array]]:
        """Yield windows of whole chunks, and the numbers of their rows; the next is read ahead."""
        row_bytes = max(1, self.n_features * self.rows.dtype.itemsize)
        at_once = max(1, WINDOW_BYTES // (CHUNK_ROWS * row_bytes))
        jobs = (
            (start, shard, run)
            for shard, start in zip(self.rows.shards, self.rows.starts.tolist(), strict=False)
            for run in runs(shard.n_rows, at_once)
        )
        yield from read_ahead(jobs, self._read)

    def _read(self, shard: Shard, run: slice) -> Array:
        block = shard.read(run.start, run.stop)
        shape = run.stop - run.start, self.n_features
        if not isinstance(block, np.ndarray) or (block.shape, block.dtype) != (
            shape,
            self.rows.dtype,
        ):
            raise DataError(
                f"{shard.name}: rows {run.start} to {run.stop} are {block.dtype} {block.shape}, "
                f"expected {self.rows.dtype} {shape}: it has changed since it was opened"
            )
        _read_pages(block)
        stored: Array = as_stored(block, self.dtype)
        return stored

    def evaluate(
        self, W: Any, b: Array, weight_of_head: NDArray[np.int64], dW: Any, db: Array
    ) -> Sums:
        """Return the sums of heads at W and b, and set dW and db to the gradients of the losses.

        See `csoftmax.engine.passes.Passes.evaluate`.
        """
        here = Evaluation(W, b, weight_of_head, self.scale, self.n_threads)
        tree, n_correct = here.tree(self.n_chunks), np.zeros(len(b), np.int64)
        for some, X in self.windows():
            n_correct += here.add(tree, X, self.target[some], self._weights_of(some), (dW, db))
        return Sums(here.finish(tree, dW, db), n_correct.tolist())

    def null_sums(self, b: Array, of_features: bool) -> NullSums:
        """Return the sums at W = 0, a head for each row of weights, and those of the features.

        All in one pass, which also draws the sample. ValueError with what is not finite.
        """
        n, f = self.n_weights, self.n_features
        W, of_head = np.zeros((n, self.n_classes, f), self.dtype), np.arange(n)
        dW, db = np.empty_like(W), np.empty_like(b)
        here = Evaluation(W, b, of_head, self.scale, self.n_threads)
        tree, features = here.tree(self.n_chunks), SumTree(self.n_chunks, n * f)
        sampled = [drawn(self.n_rows, self.weight(r), self.n_sampled, 0) for r in range(n)]
        parts: list[list[Array]] = [[] for _ in sampled]
        with mapping_of(self.n_threads) as mapping:
            for some, X in self.windows():
                weights = self._weights_of(some)
                here.add(tree, X, self.target[some], weights, (dW, db))
                if of_features:
                    add_feature_sums(features, X, weights, self.scale, self.dtype, mapping)
                for numbers, part in zip(sampled, parts, strict=True):
                    part.append(rows_in(numbers, some, X))
        losses = here.finish(tree, dW, db)
        sums = features.total().reshape(n, f)
        if not all(np.isfinite(array).all() for array in (losses, dW, sums)):
            self.raise_bad_value()
        for r, (numbers, part) in enumerate(zip(sampled, parts, strict=True)):
            self._samples[r] = self._local(np.concatenate(part), numbers, r)
        return NullSums(sums, losses, dW, db, 1)

    def class_sums(self, share: float, seed: int) -> ClassSums:
        """Return the sums by class, and rows that are drawn: see `Passes`."""
        return class_sums(self, self.windows(), self.n_chunks, share, seed)

    def _local(self, X: Stored, rows: slice | NDArray[np.int64], r: int) -> LocalPasses:
        weight = self.weight(r)
        return LocalPasses(
            X, self.target[rows].astype(np.int64), self.n_classes,
            weights=None if weight is None else weight[None, rows],
            scale=self.scale, n_threads=self.n_threads,
        )  # fmt: skip

    def sample(self, weight_row: int, n: int, seed: int) -> LocalPasses:
        """Return at most n of the rows that a row of weights counts, drawn at random, in order."""
        kept = self._samples.get(weight_row)
        if kept is not None and seed == 0 and (n == self.n_sampled or kept.n_rows < self.n_sampled):
            return kept
        rows = drawn(self.n_rows, self.weight(weight_row), n, seed)
        return self._local(self.rows.take(rows), rows, weight_row)

    def raise_bad_value(self) -> None:
        """Raise an error with what of X spoils sums: NaN, infinity, or the largest column."""
        largest = np.zeros(self.n_features)
        for some, block in self.rows.blocks(CHUNK_ROWS):
            weights = self._weights_of(some)
            if weights is not None:
                block = np.where(weights.max(axis=0)[:, None] > 0, block, 0).astype(block.dtype)
            self.rows.check_finite(some.start, block)
            np.maximum(largest, np.abs(np.asarray(block)).max(axis=0, initial=0), out=largest)
        raise_overflow(self.dtype, largest)

    def fingerprint(self) -> bytes:
        """Return a digest of the shards, the labels, the weights and the scale."""
        digest = hashlib.blake2b(self.rows.fingerprint(), digest_size=16)
        digest_targets(digest, self.target, self.weights, self.n_classes, self.scale)
        return digest.digest()


def rows_in(numbers: slice | NDArray[np.int64], some: slice, X: Array) -> Array:
    """Return a copy of those numbered rows that are in a window."""
    if isinstance(numbers, slice):
        copy: Array = X.copy()
        return copy
    first, end = np.searchsorted(numbers, (some.start, some.stop))
    rows: Array = X[numbers[first:end] - some.start]
    return rows


def _library_madvise() -> Any:
    """Return madvise of the C library, or None where it may be another one."""
    if not sys.platform.startswith("linux"):
        return None
    madvise = getattr(ctypes.CDLL(None), "madvise", None)
    if madvise is not None:
        madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return madvise


_madvise = _library_madvise()


def _read_pages(block: Array) -> None:
    """Read the pages of a mapped file; of memory that is there already this takes microseconds.

    An older Linux refuses, and the threads of the pass wait for the pages.
    """
    if _madvise is None or not block.nbytes or min(block.strides) <= 0:
        return
    start = block.__array_interface__["data"][0]
    end = start + (len(block) - 1) * block.strides[0] + block.shape[1] * block.strides[1]
    page = start - start % mmap.PAGESIZE
    _madvise(page, end - page, _POPULATE_READ)
