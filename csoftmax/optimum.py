"""A model to the optimum of its data, as the command line and the page take it there."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from csoftmax import solver
from csoftmax.core.checks import as_features
from csoftmax.core.sparse import CSR
from csoftmax.data import Dataset
from csoftmax.data.shard_loader import ShardLoader
from csoftmax.labelled import scale_of
from csoftmax.model import SoftmaxRegression
from csoftmax.solver.l1 import minimize_l1
from csoftmax.solver.two_classes import softmax_C


def minimize_for(
    model: SoftmaxRegression, data: Dataset | ShardLoader, C: ArrayLike, l1_ratio: float,
    **options: Any,
) -> solver.Solution:  # fmt: skip
    """Minimise for one C or several, which count as scikit-learn's do, also for two classes."""
    X: Any
    K, X = model.n_classes, data.X
    if isinstance(data, ShardLoader):
        options["sample_weight"] = data.weights
    else:
        X = as_features(X)
        if model.dtype == np.float64 and X.dtype != np.float64:
            wide = np.dtype(np.float64)
            X = X.times(1.0, wide) if isinstance(X, CSR) else X.astype(wide)
    options |= {"scale": scale_of(model, data, "train_data"), "warns": False}
    if l1_ratio:
        return minimize_l1(X, data.y, K, C=C, l1_ratio=l1_ratio, one_row=K == 2, **options)
    return solver.minimize(X, data.y, K, C=softmax_C(C, K), **options)


def facts_of(
    data: Dataset | ShardLoader,
    C: float,
    l1_ratio: float,
    tol: float | str,
    max_iter: int,
    **more: Any,
) -> dict[str, Any]:
    """Return what the model's file says of such a training."""
    return {
        "solver": "newton-cd" if l1_ratio else "lbfgs", "C": C, "l1_ratio": l1_ratio, "tol": tol,
        "max_iter": max_iter, "n_samples": len(data.y), **more,
    }  # fmt: skip
