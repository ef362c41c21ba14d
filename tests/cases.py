"""The arrays that the tests of the compiled functions share, and the rule for their tolerances.

Against a truth in a wider type, the compiled result may err no more than plain NumPy does in the
same type, plus MARGIN units of rounding of the magnitudes it has to add up. Where pixels are
multiplied by integers, weights and dlogits count as large as the largest of their class: they are
rounded to 24 bits of that.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = Any

# float16, float32 and small integers compute in float32; float64 and wide integers in float64.
DTYPES = [np.uint8, np.float16, np.float32, np.float64, np.int64]
REDUCTIONS = ["mean", "sum", "none"]

MARGIN = 4

# Around the lengths of vectors of 4, 8 and 16 floats and their unrolled loops.
N_CLASSES = [1, 2, 3, 5, 7, 9, 10, 11, 16, 17, 33, 100]
N_SAMPLES = [0, 1, 2, 3, 5, 15, 16, 17, 33, 100, 1025]


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


def assert_no_worse(got: Array, plain: Array, truth: Array, magnitude: Array) -> None:
    """Hold `got` to the rule above; `magnitude` is what one unit of rounding is relative to."""
    got, plain = np.asarray(got), np.asarray(plain)
    assert got.shape == plain.shape
    assert got.dtype == plain.dtype
    if got.size == 0:
        return
    # plain is float64 for a mean or sum of float32 losses; the losses themselves are not.
    info = np.finfo(np.float32 if np.asarray(truth).dtype == np.float64 else np.float64)
    unit = np.maximum(magnitude, info.tiny)
    theirs = float((abs(plain - truth) / unit).max() / info.eps)
    ours = float((abs(got - truth) / unit).max() / info.eps)
    assert ours <= theirs + MARGIN, f"off by {ours:.2f} units of rounding, NumPy by {theirs:.2f}"
