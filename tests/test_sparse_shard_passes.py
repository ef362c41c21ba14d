"""Passes over sparse shards: the sums of the same rows in memory, to the same bits however read."""

from __future__ import annotations

import re
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from csoftmax.core.errors import DataError
from csoftmax.core.sparse import CSR
from csoftmax.engine import sparse_shard_passes
from csoftmax.engine.local_passes import LocalPasses
from csoftmax.engine.sparse_shard_passes import SparseShardPasses, leaf_chunks
from csoftmax.engine.units import CHUNK_ROWS, SumTree
from csoftmax.rows.shards import Shard, ShardRows
from csoftmax.solver import minimize

Array = Any
# the third shard has no entries, the last one a single class
LENGTHS = (2 * CHUNK_ROWS, 0, 700, CHUNK_ROWS + 300, CHUNK_ROWS + 5)
N, F, K = sum(LENGTHS), 40, 3
RTOL = {np.uint8: 2e-6, np.float32: 2e-6, np.float64: 1e-12}


def table(dtype: Any = np.float32) -> tuple[CSR, Array]:
    """Return rows of about two entries, which tell of their labels."""
    rng = np.random.default_rng(5)
    y = rng.integers(0, K, N)
    y[-LENGTHS[-1] :] = 1
    lengths = rng.integers(0, 5, N)
    lengths[2 * CHUNK_ROWS : 2 * CHUNK_ROWS + 700] = 0
    of_entry = np.repeat(y, lengths)
    indices = (rng.integers(0, 8, len(of_entry)) ** 2 + 3 * of_entry) % F
    data = rng.integers(1, 9, len(indices)).astype(dtype)
    if dtype != np.uint8:
        data[::3] /= 7
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    return CSR(data, indices.astype(np.int32), indptr, F), y.astype(np.uint8)


def read(X: CSR, shift: int, start: int, stop: int) -> CSR:
    return X[shift + start : shift + stop]


def shards(X: CSR, lengths: tuple[int, ...] = LENGTHS) -> ShardRows:
    starts = np.cumsum([0, *lengths]).tolist()
    parts = [
        Shard(f"shard {s} (part-{s})", n, partial(read, X, starts[s]))
        for s, n in enumerate(lengths)
    ]
    return ShardRows(parts, X.shape[1], X.dtype, is_sparse=True)


def evaluated(passes: Any, n_heads: int) -> tuple[Array, ...]:
    rng = np.random.default_rng(1)
    W = rng.normal(size=(n_heads, F * K)).astype(passes.dtype) / 3
    b = rng.normal(size=(n_heads, K)).astype(passes.dtype)
    dW, db = np.empty_like(W), np.empty_like(b)
    sums = passes.evaluate(W, b, np.arange(n_heads) % passes.n_weights, dW, db)
    return np.array(sums.losses), np.array(sums.n_correct), dW, db


def factors(some: slice, X: CSR) -> Array:
    return np.sin(np.arange(some.start, some.stop))[:, None] * [1.0, -2.0]


