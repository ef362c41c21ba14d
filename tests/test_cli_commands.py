"""The commands beside `train`: evaluate, predict, info, bench, and the help of all."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import SAMPLE, command

import csoftmax as cs
from csoftmax import data
from csoftmax.cli import main

CALL = "import sys; from csoftmax.cli import main; sys.exit(main())"
TABLE = "drop columns header missing decimal encoding"


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


@pytest.mark.parametrize("n_classes", [2, 3])
def test_predict_writes_all_probabilities(
    n_classes: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    model = cs.SoftmaxRegression(4, n_classes, class_names=list("abc")[:n_classes])
    model.W = 5 * rng.normal(size=(4, n_classes))
    model.save(tmp_path / "m")
    X = rng.normal(size=(9000, 4))
    np.save(tmp_path / "X.npy", X)
    assert main(command("predict", tmp_path / "m", tmp_path / "X.npy", "--probabilities")) == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert rows[0] == ["label", "probability", *"abc"[:n_classes]]
    logits = X @ np.asarray(model.W, np.float64)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    written = np.array([[float(cell) for cell in row[2:]] for row in rows[1:]])
    np.testing.assert_allclose(written, p, rtol=1e-4)  # small ones too: not 0.000000
    assert [row[0] for row in rows[1:]] == ["abc"[k] for k in p.argmax(axis=1)]


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
    assert (options.quick, options.solver) == (True, False)
    assert (options.json, options.chart) == (json, chart)
    assert json.parent.is_dir()  # found writable before the measuring, not after it


@pytest.mark.parametrize(
    ("name", "options"),
    [
        (
            "train",
            f"data label-column labels {TABLE} label-files cache test-data test-label-files "
            "test-fraction solver C l1-ratio sweep tol max-iter epochs batch-size lr momentum "
            "nesterov weight-decay seed threads dtype resume out quiet no-plots",
        ),
        ("evaluate", f"data label-column labels {TABLE} label-files threads"),
        ("predict", f"output label-column probabilities {TABLE} threads"),
        (
            "bench",
            "only peers rounds quick solver small book sparse data slow-peers scale gigabytes "
            "folder json chart compare from",
        ),
        (
            "app",
            f"data label-column labels {TABLE} test-fraction model port host open-to-network "
            "no-browser",
        ),
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
    for name in ("train", "evaluate", "predict", "app", "bench", "info"):
        assert f"\n  {name} " in output


@pytest.mark.parametrize("program", [["-m", "csoftmax"], ["-c", CALL]])
def test_the_version_is_told_without_the_commands(program: list[str]) -> None:
    result = subprocess.run(
        [sys.executable, "-X", "importtime", *program, "--version"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert result.stdout == f"csoftmax {cs.__version__}\n"
    imported = {line.split("|")[-1].strip() for line in result.stderr.splitlines()}
    assert "csoftmax.cli.program" in imported
    others = {"csoftmax.cli.train", "csoftmax.cli.predict", "csoftmax.solver", "matplotlib"}
    assert not imported & others


def test_a_shell_is_told_how_to_complete_words() -> None:
    environment = os.environ | {"_CSOFTMAX_COMPLETE": "bash_complete", "COMP_CWORD": "3"}
    environment["COMP_WORDS"] = "csoftmax train --solver "
    result = subprocess.run(
        [sys.executable, "-c", CALL], env=environment, capture_output=True, text=True
    )
    assert (result.stdout, result.stderr) == ("plain,sgd\nplain,lbfgs\n", "")


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
