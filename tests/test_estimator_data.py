"""`SoftmaxClassifier`: X of any kind is read as it is stored, within a budget of memory."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from estimator_cases import IRIS, Array, small
from sklearn.preprocessing import StandardScaler

from csoftmax.estimators import MemoryBudgetError, SoftmaxClassifier
from csoftmax.estimators import classifier as module


@pytest.mark.parametrize(("tol", "share"), [(1e-4, 0.2), (1e-5, 0.1)])
def test_pixels_need_no_scaling(tol: float, share: float, pixels: Any) -> None:
    """Bytes from 0 to 255 are as well conditioned as numbers from 0 to 1."""
    X, y, X_test, _ = pixels
    C = 0.01
    raw = SoftmaxClassifier(C=C / 255**2, tol=tol).fit(X, y)
    scaled = SoftmaxClassifier(C=C, tol=tol).fit((X / 255).astype(np.float32), y)
    passes = raw.history_["passes"][-1], scaled.history_["passes"][-1]
    # a rough tol asks more of bytes, whose gradients are 255 times as steep
    assert abs(passes[0] - passes[1]) <= share * max(passes) + 1
    assert raw.gap_.objective == pytest.approx(scaled.gap_.objective, rel=2 * tol)
    np.testing.assert_allclose(
        raw.predict_proba(X_test),
        scaled.predict_proba(X_test / np.float32(255)),
        atol=2 * math.sqrt(tol),
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
def test_dtypes_are_read_as_stored(dtype: Any, pixels: Any, monkeypatch: Any) -> None:
    X, y = pixels[0][:500].astype(dtype), pixels[1][:500]
    seen = []
    minimize = module.fit_full.__globals__["solver"].minimize

    def spy(X: Array, *args: Any, **options: Any) -> Any:
        seen.append(X)
        return minimize(X, *args, **options)

    monkeypatch.setattr("csoftmax.solver.minimize", spy)
    classifier = SoftmaxClassifier(C=1e-6, tol=1e-2).fit(X, y)
    assert seen[0] is X or np.shares_memory(seen[0], X)
    compute = np.float64 if dtype is np.float64 else np.float32
    for array in (
        classifier.coef_, classifier.intercept_, classifier.decision_function(X),
        classifier.predict_proba(X), classifier.predict_log_proba(X),
    ):  # fmt: skip
        assert array.dtype == compute
    assert classifier.score(X, y) > 0.8


@pytest.mark.parametrize("dtype", [np.int64, np.int16, np.bool_, object])
def test_other_numbers_become_floats(dtype: Any) -> None:
    X, y = small()
    X = (X > 0.5).astype(dtype)
    classifier = SoftmaxClassifier(tol=1e-8).fit(X, y)
    assert classifier.coef_.dtype == (np.float32 if dtype is np.bool_ else np.float64)
    expected = SoftmaxClassifier(tol=1e-8).fit(X.astype(float), y)
    np.testing.assert_allclose(classifier.coef_, expected.coef_, atol=1e-3)


def test_memory_maps_are_not_loaded(tmp_path: Path, pixels: Any) -> None:
    path = tmp_path / "X.npy"
    np.save(path, np.asfortranarray(pixels[0]))
    mapped = np.load(path, mmap_mode="r")
    assert np.shares_memory(module.in_rows(np.asarray(mapped), math.inf), mapped)
    classifier = SoftmaxClassifier(C=1e-7, tol=1e-6).fit(mapped, pixels[1])
    in_memory = SoftmaxClassifier(C=1e-7, tol=1e-6).fit(pixels[0], pixels[1])
    np.testing.assert_allclose(
        classifier.predict_proba(pixels[2]), in_memory.predict_proba(pixels[2]), atol=5e-3
    )


def test_column_major_arrays_are_copied_once(pixels: Any) -> None:
    X, y = np.asfortranarray(pixels[0][:600]), pixels[1][:600]
    assert module.in_rows(X, math.inf).flags.c_contiguous
    assert module.in_rows(X, X.nbytes - 1) is X
    a = SoftmaxClassifier(C=1e-6, tol=1e-3).fit(X, y)
    b = SoftmaxClassifier(C=1e-6, tol=1e-3).fit(np.ascontiguousarray(X), y)
    np.testing.assert_array_equal(a.coef_, b.coef_)


@pytest.mark.parametrize("frame", ["pandas", "polars"])
def test_frames(frame: str) -> None:
    X, y = IRIS
    names = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
    kinds = np.array(["setosa", "versicolor", "virginica"])[y]
    table: Any = pd.DataFrame(X, columns=names) if frame == "pandas" else pl.DataFrame(X, names)
    labels: Any = pd.Series(kinds) if frame == "pandas" else pl.Series(kinds)
    weight: Any = pd.Series(np.ones(150)) if frame == "pandas" else pl.Series(np.ones(150))
    classifier = SoftmaxClassifier().fit(table, labels, sample_weight=weight)
    named = hasattr(StandardScaler().fit(table), "feature_names_in_")  # newer scikit-learns: all
    assert named or frame == "polars"
    if named:
        assert classifier.feature_names_in_.tolist() == names
    assert classifier.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    np.testing.assert_array_equal(
        classifier.coef_, SoftmaxClassifier().fit(X, kinds, np.ones(150)).coef_
    )
    assert classifier.score(table, labels) > 0.95
    if not named:
        return
    with pytest.raises(ValueError, match="feature names"):
        classifier.predict(table.rename(columns={names[0]: "x"}) if frame == "pandas"
                           else table.rename({names[0]: "x"}))  # fmt: skip


def test_a_budget_that_is_too_small_is_refused_before_work_starts(monkeypatch: Any) -> None:
    X, y = small()
    monkeypatch.setattr("csoftmax.solver.minimize", None)
    message = (
        "max_memory is 1 MB, expected at least [0-9.]+ MB, X not counted, for a fit of 120 "
        "samples, 4 features and 3 classes; None is no limit"
    )
    with pytest.raises(MemoryBudgetError, match=message) as caught:
        SoftmaxClassifier(max_memory="1 MB").fit(X, y)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, MemoryError)


def test_a_copy_that_the_checks_make_counts() -> None:
    X, y = np.ones((1000, 100), np.int64), np.arange(1000) % 2
    assert module.conversion_bytes(X) == 800_000
    assert module.conversion_bytes(X.astype(np.float32)) == 0
    assert module.conversion_bytes(X.astype(">f4")) == 800_000
    assert module.conversion_bytes(pd.DataFrame(X)) == 800_000
    assert module.conversion_bytes([[1, 2]]) == 0
    needed = []
    for data in (X, X.astype(np.float64)):
        with pytest.raises(MemoryBudgetError, match="max_memory is 700 kB") as caught:
            SoftmaxClassifier(max_memory=700_000).fit(data, y)
        needed.append(float(str(caught.value).split("at least ")[1].split(" MB")[0]))
    assert needed[0] - needed[1] == pytest.approx(0.8, abs=0.1)  # the message rounds
