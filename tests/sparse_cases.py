"""Sparse rows that the tests of their kernels share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax import _kernels

Array = NDArray[Any]


def sparse_table(
    stored: Any, n: int, n_features: int, share: float = 0.2, index: Any = np.int32
) -> tuple[Array, Array, Array]:
    """Return (values, indices, indptr): features in any order, some of them twice, rows empty."""
    random = np.random.default_rng([n, n_features])
    n_entries = int(share * n * n_features)
    rows = np.sort(random.integers(0, max(n, 1), n_entries))
    rows = rows[rows % 7 != 3]  # rows without entries
    indices = random.integers(0, max(n_features, 1), len(rows))
    indices[indices % 11 == 5] = 0  # features without entries, and one that comes often
    if np.dtype(stored).kind == "u":
        values = random.integers(0, 256, len(rows)).astype(stored)
    else:
        values = random.normal(size=len(rows)).astype(stored)
    values[::13] = 0  # explicit zeros
    indptr = np.searchsorted(rows, np.arange(n + 1))
    return values, indices.astype(index), indptr.astype(index)


def filled(table: tuple[Array, Array, Array], n_features: int, dtype: Any) -> Array:
    """Return the rows with their zeros."""
    values, indices, indptr = table
    X = np.zeros((len(indptr) - 1, n_features), dtype)
    np.add.at(X, (np.repeat(np.arange(len(X)), np.diff(indptr)), indices), values.astype(dtype))
    return X


class SparseProblem:
    """One pass over sparse rows, with all that it can fill."""

    def __init__(
        self, stored: Any, n: int, n_features: int, n_classes: int, heads: int = 1, **how: Any
    ) -> None:
        random = np.random.default_rng([n, n_features, n_classes])
        self.dtype: Any = np.dtype(np.float64 if stored == np.float64 else np.float32)
        self.table = sparse_table(stored, n, n_features, **how)
        self.rows = _kernels.SparseRows(*self.table, n_features)
        self.columns = _kernels.SparseColumns(self.rows, self.dtype.name)
        self.n, self.heads = n, heads
        total = heads * n_classes
        self.W = (random.normal(size=(n_features, total)) / 2).astype(self.dtype)
        self.b = random.normal(size=total).astype(self.dtype)
        self.y = random.integers(0, n_classes, n)
        self.weight = random.uniform(0, 2, n) * (random.random(n) < 0.8)
        self.scale = 1 / 255 if stored == np.uint8 else 0.75

    def filled(self, dtype: Any) -> Array:
        return filled(self.table, len(self.W), dtype)

    def run(self, n_threads: int = 1, **more: Any) -> dict[str, Any]:
        """Return everything that a pass with labels, weights and one head makes."""
        found = {
            "dW": np.full_like(self.W, np.nan), "db": np.full_like(self.b, np.nan),
            "losses": np.full(self.n, np.nan, self.dtype), "predictions": np.full(self.n, -1),
            "logits": np.full((self.n, len(self.b)), np.nan, self.dtype),
        }  # fmt: skip
        total, correct = _kernels.sparse_pass(
            self.rows, self.W, self.b, self.scale, y=self.y, logits=found["logits"],
            losses=found["losses"], predictions=found["predictions"], columns=self.columns,
            gradient=(found["dW"], found["db"]), n_threads=n_threads,
            **{"sample_weight": self.weight, "factor": 0.5, **more},
        )  # fmt: skip
        return {**found, "loss": total, "correct": correct}
