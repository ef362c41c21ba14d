"""Newton's method of small problems: its Hessian, its coordinates, where it is chosen."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_iris
from solver_cases import optimum, table

from csoftmax.solver import minimize, newton
from csoftmax.solver.arguments import checked_problem
from csoftmax.solver.problem import Problem, Sizes

Array = NDArray[Any]


def problem_of(fit_intercept: bool = True, soft: bool = False, **options: Any) -> Problem:
    X, y = table(60, 3, 4)
    y[y == 2] = 1  # class 2 does not occur
    weight = np.random.default_rng(1).uniform(0, 2, len(y)) * (np.arange(len(y)) % 5 > 0)
    target: Array = np.eye(4)[y] * 0.7 + np.eye(4)[(y + 1) % 4] * 0.3 if soft else y
    return checked_problem(
        X, target, 4, C=2.0, scale=0.5, sample_weight=weight, weight_of_head=None,
        fit_intercept=fit_intercept, n_threads=1, **options,
    )  # fmt: skip


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_derivatives_are_differences(fit_intercept: bool, soft: bool) -> None:
    problem = problem_of(fit_intercept, soft)
    rows = newton.SmallProblem(problem, 0)
    shape = (len(rows.present) - 1, 3 + fit_intercept)
    n, penalty = math.prod(shape), problem.penalties[0]
    origin, _, _ = problem.null_point(0)
    start = np.empty_like(origin)
    rows.expand(0.5 * np.random.default_rng(0).normal(size=shape), start)
    origin = origin + start

    def at(u: Array) -> Array:
        step = np.empty_like(origin)
        rows.expand(u.reshape(shape), step)
        return origin + step

    g, H = rows.derivatives(origin, penalty)
    assert g.shape == (n,)
    np.testing.assert_allclose(H, H.T, atol=1e-14)
    for k in range(n):
        u = 1e-5 * (np.arange(n) == k)
        objectives = problem.evaluate([0, 0], [at(u), at(-u)], [np.empty_like(origin)] * 2)
        assert g[k] == pytest.approx((objectives[0] - objectives[1]) / 2e-5, abs=1e-8)
        up, down = (rows.derivatives(at(sign * u), penalty)[0] for sign in (1, -1))
        np.testing.assert_allclose(H[k], (up - down) / 2e-5, rtol=1e-5, atol=1e-8)


def test_steps_leave_the_sum_of_the_classes_and_absent_ones_alone() -> None:
    problem = problem_of()
    rows = newton.SmallProblem(problem, 0)
    assert rows.present.tolist() == [0, 1, 3]
    np.testing.assert_allclose(rows.Q.T @ rows.Q, np.eye(2), atol=1e-15)
    step = np.empty(problem.split + 4)
    rows.expand(np.random.default_rng(0).normal(size=(2, 4)), step)
    W, b = problem.parameters(step)
    np.testing.assert_allclose(W.sum(axis=0), 0, atol=1e-12)
    assert b.sum() == pytest.approx(0, abs=1e-12)
    assert not W[2].any()
    assert b[2] == 0


def test_the_weight_of_a_constant_column_goes_to_0_from_a_warm_start() -> None:
    X, y = table()
    X = np.concatenate([X, np.full((len(X), 1), 3.0)], axis=1)
    W = np.zeros((1, 3, 7))
    W[0, :, 6] = 1.0, -2.0, 1.0
    solution = minimize(X, y, 3, W=W, tol=1e-10)
    assert np.abs(solution.W[0, :, 6]).max() < 1e-9
    assert solution.objective[0] == pytest.approx(optimum(X[:, :6], y, 3, 1.0).objective[0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("factor", [30.0, 1e3, 1e4, 1e6])
def test_a_start_where_all_rows_are_saturated_is_no_optimum(factor: float, dtype: Any) -> None:
    """Once a Hessian that had vanished gave a gain below 0, which was taken for an optimum."""
    X, y = load_iris(return_X_y=True)
    X = X.astype(dtype)
    W = factor * np.array([[1.0] * 4, [0.0] * 4, [-1.0] * 4])[None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # float32 may not get there, and says so
        solution = minimize(X, y, 3, W=W, b=np.zeros((1, 3)))
    best = minimize(X, y, 3).objective[0]
    near = solution.objective[0] <= 1.001 * best
    assert near or (not solution.converged[0] and solution.estimate[0] > 0.1 * best)
    assert near or (factor > 1e3 or dtype == np.float32)


@pytest.mark.parametrize("C", [1e3, math.inf])
def test_collinear_and_constant_columns_in_float32(C: float) -> None:
    """Rounding of a float32 gradient once drove the weights along directions without curvature."""
    rng = np.random.default_rng(0)
    year = rng.integers(1995, 2020, 400).astype(float)
    km = rng.normal(size=400) * 3e4 + 1e5
    y = np.digitize(year - km / 2e4 + 3 * rng.normal(size=400), [1998.0, 2006.0])
    X = np.column_stack([year, 2021 - year, km, np.full(400, 3.7)])
    best = minimize(X[:, [0, 2]], y, 3, C=C, tol=1e-8).objective[0]
    solution = minimize(X.astype(np.float32), y, 3, C=C, tol=1e-4)
    assert solution.converged[0]
    assert solution.objective[0] == pytest.approx(best, rel=2e-3)
    assert np.abs(solution.W).max() < 10


@pytest.mark.parametrize(
    ("sizes", "small"),
    [
        ((150, 4, 3), True),
        ((569, 30, 2), True),
        ((1797, 64, 10), False),  # a Hessian costs as much as a hundred passes
        ((10**7, 4, 2), False),  # nothing is copied of so many rows
        ((100, 5, 1), False),
    ],
)
def test_chosen_where_a_hessian_costs_little(sizes: tuple[int, int, int], small: bool) -> None:
    assert newton.suits(*sizes) is small
    if small:
        assert newton.bytes_needed(Sizes(*sizes, 1, 1, 1, 8, 8)) < 64e6


def test_linearly_dependent_columns_without_a_penalty() -> None:
    X, y = table(noise=2.0)
    twice = np.concatenate([X, X @ np.ones((6, 2))], axis=1)
    best = optimum(X, y, 3, math.inf).objective[0]
    assert minimize(twice, y, 3, C=math.inf, tol=1e-9).objective[0] == pytest.approx(best, rel=1e-7)


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("value", [0.1, 1e5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_constant_column_whose_mean_is_rounded(value: float, dtype: Any) -> None:
    """Once its rounding counted as a variance, and no step was possible without a penalty."""
    X, y = table(noise=2.0)
    best = optimum(X, y, 3, math.inf).objective[0]
    X = np.concatenate([X, np.full((len(X), 1), value)], axis=1).astype(dtype)
    solution = minimize(X, y, 3, C=math.inf, tol=1e-4)
    assert solution.objective[0] == pytest.approx(best, rel=2e-4)


def test_one_class_that_counts() -> None:
    X, y = table()
    weight = (y == 1).astype(float)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solution = minimize(X, y, 3, sample_weight=weight)
    assert solution.converged[0]
    assert solution.objective[0] == pytest.approx(0, abs=1e-12)
    assert not solution.W.any()
