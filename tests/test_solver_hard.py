"""Data that solvers stumble over."""

from __future__ import annotations

import math

import numpy as np
import pytest
from solver_cases import optimum, table

from csoftmax.solver import minimize

pytestmark = pytest.mark.usefixtures("either_way")


def test_constant_duplicated_and_single_features() -> None:
    X, y = table()
    best = optimum(X, y, 3, 1.0)
    odd = np.concatenate([X, np.full((len(X), 1), 7.0), np.zeros((len(X), 1))], axis=1)
    solution = minimize(odd, y, 3, tol=1e-10)
    assert solution.objective[0] == pytest.approx(best.objective[0], rel=1e-8)
    assert np.abs(solution.W[0, :, 6:]).max() < 1e-6
    twice = minimize(np.concatenate([X, X], axis=1), y, 3, C=0.5, tol=1e-11)
    assert twice.objective[0] == pytest.approx(best.objective[0], rel=1e-8)
    assert np.allclose(twice.W[0, :, :6], twice.W[0, :, 6:])
    free = minimize(np.concatenate([odd, X], axis=1), y, 3, C=math.inf, tol=1e-10)
    unpenalised = optimum(X, y, 3, math.inf).objective[0]
    assert free.objective[0] == pytest.approx(unpenalised, rel=1e-7)
    single = minimize(X[:, :1], y, 3, tol=1e-10)
    assert single.converged.all()


def test_features_over_ten_decades() -> None:
    X, y = table(600, 10, 3)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    scales = np.logspace(-5, 5, 10)
    best = minimize(X, y, 3, C=math.inf, tol=1e-10).objective[0]
    solution = minimize(X * scales, y, 3, C=1e16, tol=1e-6)
    assert solution.iterations[0] < 100
    assert best <= solution.objective[0] <= best * (1 + 1e-3)


def test_two_classes_and_one() -> None:
    X, y = table(200, 4, 2)
    solution = minimize(X, y, 2, tol=1e-10)
    assert np.allclose(solution.W[0, 0], -solution.W[0, 1])
    one = minimize(X, np.zeros(200, int), 1)
    assert one.objective[0] == 0
    assert one.converged.all()
    assert not one.W.any()


def test_a_thousand_classes() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(1000, 16)) * 2
    y = np.arange(4000) % 1000
    X = (centres[y] + rng.normal(size=(4000, 16))).astype(np.float32)
    solution = minimize(X, y, 1000, C=0.1, tol=1e-3)
    assert solution.converged.all()
    assert solution.bound[0] < 0.5 * solution.objective[0]
    best = minimize(X, y, 1000, C=0.1, tol=1e-6).objective[0]
    assert solution.objective[0] <= best * (1 + 3e-3)


def test_imbalanced_classes_in_a_sample_that_misses_some(small_sample: None) -> None:
    rng = np.random.default_rng(0)
    y = np.zeros(2000, np.int64)
    y[:4], y[4:30] = 2, 1
    X = rng.normal(size=(2000, 5)) + y[:, None]
    solution = minimize(X, y, 3, tol=1e-9)
    assert solution.converged.all()
    assert solution.objective[0] == pytest.approx(optimum(X, y, 3, 1.0).objective[0], rel=1e-8)


def test_more_features_than_rows_and_many_features() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 400)), np.arange(30) % 3
    full = minimize(X, y, 3, tol=1e-8, preconditioner="full")
    diagonal = minimize(X, y, 3, tol=1e-8)  # "auto": not worth 400^3
    assert full.objective[0] == pytest.approx(diagonal.objective[0], rel=1e-7)


def test_large_values_start_and_finish() -> None:
    X, y = table()
    solution = minimize(1e8 * X, y, 3, tol=1e-8)
    assert solution.converged.all()
    assert solution.objective[0] < minimize(X, y, 3).objective[0] * (1 + 1e-6)
