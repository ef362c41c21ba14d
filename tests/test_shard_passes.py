"""Passes over shards: the sums and bits of one array, one pass for the statistics, clear errors."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import csoftmax as cs
from csoftmax.core.errors import DataError
from csoftmax.engine import shard_passes
from csoftmax.engine.local_passes import LocalPasses
from csoftmax.engine.shard_passes import ShardPasses
from csoftmax.engine.units import CHUNK_ROWS
from csoftmax.rows.shards import Shard, ShardRows
from csoftmax.solver import minimize

Array = Any
WHOLE = (2 * CHUNK_ROWS, CHUNK_ROWS, 0, 3 * CHUNK_ROWS + 100)  # chunks of one array
UNEVEN = (1000, 5, 2 * CHUNK_ROWS + 7, 300)


def table(n: int, f: int = 6, k: int = 3, dtype: Any = np.float32) -> tuple[Array, Array]:
    rng = np.random.default_rng(n)
    y = rng.integers(0, k, n)
    X = rng.normal(size=(n, f)) + 0.7 * rng.normal(size=(k, f))[y]
    X = X * 20 + 100 if dtype == np.uint8 else X
    return X.astype(dtype), y.astype(np.uint8)


class Counted:
    """Shards of an array that count what is read."""

    def __init__(self, X: Array, lengths: tuple[int, ...]) -> None:
        self.X, self.n_read = X, 0
        starts = np.cumsum([0, *lengths]).tolist()
        self.rows = ShardRows(
            [
                Shard(f"shard {s} (part-{s})", n, partial(self.read, starts[s]))
                for s, n in enumerate(lengths)
            ],
            X.shape[1],
            X.dtype,
        )

    def read(self, shift: int, start: int, stop: int) -> Array:
        self.n_read += stop - start
        return self.X[shift + start : shift + stop]


def evaluated(passes: Any, n_heads: int) -> tuple[Any, ...]:
    rng = np.random.default_rng(1)
    shape = n_heads, passes.n_classes, passes.n_features
    W = rng.normal(size=shape).astype(passes.dtype) / 9
    b = rng.normal(size=shape[:2]).astype(passes.dtype)
    dW, db = np.empty_like(W), np.empty_like(b)
    sums = passes.evaluate(W, b, np.arange(n_heads) % passes.n_weights, dW, db)
    return np.array(sums.losses), np.array(sums.n_correct), dW, db


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_whole_chunks_have_the_bits_of_one_array(
    dtype: Any, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = table(sum(WHOLE), dtype=dtype)
    weights = np.random.default_rng(0).integers(0, 3, (2, len(y))) / 2 if weighted else None
    local = LocalPasses(X, y.astype(np.int64), 3, weights=weights, scale=0.5, n_threads=2)
    expected = evaluated(local, 2)
    null = local.null_sums(np.zeros((local.n_weights, 3), local.dtype), True)
    for window in (1, 1 << 24):
        monkeypatch.setattr(shard_passes, "WINDOW_BYTES", window)
        for n_threads in (1, 3):
            passes = ShardPasses(
                Counted(X, WHOLE).rows, y, 3, weights=weights, scale=0.5, n_threads=n_threads
            )
            for got, of_array in zip(evaluated(passes, 2), expected, strict=True):
                assert_array_equal(got, of_array)
            sums = passes.null_sums(np.zeros((passes.n_weights, 3), passes.dtype), True)
            assert_array_equal(sums.feature_sums, null.feature_sums)
            assert_array_equal(sums.dW.reshape(-1), null.dW.reshape(-1))
            assert_array_equal(sums.losses, null.losses)


def test_shards_of_any_length_have_the_sums_of_one_array() -> None:
    X, y = table(sum(UNEVEN), dtype=np.float64)
    expected = evaluated(LocalPasses(X, y.astype(np.int64), 3), 1)
    for got, of_array in zip(
        evaluated(ShardPasses(Counted(X, UNEVEN).rows, y, 3), 1), expected, strict=True
    ):
        assert_allclose(got, of_array, rtol=1e-12)


def test_statistics_and_sample_are_one_pass() -> None:
    X, y = table(sum(WHOLE))
    counted = Counted(X, WHOLE)
    passes = ShardPasses(counted.rows, y, 3, n_sampled=700)
    passes.null_sums(np.zeros((1, 3), np.float32), True)
    sample = passes.sample(0, 700, 0)
    assert counted.n_read == len(X)
    of_array = LocalPasses(X, y.astype(np.int64), 3).sample(0, 700, 0)
    assert_array_equal(sample.rows.X, of_array.rows.X)
    assert_array_equal(sample.target, of_array.target)
    fewer, expected = passes.sample(0, 50, 3), LocalPasses(X, y.astype(int), 3).sample(0, 50, 3)
    assert_array_equal(fewer.rows.X, expected.rows.X)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_minimize_has_the_bits_of_one_array(fit_intercept: bool) -> None:
    X, y = table(sum(WHOLE))
    options: Any = {"C": [0.01, 1.0], "fit_intercept": fit_intercept, "tol": 1e-5, "n_threads": 2}
    one = minimize(X, y, 3, **options)
    many = minimize(Counted(X, WHOLE).rows, y, 3, **options)
    assert one.converged.all()
    assert_array_equal(many.W, one.W)
    assert_array_equal(many.b, one.b)
    assert_array_equal(many.bound, one.bound)
    assert many.passes.max() <= one.passes.max()


def test_minimize_takes_labels_and_weights_of_shards(tmp_path: Path) -> None:
    X, y = table(900)
    weight = np.random.default_rng(0).integers(0, 3, 900) / 2
    for s in range(3):
        np.save(tmp_path / f"x-{s}.npy", X[s * 300 : s * 300 + 300])
    data = cs.shards(f"{tmp_path}/x-*.npy", labels=y, weights=weight)
    many = minimize(data, None, 3, tol=1e-6)
    one = minimize(X, y, 3, sample_weight=weight, tol=1e-6)
    assert_allclose(many.W, one.W, rtol=1e-3, atol=1e-5)
    assert_allclose(many.objective, one.objective, rtol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_bad_value_is_named_by_shard_row_and_feature(weighted: bool) -> None:
    X, y = table(sum(UNEVEN))
    X[1003, 2] = np.nan
    X[1500, 4] = np.inf
    weights = np.ones((1, len(X)))
    if weighted:
        weights[0, 1003] = 0
    passes = ShardPasses(Counted(X, UNEVEN).rows, y, 3, weights=weights if weighted else None)
    place = r"shard 2 \(part-2\): row 495 \(row 1500 of all\): feature 4 is inf"
    if not weighted:
        place = r"shard 1 \(part-1\): row 3 \(row 1003 of all\): feature 2 is nan"
    with pytest.raises(DataError, match=place):
        passes.null_sums(np.zeros((1, 3), np.float32), True)


def test_values_whose_sums_overflow_are_told() -> None:
    X, y = table(3000)
    X[:, 4] = 1e37
    with pytest.raises(ValueError, match="overflow float32: column 4 has values up to 1e"):
        ShardPasses(Counted(X, (3000,)).rows, y, 3).null_sums(np.zeros((1, 3), np.float32), True)


def shorter(read: Callable[[int, int], Array], start: int, stop: int) -> Array:
    return read(start, stop - 1)


def test_a_shard_that_gives_other_rows_is_refused() -> None:
    X, y = table(sum(UNEVEN))
    rows = Counted(X, UNEVEN).rows
    changed = [replace(s, read=partial(shorter, s.read)) if s.n_rows == 300 else s
               for s in rows.shards]  # fmt: skip
    passes = ShardPasses(ShardRows(changed, 6, X.dtype), y, 3)
    with pytest.raises(
        DataError, match=r"shard 3 \(part-3\): rows 0 to 300 are float32 \(299, 6\)"
    ):
        evaluated(passes, 1)


def test_labels_that_do_not_fit_are_refused() -> None:
    X, y = table(100)
    rows = Counted(X, (100,)).rows
    with pytest.raises(TypeError, match="y has probabilities, expected labels"):
        minimize(rows, np.full((100, 3), 1 / 3), 3)
    with pytest.raises(ValueError, match=r"y\[\d+\] is 2, expected an integer in 0..1"):
        minimize(rows, y, 2)


def test_a_digest_is_of_shards_labels_and_weights() -> None:
    X, y = table(100)
    rows, weights = Counted(X, (60, 40)).rows, np.ones((1, 100))
    first = ShardPasses(rows, y, 3, weights=weights).fingerprint()
    assert ShardPasses(rows, y.astype(np.int64), 3, weights=weights).fingerprint() == first
    others = [
        ShardPasses(Counted(X, (40, 60)).rows, y, 3, weights=weights),
        ShardPasses(rows, y[::-1], 3, weights=weights),
        ShardPasses(rows, y, 3, weights=2 * weights),
        ShardPasses(rows, y, 3, weights=weights, scale=2.0),
        ShardPasses(rows, y, 4, weights=weights),
    ]
    assert first not in {passes.fingerprint() for passes in others}


def test_the_pages_of_a_window_are_there_when_it_is_summed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux populates")
    monkeypatch.setattr(shard_passes, "_is_in_memory", lambda array: False)
    np.save(tmp_path / "x.npy", np.ones((3000, 784), np.uint8))
    X = np.load(tmp_path / "x.npy", mmap_mode="r")

    def mapped_bytes() -> int:
        found = re.search(r"RssFile:\s*(\d+) kB", Path("/proc/self/status").read_text())
        assert found
        return 1024 * int(found[1])

    before = mapped_bytes()
    passes = ShardPasses(Counted(X, (3000,)).rows, np.zeros(3000, np.uint8), 2)
    (_, window), = passes.windows()  # fmt: skip
    grown = mapped_bytes() - before
    if grown < 1e6:
        pytest.skip("this Linux does not know how to populate")
    assert grown >= 0.9 * window.nbytes
    assert_array_equal(evaluated(passes, 1)[0], evaluated(LocalPasses(X, passes.target, 2), 1)[0])
    backwards = ShardPasses(Counted(X[::-1, ::-1], (3000,)).rows, passes.target, 2)
    assert_array_equal(evaluated(backwards, 1)[1], evaluated(passes, 1)[1])


def test_what_is_in_memory_is_told(tmp_path: Path) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux is asked")
    path = tmp_path / "x.npy"
    np.save(path, np.ones((3000, 784), np.uint8))
    X = np.load(path, mmap_mode="r")
    assert shard_passes._is_in_memory(X[:0])
    assert shard_passes._is_in_memory(X[::-1])  # that is not a run of pages
    assert shard_passes._is_in_memory(X)  # as it has just been written
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if shard_passes._is_in_memory(X):
        pytest.skip("these files stay in memory")
    shard_passes._read_pages((X,))
    np.array(X[-1])  # where Linux is too old to be asked for pages
    assert shard_passes._is_in_memory(X)


def test_who_reads_and_how_much_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = table(sum(WHOLE))
    expected = evaluated(LocalPasses(X, y.astype(np.int64), 3), 1)
    here, lengths = threading.get_ident(), {}
    for quick in (0.0, np.inf):
        monkeypatch.setattr(shard_passes, "QUICK_SECONDS", quick)
        monkeypatch.setattr(shard_passes, "WINDOW_BYTES", 1)
        counted = Counted(X, WHOLE)
        readers: set[bool] = set()
        read = counted.read

        def noted(*some: Any, read: Any = read, readers: set[bool] = readers) -> Array:
            readers.add(threading.get_ident() == here)
            return read(*some)

        shards = [
            replace(s, read=partial(noted, *s.read.args), gives_views=s.n_rows != CHUNK_ROWS)
            for s in counted.rows.shards
        ]
        passes = ShardPasses(ShardRows(shards, 6, X.dtype), y, 3)
        for _ in range(2):
            readers.clear()  # of the second pass, as at first it is not known how long a read takes
            for got, of_array in zip(evaluated(passes, 1), expected, strict=True):
                assert_array_equal(got, of_array)
        assert readers == {quick > 0}
        lengths[quick] = [some.stop - some.start for some, _ in passes.windows()]
    C = CHUNK_ROWS
    assert lengths[0.0] == [C, C, C, C, C, C + 100]
    assert lengths[np.inf] == [2 * C, C, 3 * C + 100]


class Pieces(Counted):
    """Shards that give their rows in arrays of so many rows, each in memory of its own."""

    def pieces(self, shift: int, at_once: int, start: int, stop: int) -> list[Array]:
        return [
            self.read(shift, first, min(first + at_once, stop)).copy()
            for first in range(start, stop, at_once)
        ]

    def cut(self, at_once: int) -> ShardRows:
        shards = [
            replace(s, pieces=partial(self.pieces, *s.read.args, at_once)) for s in self.rows.shards
        ]
        return ShardRows(shards, self.X.shape[1], self.X.dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
def test_rows_in_pieces_have_the_bits_of_one_array(dtype: Any) -> None:
    X, y = table(sum(WHOLE), f=70, dtype=dtype)
    weights = np.random.default_rng(0).integers(0, 3, (1, len(y))) / 2
    expected = evaluated(LocalPasses(X, y.astype(np.int64), 3, weights=weights), 1)
    for at_once in (1, 700, CHUNK_ROWS):
        passes = ShardPasses(Pieces(X, WHOLE).cut(at_once), y, 3, weights=weights, n_threads=2)
        for got, of_array in zip(evaluated(passes, 1), expected, strict=True):
            assert_array_equal(got, of_array)


def test_pieces_that_are_other_rows_are_refused() -> None:
    X, y = table(900)
    (shard,) = Pieces(X, (900,)).cut(300).shards
    for pieces, told in (
        ([X[:300], X[:500]], "float32 (800, 6)"),
        ([X[:300], X[:600, :5]], "float32 (900, 5)"),
        ([X[:300], X[:600].astype(np.float64)], "float64 (900, 6)"),
    ):
        changed = replace(shard, pieces=lambda start, stop, pieces=pieces: pieces)
        with pytest.raises(DataError, match=f"rows 0 to 900 are {re.escape(told)}"):
            evaluated(ShardPasses(ShardRows([changed], 6, X.dtype), y, 3), 1)
