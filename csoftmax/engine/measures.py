"""How good heads are, without a gradient: losses, rows predicted right, predictions, logits."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from csoftmax.engine import calls
from csoftmax.engine.units import SumTree, runs
from csoftmax.rows.base import Stored, take

Array = NDArray[Any]


class Measures(NamedTuple):
    """Sums over the rows, a number for each head, times the weights of the rows."""

    losses: NDArray[np.float64]
    right: NDArray[np.float64]  # of the rows predicted right


class Heads(NamedTuple):
    """The heads to measure; rows are passed over in the type of b, which may be wider than X's."""

    W: Array  # (n_heads, n_classes, n_features)
    b: Array  # (n_heads, n_classes)
    weight_of_head: NDArray[np.int64]
    scale: float
    n_threads: int

    def tree(self, n_chunks: int) -> SumTree:
        """Return an empty tree for so many chunks."""
        return SumTree(n_chunks, 2 * len(self.b))

    def add(self, tree: SumTree, X: Stored, y: Array, weights: Array | None) -> None:
        """Add the chunks of some rows to a tree; rows that do not count may hold anything."""
        for chunk in runs(len(X), 1):
            of_rows = None if weights is None else weights[:, chunk]
            tree.add(self.sums_of(take(X, chunk), y[chunk], of_rows).reshape(-1))

    def sums_of(self, X: Stored, y: Array, weights: Array | None) -> NDArray[np.float64]:
        """Return the losses of the heads, and the weights of the rows that they predict right."""
        sums = np.zeros((2, len(self.b)))
        for r in np.unique(self.weight_of_head).tolist():
            rows, labels, weight = X, y, None
            if weights is not None:
                counting = np.flatnonzero(weights[r])
                weight = weights[r, counting]
                if len(counting) < len(y):
                    rows, labels = take(X, counting), y[counting]
            if not len(labels):
                continue
            predictions = np.empty(len(labels), np.int64)
            targets = calls.Targets(labels.astype(np.int64), weight)
            for h in np.flatnonzero(self.weight_of_head == r):
                loss, _ = calls.evaluate(
                    calls.StoredRows(rows, self.scale), self.parameters(rows, int(h)), targets,
                    calls.Sink(predictions=predictions), self.n_threads,
                )  # fmt: skip
                right = predictions == labels
                sums[:, h] = loss, right.sum() if weight is None else weight[right].sum()
        return sums

    def parameters(self, X: Stored, h: int) -> calls.Parameters:
        return calls.Parameters(calls.weights_for(X, self.W[h].T, self.b.dtype), self.b[h])

    def output(self, X: Stored, h: int, labels: bool) -> Array:
        """Return the number of each row's predicted class, or its logits."""
        sink = calls.Sink(predictions=(out := np.empty(len(X), np.int64)))
        if not labels:
            out = np.empty((len(X), self.b.shape[1]), self.b.dtype)
            sink = calls.Sink(logits=out)
        if len(X):
            rows = calls.StoredRows(X, self.scale)
            calls.forward(rows, self.parameters(X, h), sink, self.n_threads)
        return out

    def measures(self, tree: SumTree) -> Measures:
        """Return what a tree has summed."""
        return Measures(*tree.total().reshape(2, -1))
