"""The solver on sparse rows: the optimum of the same rows as an array, and its own promises."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from solver_cases import InterruptedPass, objective, optimum, same_bits

from csoftmax import _kernels
from csoftmax.core.sparse import CSR
from csoftmax.data import DataError
from csoftmax.solver import ConvergenceWarning, arguments, diagonal, minimize
from csoftmax.solver.memory import plans

Array = Any


@pytest.fixture(autouse=True)
def _always_sparse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small tables would become arrays."""
    monkeypatch.setattr(arguments, "DENSE_BYTES", 0)


def csr(X: Array, index: type = np.int32) -> CSR:
    """Return an array as sparse rows, each row's features in an order of its own."""
    rows, columns = np.nonzero(X)
    rng = np.random.default_rng(len(rows))
    order = np.lexsort((rng.random(len(rows)), rows))
    indptr = np.concatenate([[0], np.cumsum(np.count_nonzero(X, axis=1))])
    return CSR(X[rows[order], columns[order]], columns[order].astype(index), indptr, X.shape[1])


def words(n: int = 300, f: int = 40, k: int = 4, dtype: Any = np.float64) -> tuple[Array, Array]:
    """A table of few values that are not 0, of rare and frequent features, and labels."""
    rng = np.random.default_rng(n + f)
    often = 1 / (1 + np.arange(f))
    X = np.where(rng.uniform(size=(n, f)) < 0.05 + 0.7 * often, rng.uniform(0.5, 2, (n, f)), 0)
    y = np.argmax(X @ rng.normal(size=(f, k)) + rng.gumbel(size=(n, k)), axis=1)
    return (X * (1 if np.dtype(dtype).kind == "f" else 100)).astype(dtype), y


