"""`train` on the command line: what it prints, writes and warns of."""

from __future__ import annotations

import csv
import io
import os
import sys
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from commands import RESULTS, SAMPLE, command, subprocess_of

import csoftmax as cs
from csoftmax import data
from csoftmax.cli import main

PICTURES = {"curves.png", "confusion.png"}
IMAGE_PICTURES = {"predictions.png", "weights.png"}


def assert_shows_something(path: Path) -> None:
    pixels = matplotlib.image.imread(path)[..., :3]
    assert pixels.shape[0] > 200
    assert pixels.shape[1] > 200
    assert pixels.std() > 0.02


def test_train_as_a_program_on_the_sample(tmp_path: Path) -> None:
    process = subprocess_of("train", "--data", SAMPLE, "--epochs", 2, cwd=tmp_path)
    output, error = process.communicate(timeout=120)
    assert (process.returncode, error) == (0, "")  # no progress bar into a pipe
    lines = output.splitlines()
    assert "6,000 x 784, 10 classes" in lines[0]
    head = "epoch  train loss  train accuracy  test accuracy  seconds      images/s"
    assert lines[1].strip() == head
    assert [line.split()[0] for line in lines[2:4]] == ["1/2", "2/2"]
    assert lines[4].endswith("results are in csoftmax-run/")
    folder = tmp_path / "csoftmax-run"
    assert {p.name for p in folder.iterdir()} == RESULTS | PICTURES | IMAGE_PICTURES
    for name in PICTURES | IMAGE_PICTURES:
        assert_shows_something(folder / name)
    model = cs.SoftmaxRegression.load(folder / "model.safetensors")
    test = data.read(SAMPLE)[1]
    accuracy = cs.evaluate(model, test).accuracy
    assert lines[4].startswith(f"test accuracy {accuracy:.4f};")
    with open(folder / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[1]["validation_accuracy"]) == accuracy > 0.6
    assert f"{float(rows[1]['train_loss']):.4f}" == lines[3].split()[1]


