"""Shards that are slow to read, written once as maps: the same rows, made once, whole or not."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from shard_cases import FORMATS, arrow_table, table, write_parquet

import csoftmax as cs
from csoftmax.data import shard_cache
from csoftmax.rows.base import filled

X, Y = table()
SLOW = ["parquet list zstd", "parquet wide snappy", "arrow fixed file lz4", "svmlight", "npz"]


def opened(name: str, folder: Path, **given: Any) -> Any:
    columns = "arrow" in name or "parquet" in name
    return cs.shards(folder, y="y" if columns else None, weight="w" if columns else None, **given)


@pytest.mark.parametrize("name", SLOW)
def test_a_cache_has_the_same_rows_labels_and_fingerprint(name: str, tmp_path: Path) -> None:
    data, cache = tmp_path / "data", tmp_path / "cache"
    data.mkdir()
    plain = FORMATS[name](data, X, Y)
    kept = opened(name, data, cache=cache)
    assert f"{repr(kept)[:-1]}, decoded in each pass)" == repr(opened(name, data))
    assert len(list(cache.iterdir())) == 3  # the empty shard needs none
    assert not any(part.is_slow for part in kept.parts if part.n_rows)
    assert kept.is_sparse == plain.is_sparse
    assert kept.rows.fingerprint() == plain.rows.fingerprint()
    assert_array_equal(filled(kept.rows.take(slice(None))), X)
    assert_array_equal(filled(kept.rows.take(np.array([8, 2]))), X[[8, 2]])
    assert_array_equal(kept.encoded()[1], Y)
    if kept.has_weights:
        assert_array_equal(kept.rows.shards[2].weights(1, 4), Y[6:9] + 1.0)
    block = kept.rows.shards[0].read(1, 3)
    assert not (block.data if kept.is_sparse else block).flags.writeable


def test_a_cache_is_made_once_and_anew_for_other_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyarrow")
    path, cache = tmp_path / "a.parquet", tmp_path / "cache"
    write_parquet(path, arrow_table(X, Y, "list"))
    cs.shards(path, y="y", cache=cache)
    assert f"240B of 1 shards to {cache}" in capsys.readouterr().err
    monkeypatch.setattr(shard_cache, "_convert", None)
    again = cs.shards(path, y="y", cache=cache)
    assert_array_equal(again.rows.take(slice(None)), X)
    monkeypatch.undo()
    assert cs.shards(path, y="y", dtype="float64", cache=cache).dtype == np.float64
    cs.shards(path, y="w", cache=cache)
    write_parquet(path, arrow_table(X + 1, Y, "list"))
    assert_array_equal(cs.shards(path, y="y", cache=cache).rows.take(slice(None)), X + 1)
    assert len(list(cache.iterdir())) == 4


def test_what_is_read_at_speed_is_not_copied(tmp_path: Path) -> None:
    FORMATS["npy"](tmp_path, X, Y)
    cs.shards(f"{tmp_path}/x-*.npy", cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_conversion_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("csoftmax.data.readers.parts.parquet.DECODED_ROWS", 4)
    pa = pytest.importorskip("pyarrow")
    path, cache = tmp_path / "a.parquet", tmp_path / "cache"
    rows = [[1.0, 2.0]] * 9 + [[1.0]]
    write_parquet(path, pa.table({"x": pa.array(rows), "y": pa.array(range(10))}))
    with pytest.raises(cs.DataError, match="row 9 has 1 values, expected 2 as in row 8"):
        cs.shards(path, y="y", cache=cache)
    assert list(cache.iterdir()) == []


def test_a_conversion_that_another_process_ended_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    path, cache = tmp_path / "a.parquet", tmp_path / "cache"
    write_parquet(path, arrow_table(X, Y, "list"))
    write = shard_cache._write

    def as_another(part: Any, folder: Path, tell: Any) -> None:
        write(part, folder, tell)
        shutil.copytree(folder, folder.with_name(folder.name[1:].partition(".")[0]))

    monkeypatch.setattr(shard_cache, "_write", as_another)
    assert_array_equal(cs.shards(path, y="y", cache=cache).rows.take(slice(None)), X)
    assert len(list(cache.iterdir())) == 1


def test_a_cache_that_is_broken_is_named(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path, cache = tmp_path / "a.parquet", tmp_path / "cache"
    write_parquet(path, arrow_table(X, Y, "list"))
    cs.shards(path, y="y", cache=cache)
    (made,) = cache.iterdir()
    whole = (made / "X.npy").read_bytes()
    (made / "X.npy").write_bytes(whole[:-3])
    with pytest.raises(cs.DataError, match=re.escape(f"{made / 'X.npy'}: byte 128: expected 240")):
        cs.shards(path, y="y", cache=cache)


def test_a_disk_with_too_little_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    write_parquet(tmp_path / "a.parquet", arrow_table(X, Y, "list"))
    usage = type("usage", (), {"free": 100})
    monkeypatch.setattr(shard_cache.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=r"expected room for 240B, got 100B"):
        cs.shards(tmp_path / "a.parquet", y="y", cache=tmp_path / "cache")


def test_folders_of_sparse_arrays(tmp_path: Path) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    csr = sparse.csr_array(X)
    folder = tmp_path / "part-0"
    folder.mkdir()
    arrays = {"data": csr.data, "indices": csr.indices, "shape": np.array(csr.shape),
              "indptr": csr.indptr.astype(np.int64), "y": Y}  # fmt: skip
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    data = cs.shards(folder)
    assert repr(data) == "Shards(1 shards, X (15, 4) sparse float32, labels)"
    assert_array_equal(filled(data.rows.take(slice(3, 9))), X[3:9])
    for name, array, message in [
        ("indices", csr.indices + 1, "rows 0 to 15: expected sparse rows: "),
        ("indices", csr.indices[:-1], "indices.npy: expected 59 numbers, got 58"),
        ("indptr", csr.indptr[::-1].astype(np.int64), "expected sparse rows"),
        ("indptr", csr.indptr, "indptr.npy: expected i8, got int32"),
        ("shape", np.array([15]), r"shape.npy: expected the numbers of rows and of features"),
        ("shape", np.array([14, 4]), "indptr.npy: expected 15 numbers, got 16"),
        ("data", csr.data.astype(np.float16), "data.npy: expected u1 or f4 or f8, got float16"),
    ]:
        np.save(folder / f"{name}.npy", array)
        with pytest.raises(cs.DataError, match=message):
            cs.shards(folder).rows.take(slice(None))
        np.save(folder / f"{name}.npy", arrays[name])
    os.unlink(folder / "data.npy")
    with pytest.raises(FileNotFoundError, match=r"data\.npy"):
        cs.shards(folder)


def test_functions_have_no_cache(tmp_path: Path) -> None:
    part = cs.shards([(15, lambda a, b: X[a:b])]).parts[0]
    slow = type(part)(**{**part.__dict__, "is_slow": True})
    with pytest.raises(ValueError, match="<lambda> is no file, of which one could know"):
        shard_cache.cached([slow], tmp_path, "")