@pytest.mark.parametrize("C", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_sparse_and_dense_have_the_same_optimum(dtype: Any, fit_intercept: bool, C: float) -> None:
    X, y = words(dtype=dtype)
    scale = 0.01 if dtype is np.uint8 else 1.0
    options: dict[str, Any] = {"C": C, "scale": scale, "fit_intercept": fit_intercept}
    tight = 1e-6 if dtype is not np.float64 else 1e-12
    ours = minimize(csr(X), y, 4, tol=tight, **options)
    wide = X.astype(np.float64) * scale
    best = minimize(wide, y, 4, tol=1e-13, C=C, fit_intercept=fit_intercept)
    assert ours.converged.all()
    assert ours.objective[0] == pytest.approx(best.objective[0], rel=max(tight, 1e-11))
    assert objective(wide, y, ours.W[0], ours.b[0], C) == pytest.approx(
        ours.objective[0], rel=2e-7 if dtype is not np.float64 else 1e-12
    )
    if dtype is np.float64:
        assert_allclose(ours.W, best.W, atol=2e-5 * np.abs(best.W).max())
        assert_allclose(ours.b, best.b, atol=2e-5)
    assert_allclose(ours.W.sum(axis=1), 0, atol=1e-5 * np.abs(ours.W).max())
    if not fit_intercept:
        assert not ours.b.any()


def test_gradients_are_those_of_finite_differences() -> None:
    X, y = words(60, 7, 3)
    X[:, 2] = 1.5
    weight = np.random.default_rng(1).uniform(0.5, 2, (2, 60))
    problem = arguments.checked_problem(
        csr(X), y, 3, C=0.5, scale=2.0, sample_weight=weight, weight_of_head=None,
        fit_intercept=True, n_threads=1,
    )  # fmt: skip
    x, g = np.random.default_rng(2).normal(size=(2, 2, 24))
    values = problem.evaluate([0, 1], list(x), list(g))
    for head in range(2):
        W, b = problem.own_parameters(head, x[head])
        assert values[head] == pytest.approx(objective(2 * X, y, W, b, 0.5, weight[head]), 1e-12)
        scratch, largest = np.empty(24), 0.0
        for i in range(24):
            step = np.zeros(24)
            step[i] = 1e-6
            (above,), (below,) = (
                problem.evaluate([head], [x[head] + s], [scratch]) for s in (step, -step)
            )
            assert (above - below) / 2e-6 == pytest.approx(g[head, i], abs=1e-8)
        for array in (W, b):
            array = array.copy() if array is b else array
            for index in np.ndindex(array.shape):
                at = []
                for step in (1e-6, -1e-6):
                    moved = W.copy(), b.copy()
                    moved[0 if array is W else 1][index] += step
                    at.append(objective(2 * X, y, *moved, 0.5, weight[head]))
                largest = max(largest, abs(at[0] - at[1]) / 2e-6)
        assert problem.largest(head, g[head]) == pytest.approx(largest, abs=1e-8)


@pytest.mark.parametrize("path", [False, True])
def test_heads_of_C_and_folds_and_soft_targets(path: bool) -> None:
    X, y = words()
    rng = np.random.default_rng(3)
    soft = rng.dirichlet(np.ones(4), len(y))
    weights = rng.uniform(0.5, 2, (2, len(y))) * (rng.uniform(size=(2, len(y))) > 0.3)
    for target in (y, soft):
        options: dict[str, Any] = {
            "C": [0.1, 1.0, 10.0, 1.0],
            "sample_weight": weights,
            "weight_of_head": [0, 0, 0, 1],
            "tol": 1e-11,
        }
        together = minimize(csr(X), target, 4, path=path, **options)
        dense = minimize(X, target, 4, **options)
        assert together.W.shape == (4, 4, 40)
        assert_allclose(together.objective, dense.objective, rtol=1e-10)
        assert_allclose(together.W, dense.W, atol=1e-4)
        alone = minimize(csr(X), target, 4, C=1.0, sample_weight=weights[1], tol=1e-11)
        assert_array_equal(alone.W[0], together.W[3])
        assert_array_equal(alone.b[0], together.b[3])


def test_weights_lie_by_features() -> None:
    X, y = words()
    one, two = minimize(csr(X), y, 4), minimize(csr(X), y, 4, C=[1.0, 2.0])
    for solution in (one, two):
        for W in solution.W:
            assert W.shape == (4, 40)
            assert W.T.flags.c_contiguous


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_same_bits_for_any_number_of_threads_and_kind_of_index(
    dtype: Any, free_threads: None
) -> None:
    X, y = words(3000, 50, 5, dtype)
    options: dict[str, Any] = {"C": [0.1, 3.0], "scale": 0.1, "tol": 1e-5}
    first = minimize(csr(X), y, 5, n_threads=1, **options)
    for n_threads, index in ((2, np.int64), (7, np.int32), (64, np.int32)):
        assert same_bits(minimize(csr(X, index), y, 5, n_threads=n_threads, **options), first)


def test_a_start_near_the_optimum_stays_there() -> None:
    X, y = words()
    first = minimize(csr(X), y, 4, tol=1e-10)
    again = minimize(csr(X), y, 4, tol=1e-6, W=first.W, b=first.b + 3.0)
    assert again.iterations[0] <= 1
    assert again.objective[0] == pytest.approx(first.objective[0], rel=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        at_start = minimize(csr(X), y, 4, max_iter=0, W=first.W, b=first.b)
    assert_allclose(at_start.W, first.W, atol=1e-14)
    assert_allclose(at_start.b, first.b, atol=1e-13)
    assert at_start.bound[0] == pytest.approx(first.bound[0], abs=1e-12)


@pytest.mark.parametrize("path", [False, True])
def test_resumed_to_the_same_bits(path: bool, tmp_path: Path) -> None:
    X, y = words(dtype=np.float32)
    options: dict[str, Any] = {"C": [0.1, 1.0, 10.0], "path": path, "tol": 1e-6}
    whole = minimize(csr(X), y, 4, **options)
    file = tmp_path / "state.safetensors"
    for n in (2, 5, 11):
        file.unlink(missing_ok=True)
        with pytest.MonkeyPatch.context() as patch:
            InterruptedPass(patch, n, "sparse_pass")
            with pytest.warns(ConvergenceWarning, match="interrupted"):
                minimize(csr(X), y, 4, checkpoint=file, checkpoint_every=0, **options)
        assert file.exists()
        assert same_bits(minimize(csr(X), y, 4, checkpoint=file, **options), whole)
    other = X.copy()
    other[np.nonzero(X)[0][0], np.nonzero(X)[1][0]] *= 2
    with pytest.raises(DataError, match="of another problem"):
        minimize(csr(other), y, 4, checkpoint=file, **options)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_what_is_not_finite_is_named_unless_its_row_does_not_count(
    bad: float, fit_intercept: bool
) -> None:
    X, y = words(dtype=np.float32)
    dirty = X.copy()
    dirty[[17, 18], [3, 5]] = bad
    with pytest.raises(ValueError, match=rf"^X\[17, 3\] is {bad}, expected finite numbers$"):
        minimize(csr(dirty), y, 4, fit_intercept=fit_intercept)
    weight = np.ones(len(y))
    weight[17] = 0
    with pytest.raises(ValueError, match=rf"^X\[18, 5\] is {bad}, expected finite numbers$"):
        minimize(csr(dirty), y, 4, fit_intercept=fit_intercept, sample_weight=weight)
    weight[18] = 0
    given = csr(dirty)
    before = given.data.copy()
    ours = minimize(given, y, 4, sample_weight=weight, fit_intercept=fit_intercept)
    assert_array_equal(given.data, before)
    rest = weight > 0
    alone = minimize(csr(X[rest]), y[rest], 4, fit_intercept=fit_intercept)
    assert ours.objective[0] == pytest.approx(alone.objective[0], rel=1e-6)


def test_sums_that_overflow_are_named() -> None:
    X, y = words(dtype=np.float32)
    X[:, 2] = -3e38
    with pytest.raises(ValueError, match="overflow float32: column 2 has values up to 3e"):
        minimize(csr(X), y, 4, scale=1.1)
    X[:, 2] = np.where(np.arange(len(X)) % 2, 1e37, -1e37)  # the squares alone
    with pytest.raises(ValueError, match=r"overflow float32: column 2 has values up to 1e\+37"):
        minimize(csr(X), y, 4)


def test_classes_features_and_rows_without_anything() -> None:
    X, y = words()
    X[:, 4], X[5], X[7] = 0, 0, 0
    y = np.where(y == 2, 3, y)  # nothing of class 2
    ours, dense = minimize(csr(X), y, 4, tol=1e-10), minimize(X, y, 4, tol=1e-10)
    assert ours.objective[0] == pytest.approx(dense.objective[0], rel=1e-9)
    assert not ours.W[0, :, 4].any()
    assert not ours.W[0, 2].any()
    assert ours.b[0, 2] == dense.b[0, 2]
    nothing = minimize(csr(np.zeros((6, 3))), np.array([0, 1, 1, 2, 2, 2]), 3)
    assert not nothing.W.any()
    p = np.exp(nothing.b[0]) / np.exp(nothing.b[0]).sum()
    assert_allclose(p, [1 / 6, 2 / 6, 3 / 6], rtol=1e-6)
    assert nothing.converged.all()


def test_constant_and_duplicated_features_and_one_row() -> None:
    X, y = words()
    X[:, 1], X[:, 2], X[:, 3] = 1.0, X[:, 0], 2.5
    for C in (1.0, math.inf):
        ours = minimize(csr(X), y, 4, C=C, tol=1e-9, max_iter=3000)
        best = optimum(X, y, 4, C)
        assert ours.objective[0] == pytest.approx(best.objective[0], rel=1e-8)
    rows = CSR(np.ones(3), np.array([1, 1, 0]), np.array([0, 3]), 2)  # 1 + 1 = 2
    one = minimize(rows, np.array([1]), 2, fit_intercept=False, tol=1e-10)
    assert one.W[0, 1, 1] == pytest.approx(2 * one.W[0, 1, 0], rel=1e-5)


@pytest.mark.parametrize("C", [0.1, 10.0, 1000.0])
def test_the_bound_holds_where_the_solver_stops(C: float) -> None:
    X, y = words(200, 60, 5)
    best = optimum(X, y, 5, C).objective[0]
    for tol in (0.1, 1e-2, 1e-3):
        solution = minimize(csr(X), y, 5, C=C, tol=tol)
        distance = solution.objective[0] - best
        assert -1e-12 <= distance <= solution.bound[0]
        if tol < 0.1:
            assert distance <= tol * best
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for n in (1, 3, 10):
            early = minimize(csr(X), y, 5, C=C, tol=0, max_iter=n)
            assert early.objective[0] - best <= early.bound[0]


@pytest.mark.parametrize("tol", [0.5, 0.1, 0.03])
@pytest.mark.parametrize("C", [0.1, 10.0, 100.0, 1000.0])
def test_a_rough_stop_is_as_near_as_it_says(C: float, tol: float) -> None:
    X, y = words(200, 60, 5)
    rough, best = minimize(csr(X), y, 5, C=C, tol=tol), optimum(X, y, 5, C)
    assert rough.objective[0] <= (1 + tol) * best.objective[0]


def test_small_tables_become_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = words()
    monkeypatch.setattr(arguments, "DENSE_BYTES", 1 << 20)
    assert same_bits(minimize(csr(X), y, 4), minimize(X, y, 4))
    twice = CSR(np.full(2, 200, np.uint8), np.zeros(2, int), np.array([0, 2, 2]), 1)
    assert arguments.as_dense(twice).tolist() == [[400.0], [0.0]]


@pytest.mark.parametrize("preconditioner", ["auto", "diagonal", "full", None])
def test_every_preconditioner_comes_to_the_optimum(preconditioner: str | None) -> None:
    X, y = words()
    ours = minimize(csr(X), y, 4, preconditioner=preconditioner, tol=1e-9)
    best = optimum(X, y, 4, 1.0)
    assert ours.objective[0] == pytest.approx(best.objective[0], rel=1e-8)


@pytest.mark.parametrize("most", [256, 1])
def test_many_classes(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the preconditioner has less of the intercept: of its block, or the diagonal alone."""
    monkeypatch.setattr(diagonal, "WHOLE_CLASSES", most)
    X, y = words(400, 30, 20)
    y[y == 7] = 8
    ours = minimize(csr(X), y, 20, tol=1e-9)
    best = optimum(X, y, 20, 1.0)
    assert ours.objective[0] == pytest.approx(best.objective[0], rel=1e-8)
    assert ours.iterations[0] < 60


@pytest.mark.parametrize("size", [1e-25, 1e-7, 1e9, 1e17])
def test_features_far_from_1(size: float) -> None:
    X, y = words()
    want = minimize(csr(X), y, 4, tol=1e-8)
    ours = minimize(
        csr((X * size).astype(np.float32)), y, 4, C=1 / size**2, tol=1e-6, W=np.zeros((1, 4, 40))
    )
    assert ours.objective[0] == pytest.approx(want.objective[0], rel=1e-5)
    assert_allclose(ours.W * size, want.W, atol=5e-3 * np.abs(want.W).max())
    assert_allclose(ours.b, want.b, atol=5e-3)


def test_plans_count_the_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    X, _ = words(2000, 50, 4, np.float32)
    rows = csr(X)
    columns = rows.columns("float32").nbytes
    assert columns == 8 * (rows.rows.n_entries + 52)
    twice = csr(np.concatenate([X, X], axis=1))
    small, large = (plans(each, 4, 1)[0].n_bytes for each in (rows, twice))
    assert large - small >= columns - 8 * 2
    assert small >= columns
    assert [plan.history_size for plan in plans(rows, 4, 1)] == sorted(
        {plan.history_size for plan in plans(rows, 4, 1)}, reverse=True
    )
    monkeypatch.setattr(arguments, "DENSE_BYTES", 1 << 24)
    assert plans(rows, 4, 1)[0].n_bytes >= X.nbytes


def test_no_array_of_the_rows_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = words()

    def refuse(self: CSR) -> None:
        raise AssertionError

    monkeypatch.setattr(CSR, "toarray", refuse)
    monkeypatch.setattr(_kernels, "row_pass", refuse)
    assert minimize(csr(X), y, 4).converged.all()


def test_an_array_is_made_of_small_tables_and_of_filled_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(arguments, "DENSE_BYTES", 1 << 24)

    def rows(n: int, n_features: int, every: int) -> CSR:
        columns = np.arange(0, n * n_features, every)
        starts = np.searchsorted(columns, n_features * np.arange(n + 1))
        return CSR(np.ones(len(columns), np.float32), columns % n_features, starts, n_features)

    assert arguments.is_dense_enough(rows(200, 5, 50), 3)
    assert not arguments.is_dense_enough(rows(5000, 100, 50), 10)
    assert not arguments.is_dense_enough(rows(5000, 100, 3), 10)
    assert arguments.is_dense_enough(rows(5000, 200, 2), 10)
    assert not arguments.is_dense_enough(rows(50_000, 200, 2), 10)
