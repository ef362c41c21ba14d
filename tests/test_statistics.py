"""One pass over rows costly to read: moments, sums by class, a sample told by rows' numbers."""

from __future__ import annotations

import numpy as np
import pytest
from solver_cases import table

from csoftmax.engine.class_sums import is_sampled
from csoftmax.engine.local_passes import LocalPasses
from csoftmax.engine.statistics import statistics
from csoftmax.solver.problem import Problem


def splitmix(number: int) -> int:
    """The hash in Python's whole numbers."""
    z, whole = number * 0x9E3779B97F4A7C15 % 2**64, 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % whole
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % whole
    return z ^ (z >> 31)


def test_rows_of_the_sample_are_told_by_their_numbers_alone() -> None:
    share = 0.25
    expected = [splitmix(i + 1) < share * 2**64 for i in range(5000)]
    assert is_sampled(0, 5000, share).tolist() == expected
    assert is_sampled(1234, 100, share).tolist() == expected[1234:1334]
    assert abs(sum(expected) - 1250) < 4 * (5000 * share * (1 - share)) ** 0.5
    assert not (is_sampled(0, 5000, 0.1) & ~np.array(expected)).any()
    assert is_sampled(7, 3, 1.0).all()


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_the_sums_are_those_of_two_passes(soft: bool, weighted: bool, fit_intercept: bool) -> None:
    X, y = table(3000, 7, 4)
    y[y == 2] = 1  # a class without rows
    rng = np.random.default_rng(5)
    target = rng.dirichlet(np.ones(4), len(y)) if soft else y
    weights = rng.integers(0, 3, (2, len(y))) / 2.0 if weighted else None
    passes = LocalPasses(X, target, 4, weights=weights, scale=0.5)
    found = statistics(passes, 300)
    s = np.ones((1, len(y))) if weights is None else weights
    of_classes = target if soft else np.eye(4)[y]
    expected = np.einsum("ri,ik,ij->rkj", s, of_classes, 0.5 * X)
    np.testing.assert_allclose(found.class_sums, expected, rtol=1e-11, atol=1e-9)
    options = {
        "C": np.ones(len(s)), "weight_of_head": np.arange(len(s)), "fit_intercept": fit_intercept,
    }  # fmt: skip
    by_one, by_two = Problem(passes, **options, statistics=found), Problem(passes, **options)
    assert (by_one.n_passes, by_two.n_passes) == (1, 1 + fit_intercept)
    for name in ("null_loss", "null_gradient", "null_bias", "null_bias_gradient", "means"):
        ours, theirs = getattr(by_one, name), getattr(by_two, name)
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12, err_msg=name)


def test_the_sample_has_rows_with_all_that_is_known_of_them() -> None:
    X, y = table(4000, 3, 3)
    X[:, 0] = np.arange(4000)
    weights = np.random.default_rng(0).random((2, 4000))
    sample = statistics(LocalPasses(X, y, 3, weights=weights, scale=2.0), 1500).sample
    rows = sample.rows.take(slice(None))[:, 0].astype(int)
    assert np.array_equal(rows, np.flatnonzero(is_sampled(0, 4000, 1500 / 4000)))
    assert np.array_equal(sample.rows.take(slice(None)), X[rows])
    assert np.array_equal(sample.target, y[rows])
    assert np.array_equal(sample.weights, weights[:, rows])
    assert sample.scale == 2.0


def test_rows_that_do_not_count_may_hold_anything() -> None:
    X, y = table(3000, 3, 3)
    weights = np.ones((1, 3000))
    weights[0, 1000:1100] = 0
    clean = statistics(LocalPasses(X, y, 3, weights=weights), 100)
    X[1050], X[1051] = np.nan, np.inf
    spoilt = statistics(LocalPasses(X, y, 3, weights=weights), 100)
    np.testing.assert_allclose(spoilt.class_sums, clean.class_sums, rtol=1e-12)


def test_bits_do_not_depend_on_the_threads() -> None:
    X, y = table(30_000, 5, 3)
    one, many = (statistics(LocalPasses(X, y, 3, n_threads=n), 500) for n in (1, 5))
    assert np.array_equal(one.class_sums, many.class_sums)
    assert np.array_equal(one.sample.rows.take(slice(None)), many.sample.rows.take(slice(None)))


def test_the_first_bad_value_is_named() -> None:
    X, y = table(5000, 4, 3)
    X[4321, 2] = np.inf
    with pytest.raises(ValueError, match=r"X\[4321, 2\] is inf"):
        statistics(LocalPasses(X, y, 3), 100)
