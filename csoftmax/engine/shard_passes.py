"""Passes over rows in shards: the sums and, where shards are whole chunks, the bits of one array.

Shards are read one window after the other, the next one while a window is summed. Of a mapped file
a window is a view, whose pages are asked for if they are not in memory. Chunks begin anew with each
shard. So shards whose lengths are multiples of a chunk have the bits of one array; others are
rounded in other places.
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.checks import compute_dtype
from csoftmax.core.errors import DataError
from csoftmax.engine.chunks import AT_ONCE, Evaluation, add_feature_sums, mapping_of
from csoftmax.engine.class_sums import class_sums
from csoftmax.engine.local_passes import LocalPasses
from csoftmax.engine.measures import Heads, Measures
from csoftmax.engine.passes import ClassSums, NullSums, Sums, raise_overflow
from csoftmax.engine.row_weights import Weights
from csoftmax.engine.targets import digest_targets, drawn
from csoftmax.engine.units import CHUNK_ROWS, SumTree, n_chunks
from csoftmax.rows.base import Stored, as_stored, take
from csoftmax.rows.shards import Shard, ShardRows

Array = NDArray[Any]

# A window has as many chunks as so many bytes hold, at least one. Views that are there at once make
# windows LONGER times as long, as each costs the sum the start of its threads.
WINDOW_BYTES, LONGER = 1 << 24, 4
# A window is there at once if it is read in so many seconds: a tenth of what its sum takes.
QUICK_SECONDS = 3e-4
# Linux from 5.14 on: read and map the pages of a range, for which no thread of a pass then waits.
_POPULATE_READ = 22


def window_bytes(rows: ShardRows) -> int:
    """Return what windows take at most, where shards do not give views: three at a time.

    The last one of a shard has up to a chunk more.
    """
    chunk = CHUNK_ROWS * rows.n_features * rows.dtype.itemsize
    return 3 * (max(WINDOW_BYTES, chunk) + chunk)


class ShardPasses:
    """Passes over dense rows in shards, for heads that share X and the labels.

    They are `csoftmax.engine.passes.Passes`, bit for bit as `LocalPasses` over the same rows.

    Parameters
    ----------
    rows : ShardRows
    target : array (n_rows,) of labels, checked, of unsigned integers or int64
    n_classes : int
    weights : float64 array (n_weights, n_rows) or FoldWeights, optional
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
        weights: Weights | None = None,
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
        self._is_quick = False  # was the last window there at once?

    @property
    def n_weights(self) -> int:
        """How many rows of weights there are."""
        return 1 if self.weights is None else len(self.weights)

    def weight(self, r: int) -> Weights | None:
        """Return one of the rows of weights; None where all rows weigh 1."""
        return None if self.weights is None else self.weights[r]

    def _weights_of(self, some: slice) -> Array | None:
        return None if self.weights is None else np.ascontiguousarray(self.weights[:, some])

    def windows(
        self, wanted: Callable[[slice], bool] | None = None
    ) -> Iterator[tuple[slice, Array]]:
        """Yield windows of whole chunks, and the numbers of their rows, which are `wanted`."""
        for some, (window,) in self._windows(in_pieces=False, wanted=wanted):
            yield some, window

    def _windows(
        self, in_pieces: bool, wanted: Callable[[slice], bool] | None = None
    ) -> Iterator[tuple[slice, tuple[Array, ...]]]:
        """Yield windows as arrays whose rows follow each other: one, or as many as lie in memory.

        A thread reads the next one ahead. Where the last one was there at once, no thread is asked:
        a view of memory is made sooner than a thread wakes, and that has no CPU to itself.
        """
        before: tuple[slice, Future[tuple[Array, ...]]] | None = None
        with ThreadPoolExecutor(1) as reader:
            for shard, run, some in self._runs(in_pieces):
                if wanted is not None and not wanted(some):
                    continue
                job = shard, run, in_pieces
                ahead = None if self._is_quick else reader.submit(self._read, *job)
                if before is not None:
                    yield before[0], before[1].result()
                before = None if ahead is None else (some, ahead)
                if ahead is None:
                    yield some, self._read(*job)
            if before is not None:
                yield before[0], before[1].result()

    def _runs(self, in_pieces: bool) -> Iterator[tuple[Shard, slice, slice]]:
        """Yield shards, which of their rows come next, and the numbers of these among all rows."""
        row_bytes = max(1, self.n_features * self.rows.dtype.itemsize)
        row_bytes += 0 if self.weights is None else 8 * len(self.weights)  # made for a window
        at_once = max(1, min(WINDOW_BYTES // (CHUNK_ROWS * row_bytes), AT_ONCE))
        for shard, start in zip(self.rows.shards, self.rows.starts.tolist(), strict=False):
            first, n = 0, n_chunks(shard.n_rows)
            takes_none = shard.gives_views and (in_pieces or shard.pieces is None)
            longer = LONGER if takes_none and self.weights is None else 1
            while first < n:
                wanted = min(at_once * longer, AT_ONCE) if self._is_quick else at_once
                end = min(first + wanted, n)
                run = slice(first * CHUNK_ROWS, end * CHUNK_ROWS if end < n else shard.n_rows)
                yield shard, run, slice(start + run.start, start + run.stop)
                first = end

    def _read(self, shard: Shard, run: slice, in_pieces: bool) -> tuple[Array, ...]:
        began = time.perf_counter()
        arrays: tuple[Any, ...]
        if in_pieces and shard.pieces is not None:
            arrays = tuple(shard.pieces(run.start, run.stop))
        else:
            arrays = (shard.read(run.start, run.stop),)
        n_rows, shape = sum(map(len, arrays)), (run.stop - run.start, self.n_features)
        for array in arrays:
            got = n_rows, *array.shape[1:]
            if not isinstance(array, np.ndarray) or (got, array.dtype) != (shape, self.rows.dtype):
                raise DataError(
                    f"{shard.name}: rows {run.start} to {run.stop} are {array.dtype} {got}, "
                    f"expected {self.rows.dtype} {shape}: it has changed since it was opened"
                )
        _read_pages(arrays)
        stored = tuple(as_stored(array, self.dtype) for array in arrays)
        self._is_quick = time.perf_counter() - began < QUICK_SECONDS
        return stored

    def evaluate(
        self, W: Any, b: Array, weight_of_head: NDArray[np.int64], dW: Any, db: Array
    ) -> Sums:
        """Return the sums of heads at W and b, and set dW and db to the gradients of the losses.

        See `csoftmax.engine.passes.Passes.evaluate`.
        """
        here = Evaluation(W, b, weight_of_head, self.scale, self.n_threads)
        tree, n_correct = here.tree(self.n_chunks), np.zeros(len(b), np.int64)
        for some, X in self._windows(in_pieces=True):
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
            self._samples[r] = self._local(np.concatenate(part), self.target[numbers], numbers, r)
        return NullSums(sums, losses, dW, db, 1)

    def class_sums(self, share: float, seed: int) -> ClassSums:
        """Return the sums by class, and rows that are drawn: see `Passes`."""
        return class_sums(self, self.windows(), self.n_chunks, share, seed)

    def _local(
        self, X: Stored, target: Array, rows: slice | NDArray[np.int64], r: int
    ) -> LocalPasses:
        return LocalPasses(
            X, target, self.n_classes,
            weights=None if self.weights is None else self.weights[r : r + 1, rows],
            scale=self.scale, n_threads=self.n_threads,
        )  # fmt: skip

    def sample(self, weight_row: int, n: int, seed: int) -> LocalPasses:
        """Return at most n of the rows that a row of weights counts, drawn at random, in order."""
        kept = self._samples.get(weight_row)
        if kept is not None and seed == 0 and (n == self.n_sampled or kept.n_rows < self.n_sampled):
            return kept
        rows = drawn(self.n_rows, self.weight(weight_row), n, seed)
        X = self.rows.take(rows)
        return self._local(X, self.target[rows], rows, weight_row)

    def measure(self, W: Array, b: Array, weight_of_head: NDArray[np.int64]) -> Measures:
        """Return losses of heads, and rows predicted right, in one pass without gradients.

        W is (n_heads, n_classes, n_features). b (n_heads, n_classes) has the type to compute in.
        """
        heads = Heads(W, b, weight_of_head, self.scale, self.n_threads)
        tree = heads.tree(self.n_chunks)
        for some, X in self.windows():
            heads.add(tree, X, self.target[some], self._weights_of(some))
        return heads.measures(tree)

    def outputs(self, r: int, W: Array, b: Array, labels: bool) -> Array:
        """Return the predicted classes, or the logits, of the rows that row r of weights counts.

        They are in order, and windows without any of them are not read. W is (n_classes,
        n_features), and b has the type to compute in.
        """
        heads = Heads(W[None], b[None], np.zeros(1, np.int64), self.scale, self.n_threads)
        parts = [heads.output(np.empty((0, self.n_features), self.rows.dtype), 0, labels)]
        weight = self.weight(r)
        for some, X in self.windows(lambda some: weight is None or bool(weight[some].any())):
            rows = X if weight is None else take(X, np.flatnonzero(weight[some]))
            parts.append(heads.output(rows, 0, labels))
        return np.concatenate(parts)

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


def _library() -> Any:
    """Return the C library, of Linux only: what numbers mean may differ elsewhere."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    library.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
    return library


_libc = _library()


def _read_pages(arrays: Sequence[Array]) -> None:
    """Read the pages of mapped files, unless the last one is in memory: files are read in order.

    To ask for every page that is in memory would take a twentieth of what their sum does. An older
    Linux refuses, and the threads of the pass wait for the pages.
    """
    if _libc is None or _is_in_memory(arrays[-1]):
        return
    for array in arrays:
        start, end = _pages(array)
        _libc.madvise(start, end - start, _POPULATE_READ)


def _is_in_memory(array: Array) -> bool:
    """Is the last page of an array in memory? Of a file of somebody else, Linux says so always."""
    start, end = _pages(array)
    if start == end:
        return True
    found = ctypes.create_string_buffer(1)
    known = _libc.mincore((end - 1) // mmap.PAGESIZE * mmap.PAGESIZE, 1, found) == 0
    return bool(known and found.raw[0] & 1)


def _pages(array: Array) -> tuple[int, int]:
    """Return the addresses where the pages of an array begin, and where it ends."""
    start: int = array.__array_interface__["data"][0]
    if not array.nbytes or min(array.strides) <= 0:
        return start, start
    end = start + (len(array) - 1) * array.strides[0] + array.shape[1] * array.strides[1]
    return start - start % mmap.PAGESIZE, end
