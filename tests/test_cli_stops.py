"""How the command line stops: Ctrl-C, and a pipe that closes."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import RESULTS, SAMPLE, command, subprocess_of

import csoftmax as cs
from csoftmax import data, training
from csoftmax.cli import main
from csoftmax.cli.sgd import SgdTraining


def test_ctrl_c_keeps_the_last_finished_epoch(tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = subprocess_of(
        "train", "--data", SAMPLE, "--epochs", 1_000_000, "--batch-size", 16, "--out", out
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.split()[0] == "2/1000000":
            break
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)  # of weeks that were left
    assert process.returncode == 130
    assert error.count("\n") == 1
    epoch = int(error.split("the model after epoch ")[1].split()[0])
    assert epoch >= 2
    assert error.endswith(f"is saved in {out / 'model.safetensors'}\n")
    assert {p.name for p in out.iterdir()} == RESULTS
    with open(out / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert int(rows[-1]["epoch"]) == epoch
    model = cs.SoftmaxRegression.load(out / "model.safetensors")
    accuracy = cs.evaluate(model, data.read(SAMPLE)[1]).accuracy
    assert accuracy == float(rows[-1]["validation_accuracy"])


@pytest.mark.parametrize("where", ["training", "drawing"])
def test_ctrl_c_at_other_times(
    where: str, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def interrupt(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "run"
    if where == "training":
        monkeypatch.setattr(cs, "train", interrupt)
    else:
        monkeypatch.setattr(SgdTraining, "_draw", interrupt)
    words = command("train", "--data", table, "--label-column", "kind", "--out", out)
    assert main(words) == 130
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    if where == "training":
        assert error == (
            "csoftmax: interrupted before the end of the first epoch: nothing was saved\n"
        )
        assert list(out.iterdir()) == []
    else:
        assert "the model after epoch 10 is saved in" in error
        assert {p.name for p in out.iterdir()} == RESULTS


def test_an_epoch_that_was_interrupted_is_not_in_the_history(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    validate, calls = training.evaluate_epoch, []

    def interrupted(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 4:  # while it tests the fourth epoch
            raise KeyboardInterrupt
        return validate(*arguments)

    monkeypatch.setattr(training, "evaluate_epoch", interrupted)
    out = tmp_path / "run"
    assert main(command("train", "--data", table, "--label-column", 0, "--out", out)) == 130
    assert len((out / "history.csv").read_text().splitlines()) == 4


def test_ctrl_c_elsewhere_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cs, "info", interrupt)
    assert main(["info"]) == 130
    assert capsys.readouterr().err == "csoftmax: interrupted\n"


def test_predict_into_a_pipe_that_closes_is_silent(tmp_path: Path) -> None:
    cs.SoftmaxRegression(2, 2, seed=0).save(tmp_path / "m.safetensors")
    np.save(tmp_path / "X.npy", np.zeros((100_000, 2), np.float32))
    process = subprocess_of("predict", tmp_path / "m.safetensors", tmp_path / "X.npy")
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "label,probability\n"
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=60) == 1


def test_training_into_a_pipe_that_closes_keeps_its_results(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ("train", "--data", SAMPLE, "--epochs", 60, "--no-plots", "--out", out)
    process = subprocess_of(*words)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().startswith("train on ")
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=60) == 0
    assert {p.name for p in out.iterdir()} == RESULTS
    assert len((out / "history.csv").read_text().splitlines()) == 61


def test_a_pipe_that_closed_before_the_last_flush_is_silent_too() -> None:
    code = (
        "import os, sys\n"
        "from csoftmax.cli import main\n"
        "read, write = os.pipe(); os.dup2(write, 1); os.close(write); os.close(read)\n"
        "sys.exit(main(['info']))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (1, "")
