"""The penalty against its definition, searched on a grid."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from csoftmax.solver.penalty import Penalty

Array = NDArray[Any]
EVERY_KIND = [(0.0, 0.0), (0.0, 0.7), (0.4, 0.0), (0.4, 0.7)]
GRID = np.linspace(-8, 8, 160_001)  # of one weight: steps of 1e-4
OF_GRID = {
    (l1, l2): l1 * np.abs(GRID) + l2 / 2 * GRID**2 for l1, l2 in EVERY_KIND
}  # the penalty at each


def some_weights() -> Array:
    return np.array([[-3.0, -0.1, 0.0], [0.2, 1.5, -0.7]])


@pytest.mark.parametrize(("l1", "l2"), EVERY_KIND)
def test_value_and_gradient(l1: float, l2: float) -> None:
    penalty, W = Penalty(l1, l2), some_weights()
    by_hand = 5.5 * l1 + l2 / 2 * (9 + 0.01 + 0.04 + 2.25 + 0.49)
    assert penalty.value(W) == pytest.approx(by_hand)
    assert penalty.value(W.astype(np.float32).ravel()) == pytest.approx(by_hand)
    dW = np.ones_like(W)
    penalty.add_gradient(W, dW)
    np.testing.assert_allclose(dW, 1 + l2 * W)
    other = Penalty(0.0, 0.2)
    assert penalty.smooth_change_from(other).value(W) == pytest.approx(
        (l2 - 0.2) / 2 * np.square(W).sum()
    )


@pytest.mark.parametrize("step", [0.1, 2.0])
@pytest.mark.parametrize(("l1", "l2"), EVERY_KIND)
def test_prox_is_the_least_of_the_grid(l1: float, l2: float, step: float) -> None:
    W = some_weights()
    expected = [GRID[np.argmin(step * OF_GRID[l1, l2] + (GRID - w) ** 2 / 2)] for w in W.ravel()]
    Penalty(l1, l2).prox(W, step)
    np.testing.assert_allclose(W.ravel(), expected, atol=1e-4)
    if l1 and step == 2:
        assert (W == 0).sum() == 4  # exactly: those below the threshold of 0.8


@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.7), (0.4, 0.7)])
def test_conjugate_is_the_most_of_the_grid(l1: float, l2: float) -> None:
    R = some_weights()
    expected = sum(np.max(r * GRID - OF_GRID[l1, l2]) for r in R.ravel())
    assert Penalty(l1, l2).conjugate(R) == pytest.approx(expected, abs=1e-6)
    assert Penalty(l1, l2).feasible(R) == 1


def test_without_a_square_the_conjugate_is_0_or_has_no_limit() -> None:
    R, lasso = some_weights(), Penalty(0.4, 0.0)
    assert lasso.conjugate(R) == math.inf
    factor = lasso.feasible(R)
    assert factor == pytest.approx(0.4 / 3)
    assert lasso.conjugate(factor * (1 - 1e-12) * R) == 0
    assert lasso.conjugate(factor * (1 + 1e-6) * R) == math.inf
    assert lasso.feasible(0.01 * R) == 1
    none = Penalty(0.0, 0.0)
    assert none.conjugate(R) == math.inf
    assert none.feasible(R) == 0
    assert none.conjugate(0 * R) == 0
    assert none.feasible(0 * R) == 1
    assert none.conjugate(R * math.nan) == math.inf


def test_C_is_divided_by_the_weight_of_the_rows() -> None:
    assert Penalty.of(0.5, 200.0) == Penalty(0.0, 0.01)
    assert Penalty.of(0.5, 200.0, unit=4.0).l2 == 0.16
    assert Penalty.of(math.inf, 200.0).strength == 0
