"""Rows of X: as they are stored, in blocks, by number, and their digest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from csoftmax.rows import memory
from csoftmax.rows.base import as_stored, blocks, take
from csoftmax.rows.memory import MemoryRows


@pytest.mark.parametrize(
    ("n_rows", "at_once", "sizes"),
    [(0, 3, []), (5, 2, [2, 2, 1]), (4, 2, [2, 2]), (3, 100, [3]), (2, 0, [1, 1]), (2, -7, [1, 1])],
)
def test_blocks_are_all_rows_once_in_order(n_rows: int, at_once: int, sizes: list[int]) -> None:
    cut = list(blocks(n_rows, at_once))
    assert [some.stop - some.start for some in cut] == sizes
    assert [i for some in cut for i in range(n_rows)[some]] == list(range(n_rows))


@pytest.mark.parametrize(
    ("given", "dtype", "stored"),
    [
        (np.uint8, np.float32, np.uint8), (np.float16, np.float32, np.float16),
        (">f4", np.float32, ">f4"), (np.float64, np.float64, np.float64),
        (bool, np.float32, np.uint8), (np.int8, np.float32, np.float32),
        (np.int64, np.float64, np.float64),
    ],
)  # fmt: skip
def test_what_kernels_read_is_not_copied(given: Any, dtype: Any, stored: Any) -> None:
    X = np.array([[0, 1, 1], [1, 0, 1]]).astype(given)
    got = as_stored(X, np.dtype(dtype))
    assert got.dtype == stored
    assert_array_equal(got, X.astype(np.float64))
    assert np.shares_memory(got, X) == (np.dtype(given).kind in "fb" or given == np.uint8)


def test_rows_by_number() -> None:
    X = np.arange(12.0).reshape(6, 2)[:, ::-1]
    assert np.shares_memory(take(X, slice(1, 3)), X)
    assert_array_equal(take(X, np.array([4, 0])), [[9, 8], [1, 0]])
    assert_array_equal(MemoryRows(X).take(np.arange(6) % 3 == 1), [[3, 2], [9, 8]])


def test_blocks_of_rows_come_with_their_place() -> None:
    rows = MemoryRows(np.arange(10).reshape(5, 2))
    assert (rows.n_rows, rows.n_features, rows.dtype) == (5, 2, np.dtype(np.int64))
    got = [(some.start, block[:, 0].tolist()) for some, block in rows.blocks(2)]
    assert got == [(0, [0, 2]), (2, [4, 6]), (4, [8])]


def test_fingerprint_is_of_the_values_not_of_their_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    digest = MemoryRows(X).fingerprint()
    for same in (X.copy(order="F"), np.repeat(X, 2, axis=1)[:, ::2]):
        assert MemoryRows(same).fingerprint() == digest
    other = X.copy()
    other[-1, -1] = np.nextafter(other[-1, -1], np.float32(9))
    for different in (other, X[::-1], X[:-1], X.reshape(24, 10), X.view(np.int32)):
        assert MemoryRows(different).fingerprint() != digest
    monkeypatch.setattr(memory, "READ_BYTES", 100)
    assert MemoryRows(X).fingerprint() == digest
    assert MemoryRows(X[:0]).fingerprint() != MemoryRows(X[:, :0]).fingerprint()
