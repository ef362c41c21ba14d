"""Shards of every format that are broken, or hold what no pass can read: one clear message."""

from __future__ import annotations

import builtins
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from shard_cases import (
    FORMATS,
    arrow_column,
    arrow_table,
    cut,
    npy_bytes,
    sample_members,
    table,
    write_arrow,
    write_parquet,
    write_tar,
)

import csoftmax as cs
from csoftmax.rows.base import filled

X, Y = table()
Write = Callable[[Path, Any], None]


def read_all(data: Any) -> Any:
    """Read everything that a fit reads."""
    rows = filled(data.rows.take(slice(None)))
    if data.has_labels:
        data.encoded()
    return rows


def refused(match: str) -> Any:
    return pytest.raises(cs.DataError, match=match)


# ---- files that are cut off, or have other bytes -----------------------------------------------

BROKEN = [
    "npy", "npz", "sparse npz", "svmlight", "tar", "tar of blocks", "Hugging Face",
    "arrow large file", "arrow fixed file", "arrow bin stream", "arrow list stream zstd",
    "arrow fixed file lz4", "parquet list zstd", "parquet bytes none", "parquet fixed none",
    "parquet wide snappy",
]  # fmt: skip


def largest_file(folder: Path) -> Path:
    files = [path for path in folder.iterdir() if not path.name.startswith("y-")]
    return max((path for path in files if path.suffix != ".json"), key=lambda p: p.stat().st_size)


def reopened(name: str, folder: Path) -> Any:
    """Open a folder that `FORMATS` filled, as it opened it."""
    if name == "npy":
        return cs.shards(f"{folder}/x-*.npy", labels=f"{folder}/y-*.npy")
    columns = "arrow" in name or "parquet" in name or name == "Hugging Face"
    dtype = np.float32 if " b" in name else None
    return cs.shards(folder, y="y" if columns else None, weight="w" if columns else None,
                     dtype=dtype)  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_is_cut_off_anywhere_is_refused(name: str, tmp_path: Path) -> None:
    FORMATS[name](tmp_path, X, Y)
    path = largest_file(tmp_path)
    whole = path.read_bytes()
    if name == "svmlight":  # a text that ends after a line is whole
        lengths = [whole.rindex(b":") + 1]
    else:
        end = len(whole.rstrip(b"\0")) if name.startswith("tar") else len(whole) - 1
        lengths = [0, 1, *np.linspace(2, end, 40).astype(int).tolist()]
    if "stream" in name or name == "Hugging Face":  # one that ends after a batch may be whole
        lengths = [n for n in lengths if n % 8]
    for n in lengths:
        path.write_bytes(whole[:n])
        with refused(re.escape(path.name)):
            read_all(reopened(name, tmp_path))
    path.write_bytes(whole)
    assert_array_equal(read_all(reopened(name, tmp_path)), X)


@pytest.mark.parametrize("name", BROKEN)
def test_other_bytes_are_refused_or_read_as_they_are(name: str, tmp_path: Path) -> None:
    FORMATS[name](tmp_path, X, Y)
    path = largest_file(tmp_path)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    random = np.random.default_rng(0)
    n_refused = 0
    for trial in range(40):
        changed = whole.copy()
        for _ in range(1 + trial % 3):
            at = int(random.integers(len(whole)))
            changed[at : at + 1 + trial % 5] = random.integers(256)
        path.write_bytes(changed.tobytes())
        try:
            data = reopened(name, tmp_path)
            rows = read_all(data)
        except ValueError as error:
            assert len(str(error)) < 1000  # noqa: PT017 - any refusal is right, if it is short
            n_refused += 1
        else:
            assert rows.shape == data.shape
    assert n_refused  # some bytes matter


# ---- Arrow and Parquet -------------------------------------------------------------------------


def _write(kind: str) -> Write:
    def write(path: Path, given: Any) -> None:
        write_parquet(path, given) if kind == "parquet" else write_arrow(path, given, kind)

    return write


@pytest.fixture(params=["file", "stream", "file lz4", "stream zstd", "parquet"])
def write(request: pytest.FixtureRequest) -> Any:
    """Write a table into a folder; return the pattern of its files."""
    pytest.importorskip("pyarrow")

    def into(folder: Path, given: Any, name: str = "part-0") -> str:
        path = folder / f"{name}.{'parquet' if request.param == 'parquet' else 'arrow'}"
        _write(request.param)(path, given)
        return f"{folder}/*{path.suffix}"

    return into


def _table(**columns: Any) -> Any:
    import pyarrow as pa

    n = len(next(iter(columns.values())))
    return pa.table({"y": pa.array(np.arange(n) % 2), **columns})


