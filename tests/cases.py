"""The arrays that the tests of the compiled functions share."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = Any

# float16, float32 and small integers compute in float32; float64 and wide integers in float64.
DTYPES = [np.uint8, np.float16, np.float32, np.float64, np.int64]
REDUCTIONS = ["mean", "sum", "none"]


def compute_type(dtype: Any) -> Any:
    return np.float64 if np.dtype(dtype).itemsize == 8 else np.float32


class Case(NamedTuple):
    X: Array
    W: Array
    b: Array
    y: Array
    s: Array
    scale: float


def make_case(dtype: Any, n: int, j: int, k: int) -> Case:
    rng = np.random.default_rng([n, j, k])
    t = compute_type(dtype)
    kind = np.dtype(dtype).kind
    if kind == "f":
        X, scale = rng.normal(size=(n, j)).astype(dtype), 0.75
    elif kind == "u":
        X, scale = rng.integers(0, 256, (n, j)).astype(dtype), 1 / 255
    else:
        X, scale = rng.integers(-1000, 1000, (n, j)).astype(dtype), 1e-3
    W = (3 / np.sqrt(j) * rng.normal(size=(j, k))).astype(t)
    return Case(
        X, W, rng.normal(size=k).astype(t), rng.integers(0, k, n),
        rng.uniform(0, 2, n).astype(t), scale,
    )  # fmt: skip
