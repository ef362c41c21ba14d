"""Passes over sparse rows in shards: row after row, as there is no copy of them by columns.

In memory the gradient of a feature is summed over a copy of the rows by columns, made once. A copy
of each window in each pass would take longer than the pass (1.7 to 3.5 times, of text with 80
entries a row). So each entry adds to the sums of its feature, in float64 and in the order of the
rows. How windows are cut, and the number of threads, make no difference to the bits.

The tree of `csoftmax.engine.units` has *leaves* here, of 2^k chunks. A level of it has 8 bytes for
each parameter, and to add one up takes as long as some rows. So a leaf has a row for each
LEAF_PARAMETERS parameters, at least. An aligned run of 2^m leaves is a unit of work.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.errors import DataError
from csoftmax.core.sparse import CSR
from csoftmax.engine import calls
from csoftmax.engine.local_passes import finite_where_nothing_counts, side_by_side
from csoftmax.engine.passes import NullSums, Sums, raise_overflow
from csoftmax.engine.shard_passes import ShardPasses, window_bytes
from csoftmax.engine.units import CHUNK_ROWS, SumTree, n_chunks
from csoftmax.rows.base import blocks
from csoftmax.rows.shards import Shard, ShardRows

Array = NDArray[Any]
Float64 = NDArray[np.float64]

LEAF_PARAMETERS = 8
# Of entries, or of dlogits: a window has as many chunks as hold so many, at least one.
WINDOW_BYTES = 1 << 23
BLOCK_ROWS = 1024  # of which the factors of `column_sums` are made at a time


def leaf_chunks(n_features: int, n_classes: int) -> int:
    """Return of how many chunks a leaf is.

    Examples
    --------
    >>> leaf_chunks(10_000, 5), leaf_chunks(1_000_000, 20)
    (1, 512)
    """
    rows = n_features * n_classes // LEAF_PARAMETERS
    return 1 << max(0, -(-rows // CHUNK_ROWS) - 1).bit_length()


def sparse_window_bytes(rows: ShardRows) -> int:
    """Return what windows take at most: three; and files that are read as a whole.

    Of these two are kept and one is in use, while another is read, of which there are two copies
    for a moment. The allocator keeps some of what they leave. The largest file is looked at.
    """

    def size(shard: Shard) -> tuple[int, int]:
        return sum(stamp[1] for stamp in shard.stamp), shard.n_rows

    largest = max(rows.shards, key=size)
    block = largest.read(0, min(largest.n_rows, CHUNK_ROWS))
    assert isinstance(block, CSR)
    held = sum(map(_held_bytes, (block.data, block.indices, block.indptr)))
    whole = 5 * held + (1 << 27) if held > block.nbytes else 0
    return 3 * max(WINDOW_BYTES, 2 * block.nbytes) + whole


def _held_bytes(array: Array) -> int:
    """Return the bytes of the memory that an array is a part of; 0 for a part of a mapped file."""
    owner: Any = array
    while isinstance(owner, np.ndarray) and owner.base is not None:
        owner = owner.base
    view = memoryview(owner)
    return 0 if isinstance(view.obj, mmap.mmap) else view.nbytes


def sparse_shard_bytes(
    rows: ShardRows, n_heads: int, n_classes: int, itemsize: int, n_weights: int = 0
) -> int:
    """Return what a pass takes besides windows: dlogits of one, the sums, and heads side by side.

    The null models have sums of features too, and a diagonal has two sums of each parameter.
    """
    f = rows.n_features + 1
    n_sums = f * max(n_heads * n_classes, max(1, n_weights) * (n_classes + 1), 2 * n_classes)
    n_leaves = -(-sum(map(_n_chunks, rows.shards)) // leaf_chunks(rows.n_features, n_classes))
    n_vectors = 1 + (n_leaves > 1) * (n_leaves.bit_length() + 2)
    copies = 2 * f * n_heads * n_classes * itemsize if n_heads > 1 else 0
    logits = 2 * CHUNK_ROWS * (64 + 8 * n_weights + n_heads * n_classes * itemsize)
    return (4 << 20) + WINDOW_BYTES + max(WINDOW_BYTES, logits) + 8 * n_sums * n_vectors + copies


def _n_chunks(shard: Shard) -> int:
    return n_chunks(shard.n_rows)


def _rows_of(shard: Shard, first: int, stop: int) -> slice:
    """Return the rows of some chunks of a shard."""
    is_last = stop == n_chunks(shard.n_rows)
    return slice(first * CHUNK_ROWS, shard.n_rows if is_last else stop * CHUNK_ROWS)


class SparseShardPasses(ShardPasses):
    """Passes over sparse rows in shards, for heads that share X and the labels.

    They are `csoftmax.engine.passes.SparsePasses`. The parameters are those of `ShardPasses`.
    """

    is_sparse = True

    _row_bytes = 0.0  # of the last window
    _other_bytes = 0.0  # of a row: what else is made of it

    # ---- windows -------------------------------------------------------------------------------

    def _leaf_runs(self) -> Iterator[tuple[int, Shard, slice, bool]]:
        """Yield runs of chunks of a leaf, with the first row of their shard; does the leaf end?"""
        size, n = leaf_chunks(self.n_features, self.n_classes), 0
        for shard, start in zip(self.rows.shards, self.rows.starts.tolist(), strict=False):
            first, end = 0, n_chunks(shard.n_rows)
            while first < end:
                stop = min(end, first + size - n % size)
                n += stop - first
                yield start, shard, slice(first, stop), n % size == 0 or n == self.n_chunks
                first = stop

    def _runs(self) -> Iterator[tuple[Shard, slice, slice]]:
        """Cut the runs of leaves into windows, by what the rows of the window before took."""
        for start, shard, chunks, _ in self._leaf_runs():
            first = chunks.start
            while first < chunks.stop:
                row_bytes = max(self._row_bytes or WINDOW_BYTES, self._other_bytes)
                # few sizes: memory that one window leaves is where the next one fits
                at_once = 1 << max(0, int(WINDOW_BYTES / row_bytes / CHUNK_ROWS).bit_length() - 1)
                stop = min(first + at_once, chunks.stop)
                rows = _rows_of(shard, first, stop)
                yield shard, rows, slice(start + rows.start, start + rows.stop)
                first = stop

    def windows(self, wanted: Callable[[slice], bool] | None = None) -> Iterator[tuple[slice, Any]]:
        """Yield windows of whole chunks, `CSR`, and the numbers of their rows, where `wanted`."""
        yield from super().windows(wanted)

    def _read(self, shard: Shard, run: slice, in_pieces: bool) -> tuple[Any, ...]:
        block = shard.read(run.start, run.stop)
        expected = (run.stop - run.start, self.n_features), self.rows.dtype
        if not isinstance(block, CSR) or (block.shape, block.dtype) != expected:
            raise DataError(
                f"{shard.name}: rows {run.start} to {run.stop} are {block.dtype} {block.shape}, "
                f"expected sparse {expected[1]} {expected[0]}: it has changed since it was opened"
            )
        self._row_bytes = block.nbytes / len(block)
        return (block,)

    # ---- sums ----------------------------------------------------------------------------------

    def summed(
        self, n_sums: int, n_logits: int, add: Callable[[slice, CSR, Float64], None]
    ) -> SumTree:
        """Return sums over all rows by leaves; `add` adds those of a window to the ones it gets.

        It makes so many logits of a row. Where there is one leaf, the tree is its sums.
        """
        ends = [
            start + _rows_of(shard, chunks.start, chunks.stop).stop
            for start, shard, chunks, ends in self._leaf_runs()
            if ends
        ]
        tree = SumTree(len(ends), n_sums)
        sums = tree.nodes[0] if len(ends) == 1 else np.empty(n_sums)
        sums[:] = 0
        self._other_bytes = 64.0 + n_logits * self.dtype.itemsize + 8 * self.n_weights
        for some, X in self.windows():
            add(some, X, sums)
            if some.stop == ends[tree.n]:
                tree.add(sums)
                if len(ends) > 1:
                    sums[:] = 0
        return tree

    def _add_evaluation(
        self, W: Array, b: Array, of_head: NDArray[np.int64], some: slice, X: CSR, sums: Float64
    ) -> NDArray[np.int64]:
        weights = self._weights_of(some)
        right = calls.add_sparse_evaluation(
            calls.StoredRows(X, self.scale), calls.Parameters(W, b),
            calls.Targets(
                self.target[some].astype(np.int64), weights, None if weights is None else of_head
            ),
            len(b), sums, self.n_threads,
        )  # fmt: skip
        return np.array(right)

    def _finish(self, sums: Float64, dW: Any, db: Array) -> list[float]:
        """Set dW and db of heads to what has been summed; return the losses."""
        heads, f, K = len(db), self.n_features, self.n_classes
        of_W = sums[: f * heads * K].reshape(f, heads, K)
        with np.errstate(over="ignore", invalid="ignore"):  # told by who sees what is not finite
            for h, of_head in enumerate(dW):
                np.multiply(of_W[:, h], self.scale, out=of_head.reshape(f, K), casting="same_kind")
            db[...] = sums[of_W.size : of_W.size + db.size].reshape(db.shape)
        losses: list[float] = sums[of_W.size + db.size :].tolist()
        return losses

    def evaluate(
        self, W: Any, b: Array, weight_of_head: NDArray[np.int64], dW: Any, db: Array
    ) -> Sums:
        """Return the sums of heads at W and b, and set dW and db to the gradients of the losses.

        See `csoftmax.engine.local_passes.LocalPasses.evaluate`.
        """
        together = side_by_side(W, self.n_features, self.n_classes)
        n_correct = np.zeros(len(b), np.int64)

        def add(some: slice, X: CSR, sums: Float64) -> None:
            n_correct[:] += self._add_evaluation(together, b, weight_of_head, some, X, sums)

        sums = self.summed(together.size + b.size + len(b), b.size, add).total()
        return Sums(self._finish(sums, dW, db), n_correct.tolist())

    def null_sums(self, b: Array, of_features: bool) -> NullSums:
        """Return the sums at W = 0, a head for each row of weights, and those of the features.

        All in one pass. ValueError with what is not finite.
        """
        n, f, K = self.n_weights, self.n_features, self.n_classes
        W, of_head = np.zeros((f, n * K), self.dtype), np.arange(n)
        split = W.size + b.size + n

        def add(some: slice, X: CSR, sums: Float64) -> None:
            self._add_evaluation(W, b, of_head, some, X, sums[:split])
            if of_features:
                weights = self._weights_of(some)
                factors = np.ones((1, len(X))) if weights is None else weights
                of_columns = sums[split:].reshape(f, n)
                calls.add_sparse_columns(
                    X, factors.T.astype(self.dtype, order="C"), of_columns, False, self.n_threads
                )

        sums = self.summed(split + f * n * of_features, b.size, add).total()
        dW, db = np.empty((n, f * K), self.dtype), np.empty_like(b)
        losses = self._finish(sums[:split], dW, db)
        features = np.zeros((n, f))
        if of_features:
            features[:] = sums[split:].reshape(f, n).T * self.scale
        if not all(np.isfinite(array).all() for array in (losses, dW, features)):
            self.raise_bad_value()
        return NullSums(features, losses, dW, db, 1)

    def column_sums(
        self, factors: Callable[[slice, CSR], Array], n: int, squares: Sequence[bool]
    ) -> list[Array]:
        """Return sums of columns: see `csoftmax.engine.passes.SparsePasses`."""
        f = self.n_features

        def add(some: slice, X: CSR, sums: Float64) -> None:
            weights = self._weights_of(some)
            if weights is not None:
                X = finite_where_nothing_counts(X, weights)
            for of_X in blocks(len(X), BLOCK_ROWS):
                block = X[of_X]
                of_rows = factors(slice(some.start + of_X.start, some.start + of_X.stop), block)
                of_rows = np.ascontiguousarray(of_rows, self.dtype)
                for squared, of_columns in zip(squares, sums.reshape(-1, f, n), strict=True):
                    calls.add_sparse_columns(block, of_rows, of_columns, squared, self.n_threads)

        all_sums = self.summed(len(squares) * f * n, n, add).total().reshape(-1, f, n)
        with np.errstate(over="ignore", invalid="ignore"):
            for squared, of_columns in zip(squares, all_sums, strict=True):
                of_columns *= self.scale**2 if squared else self.scale
            return [of_columns.astype(self.dtype) for of_columns in all_sums]

    def raise_bad_value(self) -> None:
        """Raise an error with what of X spoils sums: NaN, infinity, or the largest column."""
        largest = np.zeros(self.n_features)
        for some, X in self.windows():
            weights = self._weights_of(some)
            if weights is not None:
                X = X.without(weights.max(axis=0) == 0)
            self.rows.check_finite(some.start, X)
            np.maximum.at(largest, X.indices, np.abs(X.data))
        raise_overflow(self.dtype, largest)


# ---- rows of either kind -----------------------------------------------------------------------


def passes_of_shards(rows: ShardRows) -> Callable[..., Any]:
    """Return what makes passes over shards, dense or sparse, here or on a cluster."""
    kind = SparseShardPasses if rows.is_sparse else ShardPasses
    makes: Callable[..., Any] = getattr(rows, "passes", partial(kind, rows))
    return makes


def bytes_of_windows(rows: ShardRows) -> int:
    """Return what windows of shards take at most, dense or sparse."""
    return sparse_window_bytes(rows) if rows.is_sparse else window_bytes(rows)
