"""Where fits of a path begin, and what a fit's history says of its estimates."""

from __future__ import annotations

import numpy as np
import pytest

from csoftmax.solver.l1_fit import Fit, left_of_gains
from csoftmax.solver.l1_path import LONGEST, Solved, ahead


def solved(strength: float, support: list[int], weights: list[float], c: list[float]) -> Solved:
    return Solved(strength, np.array(support), np.array(weights), np.array(c))


def test_weights_go_on_by_the_logarithm_of_the_strength() -> None:
    before = solved(4.0, [1, 5, 8], [1.0, -2.0, 3.0], [0.0, 1.0])
    last = solved(2.0, [1, 2, 5, 9], [2.0, 0.5, -1.0, 0.25], [1.0, 1.5])
    for strength, t in ((1.0, 1.0), (2**0.5, 0.5), (1e-9, LONGEST), (2.0, 0.0)):
        weights, c = ahead(before, last, strength)
        expected = [2 + t, 0.5 + 0.5 * t, min(-1 + t, 0), 0.25 + 0.25 * t]
        np.testing.assert_allclose(weights, expected)
        np.testing.assert_allclose(c, [1 + t, 1.5 + 0.5 * t])
    none = solved(4.0, [], [], [0.0, 0.0])
    np.testing.assert_allclose(ahead(none, last, 1.0)[0], 2 * last.weights)
    np.testing.assert_allclose(ahead(last, last, 1.0)[0], last.weights)  # the same C twice


def test_a_series_of_gains_goes_on() -> None:
    gains = 8.0 ** -np.arange(4)
    assert left_of_gains(gains, False) == pytest.approx((8.0 ** -np.arange(4, 99)).sum())
    assert left_of_gains(gains, True) == pytest.approx((gains[-1] + gains[-2]) / 7)
    uneven = np.array([8.0, 6.0, 0.5, 0.1])  # slow once: it may be again
    assert left_of_gains(uneven, True) == pytest.approx(0.6)
    assert left_of_gains(np.array([1.0]), False) > 10


def test_an_estimate_is_corrected_by_those_before_it() -> None:
    fit = Fit(np.zeros((1, 1)), np.zeros(1), np.zeros(0, np.int64), objective=1.0)
    assert fit.times_too_low() == 1
    fit.history["objective"], fit.history["estimate"] = [9.0, 2.0, 1.5], [np.inf, 0.25, 1.0]
    assert fit.times_too_low() == pytest.approx(4.0)
