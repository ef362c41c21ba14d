"""Fits of shards with L1: all rows in memory where they are few, a sample of them otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import command
from l1_cases import l1_table
from numpy.testing import assert_allclose, assert_array_equal

import csoftmax as cs
from csoftmax.cli import main
from csoftmax.estimators import MemoryBudgetError
from csoftmax.solver import l1_memory

Array = Any
Capture = pytest.CaptureFixture[str]
LENGTHS = (2500, 0, 2500, 1596)
FEATURES = 8


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Array, Array]:
    """Return a folder of shards, and their rows and labels, which are text."""
    folder = tmp_path_factory.mktemp("shards")
    X, y = l1_table(sum(LENGTHS), FEATURES, 3)
    X, labels = X.astype(np.float32), np.array(["ant", "bee", "cow"])[y]
    ends = np.cumsum(LENGTHS)[:-1]
    for s, (rows, some) in enumerate(zip(np.split(X, ends), np.split(labels, ends), strict=True)):
        np.save(folder / f"x-{s}.npy", rows)
        np.save(folder / f"y-{s}.npy", some)
    return folder, X, labels


@pytest.fixture
def few_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(l1_memory, "IN_MEMORY_BYTES", 1 << 19)


def run(capsys: Capture, *words: Any) -> str:
    assert main(command(*words)) == 0
    return capsys.readouterr().out


def opened(written: tuple[Path, Array, Array], **options: Any) -> Any:
    return cs.shards(f"{written[0]}/x-*.npy", labels=f"{written[0]}/y-*.npy", **options)


@pytest.mark.parametrize("class_weight", [None, {"bee": 2.0}])
def test_few_rows_are_read_once(written: Any, class_weight: Any) -> None:
    settings: Any = {"C": 0.05, "l1_ratio": 0.7, "class_weight": class_weight}
    many = cs.SoftmaxClassifier(**settings).fit(opened(written), None)
    one = cs.SoftmaxClassifier(**settings).fit(*written[1:])
    assert_array_equal(many.coef_, one.coef_)
    assert_array_equal(many.intercept_, one.intercept_)
    assert many.gap_ == one.gap_
    assert many.classes_.tolist() == ["ant", "bee", "cow"]


@pytest.mark.parametrize("l1_ratio", [1.0, 0.5])
def test_many_rows_go_by_a_sample(written: Any, l1_ratio: float, few_in_memory: None) -> None:
    settings: Any = {"C": 0.05, "l1_ratio": l1_ratio, "tol": 1e-5}
    many = cs.SoftmaxClassifier(**settings).fit(opened(written), None)
    one = cs.SoftmaxClassifier(**settings).fit(*written[1:])
    assert_allclose(many.coef_, one.coef_, atol=0.02)
    assert_array_equal(many.coef_ == 0, one.coef_ == 0)
    assert many.gap_.objective == pytest.approx(one.gap_.objective, rel=2e-5)
    assert many.gap_.objective - many.gap_.bound <= one.gap_.objective
    assert many.n_iter_[0] <= 6
    assert many.score(opened(written), None) == pytest.approx(one.score(*written[1:]), abs=1e-3)
    again = cs.SoftmaxClassifier(**settings, n_threads=1).fit(opened(written), None)
    assert_array_equal(many.coef_, again.coef_)


@pytest.mark.parametrize("sampled", [True, False])
def test_two_classes_weights_validation_and_a_warm_start(
    written: Any, sampled: bool, request: pytest.FixtureRequest
) -> None:
    if sampled:
        request.getfixturevalue("few_in_memory")
    _, X, y = written
    y = np.where(y == "cow", "bee", y)
    weight = np.random.default_rng(0).integers(0, 3, len(y)) / 2
    shards = cs.shards(f"{written[0]}/x-*.npy", labels=y, weights=weight)
    settings: Any = {"C": 0.05, "l1_ratio": 1.0, "tol": 1e-5, "warm_start": True}
    many = cs.SoftmaxClassifier(**settings).fit(shards, None)
    one = cs.SoftmaxClassifier(**settings).fit(X, y, weight)
    assert many.coef_.shape == (1, FEATURES)
    assert_allclose(many.coef_, one.coef_, atol=0.02)
    assert_allclose(many.intercept_, one.intercept_, atol=0.02)
    first = many.gap_
    many.fit(shards, None)
    assert many.gap_.objective <= first.objective * (1 + 1e-7)
    watched = cs.SoftmaxClassifier(**settings, early_stopping=True)
    watched.fit(shards, None, validation=(X[::7], y[::7]))
    assert len(watched.history_["validation_loss"]) == len(watched.history_["objective"])
    # the gap is that of the parameters that are best on the validation set
    gap, of_rows = (
        watched.gap_,
        watched.predict_proba(X)[np.arange(len(y)), (y != "ant").astype(int)],
    )
    loss = -(weight * np.log(of_rows)).sum() / weight.sum()
    penalty = np.abs(watched.coef_).sum() / (0.05 * weight.sum())
    assert gap.objective == pytest.approx(loss + penalty, rel=1e-5)
    assert gap.objective - gap.bound <= one.gap_.objective


def test_the_plans_of_memory(written: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows are in memory, where a budget allows; a sample of many is, as large as it allows."""
    with pytest.raises(MemoryBudgetError, match="max_memory is 1 MB, expected at least"):
        cs.SoftmaxClassifier(l1_ratio=1.0, max_memory="1 MB").fit(opened(written), None)
    rows = opened(written).rows
    monkeypatch.setattr(l1_memory, "ALWAYS", 3000)
    few = l1_memory.l1_plans(rows, 3, 1.0, n_threads=2)
    assert [plan.sample_rows for plan in few] == [0, 3000, 1500, 750, 375, 187]
    assert sorted((plan.n_bytes for plan in few[1:]), reverse=True) == [p.n_bytes for p in few[1:]]
    monkeypatch.setattr(l1_memory, "IN_MEMORY_BYTES", 1 << 19)
    many = l1_memory.l1_plans(rows, 3, 1.0, n_threads=2)
    assert [plan.sample_rows > 0 for plan in many] == [True] * (len(many) - 1) + [False]
    assert {p.sample_rows for p in many} == {
        p.sample_rows for p in l1_memory.l1_plans(rows, 3, 1.0, n_threads=1)
    }


