"""Shards of every format: the same rows, and the same refusals."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from shard_cases import FORMATS, arrow_table, table, write_arrow

import csoftmax as cs
from csoftmax.core.sparse import CSR
from csoftmax.rows.base import filled


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_the_same_rows_in_any_format(name: str, dtype: Any, tmp_path: Path) -> None:
    X, y = table(dtype)
    data = FORMATS[name](tmp_path, X, y)
    if name == "svmlight":
        dtype = np.float32
    assert (data.shape, data.dtype, data.has_labels) == ((15, 4), dtype, True)
    assert data.is_sparse == (name in ("sparse npz", "svmlight"))
    classes, codes = data.encoded()
    assert_array_equal(classes, [0, 1, 2])
    assert_array_equal(codes, y)
    if data.has_weights:
        weights = [shard.weights(0, shard.n_rows) for shard in data.rows.shards]
        assert_array_equal(np.concatenate(weights), y + 1.0)
    if name != "functions":
        data = pickle.loads(pickle.dumps(data))
    for at_once in (2, 3, 100):
        for some, block in data.rows.blocks(at_once):
            assert block.dtype == dtype
            assert isinstance(block, CSR) == data.is_sparse
            assert_array_equal(filled(block), X[some])
    some = np.array([14, 0, 7, 7, 5])
    assert_array_equal(filled(data.rows.take(some)), X[some])
    for shard, start in zip(data.rows.shards, data.rows.starts.tolist(), strict=False):
        assert len(shard.read(0, 0)) == 0
        assert shard.read(0, 0).shape[1] == 4
        if shard.n_rows > 2:
            assert_array_equal(filled(shard.read(1, 3)), X[start + 1 : start + 3])
            assert_array_equal(shard.labels(1, 3), y[start + 1 : start + 3])
            assert len(shard.labels(2, 2)) == 0


@pytest.mark.parametrize("name", ["npy", "tar", "tar of blocks", "arrow fixed file",
                                  "arrow list stream", "arrow bytes file"])  # fmt: skip
def test_rows_are_views_where_the_format_allows(name: str, tmp_path: Path) -> None:
    data = FORMATS[name](tmp_path, *table())
    block = data.rows.shards[0].read(0, 2)
    assert not block.flags.writeable
    owner = block
    while isinstance(owner, np.ndarray):
        owner = owner.base
    assert owner is not None


@pytest.mark.parametrize("at_once", [1000, 8192, 10_000])
def test_a_pass_reads_arrow_batches_where_they_lie(at_once: int, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    X = np.random.default_rng(0).integers(0, 256, (20_000, 2)).astype(np.uint8)
    table = arrow_table(X, np.zeros(len(X), np.uint8), "fixed")
    write_arrow(tmp_path / "a.arrow", table, "file", at_once)
    (part,) = cs.shards(tmp_path / "a.arrow", y="y").parts
    assert not part.is_slow
    assert part.pieces is not None
    pieces = part.pieces(500, 19_000)
    assert [len(piece) for piece in pieces] == [
        min(start + at_once, 19_000) - max(start, 500) for start in range(0, 19_000, at_once)
    ]
    assert not any(piece.flags.owndata for piece in pieces)
    assert_array_equal(np.concatenate(pieces), X[500:19_000])
    assert_array_equal(part.read(500, 19_000), X[500:19_000])
    halves = cs.shards(tmp_path / "a.arrow", y="y", dtype=np.float16).parts[0]
    assert halves.pieces is None  # each would be converted by itself


def test_names_of_features_are_those_of_columns(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    X, y = table()
    wide = FORMATS["parquet wide snappy"](tmp_path, X, y)
    assert wide.feature_names == ("x0", "x1", "x2", "x3")
    assert all(part.feature_names is wide.feature_names for part in wide.parts)


@pytest.mark.parametrize("name", ["arrow bytes file", "arrow bin stream", "parquet bytes none"])
def test_the_same_bytes_read_as_two_types(name: str, tmp_path: Path) -> None:
    X, y = table(np.float32)
    floats = FORMATS[name](tmp_path, X, y)
    files = sorted(tmp_path.iterdir())
    as_bytes = cs.shards(files, X="x", y="y")
    as_halves = cs.shards(files, X="x", y="y", dtype=np.float16)
    for _ in range(2):  # what one of them has opened is not what another reads
        for start in (0, 2):
            block = floats.rows.shards[0].read(start, start + 2)
            assert_array_equal(block, X[start : start + 2])
            for other, dtype in ((as_bytes, np.uint8), (as_halves, np.float16)):
                got = other.rows.shards[0].read(start, start + 2)
                assert_array_equal(got.view(np.uint8), block.view(np.uint8))
                assert got.dtype == dtype
