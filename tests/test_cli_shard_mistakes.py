"""What is wrong with files is one line, told before or in the first pass, and nothing is left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import command

import csoftmax as cs
from csoftmax.cli import main

X = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
Y = np.arange(30) % 3
PARTS = [slice(0, 10), slice(10, 20), slice(20, 30)]


def write_npy(folder: Path) -> list[Any]:
    for s, some in enumerate(PARTS):
        np.save(folder / f"x-{s}.npy", X[some])
        np.save(folder / f"y-{s}.npy", Y[some])
    return ["--data", f"{folder}/x-*.npy", "--label-files", f"{folder}/y-*.npy"]


def parquet(folder: Path, s: int, **columns: Any) -> None:
    """Write a shard of Parquet; None leaves a column out."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    some = {f"f{j}": X[PARTS[s], j] for j in range(4)} | {"label": Y[PARTS[s]]} | columns
    table = {name: pa.array(column) for name, column in some.items() if column is not None}
    pq.write_table(pa.table(table), folder / f"p-{s}.parquet")


def write_parquet(folder: Path) -> list[Any]:
    for s in range(3):
        parquet(folder, s)
    return ["--data", f"{folder}/*.parquet", "--label-column", "label"]


def cut_short(path: Path, n: int) -> None:
    path.write_bytes(path.read_bytes()[:n])


def changed(array: Any, at: Any, value: Any) -> Any:
    array = array.copy()
    array[at] = value
    return array


def with_none(s: int, j: int) -> Any:
    pa = pytest.importorskip("pyarrow")
    values: list[Any] = X[PARTS[s], j].tolist()
    return pa.array([*values[:8], None, *values[9:]], pa.float32())


NPY: list[tuple[Callable[[Path], Any], str]] = [
    (lambda f: np.save(f / "x-2.npy", np.zeros((10, 3), np.float16)),
     "shard 2 (x-2.npy): float16 with 3 features, expected float32 with 4 as in shard 0"),
    (lambda f: [np.save(f / f"x-{s}.npy", X[PARTS[s]].astype(np.int32)) for s in range(3)],
     "shard 0 (x-0.npy): int32 with 4 features would be converted to float64 in each pass: say "
     "--dtype float64 to allow it"),
    (lambda f: cut_short(f / "x-1.npy", 200),
     "x-1.npy: byte 128: expected 160 bytes of data (10, 4) float32, got 72 bytes"),
    (lambda f: np.save(f / "x-1.npy", changed(X[PARTS[1]], (5, 3), np.nan)),
     "(x-1.npy): row 5 (row"),
    (lambda f: np.save(f / "y-1.npy", Y[10:19]),
     "y-1.npy: expected 10 values, one for each row of shard 1 (x-1.npy), got 9"),
    (lambda f: (f / "y-1.npy").unlink(), "--label-files: 2 files match"),
    (lambda f: np.save(f / "y-1.npy", changed(Y[PARTS[1]].astype(float), 3, 1.5)),
     "shard 1 (x-1.npy): row 3 (row 13 of all): expected a label that is an integer of 64 bits or "
     "text, got 1.5"),
    (lambda f: np.save(f / "y-1.npy", np.array(["a"] * 10)),
     "shard 1 (x-1.npy): row 0 (row 10 of all): expected labels that are numbers, as before, got "
     "'a'"),
    (lambda f: [np.save(f / f"y-{s}.npy", np.zeros(10, int)) for s in range(3)],
     "x-*.npy has one class, 0: expected at least two"),
    (lambda f: [np.save(f / f"x-{s}.npy", X[:0]) or np.save(f / f"y-{s}.npy", Y[:0])
                for s in range(3)], "x-*.npy has no rows"),
]  # fmt: skip
PARQUET: list[tuple[Callable[[Path], Any], str]] = [
    (lambda f: cut_short(f / "p-1.parquet", 700),
     "p-1.parquet: byte 696: expected b'PAR1' as at the end of a Parquet file, got"),
    (lambda f: (f / "p-1.parquet").write_bytes(b""),
     "p-1.parquet: byte 0: expected b'PAR1' as at the begin of a Parquet file, got b'' of 0 bytes"),
    (lambda f: parquet(f, 1, label=None),
     "p-1.parquet: there is no column 'label' for y: it has f0, f1, f2, f3"),
    (lambda f: parquet(f, 1, f2=None),
     "shard 1 (p-1.parquet): there is no column 'f2', which shard 0 has: --columns says which"),
    (lambda f: parquet(f, 1, more=X[:10, 0]), "there is a column 'more', which shard 0 has not"),
    (lambda f: parquet(f, 1, f0=None, g=None) or _reorder(f),
     "its columns are f1, f0, f2, f3, expected f0, f1, f2, f3 as in shard 0"),
    (lambda f: parquet(f, 1, f1=with_none(1, 1)),
     "p-1.parquet: column 'f1': row 8 has a null, expected values"),
    (lambda f: parquet(f, 1, f1=X[:10, 1].astype(np.float64)),
     "p-1.parquet: column 'f1' is float64, expected float32 as column 'f0': say --dtype float32"),
    (lambda f: (f / "p-0.parquet").rename(f / "p-0.npy"), "p-0.npy"),
]  # fmt: skip


