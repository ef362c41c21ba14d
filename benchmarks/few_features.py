"""Sparse rows with few features against an array: ``python -m benchmarks.few_features``.

Prints how long a fit of the sparse rows takes, in proportion to that of the array, for tables of
about 4 MB: the limits in `csoftmax.solver.arguments` are chosen by it. Minima of three, by turns.
"""

from __future__ import annotations

import time
from typing import Any
from unittest import mock

import numpy as np
import scipy.sparse as sp

from csoftmax.solver import arguments, minimize

CELLS = 1 << 20
DENSITIES = (0.005, 0.02, 0.05, 0.1, 0.3)


def table(n: int, n_features: int, n_classes: int, density: float) -> tuple[Any, Any]:
    """Return sparse rows at random, and labels of which half of the features speak."""
    rng = np.random.default_rng(0)
    is_there = rng.random((n, n_features)) < density
    X = sp.csr_array(rng.exponential(size=(n, n_features)).astype(np.float32) * is_there)
    W = rng.normal(size=(n_features, n_classes)) * (rng.random((n_features, 1)) < 0.5)
    logits = X @ W
    logits *= 2 / logits.std()
    return X, np.argmax(logits + rng.gumbel(size=logits.shape), axis=1)


def ratio(X: Any, y: Any, n_classes: int, C: float) -> float:
    """Return the time of the sparse rows over that of the array."""
    best = {True: np.inf, False: np.inf}
    for _ in range(3):
        for dense in best:
            with mock.patch.object(arguments, "is_dense_enough", lambda *_, is_so=dense: is_so):
                at = time.perf_counter()
                minimize(X, y, n_classes, C=C, warns=False)
                best[dense] = min(best[dense], time.perf_counter() - at)
    return float(best[False] / best[True])


if __name__ == "__main__":
    for n_classes, C in ((3, 1.0), (3, 100.0), (10, 1.0), (10, 100.0)):
        print(f"{n_classes} classes, C = {C:g}; features, then the ratio at densities {DENSITIES}")
        for n_features in (16, 32, 64, 128, 256, 512, 1024, 2048, 4096):
            ratios = [
                ratio(*table(CELLS // n_features, n_features, n_classes, density), n_classes, C)
                for density in DENSITIES
            ]
            print(f"{n_features:5d}", *(f"{found:6.2f}" for found in ratios), flush=True)
