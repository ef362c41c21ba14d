"""How the solver ends: near enough, told to, interrupted, or where no step helps."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from solver_cases import InterruptedPass, objective, optimum, table

from csoftmax.solver import ConvergenceWarning, minimize
from csoftmax.solver.descent import Search

pytestmark = pytest.mark.usefixtures("either_way")


def test_stopping_early_says_how_far_and_how_long() -> None:
    X, y = table(500, 12, 5)
    with pytest.warns(
        ConvergenceWarning,
        match=r"% above the optimum by estimate after \d+ passes; about \d+ more to reach 1e-08 %",
    ):
        solution = minimize(X, y, 5, tol=1e-10, max_iter=12, preconditioner="full")
    assert not solution.converged[0]
    assert solution.iterations[0] == 12
    assert solution.status == ("limit",)
    with pytest.warns(ConvergenceWarning, match="1 of 2 heads have not converged, the worst is"):
        two = minimize(X, y, 5, C=[1e-6, 1.0], tol=1e-6, max_iter=3)
    assert two.status == ("converged", "limit")


def test_the_message_is_what_is_warned_of() -> None:
    X, y = table()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solution = minimize(X, y, 3, tol=1e-12, max_iter=1, warns=False)
        assert minimize(X, y, 3).message == ""
    with pytest.warns(ConvergenceWarning) as caught:
        minimize(X, y, 3, tol=1e-12, max_iter=1)
    assert [str(each.message) for each in caught] == [solution.message]
    assert caught[0].filename == __file__


def test_separable_data_without_penalty_ends_with_a_warning() -> None:
    X = np.array([[-2.0, 1.0], [-1.0, 0.0], [1.0, 0.5], [2.0, -1.0]])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        solution = minimize(X, [0, 0, 1, 1], 2, C=math.inf, max_iter=60)
    assert solution.objective[0] < 1e-3
    assert np.isfinite(solution.W).all()
    warned = any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
    assert warned or solution.objective[0] < 1e-300


def test_what_float32_cannot_tell_apart_is_left() -> None:
    X, y = table(300, 6, 3)
    X = X.astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        solution = minimize(X, y, 3, tol=0.0)
    best = optimum(X, y, 3, 1.0).objective[0]
    assert solution.objective[0] == pytest.approx(best, rel=1e-6)


def test_a_step_that_rounding_forbids_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Search, "accepts", lambda self, t, objective, slope: False)
    X, y = table()
    with pytest.warns(ConvergenceWarning, match="the rounding of float64 allows no further step"):
        solution = minimize(X, y, 3)
    assert not solution.converged[0]
    assert solution.iterations[0] == 0
    assert solution.status == ("stalled",)


def test_callback_stops_and_is_told() -> None:
    X, y = table()
    seen = []

    def callback(progress: Any) -> bool:
        W, b = progress.parameters(0)
        seen.append((progress.n_passes, progress.objective[0], W.shape, b.shape))
        return len(seen) == 4

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solution = minimize(X, y, 3, tol=1e-12, callback=callback)
    assert len(seen) == 4
    assert seen[-1][2:] == ((3, 6), (3,))
    assert solution.objective[0] == seen[-1][1]
    assert not solution.converged[0]
    assert solution.status == ("callback",)
    assert solution.message == ""
    one_then_none = minimize(X, y, 3, C=[1e-6, 1.0], tol=1e-12, path=True,
                             callback=lambda progress: not progress.running[0])  # fmt: skip
    assert one_then_none.status == ("converged", "callback")


def test_verbose_prints_a_line_per_pass(capsys: pytest.CaptureFixture[str]) -> None:
    X, y = table()
    minimize(X, y, 3, verbose=1)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("pass ")
    assert "0 of 1 heads running" in lines[-1]


def test_steep_gradients_go_on_up_to_a_hundredth_of_tol() -> None:
    X, y = table()
    loose = minimize(X, y, 3, tol=1e-2)
    flat = minimize(X, y, 3, tol=1e-2, gradient_tol=1e-3 * loose.gradient_max[0])
    assert loose.converged[0]
    assert flat.converged[0]
    assert flat.iterations[0] > loose.iterations[0]
    assert flat.gradient_max[0] <= 1e-3 * loose.gradient_max[0] or flat.estimate[0] <= 1e-4
    scaled = minimize(1e6 * X, y, 3, tol=1e-2, gradient_tol=1e-2)  # and so is its gradient
    assert scaled.converged[0]
    assert scaled.gradient_max[0] > 1e-2
    assert scaled.estimate[0] <= 1e-4 * scaled.objective[0]
    n = int(minimize(X, y, 3, tol=1e-2, preconditioner="full").iterations[0]) + 1
    with pytest.warns(ConvergenceWarning, match=r"more to reach 0.01 %"):
        minimize(X, y, 3, tol=1e-2, gradient_tol=0, max_iter=n, preconditioner="full")


@pytest.mark.parametrize("n", [3, 4, 9])
def test_interruption_returns_the_best_so_far(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = table()
    null = minimize(X, y, 3, callback=lambda progress: True)
    InterruptedPass(monkeypatch, n)
    with pytest.warns(ConvergenceWarning, match="interrupted after"):
        solution = minimize(X, y, 3, tol=1e-12)
    W, b = solution.W[0], solution.b[0]
    assert solution.objective[0] == pytest.approx(objective(X, y, W, b), rel=1e-12)
    assert solution.objective[0] <= null.objective[0]
    assert not solution.converged[0]
    assert solution.status == ("interrupted",)
    assert solution.message.startswith("interrupted after")
