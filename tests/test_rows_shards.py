"""Rows in many parts: blocks, rows by number, where a row is, the fingerprint."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from csoftmax.core.errors import DataError
from csoftmax.core.sparse import CSR, as_csr
from csoftmax.rows import shards as of_shards
from csoftmax.rows.base import filled
from csoftmax.rows.shards import Shard, ShardRows

X = np.arange(36, dtype=np.float32).reshape(12, 3)
CUTS = [(0, 5), (5, 5), (5, 6), (6, 12)]  # the second one has no rows


def in_parts(X: Any) -> ShardRows:
    def shard(s: int, start: int, stop: int) -> Shard:
        def read(a: int, b: int) -> Any:
            assert 0 <= a <= b <= stop - start
            return X[start:stop][a:b]

        return Shard(f"shard {s}", stop - start, read, stamp=(f"part-{s}", 10 * s, 1))

    parts = [shard(s, start, stop) for s, (start, stop) in enumerate(CUTS)]
    return ShardRows(parts, X.shape[1], X.dtype, isinstance(X, CSR))


def sparse() -> CSR:
    scipy_sparse = pytest.importorskip("scipy.sparse")
    return as_csr(scipy_sparse.csr_array(np.where(X % 3 == 1, X, 0)))


def test_blocks_are_counted_from_the_start_of_each_shard() -> None:
    rows = in_parts(X)
    assert (rows.n_rows, rows.n_features, rows.dtype) == (12, 3, np.dtype(np.float32))
    assert rows.starts.tolist() == [0, 5, 5, 6, 12]
    got = list(rows.blocks(4))
    assert [(some.start, some.stop) for some, _ in got] == [
        (0, 4),
        (4, 5),
        (5, 6),
        (6, 10),
        (10, 12),
    ]
    for some, block in got:
        assert_array_equal(block, X[some])
    assert [some for some, _ in rows.blocks(4)] == [some for some, _ in got]


@pytest.mark.parametrize(
    "chosen",
    [
        slice(None), slice(3, 8), slice(10, 2, -3), slice(4, 4),
        np.array([11, 0, 5, 5, 4, -1]), np.array([], np.int64), np.arange(12) % 5 == 0,
    ],
)  # fmt: skip
@pytest.mark.parametrize("at_once", [2, 100])
def test_rows_by_number_are_those_of_one_array(
    chosen: Any, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_shards, "TAKEN_AT_ONCE", at_once)
    taken = in_parts(X).take(chosen)
    assert_array_equal(taken, X[chosen])
    assert taken.dtype == X.dtype
    assert not np.shares_memory(taken, X)
    few = sparse()
    assert_array_equal(filled(in_parts(few).take(chosen)), filled(few)[chosen])


@pytest.mark.parametrize("numbers", [[12], [-13], [0, 40]])
def test_numbers_of_no_row_are_refused(numbers: list[int]) -> None:
    with pytest.raises(IndexError, match=r"rows are numbered 0\.\.11, got"):
        in_parts(X).take(np.array(numbers))
    with pytest.raises(IndexError, match="the mask has 11 values, expected 12"):
        in_parts(X).take(np.ones(11, np.bool_))


def test_place_of_a_row_names_its_shard() -> None:
    rows = in_parts(X)
    assert [rows.shard_of(i) for i in (0, 4, 5, 6, 11)] == [0, 0, 2, 3, 3]
    assert rows.place(8) == "shard 3: row 2 (row 8 of all)"


def test_fingerprint_sees_names_sizes_times_and_the_rows_at_the_ends() -> None:
    rows = in_parts(X)
    other = X.copy()
    other[11, 2] += 1
    changed = [
        in_parts(other), in_parts(X.view(np.int32)), in_parts(X[:, :2]), in_parts(sparse()),
        ShardRows([*rows.shards[:3], replace(rows.shards[3], stamp=("part-3", 30, 2))], 3, X.dtype),
        ShardRows([replace(rows.shards[0], name="other"), *rows.shards[1:]], 3, X.dtype),
    ]  # fmt: skip
    assert in_parts(X.copy()).fingerprint() == rows.fingerprint()
    assert len({rows.fingerprint(), *(each.fingerprint() for each in changed)}) == 7


@pytest.mark.parametrize("is_sparse", [False, True])
def test_a_value_that_is_not_finite_is_named(is_sparse: bool) -> None:
    bad = X.copy()
    bad[8, 1] = np.inf
    given: Any = bad
    if is_sparse:
        given = as_csr(pytest.importorskip("scipy.sparse").csr_array(bad))
    rows = in_parts(given)
    message = r"shard 3: row 2 \(row 8 of all\): feature 1 is inf, expected a finite number"
    rows.check_finite(0, given[:8])
    for start in (0, 4, 8):
        with pytest.raises(DataError, match=message):
            rows.check_finite(start, given[start:])
    rows.check_finite(0, np.zeros((2, 3), np.uint8))
