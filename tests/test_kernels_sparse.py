"""The pass over sparse rows and their columns, on each instruction set."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
import pytest
from cases import assert_no_worse
from numpy.testing import assert_array_equal
from sparse_cases import SparseProblem, filled, sparse_table

import csoftmax as cs
from csoftmax import _kernels
from csoftmax.core.sparse import CSR

Array = Any
STORED = [np.uint8, np.float32, np.float64]

# rows, features, classes: around the rows of a piece and of a sum, and the vectors of a tile
SHAPES = [
    (1, 1, 1), (33, 20, 2), (64, 50, 10), (65, 300, 17), (200, 7, 49), (130, 40, 129),
    (40, 30, 700),
]  # fmt: skip


def sums(problem: SparseProblem, dtype: Any) -> dict[str, Array]:
    """All results by matrices with their zeros, computed in `dtype`."""
    X = problem.filled(dtype)
    W, b = problem.W.astype(dtype), problem.b.astype(dtype)
    weight = problem.weight.astype(dtype)
    logits = oracle.linear(X, W, b, problem.scale, np.dtype(dtype).type)
    loss = oracle.cross_entropy(logits, problem.y, sample_weight=weight)
    dlogits = loss.dlogits * np.dtype(dtype).type(0.5)
    dW = np.dtype(dtype).type(problem.scale) * (X.T @ dlogits)
    return {"logits": logits, "losses": loss.losses, "dW": dW, "db": dlogits.sum(axis=0)}


def magnitudes(problem: SparseProblem, wide: Any) -> dict[str, Array]:
    X = np.abs(problem.filled(wide)) * problem.scale
    logits = X @ np.abs(problem.W) + np.abs(problem.b)
    largest = np.maximum(1, logits.max(axis=1, keepdims=True))
    dlogits = 0.5 * problem.weight[:, None] * largest
    return {
        "logits": logits, "losses": (problem.weight[:, None] * largest)[:, 0],
        "dW": np.repeat(X.T @ dlogits, len(problem.b), axis=1),
        "db": np.full(len(problem.b), dlogits.sum()),
    }  # fmt: skip


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_a_pass_errs_no_more_than_numpy(isa: str, stored: Any, index: Any) -> None:
    for shape in SHAPES:
        problem = SparseProblem(stored, *shape, index=index)
        wide = oracle.wider(problem.dtype)
        got, plain, truth = problem.run(), sums(problem, problem.dtype), sums(problem, wide)
        magnitude = magnitudes(problem, wide)
        for name, right in truth.items():
            assert_no_worse(got[name], plain[name], right, magnitude[name])
        assert_array_equal(got["predictions"], got["logits"].argmax(axis=1))
        assert got["correct"] == np.count_nonzero(got["predictions"] == problem.y)
        np.testing.assert_allclose(got["loss"], got["losses"].sum(dtype=np.float64), rtol=1e-6)


@pytest.mark.usefixtures("free_threads")
@pytest.mark.parametrize("stored", [np.uint8, np.float64])
def test_any_number_of_threads_gives_the_same_bits(isa: str, stored: Any) -> None:
    problem = SparseProblem(stored, 700, 500, 49)
    one = problem.run()
    for n_threads in (2, 3, 8, 64):
        for name, found in problem.run(n_threads).items():
            assert_array_equal(found, one[name], err_msg=f"{name}, {n_threads} threads")


@pytest.mark.usefixtures("free_threads")
def test_every_head_has_the_bits_that_it_has_alone(isa: str) -> None:
    problem = SparseProblem(np.float32, 150, 90, 6, heads=4)
    k, weights = 6, np.stack([problem.weight, problem.weight[::-1], np.ones(150)])
    weight_of_head = np.array([0, 2, 1, 0])
    dW, db = np.empty_like(problem.W), np.empty_like(problem.b)
    losses, correct = _kernels.sparse_pass(
        problem.rows, problem.W, problem.b, 0.75, y=problem.y, sample_weight=weights, heads=4,
        weight_of_head=weight_of_head, gradient=(dW, db), columns=problem.columns, n_threads=3,
    )  # fmt: skip
    for h in range(4):
        own = slice(h * k, (h + 1) * k)
        alone = np.empty((90, k), np.float32), np.empty(k, np.float32)
        loss, right = _kernels.sparse_pass(
            problem.rows, np.ascontiguousarray(problem.W[:, own]), problem.b[own], 0.75,
            y=problem.y, sample_weight=weights[weight_of_head[h]], gradient=alone,
            columns=problem.columns,
        )  # fmt: skip
        assert (losses[h], correct[h]) == (loss, right)
        assert_array_equal(dW[:, own], alone[0])
        assert_array_equal(db[own], alone[1])


@pytest.mark.parametrize("k", [1, 5, 49])
def test_one_pass_gives_what_several_give(isa: str, k: int) -> None:
    problem = SparseProblem(np.float32, 100, 30, k)
    together = problem.run()
    logits, predictions = np.empty((100, k), np.float32), np.empty(100, np.int64)
    arguments = problem.rows, problem.W, problem.b, problem.scale
    _kernels.sparse_pass(*arguments, logits=logits)
    _kernels.sparse_pass(*arguments, predictions=predictions)
    assert_array_equal(logits, together["logits"])
    assert_array_equal(predictions, together["predictions"])
    losses = np.empty(100, np.float32)
    alone = _kernels.sparse_pass(
        *arguments, y=problem.y, sample_weight=problem.weight, losses=losses
    )
    assert alone == (together["loss"], together["correct"])
    assert_array_equal(losses, together["losses"])


def test_lines_of_w_may_be_wider_than_the_classes(isa: str) -> None:
    problem = SparseProblem(np.float32, 70, 30, 10)
    narrow = problem.run()
    problem.W = np.concatenate([problem.W, np.full((30, 6), np.nan, np.float32)], axis=1)
    wide = problem.run()
    assert_array_equal(wide["logits"], narrow["logits"])
    assert_array_equal(wide["dW"][:, :10], narrow["dW"])


@pytest.mark.parametrize("stored", STORED)
def test_the_product_of_columns_and_of_their_squares(isa: str, stored: Any) -> None:
    for k in (1, 8, 49, 150):
        problem = SparseProblem(stored, 90, 60, k)
        random = np.random.default_rng(k)
        dlogits = random.normal(size=(90, k)).astype(problem.dtype)
        wide = oracle.wider(problem.dtype)
        for squares in (False, True):
            dW = np.full_like(problem.W, np.nan)
            _kernels.sparse_gradient(problem.columns, dlogits, 0.5, dW, squares=squares)
            truth, plain, magnitude = (
                0.5 * (_squared(problem.table, dtype, squares).T @ values.astype(dtype))
                for dtype, values in (
                    (wide, dlogits), (problem.dtype, dlogits), (wide, np.abs(dlogits)),
                )
            )  # fmt: skip
            assert_no_worse(dW, plain, truth, np.abs(magnitude) + 1)


def _squared(table: tuple[Array, ...], dtype: Any, squares: bool) -> Array:
    values = table[0].astype(dtype)
    return filled((values * values if squares else values, table[1], table[2]), 60, dtype)


def test_columns_hold_the_rows_entries_by_feature() -> None:
    table = sparse_table(np.float32, 50, 20, index=np.int64)
    columns = _kernels.SparseColumns(_kernels.SparseRows(*table, 20), "float64")
    values, rows, starts = columns.as_arrays()
    turned = filled((values, rows, starts), 50, np.float64)
    assert_array_equal(turned, filled(table, 20, np.float64).T)
    for j in range(20):  # rows come in order: so do the sums
        assert (np.diff(rows[starts[j] : starts[j + 1]]) >= 0).all()
    assert columns.nbytes >= values.nbytes + rows.nbytes + starts.nbytes


# ---- rows that are left out, and rows of nothing ------------------------------------------------


def test_rows_of_weight_0_are_left_out_whatever_they_hold(isa: str) -> None:
    table = sparse_table(np.float32, 80, 30)
    indptr, y = table[2], np.arange(80) % 3
    weight = np.ones(80)
    weight[[0, 5, 79]] = 0
    W, b = np.ones((30, 3), np.float32) / 8, np.zeros(3, np.float32)
    W[:, 1] = np.linspace(-1, 1, 30)
    clean = cs.linear_cross_entropy_grad(CSR(*table, 30), W, b, y, sample_weight=weight)
    for bad in (np.nan, np.inf, -np.inf):
        values = table[0].copy()
        for i in (0, 5, 79):
            values[indptr[i] : indptr[i + 1]] = bad
        X = CSR(values, *table[1:], 30)
        loss, dW, db = cs.linear_cross_entropy_grad(X, W, b, y, sample_weight=weight)
        assert loss == clean[0]
        assert_array_equal(dW, clean[1])
        assert_array_equal(db, clean[2])


@pytest.mark.parametrize(("n", "d"), [(0, 0), (0, 5), (5, 0), (70, 9)])
def test_a_table_without_entries(isa: str, n: int, d: int) -> None:
    rows = _kernels.SparseRows(
        np.zeros(0, np.float32), np.zeros(0, np.int32), np.zeros(n + 1, np.int32), d
    )
    columns = _kernels.SparseColumns(rows, "float32")
    b = np.array([0, 1, 2], np.float32)
    logits, dW = np.full((n, 3), np.nan, np.float32), np.full((d, 3), np.nan, np.float32)
    db = np.full(3, np.nan, np.float32)
    loss, _ = _kernels.sparse_pass(
        rows, np.ones((d, 3), np.float32), b, 1.0, y=np.zeros(n, np.int64), logits=logits,
        gradient=(dW, db), columns=columns,
    )  # fmt: skip
    assert_array_equal(logits, np.tile(b, (n, 1)))
    assert_array_equal(dW, np.zeros((d, 3)))
    p = np.exp(b.astype(np.float64)) / np.exp(b.astype(np.float64)).sum()
    np.testing.assert_allclose(loss, -n * np.log(p[0]), rtol=1e-6)
    np.testing.assert_allclose(db, n * (p - [1, 0, 0]), rtol=1e-5, atol=1e-6)


# ---- the gradient is that of the loss ------------------------------------------------------------


def test_gradient_is_the_central_difference() -> None:
    X = CSR(*sparse_table(np.float64, 25, 8), 8)
    random = np.random.default_rng(4)
    W, b = random.normal(size=(8, 5)), random.normal(size=5)
    y, weight = random.integers(0, 5, 25), random.uniform(0, 2, 25)
    options = {"sample_weight": weight, "scale": 0.5}
    _, dW, db = cs.linear_cross_entropy_grad(X, W, b, y, **options)

    def loss() -> Any:
        return cs.linear_cross_entropy(X, W, b, y, **options)

    for gradient, parameter in ((dW, W), (db, b)):
        expected = oracle.central_difference(loss, parameter)
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-9)
