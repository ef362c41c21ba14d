"""`train --solver lbfgs` and `train --sweep`: what they print, write, draw and refuse."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from commands import RESULTS, SAMPLE, command

import csoftmax as cs
from csoftmax import plot, solver
from csoftmax.cli import main
from csoftmax.cli.inputs import as_trained


@pytest.fixture
def insects(tmp_path: Path) -> Path:
    return write_table(tmp_path / "insects.csv", 3)


def write_table(path: Path, n_classes: int) -> Path:
    """200 samples of classes that a line parts badly, with string labels."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, n_classes, 200)
    X = np.eye(3)[y] + 0.7 * rng.normal(size=(200, 3))
    lines = ["species,a,b,c"]
    names = ("ant", "bee", "cat")
    lines += [f"{names[k]},{','.join(map(str, x))}" for k, x in zip(y, X, strict=True)]
    path.write_text("\n".join(lines) + "\n")
    return path


def objective(model: cs.SoftmaxRegression, X: Any, y: Any, C: float) -> float:
    loss = cs.linear_cross_entropy(np.asarray(X, np.float64), model.W, model.b, y)
    return float(loss) + float(np.square(model.W.astype(np.float64)).sum()) / (2 * C * len(y))


def rows_of(path: Path) -> list[dict[str, float]]:
    with open(path) as file:
        return [{name: float(v) for name, v in row.items()} for row in csv.DictReader(file)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lbfgs_reaches_the_optimum(dtype: str, insects: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "run"
    words = command(
        "train", "--data", insects, "--solver", "lbfgs", "--C", 0.5, "--tol", "1e-6",
        "--dtype", dtype, "--out", out, "--no-plots",
    )  # fmt: skip
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "above the optimum" in told
    assert "C = 0.5: objective" in told
    assert "test accuracy" in told
    model = cs.SoftmaxRegression.load(out / "model.safetensors")
    assert model.dtype == dtype
    train, _ = cs.read(insects, test_fraction=0.2, seed=0)
    best = solver.minimize(train.X.astype(np.float64), train.y, 3, C=0.5, tol=1e-10)
    ours = objective(model, train.X, train.y, 0.5)
    assert ours == pytest.approx(float(best.objective[0]), rel=1e-5)
    history = rows_of(out / "history.csv")
    assert history[-1]["objective"] == pytest.approx(ours, rel=1e-5)
    assert set(history[0]) >= {"passes", "objective", "estimate", "seconds"}
    assert {path.name for path in out.iterdir()} == RESULTS


def test_two_classes_have_the_C_of_scikit_learn(tmp_path: Path) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    path = write_table(tmp_path / "two.csv", 2)
    words = command(
        "train", "--data", path, "--solver", "lbfgs", "--C", 0.1, "--tol", "1e-8", "--quiet",
        "--dtype", "float64", "--out", tmp_path / "run", "--no-plots",
    )  # fmt: skip
    assert main(words) == 0
    train, test = cs.read(path, test_fraction=0.2, seed=0)
    theirs = linear_model.LogisticRegression(C=0.1, tol=1e-9).fit(train.X, train.y)
    model = cs.SoftmaxRegression.load(tmp_path / "run" / "model.safetensors")
    np.testing.assert_allclose(model(test.X), theirs.predict_proba(test.X), atol=1e-4)


def test_pixels_are_scaled_and_drawn(tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "run"
    words = command(
        "train", "--data", SAMPLE, "--solver", "lbfgs", "--C", 0.1, "--tol", "1e-2", "--out", out
    )
    assert main(words) == 0
    capsys.readouterr()
    model = cs.SoftmaxRegression.load(out / "model.safetensors")
    assert model.scale == 1 / 255
    _, test = cs.fashion_mnist_sample()
    assert cs.evaluate(model, test).accuracy > 0.8
    pictures = {"curves.png", "confusion.png", "predictions.png", "weights.png"}
    assert {path.name for path in out.iterdir()} == {
        *RESULTS, *pictures,
    }  # fmt: skip
    for name in pictures:
        assert matplotlib.image.imread(out / name)[..., :3].std() > 0.02
    # predict and evaluate read the result
    assert main(command("evaluate", out / "model.safetensors", "--data", SAMPLE)) == 0
    assert "accuracy 0.8" in capsys.readouterr().out
    X = tmp_path / "X.npy"
    np.save(X, test.X[:5])
    assert main(command("predict", out / "model.safetensors", X)) == 0
    assert len(capsys.readouterr().out.splitlines()) == 6


def test_resume_starts_from_the_model(insects: Path, tmp_path: Path, capsys: Any) -> None:
    words = command(
        "train", "--data", insects, "--solver", "lbfgs", "--tol", "1e-6", "--no-plots",
        "--out", tmp_path / "run",
    )  # fmt: skip
    assert main(words) == 0
    first = rows_of(tmp_path / "run" / "history.csv")
    capsys.readouterr()
    assert main([*words, "--resume", str(tmp_path / "run" / "model.safetensors")]) == 0
    again = rows_of(tmp_path / "run" / "history.csv")
    assert len(again) < len(first)
    assert again[0]["objective"] == pytest.approx(first[-1]["objective"], rel=1e-4)


def test_sweep(insects: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "run"
    words = command("train", "--data", insects, "--sweep", 6, "--out", out, "--tol", "1e-3")
    assert main(words) == 0
    told = capsys.readouterr().out
    rows = rows_of(out / "sweep.csv")
    np.testing.assert_allclose([row["C"] for row in rows], np.logspace(-6, 5, 6), rtol=1e-12)
    best = max(rows, key=lambda row: (row["validation_accuracy"], -row["C"]))
    assert f"C = {best['C']:.3g} is best on the 32 samples held out" in told
    assert f"C = {best['C']:g}: objective" in told
    for row in rows:
        assert f"{row['C']:>9.3g}  {row['objective']:>10.6f}" in told
        assert 0 <= row["train_accuracy"] <= 1
        assert row["above_optimum"] <= 1e-3
    # a weaker penalty fits the samples that it was fitted to no worse
    assert rows[-1]["objective"] < rows[0]["objective"]
    train, _ = cs.read(insects, test_fraction=0.2, seed=0)
    model = cs.SoftmaxRegression.load(out / "model.safetensors")
    final = solver.minimize(train.X.astype(np.float64), train.y, 3, C=best["C"], tol=1e-9)
    assert objective(model, train.X, train.y, best["C"]) < 1.01 * float(final.objective[0])
    assert {path.name for path in out.iterdir()} == {
        *RESULTS, "sweep.csv", "sweep.png", "curves.png",
        "confusion.png",
    }  # fmt: skip
    assert matplotlib.image.imread(out / "sweep.png")[..., :3].std() > 0.02


def test_the_sweeps_figures_are_those_of_its_samples(
    insects: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    """Recomputed from the parameters that the solver gave, on copies of the two parts."""
    seen: list[dict[str, Any]] = []
    minimize = solver.minimize

    def spy(X: Any, y: Any, n_classes: int, **options: Any) -> Any:
        solution = minimize(X, y, n_classes, **options)
        seen.append({"X": X, "y": y, "solution": solution, **options})
        return solution

    monkeypatch.setattr(solver, "minimize", spy)
    out = tmp_path / "run"
    assert main(command("train", "--data", insects, "--sweep", 3, "--out", out, "--no-plots")) == 0
    X, y, weight, solution = (seen[0][name] for name in ("X", "y", "sample_weight", "solution"))
    held = weight == 0
    assert held.sum() == 32
    for h, row in enumerate(rows_of(out / "sweep.csv")):
        model = cs.SoftmaxRegression(3, 3)
        model.W, model.b = solution.W[h].T, solution.b[h]
        on_held, on_others = (cs.evaluate(model, (X[part], y[part])) for part in (held, ~held))
        assert row["validation_accuracy"] == pytest.approx(on_held.accuracy)
        assert row["validation_loss"] == pytest.approx(on_held.loss, rel=1e-5)
        assert row["train_accuracy"] == pytest.approx(on_others.accuracy)


WRONG = [
    (["--solver", "lbfgs", "--lr", "0.1"], "--lr is for --solver sgd"),
    (["--sweep", "5", "--batch-size", "3"], "--batch-size is for --solver sgd"),
    (["--C", "2"], "--C is for --solver lbfgs"),
    (["--solver", "sgd", "--tol", "0.1"], "--tol is for --solver lbfgs"),
    (["--solver", "sgd", "--sweep", "4"], "--sweep is for --solver lbfgs"),
    (["--sweep", "4", "--C", "2"], "--C and --sweep exclude each other"),
    (["--sweep", "4", "--resume", "model"], "--resume and --sweep exclude each other"),
    (["--sweep", "1"], "--sweep"),
    (["--solver", "newton"], "newton"),
    (["--solver", "lbfgs", "--C", "0"], "--C is 0, expected a number > 0"),
    (["--solver", "lbfgs", "--C", "-1"], "--C is -1, expected a number > 0"),
    (["--solver", "lbfgs", "--C", "nan"], "--C is nan, expected a number > 0"),
    (["--solver", "lbfgs", "--tol", "nan"], "--tol is nan"),
]


@pytest.mark.parametrize(("words", "message"), WRONG)
def test_mistakes(
    words: list[str], message: str, insects: Path, tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "run"
    assert main(command("train", "--data", insects, "--out", out, *words)) == 2
    error = capsys.readouterr().err
    assert error.startswith("csoftmax: error: ")
    assert error.count("\n") == 1
    assert message in error
    assert not (out / "model.safetensors").exists()


def test_a_stop_before_the_optimum_is_a_warning(insects: Path, tmp_path: Path, capsys: Any) -> None:
    words = command(
        "train", "--data", insects, "--solver", "lbfgs", "--max-iter", 1, "--tol", "1e-9",
        "--quiet", "--no-plots", "--out", tmp_path / "run",
    )  # fmt: skip
    assert main(words) == 0
    error = capsys.readouterr().err
    assert error.startswith("csoftmax: warning: ")
    assert "above the optimum by estimate" in error


@pytest.mark.parametrize("sweep", [False, True])
@pytest.mark.parametrize("after", [0, 6])
def test_ctrl_c(sweep: bool, after: int, insects: Path, tmp_path: Path, monkeypatch: Any,
                capsys: Any) -> None:  # fmt: skip
    """Before anything is known nothing is saved; later the best so far is."""
    from csoftmax.solver import problem

    evaluate, calls = problem.Problem.evaluate, []

    def interrupted(self: Any, *args: Any) -> Any:
        calls.append(1)
        if len(calls) > after:
            raise KeyboardInterrupt
        return evaluate(self, *args)

    monkeypatch.setattr(problem.Problem, "evaluate", interrupted)
    out = tmp_path / "run"
    how = ["--sweep", "4"] if sweep else ["--solver", "lbfgs", "--tol", "1e-12"]
    assert main(command("train", "--data", insects, "--out", out, "--no-plots", *how)) == 130
    error = capsys.readouterr().err
    assert "interrupted" in error
    saved = (out / "model.safetensors").exists()
    assert ("the model is saved in" in error) == saved
    assert ("nothing was saved" in error) == (not saved)
    if after:
        assert saved
        cs.SoftmaxRegression.load(out / "model.safetensors")


# ---- pictures --------------------------------------------------------------------------------


def sweep_rows(n: int) -> list[dict[str, float]]:
    accuracy = np.sin(np.linspace(0.1, 3, n))
    return [
        {"C": C, "train_accuracy": a + 0.1, "validation_accuracy": a, "validation_loss": 1 - a}
        for C, a in zip(np.logspace(-6, 5, n), accuracy, strict=True)
    ]


@pytest.mark.parametrize("n", [1, 3, 45, 100])
def test_draw_sweep(n: int, tmp_path: Path) -> None:
    rows = sweep_rows(n)
    figure = plot.draw_sweep(rows[::-1], tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").stat().st_size > 1000
    left, right = figure.axes
    best = max(rows, key=lambda row: row["validation_accuracy"])
    assert f"C = {best['C']:.3g}," in left.get_title()
    np.testing.assert_allclose(left.lines[0].get_xdata(), [row["C"] for row in rows])
    np.testing.assert_allclose(left.lines[1].get_ydata(), [r["validation_accuracy"] for r in rows])
    np.testing.assert_allclose(right.lines[0].get_ydata(), [row["validation_loss"] for row in rows])
    figure.canvas.draw()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert -0.02 <= box.x0 < box.x1 <= width + 0.02
    assert -0.02 <= box.y0 < box.y1 <= height + 0.02
    with pytest.raises(ValueError, match="rows is empty"):
        plot.draw_sweep([])


def test_draw_descent(tmp_path: Path) -> None:
    history = {"passes": [1, 2, 4], "objective": [1.0, 0.5, 0.4], "estimate": [math.inf, 0.1, 0.0]}
    left, right = plot.draw_descent(history, tmp_path / "curves.png").axes
    assert (tmp_path / "curves.png").stat().st_size > 1000
    np.testing.assert_allclose(left.lines[0].get_ydata(), [1.0, 0.5, 0.4])
    np.testing.assert_allclose(right.lines[0].get_xydata(), [[2, 0.2]])
    assert plot.draw_descent({"passes": [1], "objective": [0.0], "estimate": [0.0]}).axes
    with pytest.raises(ValueError, match="history has no objective"):
        plot.draw_descent({"passes": [1]})


def test_evaluate_goes_by_names_and_by_the_scale_of_the_model(tmp_path: Path, capsys: Any) -> None:
    """Classes of the file in another order than the data's, pixels as the estimator took them."""
    train, _ = cs.fashion_mnist_sample()
    X = train.X.reshape(len(train), -1)
    names = np.array(train.class_names)[train.y]
    classifier = cs.SoftmaxClassifier(C=1e-6, tol=1e-2).fit(X, names)
    assert tuple(classifier.classes_) != train.class_names
    classifier.save(tmp_path / "probe.safetensors")
    model = cs.SoftmaxRegression.load(tmp_path / "probe.safetensors")
    right = float((classifier.predict(X) == names).mean())
    told: list[str] = []
    fitting = as_trained(train, model, told.append)
    with pytest.warns(UserWarning, match="data.scale is 0.00392157 but the model's is 1"):
        assert cs.evaluate(model, fitting).accuracy == pytest.approx(right, abs=1e-3)
    assert not told
    same = as_trained(fitting, model, told.append)
    np.testing.assert_array_equal(same.y, fitting.y)
    strange = replace(train, class_names=("sock", *train.class_names[1:]))
    with pytest.raises(ValueError, match="has the class 'sock', but the model's are Ankle boot"):
        as_trained(strange, model, told.append)
    as_trained(replace(train, class_names=()), model, told.append)
    assert told[0].startswith("labels 0, 1, ... are taken for the model's classes in order: Ankle")
    np.savez(tmp_path / "test.npz", X=X[:500], y=names[:500])
    words = command("evaluate", tmp_path / "probe.safetensors", "--data", tmp_path / "test.npz")
    assert main(words) == 0
    accuracy = float((classifier.predict(X[:500]) == names[:500]).mean())
    output, error = capsys.readouterr()
    assert f"accuracy {accuracy:.4f}" in output
    assert "labels that are integers count the model's classes: 0 is Ankle boot, 1 is Bag" in output
    assert error.startswith("csoftmax: warning: data.scale is 0.00392157 but the model's is 1")