def test_lists_of_unequal_length(tmp_path: Path, write: Any) -> None:
    import pyarrow as pa

    rows = [[1.0, 2.0]] * 5 + [[1.0, 2.0, 3.0]] + [[1.0, 2.0]] * 4
    pattern = write(tmp_path, _table(x=pa.array(rows, pa.list_(pa.float32()))))
    with refused(r"part-0\.\w+: column 'x': row 5 has 3 values, expected 2 as in row (0|4)"):
        read_all(cs.shards(pattern, X="x"))
    rows = [[1.0, 2.0]] * 2 + [[1.0, 2.0, 3.0]] * 4  # even in each batch
    pattern = write(tmp_path, _table(x=pa.array(rows, pa.list_(pa.float32()))))
    with refused(r"column 'x': row (2|3) has 3 values, expected 2 as in row (0|2)"):
        read_all(cs.shards(pattern, X="x"))


@pytest.mark.parametrize(
    ("rows", "row"), [([[1.0], [2.0], None, [3.0]], 2), ([[1.0], [2.0], [3.0], [None]], 3)]
)
def test_nulls_in_rows(tmp_path: Path, write: Any, rows: Any, row: int) -> None:
    import pyarrow as pa

    for kind in (pa.list_(pa.float32()), pa.list_(pa.float32(), 1)):
        pattern = write(tmp_path, _table(x=pa.array(rows, kind)))
        message = f"column 'x': row {row} (has a null, expected values|has 0 values, expected 1)"
        with refused(message):
            read_all(cs.shards(pattern, X="x"))


def test_nulls_in_columns_of_features_labels_and_weights(tmp_path: Path, write: Any) -> None:
    import pyarrow as pa

    whole = pa.array([1.0, 2.0, 3.0, 4.0])
    holed = pa.array([1.0, 2.0, 3.0, None])
    pattern = write(tmp_path, _table(a=whole, b=holed))
    with refused("column 'b': row 3 has a null, expected values"):
        read_all(cs.shards(pattern, X=["a", "b"]))
    with refused("column 'b': row 3 has a null"):
        read_all(cs.shards(pattern, X=["a"], y="b"))
    data = cs.shards(pattern, X=["a"], y="y", weight="b")
    with refused("column 'b': row 3 has a null"):
        data.rows.shards[0].weights(0, 4)


def test_columns_that_hold_no_features(tmp_path: Path, write: Any) -> None:
    import pyarrow as pa

    texts = pa.array(["a", "b", "c"])
    images = pa.array([{"bytes": b"?", "path": "a.png"}] * 3)
    numbers = pa.array([1.0, 2.0, 3.0])
    pattern = write(tmp_path, _table(t=texts, i=images, n=numbers, k=pa.array([1, 2, 3])))
    for given, message in [
        ("z", "there is no column 'z' for X: it has y, t, i, n, k"),
        (["n", "z"], "there is no column 'z' for X"),
        ("i", "column 'i' is struct<bytes: .*, expected lists of numbers, or bytes"),
        ("n", "column 'n' is double, expected lists of numbers, or bytes"),
        (["n", "t"], "column 't' is string, expected numbers"),
        (["n", "k"], "column 'k' is int64, expected float64 as column 'n': say dtype='float32'"),
        (None, "say which columns are the features, as X='embedding' or X="),
    ]:
        with refused(message):
            cs.shards(pattern, X=given)
    with refused("there is no column 'label' for y: it has y, t, i, n, k"):
        cs.shards(pattern, X=["n"], y="label")
    with refused("column 'i' is struct<.*, expected numbers or text"):
        read_all(cs.shards(pattern, X=["n"], y="i"))
    assert cs.shards(pattern, X=["n", "k"], dtype="float32").dtype == np.float32
    assert cs.shards(pattern, y="t", dtype="float32").shape == (3, 3)  # all numbers: y, n, k
    assert cs.shards(pattern, X=["n"], y="t").classes.tolist() == ["a", "b", "c"]


def test_shards_of_columns_that_differ(tmp_path: Path, write: Any) -> None:
    write(tmp_path, arrow_table(X, Y, "list"))
    pattern = write(tmp_path, arrow_table(X[:, :3], Y, "list"), "part-10")
    with refused(r"shard 1 \(part-10.*\): float32 with 3 features, expected float32 with 4 as in"):
        cs.shards(pattern, y="y")
    write(tmp_path, arrow_table(X.astype(np.float64), Y, "fixed"), "part-10")
    with refused(r"shard 1 \(part-10.*\): float64 with 4 features, expected float32 with 4 as in"):
        cs.shards(pattern, y="y")
    assert_array_equal(cs.shards(pattern, y="y", dtype="float32").rows.take(slice(None)),
                       np.concatenate([X, X]))  # fmt: skip
    write(tmp_path, arrow_table(X, Y, "wide"), "part-10")
    with refused(r"part-10\.\w+: there is no column 'x' for X: it has y, x0"):
        cs.shards(pattern, X="x")


