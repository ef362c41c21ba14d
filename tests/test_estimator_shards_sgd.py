"""Minibatches of rows in shards: windows of them, `partial_fit`, the solver "sgd"."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from shard_cases import FORMATS, LENGTHS, table, write_npy

import csoftmax as cs
from csoftmax.data.shard_loader import windows
from csoftmax.rows.base import filled

pytest.importorskip("sklearn")

from csoftmax.data import shard_loader
from csoftmax.estimators.sgd_shards import shard_task

pytestmark = pytest.mark.filterwarnings("ignore:the objective is still falling")

X, Y = table()
NAMES = np.array(["cat", "dog", "eel"])


def learnable(n: int = 600, dtype: Any = np.float32) -> Any:
    random = np.random.default_rng(0)
    y = random.integers(0, 3, n)
    return (np.eye(3)[y] * 2 + random.normal(size=(n, 3))).astype(dtype), y


def in_shards(folder: Path, X: Any, n: int = 5) -> str:
    for s, rows in enumerate(np.array_split(X, n)):
        np.save(folder / f"x-{s}.npy", rows)
    return f"{folder}/x-*.npy"


def classifier(**options: Any) -> Any:
    given = {"solver": "sgd", "random_state": 0, "batch_size": 32, "max_iter": 12, "tol": 0.0}
    return cs.SoftmaxClassifier(**{**given, "n_iter_no_change": 99, **options})


@pytest.mark.parametrize("name", ["npy", "sparse npz", "parquet list zstd"])
@pytest.mark.parametrize("n", [1, 4, 6, 100])
def test_windows_have_each_row_once_and_runs_of_a_shuffle_of_shards(
    name: str, n: int, tmp_path: Path
) -> None:
    data = FORMATS[name](tmp_path, X, Y)
    random = np.random.default_rng(3)
    found = list(windows(data.rows, n, random))
    assert [len(rows) for rows, _ in found[:-1]] == [n] * (len(found) - 1)
    numbers = [i for _, at in found for some in at for i in range(15)[some]]
    assert sorted(numbers) == list(range(15))
    assert_array_equal(np.concatenate([filled(rows) for rows, _ in found]), X[numbers])
    starts = np.cumsum([0, *LENGTHS])
    shards = [range(starts[s], starts[s + 1]) for s in np.random.default_rng(3).permutation(4)]
    assert numbers == [i for shard in shards for i in shard]
    others = list(windows(data.rows, n, random))
    assert len(others) == len(found)


@pytest.mark.parametrize("rows_at_once", [64, 10_000])
def test_sgd_learns_from_shards(
    tmp_path: Path, rows_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_loader, "WINDOW_ROWS", rows_at_once)
    X, y = learnable()
    data = cs.shards(in_shards(tmp_path, X), labels=NAMES[y])
    model = classifier().fit(data)
    array = classifier().fit(X, NAMES[y])
    assert model.classes_.tolist() == NAMES.tolist()
    assert model.n_features_in_ == 3
    assert len(model.history_["loss"]) == 12
    assert abs(model.score(X, NAMES[y]) - array.score(X, NAMES[y])) < 0.02
    assert model.history_["objective"][-1] == pytest.approx(
        array.history_["objective"][-1], rel=0.03
    )
    again = classifier().fit(data)
    assert_array_equal(again.coef_, model.coef_)
    other = classifier(random_state=1).fit(data)
    assert (other.coef_ != model.coef_).any()


def test_one_shard_in_one_window_is_as_an_array(tmp_path: Path) -> None:
    X, y = learnable()
    np.save(tmp_path / "x.npy", X)
    data = cs.shards(tmp_path / "x.npy", labels=y)
    model = classifier(max_iter=5).fit(data)
    array = classifier(max_iter=5).fit(X, y)
    # the order of the shards takes random numbers, so that of the rows is another one
    np.testing.assert_allclose(model.coef_, array.coef_, atol=0.05)
    assert model.history_["loss"][-1] == pytest.approx(array.history_["loss"][-1], rel=0.05)


def test_weights_of_rows_and_of_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_loader, "WINDOW_ROWS", 64)
    X, y = learnable()
    lost = np.arange(600) % 7 == 3
    X[lost] = np.nan  # rows of no weight may hold anything
    y[lost] = 0
    pattern = in_shards(tmp_path, X)
    data = cs.shards(pattern, labels=y, weights=np.where(lost, 0.0, 2.0))
    model = classifier(class_weight={0: 1.0, 1: 2.0, 2: 1.0}).fit(data)
    kept = ~lost
    array = classifier(class_weight={0: 1.0, 1: 2.0, 2: 1.0}).fit(
        X[kept], y[kept], np.full(kept.sum(), 2.0)
    )
    assert model.history_["objective"][-1] == pytest.approx(
        array.history_["objective"][-1], rel=0.05
    )
    assert model._seen == pytest.approx(array._seen)
    balanced = classifier(class_weight="balanced").fit(data)
    assert balanced._seen == pytest.approx(2.0 * kept.sum())


def test_partial_fit_goes_through_shards_once(tmp_path: Path) -> None:
    X, y = learnable()
    data = cs.shards(in_shards(tmp_path, X), labels=NAMES[y])
    model = classifier().partial_fit(data, classes=NAMES)
    assert len(model.history_["loss"]) == 1
    model.partial_fit(data[:2]).partial_fit(X[:90], NAMES[y[:90]])
    assert len(model.history_["loss"]) == 3
    assert model._seen == 600 + 240 + 90
    assert model.score(X, NAMES[y]) > 0.75
    without = classifier().partial_fit(data)
    assert without.classes_.tolist() == NAMES.tolist()


def test_validation_and_a_warm_start(tmp_path: Path) -> None:
    X, y = learnable()
    data = cs.shards(in_shards(tmp_path, X[:500]), labels=y[:500])
    model = classifier(early_stopping=True, n_iter_no_change=2, max_iter=50, tol=1e-3)
    model.fit(data, validation=(X[500:], y[500:]))
    assert len(model.history_["validation_loss"]) < 50
    warm = classifier(max_iter=3, warm_start=True).fit(data)
    before = warm.history_["loss"][-1]
    assert warm.fit(data).history_["loss"][0] < before * 1.05


def test_columns_become_names_of_features(tmp_path: Path) -> None:
    data = FORMATS["parquet wide snappy"](tmp_path, X, Y)
    model = classifier(max_iter=2).fit(data)
    assert model.feature_names_in_.tolist() == ["x0", "x1", "x2", "x3"]


def test_memory_of_a_window_is_bounded(tmp_path: Path) -> None:
    X, y = learnable(3000, np.float64)
    data = cs.shards(in_shards(tmp_path, X), labels=y)
    task, _ = shard_task(classifier(max_memory=48_000), data, None)
    assert task.window_rows == 500  # a quarter of it, in rows of 24 bytes
    assert len(task.X) == 500


def test_what_is_refused(tmp_path: Path) -> None:
    names, _ = write_npy(tmp_path, X, Y)
    data = cs.shards(names, labels=Y)
    for given, options, message in [
        (cs.shards(names), {}, "the shards have no labels"),
        (cs.shards(names, labels=np.zeros(15, int)), {}, r"y has only one class, \[0\]"),
        (cs.shards(names, labels=Y, weights=np.zeros(15)), {}, "weights of all rows are zero"),
        (cs.shards(names, labels=Y, weights=np.where(np.arange(15) == 6, -1.0, 1.0)), {},
         r"shard 2 \(x-10.npy\): rows 0 to 7: weights\[1\] is -1.0, expected a finite"),
        (data[1], {}, "X has 0 rows"),
        (data, {"early_stopping": True}, "no rows are held out of shards or a cluster: give fit"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            classifier(**options).fit(given)
    with pytest.raises(ValueError, match="y is given, but shards have their own"):
        classifier().fit(data, Y)
    model = classifier().partial_fit(data)
    with pytest.raises(ValueError, match="X has 3 features, expected 4 as in the last fit"):
        model.partial_fit(cs.shards([(15, lambda a, b: (X[a:b, :3], Y[a:b]))]))
    with pytest.raises(cs.DataError, match="the label 7 is not one of the 3 classes 0, 1, 2"):
        model.partial_fit(cs.shards(names, labels=np.full(15, 7)))
    bad = X.copy()
    bad[9, 3] = np.inf
    write_npy(tmp_path, bad, Y)
    message = r"shard 2 \(x-10.npy\): row 4 \(row 9 of all\): feature 3 is inf, expected a finite"
    with pytest.raises(cs.DataError, match=message):
        classifier().fit(cs.shards(names, labels=Y))
