"""Sparse rows with few features against an array: ``python -m benchmarks.few_features``.

Prints how long a fit of the sparse rows takes, in proportion to that of the array, for tables of
about 4 MB: the limits in `csoftmax.solver.arguments` are chosen by it. Minima of three, by turns;
numbers of passes differ, so single ratios are rough, and medians tell.
"""

from __future__ import annotations

import time
from typing import Any
from unittest import mock

import numpy as np
import scipy.sparse as sp

from csoftmax.solver import arguments, minimize

CELLS = 1 << 20
DENSITIES = (0.02, 0.1, 0.3, 0.6)
FEATURES = (32, 64, 128, 512, 2048)


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
    found = np.empty((4, len(FEATURES), len(DENSITIES)))
    for of, (n_classes, C) in zip(
        found, ((3, 1.0), (3, 100.0), (10, 1.0), (10, 100.0)), strict=True
    ):
        print(f"{n_classes} classes, C = {C:g}; features, then the ratio at densities {DENSITIES}")
        for row, n_features in zip(of, FEATURES, strict=True):
            row[:] = [
                ratio(*table(CELLS // n_features, n_features, n_classes, density), n_classes, C)
                for density in DENSITIES
            ]
            print(f"{n_features:5d}", *(f"{one:6.2f}" for one in row), flush=True)
    for name, some in ("up to 128", found[:, :3]), ("more", found[:, 3:]):
        for density, ratios in zip(DENSITIES, np.moveaxis(some, 2, 0), strict=True):
            least, median, most = np.quantile(ratios, (0, 0.5, 1))
            print(f"{name} features, {density:.0%}: {least:.2f} to {most:.2f}, median {median:.2f}")