def test_bytes_that_are_no_whole_numbers(tmp_path: Path, write: Any) -> None:
    pattern = write(tmp_path, _table(x=arrow_column(np.ones((3, 6), np.uint8), "bytes")))
    assert cs.shards(pattern, y="y").dtype == np.uint8  # what bytes are unless dtype says so
    with refused("column 'x': 6 bytes a row are no whole number of float32"):
        read_all(cs.shards(pattern, y="y", dtype="float32"))


def test_integers_of_lists_are_widened_only_on_request(tmp_path: Path, write: Any) -> None:
    pattern = write(tmp_path, arrow_table(X.astype(np.int32), Y, "list"))
    with refused('int32 with 4 features would be converted to float64 .*: say dtype="float64"'):
        cs.shards(pattern, y="y")
    assert_array_equal(cs.shards(pattern, y="y", dtype="float32").rows.take(slice(None)), X)


def test_a_table_that_changes(tmp_path: Path, write: Any) -> None:
    pattern = write(tmp_path, arrow_table(X, Y, "list"))
    data = cs.shards(pattern, y="y")
    read_all(data)
    write(tmp_path, arrow_table(X[:9], Y[:9], "list"))
    with refused("part-0.* has changed since the shards were opened"):
        read_all(data)


@pytest.mark.parametrize("kind", ["bytes", "list"])
def test_a_codec_of_parquet_that_there_is_not(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "a.parquet"
    write_parquet(path, arrow_table(X, Y, kind))
    whole = path.read_bytes()
    # in the footer: field 4, codec, a 32-bit integer 0, then field 5, a 64-bit integer
    assert b"\x15\x00\x16" in whole[-2000:]
    path.write_bytes(whole[:-2000] + whole[-2000:].replace(b"\x15\x00\x16", b"\x15\x15\x16"))
    with refused("a.parquet: "):  # pyarrow ends the process of whoever asks for such a codec
        read_all(cs.shards(path, y="y"))


def test_folders_of_datasets(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    FORMATS["Hugging Face"](tmp_path, X, Y)
    (tmp_path / "state.json").unlink()  # as in the cache of `datasets`
    assert_array_equal(cs.shards(tmp_path, y="y").rows.take(slice(None)), X)
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    with refused(r"it holds several data sets: say '.*/train' or '.*/test'"):
        cs.shards(tmp_path)
    (tmp_path / "dataset_dict.json").write_text("{")
    with refused("dataset_dict.json: expected what `datasets` writes"):
        cs.shards(tmp_path)
    (tmp_path / "dataset_dict.json").unlink()
    for path in tmp_path.glob("*.arrow"):
        path.unlink()
    with refused(r"expected \.arrow files beside dataset_info.json"):
        cs.shards(tmp_path)


def test_pyarrow_is_asked_for_by_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "pyarrow":
            raise ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow")
        return real(name, *rest)

    for module in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(builtins, "__import__", without)
    for ending in ("parquet", "arrow"):
        (tmp_path / f"a.{ending}").write_bytes(b"")
        with pytest.raises(ImportError, match=r"need pyarrow: pip install 'csoftmax\[arrow\]'"):
            cs.shards(tmp_path / f"a.{ending}")


# ---- tar ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"s/001.cls": None}, "the member 's/001' has no '.cls'"),
        ({"s/001.npy": None}, "the member 's/001' has no '.npy'"),
        ({"s/002.npy": npy_bytes(np.zeros(5, np.float32))},
         r"'s/002' has shape \(5,\) float32, expected \(4,\) float32 as before it"),
        ({"s/002.npy": npy_bytes(X[2].astype(np.float16))}, r"'s/002' has shape \(4,\) float16"),
        ({"s/002.npy": npy_bytes(X[2])[:-1]}, r"byte \d+: expected 144 bytes of 's/002', got 143"),
        ({"s/002.npy": npy_bytes(X[2]) + b"\0"}, r"expected 144 bytes of 's/002', got 145"),
        ({"s/002.npy": b"no numbers"}, "expected a NumPy .npy header"),
        ({"s/002.cls": b"\xff"}, "the label of 's/002' is not UTF-8 text"),
        ({"s/002.cls": b"9" * 2000}, "expected a label of 's/002', got 2000 bytes"),
    ],
)  # fmt: skip
def test_tar_members_that_do_not_fit(tmp_path: Path, changes: Any, message: str) -> None:
    members = {**sample_members(X[:4], Y[:4]), **changes}
    write_tar(
        tmp_path / "a.tar", {name: data for name, data in members.items() if data is not None}
    )
    with refused(message):
        read_all(cs.shards(tmp_path / "a.tar"))


