"""Validation and early stopping on shards of one's own, which are read block by block."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import csoftmax as cs
from csoftmax.core.errors import DataError
from csoftmax.engine.shard_passes import ShardPasses
from csoftmax.engine.units import CHUNK_ROWS

Array = Any
LENGTHS = (CHUNK_ROWS, 0, CHUNK_ROWS + 77)
RNG = np.random.default_rng(0)
CENTRES = RNG.normal(size=(3, 4))


def rows(n: int, seed: int, dtype: Any = np.float32) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    k = rng.integers(0, 3, n)
    return (rng.normal(size=(n, 4)) + CENTRES[k]).astype(dtype), np.array(["a", "b", "c"])[k]


def in_shards(folder: Path, X: Array, y: Array, weights: Array | None = None) -> Any:
    folder.mkdir(exist_ok=True)
    ends = np.cumsum(LENGTHS)[:-1]
    for s, (some, labels) in enumerate(zip(np.split(X, ends), np.split(y, ends), strict=True)):
        np.save(folder / f"x-{s}.npy", some)
        np.save(folder / f"y-{s}.npy", labels)
    return cs.shards(f"{folder}/x-*.npy", labels=f"{folder}/y-*.npy", weights=weights)


@pytest.fixture
def data(tmp_path: Path) -> Any:
    return in_shards(tmp_path / "train", *rows(sum(LENGTHS), 1))


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
@pytest.mark.parametrize("class_weight", [None, {"a": 3.0, "b": 0.0}])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_shards_validate_as_the_array_of_their_rows(
    data: Any, tmp_path: Path, solver: str, class_weight: Any, dtype: Any
) -> None:
    X, y = rows(sum(LENGTHS), 2, dtype)
    weight = np.random.default_rng(3).integers(0, 3, len(y)) / 2
    X[weight == 0] = np.nan  # rows that do not count may hold anything, in shards
    own = in_shards(tmp_path / "own", X, y, weight)
    options = {
        "solver": solver, "class_weight": class_weight, "early_stopping": True, "tol": 1e-3,
        "random_state": 0, "max_iter": 6,
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        many = cs.SoftmaxClassifier(**options).fit(data, validation=own)
        counts = weight > 0
        of_array = X[counts], y[counts], weight[counts]
        one = cs.SoftmaxClassifier(**options).fit(data, validation=of_array)
    assert_array_equal(many.coef_, one.coef_)
    for name in ("validation_loss", "validation_accuracy"):
        assert_allclose(many.history_[name], one.history_[name], rtol=1e-6)
    assert many.gap_.objective == one.gap_.objective or solver == "sgd"


def test_arrays_are_validated_on_shards_too(data: Any) -> None:
    X, y = rows(500, 4)
    fitted = cs.SoftmaxClassifier(n_threads=1).fit(X, y.astype(object), validation=data)
    assert fitted.history_["validation_accuracy"][-1] == fitted.score(data)
    expected = cs.SoftmaxClassifier(n_threads=2).fit(X, y, validation=data)
    assert fitted.history_["validation_loss"] == expected.history_["validation_loss"]


def test_early_stopping_keeps_what_is_best_on_the_shards(tmp_path: Path) -> None:
    """Labels that are noise: to go on is to overfit."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 30)), np.arange(60) % 2
    labels = rng.integers(0, 2, sum(LENGTHS))
    own = in_shards(tmp_path, rng.normal(size=(len(labels), 30)), labels)
    fitted = cs.SoftmaxClassifier(C=1e4, early_stopping=True, n_iter_no_change=2, tol=1e-6)
    losses = fitted.fit(X, y, validation=own).history_["validation_loss"]
    assert len(losses) - 1 - int(np.argmin(losses)) == 2
    proba = fitted.predict_log_proba(own)
    assert -proba[np.arange(len(labels)), labels].mean() == pytest.approx(min(losses), rel=1e-6)


def test_they_are_read_block_by_block(
    data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = in_shards(tmp_path / "own", *rows(sum(LENGTHS), 2))
    seen = []
    read = ShardPasses._read

    def watched(self: Any, shard: Any, run: slice, *how: Any) -> Any:
        seen.append(run.stop - run.start)
        return read(self, shard, run, *how)

    monkeypatch.setattr(ShardPasses, "_read", watched)
    monkeypatch.setattr("csoftmax.engine.shard_passes.WINDOW_BYTES", 1)
    X, y = rows(500, 4)
    cs.SoftmaxClassifier().fit(X, y, validation=own)
    assert set(seen) == {CHUNK_ROWS, CHUNK_ROWS + 77}


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_refusals(data: Any, tmp_path: Path, solver: str) -> None:
    fit = cs.SoftmaxClassifier(solver=solver, max_iter=1).fit
    X, y = rows(sum(LENGTHS), 2)
    y[CHUNK_ROWS + 5] = "d"
    message = r"validation: shard 2 .*: row 5 \(row 8197 of all\): the label d is not one of the 3"
    with pytest.raises(DataError, match=message):
        fit(data, validation=in_shards(tmp_path / "own", X, y))
    y[:], X[CHUNK_ROWS + 5, 2] = "a", np.inf
    with pytest.raises(DataError, match=r"shard 2 .*: row 5 .*: feature 2 is inf"):
        fit(data, validation=in_shards(tmp_path / "own", X, y))
    with pytest.raises(ValueError, match="validation has 3 features, expected 4, as X has"):
        fit(data, validation=in_shards(tmp_path / "own", X[:, :3], y))
    none = in_shards(tmp_path / "own", X, y, np.zeros(len(y)))
    with pytest.raises(ValueError, match="validation: the weights of all rows are zero"):
        fit(data, validation=none)
    with pytest.raises(TypeError, match=r"validation is a str, expected a pair .* or shards"):
        fit(data, validation="own/*.npy")
    early = cs.SoftmaxClassifier(solver=solver, early_stopping=True)
    with pytest.raises(ValueError, match=r"give fit\(..., validation=shards\)"):
        early.fit(data)