def all_sums(passes: Any) -> list[Array]:
    """Return everything that a solver may ask for."""
    null = passes.null_sums(np.log([[0.3, 0.3, 0.4]] * passes.n_weights).astype(passes.dtype), True)
    return [
        *evaluated(passes, 2), *passes.column_sums(factors, 2, [True, False]),
        null.feature_sums, np.array(null.losses), null.dW, null.db,
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_sums_are_those_of_rows_in_memory(dtype: Any, weighted: bool) -> None:
    X, y = table(dtype)
    weights = np.random.default_rng(0).integers(0, 3, (2, N)) / 2 if weighted else None
    wide = LocalPasses(
        X.times(1.0, np.float64), y.astype(np.int64), K, weights=weights, scale=0.5, n_threads=2
    )
    passes = SparseShardPasses(shards(X), y, K, weights=weights, scale=0.5, n_threads=2)
    for got, want in zip(all_sums(passes), all_sums(wide), strict=True):
        assert_allclose(got, want, rtol=RTOL[dtype], atol=RTOL[dtype] * np.abs(want).max())
    assert passes.null_sums(np.zeros((passes.n_weights, K), passes.dtype), True).n_passes == 1


@pytest.mark.usefixtures("free_threads")
@pytest.mark.parametrize("window", [1, 100_000, 1 << 24])
def test_bits_depend_on_neither_threads_nor_windows(
    window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = table()
    weights = np.random.default_rng(0).integers(0, 3, (2, N)) / 2
    expected = all_sums(SparseShardPasses(shards(X), y, K, weights=weights))
    monkeypatch.setattr(sparse_shard_passes, "WINDOW_BYTES", window)
    for n_threads in (1, 3):
        passes = SparseShardPasses(shards(X), y, K, weights=weights, n_threads=n_threads)
        for got, want in zip(all_sums(passes), expected, strict=True):
            assert_array_equal(got, want)


def test_a_leaf_is_summed_row_after_row_and_leaves_along_the_tree(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    X, y = table()
    assert leaf_chunks(F, K) == 1
    exact = np.zeros((F, 2))
    values = np.repeat(factors(slice(0, N), X).astype(np.float32), np.diff(X.indptr), axis=0)
    terms = X.data[:, None].astype(np.float64) * values

    def summed(start: int, stop: int) -> Array:
        sums, some = np.zeros_like(exact), slice(X.indptr[start], X.indptr[stop])
        np.add.at(sums, X.indices[some], terms[some])  # one after the other
        return sums

    ends = np.cumsum([0, CHUNK_ROWS, CHUNK_ROWS, 700, CHUNK_ROWS + 300, CHUNK_ROWS + 5])
    leaves = [summed(*each) for each in pairwise(ends.tolist())]
    for n_chunks, expected in (
        (1, ((leaves[0] + leaves[1]) + (leaves[2] + leaves[3])) + leaves[4]),
        (2, (summed(0, ends[2]) + summed(ends[2], ends[4])) + leaves[4]),
        (8, summed(0, N)),
    ):
        monkeypatch.setattr(sparse_shard_passes, "leaf_chunks", lambda f, k, n=n_chunks: n)
        [got] = SparseShardPasses(shards(X), y, K).column_sums(factors, 2, [False])
        assert_array_equal(got, expected.astype(np.float32))


def test_leaves_make_a_unit_that_is_computed_elsewhere() -> None:
    X, y = table()
    whole = SumTree(4, F * 2)
    lengths = (CHUNK_ROWS,) * 4
    rows = shards(X, lengths)
    for first in (0, 2):
        some = ShardRows(rows.shards[first : first + 2], F, X.dtype, is_sparse=True)
        passes = SparseShardPasses(some, y[: 2 * CHUNK_ROWS], K)
        shift = first * CHUNK_ROWS

        def add(window: slice, block: CSR, sums: Array, shift: int = shift) -> None:
            of_rows = factors(slice(window.start + shift, window.stop + shift), block)
            sparse_shard_passes.calls.add_sparse_columns(
                block, of_rows.astype(np.float32), sums.reshape(F, 2)
            )

        tree = passes.summed(2 * F, 2, add)
        for level, node in tree.units():
            whole.add(node, level)
    [expected] = SparseShardPasses(rows, y[: 4 * CHUNK_ROWS], K).column_sums(factors, 2, [False])
    assert_array_equal(whole.total().reshape(F, 2).astype(np.float32), expected)


# ---- bad input ---------------------------------------------------------------------------------


def spoilt(X: CSR, row: int, value: float) -> tuple[CSR, int]:
    """Return rows with such a value in the first entry from a row on, and the entry's row."""
    data = X.data.copy()
    e = X.indptr[row]
    data[e] = value
    at = int(np.searchsorted(X.indptr, e, side="right")) - 1
    return CSR(data, X.indices, X.indptr, F), at


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_named(value: float) -> None:
    X, y = table()
    first = sum(LENGTHS[:4])
    bad, row = spoilt(X, first + 7, value)
    feature = X.indices[X.indptr[row]]
    told = rf"shard 4 \(part-4\): row {row - first} \(row {row} of all\): feature {feature} is"
    with pytest.raises(DataError, match=told):
        minimize(shards(bad), y, K)
    weight = np.ones(N)
    weight[row] = 0
    weight[3] = 0
    clean, _ = spoilt(X, first + 7, 1.0)
    spared, good = (
        minimize(shards(rows), y, K, sample_weight=weight, C=0.1) for rows in (bad, clean)
    )
    assert_array_equal(spared.W, good.W)
    assert spared.objective == good.objective


def test_sums_that_overflow_are_told() -> None:
    X, y = table()
    data = X.data.copy()
    data[X.indptr[9000] : X.indptr[9100]] = 3e38  # beyond the rows by which a unit is chosen
    large = CSR(data, X.indices, X.indptr, F)
    with pytest.raises(ValueError, match=r"sums over the rows of X overflow float32: column \d+"):
        minimize(shards(large), y, K, C=1e-3)


def test_what_is_not_for_sparse_shards_is_refused() -> None:
    X, y = table()
    with pytest.raises(ValueError, match="sample_rows is 9000, expected 0 or None for sparse X"):
        minimize(shards(X), y, K, sample_rows=9000)
    dense = Shard("shard 0 (a)", 10, lambda start, stop: np.zeros((stop - start, F), np.float32))
    rows = ShardRows([dense], F, np.dtype(np.float32), is_sparse=True)
    with pytest.raises(DataError, match=re.escape("shard 0 (a): rows 0 to 10 are float32")):
        SparseShardPasses(rows, y[:10], K).null_sums(np.zeros((1, K), np.float32), True)
    with pytest.raises(ValueError, match="X has 0 rows"):
        minimize(shards(X, (0, 0)), y[:0], K)
