"""Where a model leads astray: the fit goes on with more care, and is not called stalled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from l1_cases import l1_table

from csoftmax.core.checks import compute_dtype
from csoftmax.engine.class_rows import Bias, ClassRows
from csoftmax.rows.base import as_stored
from csoftmax.solver import proximal, quadratic
from csoftmax.solver.l1 import minimize_l1
from csoftmax.solver.l1_problem import checked_l1_problem
from csoftmax.solver.small_model import Hessian


@pytest.mark.parametrize("n_astray", [1, 3])
@pytest.mark.parametrize("path", [True, False])
def test_a_step_that_leads_up_is_tried_anew(
    n_astray: int, path: bool, isa: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = l1_table()
    X, C = X.astype(np.float32), [0.05, 1.0, 10.0]
    plain = minimize_l1(X, y, 3, C=C, path=path, tol=1e-5)
    calls, minimise = [0], quadratic.Model.minimise

    def astray(self: quadratic.Model, *args: Any) -> None:
        """Minimise, and then for some calls go the other way, as if much were gained."""
        minimise(self, *args)
        calls[0] += 1
        if 4 < calls[0] <= 4 + n_astray:
            u, start = self.coordinates.u, self.coordinates.start
            u[:] = start - (u - start)
            self.rows.delta *= -1
            assert self.bias is not None
            self.bias.moved[:] *= -1
            self.gained = 5.0

    with monkeypatch.context() as patch:
        patch.setattr(quadratic.Model, "minimise", astray)
        found = minimize_l1(X, y, 3, C=C, path=path, tol=1e-5)
    assert calls[0] > 4 + n_astray
    assert found.converged.all()
    np.testing.assert_allclose(found.objective, plain.objective, rtol=2e-5)


def test_steps_that_never_lead_down_end(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = l1_table()

    def astray(self: quadratic.Model, *_: Any) -> None:
        self.coordinates.u[:] = self.coordinates.start + 50
        self.gained = 1.0

    monkeypatch.setattr(quadratic.Model, "minimise", astray)
    with pytest.warns(UserWarning, match="rounding allows no further step"):
        found = minimize_l1(X, y, 3, C=1.0)
    assert found.status == ("stalled",)
    shares = np.bincount(y) / len(y)  # it has stayed where it began: all weights 0
    assert found.objective[0] == pytest.approx(-(shares * np.log(shares)).sum())
    assert found.estimate[0] > 0.1


def test_a_start_that_is_worse_than_none_is_not_taken() -> None:
    X, y = l1_table()
    far = np.random.default_rng(0).normal(0, 1e4, (1, 3, X.shape[1]))
    found, cold = (minimize_l1(X, y, 3, C=1.0, W=W, max_iter=9) for W in (far, None))
    assert found.converged[0]
    np.testing.assert_array_equal(found.W, cold.W)


def rows_of(X: Any, y: Any) -> ClassRows:
    stored = as_stored(X, compute_dtype(X))
    return ClassRows(stored, y.astype(np.int64), 3, None, np.dtype(X.dtype), True, 1)


def test_sweeps_leave_intercepts_where_an_exact_step_took_them(isa: str) -> None:
    X, y = l1_table()
    problem = checked_l1_problem(X, y, 3, 10.0, 1.0, 1.0, None, None, True, False, 1)
    newton = proximal.ProximalNewton(problem.rows(0), problem.free, True)
    W = np.zeros((X.shape[1], 3))
    newton.start(problem.penalties[0], W, np.zeros(3))
    newton.rows.set_logits(W, np.array([2.0, 0.0, -2.0]))  # far from where intercepts go
    slopes = newton._slopes_at(newton.rows.mean_probabilities() - newton.rows.shares)
    coordinates, _ = newton.coordinates(slopes)
    moved = np.zeros(3)
    model = quadratic.Model(newton.rows, coordinates, newton.penalty, Bias(moved, slopes.g, 1e-2))
    model.minimise(np.arange(3), 1, False, False)
    assert np.abs(moved).max() > 0.1  # far beyond the room that sweeps had
    assert model.bias is not None
    assert model.bias.room >= np.abs(moved).max()


def test_a_hessian_of_rounded_probabilities_has_no_curvature_below_0() -> None:
    X, y = l1_table()
    rows = rows_of(X.astype(np.float32), y)
    rows.set_logits(np.zeros((X.shape[1], 3), np.float32), np.array([1.0, 0.0, -1.0]))
    rows.P *= np.float32(1 + 1e-5)  # as saturated rows of many classes have it
    H = Hessian(rows).of(np.zeros(4, np.int64), np.zeros(0, np.int32))
    assert np.linalg.eigvalsh(H).min() > -1e-15
