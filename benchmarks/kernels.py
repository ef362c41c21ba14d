"""Compiled functions and one training epoch against plain NumPy, with pytest-benchmark.

    python -m pytest benchmarks/kernels.py --benchmark-group-by=group

Each group is one function and one shape (n_samples, n_features, n_classes); its two rows are the
compiled function and its NumPy twin on the same arrays. NumPy gets float32 features ready-made,
and its matrix products use the threads that its BLAS takes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import csoftmax as cs
from csoftmax import functional, reference
from csoftmax.bench.work import images, parameters

# The book's batch, a large batch, features of a vision backbone, a thousand classes.
SHAPES = [(256, 784, 10), (4096, 784, 10), (1024, 512, 100), (4096, 1024, 1000)]
IMPLEMENTATIONS = {"compiled": functional, "numpy": reference}
FUNCTIONS = [
    "linear",
    "softmax",
    "log_softmax",
    "cross_entropy",
    "softmax_cross_entropy",
    "softmax_cross_entropy_grad",
    "linear_cross_entropy",
    "linear_cross_entropy_grad",
]


def arguments(name: str, shape: tuple[int, int, int]) -> tuple[Any, ...]:
    n_samples, n_features, n_classes = shape
    rng = np.random.default_rng(0)
    X = rng.random((n_samples, n_features), dtype=np.float32)
    W = rng.normal(0, 0.01, (n_features, n_classes)).astype(np.float32)
    b, y = np.zeros(n_classes, np.float32), rng.integers(0, n_classes, n_samples)
    if name == "linear":
        return X, W, b
    if name.startswith("linear"):
        return X, W, b, y
    logits = reference.linear(X, W, b)
    if name == "cross_entropy":
        return reference.softmax(logits), y
    return (logits,) if name.endswith("softmax") else (logits, y)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_function(
    benchmark: Any, name: str, shape: tuple[int, int, int], implementation: str
) -> None:
    benchmark.group = f"{name} {shape}"
    function = getattr(IMPLEMENTATIONS[implementation], name)
    result = benchmark(function, *arguments(name, shape))
    expected = getattr(reference, name)(*arguments(name, shape))
    for got, plain in zip(_as_tuple(result), _as_tuple(expected), strict=True):
        np.testing.assert_allclose(got, plain, rtol=1e-4, atol=1e-5)


def _as_tuple(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_epoch(benchmark: Any, implementation: str) -> None:
    """One shuffled epoch of batches of 256, as in the book: learning rate 0.1, no momentum."""
    pixels, y, _ = images(quick=False)
    benchmark.group = f"epoch {pixels.shape}"
    if implementation == "compiled":
        loader = cs.DataLoader(pixels, y, 256, shuffle=True, seed=0, scale=1 / 255)
        model = cs.SoftmaxRegression(pixels.shape[1], 10, scale=1 / 255, seed=0)
        optimizer = cs.SGD(lr=0.1)

        def epoch() -> float:
            history = cs.train(model, loader, epochs=1, optimizer=optimizer, progress=False)
            return history.train_loss[-1]

    else:
        X = pixels * np.float32(1 / 255)
        rng = np.random.default_rng(0)
        W, b = parameters(X.shape[1], 10)

        def epoch() -> float:
            order = rng.permutation(len(X))
            return reference.sgd_epoch(X, y, W, b, order, 256, 0.1)[0]

    loss = benchmark.pedantic(epoch, warmup_rounds=1, rounds=5)
    assert 0 < loss < 1.0
