"""The data that the tests of the estimator share, and its objective."""

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


def objective(
    model: Any, X: Array, y: Array, C: float, sample_weight: Array | None = None
) -> float:
    """What LogisticRegression minimises, in float64, from the documented formula."""
    s = np.ones(len(X)) if sample_weight is None else sample_weight
    logits = np.asarray(X, float) @ np.asarray(model.coef_, float).T + model.intercept_
    if len(model.classes_) == 2:
        signs = np.where(y == model.classes_[1], 1.0, -1.0)
        losses = np.logaddexp(0, -signs * logits[:, 0])
    else:
        right = np.searchsorted(model.classes_, y)
        losses = np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(X)), right]
    penalty = np.square(np.asarray(model.coef_, float)).sum() / (2 * C * s.sum())
    return float(s @ losses / s.sum() + penalty)
