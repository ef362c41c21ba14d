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
from numpy.testing import assert_allclose, assert_array_equal
from shard_cases import FORMATS, arrow_table, table, write_npy, write_parquet

import csoftmax as cs
from csoftmax.cli import main
from csoftmax.cli.shards import RowsBar, with_progress
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
    told = "      3/3  " if solver == "sgd" else "C = 0.5: objective"
    assert told in said
    accuracy = float(said.split("test accuracy ")[-1].split(";")[0])
    model = cs.SoftmaxRegression.load(out / "model.safetensors")
    n_lines = (out / "history.csv").read_text().count("\n")
    assert n_lines == 4 if solver == "sgd" else n_lines > 2
    assert accuracy in {round(k / n, 4) for n in (3, 5, 7) for k in range(n + 1)}
    rows = list(
        csv.DictReader(io.StringIO(run(capsys, "predict", out / "model.safetensors", given)))
    )
    assert [row["label"] for row in rows] == [str(label) for label in model.predict(X)]
    told = run(capsys, "evaluate", out / "model.safetensors", "--data", given)
    right = (model.predict(X) == Y).mean()
    assert f"accuracy {right:.4f}, 15 samples" in told  # the column of the labels is known
    assert (tmp_path / "cache").exists() == ("wide" in name)


def test_train_on_files_of_rows_and_of_labels(tmp_path: Path, capsys: Capture) -> None:
    names, label_names = write_npy(tmp_path, X, Y)
    out = tmp_path / "run"
    words = ["train", "--data", names, "--label-files", label_names, "--out", out, *SGD]
    run(capsys, *words, "--weight-decay", 0.1, "--quiet")
    model = cs.SoftmaxRegression.load(out / "model.safetensors")
    assert model.class_names == ("0", "1", "2")
    assert model.trained_with["shards"] == {"X": None, "dtype": None, "y": None}
    np.save(tmp_path / "one.npy", X[:5])
    np.save(tmp_path / "labels.npy", Y[:5])
    words[2:5] = [f"{tmp_path}/on*.npy", "--label-files", tmp_path / "labels.npy"]
    assert "test on the same rows: there is one shard" in run(capsys, *words)


def test_shards_held_out_are_some_of_those_with_rows(tmp_path: Path) -> None:
    data = cs.shards(write_npy(tmp_path, X, Y)[0])
    train, test = hold_out(data, 0.2, 0)
    assert test is not None
    assert (len(train), len(test)) == (2, 1)
    assert {*train, *test} == {0, 2, 3}  # those with rows
    assert len(hold_out(data, 0.9, 1)[0]) == 1
    assert hold_out(data[:2], 0.2, 0) == ([0], None)  # the second one has no rows


def learnable(folder: Path, n: int = 240) -> tuple[Any, Any]:
    """Write four shards of rows from which labels can be learnt; return rows and labels."""
    random = np.random.default_rng(0)
    y = random.integers(0, 3, n)
    rows = (np.eye(3)[y] * 2 + random.normal(size=(n, 3))).astype(np.float32)
    for s, at in enumerate(np.split(np.arange(n), 4)):
        np.save(folder / f"x-{s}.npy", rows[at])
        np.save(folder / f"y-{s}.npy", NAMES[y[at]])
    return rows, y


@pytest.mark.parametrize("options", [["--solver", "lbfgs", "--C", 0.1], ["--epochs", 2]])
def test_train_as_on_one_file_and_go_on(
    options: list[Any], tmp_path: Path, capsys: Capture
) -> None:
    rows, y = learnable(tmp_path)
    out, again = tmp_path / "run", tmp_path / "again"
    np.save(tmp_path / "one-x.npy", rows[:50])
    np.save(tmp_path / "one-y.npy", NAMES[y[:50]])
    data = ["--data", f"{tmp_path}/x-*.npy", "--label-files", f"{tmp_path}/y-*.npy",
            "--test-data", tmp_path / "one-x.npy", "--test-label-files", tmp_path / "one-y.npy"
            ]  # fmt: skip
    said = run(capsys, "train", *data, *options, "--out", out, "--no-plots")
    model = cs.SoftmaxRegression.load(out / "model.safetensors")
    assert model.class_names == tuple(NAMES)
    assert f"test accuracy {(model.predict(rows[:50]) == y[:50]).mean():.4f}" in said
    if "--C" in options:  # the same minimum as the estimator finds
        expected = cs.SoftmaxClassifier(C=0.1, tol=1e-6).fit(rows, y)
        assert_allclose(model.predict_proba(rows), expected.predict_proba(rows), atol=2e-2)
    run(capsys, "train", *data, *options, "--out", again, "--resume", out / "model.safetensors",
        "--no-plots")  # fmt: skip
    first, second = (
        np.genfromtxt(f / "history.csv", delimiter=",", names=True) for f in (out, again)
    )
    if "--C" in options:
        assert second["objective"][0] == pytest.approx(first["objective"][-1], rel=1e-5)
    else:
        assert second["train_loss"][0] < first["train_loss"][0]
        trained = cs.SoftmaxRegression.load(again / "model.safetensors").trained_with
        assert (trained["epochs"], trained["n_samples"]) == (4, 240)


