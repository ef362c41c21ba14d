"""Sparse matrices of which some indices are others: refused, or read as what they now say.

It needs nothing but scipy, so that it can run where each access is checked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import csoftmax as cs

sparse = pytest.importorskip("scipy.sparse")

Array = Any
N, D, K = 30, 12, 3
Y = np.random.default_rng(5).integers(0, K, N)


def table(dtype: Any) -> Array:
    """Rows of which few numbers are not 0."""
    random = np.random.default_rng(4)
    X = random.integers(1, 5, (N, D)) * (random.random((N, D)) < 0.3)
    X[7], X[:, 5] = 0, 0
    return X.astype(dtype)


N_ENTRIES = int(np.count_nonzero(table("uint8")))


def corrupt(random: np.random.Generator, form: str) -> tuple[Any, bool]:
    """Return a matrix in which one to three numbers are others, and whether it is still one."""
    X = getattr(sparse, f"{form}_array")(table(("uint8", "float32")[int(random.integers(2))]))
    if form == "coo":
        parts = {"row": X.coords[0], "col": X.coords[1]}
    else:
        index = (np.int32, np.int64)[int(random.integers(2))]
        X.indices, X.indptr = X.indices.astype(index), X.indptr.astype(index)
        parts = {"indices": X.indices, "indptr": X.indptr}
    for _ in range(int(random.integers(1, 4))):
        part = list(parts.values())[int(random.integers(2))]
        limits = np.iinfo(part.dtype)
        near = [-1, 0, 1, D - 1, D, N - 1, N, N_ENTRIES, N_ENTRIES + 1, limits.max, limits.min]
        at = int(random.integers(len(part)))
        values = [*near, int(part[at]) + 1, int(part[at]) - 1]
        value = values[int(random.integers(len(values)))]
        part[at] = min(max(value, limits.min), limits.max)
    if form == "coo":
        sizes = zip(parts.values(), (N, D), strict=True)
        good = all((part >= 0).all() and (part < size).all() for part, size in sizes)
    else:
        minor = D if form == "csr" else N
        starts = X.indptr.astype(np.float64)
        good = bool(((X.indices >= 0) & (X.indices < minor)).all())
        good &= starts[0] == 0 and starts[-1] == N_ENTRIES and bool((np.diff(starts) >= 0).all())
    return X, good


def as_filled(X: Any, form: str) -> Array:
    """Return what a good matrix says, written down entry by entry."""
    full = np.zeros((N, D))
    if form == "coo":
        np.add.at(full, (X.coords[0], X.coords[1]), X.data)
        return full
    majors = np.repeat(np.arange(len(X.indptr) - 1), np.diff(X.indptr))
    places = (majors, X.indices) if form == "csr" else (X.indices, majors)
    np.add.at(full, places, X.data)
    return full


def check_corruptions(n: int, seed: int) -> int:
    """Corrupt n matrices; each is refused, or right. Return how many were refused."""
    random, n_refused = np.random.default_rng(seed), 0
    W, b = random.normal(size=(D, K)), np.zeros(K)
    model = cs.SoftmaxRegression(D, K, seed=0)
    for _ in range(n):
        form = ("csr", "csr", "csc", "coo")[int(random.integers(4))]
        X, good = corrupt(random, form)
        try:
            logits = cs.linear(X, W, b)
        except ValueError:
            assert not good
            n_refused += 1
            with pytest.raises(ValueError, match="X is no sparse matrix"):
                model.predict(X)
            continue
        assert good
        full = as_filled(X, form)
        if X.dtype == np.uint8 and form != "csr":
            full = np.minimum(full, 255)  # none adds up to more
        np.testing.assert_allclose(logits, full @ W, atol=1e-4)
        dW = cs.linear_cross_entropy_grad(X, W, b, Y)[1]
        expected = cs.linear_cross_entropy_grad(full, W, b, Y)[1]
        np.testing.assert_allclose(dW, expected, atol=1e-5)
    return n_refused


def test_any_corruption_is_refused_or_right() -> None:
    assert 200 < check_corruptions(500, 0) < 500


@pytest.mark.exhaustive  # 100,000 of them: the gate runs them under the sanitizers
@pytest.mark.parametrize("seed", range(10))
def test_very_many_corruptions_are_refused_or_right(seed: int) -> None:
    assert check_corruptions(10_000, 1 + seed) > 4_000
