"""All rows, for heads with L1: the null models, and passes at W and b of X as it is stored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from csoftmax.engine.class_rows import Array
from csoftmax.solver.l1_dual import L1Point, Null
from csoftmax.solver.problem import Problem


def null_of(whole: Problem, r: int) -> Null:
    """Return the null model of a row of weights, as the statistics have told it."""
    unit = whole.dtype.type(whole.passes.scale)
    W = np.zeros((whole.n_features, whole.n_classes), whole.dtype)
    dW = np.ascontiguousarray(whole.weights(whole.null_gradient[r]).T) / unit
    means = whole.means[r] if whole.centre is None else whole.centre[r].astype(np.float64)
    b = whole.null_bias[r].astype(np.float64) * whole.fit_intercept
    db = whole.null_bias_gradient[r].astype(np.float64)
    point = L1Point(W, b, float(whole.null_loss[r]), dW, db)
    return Null(point, whole.shares[r], means / whole.passes.scale, whole.fit_intercept)


def evaluate(
    whole: Problem, heads: Sequence[int], trials: Sequence[tuple[Array, NDArray[np.float64]]]
) -> list[L1Point]:
    """Return what one pass tells of heads at W (n_features, n_classes) and b."""
    passes, dtype, K, d = whole.passes, whole.dtype, whole.n_classes, whole.n_features
    unit = dtype.type(passes.scale)
    W = np.empty((len(trials), K * d), dtype)
    for of_head, (given, _) in zip(W, trials, strict=True):
        whole.weights(of_head)[:] = given.T / unit
    b = np.array([given for _, given in trials], dtype)
    dW, db = np.empty_like(W), np.empty_like(b)
    losses = passes.evaluate(W, b, whole.weight_of_head[list(heads)], dW, db).losses
    whole.n_passes += 1
    points = []
    for h, trial, loss, slopes, of_b in zip(heads, trials, losses, dW, db, strict=True):
        total = float(whole.total[h])
        of_W = np.ascontiguousarray(whole.weights(slopes).T) / (dtype.type(total) * unit)
        wide = of_b.astype(np.float64) / total * whole.fit_intercept
        points.append(L1Point(*trial, loss / total, of_W, wide))
    return points
