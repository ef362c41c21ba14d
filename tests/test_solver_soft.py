"""Targets that are probabilities: the solver against an independent minimisation in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize as scipy_minimize
from solver_cases import table

from csoftmax.solver import Solution, minimize

pytestmark = pytest.mark.usefixtures("either_way")

Array = NDArray[Any]


def soft_table(n: int = 200, k: int = 3) -> tuple[Array, Array]:
    X, y = table(n, 4, k)
    probabilities = np.random.default_rng(1).dirichlet(np.ones(k), size=n)
    probabilities[np.arange(n), y] += 1.0
    return X, probabilities / probabilities.sum(axis=1, keepdims=True)


def objective(X: Array, p: Array, W: Array, b: Array, C: float, s: Array) -> float:
    logits = X @ W.T + b
    logits -= logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(logits).sum(axis=1)) - (p * logits).sum(axis=1)
    return float((s * losses).sum() / s.sum() + (W**2).sum() / (2 * C * s.sum()))


def by_scipy(X: Array, p: Array, C: float, s: Array) -> float:
    k, f = p.shape[1], X.shape[1]

    def value_and_gradient(x: Array) -> tuple[float, Array]:
        W, b = x[: k * f].reshape(k, f), x[k * f :]
        logits = X @ W.T + b
        q = np.exp(logits - logits.max(axis=1, keepdims=True))
        q /= q.sum(axis=1, keepdims=True)
        d = (q - p) * s[:, None] / s.sum()
        gradient = np.concatenate([(d.T @ X + W / (C * s.sum())).ravel(), d.sum(axis=0)])
        return objective(X, p, W, b, C, s), gradient

    start = np.zeros(k * (f + 1))
    options = {"maxiter": 5000, "maxfun": 50000, "ftol": 1e-15, "gtol": 1e-10}
    found = scipy_minimize(value_and_gradient, start, jac=True, method="L-BFGS-B", options=options)
    return float(found.fun)


@pytest.mark.parametrize("C", [0.1, 10.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_probabilities_reach_the_optimum_that_scipy_finds(C: float, weighted: bool) -> None:
    X, p = soft_table()
    s = (
        np.random.default_rng(2).integers(0, 3, len(X)).astype(float)
        if weighted
        else np.ones(len(X))
    )
    solution = minimize(X, p, 3, C=C, sample_weight=s if weighted else None, tol=1e-10)
    W, b = solution.W[0], solution.b[0]
    assert solution.objective[0] == pytest.approx(objective(X, p, W, b, C, s), rel=1e-12)
    assert solution.objective[0] == pytest.approx(by_scipy(X, p, C, s), rel=1e-8)
    assert 0 <= solution.bound[0] < 1e-5 * solution.objective[0]


def test_a_bound_holds_on_the_way() -> None:
    X, p = soft_table()
    best = minimize(X, p, 3, C=1.0, tol=1e-12).objective[0]
    for n in range(1, 8):
        with pytest.warns(UserWarning, match="above the optimum|unknown distance"):
            rough = minimize(X, p, 3, C=1.0, tol=0, max_iter=n)
        assert rough.objective[0] - best <= rough.bound[0] * (1 + 1e-9) + 1e-12


def test_one_hot_rows_are_labels_and_heads_mix_weights() -> None:
    X, y = table(150, 4, 3)
    weights = np.random.default_rng(0).integers(0, 2, (2, len(X))).astype(float)
    hard = minimize(X, y, 3, C=[1.0, 5.0], sample_weight=weights)
    soft = minimize(X, np.eye(3)[y], 3, C=[1.0, 5.0], sample_weight=weights)
    assert np.array_equal(hard.W, soft.W)
    assert np.array_equal(hard.objective, soft.objective)


def test_float32_rows_on_a_sample_with_scale(small_sample: None) -> None:
    X, p = soft_table(3000)
    pixels = np.clip(128 + 20 * X, 0, 255).astype(np.uint8)
    s = np.ones(len(X))
    solution: Solution = minimize(pixels, p, 3, C=1.0, scale=1 / 255, tol=1e-7)
    best = by_scipy(pixels / 255.0, p, 1.0, s)
    assert solution.objective[0] == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([0.5, 0.2, 0.2], r"y\[1\] has the sum 0.9, expected probabilities with the sum 1"),
        ([1.5, -0.5, 0.0], r"y\[1, 1\] is -0.5"),
        ([np.nan, 0.5, 0.5], r"y\[1, 0\] is nan"),
    ],
)
def test_rows_that_are_no_probabilities_are_named(row: list[float], message: str) -> None:
    p = np.full((4, 3), 1 / 3)
    p[1] = row
    with pytest.raises(ValueError, match=message):
        minimize(np.zeros((4, 2)), p, 3)
    with pytest.raises(ValueError, match=r"y has shape \(4, 2\)"):
        minimize(np.zeros((4, 2)), np.full((4, 2), 0.5), 3)
