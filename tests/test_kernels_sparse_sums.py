"""Sums over sparse rows that are made row after row, in float64, on each instruction set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sparse_cases import SparseProblem

from csoftmax import _kernels

Array = Any
STORED = [np.uint8, np.float32, np.float64]
# rows, features, classes: around the rows of a piece, and the vectors of a tile
SHAPES = [(1, 1, 1), (64, 50, 10), (65, 300, 17), (200, 7, 49), (130, 40, 129), (40, 30, 700)]


def in_order(problem: SparseProblem) -> _kernels.SparseRows:
    """Return the rows with their entries in the order of their features."""
    values, indices, indptr = problem.table
    rows = np.repeat(np.arange(problem.n), np.diff(indptr))
    order = np.lexsort((indices, rows))
    return _kernels.SparseRows(values[order], indices[order], indptr, len(problem.W))


def pieces(problem: SparseProblem, *ends: int) -> Array:
    """Return the sums of a problem whose rows are cut there, and how many are right."""
    values, indices, indptr = problem.table
    sums, n_correct = np.zeros(problem.W.size + problem.b.size + problem.heads), 0
    for start, end in zip((0, *ends), (*ends, problem.n), strict=True):
        some = slice(indptr[start], indptr[end])
        rows = _kernels.SparseRows(
            values[some], indices[some], indptr[start : end + 1] - indptr[start], len(problem.W)
        )
        weight = np.ascontiguousarray(problem.weight[..., start:end])
        n_correct += added(problem, rows, sums, y=problem.y[start:end], sample_weight=weight)
    return sums, n_correct


def added(problem: SparseProblem, rows: Any, sums: Array, n_threads: int = 1, **more: Any) -> Array:
    options = {"y": problem.y, "sample_weight": problem.weight, "heads": problem.heads, **more}
    if options["sample_weight"].ndim == 2:
        options["weight_of_head"] = np.arange(problem.heads)
    _, right = _kernels.sparse_pass(
        rows, problem.W, problem.b, problem.scale, sums=sums, n_threads=n_threads, **options
    )
    return np.array(right)


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_sums_are_those_of_matrices(isa: str, stored: Any, index: Any) -> None:
    for shape in SHAPES:
        problem = SparseProblem(stored, *shape, index=index)
        sums, right = pieces(problem)
        found = problem.run(factor=1.0)
        assert right == found["correct"]
        dlogits = exact_dlogits(problem)
        X, split = problem.filled(np.float64), problem.W.size
        rtol = 1e-13 if problem.dtype == np.float64 else 2e-6
        size = np.abs(X).T @ np.abs(dlogits)
        error = np.abs(sums[:split].reshape(problem.W.shape) - X.T @ dlogits)
        assert (error <= rtol * (size + 1)).all()
        assert_allclose(sums[split:-1], dlogits.sum(axis=0), atol=rtol * np.abs(dlogits).sum())
        assert_allclose(sums[-1], found["loss"], rtol=1e-12)


def exact_dlogits(problem: SparseProblem) -> Array:
    logits = problem.filled(np.float64) @ problem.W.astype(np.float64) * problem.scale + problem.b
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(problem.n), problem.y] -= 1
    return p * problem.weight[:, None]


@pytest.mark.usefixtures("free_threads")
@pytest.mark.parametrize("stored", [np.uint8, np.float32])
@pytest.mark.parametrize("ordered", [False, True])
def test_threads_and_cuts_make_no_difference_to_the_bits(
    isa: str, stored: Any, ordered: bool
) -> None:
    problem = SparseProblem(stored, 700, 500, 49)
    rows = in_order(problem) if ordered else problem.rows
    expected = np.zeros(problem.W.size + 50)
    right = added(problem, rows, expected)
    for n_threads in (2, 3, 9):
        got = np.zeros_like(expected)
        assert_array_equal(added(problem, rows, got, n_threads), right)
        assert_array_equal(got, expected)
    if not ordered:
        assert_array_equal(pieces(problem, 64, 64, 448)[0], expected)


def test_sums_of_float32_have_the_same_bits_on_all_instruction_sets() -> None:
    problem = SparseProblem(np.float32, 300, 90, 21)
    factors = np.random.default_rng(0).normal(size=(300, 21)).astype(np.float32)
    X, found, before = problem.filled(np.float64), [], _kernels.active()
    for name in _kernels.available():
        _kernels.use(name)
        sums = np.zeros((90, 21))
        _kernels.sparse_add(problem.rows, factors, sums)
        found.append(sums)
    _kernels.use(before)
    assert_allclose(found[0], X.T @ factors.astype(np.float64), rtol=1e-12, atol=1e-12)
    for sums in found[1:]:
        assert_array_equal(sums, found[0])


@pytest.mark.parametrize("stored", STORED)
def test_squares(isa: str, stored: Any) -> None:
    problem = SparseProblem(stored, 130, 40, 5)
    factors = np.random.default_rng(0).normal(size=(130, 5)).astype(problem.dtype)
    values, indices, indptr = problem.table
    squared = SparseProblem(np.float64, 130, 40, 5)
    squared.table = values.astype(np.float64) ** 2, indices, indptr
    sums = np.ones((40, 5))
    _kernels.sparse_add(problem.rows, factors, sums, squares=True, n_threads=2)
    want = 1 + squared.filled(np.float64).T @ factors.astype(np.float64)
    assert_allclose(sums, want, rtol=1e-12, atol=1e-10)


def test_heads_have_the_sums_that_they_have_alone(isa: str) -> None:
    problem = SparseProblem(np.float32, 200, 30, 4, heads=3)
    problem.weight = np.random.default_rng(2).integers(0, 3, (3, 200)).astype(np.float64)
    sums, right = pieces(problem)
    W, b = problem.W.reshape(30, 3, 4), problem.b.reshape(3, 4)
    for h in range(3):
        alone = SparseProblem(np.float32, 200, 30, 4)
        alone.W, alone.b, alone.y = np.ascontiguousarray(W[:, h]), b[h], problem.y
        alone.weight = problem.weight[h]
        of_one, right_of_one = pieces(alone)
        assert right[h] == right_of_one
        assert_array_equal(sums[:360].reshape(30, 3, 4)[:, h].ravel(), of_one[:120])
        assert_array_equal(sums[360:372].reshape(3, 4)[h], of_one[120:124])
        assert sums[372 + h] == of_one[124]


def test_a_row_of_weight_0_may_hold_anything(isa: str) -> None:
    problem = SparseProblem(np.float32, 100, 30, 4)
    problem.weight[:] = 1.5
    problem.weight[[3, 70]] = 0
    clean, _ = pieces(problem)
    values, _, indptr = problem.table
    for row, value in ((3, np.nan), (70, np.inf)):
        values[indptr[row] : indptr[row + 1]] = value
    assert not np.isfinite(values).all()
    dirty, _ = pieces(problem)
    assert_array_equal(dirty, clean)


def test_sums_of_another_size_or_kind_are_refused() -> None:
    problem = SparseProblem(np.float32, 20, 9, 4)
    n = 9 * 4 + 4 + 1
    read_only = np.zeros(n)
    read_only.flags.writeable = False
    for sums in (np.zeros(n - 1), np.zeros(n, np.float32), np.zeros(2 * n)[::2], read_only):
        with pytest.raises((ValueError, BufferError)):
            added(problem, problem.rows, sums)
    with pytest.raises(ValueError, match="expected labels where there is a loss"):
        _kernels.sparse_pass(problem.rows, problem.W, problem.b, 1.0, sums=np.zeros(n))
    good, factors = np.zeros((9, 4)), np.zeros((20, 4), np.float32)
    for wrong in (factors[:19], factors[:, 0].copy(), factors[:, ::2]):
        with pytest.raises((ValueError, BufferError)):
            _kernels.sparse_add(problem.rows, wrong, good)
    for sums in (np.zeros((9, 3)), np.zeros((9, 4), np.float32)):
        with pytest.raises(ValueError, match="sums: expected 36 contiguous items of kind d"):
            _kernels.sparse_add(problem.rows, factors, sums)
    with pytest.raises(TypeError, match="factors"):
        _kernels.sparse_add(problem.rows, np.zeros((20, 4), np.int64), good)
