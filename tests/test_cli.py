"""The command line: what it prints, writes and answers to mistakes, and how it stops."""

from __future__ import annotations

import csv
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

import csoftmax as cs
from csoftmax import cli, data
from csoftmax.cli import main

SAMPLE = data.sample_folder()
PICTURES = {"curves.png", "confusion.png"}
IMAGE_PICTURES = {"predictions.png", "weights.png"}
RESULTS = {"model.safetensors", "history.csv"}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """200 samples of three classes that a line can part, with string labels."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 200)
    X = np.eye(3)[y] * 2 + 0.3 * rng.normal(size=(200, 3))
    lines = ["kind,a,b,c"]
    lines += [
        f"{('ant', 'bee', 'cat')[k]},{','.join(map(str, x))}" for k, x in zip(y, X, strict=True)
    ]
    path = tmp_path / "insects.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def model_file(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    run = tmp_path / "model-run"
    command = ["train", "--data", table, "--label-column", "kind", "--out", run, "--no-plots"]
    assert main([str(word) for word in command]) == 0
    capsys.readouterr()
    return run / "model.safetensors"


def command(*words: object) -> list[str]:
    return [str(word) for word in words]


def subprocess_of(*words: object, **options: Any) -> subprocess.Popen[str]:
    # The program under test is the package under test, wherever the process starts.
    home = str(Path(cs.__file__).parents[1])
    path = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
    options["env"] = os.environ | {"PYTHONPATH": path}
    return subprocess.Popen(
        command(sys.executable, "-m", "csoftmax", *words),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


def assert_shows_something(path: Path) -> None:
    pixels = matplotlib.image.imread(path)[..., :3]
    assert pixels.shape[0] > 200
    assert pixels.shape[1] > 200
    assert pixels.std() > 0.02


def assert_one_line(error: str, *parts: str) -> None:
    assert error.startswith("csoftmax: error: "), error
    assert error.endswith("\n"), error
    assert error.count("\n") == 1, error
    for part in parts:
        assert part in error


# --- train ---------------------------------------------------------------------------------------


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
    from csoftmax.data import fashion

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
    resumed = float(lines[3].split()[1])
    assert main([*words, "--epochs", "1", "--no-plots"]) == 0
    anew = float(capsys.readouterr().out.splitlines()[2].split()[1])
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
    assert len(lines) == (1 if quiet else 13)


# --- Ctrl-C --------------------------------------------------------------------------------------


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
    started = time.monotonic()
    _, error = process.communicate(timeout=60)
    seconds = time.monotonic() - started
    assert process.returncode == 130
    assert seconds < 10  # far below the weeks that were left; the promise of one is for idle CPUs
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
        monkeypatch.setattr(cli, "draw_results", interrupt)
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
    real_train = cs.train

    def train(*arguments: Any, **options: Any) -> Any:
        history = real_train(*arguments, **(options | {"epochs": 3}))
        history.train_loss.append(0.1)  # as if stopped while it tested the fourth epoch
        raise KeyboardInterrupt

    monkeypatch.setattr(cs, "train", train)
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


# --- evaluate, predict, info, bench --------------------------------------------------------------


def test_evaluate_prints_the_table_of_the_metrics(
    table: Path, model_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = command("evaluate", model_file, "--data", table, "--label-column", "kind")
    assert main([*words, "--threads", "1"]) == 0
    output = capsys.readouterr().out
    model = cs.SoftmaxRegression.load(model_file)
    whole, _ = data.read_parts(table, label_column="kind")
    assert output.endswith(f"{cs.evaluate(model, whole)}\n")
    assert "200 x 3" in output


def test_evaluate_uses_the_test_set_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.safetensors"
    cs.SoftmaxRegression(784, 10, scale=1 / 255, seed=0).save(path)
    assert main(command("evaluate", path, "--data", SAMPLE)) == 0
    with_data = capsys.readouterr().out
    assert "1000 samples" in with_data
    monkeypatch.setattr(cs, "fashion_mnist", cs.fashion_mnist_sample)
    assert main(command("evaluate", path)) == 0
    assert capsys.readouterr().out.splitlines()[-1] == with_data.splitlines()[-1]


@pytest.mark.parametrize("labelled", [True, False])
def test_predict_writes_label_and_probability_of_each_row(
    labelled: bool, table: Path, model_file: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    whole, _ = data.read_parts(table, label_column="kind")
    path, options = table, ["--label-column", "kind"]
    if not labelled:
        path, options = tmp_path / "X.npy", []
        np.save(path, whole.X)
    assert main([*command("predict", model_file, path), *options]) == 0
    output, error = capsys.readouterr()
    assert error == ""
    model = cs.SoftmaxRegression.load(model_file)
    rows = list(csv.reader(io.StringIO(output)))
    assert rows[0] == ["label", "probability"]
    assert [row[0] for row in rows[1:]] == [model.class_names[k] for k in model.predict(whole.X)]
    probabilities = np.array([float(row[1]) for row in rows[1:]])
    np.testing.assert_allclose(probabilities, model(whole.X).max(axis=1), atol=1e-6)
    written = tmp_path / "predictions.csv"
    assert main([*command("predict", model_file, path, "--output", written), *options]) == 0
    assert written.read_text() == output
    assert capsys.readouterr().out == ""


def test_predict_quotes_names_and_writes_to_devices(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = cs.SoftmaxRegression(2, 2, seed=0, class_names=['a,"b"', "衬衫"])
    model.b = [9.0, 0.0]
    model.save(tmp_path / "m.safetensors")
    np.save(tmp_path / "X.npy", np.zeros((9000, 2), np.float32))
    words = command("predict", tmp_path / "m.safetensors", tmp_path / "X.npy")
    assert main(words) == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 9001
    assert rows[-1][0] == 'a,"b"'
    assert main([*words, "--output", os.devnull]) == 0
    assert not Path(os.devnull).is_file()


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


def test_a_pipe_that_closed_before_the_last_flush_is_silent_too() -> None:
    code = (
        "import os, sys\n"
        "from csoftmax.cli import main\n"
        "read, write = os.pipe(); os.dup2(write, 1); os.close(write); os.close(read)\n"
        "sys.exit(main(['info']))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (1, "")


def test_info_prints_all_facts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    output = capsys.readouterr().out
    facts = cs.info()
    for place in facts.pop("dataset locations"):
        assert place["where"] in output
        assert place["detail"] in output
    for name, value in facts.items():
        text = ", ".join(value) if isinstance(value, list) else str(value)
        assert f"{name} " in output
        assert text in output


def test_bench_passes_its_options_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from csoftmax import bench

    calls: list[bench.Options] = []
    monkeypatch.setattr(bench, "main", calls.append)
    json, chart = tmp_path / "new" / "b.json", tmp_path / "c.png"
    words = command(
        "bench", "--only", "epoch", "--peers", "none", "--rounds", 2, "--quick",
        "--json", json, "--chart", chart,
    )  # fmt: skip
    assert main(words) == 0
    (options,) = calls
    assert (options.only, options.peers, options.rounds) == ("epoch", "none", 2)
    assert (options.quick, options.goals) == (True, False)
    assert (options.json, options.chart) == (json, chart)
    assert json.parent.is_dir()  # found writable before the measuring, not after it


# --- help and mistakes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [
        (
            "train",
            "data label-column test-fraction solver C sweep tol max-iter epochs batch-size lr "
            "momentum nesterov weight-decay seed threads dtype resume out quiet no-plots",
        ),
        ("evaluate", "data label-column threads"),
        ("predict", "output label-column threads"),
        ("bench", "only peers rounds quick solver long goals json chart compare readme from"),
        ("info", ""),
    ],
)
def test_help_explains_every_option_and_its_default(
    name: str, options: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    sections = text.split("\n  --")[1:]
    assert [section.split()[0] for section in sections] == [*options.split(), "help"]
    for section in sections[:-1]:
        assert "[default: " in " ".join(section.split()), section


@pytest.mark.parametrize("words", [[], ["--help"]])
def test_the_program_introduces_its_commands(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["csoftmax", *words])
    assert main() == 0
    output = capsys.readouterr().out
    for name in ("train", "evaluate", "predict", "bench", "info"):
        assert f"\n  {name} " in output


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
        "bad label column": ([*train, "--label-column", "colour"], ["colour"]),
        "label column out of range": ([*train, "--label-column", "9"], ["9"]),
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
            [*no_data, folder / "wide.npz", "--resume", model], ["wide.npz has 5 features", "3"],
        ),
        "resume with other classes": (
            [*no_data, folder / "four.npz", "--resume", model], ["3"],
        ),
        "out is a file": (
            [*train, "--out", folder / "file"], ["file: expected a folder, found a file"],
        ),
        "out below a file": ([*train, "--out", folder / "file" / "run"], ["file"]),
        "out that cannot be written": ([*train, "--out", "/proc/run"], ["/proc/run"]),
        "unknown option": ([*train, "--speed", "9"], ["--speed"]),
        "unknown command": (["trian"], ["trian"]),
        "other classes than Fashion-MNIST's": (
            ["evaluate", folder / "pixels.safetensors"], ["has 10 classes but the model has 2"],
        ),
        "bench against nothing": (["bench", "--compare", folder / "old.json"], ["old.json"]),
        "no model": (["evaluate"], ["MODEL"]),
        "evaluate nothing": (["evaluate", folder / "no"], ["no: no such model file"]),
        "evaluate other features": (
            ["evaluate", model, "--data", folder / "wide.npz"], ["wide.npz has 5 features", "3"],
        ),
        "predict nothing": (["predict", model, folder / "no.csv"], ["no.csv: no such file"]),
        "predict other features": (
            ["predict", model, folder / "wide.npy"], ["wide.npy has 5 features", "3"],
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


def test_starting_imports_neither_matplotlib_nor_rich() -> None:
    code = (
        "import sys\n"
        "from csoftmax.cli import main\n"
        "main(['info'])\n"
        "names = {name.split('.')[0] for name in sys.modules}\n"
        "print(sorted(names & {'matplotlib', 'rich', 'pooch', 'requests', 'pandas'}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "[]"
