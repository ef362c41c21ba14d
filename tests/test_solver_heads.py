"""Heads of one call: stacked, along a path, by any number of threads."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from solver_cases import same_bits, table

from csoftmax.solver import minimize

pytestmark = pytest.mark.usefixtures("either_way")


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("path", [False, True])
def test_heads_have_the_bits_they_have_alone(
    path: bool, sampled: bool, request: pytest.FixtureRequest
) -> None:
    if sampled:
        request.getfixturevalue("small_sample")
    X, y = table(400, 6, 3)
    folds = np.arange(400) % 3
    weights = np.stack([(folds != fold).astype(float) for fold in range(3)])
    Cs = [0.1, 10.0]
    together = minimize(
        X.astype(np.float32), y, 3, C=np.tile(Cs, 3), sample_weight=weights,
        weight_of_head=np.repeat(np.arange(3), 2), path=path,
    )  # fmt: skip
    assert together.converged.all()
    assert together.n_passes < together.passes.sum() + 2
    for fold in range(3):
        heads = slice(2 * fold, 2 * fold + 2)
        if path:
            alone = minimize(
                X.astype(np.float32), y, 3, C=Cs, sample_weight=weights[fold], path=True
            )
            assert np.array_equal(alone.W, together.W[heads])
            assert np.array_equal(alone.b, together.b[heads])
            continue
        for head in range(heads.start, heads.stop):
            alone = minimize(
                X.astype(np.float32), y, 3, C=Cs[head - heads.start], sample_weight=weights[fold]
            )
            assert np.array_equal(alone.W[0], together.W[head])
            assert alone.iterations[0] == together.iterations[head]


def test_a_path_ends_where_separate_fits_do() -> None:
    X, y = table(300, 6, 3)
    Cs = np.logspace(-3, 3, 7)[::-1]  # any order
    path = minimize(X, y, 3, C=Cs, path=True, tol=1e-9)
    apart = minimize(X, y, 3, C=Cs, tol=1e-9)
    assert np.allclose(path.objective, apart.objective, rtol=1e-7)
    assert (np.diff(path.loss) > 0).all()
    assert path.passes.sum() < apart.passes.sum()
    rough = minimize(X, y, 3, C=np.sort(Cs), path=True, tol=1e-2)
    assert (np.diff(rough.objective) <= 0).all()  # never worse than the weights of the C before


def test_a_path_may_have_equal_and_infinite_C() -> None:
    X, y = table(300, 4, 3, noise=4.0)
    Cs = [1.0, math.inf, 1.0, 10.0, math.inf]
    path = minimize(X, y, 3, C=Cs, path=True, tol=1e-9)
    assert path.converged.all()
    assert np.allclose(path.objective, minimize(X, y, 3, C=Cs, tol=1e-9).objective, rtol=1e-8)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_same_bits_for_any_number_of_threads(dtype: type) -> None:
    rng = np.random.default_rng(0)
    X = rng.integers(0, 255, (3000, 40)).astype(dtype)
    y = np.argmax(X[:, :8] + rng.gumbel(size=(3000, 8)) * 80, axis=1)
    options: dict[str, Any] = {"C": [1e-4, 1e-3], "tol": 1e-5}
    first = minimize(X, y, 8, n_threads=1, **options)
    for n_threads in (2, 3, 8):
        assert same_bits(minimize(X, y, 8, n_threads=n_threads, **options), first)
