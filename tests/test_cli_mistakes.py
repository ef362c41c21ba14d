"""The command line's answers to mistakes: a user's are one line, our own a traceback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import command, subprocess_of

import csoftmax as cs
from csoftmax.cli import main


def assert_one_line(error: str, *parts: str) -> None:
    assert error.startswith("csoftmax: error: "), error
    assert error.endswith("\n"), error
    assert error.count("\n") == 1, error
    for part in parts:
        assert part in error


def mistakes(folder: Path, table: Path, model: Path) -> dict[str, tuple[list[object], list[str]]]:
    """Commands with a mistake each, and what the message must name."""
    (folder / "bad.csv").write_text("a,b,label\n1,2,x\n3,y\n")
    (folder / "bad.safetensors").write_bytes(b"not a model")
    (folder / "file").write_text("in the way")
    cs.SoftmaxRegression(784, 2, seed=0).save(folder / "pixels.safetensors")
    np.save(folder / "wide.npy", np.zeros((3, 5), np.float32))
    np.savez(folder / "wide.npz", X=np.zeros((4, 5), np.float32), y=[0, 1, 0, 1])
    np.savez(folder / "four.npz", X=np.zeros((8, 3), np.float32), y=[0, 1, 2, 3] * 2)
    train: list[object] = ["train", "--data", table, "--label-column", "kind"]
    train += ["--out", folder / "out", "--no-plots"]
    no_data = ["train", "--out", folder / "out", "--data"]
    return {
        "missing data": ([*no_data, folder / "nowhere"], ["nowhere: no such file"]),
        "bad file": ([*no_data, folder / "bad.csv"], ["bad.csv", "line 3"]),
        "unknown kind of file": ([*no_data, folder / "file"], ["file: expected .csv"]),
        "bad label column": ([*train, "--label-column", "colour"], ["label column 'colour'"]),
        "label column out of range": ([*train, "--label-column", "9"], ["label column '9', got"]),
        "test fraction": ([*train, "--test-fraction", "1.5"], ["test_fraction", "1.5"]),
        "epochs": ([*train, "--epochs", "0"], ["--epochs"]),
        "batch size": ([*train, "--batch-size", "-3"], ["--batch-size"]),
        "threads": ([*train, "--threads", "0"], ["--threads"]),
        "lr": ([*train, "--lr", "-0.5"], ["lr is -0.5"]),
        "lr of 0": ([*train, "--lr", "0"], ["lr is 0.0, expected a number > 0"]),
        "lr that is nan": ([*train, "--lr", "nan"], ["lr is nan"]),
        "lr that is no number": ([*train, "--lr", "fast"], ["--lr"]),
        "momentum": ([*train, "--momentum", "1"], ["momentum is 1.0"]),
        "nesterov alone": ([*train, "--nesterov"], ["nesterov", "momentum"]),
        "weight decay": ([*train, "--weight-decay", "-1"], ["weight_decay is -1.0"]),
        "dtype": ([*train, "--dtype", "float16"], ["--dtype"]),
        "dtype of a resumed model": (
            [*train, "--resume", model, "--dtype", "float64"],
            ["--dtype is float64 but the model holds float32"],
        ),
        "resume from nothing": ([*train, "--resume", folder / "no"], ["no: no such model file"]),
        "resume from a bad file": (
            [*train, "--resume", folder / "bad.safetensors"], ["bad.safetensors: expected"],
        ),
        "resume with other features": (
            [*no_data, folder / "wide.npz", "--resume", model],
            ["wide.npz has 5 features but the model has 3"],
        ),
        "resume with other classes": (
            [*no_data, folder / "four.npz", "--resume", model],
            ["four.npz: y: sample 3: class '3' is not one of the 3 known classes"],
        ),
        "out is a file": (
            [*train, "--out", folder / "file"], ["file: expected a folder, found a file"],
        ),
        "out below a file": ([*train, "--out", folder / "file" / "run"], ["run: Not a directory"]),
        "out that cannot be written": ([*train, "--out", "/proc/run"], ["/proc/run"]),
        "unknown option": ([*train, "--speed", "9"], ["No such option: --speed"]),
        "unknown command": (["trian"], ["No such command 'trian'"]),
        "other classes than Fashion-MNIST's": (
            ["evaluate", folder / "pixels.safetensors"], ["has 10 classes but the model has 2"],
        ),
        "bench against nothing": (["bench", "--compare", folder / "old"], ["old: No such file"]),
        "no model": (["evaluate"], ["Missing argument 'MODEL'"]),
        "evaluate nothing": (["evaluate", folder / "no"], ["no: no such model file"]),
        "evaluate other features": (
            ["evaluate", model, "--data", folder / "wide.npz"],
            ["wide.npz has 5 features but the model has 3"],
        ),
        "predict nothing": (["predict", model, folder / "no.csv"], ["no.csv: no such file"]),
        "predict other features": (
            ["predict", model, folder / "wide.npy"],
            ["wide.npy has 5 features but the model has 3"],
        ),
        "predict into nowhere": (
            ["predict", model, table, "--label-column", 0, "--output", folder / "no" / "x.csv"],
            ["no such folder, for the file x.csv"],
        ),
    }  # fmt: skip


def test_a_users_mistake_is_one_line_and_exit_code_2(
    table: Path, model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(cs, "fashion_mnist", cs.fashion_mnist_sample)
    for name, (words, parts) in mistakes(tmp_path, table, model_file).items():
        before = sorted(tmp_path.rglob("*"))
        assert main(command(*words)) == 2, name
        output, error = capsys.readouterr()
        assert output == "", name
        assert_one_line(error, *parts)
        assert [p for p in sorted(tmp_path.rglob("*")) if p not in before] in (
            [],
            [tmp_path / "out"],
        ), name


def test_a_mistake_as_a_program(tmp_path: Path) -> None:
    process = subprocess_of("train", "--data", tmp_path / "nowhere", "--out", tmp_path / "out")
    output, error = process.communicate(timeout=60)
    assert (process.returncode, output) == (2, "")
    assert_one_line(error, "nowhere: no such file")


def test_our_own_mistakes_keep_their_traceback(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any, **options: Any) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(cs, "train", broken)
    words = command("train", "--data", table, "--label-column", "kind", "--out", tmp_path / "r")
    with pytest.raises(ValueError, match="a bug"):
        main(words)
