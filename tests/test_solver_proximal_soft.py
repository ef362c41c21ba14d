"""L1 and elastic net with probabilities as targets, against a plain solver in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from l1_cases import Array, judged, l1_table, reference, violation

import csoftmax as cs
from csoftmax.solver import minimize
from csoftmax.solver.l1 import minimize_l1


def soft_table(k: int = 3, n: int = 120) -> tuple[Array, Array]:
    X, y = l1_table(n, k=k)
    p = np.random.default_rng(1).dirichlet(np.full(k, 0.4), size=n)
    p[np.arange(n), y] += 1.0
    p[:5] = np.eye(k)[y[:5]]
    return X, p / p.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("ratio", [1.0, 0.3])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("form", [np.asarray, sp.csr_array])
def test_it_finds_the_optimum(form: Any, weighted: bool, ratio: float) -> None:
    X, p = soft_table()
    rng = np.random.default_rng(2)
    s = rng.exponential(size=len(X)) * (rng.random(len(X)) < 0.8) if weighted else np.ones(len(X))
    l1, l2 = ratio / s.sum(), (1 - ratio) / s.sum()
    true = reference(X, p, 3, l1, l2, s)
    solution = minimize_l1(
        form(X), p, 3, l1_ratio=ratio, sample_weight=s if weighted else None, tol=1e-12
    )
    at = judged(X, p, solution.W[0].T, solution.b[0], l1, l2, s)
    assert solution.converged[0]
    assert solution.objective[0] == pytest.approx(at.objective, rel=1e-13)
    assert at.objective == pytest.approx(true.objective, rel=1e-10)
    assert violation(at, l1, l2) < 2e-6
    assert (at.W == 0).any()
    assert -1e-14 <= solution.bound[0] < 1e-5


@pytest.mark.parametrize("ratio", [1.0, 0.3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_the_bound_is_proved_at_every_stop(dtype: Any, ratio: float, fit_intercept: bool) -> None:
    X, p = soft_table()
    X, slack = X.astype(dtype), 1e-14 if dtype == np.float64 else 3e-7
    wide, n = X.astype(float), len(X)
    for C in (0.05, 1.0, 10.0):
        l1, l2 = ratio / (C * n), (1 - ratio) / (C * n)
        true = reference(wide, p, 3, l1, l2, fit_intercept=fit_intercept)
        for max_iter in (0, 1, 2, 4, 8):
            some = minimize_l1(
                X, p, 3, C=C, l1_ratio=ratio, tol=0, max_iter=max_iter, warns=False,
                fit_intercept=fit_intercept,
            )  # fmt: skip
            W, b = some.W[0].T.astype(float), some.b[0].astype(float)
            at = judged(wide, p, W, b, l1, l2)
            assert some.bound[0] >= at.objective - true.objective - slack
        assert some.bound[0] < 0.02 * at.objective
        assert some.objective[0] == pytest.approx(at.objective, rel=1e-6)


@pytest.mark.parametrize("form", [np.asarray, sp.csr_array])
def test_one_hot_rows_are_labels(form: Any) -> None:
    X, y = l1_table(k=4)
    weights = np.random.default_rng(0).integers(0, 3, (2, len(X))).astype(float)
    options: dict[str, Any] = {"C": [0.5, 5.0], "sample_weight": weights, "tol": 1e-10}
    hard, soft = (minimize_l1(form(X), target, 4, **options) for target in (y, np.eye(4)[y]))
    np.testing.assert_allclose(hard.W, soft.W, atol=1e-5)
    np.testing.assert_allclose(hard.objective, soft.objective, rtol=1e-10)
    np.testing.assert_allclose(hard.bound, soft.bound, atol=1e-5)
    near = minimize_l1(form(X), 0.999999 * np.eye(4)[y] + 2.5e-7, 4, **options)
    np.testing.assert_allclose(near.objective, hard.objective, rtol=1e-4)
    assert (near.objective != hard.objective).all()


def test_a_small_share_of_l1_is_nearly_l2() -> None:
    X, p = soft_table()
    l2 = minimize(X, p, 3, tol=1e-12)
    nearly = minimize(X, p, 3, l1_ratio=1e-9, tol=1e-12)
    assert nearly.objective[0] == pytest.approx(l2.objective[0], rel=1e-8)


def test_rows_are_as_good_as_several_labels() -> None:
    """A row of probabilities is that row once for each class, weighed by them."""
    X, p = soft_table(4, 600)
    X = X.astype(np.float32)
    soft = minimize_l1(sp.csr_array(X), p, 4, C=0.1, tol=1e-6)
    labels = np.tile(np.arange(4), len(X))
    hard = minimize_l1(
        sp.csr_array(np.repeat(X, 4, axis=0)), labels, 4, C=0.1, sample_weight=p.reshape(-1),
        tol=1e-6,
    )  # fmt: skip
    assert soft.objective[0] == pytest.approx(hard.objective[0], rel=3e-6)
    assert 0 < (soft.W == 0).sum() < soft.W.size


@pytest.mark.parametrize("form", [np.asarray, sp.csr_array])
def test_the_bits_do_not_depend_on_threads(form: Any, free_threads: None) -> None:
    X, p = soft_table(12, 1500)
    one = minimize_l1(form(X), p, 12, C=0.1, tol=1e-5, n_threads=1)
    for n_threads in (2, 8):
        other = minimize_l1(form(X), p, 12, C=0.1, tol=1e-5, n_threads=n_threads)
        for name in ("W", "b", "objective", "bound", "estimate", "iterations"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("form", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("k", [2, 3])
def test_the_estimator_takes_them(form: Any, k: int) -> None:
    X, p = soft_table(k)
    classifier = cs.SoftmaxClassifier(l1_ratio=0.7, tol=1e-10).fit(form(X), p)
    l1, l2 = 0.7 / len(X), 0.3 / len(X)
    true = reference(X, p, k, l1, l2, one_row=k == 2)
    assert classifier.gap_.objective == pytest.approx(true.objective, rel=1e-9)
    assert classifier.coef_.shape == (1 if k == 2 else k, X.shape[1])