def test_train_without_data_uses_the_whole_set(
    fashion_mnist: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(cs, "fashion_mnist", lambda: fashion_mnist)
    words = command("train", "--epochs", 1, "--out", tmp_path / "run", "--no-plots")
    assert main(words) == 0
    output, error = capsys.readouterr()
    first = output.splitlines()[0]
    assert first.startswith(f"train on {fashion_mnist[0].name} of {os.sep}")  # the place
    assert f": {len(fashion_mnist[0]):,} x 784" in first
    assert error == ""


def test_train_without_the_whole_set_says_so_and_uses_the_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from csoftmax.data.sets import fashion

    monkeypatch.setenv("CSOFTMAX_OFFLINE", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CSOFTMAX_DATA_HOME", raising=False)
    monkeypatch.setattr(fashion, "SYSTEM_FOLDER", tmp_path / "nothing")
    assert main(command("train", "--epochs", 1, "--out", tmp_path / "run", "--no-plots")) == 0
    output = capsys.readouterr().out
    assert "Fashion-MNIST was not found" in output
    assert "apt install dataset-fashion-mnist" in output
    assert "CSOFTMAX_DATA_HOME" in output
    assert "sample" in output
    assert "6,000 x 784" in output


def test_train_on_a_table_leaves_image_pictures_out_and_says_why(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a" / "run"
    words = command("train", "--data", table, "--label-column", 0, "--out", out, "--epochs", 20)
    assert main(words) == 0
    output, error = capsys.readouterr()
    assert error == ""
    assert "predictions.png and weights.png are left out: the samples are not images" in output
    assert "samples/s" in output
    assert "160 x 3, 3 classes" in output
    assert {p.name for p in out.iterdir()} == RESULTS | PICTURES
    model = cs.SoftmaxRegression.load(out / "model.safetensors")
    assert model.class_names == ("ant", "bee", "cat")
    assert float(output.split("test accuracy ")[-1].split(";")[0]) > 0.9


def test_few_steps_are_told(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = command("train", "--data", table, "--label-column", "kind", "--out", tmp_path / "run")
    tried = (
        (["--epochs", "7"], True),
        (["--batch-size", "8"], False),
        (["--epochs", "100"], False),
    )
    for options, told in tried:
        assert main([*words, "--no-plots", *options]) == 0
        output = capsys.readouterr().out
        assert ("only 7 steps of gradient descent: --solver lbfgs goes" in output) == told
        assert ("steps of gradient descent" in output) == told


def test_options_reach_the_training(table: Path, tmp_path: Path) -> None:
    options = command(
        "--label-column", "kind", "--test-fraction", 0.25, "--epochs", 3, "--batch-size", 10,
        "--lr", 0.05, "--momentum", 0.9, "--nesterov", "--weight-decay", 0.01, "--seed", 7,
        "--threads", 1, "--dtype", "float64", "--quiet", "--no-plots",
    )  # fmt: skip
    assert main([*command("train", "--data", table, "--out", tmp_path / "run"), *options]) == 0
    train, test = cs.read(table, label_column="kind", test_fraction=0.25, seed=7, dtype="float64")
    model = cs.SoftmaxRegression(3, 3, seed=7, dtype="float64")
    history = cs.train(
        model, cs.DataLoader.from_dataset(train, 10, shuffle=True, seed=7), validation=test,
        epochs=3, optimizer=cs.SGD(0.05, 0.9, True, 0.01), progress=False,
    )  # fmt: skip
    trained = cs.SoftmaxRegression.load(tmp_path / "run" / "model.safetensors")
    np.testing.assert_array_equal(trained.W, model.W)
    np.testing.assert_array_equal(trained.b, model.b)
    with open(tmp_path / "run" / "history.csv", newline="") as file:
        losses = [float(row["validation_loss"]) for row in csv.DictReader(file)]
    assert losses == history.validation_loss


def test_quiet_prints_only_the_last_line(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = command("train", "--data", table, "--label-column", "kind", "--out", tmp_path / "r")
    assert main([*words, "--quiet"]) == 0
    output, error = capsys.readouterr()
    assert output.startswith("test accuracy ")
    assert output.endswith("results are in " + str(tmp_path / "r") + os.sep + "\n")
    assert output.count("\n") == 1
    assert error == ""
    assert {p.name for p in (tmp_path / "r").iterdir()} == RESULTS | PICTURES


def test_resume_goes_on_from_the_model(
    table: Path, model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = command("train", "--data", table, "--label-column", "kind", "--out", tmp_path / "again")
    assert main([*words, "--epochs", "1", "--resume", str(model_file), "--no-plots"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("integers count the model's classes: 0 is ant, 1 is bee, 2 is cat")
    resumed = float(lines[4].split()[1])
    assert main([*words, "--epochs", "1", "--no-plots"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "features: a, b, c; classes: ant, bee, cat"
    anew = float(lines[3].split()[1])
    assert resumed < 0.9 * anew


def test_a_table_of_pixels_is_scaled_as_images_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, _ = cs.fashion_mnist_sample()
    rows = np.column_stack([images.y[:500], images.X[:500].reshape(500, -1)])
    path = tmp_path / "pixels.csv"
    header = ",".join(["label", *(f"pixel{j}" for j in range(784))])
    np.savetxt(path, rows, fmt="%d", delimiter=",", header=header, comments="")
    out = tmp_path / "run"
    words = command("train", "--data", path, "--out", out, "--epochs", 5, "--no-plots")
    assert main([*words, "--dtype", "uint8"]) == 0
    model = cs.SoftmaxRegression.load(out / "model.safetensors")
    assert model.scale == pytest.approx(1 / 255)
    assert model.dtype == np.float32
    assert main(command("evaluate", out / "model.safetensors", "--data", path)) == 0
    expected = cs.evaluate(model, (images.X[:500], images.y[:500]))
    capsys_out = capsys.readouterr()
    assert f"accuracy {expected.accuracy:.4f}, 500 samples" in capsys_out.out
    assert capsys_out.err == ""
    assert main(words) == 0  # without --dtype the same pixels are far too large for lr 0.1
    warning = capsys.readouterr().err
    assert warning.startswith("csoftmax: warning: training diverged")
    assert "--dtype uint8" in warning


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:invalid:RuntimeWarning")
def test_training_that_ends_in_nan_stops_early_and_warns(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = command("train", "--data", table, "--label-column", "kind", "--out", out)
    options = command("--lr", 1e30, "--weight-decay", 1, "--epochs", 50, "--batch-size", 8)
    assert main([*words, *options]) == 0
    output, error = capsys.readouterr()
    assert "50/50" not in output
    assert error.count("\n") == 1
    assert error.startswith("csoftmax: warning: training diverged: the loss is nan nats")
    assert "smaller --lr (it was 1e+30)" in error
    assert_shows_something(out / "curves.png")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("quiet", [False, True])
def test_the_progress_bar_is_for_terminals(
    quiet: bool, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    words = command("train", "--data", table, "--label-column", "kind", "--out", tmp_path / "r")
    assert main([*words, "--no-plots", *(["--quiet"] if quiet else [])]) == 0
    assert ("epoch/s" in terminal.getvalue() or "s/epoch" in terminal.getvalue()) != quiet
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == (1 if quiet else 15)
