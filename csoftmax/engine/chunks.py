"""Sums over rows by the rule of `csoftmax.engine.units`: chunk by chunk, into a tree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from csoftmax.engine import calls
from csoftmax.engine.units import SumTree, n_chunks, runs
from csoftmax.rows.base import blocks

Array = NDArray[Any]
Mapping = Callable[[Callable[[slice], Array], Iterable[slice]], Iterable[Array]]

# So many rows are summed in float32 before their sum joins one in float64. With 1,024 the means
# of 60,000 rows of pixels were right to 7e-8, with 4,096 to 8e-8, and no faster.
SUM_ROWS = 1024
# So many chunks are summed in one call: it keeps losses and numbers of rows, 1/2 byte a row.
AT_ONCE = 256
CLASS_CHUNKS = 2  # chunks whose blocks are summed by class side by side


class Evaluation(NamedTuple):
    """What heads are evaluated at, and of which weights each is."""

    W: Array  # (n_heads, n_classes, n_features), or the same flat
    b: Array  # (n_heads, n_classes)
    weight_of_head: NDArray[np.int64]
    scale: float
    n_threads: int

    def tree(self, n_chunks: int) -> SumTree:
        """Return an empty tree for so many chunks."""
        return SumTree(n_chunks, self.W.size + self.b.size + len(self.b))

    def add(
        self, tree: SumTree, X: Array | tuple[Array, ...], y: Array, weights: Array | None,
        scratch: tuple[Array, Array],
    ) -> NDArray[np.int64]:  # fmt: skip
        """Add the chunks of an array or a shard to a tree; return how many rows are right.

        X may be several arrays whose rows follow each other, of `AT_ONCE` chunks at most. y and
        weights (n_weights, n_rows) are of the rows. dW and db of `scratch` are worked in.
        """
        if not isinstance(X, tuple) and n_chunks(len(X)) > AT_ONCE:
            n_correct = np.zeros(len(self.b), np.int64)
            for some in runs(len(X), AT_ONCE):
                of_rows = None if weights is None else np.ascontiguousarray(weights[:, some])
                n_correct += self.add(tree, X[some], y[some], of_rows, scratch)
            return n_correct
        right = calls.sum_chunks(
            calls.StoredRows(X, self.scale), calls.Parameters(self.W, self.b),
            calls.Targets(y, weights, None if weights is None else self.weight_of_head),
            calls.Sink(scratch), tree, self.n_threads,
        )  # fmt: skip
        return np.array(right)

    def finish(self, tree: SumTree, dW: Array, db: Array) -> list[float]:
        """Set dW and db to what a tree has summed; return the losses."""
        total = tree.total()
        dW[...] = total[: dW.size].reshape(dW.shape)
        db[...] = total[dW.size : dW.size + db.size].reshape(db.shape)
        losses: list[float] = total[dW.size + db.size :].tolist()
        return losses


def add_feature_sums(
    tree: SumTree, X: Array, weights: Array | None, scale: float, dtype: Any, mapping: Mapping
) -> None:
    """Add the weighted sums of ``scale * X``, (n_weights, n_features) flat, by chunks to a tree.

    They are gradients whose dlogits are the weights. Each row of weights has a gradient of its own,
    so that its bits do not depend on the others.
    """
    n_weights = 1 if weights is None else len(weights)

    def sum_of(some: slice) -> Array:
        block = X[some]
        dW, db = np.empty((n_weights, X.shape[1]), dtype), np.empty(1, dtype)
        for r, total in enumerate(dW):
            weight = np.ones(len(block)) if weights is None else weights[r, some]
            dlogits = weight[None].astype(dtype)
            calls.linear_gradient(calls.StoredRows(block, scale), dlogits, total[None], db)
            counting = weight > 0
            if not (counting.all() or np.isfinite(total).all()):
                # a row that does not count may hold anything, and 0 times NaN is NaN
                finite = np.where(counting[:, None], block, 0).astype(block.dtype)
                calls.linear_gradient(calls.StoredRows(finite, scale), dlogits, total[None], db)
        return dW

    _add_blocks(tree, len(X), sum_of, mapping, AT_ONCE)


def add_class_sums(
    tree: SumTree, X: Array, target: Array, weights: Array | None, n_classes: int, scale: float,
    dtype: Any, mapping: Mapping,
) -> None:  # fmt: skip
    """Add the weighted sums of ``scale * X`` by class, (n_weights, n_classes, n_features) flat.

    They are gradients whose dlogits are the targets times the weights: see `add_feature_sums`.
    """
    n_weights = 1 if weights is None else len(weights)

    def sum_of(some: slice) -> Array:
        block, of_rows = X[some], target[some].T
        if of_rows.ndim == 1:
            of_rows = of_rows == np.arange(n_classes)[:, None]
        sums = np.empty((n_weights, n_classes, X.shape[1]), dtype)
        db = np.empty(n_classes, dtype)
        for r, of_classes in enumerate(sums):
            weight = None if weights is None else weights[r, some]
            dlogits = (of_rows if weight is None else of_rows * weight).astype(dtype, order="C")
            calls.linear_gradient(calls.StoredRows(block, scale), dlogits, of_classes, db)
            if weight is not None and not np.isfinite(of_classes).all():
                # a row that does not count may hold anything, and 0 times NaN is NaN
                finite = np.where((weight > 0)[:, None], block, 0).astype(block.dtype)
                calls.linear_gradient(calls.StoredRows(finite, scale), dlogits, of_classes, db)
        return sums

    _add_blocks(tree, len(X), sum_of, mapping, CLASS_CHUNKS)


def _add_blocks(
    tree: SumTree, n_rows: int, sum_of: Callable[[slice], Array], mapping: Mapping, at_once: int
) -> None:
    """Add what is summed of blocks of rows to a tree, chunk by chunk; so many chunks at once."""
    for run in runs(n_rows, at_once):
        parts = iter(mapping(sum_of, _shifted(run, SUM_ROWS)))
        for chunk in runs(run.stop - run.start, 1):
            total = np.zeros(tree.nodes.shape[1])
            for _ in range(chunk.start, chunk.stop, SUM_ROWS):
                total += next(parts).reshape(-1)
            tree.add(total)


def _shifted(run: slice, at_once: int) -> Iterator[slice]:
    """Cut a run into blocks of rows."""
    for some in blocks(run.stop - run.start, at_once):
        yield slice(run.start + some.start, run.start + some.stop)


@contextmanager
def mapping_of(n_threads: int) -> Iterator[Mapping]:
    """Yield a map that works on so many threads, and gives the results in order."""
    if n_threads == 1:
        yield map
        return
    with ThreadPoolExecutor(n_threads) as pool:
        yield pool.map
