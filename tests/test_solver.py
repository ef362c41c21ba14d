"""The solver against float64 NumPy, scikit-learn where it is installed, and its own promises."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from solver_cases import objective, optimum, same_bits, table
from threadpoolctl import threadpool_info, threadpool_limits

import csoftmax as cs
from csoftmax.engine.passes import ABSENT_BIAS
from csoftmax.solver import minimize
from csoftmax.solver.arguments import checked_problem
from csoftmax.solver.problem import Problem

pytestmark = pytest.mark.usefixtures("either_way")


@pytest.mark.parametrize("C", [0.01, 1.0, 100.0, math.inf])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_gradient_vanishes_and_the_objective_is_that_of_float64(
    C: float, fit_intercept: bool
) -> None:
    X, y = table()
    solution = minimize(X, y, 3, C=C, fit_intercept=fit_intercept, tol=1e-12)
    W, b = solution.W[0], solution.b[0]
    best = objective(X, y, W, b, C)
    assert solution.converged.all()
    assert solution.objective[0] == pytest.approx(best, rel=1e-12)
    assert solution.loss[0] == pytest.approx(objective(X, y, W, b, math.inf), rel=1e-12)
    if not fit_intercept:
        assert not b.any()
    step = 1e-4
    for array in (W, b) if fit_intercept else (W,):
        for index in np.ndindex(array.shape):
            before = array[index]
            values = []
            for change in (step, -step):
                array[index] = before + change
                values.append(objective(X, y, W, b, C))
            array[index] = before
            assert abs(values[0] - values[1]) / (2 * step) < 1e-5
            assert min(values) >= best - 1e-12


def test_gradient_of_the_problem_is_that_of_finite_differences() -> None:
    X, y = table(40, 3, 3)
    weight = np.random.default_rng(1).uniform(0.5, 2, 40)
    problem = checked_problem(
        X, y, 3, C=0.5, scale=2.0, sample_weight=weight, weight_of_head=None, fit_intercept=True,
        n_threads=1,
    )  # fmt: skip
    x, g = np.random.default_rng(2).normal(size=(2, 12))
    (value,) = problem.evaluate([0], [x], [g])
    W, b = problem.parameters(x)
    assert value == pytest.approx(objective(2 * X, y, W, b, 0.5, weight), rel=1e-12)
    for i in range(12):
        difference = 0.0
        for sign in (1, -1):
            moved = x.copy()
            moved[i] += sign * 1e-6
            difference += sign * problem.evaluate([0], [moved], [np.empty(12)])[0]
        assert g[i] == pytest.approx(difference / 2e-6, abs=1e-7)


@pytest.mark.parametrize("C", [0.1, 1.0, 30.0])
def test_never_above_scikit_learn(C: float) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    X, y = table(300, 8, 4)
    theirs = linear_model.LogisticRegression(C=C, tol=1e-10, max_iter=10_000).fit(X, y)
    ours = minimize(X, y, 4, C=C, tol=1e-10)
    reached = objective(X, y, theirs.coef_, theirs.intercept_, C)
    assert ours.objective[0] <= reached * (1 + 1e-9)
    assert np.allclose(ours.W[0], theirs.coef_, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
def test_every_dtype_reaches_the_optimum_of_float64(dtype: type) -> None:
    rng = np.random.default_rng(3)
    X = rng.integers(0, 200, (400, 7)).astype(dtype)
    y = np.argmax(X[:, :3] + rng.gumbel(size=(400, 3)) * 60, axis=1)
    C = 1e-3
    solution = minimize(X, y, 3, C=C, tol=1e-6)
    best = optimum(X, y, 3, C).objective[0]
    assert solution.W.dtype == (np.float64 if dtype is np.float64 else np.float32)
    assert (
        best * (1 - 1e-6) <= objective(X, y, solution.W[0], solution.b[0], C) <= best * (1 + 1e-5)
    )


def test_pixels_need_no_scaling() -> None:
    train, _ = cs.fashion_mnist_sample()
    X = train.X.reshape(len(train), -1)
    raw = minimize(X, train.y, 10, C=1 / 255**2, tol=1e-4)
    scaled = minimize(X, train.y, 10, scale=1 / 255, tol=1e-4)
    assert raw.objective[0] == pytest.approx(scaled.objective[0], rel=2e-4)
    assert raw.iterations[0] <= scaled.iterations[0] * 1.1 + 5
    assert np.allclose(255 * raw.W, scaled.W, atol=0.05)


def test_scale_multiplies_X() -> None:
    X, y = table()
    a = minimize(X, y, 3, scale=0.25, tol=1e-12)
    b = minimize(0.25 * X, y, 3, tol=1e-12)
    assert a.objective[0] == pytest.approx(b.objective[0], rel=1e-12)
    assert np.allclose(a.W, b.W, rtol=1e-4, atol=1e-6)


def test_integer_weights_equal_repeated_rows() -> None:
    X, y = table()
    weight = np.random.default_rng(1).integers(0, 4, len(y))
    weighted = minimize(X, y, 3, sample_weight=weight, tol=1e-12)
    repeated = minimize(X.repeat(weight, axis=0), y.repeat(weight), 3, tol=1e-12)
    assert weighted.objective[0] == pytest.approx(repeated.objective[0], rel=1e-11)
    assert np.allclose(weighted.W, repeated.W, rtol=1e-4, atol=1e-6)


def test_only_the_ratios_of_weights_and_C_times_their_sum_matter() -> None:
    X, y = table()
    weight = np.random.default_rng(1).uniform(0.1, 3, len(y))
    a = minimize(X, y, 3, C=1.0, sample_weight=weight, tol=1e-12)
    b = minimize(X, y, 3, C=0.25, sample_weight=4 * weight, tol=1e-12)
    assert a.objective[0] == pytest.approx(b.objective[0], rel=1e-12)
    assert a.objective[0] == pytest.approx(objective(X, y, a.W[0], a.b[0], 1.0, weight), rel=1e-12)


def test_rows_of_weight_0_may_hold_anything() -> None:
    X, y = table()
    weight = np.ones(len(y))
    weight[50:60] = 0
    clean = minimize(X, y, 3, sample_weight=weight)
    X[50:60] = math.nan
    assert same_bits(minimize(X, y, 3, sample_weight=weight), clean)


def test_a_class_missing_in_a_fold_gets_probability_0() -> None:
    X, y = table(300, 5, 4)
    weights = np.ones((2, 300))
    weights[1, y == 2] = 0
    solution = minimize(X, y, 4, sample_weight=weights, tol=1e-10)
    kept = y != 2
    labels = np.array([0, 1, -1, 2])[y[kept]]
    three = minimize(X[kept], labels, 3, tol=1e-10)
    assert solution.b[1, 2] == ABSENT_BIAS
    assert not solution.W[1, 2].any()
    assert solution.objective[1] == pytest.approx(three.objective[0], rel=1e-9)
    assert np.isfinite(solution.bound).all()
    assert (solution.bound < 1e-3).all()


def test_memory_map_strides_and_byte_order(tmp_path: Path) -> None:
    X, y = table(300, 6, 3)
    X = X.astype(np.float32)
    expected = minimize(X, y, 3)
    mapped = np.memmap(tmp_path / "X", np.float32, "w+", shape=X.shape)
    mapped[:] = X
    wide = np.zeros((300, 12), np.float32)
    wide[:, ::2] = X
    for view in (mapped, wide[:, ::2], X.astype(">f4"), np.asfortranarray(X)):
        assert same_bits(minimize(view, y, 3), expected)


def test_warm_start_begins_where_it_is_told() -> None:
    X, y = table()
    first = minimize(X, y, 3, tol=1e-13)
    shifted = first.W + np.random.default_rng(0).normal(size=6)  # the same for all classes
    again = minimize(X, y, 3, tol=1e-6, W=shifted, b=first.b + 3)
    assert again.iterations[0] <= 1
    assert again.objective[0] == pytest.approx(first.objective[0], rel=1e-8)
    assert np.allclose(again.W, first.W, atol=1e-6)


def test_blas_has_one_thread_while_the_solver_walks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others would spin after a product, on the CPUs of the next pass."""
    evaluate, seen = Problem.evaluate, set()

    def spy(self: Problem, *arguments: Any) -> Any:
        seen.update(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
        return evaluate(self, *arguments)

    monkeypatch.setattr(Problem, "evaluate", spy)
    # made anew, it knows the BLAS that scipy may have loaded in a test before
    monkeypatch.setattr("csoftmax.solver.walk._blas", None)
    X, y = table()
    with threadpool_limits(2, "blas"):
        if {p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas"} != {2}:
            pytest.skip("this BLAS has one thread")
        minimize(X, y, 3)
    assert seen == {1}
