"""L1 and elastic net against a plain solver, and against what an optimum has to fulfil."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from l1_cases import Array, Judged, judged, l1_table, reference, violation

from csoftmax.solver import Progress, Solution, minimize
from csoftmax.solver.l1 import minimize_l1

RATIOS = (1.0, 0.5, 0.02)
STRENGTHS = (0.05, 1.0, 10.0)


def penalty_of(C: float, ratio: float, total: float) -> tuple[float, float]:
    return ratio / (C * total), (1 - ratio) / (C * total)


@cache
def best(C: float, ratio: float, fit_intercept: bool = True) -> Judged:
    X, y = l1_table()
    return reference(X, y, 3, *penalty_of(C, ratio, len(y)), fit_intercept=fit_intercept)


def judge(X: Array, y: Array, solution: Solution, C: float, ratio: float, h: int = 0) -> Judged:
    W, b = solution.W[h].T.astype(float), solution.b[h].astype(float)
    return judged(X, y, W, b, *penalty_of(C, ratio, len(y)))


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("C", STRENGTHS)
@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_it_finds_the_optimum(form: str, C: float, ratio: float) -> None:
    X, y = l1_table()
    given = sp.csr_array(X) if form == "sparse" else X
    solution = minimize_l1(given, y, 3, C=C, l1_ratio=ratio, tol=1e-12)
    true = best(C, ratio)
    at = judge(X, y, solution, C, ratio)
    assert solution.converged[0]
    assert solution.objective[0] == pytest.approx(at.objective, rel=1e-13)
    assert at.objective == pytest.approx(true.objective, rel=1e-10)
    assert violation(at, *penalty_of(C, ratio, len(y))) < 2e-6
    assert solution.gradient_max[0] == pytest.approx(
        violation(at, *penalty_of(C, ratio, len(y))), abs=1e-8
    )
    assert np.abs(at.db).max() < 1e-8
    assert solution.loss[0] == pytest.approx(judged(X, y, at.W, at.b, 0, 0).objective, rel=1e-13)


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_bound_is_proved_at_every_stop(dtype: Any, ratio: float) -> None:
    X, y = l1_table()
    slack = 1e-14 if dtype == np.float64 else 3e-7
    for C in STRENGTHS:
        true = reference(X.astype(dtype).astype(float), y, 3, *penalty_of(C, ratio, len(y)))
        for max_iter in (0, 1, 2, 4, 8):
            solution = minimize_l1(
                X.astype(dtype), y, 3, C=C, l1_ratio=ratio, tol=0, max_iter=max_iter, warns=False
            )
            at = judge(X.astype(dtype).astype(float), y, solution, C, ratio)
            assert solution.bound[0] >= at.objective - true.objective - slack
        assert solution.bound[0] < 0.02 * at.objective


def test_no_intercept_weights_and_scale() -> None:
    X, y = l1_table()
    rng = np.random.default_rng(1)
    weight = rng.exponential(size=len(y)) * (rng.random(len(y)) < 0.8)
    l1, l2 = penalty_of(2.0, 0.7, weight.sum())
    true = reference(X * 0.5, y, 3, l1, l2, weight, fit_intercept=False)
    for given in (X, sp.csr_matrix(X)):
        solution = minimize_l1(
            given, y, 3, C=2.0, l1_ratio=0.7, scale=0.5, sample_weight=weight, fit_intercept=False,
            tol=1e-12,
        )  # fmt: skip
        assert solution.objective[0] == pytest.approx(true.objective, rel=1e-10)
        assert not solution.b.any()
        assert judged(
            X * 0.5, y, solution.W[0].T, solution.b[0], l1, l2, weight
        ).objective == pytest.approx(true.objective, rel=1e-10)


def test_rows_of_weight_0_may_hold_anything() -> None:
    X, y = l1_table()
    weight = np.ones(len(y))
    weight[:20] = 0
    spoilt = X.copy()
    spoilt[:20] = np.nan
    for form in (np.asarray, sp.csr_array):
        some = minimize_l1(form(spoilt), y, 3, sample_weight=weight, tol=1e-10)
        without = minimize_l1(form(X[20:]), y[20:], 3, tol=1e-10)
        np.testing.assert_array_equal(some.W, without.W)
    with pytest.raises(ValueError, match=r"X\[0, 0\] is nan, expected finite"):
        minimize_l1(spoilt, y, 3)
    with pytest.raises(ValueError, match=r"X\[0, 0\] is nan, expected finite"):
        minimize_l1(sp.csr_array(spoilt), y, 3)


def test_one_row_is_logistic_regression() -> None:
    X, y = l1_table(k=2)
    for ratio in (1.0, 0.3):
        l1, l2 = penalty_of(1.0, ratio, len(y))
        true = reference(X, y, 2, l1, l2, one_row=True)
        solution = minimize_l1(X, y, 2, l1_ratio=ratio, one_row=True, tol=1e-12)
        assert not solution.W[0, 0].any()
        assert solution.b[0, 0] == 0
        assert solution.objective[0] == pytest.approx(true.objective, rel=1e-10)
        np.testing.assert_allclose(solution.W[0, 1], true.W[:, 1] - true.W[:, 0], atol=1e-5)
        both = minimize_l1(X, y, 2, l1_ratio=ratio, tol=1e-12, warns=False)
        if ratio == 1:  # |w| either way: the softmax has many optima, with the same difference
            assert both.objective[0] == pytest.approx(true.objective, rel=1e-10)
        else:
            assert both.objective[0] < true.objective - 1e-5


def test_the_limits_of_l1_ratio() -> None:
    X, y = l1_table()
    nearly_l2 = minimize_l1(X, y, 3, l1_ratio=1e-9, tol=1e-12)
    l2 = minimize(X, y, 3, tol=1e-12)
    assert nearly_l2.objective[0] == pytest.approx(l2.objective[0], rel=1e-8)
    np.testing.assert_allclose(nearly_l2.W, l2.W, atol=1e-4)
    nearly_l1 = minimize_l1(X, y, 3, l1_ratio=1 - 1e-9, tol=1e-12)
    l1 = minimize_l1(X, y, 3, l1_ratio=1.0, tol=1e-12)
    assert nearly_l1.objective[0] == pytest.approx(l1.objective[0], rel=1e-8)
    assert ((nearly_l1.W != 0) == (l1.W != 0)).all()
    assert (l1.W == 0).any()


def correlated(dtype: Any = np.float64) -> tuple[Array, Array]:
    """Rows of features that say much the same, of different sizes and means."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 4)) @ rng.normal(size=(4, 20)) + 0.1 * rng.normal(size=(300, 20))
    y = np.argmax(X[:, :3] + 0.5 * rng.gumbel(size=(300, 3)), axis=1)
    return (X * np.logspace(-1, 2, 20) + np.logspace(2, -1, 20)).astype(dtype), y


