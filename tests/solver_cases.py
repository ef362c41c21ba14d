"""Problems for tests of the solver."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from csoftmax import _kernels
from csoftmax.solver import Solution, minimize

Array = NDArray[Any]


def table(
    n: int = 200, f: int = 6, k: int = 3, seed: int = 0, noise: float = 1.0
) -> tuple[Array, Array]:
    """Rows of features of different scales and means, labels from a noisy linear model."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, f)) @ rng.normal(size=(f, f))
    y = np.argmax(X @ rng.normal(size=(f, k)) + noise * rng.gumbel(size=(n, k)), axis=1)
    return X * np.logspace(-1, 1, f) + rng.normal(size=f), y


def objective(
    X: Array, y: Array, W: Array, b: Array, C: float = 1.0, weight: Array | None = None
) -> float:
    """scikit-learn's objective, written down in float64."""
    s = np.ones(len(y)) if weight is None else weight
    logits = X.astype(np.float64) @ W.T.astype(np.float64) + b
    logits -= logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(y)), y]
    penalty = 0.0 if math.isinf(C) else (W.astype(np.float64) ** 2).sum() / (2 * C * s.sum())
    return float((s * losses).sum() / s.sum() + penalty)


def optimum(X: Array, y: Array, k: int, C: float, weight: Array | None = None) -> Solution:
    return minimize(X.astype(np.float64), y, k, C=C, sample_weight=weight, tol=1e-13, max_iter=3000)


def same_bits(a: Solution, b: Solution) -> bool:
    fields = ("W", "b", "objective", "loss", "bound", "estimate", "gradient_max", "iterations")
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in fields)


class InterruptedPass:
    """Row passes; Ctrl-C hits after so many of those with a gradient."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, n: int, name: str = "row_pass") -> None:
        self.left, self.row_pass = n, getattr(_kernels, name)
        monkeypatch.setattr(_kernels, name, self)

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.left -= options.get("gradient") is not None
        if self.left == 0:
            raise KeyboardInterrupt
        return self.row_pass(*args, **options)
