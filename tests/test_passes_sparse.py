"""The sums of sparse rows that a solver is given: those of the same rows as an array."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from csoftmax.core.sparse import CSR
from csoftmax.engine.local_passes import LocalPasses
from csoftmax.rows.memory import MemoryRows

Array = Any
RTOL = {np.dtype(np.float32): 2e-5, np.dtype(np.float64): 1e-12}


def case(dtype: Any, n: int = 200, f: int = 30, k: int = 4) -> tuple[Array, ...]:
    """X with few values, labels, probabilities, three rows of weights with zeros, and W and b."""
    rng = np.random.default_rng(11)
    X = np.where(rng.uniform(size=(n, f)) < 0.2, rng.uniform(1, 9, (n, f)), 0).astype(dtype)
    X[:, 5], X[17], X[:, 6] = 0, 0, 3
    weights = rng.uniform(0.5, 2, (3, n)) * (rng.uniform(size=(3, n)) > 0.3)
    t = np.float64 if dtype is np.float64 else np.float32
    W, b = rng.normal(size=(2, k, f)).astype(t) / 3, rng.normal(size=(2, k)).astype(t)
    return X, rng.integers(0, k, n), rng.dirichlet(np.ones(k), n), weights, W.astype(t), b


def csr(X: Array) -> CSR:
    rows, columns = np.nonzero(X)
    indptr = np.concatenate([[0], np.cumsum(np.count_nonzero(X, axis=1))])
    return CSR(X[rows, columns], columns.astype(np.int32), indptr, X.shape[1])


@pytest.mark.parametrize("soft", [False, True], ids=["labels", "probabilities"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_sums_are_those_of_an_array(isa: str, dtype: Any, weighted: bool, soft: bool) -> None:
    X, y, p, weights, W, b = case(dtype)
    options: dict[str, Any] = {
        "weights": weights if weighted else None,
        "scale": 0.25,
        "n_threads": 2,
    }
    target = p if soft else y
    sparse = LocalPasses(csr(X), target, 4, **options)
    dense = LocalPasses(X.astype(np.float64), target, 4, **options)
    of_head = np.array([2, 0]) if weighted else np.array([0, 0])
    want, want_db = np.empty(W.shape), np.empty(b.shape)
    sums = dense.evaluate(W.astype(np.float64), b.astype(np.float64), of_head, want, want_db)
    by_feature = [np.ascontiguousarray(w.T) for w in W]
    dW, db = [np.empty_like(w).reshape(-1) for w in by_feature], np.empty_like(b)
    got = sparse.evaluate(by_feature, b, of_head, dW, db)
    rtol = RTOL[sparse.dtype]
    atol = rtol * np.abs(want).max()
    assert_allclose(got.losses, sums.losses, rtol=rtol)
    assert got.n_correct == sums.n_correct
    assert_allclose(db, want_db, rtol=0, atol=atol)
    for h in range(2):
        assert_allclose(dW[h].reshape(30, 4).T, want[h], rtol=0, atol=atol)
        alone, of_b = np.empty((1, 120), W.dtype), np.empty((1, 4), W.dtype)
        sums_alone = sparse.evaluate(by_feature[h][None], b[h][None], of_head[[h]], alone, of_b)
        assert sums_alone.losses == [got.losses[h]]
        assert_array_equal(alone[0], dW[h])
        assert_array_equal(of_b[0], db[h])


def feature_sums(passes: LocalPasses) -> NDArray[np.float64]:
    b = np.zeros((passes.n_weights, passes.n_classes), passes.dtype)
    return passes.null_sums(b, True).feature_sums


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_sums_of_features_are_those_of_an_array(dtype: Any) -> None:
    X, y, _, weights, _, _ = case(dtype)
    for rows in (None, weights):
        got = feature_sums(LocalPasses(csr(X), y, 4, weights=rows, scale=0.5))
        want = feature_sums(LocalPasses(X.astype(np.float64), y, 4, weights=rows, scale=0.5))
        rtol = 1e-13 if dtype is np.float64 else 1e-6  # 256 entries are summed one by one
        assert_allclose(got, want, rtol=rtol)
    alone = feature_sums(LocalPasses(csr(X), y, 4, weights=weights[[1]], scale=0.5))
    assert_array_equal(alone[0], got[1])


def test_column_sums() -> None:
    X, y, p, _, _, _ = case(np.float64)
    rows = LocalPasses(csr(X), y, 4, scale=0.5)
    sums, squares = rows.column_sums(lambda some, X: p[some], 4, [False, True])
    assert_allclose(sums, 0.5 * X.T @ p, rtol=1e-12)
    assert_allclose(squares, 0.25 * (X * X).T @ p, rtol=1e-12)


def test_rows_of_weight_0_may_hold_anything() -> None:
    X, y, _, weights, W, b = case(np.float32)
    weights[:, 20] = 0
    dirty = X.copy()
    dirty[20, :3] = np.nan, np.inf, 3e38
    given = csr(dirty)
    data = given.data.copy()
    passes = [LocalPasses(rows, y, 4, weights=weights) for rows in (csr(X), given)]
    assert_array_equal(given.data, data)
    assert_array_equal(*map(feature_sums, passes))
    gradients = []
    for each in passes:
        dW, db = np.empty((1, 120), np.float32), np.empty((1, 4), np.float32)
        sums = each.evaluate(W[:1].swapaxes(1, 2).copy(), b[:1], np.array([1]), dW, db)
        gradients.append((*sums.losses, dW, db))
    for clean, with_it in zip(*gradients, strict=True):
        assert_array_equal(clean, with_it)


@pytest.mark.parametrize("weighted", [False, True])
def test_what_spoils_sums_is_named(weighted: bool) -> None:
    X, y, _, weights, _, _ = case(np.float32)
    weights[:, 20], weights[0, 40] = 0, 1
    X[20, 1], X[40, 7] = 3.2e38, 3.1e38
    rows = LocalPasses(csr(X), y, 4, weights=weights if weighted else None)
    column = 7 if weighted else 1
    with pytest.raises(ValueError, match=f"overflow float32: column {column} has values up to 3"):
        rows.raise_bad_value()
    X[40, 7] = -np.inf
    rows = LocalPasses(csr(X), y, 4, weights=weights if weighted else None)
    with pytest.raises(ValueError, match=r"^X\[40, 7\] is -inf, expected finite numbers$"):
        rows.raise_bad_value()


def test_samples_and_blocks() -> None:
    X, y, p, weights, _, _ = case(np.float32)
    rows = LocalPasses(csr(X), p, 4, weights=weights)
    some = rows.sample(1, 50, 0)
    assert some.is_sparse
    numbers = [int(np.flatnonzero((t == p).all(axis=1))[0]) for t in some.target]
    assert_array_equal(some.rows.X.toarray(), X[numbers])
    assert (weights[1, numbers] > 0).all()
    stored = csr(X)
    assert LocalPasses(stored, y, 4).sample(0, 200, 0).rows.X is stored
    parts = [(s, block.toarray()) for s, block in MemoryRows(stored).blocks(70)]
    assert [s.stop - s.start for s, _ in parts] == [70, 70, 60]
    assert_array_equal(np.concatenate([part for _, part in parts]), X)


def test_fingerprints() -> None:
    X, y, _, _, _, _ = case(np.float32)
    first = LocalPasses(csr(X), y, 4).fingerprint()
    assert LocalPasses(csr(X.copy()), y, 4, n_threads=2).fingerprint() == first
    other = X.copy()
    other[X > 0] += np.float32(1e-6)
    moved = np.roll(X, 1, axis=1)
    wider = np.concatenate([X, np.zeros((200, 1), np.float32)], axis=1)
    for array in (other, moved, wider, X[::-1].copy()):
        assert LocalPasses(csr(array), y, 4).fingerprint() != first
    assert LocalPasses(X, y, 4).fingerprint() != first
