"""The estimators on large files, and where they stop by the chance in the samples."""

from __future__ import annotations

import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from estimator_cases import IRIS
from sklearn.base import clone
from solver_cases import table

import csoftmax as cs
from csoftmax.cli import main
from csoftmax.estimators import ConvergenceWarning, Gap
from csoftmax.estimators.fit import plan_memory
from csoftmax.solver import corrected


@pytest.fixture(scope="module")
def rows() -> tuple[Any, Any]:
    X, y = table(12_000, 6, 3, noise=2.0)
    return X.astype(np.float32), y


def test_a_fit_stops_by_chance_and_says_so(rows: tuple[Any, Any], tmp_path: Path) -> None:
    X, y = rows
    train, test = (X[:4000], y[:4000]), (X[4000:], y[4000:])
    near = cs.SoftmaxClassifier(tol=1e-8).fit(*train)
    rough = cs.SoftmaxClassifier(tol="sampling").fit(*train)
    assert near.gap_.noise == 0
    assert 0 < rough.gap_.estimate <= 0.1 * rough.gap_.noise
    assert rough.gap_.noise == pytest.approx(14 / 8000, rel=0.3)
    assert rough.n_iter_ < near.n_iter_
    assert abs(rough.score(*test) - near.score(*test)) < 0.01
    again = clone(rough).fit(*train)
    assert np.array_equal(again.coef_, rough.coef_)
    rough.save(tmp_path / "rough.safetensors")
    for other in (
        pickle.loads(pickle.dumps(rough)),
        cs.SoftmaxClassifier.load(tmp_path / "rough.safetensors"),
    ):
        assert other.tol == "sampling"
        assert other.gap_ == rough.gap_
    assert Gap(1.0, 0.1, 0.01).estimate == 0.01  # as older files have it
    few = cs.SoftmaxClassifier(tol="sampling", early_stopping=True, random_state=0).fit(*train)
    assert "validation_loss" in few.history_


def test_cross_validation_stops_by_chance(rows: tuple[Any, Any]) -> None:
    X, y = rows
    found = cs.SoftmaxClassifierCV(Cs=[0.01, 1.0], cv=3, tol="sampling").fit(X, y)
    assert found.gap_.noise > 0
    assert found.best().tol == "sampling"


def test_refusals() -> None:
    for settings, message in (
        ({"solver": "sgd"}, "tol is 'sampling', expected a number for solver \"sgd\""),
        ({"l1_ratio": 0.5}, "tol is 'sampling', expected a number with L1"),
    ):
        with pytest.raises(ValueError, match=message):
            cs.SoftmaxClassifier(tol="sampling", **settings).fit(*IRIS)
    with pytest.raises(ValueError, match="expected a number with L1"):
        cs.SoftmaxClassifierCV(tol="sampling", l1_ratios=[0.5]).fit(*IRIS)
    for kind in (cs.SoftmaxClassifier, cs.SoftmaxClassifierCV):
        with pytest.raises(TypeError, match="tol is 'noise', expected a number or \"sampling\""):
            kind(tol="noise").fit(*IRIS)


def test_large_files_take_few_passes_within_the_memory(
    rows: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = rows
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    weight = np.arange(len(y)) % 3 / 2
    plain = cs.SoftmaxClassifier(C=0.01, tol=1e-5).fit(mapped, y, weight)
    monkeypatch.setattr(corrected, "COSTLY_BYTES", 0)
    few = cs.SoftmaxClassifier(C=0.01, tol=1e-5).fit(mapped, y, weight)
    assert few.history_["passes"][0] == 2  # statistics, and the optimum of the sample
    assert few.history_["passes"][-1] <= 8 < plain.history_["passes"][-1]
    assert few.gap_.objective == pytest.approx(plain.gap_.objective, rel=2e-5)
    folds = cs.SoftmaxClassifierCV(Cs=[0.01, 0.1], cv=3, tol=1e-5).fit(mapped, y)
    alone = cs.SoftmaxClassifier(C=folds.C_, tol=1e-5).fit(mapped, y)
    assert np.array_equal(folds.coef_, alone.coef_)
    # a budget that does not hold the sample does without
    whole, without = (
        plan_memory(budget, mapped, 3, 1, n_weights=1) for budget in (1e12, plain_bytes(mapped))
    )
    assert (whole.sample_rows, without.sample_rows) == (1500, 0)


def plain_bytes(X: Any) -> float:
    return plan_memory(1e12, np.array(X), 3, 1, n_weights=1).n_bytes


def test_the_plan_tells_what_a_sample_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most of what is allocated is the sample."""
    monkeypatch.setattr(corrected, "COSTLY_BYTES", 0)
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 40_000)
    file = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint8, (40_000, 100))
    file[:] = rng.integers(0, 200, file.shape)
    file[np.arange(40_000), y] += 50
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    plan = plan_memory(1e12, mapped, 3, 1)
    assert plan.sample_rows == 5000
    tracemalloc.start()
    with pytest.warns(ConvergenceWarning):
        cs.SoftmaxClassifier(C=1e-5, n_threads=1, max_iter=3, tol=1e-9).fit(mapped, y)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak <= plan.n_bytes


def test_the_command_line(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "--data", str(table), "--label-column", "kind", "--no-plots"]
    words += ["--out", str(tmp_path / "run"), "--tol"]
    assert main([*words, "sampling", "--solver", "lbfgs"]) == 0
    assert "the chance in the samples makes" in capsys.readouterr().out
    loaded = cs.SoftmaxClassifier.load(tmp_path / "run" / "model.safetensors")
    assert loaded.tol == "sampling"
    assert loaded.gap_.noise > 0
    for more, message in (
        (["noise", "--solver", "lbfgs"], "--tol is noise, expected a number or sampling"),
        (["sampling", "--l1-ratio", "0.5"], "--tol sampling and --l1-ratio exclude each other"),
        (["sampling", "--solver", "sgd"], "--tol is for --solver lbfgs"),
    ):
        assert main([*words, *more]) == 2
        assert message in capsys.readouterr().err