@pytest.mark.parametrize("C", [0.1, 1000.0])
def test_correlated_features_of_any_size(C: float) -> None:
    X, y = correlated()
    close = minimize_l1(X, y, 3, C=C, tol=1e-7)
    assert close.converged[0]
    at = judge(X, y, close, C, 1.0)
    largest = np.abs(X - X.mean(axis=0)).max(axis=0)
    slopes = np.where(
        at.W == 0, np.maximum(np.abs(at.dW) - 1 / (C * 300), 0),
        np.abs(at.dW + np.sign(at.W) / (C * 300)),
    )  # fmt: skip
    assert (slopes / largest[:, None]).max() < 1e-5


@pytest.mark.parametrize(
    ("C", "tol"),
    [
        (0.1, 1e-2), (0.1, 1e-3), (0.1, 1e-4), (1.0, 1e-2),
        (1.0, 1e-3), (1.0, 1e-4), (1000.0, 1e-2), (1000.0, 1e-3), (1000.0, 1e-4),
    ],
)  # fmt: skip
def test_the_estimate_of_correlated_features(C: float, tol: float) -> None:
    """A stop by the estimate is near what it says."""
    X, y = correlated()
    close = minimize_l1(X, y, 3, C=C, tol=1e-7)
    rough = minimize_l1(X, y, 3, C=C, tol=tol)
    away = rough.objective[0] / close.objective[0] - 1
    assert away <= 1.5 * tol
    assert away <= 3 * rough.estimate[0] / close.objective[0] + 1e-12


def test_many_features_of_few_rows() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    X = rng.normal(size=(60, 2000))
    X[:, :5] += 2 * np.eye(3)[y] @ rng.normal(size=(3, 5))
    few = minimize_l1(X.astype(np.float32), y, 3, C=0.5, tol=1e-5)
    assert few.converged[0]
    assert 0 < np.count_nonzero(few.W) < 60
    at = judge(X.astype(np.float32).astype(float), y, few, 0.5, 1.0)
    assert at.objective == pytest.approx(few.objective[0], rel=1e-5)
    assert violation(at, 1 / (0.5 * 60), 0) < 1e-3 / (0.5 * 60) + 1e-5


