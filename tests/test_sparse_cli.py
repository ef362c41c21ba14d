"""The command line on sparse files, and with L1."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import command
from scipy import sparse
from sklearn.datasets import dump_svmlight_file

import csoftmax as cs
from csoftmax import plot
from csoftmax.cli import main
from csoftmax.estimators import SoftmaxClassifier


def problem(n_classes: int = 3) -> tuple[Any, Any]:
    """200 rows of few features, of which the first few speak for the classes."""
    random = np.random.default_rng(n_classes)
    X = random.integers(1, 4, (200, 30)) * (random.random((200, 30)) < 0.1)
    y = random.integers(0, n_classes, 200)
    X[np.arange(200), y] += random.integers(0, 3, 200)
    return sparse.csr_array(X.astype(np.float32)), y


def write(path: Path, X: Any, y: Any) -> Path:
    if path.suffix == ".svm":
        dump_svmlight_file(X, y, str(path))
    else:
        sparse.save_npz(path, X)
        np.save(path.with_name("y.npy"), y)
    return path


def rows_of(path: Path) -> list[dict[str, float]]:
    with open(path) as file:
        return [{name: float(v) for name, v in row.items()} for row in csv.DictReader(file)]


@pytest.mark.parametrize("name", ["data.svm", "X.npz"])
@pytest.mark.parametrize("way", ["lbfgs", "sgd", "l1"])
def test_train_evaluate_and_predict(name: str, way: str, tmp_path: Path, capsys: Any) -> None:
    X, y = problem()
    path, out = write(tmp_path / name, X, y), tmp_path / "run"
    options = {"lbfgs": ("--solver", "lbfgs"), "sgd": ("--batch-size", 16, "--epochs", 30),
               "l1": ("--l1-ratio", 1)}[way]  # fmt: skip
    assert main(command("train", "--data", path, "--out", out, *options)) == 0
    model = cs.SoftmaxRegression.load(out / "model.safetensors")
    assert model.class_names == ("0", "1", "2")
    accuracy = float((model.predict(X) == y).mean())
    assert accuracy > 0.7
    capsys.readouterr()
    assert main(command("evaluate", out / "model.safetensors", "--data", path)) == 0
    assert f"accuracy {accuracy:.4f}" in capsys.readouterr().out
    csv_file = tmp_path / "predicted.csv"
    words = command("predict", out / "model.safetensors", path, "--output", csv_file)
    assert main(words) == 0
    predicted = [int(row["label"]) for row in rows_of(csv_file)]
    np.testing.assert_array_equal(predicted, model.predict(X))


@pytest.mark.parametrize("n_classes", [2, 3])
def test_l1_is_that_of_the_estimator(n_classes: int, tmp_path: Path) -> None:
    X, y = problem(n_classes)
    train_set, _ = cs.data.split_dataset(cs.Dataset(X, y), 0.2, 0)
    path, out = write(tmp_path / "data.svm", X, y), tmp_path / "run"
    words = command(
        "train", "--data", path, "--l1-ratio", 0.6, "--C", 0.4, "--tol", "1e-8", "--out", out
    )
    assert main(words) == 0
    model = cs.SoftmaxRegression.load(out / "model.safetensors")
    best = SoftmaxClassifier(C=0.4, l1_ratio=0.6, tol=1e-9).fit(train_set.X, train_set.y)
    np.testing.assert_allclose(model.predict_proba(X), best.predict_proba(X), atol=1e-3)
    loaded = SoftmaxClassifier.load(out / "model.safetensors")
    assert (loaded.C, loaded.l1_ratio) == pytest.approx((0.4, 0.6))
    np.testing.assert_array_equal(loaded.selected_, best.selected_)
    # a fit goes on from the model: two classes have one row of weights there too
    again = command(
        "train", "--data", path, "--l1-ratio", 0.6, "--C", 0.4, "--tol", "1e-8", "--resume",
        out / "model.safetensors", "--out", tmp_path / "again",
    )  # fmt: skip
    assert main(again) == 0
    first = rows_of(tmp_path / "again" / "history.csv")[0]["objective"]
    assert first == pytest.approx(rows_of(out / "history.csv")[-1]["objective"], rel=1e-5)


def first_C(X: Any, y: Any) -> float:
    """Return 1 / the steepest slope of the summed losses at W = 0, over the training samples."""
    train, _ = cs.data.split_dataset(cs.Dataset(X, y), 0.2, seed=0)
    one_hot = np.eye(y.max() + 1)[train.y]
    slopes = train.X.toarray().T @ (one_hot.mean(axis=0) - one_hot)
    return float(1 / np.abs(slopes).max())


def test_the_sweep_counts_features_and_draws_them(tmp_path: Path, capsys: Any) -> None:
    X, y = problem()
    path, out = write(tmp_path / "data.svm", X, y), tmp_path / "run"
    assert main(command("train", "--data", path, "--l1-ratio", 1, "--sweep", 21, "--out", out)) == 0
    said, rows = capsys.readouterr().out, rows_of(out / "sweep.csv")
    ratios = np.divide(*(np.array([row["C"] for row in some]) for some in (rows[1:], rows[:-1])))
    assert ratios == pytest.approx(10 ** (4 / 20))
    assert rows[0]["C"] == pytest.approx(first_C(X, y), rel=1e-5)
    counted = [row["n_features"] for row in rows]
    assert counted == sorted(counted)
    assert counted[0] <= 1 < counted[-1]
    # it ends where the last two are worse than those before by loss and by accuracy
    losses, accuracies = ([row[f"validation_{n}"] for row in rows] for n in ("loss", "accuracy"))
    assert len(rows) < 21
    assert "the validation gets worse: larger C are left out" in said
    assert losses[-3] <= losses[-2] <= losses[-1]
    assert max(accuracies[-2:]) <= max(accuracies[:-2])
    assert (out / "sweep.png").stat().st_size > 10_000
    figure = plot.draw_sweep(rows)
    lines = [axes.lines[0].get_ydata() for axes in figure.axes]
    assert [axes.get_ylabel() for axes in figure.axes][2] == "features that have a weight"
    np.testing.assert_array_equal(lines[2], counted)
    # without L1 all features have weights, and there is nothing to tell
    same = [{**row, "n_features": 30.0} for row in rows]
    assert len(plot.draw_sweep(same).axes) == 2


def test_a_file_may_be_called_as_an_option(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("only.svm").write_text("")
    assert main(command("train", "--data", "only.svm")) == 2
    assert capsys.readouterr().err.startswith("csoftmax: error: only.svm: ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--l1-ratio", 1.5), "--l1-ratio is 1.5, expected a number from 0 to 1"),
        (("--l1-ratio", 0.5, "--solver", "sgd"), "--l1-ratio is for --solver lbfgs"),
        (("--l1-ratio", 0.5, "--C", "inf"), "--l1-ratio needs a finite --C"),
    ],
)
def test_l1_mistakes(words: Any, message: str, tmp_path: Path, capsys: Any) -> None:
    path = write(tmp_path / "data.svm", *problem())
    assert main(command("train", "--data", path, *words, "--out", tmp_path / "run")) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
