"""The command line's answers to mistakes: a user's are one line, our own a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from commands import command, subprocess_of

import csoftmax as cs
from csoftmax.cli import main
from csoftmax.cli.program import COMMANDS, app


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
        "test fraction": ([*train, "--test-fraction", "1.5"], ["--test-fraction", "1.5"]),
        "lr": ([*train, "--lr", "-0.5"], ["--lr is -0.5, expected a number > 0"]),
        "lr of 0": ([*train, "--lr", "0"], ["--lr is 0.0, expected a number > 0"]),
        "lr that is nan": ([*train, "--lr", "nan"], ["--lr is nan, expected a finite number"]),
        "momentum": ([*train, "--momentum", "1"], ["--momentum is 1.0, expected a number in [0,"]),
        "nesterov alone": (
            [*train, "--nesterov"],
            ["--nesterov is given but --momentum is 0, expected --momentum > 0"],
        ),
        "weight decay": ([*train, "--weight-decay", "-1"], ["--weight-decay is -1.0, expected at"]),
        "encoding": ([*train, "--encoding", "klingon"], ["--encoding must be", "got 'klingon'"]),
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
        "other classes than Fashion-MNIST's": (
            ["evaluate", folder / "pixels.safetensors"], ["has 10 classes but the model has 2"],
        ),
        "bench against nothing": (["bench", "--compare", folder / "old"], ["old: No such file"]),
        "bench without measuring": (
            ["bench", "--from", folder / "old", "--rounds", "3"],
            ["--rounds and --from exclude each other: nothing is measured"],
        ),
        "bench of nothing": (["bench", "--only", "zzz"], ['--only is "zzz", expected the start']),
        "bench against nobody": (["bench", "--peers", "zzz"], ['--peers has "zzz", expected all']),
        "measurements into a folder": (
            ["bench", "--json", folder], [f"{folder}: expected a file, found a folder"],
        ),
        "chart of another kind": (
            ["bench", "--chart", folder / "x.txt"],
            ["x.txt, expected a name that ends with .png, .svg or .pdf"],
        ),
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


# what is typed, and the answer
USAGE = {
    "train --epochs 0": "--epochs is 0, expected an integer >= 1",
    "train --batch-size -3": "--batch-size is -3, expected an integer >= 1",
    "train --seed 1e3": "--seed is 1e3, expected an integer >= 0",
    "train --sweep 1": "--sweep is 1, expected an integer >= 2",
    "train --lr fast": "--lr is fast, expected a number",
    "train --C 0": "--C is 0, expected a number > 0",
    "train --dtype float16": "--dtype is float16, expected float32, float64 or uint8",
    "train --decimal ;": "--decimal is ';', expected . or ,",
    "train --labels numbers": "--labels is numbers, expected text",
    "train --solver": "--solver has no value, expected sgd or lbfgs",
    "train --max-iter": "--max-iter has no value, expected an integer >= 1",
    "train --data": "--data has no value, expected a path",
    "train --no-header=yes": "--no-header takes no value",
    "train --help=me": "--help takes no value",
    "evaluate": "MODEL is missing, expected csoftmax evaluate [OPTIONS] MODEL",
    "predict model": "FILE is missing, expected csoftmax predict [OPTIONS] MODEL FILE",
    "predict a b c": "c has no place here, expected csoftmax predict [OPTIONS] MODEL FILE",
    "train a.csv": "a.csv has no place here, expected csoftmax train [OPTIONS]; data are given by "
    "--data",
    "train --epoch 3": "csoftmax train has no option --epoch; did you mean --epochs?",
    "train --spleed 3": "csoftmax train has no option --spleed; did you mean --seed?",
    "train --label 3": "csoftmax train has no option --label; did you mean --label-column, "
    "--labels or --label-files?",
    "train -q": "csoftmax train has no option -q; did you mean --quiet?",
    "info --zzz": "csoftmax info has no option --zzz; csoftmax info --help lists its options",
    "trian": "csoftmax has no command trian; did you mean train?",
    "zzz": "csoftmax has no command zzz, expected train, evaluate, predict, app, bench or info",
    "--verison": "csoftmax has no option --verison; did you mean --version?",
    "--epochs 3 train": "csoftmax has no option --epochs; expected a command before it: train, "
    "evaluate, predict, app, bench or info",
    "--": "expected a command: csoftmax train, evaluate, predict, app, bench or info",
}


@pytest.mark.parametrize(("words", "answer"), USAGE.items())
def test_a_wrong_command_line_is_answered_in_our_words(
    words: str, answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 2
    assert capsys.readouterr() == ("", f"csoftmax: error: {answer}\n")


def wrong_words(option: click.Option) -> Iterator[tuple[list[str], str]]:
    """Words that are wrong for an option, and what the answer must say."""
    name, kind = option.opts[0], option.type
    if option.is_flag:
        yield [f"{name}=yes"], f"{name} takes no value"
        return
    yield [name], f"{name} has no value, expected "
    if isinstance(kind, click.Path):
        yield [name, ""], f"{name} is '', expected a path"
    elif isinstance(kind, click.Choice):
        expected = " or ".join(", ".join(kind.choices).rsplit(", ", 1))
        yield [name, "zzz"], f"{name} is zzz, expected {expected}"
    elif kind is not click.STRING:
        yield [name, "many"], f"{name} is many, expected a"
        if isinstance(kind, click.IntRange):
            assert kind.min is not None
            for value in ("0.5", "", f"{kind.min - 1:g}"):
                yield [name, value], f"{name} is {value or repr('')}, expected an integer >= "


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_refuses_what_it_cannot_take(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    context = click.Context(app)
    subcommand = app.get_command(context, name)
    assert subcommand is not None
    options = [p for p in subcommand.get_params(context) if isinstance(p, click.Option)]
    assert options
    for option in options:
        for words, answer in wrong_words(option):
            assert main([name, *words]) == 2, words
            output, error = capsys.readouterr()
            assert output == ""
            assert_one_line(error, answer)


@pytest.mark.parametrize(
    ("words", "answer"),
    [(["evaluate", ""], "MODEL is '', expected a path"), ([""], "csoftmax has no command '', exp")],
)
def test_a_shells_variable_that_is_not_set_is_seen(
    words: list[str], answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert_one_line(capsys.readouterr().err, answer)


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