def test_a_strong_penalty_keeps_all_weights_0() -> None:
    X, y = l1_table()
    shares = np.bincount(y) / len(y)
    slopes = X.T @ (shares - np.eye(3)[y]) / len(y)
    C = 1 / (np.abs(slopes).max() * len(y))  # scikit-learn's l1_min_c is of this kind
    none = minimize_l1(X, y, 3, C=0.999 * C)
    assert not none.W.any()
    assert none.bound[0] < 1e-9
    np.testing.assert_allclose(np.exp(none.b[0]) / np.exp(none.b[0]).sum(), shares)
    assert minimize_l1(X, y, 3, C=1.01 * C).W.any()


def test_separable_rows_and_a_weak_penalty() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    X = np.eye(3)[y] * 4 + rng.normal(size=(90, 3)) * 0.5
    for form in (np.asarray, sp.csr_array):
        solution = minimize_l1(form(X), y, 3, C=1e4, tol=1e-6)
        assert solution.converged[0]
        at = judge(X, y, solution, 1e4, 1.0)
        assert violation(at, 1 / (1e4 * 90), 0) < 1e-8
        assert at.objective < 1e-3


def test_absent_classes_are_never_predicted() -> None:
    X, y = l1_table()
    solution = minimize_l1(X, 2 * y, 6, tol=1e-10)
    alone = minimize_l1(X, y, 3, tol=1e-10)
    assert solution.objective[0] == pytest.approx(alone.objective[0], rel=1e-8)
    assert not solution.W[0, 1::2].any()
    assert (solution.b[0, 1::2] < -1000).all()


