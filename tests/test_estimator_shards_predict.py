"""Predictions for shards: those of one array, in memory or in a file; the score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from shard_cases import FORMATS, cut, table, write_npy

import csoftmax as cs

pytest.importorskip("sklearn")

X, Y = table()
NAMES = np.array(["cat", "dog", "eel"])
METHODS = ["predict", "predict_proba", "predict_log_proba", "decision_function"]


@pytest.fixture(scope="module")
def classifier() -> Any:
    return cs.SoftmaxClassifier(C=10.0).fit(X, NAMES[Y])


@pytest.fixture
def data(tmp_path: Path) -> Any:
    names, _ = write_npy(tmp_path, X, Y)
    return cs.shards(names, labels=NAMES[Y])


@pytest.mark.parametrize("method", METHODS)
def test_predictions_are_those_of_one_array(
    classifier: Any, data: Any, method: str, tmp_path: Path
) -> None:
    expected = getattr(classifier, method)(X)
    got = getattr(classifier, method)(data)
    assert_array_equal(got, expected)
    assert got.dtype == expected.dtype
    written = getattr(classifier, method)(data, out=tmp_path / "p.npy")
    assert not written.flags.writeable
    assert_array_equal(written, expected)
    assert_array_equal(np.load(tmp_path / "p.npy"), expected)
    assert_array_equal(getattr(classifier, method)(X, out=tmp_path / "p.npy"), expected)


@pytest.mark.parametrize("method", METHODS)
def test_predictions_in_parquet(classifier: Any, data: Any, method: str, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "p.parquet"
    assert getattr(classifier, method)(data, out=str(path)) == path
    table = pq.read_table(path)
    assert table.column_names == (["label"] if method == "predict" else NAMES.tolist())
    got = np.column_stack([column.to_numpy() for column in table.columns])
    expected = getattr(classifier, method)(X)
    assert_array_equal(got, expected[:, None] if method == "predict" else expected)


def test_what_is_read_is_not_replaced(classifier: Any, tmp_path: Path) -> None:
    file, labels = tmp_path / "x.npy", tmp_path / "labels.npy"
    np.save(file, X)
    np.save(labels, Y)
    before = {path: path.read_bytes() for path in (file, labels)}
    shards = cs.shards(str(file), labels=str(labels))
    for rows, path in ((shards, file), (shards, labels), (np.load(file, mmap_mode="r"), file)):
        for method in METHODS:
            with pytest.raises(ValueError, match=r"^out is .*, which is read: expected another"):
                getattr(classifier, method)(rows, out=path)
    assert before == {path: path.read_bytes() for path in before}


def test_two_classes_have_one_column_of_logits(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    model = cs.SoftmaxClassifier().fit(X, Y > 0)
    data = cs.shards(write_npy(tmp_path, X, Y)[0])
    assert_array_equal(model.decision_function(data), model.decision_function(X))
    model.decision_function(data, out=tmp_path / "d.parquet")
    assert pq.read_table(tmp_path / "d.parquet").column_names == ["True"]
    assert_array_equal(model.predict_proba(data), model.predict_proba(X))


@pytest.mark.parametrize("name", ["sparse npz", "tar", "parquet wide snappy"])
def test_predictions_for_other_formats(classifier: Any, name: str, tmp_path: Path) -> None:
    data = FORMATS[name](tmp_path, X, Y)
    assert_array_equal(classifier.predict(data), classifier.predict(X))
    assert_allclose(classifier.predict_proba(data), classifier.predict_proba(X), rtol=1e-5)


def test_score_is_that_of_one_array(classifier: Any, data: Any, tmp_path: Path) -> None:
    wrong = np.where(np.arange(15) % 4 == 0, "eel", NAMES[Y])
    names = f"{tmp_path}/x-*.npy"
    assert classifier.score(data) == classifier.score(X, NAMES[Y])
    other = cs.shards(names, labels=wrong)
    assert classifier.score(other) == classifier.score(X, wrong)
    weights = np.arange(15.0)
    weighted = cs.shards(names, labels=wrong, weights=weights)
    assert_allclose(classifier.score(weighted), classifier.score(X, wrong, weights), rtol=1e-14)
    chosen = cs.SoftmaxClassifierCV(Cs=[0.1, 1.0], cv=3, scoring="neg_log_loss").fit(X, Y)
    data = cs.shards(names, labels=Y)
    assert_allclose(chosen.score(data), chosen.score(X, Y), rtol=1e-14)


def test_what_is_refused(classifier: Any, data: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"out is 'p\.csv', expected a file \.npy or \.parquet"):
        classifier.predict(data, out="p.csv")
    with pytest.raises(ValueError, match="y is given, but shards have their own"):
        classifier.score(data, Y)
    with pytest.raises(cs.DataError, match=r"row 0 \(row 0 of all\): the label 0 is not one of"):
        classifier.score(cs.shards(f"{tmp_path}/x-*.npy", labels=Y))
    with pytest.raises(ValueError, match="the shards have no labels"):
        classifier.score(cs.shards(f"{tmp_path}/x-*.npy"))
    with pytest.raises(ValueError, match="X has 0 rows, expected at least one"):
        classifier.predict(data[1])
    bad = X.copy()
    bad[7, 2] = np.nan
    for s, rows in enumerate(cut(bad)):
        np.save(tmp_path / f"x-{s + 8}.npy", rows)
    data = cs.shards(f"{tmp_path}/x-*.npy")
    message = r"shard 2 \(x-10.npy\): row 2 \(row 7 of all\): feature 2 is nan, expected a finite"
    with pytest.raises(cs.DataError, match=message):
        classifier.predict(data, out=tmp_path / "p.npy")
    assert not (tmp_path / "p.npy").exists()
    with pytest.raises(ValueError, match="rows 0 to 5 of X: X has 3 features, but"):
        classifier.predict(cs.shards([(5, lambda a, b: X[a:b, :3])]))


def test_names_of_features_do_not_warn_for_each_block(
    data: Any, recwarn: pytest.WarningsRecorder
) -> None:
    pd = pytest.importorskip("pandas")
    model = cs.SoftmaxClassifier().fit(pd.DataFrame(X, columns=list("abcd")), Y)
    model.predict(data)
    assert not recwarn.list
