"""The problem that the tests of the tape share."""

from __future__ import annotations

from typing import Any

import numpy as np
from cases import Array

import csoftmax as cs


def problem(dtype: Any = np.float64, n: int = 13, j: int = 7, k: int = 5) -> tuple[Array, ...]:
    rng = np.random.default_rng([n, j, k])
    return (
        rng.normal(size=(n, j)).astype(dtype),
        rng.normal(size=(j, k)).astype(dtype),
        rng.normal(size=k).astype(dtype),
        rng.integers(0, k, n),
    )


def loss_of(X: Any, W: Any, b: Any, y: Any) -> Any:
    return cs.cross_entropy(cs.softmax(cs.linear(X, W, b)), y)