def test_mapped_files_beyond_max_memory_go_by_a_sample(written: Any, few_in_memory: None) -> None:
    folder, X, y = written
    np.save(folder / "whole.npy", X)
    mapped = np.load(folder / "whole.npy", mmap_mode="r")
    settings: Any = {"C": 0.05, "l1_ratio": 1.0, "tol": 1e-5}
    many = cs.SoftmaxClassifier(**settings).fit(mapped, y)
    one = cs.SoftmaxClassifier(**settings).fit(X, y)
    assert_allclose(many.coef_, one.coef_, atol=0.02)
    assert len(many.history_["objective"]) == many.n_iter_[0] + 2  # the null model, the bound


def test_the_command_line(written: Any, tmp_path: Path, capsys: Capture) -> None:
    folder = written[0]
    files = ["--data", f"{folder}/x-*.npy", "--label-files", f"{folder}/y-*.npy"]
    common = [*files, "--l1-ratio", 1, "--no-plots"]
    out = run(capsys, "train", *common, "--C", 0.05, "--out", tmp_path / "one")
    assert "C = 0.05: objective 0." in out
    model = cs.SoftmaxRegression.load(tmp_path / "one" / "model.safetensors")
    assert (np.asarray(model.W) == 0).any()
    assert model.trained_with["l1_ratio"] == 1
    out = run(capsys, "train", *common, "--sweep", 3, "--out", tmp_path / "sweep")
    assert "is best on the" in out
    table = (tmp_path / "sweep" / "sweep.csv").read_text().splitlines()
    features = [float(line.split(",")[6]) for line in table[1:]]
    assert features == sorted(features)
    assert features[0] <= 1
