"""Fits of shards by full passes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import csoftmax as cs
from csoftmax.bench.memory import anonymous_peak
from csoftmax.core.errors import DataError
from csoftmax.engine.units import CHUNK_ROWS
from csoftmax.estimators import MemoryBudgetError

Array = Any
LENGTHS = (CHUNK_ROWS, 0, 2 * CHUNK_ROWS + 10)


def written(folder: Path, dtype: Any = np.float32) -> tuple[Any, Array, Array]:
    """Return shards in a folder, and their rows and labels, which are text."""
    n = sum(LENGTHS)
    rng = np.random.default_rng(0)
    k = rng.integers(0, 3, n)
    X = (rng.normal(size=(n, 5)) + 0.8 * rng.normal(size=(3, 5))[k]).astype(dtype)
    y = np.array(["ant", "bee", "cow"])[k]
    ends = np.cumsum(LENGTHS)[:-1]
    for s, (rows, labels) in enumerate(zip(np.split(X, ends), np.split(y, ends), strict=True)):
        np.save(folder / f"x-{s}.npy", rows)
        np.save(folder / f"y-{s}.npy", labels)
    return cs.shards(f"{folder}/x-*.npy", labels=f"{folder}/y-*.npy"), X, y


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize("class_weight", [None, {"bee": 2.0}])
def test_a_fit_has_the_bits_of_one_array(tmp_path: Path, dtype: Any, class_weight: Any) -> None:
    data, X, y = written(tmp_path, dtype)
    settings: Any = {"C": 0.1, "class_weight": class_weight, "n_threads": 2}
    many = cs.SoftmaxClassifier(**settings).fit(data, None)
    one = cs.SoftmaxClassifier(**settings).fit(X, y)
    assert_array_equal(many.coef_, one.coef_)
    assert_array_equal(many.intercept_, one.intercept_)
    assert many.gap_ == one.gap_
    assert many.classes_.tolist() == ["ant", "bee", "cow"]
    assert many.n_features_in_ == 5
    assert many.history_["passes"][-1] <= one.history_["passes"][-1]
    assert many.score(data, None) == one.score(X, y)


def test_validation_and_a_warm_start(tmp_path: Path) -> None:
    data, X, y = written(tmp_path)
    settings: Any = {"early_stopping": True, "warm_start": True, "n_threads": 1, "tol": 1e-3}
    classifier = cs.SoftmaxClassifier(**settings)
    with pytest.raises(ValueError, match="early_stopping is True, but no rows are held out"):
        classifier.fit(data, None)
    assert not hasattr(classifier, "coef_")
    classifier.fit(data, None, validation=(X[:500], y[:500]))
    assert len(classifier.history_["validation_loss"]) == len(classifier.history_["passes"])
    first = classifier.n_iter_[0]
    assert classifier.fit(data, None, validation=(X[:500], y[:500])).n_iter_[0] < first


def test_weights_of_shards_count(tmp_path: Path) -> None:
    _, X, y = written(tmp_path)
    weight = np.random.default_rng(1).integers(0, 3, len(y)) / 2
    names, files = sorted(map(str, tmp_path.glob("y-*.npy"))), f"{tmp_path}/x-*.npy"
    data = cs.shards(files, labels=names, weights=weight)
    many = cs.SoftmaxClassifier(C=0.1).fit(data, None)
    one = cs.SoftmaxClassifier(C=0.1).fit(X, y, weight)
    assert_allclose(many.coef_, one.coef_, rtol=1e-5, atol=1e-7)
    weight[CHUNK_ROWS + 3] = -1
    bad = cs.shards(files, labels=names, weights=weight)
    with pytest.raises(DataError, match=r"shard 2 .*: row 3 .*: the weight is -1.0, expected"):
        cs.SoftmaxClassifier().fit(bad, None)
    none = cs.shards(files, labels=names, weights=np.zeros(len(y)))
    with pytest.raises(ValueError, match="the weights of all rows are zero"):
        cs.SoftmaxClassifier().fit(none, None)


def test_what_full_passes_over_shards_cannot_do_is_told(tmp_path: Path) -> None:
    data, _, y = written(tmp_path)
    with pytest.raises(ValueError, match="y is given, but shards have their own"):
        cs.SoftmaxClassifier().fit(data, y)
    one_class = cs.shards(f"{tmp_path}/x-*.npy", labels=np.zeros(sum(LENGTHS), int))
    with pytest.raises(ValueError, match="y has only one class"):
        cs.SoftmaxClassifier().fit(one_class, None)
    with pytest.raises(MemoryBudgetError, match="max_memory is 1 MB, expected at least"):
        cs.SoftmaxClassifier(max_memory="1 MB").fit(data, None)


def test_a_bad_value_leaves_the_estimator_as_it_was(tmp_path: Path) -> None:
    data, _, _ = written(tmp_path)
    classifier = cs.SoftmaxClassifier().fit(data, None)
    before = classifier.coef_
    X = np.load(tmp_path / "x-2.npy", mmap_mode="r+")
    X[7, 1] = np.nan
    X.flush()
    again = cs.shards(f"{tmp_path}/x-*.npy", labels=f"{tmp_path}/y-*.npy")
    with pytest.raises(DataError, match=r"shard 2 .*: row 7 \(row 8199 of all\): feature 1 is nan"):
        classifier.fit(again, None)
    assert classifier.coef_ is before


def fit_and_tell(pattern: str) -> None:
    """Print what a fit of shards takes at most, and what it says that it takes."""
    data = cs.shards(pattern, labels=np.arange(90_000, dtype=np.uint8) % 3)
    classifier = cs.SoftmaxClassifier(C=1e-3, max_iter=3, tol=1.0, n_threads=2, max_memory="200 MB")
    print(anonymous_peak(lambda: classifier.fit(data, None)))


@pytest.mark.slow  # a file of 141 MB
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no /proc")
def test_a_fit_of_shards_stays_within_its_budget(tmp_path: Path) -> None:
    X = np.lib.format.open_memmap(tmp_path / "x-0.npy", "w+", np.float16, (90_000, 784))
    X[:] = np.random.default_rng(0).normal(size=(1, 784))
    X[::7, :300] = 1
    del X
    told = subprocess.run(
        [sys.executable, __file__, f"{tmp_path}/x-*.npy"], capture_output=True, text=True,
        check=True, env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    ).stdout  # fmt: skip
    assert int(told) < 100e6


if __name__ == "__main__":
    fit_and_tell(sys.argv[1])
