"""Passes over rows in this process: an array, a file mapped as one, or sparse rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.checks import Stored, compute_dtype
from csoftmax.core.sparse import CSR
from csoftmax.engine import calls
from csoftmax.engine.chunks import CLASS_CHUNKS, Evaluation, add_feature_sums, mapping_of
from csoftmax.engine.class_sums import class_sums
from csoftmax.engine.passes import ClassSums, NullSums, Sums, overflow_text, raise_overflow
from csoftmax.engine.targets import digest_targets, drawn
from csoftmax.engine.units import SumTree, n_chunks, runs
from csoftmax.rows.base import as_stored, take
from csoftmax.rows.memory import MemoryRows

Array = NDArray[Any]

BLOCK_BYTES = 1 << 22  # of rows in float64 at a time
# Below so many bytes of X the caller alone is as fast as threads, which take 0.3 ms to start.
ALONE_BYTES = 1 << 24


class LocalPasses:
    """Passes over rows in this process, for heads that share X and the targets.

    Parameters
    ----------
    X : array (n_rows, n_features) or CSR
        Anything that `csoftmax.core.checks.as_features` gives. For sparse rows W and its gradient
        are feature-major.
    target : array (n_rows,) of labels, or float64 (n_rows, n_classes) of probabilities
        Labels are small unsigned integers (or int64).
        They must be checked: for a label out of range a kernel reads and writes foreign memory.
    n_classes : int
    weights : float64 array (n_weights, n_rows), optional
        Rows of weights >= 0, of which each head has one; None: one row of ones.
    scale : float
        Multiplies X.
    n_threads : int
        At most so many threads. The bits do not depend on it.
    """

    def __init__(
        self,
        X: Stored,
        target: Array,
        n_classes: int,
        *,
        weights: NDArray[np.float64] | None = None,
        scale: float = 1.0,
        n_threads: int = 1,
    ) -> None:
        self.dtype = compute_dtype(X)
        if isinstance(X, CSR) and weights is not None:
            X = finite_where_nothing_counts(X, weights)
        self.rows = MemoryRows(as_stored(X, self.dtype))
        self.n_rows, self.n_features = X.shape
        self.n_classes, self.scale, self.n_threads = n_classes, scale, n_threads
        self.target, self.weights = target, weights
        # a row of probabilities has its most probable class as label; `_soft_excess` adds the rest
        self.y = target if target.ndim == 1 else target.argmax(axis=1)

    @property
    def is_sparse(self) -> bool:
        """Whether few features of a row are not 0, and W is feature-major."""
        return isinstance(self.rows.X, CSR)

    @property
    def n_weights(self) -> int:
        """How many rows of weights there are."""
        return 1 if self.weights is None else len(self.weights)

    def weight(self, r: int) -> NDArray[np.float64] | None:
        """Return one of the rows of weights; None where all rows weigh 1."""
        return None if self.weights is None else self.weights[r]

    def evaluate(
        self,
        W: Array | Sequence[Array],
        b: Array,
        weight_of_head: NDArray[np.int64],
        dW: Array | Sequence[Array],
        db: Array,
    ) -> Sums:
        """Return the sums of heads at W and b, and set dW and db to the gradients of the losses.

        W and dW are (n_heads, n_classes, n_features) or the same flat, b and db (n_heads,
        n_classes), all C-contiguous and of `dtype`; ``weight_of_head[h]`` is the row of weights of
        head h. For sparse rows W and dW have (n_features, n_classes) of each head, or the same
        flat, and may be lists. Each head has the bits that it would have alone.
        """
        if self.is_sparse or n_chunks(self.n_rows) < 2:
            sums = self._evaluate_at_once(W, b, weight_of_head, dW, db)
        else:
            arrays: Any = W, dW
            here = Evaluation(arrays[0], b, weight_of_head, self.scale, self.n_threads)
            tree = here.tree(n_chunks(self.n_rows))
            n_correct = here.add(tree, self.rows.X, self.y, self.weights, (arrays[1], db))
            sums = Sums(here.finish(tree, arrays[1], db), n_correct.tolist())
        if self.target.ndim == 2:
            split = self.n_classes * self.n_features
            for h, excess in enumerate(self._soft_excess[weight_of_head]):
                sums.losses[h] += float(np.dot(excess, np.append(W[h], b[h])))
                of_W = dW[h]
                of_W += excess[:split].reshape(of_W.shape)
                db[h] += excess[split:]
        return sums

    def _evaluate_at_once(
        self,
        W: Array | Sequence[Array],
        b: Array,
        weight_of_head: NDArray[np.int64],
        dW: Array | Sequence[Array],
        db: Array,
    ) -> Sums:
        """Do the same for rows that are one chunk, and for sparse ones; targets are labels."""
        of_head = None if self.weights is None else weight_of_head
        read: Any = W
        written: Any = dW
        if self.is_sparse:
            read, written = (
                side_by_side(some, self.n_features, self.n_classes, is_read=some is W)
                for some in (W, dW)
            )
        losses, n_correct = calls.evaluate_heads(
            calls.StoredRows(self.rows.X, self.scale),
            calls.Parameters(read, b),
            calls.Targets(self.y, self.weights, of_head),
            calls.Sink((written, db)),
            self.n_threads,
        )
        if self.is_sparse and len(b) > 1:
            by_head = written.reshape(self.n_features, len(b), self.n_classes)
            for h, of_head_h in enumerate(dW):
                of_head_h.reshape(self.n_features, self.n_classes)[:] = by_head[:, h]
        return Sums(losses, n_correct)

    @cached_property
    def _soft_excess(self) -> NDArray[np.float64]:
        """Return ``sum_i s_i (e_yi - t_i) (scale x_i, 1)``, flat, for each row of weights.

        The loss of a row of probabilities t is ``log sum_k exp o_k - t . o``. It differs from that
        of a label y by ``(e_y - t) . o``, which is linear in W and b: this is its gradient, and its
        product with the parameters is what the losses are above those of the labels.
        """
        n, K, f = self.n_weights, self.n_classes, self.n_features
        if isinstance(self.rows.X, CSR):
            return self._sparse_soft_excess(self.rows.X)
        of_W, of_b = np.zeros((n, K, f)), np.zeros((n, K))
        for some, block in self.rows.blocks(BLOCK_BYTES // (8 * (f + K + 1))):
            features = block.astype(np.float64) * self.scale
            more = -self.target[some]
            more[np.arange(len(more)), self.y[some]] += 1.0
            for r in range(n):
                weight = self.weight(r)
                weighted = more if weight is None else more * weight[some, None]
                of_W[r] += weighted.T @ features
                of_b[r] += weighted.sum(axis=0)
        return np.concatenate([of_W.reshape(n, -1), of_b], axis=1)

    def _sparse_soft_excess(self, X: CSR) -> NDArray[np.float64]:
        n, K, f = self.n_weights, self.n_classes, self.n_features
        excess = np.empty((n, f * K + K))
        more = -self.target
        more[np.arange(self.n_rows), self.y] += 1.0
        columns = calls.SparseColumns(X.rows, "float64")
        for r in range(n):
            weight = self.weight(r)
            weighted = more if weight is None else more * weight[:, None]
            of_W = excess[r, : f * K].reshape(f, K)
            calls.sparse_gradient(columns, weighted, self.scale, of_W, self.n_threads)
            excess[r, f * K :] = weighted.sum(axis=0)
        return excess

    def null_sums(self, b: Array, of_features: bool) -> NullSums:
        """Return the sums at W = 0, a head for each row of weights, and those of the features.

        ValueError with the value of X that makes one of them not finite.
        """
        n = self.n_weights
        features = self._feature_sums() if of_features else np.zeros((n, self.n_features))
        W = np.zeros((n, self.n_classes * self.n_features), self.dtype)
        dW, db = np.empty_like(W), np.empty_like(b)
        losses = self.evaluate(W, b, np.arange(n), dW, db).losses
        if not all(np.isfinite(array).all() for array in (features, losses, dW)):
            self.raise_bad_value()
        return NullSums(features, losses, dW, db, 1 + of_features)

    def _feature_sums(self) -> NDArray[np.float64]:
        """Sum the weighted rows."""
        if isinstance(self.rows.X, CSR):
            of_rows = np.ones((self.n_rows, 1)) if self.weights is None else self.weights.T
            [sums] = self.column_sums(lambda some, X: of_rows, of_rows.shape[1], [False])
            wide: NDArray[np.float64] = sums.T.astype(np.float64)
            return wide
        tree = SumTree(n_chunks(self.n_rows), self.n_weights * self.n_features)
        alone = self.rows.X.nbytes < ALONE_BYTES
        with mapping_of(1 if alone else self.n_threads) as mapping:
            add_feature_sums(tree, self.rows.X, self.weights, self.scale, self.dtype, mapping)
        return tree.total().reshape(self.n_weights, self.n_features)

    def class_sums(self, share: float, seed: int) -> ClassSums:
        """Return the sums by class of dense rows, and rows that are drawn: see `Passes`."""
        assert not isinstance(self.rows.X, CSR)
        windows = ((some, self.rows.X[some]) for some in runs(self.n_rows, CLASS_CHUNKS))
        return class_sums(self, windows, n_chunks(self.n_rows), share, seed)

    def column_sums(
        self, factors: Callable[[slice, CSR], Array], n: int, squares: Sequence[bool]
    ) -> list[Array]:
        """Return sums of columns of sparse rows: see `csoftmax.engine.passes.SparsePasses`."""
        X = self.rows.X
        assert isinstance(X, CSR)
        of_rows = np.ascontiguousarray(factors(slice(0, self.n_rows), X), self.dtype)
        all_sums = [np.empty((self.n_features, n), self.dtype) for _ in squares]
        for sums, squared in zip(all_sums, squares, strict=True):
            calls.sparse_gradient(
                X.columns(self.dtype), of_rows, self.scale**2 if squared else self.scale, sums,
                self.n_threads, squared,
            )  # fmt: skip
        return all_sums

    def raise_bad_value(self) -> None:
        """Raise ValueError with what of X spoils sums: NaN, infinity, or the largest column."""
        if isinstance(self.rows.X, CSR):
            _raise_bad_entry(self.rows.X, self.weights, self.dtype)
            return
        largest = np.zeros(self.n_features)
        for some, block in self.rows.blocks(BLOCK_BYTES // max(1, self.n_features)):
            numbers = np.arange(some.start, some.stop)
            if self.weights is not None:
                counting = self.weights[:, some].max(axis=0) > 0
                block, numbers = take(block, counting), numbers[counting]
            bad = ~np.isfinite(block)
            if bad.any():
                i, j = (int(index) for index in np.argwhere(bad)[0])
                raise ValueError(f"X[{numbers[i]}, {j}] is {block[i, j]}, expected finite numbers")
            np.maximum(largest, np.abs(block).max(axis=0, initial=0), out=largest)
        raise_overflow(self.dtype, largest)

    def sample(self, weight_row: int, n: int, seed: int) -> LocalPasses:
        """Return at most n of the rows that a row of weights counts, drawn at random, in order.

        They keep that row of weights only. X is not copied where all rows are taken.
        """
        weight = self.weight(weight_row)
        rows = drawn(self.n_rows, weight, n, seed)
        X = self.rows.X if isinstance(rows, slice) else self.rows.take(rows)
        return LocalPasses(
            X, self.target[rows], self.n_classes,
            weights=None if weight is None else weight[None, rows],
            scale=self.scale, n_threads=self.n_threads,
        )  # fmt: skip

    def take(self, rows: NDArray[np.int64]) -> LocalPasses:
        """Return a copy of some rows, by number, with all their weights."""
        weights = None if self.weights is None else np.ascontiguousarray(self.weights[:, rows])
        return LocalPasses(
            self.rows.take(rows), self.target[rows], self.n_classes, weights=weights,
            scale=self.scale, n_threads=self.n_threads,
        )  # fmt: skip

    def fingerprint(self) -> bytes:
        """Return a digest of the rows, the targets, the weights and the scale."""
        digest = hashlib.blake2b(self.rows.fingerprint(), digest_size=16)
        digest_targets(digest, self.target, self.weights, self.n_classes, self.scale)
        return digest.digest()


def side_by_side(
    W: Array | Sequence[Array], n_features: int, n_classes: int, is_read: bool = True
) -> Array:
    """Return feature-major matrices of heads as one, of all their classes: a view for one.

    It is empty unless `is_read`.
    """
    if len(W) == 1:
        return W[0].reshape(n_features, n_classes)
    together = np.empty((n_features, len(W), n_classes), W[0].dtype)
    for h, of_head in enumerate(W if is_read else ()):
        together[:, h] = of_head.reshape(n_features, n_classes)
    return together.reshape(n_features, len(W) * n_classes)


def _counting_entries(X: CSR, weights: Array) -> NDArray[np.bool_]:
    """Say of each entry whether a row of weights counts its row."""
    return np.repeat((weights > 0).any(axis=0), np.diff(X.indptr))


def finite_where_nothing_counts(X: CSR, weights: Array) -> CSR:
    """Return X with 0 for what is not finite in rows of weight 0: 0 times NaN would be NaN."""
    bad = ~np.isfinite(X.data)
    if bad.any():
        bad &= ~_counting_entries(X, weights)
    if not bad.any():
        return X
    data = np.where(bad, 0, X.data).astype(X.dtype)
    return CSR(data, X.indices, X.indptr, X.shape[1])


def _raise_bad_entry(X: CSR, weights: Array | None, dtype: np.dtype[Any]) -> None:
    """Raise ValueError for the first entry that is not finite, or for the largest one."""
    sizes = np.abs(X.data)
    if weights is not None:
        sizes = np.where(_counting_entries(X, weights), sizes, 0)
    bad = np.flatnonzero(~np.isfinite(sizes))
    if len(bad):
        e = int(bad[0])
        i = int(np.searchsorted(X.indptr, e, side="right")) - 1
        raise ValueError(f"X[{i}, {X.indices[e]}] is {X.data[e]}, expected finite numbers")
    e = int(sizes.argmax())
    raise ValueError(overflow_text(dtype, int(X.indices[e]), float(sizes[e])))