@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_the_bits_do_not_depend_on_threads(form: str, free_threads: None) -> None:
    X, y = l1_table(1500, 30, 12)
    given = X if form == "dense" else sp.csr_array(X)
    one = minimize_l1(given, y, 12, C=0.1, tol=1e-5, n_threads=1)
    assert 0 < (one.W == 0).sum() < one.W.size
    for n_threads in (2, 3, 8, 64):
        other = minimize_l1(given, y, 12, C=0.1, tol=1e-5, n_threads=n_threads)
        for name in ("W", "b", "objective", "bound", "estimate", "iterations"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_sparse_and_dense_and_both_float_types_agree(isa: str) -> None:
    X, y = l1_table(300, 20, 5)
    X = X.astype(np.float32)
    true = minimize_l1(X.astype(float), y, 5, C=0.3, tol=1e-10)
    for given in (
        X, sp.csr_array(X), sp.csc_array(X.astype(float)), sp.coo_array(X), np.asfortranarray(X)
    ):  # fmt: skip
        other = minimize_l1(given, y, 5, C=0.3, tol=1e-7)
        assert other.W.dtype == given.dtype
        assert other.objective[0] == pytest.approx(true.objective[0], rel=1e-6)
        np.testing.assert_allclose(other.W, true.W, atol=2e-3)


def test_bytes_and_entries_that_come_twice() -> None:
    rng = np.random.default_rng(0)
    X = (rng.random((200, 12)) < 0.3).astype(np.uint8)
    y = (X[:, 0] + 2 * X[:, 1] + (rng.random(200) < 0.1)) % 3
    true = minimize_l1(X.astype(np.float32), y, 3, tol=1e-6)
    for given in (X, sp.csr_array(X), sp.csr_array(X.astype(bool))):
        some = minimize_l1(given, y, 3, tol=1e-6)
        assert some.objective[0] == pytest.approx(true.objective[0], rel=2e-6)
    once = sp.csr_array(X.astype(float))
    indices = np.repeat(once.indices, 2)
    twice = sp.csr_array((np.full(len(indices), 0.5), indices, 2 * once.indptr), shape=X.shape)
    both = minimize_l1(twice, y, 3, tol=1e-10)
    assert both.objective[0] == pytest.approx(
        minimize_l1(once, y, 3, tol=1e-10).objective[0], rel=1e-9
    )


def test_a_path_comes_to_what_each_head_comes_to_alone() -> None:
    X, y = l1_table(400, 30, 4)
    C = [0.3, 0.03, 3.0]
    path = minimize_l1(sp.csr_array(X), y, 4, C=C, path=True, tol=1e-9)
    for h, c in enumerate(C):
        alone = minimize_l1(sp.csr_array(X), y, 4, C=c, tol=1e-9)
        assert path.objective[h] == pytest.approx(alone.objective[0], rel=3e-9)
    weights = np.random.default_rng(0).integers(0, 2, (2, 400)).astype(float)
    heads = minimize_l1(X, y, 4, C=1.0, sample_weight=weights, tol=1e-9)
    for h, weight in enumerate(weights):
        alone = minimize_l1(X[weight > 0], y[weight > 0], 4, tol=1e-9)
        np.testing.assert_array_equal(heads.W[h], alone.W[0])


def test_parameters_asked_for_on_the_way_leave_nothing_behind() -> None:
    X, y = l1_table(400, 30, 4)
    W = minimize_l1(X, y, 4, C=0.2).W  # more weights than a stronger penalty leaves
    plain = minimize_l1(X, y, 4, C=0.1, W=W, tol=1e-9)
    n_selected = []

    def look(progress: Progress) -> None:
        n_selected.append(np.count_nonzero(progress.parameters(0)[0]))

    asked = minimize_l1(X, y, 4, C=0.1, W=W, tol=1e-9, callback=look)
    assert max(n_selected) > n_selected[-1]
    np.testing.assert_array_equal(asked.W, plain.W)


def test_a_start_a_callback_and_a_limit() -> None:
    X, y = l1_table()
    first = minimize_l1(X, y, 3, tol=1e-9)
    again = minimize_l1(X, y, 3, tol=1e-6, W=first.W, b=first.b)
    assert again.iterations[0] <= 3
    assert again.objective[0] <= first.objective[0] * (1 + 1e-9)
    told = []
    stopped = minimize_l1(X, y, 3, tol=0, callback=lambda p: told.append(p) or len(told) == 3)
    assert stopped.status == ("callback",)
    assert stopped.message == ""
    assert len(told) == len(stopped.history[0]["objective"]) == 3
    assert (np.diff([p.objective[0] for p in told]) < 0).all()
    limited = minimize_l1(X, y, 3, tol=0, max_iter=2, warns=False)
    assert limited.status == ("limit",)
    assert "% above the optimum by estimate after 2 iterations" in limited.message or (
        "unknown distance" in limited.message
    )


def test_refusals() -> None:
    X, y = l1_table()
    with pytest.raises(ValueError, match="l1_ratio is 0, expected a number from 0 to 1"):
        minimize_l1(X, y, 3, l1_ratio=0)
    with pytest.raises(ValueError, match="C has inf, expected finite"):
        minimize_l1(X, y, 3, C=np.inf)
    with pytest.raises(ValueError, match="C has inf, expected finite"):
        minimize(X, y, 3, C=[1.0, np.inf], l1_ratio=1.0)
    with pytest.raises(ValueError, match="one_row is True for 3 classes"):
        minimize_l1(X, y, 3, one_row=True)
    with pytest.raises(ValueError, match=r"y\[0\] is"):
        minimize_l1(X, y + 3, 3)
    with pytest.raises(ValueError, match=r"l1_ratio is 1\.5, expected a number from 0 to 1"):
        minimize(X, y, 3, l1_ratio=1.5)


def test_without_a_penalty_its_kind_does_not_matter() -> None:
    X, y = l1_table()
    none = minimize(X, y, 3, C=np.inf, tol=1e-8)
    for C in (np.inf, [np.inf]):
        for ratio in (0.5, 1.0):
            np.testing.assert_array_equal(
                minimize(X, y, 3, C=C, l1_ratio=ratio, tol=1e-8).W, none.W
            )
    with pytest.raises(ValueError, match="l1_ratio is -1, expected a number from 0 to 1"):
        minimize(X, y, 3, C=np.inf, l1_ratio=-1)


def test_minimize_passes_l1_on(capsys: pytest.CaptureFixture[str]) -> None:
    X, y = l1_table()
    one = minimize(X, y, 3, C=[0.1, 1.0], l1_ratio=0.5, path=True, tol=1e-8, verbose=1)
    two = minimize_l1(X, y, 3, C=[0.1, 1.0], l1_ratio=0.5, path=True, tol=1e-8)
    np.testing.assert_array_equal(one.W, two.W)
    assert "head 1, iteration 1: objective" in capsys.readouterr().err
