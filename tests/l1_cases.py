"""Problems with L1, and a plain solver in float64 that judges the compiled one."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Judged(NamedTuple):
    """A point, its objective and the gradient of the mean loss."""

    W: Array  # (n_features, n_classes)
    b: Array
    objective: float
    dW: Array
    db: Array


def l1_table(n: int = 120, f: int = 8, k: int = 3, seed: int = 0) -> tuple[Array, Array]:
    """Rows with many zeros, of which three features speak for the classes."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, f)) * (rng.random((n, f)) < 0.5) + 0.3
    X[rng.random((n, f)) < 0.3] = 0
    W = np.zeros((f, k))
    W[:3] = 1.5 * rng.normal(size=(3, k))
    y = np.argmax(X @ W + rng.gumbel(size=(n, k)), axis=1)
    return X, y


def judged(
    X: Array, y: Array, W: Array, b: Array, l1: float, l2: float, weight: Array | None = None
) -> Judged:
    """Evaluate ``1/S sum_i s_i loss_i + l1 ||W||_1 + l2 / 2 ||W||^2``, written down in float64.

    y are labels, or a row of probabilities for each row of X.
    """
    s = np.ones(len(y)) if weight is None else np.asarray(weight, float)
    s = s / s.sum()
    logits = X @ W + b
    logits -= logits.max(axis=1, keepdims=True)
    p = np.exp(logits)
    total = p.sum(axis=1)
    target = np.eye(len(b))[y] if y.ndim == 1 else y
    losses = np.log(total) - (target * logits).sum(axis=1)
    p /= total[:, None]
    p -= target
    p *= s[:, None]
    value = float(s @ losses) + l1 * np.abs(W).sum() + l2 / 2 * (W**2).sum()
    return Judged(W, b, value, X.T @ p, p.sum(axis=0))


def violation(at: Judged, l1: float, l2: float) -> float:
    """Return by how much the slopes miss what an optimum asks: 0 is in the subdifferential."""
    slopes = at.dW + l2 * at.W
    missing = np.where(
        at.W == 0, np.maximum(np.abs(slopes) - l1, 0), np.abs(slopes + l1 * np.sign(at.W))
    )
    return float(missing.max())


def reference(
    X: Array,
    y: Array,
    k: int,
    l1: float,
    l2: float,
    weight: Array | None = None,
    fit_intercept: bool = True,
    one_row: bool = False,
) -> Judged:
    """Minimise by proximal gradient steps with momentum, started anew where it does not help.

    Beck and Teboulle 2009, "A fast iterative shrinkage-thresholding algorithm"; O'Donoghue and
    Candes 2015, "Adaptive restart for accelerated gradient schemes".
    """
    d = X.shape[1]
    s = np.ones(len(y)) if weight is None else np.asarray(weight, float)
    rows = np.concatenate([X, np.ones((len(X), 1))], axis=1) if fit_intercept else X
    step = 2 / np.linalg.eigvalsh((rows * (s / s.sum())[:, None]).T @ rows)[-1]
    moves = np.zeros(k) if one_row else np.ones(k)
    moves[1:] = 1
    W, b = np.zeros((d, k)), np.zeros(k)
    V, c, momentum, best = W, b, 1.0, np.inf
    for _ in range(40_000):
        here = judged(X, y, V, c, l1, l2, weight)
        new = V - step * moves * (here.dW + l2 * V)
        new = np.sign(new) * np.maximum(np.abs(new) - step * l1, 0)
        new_b = c - step * moves * here.db * fit_intercept
        if ((V - new) * (new - W)).sum() + ((c - new_b) * (new_b - b)).sum() > 0:
            momentum = 1.0
        after = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        V = new + (momentum - 1) / after * (new - W)
        c = new_b + (momentum - 1) / after * (new_b - b)
        moved = max(np.abs(new - W).max(), np.abs(new_b - b).max())
        W, b, momentum = new, new_b, after
        if moved < 1e-15 * (1 + np.abs(W).max()):
            break
    at = judged(X, y, W, b, l1, l2, weight)
    best = at.objective
    return at._replace(objective=best)