def test_sweep_chooses_by_shards_held_out(tmp_path: Path, capsys: Capture) -> None:
    learnable(tmp_path)
    data = ["--data", f"{tmp_path}/x-*.npy", "--label-files", f"{tmp_path}/y-*.npy"]
    said = run(capsys, "train", *data, "--sweep", 4, "--out", tmp_path / "run")
    assert "is best on the 60 samples held out" in said  # one of the three to train on
    table = np.loadtxt(tmp_path / "run" / "sweep.csv", delimiter=",", skiprows=1)
    assert_allclose(table[:, 0], [1e-6, 10 ** (-7 / 3), 10 ** (4 / 3), 1e5], rtol=1e-6)
    best = table[table[:, 5].argmax()]
    assert f"C = {best[0]:.3g} is best" in said
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"model.safetensors", "history.csv", "sweep.csv", "curves.png", "sweep.png",
                     "confusion.png"}  # fmt: skip
    few = [word.replace("*", "[01]") for word in data]
    said = run(capsys, "train", *few, "--sweep", 2, "--out", tmp_path / "run", code=2)
    assert "--sweep needs a file to train on, one to choose C by, and one to test on" in said


def test_a_sweep_with_l1_reads_sparse_shards(tmp_path: Path, capsys: Capture) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    rng = np.random.default_rng(0)
    for s in range(3):
        rows = rng.integers(0, 3, (60, 5)).astype(np.float32)
        labels, csr = (rows[:, 0] > rows[:, 1]).astype(np.int64), sparse.csr_array(rows)
        np.save(tmp_path / f"x-{s}.npy", rows)
        np.save(tmp_path / f"y-{s}.npy", labels)
        arrays = {"data": csr.data, "indices": csr.indices, "indptr": csr.indptr}
        np.savez(tmp_path / f"{s}.npz", format=b"csr", shape=csr.shape, y=labels, **arrays)
    tables = []
    for words in (
        ["--data", f"{tmp_path}/*.npz"],
        ["--data", f"{tmp_path}/x-*.npy", "--label-files", f"{tmp_path}/y-*.npy"],
    ):
        run(capsys, "train", *words, "--solver", "lbfgs", "--l1-ratio", 1, "--sweep", 3,
            "--out", tmp_path / "run", "--quiet", "--no-plots")  # fmt: skip
        table = tmp_path / "run" / "sweep.csv"
        tables.append(np.loadtxt(table, delimiter=",", skiprows=1)[:, :2])  # C and objective
    assert_allclose(tables[0], tables[1], rtol=1e-3)


def test_evaluate_goes_block_by_block(
    tmp_path: Path, classifier: Any, model: Path, capsys: Capture, monkeypatch: Any
) -> None:
    monkeypatch.setattr("csoftmax.evaluation._ROWS", 3)
    names, _ = write_npy(tmp_path, X, NAMES[Y])
    words = ["evaluate", model, "--data", names, "--label-files", f"{tmp_path}/y-*.npy"]
    lines = run(capsys, *words).splitlines()
    np.savez(tmp_path / "one.npz", X=X, y=Y)
    one = run(capsys, "evaluate", model, "--data", tmp_path / "one.npz").splitlines()
    assert lines[1:] == one[-len(lines) + 1 :]  # the same table
    assert "Shards(4 shards, X (15, 4) float32, 3 classes)" in lines[0]
    np.save(tmp_path / "all.npy", X)
    np.save(tmp_path / "labels.npy", NAMES[Y])
    beside = ["--data", tmp_path / "all.npy", "--label-files", tmp_path / "labels.npy"]
    assert run(capsys, "evaluate", model, *beside).splitlines()[1:] == lines[1:]
    np.save(tmp_path / "y-10.npy", np.array(["cat", "yak", *["dog"] * 5]))
    said = run(capsys, *words, code=2)
    assert "shard 2 (x-10.npy): row 1 (row 6 of all): the label yak is not one of the model's 3 " \
           "classes cat, dog, eel" in said  # fmt: skip


def test_predict_writes_npy(tmp_path: Path, classifier: Any, model: Path, capsys: Capture) -> None:
    names, _ = write_npy(tmp_path, X, Y)
    output = tmp_path / "p.npy"
    run(capsys, "predict", model, names, "--output", output)
    assert np.load(output).tolist() == classifier.predict(X).tolist()
    run(capsys, "predict", model, names, "--output", output, "--probabilities")
    assert_allclose(np.load(output), classifier.predict_proba(X), rtol=1e-4, atol=1e-6)


def test_rows_that_are_read_show_on_a_bar(tmp_path: Path, monkeypatch: Any) -> None:
    data = cs.shards(write_npy(tmp_path, X, Y)[0])
    assert with_progress(data) is data  # there is no terminal
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    bar = RowsBar(15)
    watched = with_progress(data)
    assert_array_equal(watched.rows.take(np.arange(15)), X)
    seen = []
    for n in (10, 5, 4):
        bar.read(lambda start, stop: X[start:stop], 0, n)
        seen.append(bar._bar.n)
    assert seen == [10, 0, 4]  # a new pass begins


def test_mistakes_of_train_on_shards(tmp_path: Path, capsys: Capture) -> None:
    names, _ = write_npy(tmp_path, X, Y)
    for words, message in [
        (["--data", names], "has no labels: name their column by --label-column, or their files"),
        (["--data", names, "--test-label-files", "x"], "--test-label-files is for --test-data"),
        (["--data", names, "--test-data", "x", "--test-fraction", 0.1], "exclude each other"),
        (["--data", names, "--label-column", "a"], "but .npy files have no columns: --label-files"),
        (["--data", names, "--header"], "--header is for text tables"),
        (["--data", names, "--test-fraction", 2, "--label-files", f"{tmp_path}/y-*.npy"],
         "--test-fraction must be between 0 and 1, got 2.0"),
        (["--data", tmp_path, "--label-files", "x"], "--label-files is for data in many files"),
        (["--data", f"{tmp_path}/z*.npy"], "no file matches"),
    ]:  # fmt: skip
        assert message in run(capsys, "train", *words, "--out", tmp_path / "run", code=2)
