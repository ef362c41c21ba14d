"""The exact minimum of the model of few weights, and the Hessian that it needs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from l1_cases import Array, judged, l1_table

from csoftmax.core.sparse import as_csr
from csoftmax.engine.class_rows import ClassRows
from csoftmax.solver import small_model
from csoftmax.solver.l1 import minimize_l1


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("l1", [0.05, 0.3, 1.0])
def test_the_minimum_has_the_slopes_that_it_must_have(l1: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 12
    A = rng.normal(size=(n + 2, n + 2)) * np.logspace(0, -1, n + 2)
    H = A.T @ A + 0.01 * np.eye(n + 2)
    model = small_model.Quadratic(H, rng.normal(size=n + 2), rng.normal(size=n + 2), l1, n)
    v, is_there = small_model.minimum(model)
    assert is_there
    assert model.value(v) <= model.value(model.at)
    slopes = model.slope + H @ (v - model.at)
    scale = 1e-6 * np.abs(slopes).max(initial=1.0)
    assert np.abs(slopes[n:]).max() < scale
    moved = v[:n] != 0
    assert np.abs(slopes[:n] + l1 * np.sign(v[:n]))[moved].max(initial=0) < scale
    assert np.abs(slopes[:n])[~moved].max(initial=0) <= l1 * (1 + 1e-5) + scale


def test_features_that_say_the_same_and_those_that_say_nothing() -> None:
    H = np.ones((4, 4))
    H[3], H[:, 3] = 0, 0
    model = small_model.Quadratic(H, np.array([-2.0, -2.0, -2.0, 0]), np.ones(4), 0.5, 3)
    v, is_there = small_model.minimum(model)
    assert is_there
    assert v.sum() - v[3] == pytest.approx(4.5)  # 3 + 2 - 0.5
    assert v[3] == 1


@pytest.mark.parametrize("form", ["dense", "centred", "sparse"])
def test_the_hessian_is_the_slope_of_the_gradient(form: str) -> None:
    X, y = l1_table(40, 5, 3)
    given: Any = as_csr(sp.csr_array(X)) if form == "sparse" else X
    rng = np.random.default_rng(0)
    weight = rng.random(40) + 0.1
    rows = ClassRows(given, y, 3, weight, np.dtype(float), form == "centred", 1)
    seen = X - rows.centre
    W, c = rng.normal(size=(5, 3)), rng.normal(size=3)
    rows.set_logits(W, c)
    starts, feature = np.array([0, 2, 2, 5]), np.array([0, 3, 1, 2, 3], np.int32)
    hessian = small_model.Hessian(rows)
    some = hessian.of(np.array([0, 1, 1, 2]), np.array([3, 1], np.int32))
    H = hessian.of(starts, feature)
    order = [1, 2, 5, 6, 7]
    np.testing.assert_array_equal(some, H[np.ix_(order, order)])
    of_class = [0, 0, 2, 2, 2]

    def gradient(step: Array) -> Array:
        V = W.copy()
        V[feature, of_class] += step[:5]
        at = judged(seen, y, V, c + step[5:], 0, 0, weight)
        return np.append(at.dW[feature, of_class], at.db)

    for j, row in enumerate(H):
        e = 1e-5 * np.eye(8)[j]
        np.testing.assert_allclose(row, (gradient(e) - gradient(-e)) / 2e-5, atol=1e-8)


@pytest.mark.parametrize("C", [1.0, 1000.0])
def test_both_ways_lead_to_the_same_optimum(C: float, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = l1_table(200, 20, 4)
    small = minimize_l1(X, y, 4, C=C, tol=1e-9)
    monkeypatch.setattr(small_model, "MULTIPLICATIONS", 1)
    large = minimize_l1(X, y, 4, C=C, tol=1e-9)
    assert small.iterations[0] <= large.iterations[0]
    assert small.objective[0] == pytest.approx(large.objective[0], rel=1e-8)
