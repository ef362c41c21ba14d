"""How far the solver says it is from the optimum: the proved bound and the estimate."""

from __future__ import annotations

import math

import numpy as np
import pytest
from solver_cases import optimum, table

from csoftmax.solver import minimize
from csoftmax.solver.arguments import checked_problem
from csoftmax.solver.bound import lower_bound

pytestmark = pytest.mark.usefixtures("either_way")


@pytest.mark.filterwarnings("ignore::csoftmax.solver.ConvergenceWarning")  # 1e-12 is rounding
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_bound_is_never_below_the_distance(seed: int, fit_intercept: bool) -> None:
    """At the start, on the way, at random points and at the optimum; imbalanced classes too."""
    rng = np.random.default_rng(seed)
    X, y = table(150, 5, 4, seed, noise=0.3 + seed)
    weight = rng.uniform(0, 2, 150) * np.where(y == 1, 0.02, 1.0)
    for C in (1e-3, 0.1, 1.0, 100.0):
        best = minimize(
            X, y, 4, C=C, sample_weight=weight, fit_intercept=fit_intercept, tol=1e-14,
            max_iter=3000,
        )  # fmt: skip
        assert best.estimate[0] <= 1e-11 * best.objective[0]
        problem = checked_problem(
            X, y, 4, C=C, scale=1.0, sample_weight=weight, weight_of_head=None,
            fit_intercept=fit_intercept, n_threads=1,
        )  # fmt: skip
        null, _, _ = problem.null_point(0)
        x_best = np.concatenate([best.W[0].reshape(-1), best.b[0]])
        lower = []
        for mix in (0.0, 0.1, 0.5, 0.9, 0.99, 1.0):
            for disturbance in (0.0, 1e-3, 0.3):
                x = (1 - mix) * null + mix * x_best
                x += disturbance * rng.normal(size=len(x))
                if not fit_intercept:
                    x[problem.split :] = 0
                g = np.empty_like(x)
                (value,) = problem.evaluate([0], [x], [g])
                lower.append(lower_bound(problem, 0, x, value, g))
                assert lower[-1] <= best.objective[0] * (1 + 1e-12)
        assert best.bound[0] <= 1e-5 * best.objective[0]
        assert max(lower) >= best.objective[0] - 1e-3  # and it says something


def test_bound_is_that_of_the_probabilities_it_speaks_of() -> None:
    """Row by row: p mixed with one constant v, so that each class has the weight of its labels."""
    rng = np.random.default_rng(0)
    X, y = table(150, 5, 4)
    X += 1.5
    s = rng.uniform(0, 2, 150)
    problem = checked_problem(
        X, y, 4, C=0.003, scale=1.0, sample_weight=s, weight_of_head=None, fit_intercept=True,
        n_threads=1,
    )  # fmt: skip
    best = minimize(X, y, 4, C=0.003, sample_weight=s)
    optimal = np.concatenate([best.W[0].reshape(-1) / problem.unit, best.b[0]])
    X, s, labels = X * problem.unit, s / s.sum(), np.eye(4)[y]
    for disturbance in (1e-3, 3e-3):
        x, g = optimal + disturbance * rng.normal(size=24), np.empty(24)
        (value,) = problem.evaluate([0], [x], [g])
        W, b = problem.parameters(x)
        p = np.exp(X @ W.T + b)
        p /= p.sum(axis=1, keepdims=True)
        t = max(0.0, (1 - (s @ labels) / (s @ p)).max())
        v = (s @ labels - (1 - t) * (s @ p)) / t
        R = ((1 - t) * p + t * v - labels).T @ (s[:, None] * X)
        entropy = -(1 - t) * s @ (p * np.log(p)).sum(axis=1) - t * v[v > 1e-12] @ np.log(
            v[v > 1e-12]
        )
        expected = entropy - np.square(R).sum() / (2 * problem.penalties[0].l2)
        assert lower_bound(problem, 0, x, value, g) == pytest.approx(expected, rel=1e-10)
        assert 0.1 * value < expected < value


def test_bound_holds_in_float32_up_to_rounding() -> None:
    X, y = table(500, 6, 3)
    X = X.astype(np.float32)
    for C in (0.01, 1.0, 100.0):
        best = optimum(X, y, 3, C).objective[0]
        for tol in (1e-1, 1e-3, 1e-5):
            solution = minimize(X, y, 3, C=C, tol=tol)
            assert solution.objective[0] - solution.bound[0] <= best * (1 + 1e-6)


def test_without_a_penalty_the_bound_knows_that_a_loss_is_not_below_0() -> None:
    X, y = table(noise=3.0)
    solution = minimize(X, y, 3, C=math.inf)
    assert solution.bound[0] == solution.objective[0]


@pytest.mark.parametrize("seed", range(4))
def test_estimate_tells_the_distance(seed: int) -> None:
    X, y = table(500, 10, 4, seed)
    best = optimum(X, y, 4, 1.0).objective[0]
    for tol in (1e-2, 1e-4, 1e-6):
        solution = minimize(X, y, 4, tol=tol)
        assert solution.converged.all()
        assert solution.objective[0] / best - 1 <= 3 * tol


@pytest.mark.parametrize("path", [False, True])
def test_estimate_tells_the_distance_where_it_is_hard_to_come_by(path: bool) -> None:
    """Features over decades that tell little each, weak penalties: the decrease crawls."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(600, 60)) * np.logspace(0, -2, 60) @ rng.normal(size=(60, 60))
    y = np.argmax(X @ rng.normal(size=(60, 5)) + 0.3 * rng.gumbel(size=(600, 5)), axis=1)
    C = np.logspace(-2, 4, 13)
    best = minimize(X, y, 5, C=C, path=True, tol=1e-10, max_iter=5000).objective
    for preconditioner in ("full", None):
        for tol in (1e-2, 1e-3):
            solution = minimize(
                X, y, 5, C=C, path=path, tol=tol, max_iter=5000, preconditioner=preconditioner
            )
            distance = solution.objective / best - 1
            assert solution.converged.all()
            assert (distance <= 1.5 * tol).mean() >= 0.9
            assert distance.max() <= 4 * tol


def test_history_has_an_entry_for_each_iteration() -> None:
    X, y = table()
    solution = minimize(X, y, 3)
    (history,) = solution.history
    assert {len(values) for values in history.values()} == {int(solution.iterations[0]) + 1}
    assert history["objective"][-1] == solution.objective[0]
    assert history["passes"][-1] == solution.passes[0]
    assert history["gradient_max"][-1] == pytest.approx(solution.gradient_max[0])
    assert np.diff(history["objective"]).max() <= 1e-12
    assert np.diff(history["seconds"]).min() >= 0
