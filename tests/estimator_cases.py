"""The data that the tests of the estimator share."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer, load_iris

Array = Any
TIGHT = 1e-10  # of tol, where results are compared with those of another solver
IRIS = load_iris(return_X_y=True)
CANCER = load_breast_cancer(return_X_y=True)


def small(n_classes: int = 3, dtype: Any = np.float64) -> tuple[Array, Array]:
    rng = np.random.default_rng(n_classes)
    y = rng.integers(0, n_classes, 120)
    X = rng.normal(size=(120, 4)) + np.eye(n_classes, 4)[y] * 1.5
    return X.astype(dtype), y