def _reorder(folder: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    names = ["f1", "f0", "f2", "f3"]
    columns = {name: pa.array(X[PARTS[1], int(name[1])]) for name in names}
    pq.write_table(pa.table({**columns, "label": Y[PARTS[1]]}), folder / "p-1.parquet")


def refused(words: list[Any], message: str, folder: Path, capsys: Any) -> None:
    out = folder / "run"
    for solver in ("sgd", "lbfgs"):
        got = main(command("train", *words, "--solver", solver, "--out", out, "--no-plots"))
        told = capsys.readouterr().err
        assert got == 2, told
        [line] = told.splitlines()  # no traceback
        assert line.startswith("csoftmax: error: ")
        assert message in line
        assert not (out / "model.safetensors").exists()


@pytest.mark.parametrize(("spoil", "message"), NPY, ids=[message[:40] for _, message in NPY])
def test_mistakes_in_npy(
    spoil: Callable[[Path], Any], message: str, tmp_path: Path, capsys: Any
) -> None:
    words = [*write_npy(tmp_path), "--seed", 1]  # which trains on the second shard
    spoil(tmp_path)
    refused(words, message, tmp_path, capsys)


@pytest.mark.parametrize(("spoil", "message"), PARQUET, ids=[each[:40] for _, each in PARQUET])
def test_mistakes_in_parquet(
    spoil: Callable[[Path], Any], message: str, tmp_path: Path, capsys: Any
) -> None:
    words = write_parquet(tmp_path)
    spoil(tmp_path)
    if "p-0.npy" in message:  # files of two formats
        words, message = ["--data", f"{tmp_path}/p-*", *words[2:]], "as all shards have one format"
    refused(words, message, tmp_path, capsys)


def test_rows_of_unequal_length(tmp_path: Path, capsys: Any) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    rows = [X[:10].tolist(), [*X[10:17].tolist(), [1.0, 2.0]], X[20:].tolist()]
    for s, (some, labels) in enumerate(zip(rows, (Y[:10], Y[:8], Y[:10]), strict=True)):
        table = {"x": pa.array(some, pa.list_(pa.float32())), "y": labels}
        pq.write_table(pa.table(table), tmp_path / f"p-{s}.parquet")
    words = ["--data", f"{tmp_path}/*.parquet", "--label-column", "y", "--seed", 1]
    refused(words, "p-1.parquet: column 'x': row 7 has 2 values, expected 4 as in row 0",
            tmp_path, capsys)  # fmt: skip


def test_a_shard_that_changes_meanwhile(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = write_npy(tmp_path)
    encoded = cs.data.Shards.encoded

    def changing(data: Any, *arguments: Any) -> Any:
        np.save(tmp_path / "x-1.npy", X[:9])
        return encoded(data, *arguments)

    monkeypatch.setattr(cs.data.Shards, "encoded", changing)
    main(command("train", *words, "--seed", 1, "--out", tmp_path / "run"))
    [line] = capsys.readouterr().err.splitlines()
    assert "x-1.npy: the file has changed since the shards were opened: expected 288 bytes" in line


def test_an_empty_shard_and_one_of_one_class_are_fine(tmp_path: Path, capsys: Any) -> None:
    words = write_npy(tmp_path)
    np.save(tmp_path / "x-1.npy", X[:0])
    np.save(tmp_path / "y-1.npy", Y[:0])
    np.save(tmp_path / "y-2.npy", np.ones(10, int))
    for solver in ("sgd", "lbfgs"):
        out = tmp_path / solver
        assert main(command("train", *words, "--solver", solver, "--out", out, "--no-plots")) == 0
        assert cs.SoftmaxRegression.load(out / "model.safetensors").class_names == ("0", "1", "2")
    capsys.readouterr()
