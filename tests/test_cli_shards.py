"""The command line and data in many files."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import command
from numpy.testing import assert_allclose
from shard_cases import FORMATS, arrow_table, table, write_npy, write_parquet

import csoftmax as cs
from csoftmax.cli import main
from csoftmax.cli.train_shards import hold_out

pytest.importorskip("sklearn")

pytestmark = pytest.mark.filterwarnings("ignore:.*its gradient is still steep")

X, Y = table()
NAMES = np.array(["cat", "dog", "eel"])
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def classifier() -> Any:
    return cs.SoftmaxClassifier(C=10.0).fit(X, NAMES[Y])


@pytest.fixture
def model(classifier: Any, tmp_path: Path) -> Path:
    classifier.save(tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def run(capsys: Capture, *words: Any, code: int = 0) -> str:
    """Run a command; return what it prints, or its mistake."""
    got = main(command(*words))
    said = capsys.readouterr()
    assert got == code, said.err
    return said.err if code else said.out


FOLDER = ["Hugging Face", "tar", "parquet wide snappy", "arrow fixed file lz4"]


@pytest.mark.parametrize("name", ["npy", *FOLDER])
def test_predict_writes_a_line_for_each_row(
    name: str, tmp_path: Path, model: Path, classifier: Any, capsys: Capture
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    FORMATS[name](data, X, Y)
    given = data if name in FOLDER else f"{data}/x-*.npy"
    columns = ["--columns", "x0,x1,x2,x3"] if "wide" in name else []
    said = run(capsys, "predict", model, given, "--probabilities", *columns)
    rows = list(csv.DictReader(io.StringIO(said)))
    assert [row["label"] for row in rows] == classifier.predict(X).tolist()
    got = [[float(row[name]) for name in NAMES] for row in rows]
    assert_allclose(got, classifier.predict_proba(X), rtol=1e-4, atol=1e-6)


def test_predict_writes_parquet(
    tmp_path: Path, model: Path, classifier: Any, capsys: Capture
) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    names, _ = write_npy(tmp_path, X, Y)
    np.save(tmp_path / "one.npy", X)
    expected = classifier.predict_proba(X)
    for given in (names, tmp_path / "one.npy"):
        output = tmp_path / "predictions.parquet"
        assert run(capsys, "predict", model, given, "--output", output, "--probabilities") == ""
        found = pq.read_table(output).to_pydict()
        assert list(found) == ["label", "probability", *NAMES]
        assert found["label"] == classifier.predict(X).tolist()
        assert_allclose(found["probability"], expected.max(axis=1), rtol=1e-5)
        assert_allclose(np.transpose([found[name] for name in NAMES]), expected, rtol=1e-4)
    run(capsys, "predict", model, names, "--output", output)
    assert pq.read_table(output).column_names == ["label", "probability"]


def test_mistakes_with_shards(tmp_path: Path, model: Path, capsys: Capture) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "a.parquet"
    write_parquet(path, arrow_table(X[:, :3], Y, "list"))
    for words, message in [
        ([path], "a.parquet has 3 features but the model has 4"),
        ([path, "--output", path], "which is read: expected another file"),
        ([path, "--columns", "z"], "there is no column 'z' for X: it has y, x, w"),
        ([path, "--decimal", ","], "--decimal is for text tables, but"),
        ([path, "--no-header"], "--no-header is for text tables, but"),
        ([f"{tmp_path}/z-*.npy"], "no file matches"),
    ]:
        assert message in run(capsys, "predict", model, *words, code=2)
    bad = X.copy()
    bad[6, 1] = np.nan
    names, _ = write_npy(tmp_path, bad, Y)
    for output in ("p.csv", "p.parquet"):
        said = run(capsys, "predict", model, names, "--output", tmp_path / output, code=2)
        assert "shard 2 (x-10.npy): row 1 (row 6 of all): feature 1 is nan, expected" in said
        assert not (tmp_path / output).exists()
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "dataset_dict.json").write_text(json.dumps({"splits": ["train"]}))
    said = run(capsys, "predict", model, tmp_path / "hf", code=2)
    assert "it holds several data sets: say" in said


def test_parquet_has_no_room_for_rows_left_out_and_for_two_columns_of_a_name(
    tmp_path: Path, model: Path, capsys: Capture
) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "a.csv").write_text("a,b,c,d\n1,2,3,4\n1,,3,4\n")
    output = tmp_path / "p.parquet"
    said = run(
        capsys,
        "predict",
        model,
        tmp_path / "a.csv",
        "--missing",
        "drop",
        "--output",
        output,
        code=2,
    )
    assert "rows with missing values have no class there: expected a .csv file" in said
    cs.SoftmaxClassifier().fit(X, np.array(["label", "b"])[Y % 2]).save(model)
    np.save(tmp_path / "one.npy", X)
    said = run(
        capsys,
        "predict",
        model,
        tmp_path / "one.npy",
        "--output",
        output,
        "--probabilities",
        code=2,
    )
    assert "a class has the name of another column" in said


# ---- train -------------------------------------------------------------------------------------

SGD = ["--epochs", 3, "--batch-size", 2]


@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
@pytest.mark.parametrize("name", ["parquet wide snappy", "parquet bytes none", "Hugging Face"])
def test_train_on_columns_and_predict_with_the_model(
    name: str, solver: str, tmp_path: Path, capsys: Capture
) -> None:
    data, out = tmp_path / "data", tmp_path / "run"
    data.mkdir()
    FORMATS[name](data, X, Y)
    given = data if name == "Hugging Face" else f"{data}/*.parquet"
    options = ["--C", 0.5] if solver == "lbfgs" else SGD
    options = ["--solver", solver, *options]
    if "bytes" in name:
        options += ["--dtype", "float32"]
    if "wide" in name:
        options += ["--columns", "x0,x1,x2,x3", "--cache", tmp_path / "cache"]
    said = run(capsys, "train", "--data", given, "--label-column", "y", "--out", out, *options)
    assert "train on Shards(" in said
    told = "epoch 3: train loss" if solver == "sgd" else "C = 0.5: objective"
    assert told in said
    accuracy = float(said.split("test accuracy ")[1].split(";")[0])
    classifier = cs.SoftmaxClassifier.load(out / "model.safetensors")
    n_lines = (out / "history.csv").read_text().count("\n")
    assert n_lines == 4 if solver == "sgd" else n_lines > 2
    assert accuracy in {round(k / n, 4) for n in (3, 5, 7) for k in range(n + 1)}
    rows = list(
        csv.DictReader(io.StringIO(run(capsys, "predict", out / "model.safetensors", given)))
    )
    assert [row["label"] for row in rows] == [
        str(label) for label in classifier.predict(cs.shards([(15, rows_of_x)]))
    ]
    assert (tmp_path / "cache").exists() == ("wide" in name)


def rows_of_x(start: int, stop: int) -> Any:
    return X[start:stop]


def test_train_on_files_of_rows_and_of_labels(tmp_path: Path, capsys: Capture) -> None:
    names, label_names = write_npy(tmp_path, X, Y)
    out = tmp_path / "run"
    words = ["train", "--data", names, "--label-files", label_names, "--out", out, *SGD]
    run(capsys, *words, "--weight-decay", 0.1, "--quiet")
    model = cs.SoftmaxRegression.load(out / "model.safetensors")
    assert model.class_names == ("0", "1", "2")
    assert model.trained_with["shards"] == {"X": None, "dtype": None}
    np.save(tmp_path / "one.npy", X[:5])
    np.save(tmp_path / "labels.npy", Y[:5])
    words[2:5] = [f"{tmp_path}/on*.npy", "--label-files", tmp_path / "labels.npy"]
    assert "test on the same rows: there is one shard" in run(capsys, *words)


def test_shards_held_out_are_some_of_those_with_rows(tmp_path: Path) -> None:
    data = cs.shards(write_npy(tmp_path, X, Y)[0])
    train, test = hold_out(data, 0.2, 0)
    assert test is not None
    assert (train.n_shards, test.n_shards) == (2, 1)  # of three with rows
    names = {part.name for part in (*train.parts, *test.parts)}
    assert names == {"x-8.npy", "x-10.npy", "x-11.npy"}
    assert hold_out(data, 0.9, 1)[0].n_shards == 1
    assert hold_out(data[:2], 0.2, 0)[1] is None  # the second one has no rows


def test_mistakes_of_train_on_shards(tmp_path: Path, capsys: Capture) -> None:
    names, _ = write_npy(tmp_path, X, Y)
    for words, message in [
        (["--data", names], "has no labels: name their column by --label-column, or their files"),
        (["--data", names, "--sweep", 3], "--sweep is not for data in many files"),
        (["--data", names, "--header"], "--header is for text tables"),
        (["--data", names, "--test-fraction", 2, "--label-files", f"{tmp_path}/y-*.npy"],
         "--test-fraction must be between 0 and 1, got 2.0"),
        (["--data", tmp_path, "--label-files", "x"], "--label-files is for data in many files"),
        (["--data", f"{tmp_path}/z*.npy"], "no file matches"),
    ]:  # fmt: skip
        assert message in run(capsys, "train", *words, "--out", tmp_path / "run", code=2)
