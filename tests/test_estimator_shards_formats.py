"""Fits to shards of every format: the same bits where the rows are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from shard_cases import FORMATS, table

import csoftmax as cs

pytest.importorskip("sklearn")

X, Y = table()
SPARSE = ("sparse npz", "svmlight")


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in SPARSE])
def test_a_fit_has_the_same_bits_whatever_the_format(name: str, tmp_path: Path) -> None:
    for folder in ("npy", "other"):
        (tmp_path / folder).mkdir()
    expected = cs.SoftmaxClassifier(C=0.01).fit(FORMATS["npy"](tmp_path / "npy", X, Y))
    data = FORMATS[name](tmp_path / "other", X, Y)
    fitted = cs.SoftmaxClassifier(C=0.01).fit(data)
    assert fitted.classes_.tolist() == [0, 1, 2]
    if data.has_weights:
        array = cs.SoftmaxClassifier(C=0.01, tol=1e-8).fit(X, Y, Y + 1.0)
        assert_allclose(fitted.gap_.objective, array.gap_.objective, rtol=1e-4)
        return
    assert_array_equal(fitted.coef_, expected.coef_)
    assert_array_equal(fitted.intercept_, expected.intercept_)


@pytest.mark.filterwarnings("ignore:the objective is still falling")
@pytest.mark.parametrize("name", SPARSE)
def test_minibatches_of_sparse_rows(name: str, tmp_path: Path) -> None:
    rows = (np.random.default_rng(0).normal(size=X.shape) + np.eye(4)[Y]).astype(np.float32)
    rows[rows < 0.5] = 0
    data = FORMATS[name](tmp_path, rows, Y)
    options: dict[str, Any] = {"solver": "sgd", "batch_size": 3, "max_iter": 30, "tol": 0.0}
    fitted = cs.SoftmaxClassifier(random_state=0, n_iter_no_change=99, **options).fit(data)
    array = cs.SoftmaxClassifier(random_state=0, n_iter_no_change=99, **options).fit(rows, Y)
    losses, expected = (np.mean(f.history_["objective"][-10:]) for f in (fitted, array))
    assert_allclose(losses, expected, rtol=0.2)
    assert losses < 0.9 * fitted.history_["objective"][0]


def test_a_fit_to_a_file_that_is_cut_off_meanwhile(tmp_path: Path) -> None:
    data = FORMATS["npy"](tmp_path, X, Y)
    path = tmp_path / "x-10.npy"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(cs.DataError, match=r"x-10\.npy: the file has changed since"):
        cs.SoftmaxClassifier().fit(data)
    values = np.load(tmp_path / "x-8.npy")
    values[3, 1] = np.nan
    np.save(tmp_path / "x-8.npy", values)
    np.save(path, X[5:12])
    data = cs.shards(f"{tmp_path}/x-*.npy", labels=f"{tmp_path}/y-*.npy")
    message = r"shard 0 \(x-8.npy\): row 3 \(row 3 of all\): feature 1 is nan"
    with pytest.raises(ValueError, match=message):
        cs.SoftmaxClassifier().fit(data)