def test_which_members_of_a_tar_have_what(tmp_path: Path) -> None:
    members = sample_members(X[:4], Y[:4])
    for i in range(4):
        members[f"s/{i:03d}.emb.npy"] = npy_bytes(X[i] + 1)
        members[f"s/{i:03d}.txt"] = [b"cat", b"dog"][i % 2]
        members[f"s/{i:03d}.w"] = b"0.5"
    path = tmp_path / "a.tar"
    write_tar(path, members)
    with refused("say the ending of the members with features, as X='npy': it has members with "
                 "cls, emb.npy, npy, txt, w"):  # fmt: skip
        cs.shards(path)
    data = cs.shards(path, X="emb.npy", y="txt", weight="w")
    assert_array_equal(data.rows.take(slice(None)), X[:4] + 1)
    assert data.classes.tolist() == ["cat", "dog"]
    assert data.rows.shards[0].weights(1, 3).tolist() == [0.5, 0.5]
    with refused(r"there are no members '\*\.json' for y"):
        cs.shards(path, X="npy", y="json")
    with refused("expected weights that are numbers: could not convert"):
        cs.shards(path, X="npy", weight="txt")
    with pytest.raises(ValueError, match="expected one ending of members"):
        cs.shards(path, X=["npy"])


def test_compressed_and_other_files_are_no_tar(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    for data in (b"", b"\x1f\x8b" + bytes(600), b"hello" * 300):
        path.write_bytes(data)
        with refused("a.tar: (byte .*|expected a .tar file that is not compressed)"):
            cs.shards(path)
    write_tar(path, {"readme.txt": b"no arrays"})
    with refused("a.tar: say the ending of the members with features.* it has members with txt"):
        cs.shards(path)


# ---- functions, npz, svmlight ------------------------------------------------------------------


def test_functions_that_give_something_else(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"source\[1\] is .*, expected a number of rows and a func"):
        cs.shards([(3, lambda a, b: X[a:b]), 4])  # type: ignore[list-item]
    with refused(r"<lambda>\(0, 5\): expected 5 rows, labels and weights, got shape \(4, 4\)"):
        read_all(cs.shards([(5, lambda a, b: X[a : min(b, 4)])]))
    with refused(r"got float64 with 4 features, 1 arrays, expected float32 with 4 features, 1"):
        read_all(cs.shards([(5, lambda a, b: X[a:b].astype(np.float32 if b < 2 else float))]))
    with refused(r"got float32 with 4 features, 2 arrays, expected float32 with 4 features, 1"):
        read_all(cs.shards([(5, lambda a, b: X[a:b] if b < 2 else (X[a:b], Y[a:b]))]))
    with pytest.raises(ValueError, match="y is 'label', but functions have no columns"):
        cs.shards([(5, lambda a, b: X[a:b])], y="label")
    data = cs.shards([(15, lambda a, b: (X[a:b], Y[a:b], Y[a:b] + 0.5))])
    assert_array_equal(data.rows.shards[0].weights(2, 9), Y[2:9] + 0.5)


def test_npz_without_arrays_or_with_too_many_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", Z=X)
    with refused("expected a sparse matrix of scipy or the array X, got Z"):
        cs.shards(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", X=X, y=Y[:3])
    with refused("a.npz: y: expected 15 values, one for each row of .*, got 3"):
        cs.shards(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", X=X[0])
    with refused(r"a.npz: X: expected an array \(n_rows, n_features\), got shape \(4,\)"):
        cs.shards(tmp_path / "a.npz")


def test_svmlight_files_count_features_together(tmp_path: Path) -> None:
    (tmp_path / "a.svm").write_text("+1 2:5\n-1 7:1.5\n")
    (tmp_path / "b.svm").write_text("1 0:3\n")
    data = cs.shards(f"{tmp_path}/*.svm")
    assert data.shape == (3, 8)
    assert read_all(data)[2].tolist() == [3, 0, 0, 0, 0, 0, 0, 0]
    assert data.classes.tolist() == [-1, 1]
    (tmp_path / "b.svm").write_text("cat 1:3\n")
    assert cs.shards(f"{tmp_path}/*.svm").classes.tolist() == ["+1", "-1", "cat"]
    (tmp_path / "b.svm").write_text("1:3\n")
    with refused(r"shard 1 \(b.svm\): no labels, but shard 0 has them"):
        cs.shards(f"{tmp_path}/*.svm")
    (tmp_path / "b.svm").write_text("1 1:3\n\n1:3\n")
    with refused("b.svm: line 3: expected one label before the features, got none"):
        cs.shards(f"{tmp_path}/*.svm")


def test_shards_of_another_number_of_rows_are_cut_as_they_are(tmp_path: Path) -> None:
    data = FORMATS["arrow fixed file"](tmp_path, X, Y)
    assert [part.n_rows for part in data.parts] == [len(rows) for rows in cut(X)]
