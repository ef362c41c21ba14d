"""What a run leaves in its folder, and which models and samples the commands refuse or warn of."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import command

import csoftmax as cs
from csoftmax import data
from csoftmax.cli import main

ALL = {
    "model.safetensors", "history.csv", "sweep.csv", "curves.png", "sweep.png", "confusion.png",
    "predictions.png", "weights.png",
}  # fmt: skip


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (["--no-plots"], {"model.safetensors", "history.csv"}),
        (["--solver", "lbfgs", "--no-plots"], {"model.safetensors", "history.csv"}),
        (["--sweep", "2", "--no-plots"], {"model.safetensors", "history.csv", "sweep.csv"}),
        (["--epochs", "1"], {"model.safetensors", "history.csv", "curves.png", "confusion.png"}),
    ],
)
def test_nothing_of_an_earlier_run_stays(
    options: list[str], left: set[str], table: Path, tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "run"
    out.mkdir()
    for name in (*ALL, "notes.txt"):
        (out / name).write_text("of an earlier run")
    words = command("train", "--data", table, "--label-column", "kind", "--out", out)
    assert main([*words, "--lr", "-1"]) == 2  # a refusal leaves all as it was
    assert {path.read_text() for path in out.iterdir()} == {"of an earlier run"}
    assert {path.name for path in out.iterdir()} == {*ALL, "notes.txt"}
    capsys.readouterr()
    assert main([*words, *options]) == 0
    assert f"the results of an earlier run in {out} are replaced" in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {*left, "notes.txt"}
    assert (out / "notes.txt").read_text() == "of an earlier run"
    for name in left:
        assert not (out / name).read_bytes().startswith(b"of an earlier run")


def test_files_where_no_run_was_are_somebody_elses(table: Path, tmp_path: Path) -> None:
    (tmp_path / "sweep.png").write_text("not ours")
    words = command("train", "--data", table, "--label-column", "kind", "--out", tmp_path)
    for left in (True, False):  # the second run finds a model, and its folder is one of results
        assert main([*words, "--no-plots"]) == 0
        assert (tmp_path / "sweep.png").exists() == left


def test_predictions_do_not_replace_what_they_are_made_of(
    table: Path, model_file: Path, capsys: Any
) -> None:
    before = table.read_bytes(), model_file.read_bytes()
    for output in (table, model_file, table.parent / "." / table.name):
        assert main(command("predict", model_file, table, "--output", output)) == 2
        assert "which is read: expected another file" in capsys.readouterr().err
    assert (table.read_bytes(), model_file.read_bytes()) == before


def test_options_without_effect_are_refused(
    table: Path, model_file: Path, tmp_path: Path, capsys: Any
) -> None:
    X, y = np.eye(4), [0, 1, 0, 1]
    arrays = tmp_path / "d.npz"
    np.savez(arrays, X=X, y=y, X_test=X, y_test=y)
    train, evaluate = command("train", "--out", tmp_path / "no"), command("evaluate", model_file)
    for words, message in (
        ([*train, "--labels", "text"], "--labels is for a table: give one with --data"),
        ([*evaluate, "--no-header"], "--no-header is for a table: give one with --data"),
        ([*train, *command("--data", arrays, "--header")], f"--header is for tables, but {arrays}"),
        ([*evaluate, *command("--data", arrays, "--label-column", 0)], "--label-column is for tab"),
        (command("predict", model_file, arrays, "--encoding", "cp1252"), "--encoding is for tab"),
        ([*train, *command("--data", arrays, "--test-fraction", 0.5)], "--test-fraction has no"),
        ([*train, "--test-fraction", "0.5"], "--test-fraction has no effect: Fashion-MNIST has a"),
        ([*train, *command("--data", arrays, "--dtype", "uint8")], "--dtype is uint8 but "),
    ):  # fmt: skip
        assert main(words) == 2, words
        output, error = capsys.readouterr()
        assert output == ""
        assert error.startswith(f"csoftmax: error: {message}")
        assert error.count("\n") == 1
    assert not (tmp_path / "no").exists()


def test_an_interrupted_run_takes_the_old_pictures_away(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    out.mkdir()
    for name in ("confusion.png", "model.safetensors"):
        (out / name).write_text("of an earlier run")
    evaluate, calls = cs.training.evaluate_epoch, []

    def interrupted(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return evaluate(*args)

    monkeypatch.setattr(cs.training, "evaluate_epoch", interrupted)
    words = command("train", "--data", table, "--label-column", "kind", "--out", out)
    assert main(words) == 130
    assert {path.name for path in out.iterdir()} == {"model.safetensors", "history.csv"}
    assert cs.SoftmaxRegression.load(out / "model.safetensors").trained_with["epochs"] == 2


@pytest.mark.parametrize(
    "program",
    [["-m", "csoftmax"], ["-X", "utf8", "-mcsoftmax"], ["-m", "csoftmax.bench"], ["csoftmax"]],
)
def test_an_instruction_set_that_is_not_there_is_one_line(
    program: list[str], tmp_path: Path
) -> None:
    """All entries; the console script as pip writes it."""
    script = tmp_path / "csoftmax"
    script.write_text("import sys\nfrom csoftmax.cli import main\nsys.exit(main())\n")
    words = program if program[0].startswith("-") else [str(script)]
    home = str(Path(cs.__file__).parents[1])
    env = os.environ | {"CSOFTMAX_ISA": "avx3", "PYTHONPATH": home}
    result = subprocess.run(
        [sys.executable, *words, "info"], env=env, capture_output=True, text=True
    )
    assert result.returncode == 2
    assert result.stdout == ""
    start = "csoftmax: error: environment variable CSOFTMAX_ISA: instruction set 'avx3' is not"
    assert result.stderr.startswith(start)
    assert "expected one of (" in result.stderr
    assert result.stderr.count("\n") == 1


def test_in_a_program_it_is_an_exception() -> None:
    code = "try:\n    import csoftmax\nexcept ImportError as error:\n    print(error)"
    env = os.environ | {"CSOFTMAX_ISA": "avx3", "PYTHONPATH": str(Path(cs.__file__).parents[1])}
    result = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert "CSOFTMAX_ISA" in result.stdout


# ---- models and samples that do not go together ------------------------------------------------


def test_a_model_that_diverged_is_refused(table: Path, tmp_path: Path, capsys: Any) -> None:
    model = cs.SoftmaxRegression(3, 3, class_names=["ant", "bee", "cat"])
    model.b = [0, -np.inf, 0]  # a class that is ruled out
    model.save(tmp_path / "m")
    words = command("--label-column", "kind")
    assert main([*command("predict", tmp_path / "m", table), *words]) == 0
    model.W[0, 0] = np.nan
    model.save(tmp_path / "m")
    capsys.readouterr()
    data_words = command("--data", table)
    for each in (
        command("predict", tmp_path / "m", table),
        command("evaluate", tmp_path / "m", *data_words),
        command("train", "--resume", tmp_path / "m", *data_words),
    ):
        assert main([*each, *words]) == 2
        output, error = capsys.readouterr()
        assert output == ""
        assert "expected finite weights, got NaN or infinity: the training of this" in error


def test_pixels_of_another_kind_are_told(tmp_path: Path, capsys: Any) -> None:
    rng = np.random.default_rng(0)
    pixels, y = rng.integers(0, 256, (60, 4), dtype=np.uint8), np.arange(60) % 2
    pixels[:, 0] = 250 * y
    kinds = {"bytes": pixels, "shares": (pixels / 255).astype(np.float32)}
    kinds["raw"] = pixels.astype(np.float32)
    for name, X in kinds.items():
        np.savez(tmp_path / f"{name}.npz", X=X, y=y)
    models = {}
    for name in ("bytes", "shares"):
        out = tmp_path / name
        words = command("train", "--data", tmp_path / f"{name}.npz", "--out", out, "--quiet")
        assert main([*words, "--no-plots", "--solver", "lbfgs"]) == 0
        models[name] = out / "model.safetensors"
    capsys.readouterr()

    def predicted(model: str, samples: str) -> tuple[list[str], str]:
        assert main(command("predict", models[model], tmp_path / f"{samples}.npz")) == 0
        output, error = capsys.readouterr()
        words = command("evaluate", models[model], "--data", tmp_path / f"{samples}.npz")
        assert main(words) == 0
        assert capsys.readouterr().err == error
        return [line.split(",")[0] for line in output.splitlines()[1:]], error

    right = list(map(str, y))
    assert predicted("bytes", "bytes") == (right, "")
    assert predicted("bytes", "shares") == (right, "")
    assert predicted("shares", "shares") == (right, "")
    labels, error = predicted("bytes", "raw")
    assert "raw.npz: floats from 0 to 255, but the model was trained on pixels" in error
    labels, error = predicted("shares", "bytes")
    assert labels == right  # scaled as `evaluate` scales them
    assert "bytes.npz: pixels 0..255 are scaled to 0..1, but the model was trained on" in error


def test_a_test_set_of_another_kind_is_told(tmp_path: Path, capsys: Any) -> None:
    X, y = np.random.default_rng(0).integers(0, 256, (20, 3), dtype=np.uint8), np.arange(20) % 2
    words = command("train", "--data", tmp_path / "d.npz", "--out", tmp_path, "--no-plots")
    for X_test, told in ((X.astype(np.float32), True), (X / 255, False), (X, False)):
        np.savez(tmp_path / "d.npz", X=X, y=y, X_test=X_test, y_test=y)
        assert main(words) == 0
        assert ("the test set of" in capsys.readouterr().err) == told


def test_resume_goes_by_the_names_of_the_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Fashion-MNIST, for a model that has its classes in another order."""
    train, test = (
        replace(part, X=part.X[:300], y=part.y[:300]) for part in data.fashion_mnist_sample()
    )
    monkeypatch.setattr(cs, "fashion_mnist_sample", lambda: (train, test))

    def nothing() -> Any:
        raise cs.DataNotFoundError("none")

    monkeypatch.setattr(cs, "fashion_mnist", nothing)
    names = sorted(train.class_names)
    y = np.array([names.index(name) for name in train.class_names])[train.y]
    model = cs.SoftmaxRegression(784, 10, seed=0, class_names=names)
    numbered = cs.Dataset(train.X, y, 1 / 255, names)
    loader = cs.DataLoader.from_dataset(numbered, 64, shuffle=True, seed=0)
    cs.train(model, loader, epochs=10, progress=False)
    model.save(tmp_path / "m")
    accuracy = cs.evaluate(model, train).accuracy
    assert accuracy > 0.6
    for options in (["--epochs", "1", "--lr", "1e-9"], ["--solver", "lbfgs", "--max-iter", "20"]):
        out = tmp_path / "run"
        words = command("train", "--resume", tmp_path / "m", "--out", out, "--no-plots", "--quiet")
        assert main([*words, *options]) == 0
        resumed = cs.SoftmaxRegression.load(out / "model.safetensors")
        assert resumed.class_names == tuple(names)
        assert cs.evaluate(resumed, train).accuracy >= accuracy - 0.01
