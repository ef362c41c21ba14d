"""What the tests of row_pass share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def problem(dtype: Any, n: int, n_features: int, n_classes: int, heads: int) -> tuple[Array, ...]:
    rng = np.random.default_rng([n, n_features, n_classes])
    X = rng.integers(0, 256, (n, n_features)).astype(dtype)
    if dtype != np.uint8:
        X /= 255
    compute = np.float64 if dtype == np.float64 else np.float32
    W = rng.normal(0, 0.02, (heads * n_classes, n_features)).astype(compute)
    b = rng.normal(0, 1, heads * n_classes).astype(compute)
    y = rng.integers(0, n_classes, n)
    weights = rng.uniform(0, 2, (3, n)) * (rng.random((3, n)) < 0.8)
    return X, W, b, y, weights
