"""`SoftmaxClassifier`: scikit-learn's own checks, its objective, its data, its files."""

from __future__ import annotations

import copy
import json
import math
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import csoftmax as cs
from csoftmax import estimator as module
from csoftmax.data import DataError
from csoftmax.estimator import Gap, MemoryBudgetError, SoftmaxClassifier

Array = Any
TIGHT = 1e-10  # of tol, where results are compared with those of another solver
IRIS = load_iris(return_X_y=True)
CANCER = load_breast_cancer(return_X_y=True)


@pytest.fixture(scope="module")
def pixels() -> tuple[Array, Array, Array, Array]:
    """Images as rows of bytes."""
    train, test = cs.fashion_mnist_sample()
    return train.X.reshape(-1, 784), train.y, test.X.reshape(-1, 784), test.y


def objective(
    model: Any, X: Array, y: Array, C: float, sample_weight: Array | None = None
) -> float:
    """What LogisticRegression minimises, in float64, from the documented formula."""
    s = np.ones(len(X)) if sample_weight is None else sample_weight
    logits = np.asarray(X, float) @ np.asarray(model.coef_, float).T + model.intercept_
    if len(model.classes_) == 2:
        signs = np.where(y == model.classes_[1], 1.0, -1.0)
        losses = np.logaddexp(0, -signs * logits[:, 0])
    else:
        right = np.searchsorted(model.classes_, y)
        losses = np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(X)), right]
    penalty = np.square(np.asarray(model.coef_, float)).sum() / (2 * C * s.sum())
    return float(s @ losses / s.sum() + penalty)


def small(n_classes: int = 3, dtype: Any = np.float64) -> tuple[Array, Array]:
    rng = np.random.default_rng(n_classes)
    y = rng.integers(0, n_classes, 120)
    X = rng.normal(size=(120, 4)) + np.eye(n_classes, 4)[y] * 1.5
    return X.astype(dtype), y


# ---- scikit-learn's own checks -------------------------------------------------------------------


@parametrize_with_checks([SoftmaxClassifier()])
def test_scikit_learn_checks(estimator: Any, check: Any) -> None:
    check(estimator)


# ---- the objective -------------------------------------------------------------------------------


@pytest.mark.parametrize("C", [1e-3, 1.0, 50.0])
@pytest.mark.parametrize("data", [IRIS, CANCER], ids=["3 classes", "2 classes"])
def test_the_optimum_is_that_of_logistic_regression(data: Any, C: float) -> None:
    X, y = data
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    ours = SoftmaxClassifier(C=C, tol=TIGHT).fit(X, y)
    theirs = LogisticRegression(C=C, tol=1e-10, max_iter=1000, solver="newton-cholesky").fit(X, y)
    assert ours.coef_.shape == theirs.coef_.shape
    assert ours.intercept_.shape == theirs.intercept_.shape
    assert objective(ours, X, y, C) == pytest.approx(objective(theirs, X, y, C), rel=1e-7)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=2e-4)
    assert ours.gap_.objective == pytest.approx(objective(ours, X, y, C), rel=1e-9)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 3.0, 1: 0.5}])
def test_weights_are_those_of_logistic_regression(
    n_classes: int, fit_intercept: bool, class_weight: Any
) -> None:
    X, y = small(n_classes)
    weight = np.random.default_rng(0).uniform(0, 2, len(y))
    settings = {"C": 0.5, "fit_intercept": fit_intercept, "class_weight": class_weight}
    ours = SoftmaxClassifier(tol=TIGHT, **settings).fit(X, y, weight)
    if class_weight == "balanced":  # older scikit-learns leave the sample weights out of it
        by_class = np.bincount(y, weight)
        settings["class_weight"] = dict(enumerate(weight.sum() / (n_classes * by_class)))
    theirs = LogisticRegression(tol=1e-10, max_iter=5000, **settings).fit(X, y, weight)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-4)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-4)
    assert (ours.intercept_ == 0).all() != fit_intercept


def test_the_gap_holds_the_optimum() -> None:
    X, y = CANCER
    optimum = SoftmaxClassifier(tol=TIGHT).fit(X, y).gap_.objective
    for max_iter in (1, 2, 4):
        with pytest.warns(ConvergenceWarning):
            gap = SoftmaxClassifier(max_iter=max_iter, tol=0.0).fit(X, y).gap_
        assert gap.objective - gap.bound <= optimum <= gap.objective
        assert gap.relative == gap.estimate / gap.objective
    assert Gap(0.0, 0.0, 0.0).relative == 0.0


def test_two_classes_have_the_objective_of_one_row() -> None:
    X, y = small(2)
    ours = SoftmaxClassifier(C=0.3, tol=TIGHT).fit(X, y)
    assert ours.gap_.objective == pytest.approx(objective(ours, X, y, 0.3), rel=1e-9)
    p = 1 / (1 + np.exp(-ours.decision_function(X)))
    np.testing.assert_allclose(ours.predict_proba(X)[:, 1], p, rtol=1e-12)
    np.testing.assert_allclose(
        ours.predict_log_proba(X), np.log(np.column_stack([1 - p, p])), rtol=1e-9
    )


@pytest.mark.parametrize("n_classes", [2, 3])
def test_predictions_of_many_rows_go_in_blocks(n_classes: int, monkeypatch: Any) -> None:
    X, y = small(n_classes, np.float32)
    classifier = SoftmaxClassifier().fit(X, y)
    expected = [
        getattr(classifier, name)(X)
        for name in ("decision_function", "predict_proba", "predict_log_proba")
    ]
    monkeypatch.setattr("csoftmax._estimator_base._BLOCK_BYTES", 100)
    for name, values in zip(
        ("decision_function", "predict_proba", "predict_log_proba"), expected, strict=True
    ):
        np.testing.assert_array_equal(getattr(classifier, name)(X), values)
    logits = np.asarray(X, float) @ classifier.coef_.T.astype(float) + classifier.intercept_
    np.testing.assert_allclose(expected[0].reshape(len(X), -1), logits, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(classifier.predict(X), expected[1].argmax(axis=1))


def test_weight_two_is_the_sample_twice() -> None:
    X, y = small()
    twice = np.arange(len(y)) % 3 == 0
    weighted = SoftmaxClassifier(tol=TIGHT).fit(X, y, 1.0 + twice)
    repeated = SoftmaxClassifier(tol=TIGHT).fit(
        np.concatenate([X, X[twice]]), np.concatenate([y, y[twice]])
    )
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, atol=1e-5)


def test_without_a_penalty() -> None:
    X, y = small()
    ours = SoftmaxClassifier(C=math.inf, tol=TIGHT).fit(X, y)
    theirs = LogisticRegression(C=math.inf, tol=1e-8, max_iter=5000).fit(X, y)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-4)
    assert ours.gap_.bound == math.inf


def test_an_early_stop_warns_of_the_distance() -> None:
    X, y = CANCER
    with pytest.warns(ConvergenceWarning, match="above the optimum by estimate") as caught:
        classifier = SoftmaxClassifier(max_iter=3, tol=1e-8).fit(X, y)
    assert classifier.n_iter_.tolist() == [3]
    assert classifier.history_["objective"][-1] == classifier.gap_.objective
    assert len(classifier.history_["objective"]) in (3, 4)  # where it starts may be there too
    assert len(caught) == 1


def test_warm_start() -> None:
    X, y = IRIS
    classifier = SoftmaxClassifier(warm_start=True, tol=1e-6).fit(X, y)
    first = int(classifier.n_iter_[0])
    assert int(classifier.set_params(C=1.1).fit(X, y).n_iter_[0]) < first
    again = int(classifier.fit(X, y).n_iter_[0])
    assert again <= 1
    with pytest.raises(ValueError, match="the last fit had 3 classes and 4 features"):
        classifier.fit(X[:, :2], y)


# ---- pixels ----------------------------------------------------------------------------------


def test_pixels_need_no_scaling(pixels: Any) -> None:
    """Bytes from 0 to 255 are as well conditioned as numbers from 0 to 1."""
    X, y, X_test, _ = pixels
    C = 0.01
    raw = SoftmaxClassifier(C=C / 255**2, tol=1e-4).fit(X, y)
    scaled = SoftmaxClassifier(C=C, tol=1e-4).fit((X / 255).astype(np.float32), y)
    passes = raw.history_["passes"][-1], scaled.history_["passes"][-1]
    # the gradient is that of bytes: up to a tenth more passes, and five, to bring it down
    assert abs(passes[0] - passes[1]) <= 0.2 * max(passes) + 6
    assert raw.gap_.objective == pytest.approx(scaled.gap_.objective, rel=2e-4)
    np.testing.assert_allclose(
        raw.predict_proba(X_test), scaled.predict_proba(X_test / np.float32(255)), atol=0.02
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
def test_dtypes_are_read_as_stored(dtype: Any, pixels: Any, monkeypatch: Any) -> None:
    X, y = pixels[0][:500].astype(dtype), pixels[1][:500]
    seen = []
    minimize = module.fit_lbfgs.__globals__["solver"].minimize

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
    assert module.in_rows(np.asarray(mapped), math.inf) is not None
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


def test_results_do_not_depend_on_threads(pixels: Any) -> None:
    X, y = pixels[0], pixels[1]
    fits = [SoftmaxClassifier(C=1e-6, tol=1e-2, n_threads=n).fit(X, y).coef_ for n in (1, 2, 3)]
    np.testing.assert_array_equal(fits[0], fits[1])
    np.testing.assert_array_equal(fits[0], fits[2])


# ---- frames, labels, refusals ----------------------------------------------------------------


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


LABELS = {
    "str": np.array(["zebra", "ant", "bee"]),
    "int": np.array([30, -10, 2**60]),
    "uint8": np.array([3, 1, 200], np.uint8),
    "float": np.array([0.0, 1.0, 2.0]),
    "object": np.array(["zebra", "ant", "bee"], object),
    "bool": np.array([False, True]),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_any_kind_survive_a_file(kind: str, tmp_path: Path) -> None:
    labels = LABELS[kind]
    X, y = small(len(labels))
    classifier = SoftmaxClassifier().fit(X, labels[y])
    assert classifier.classes_.tolist() == sorted(labels.tolist())
    classifier.save(tmp_path / "model.safetensors")
    loaded = SoftmaxClassifier.load(tmp_path / "model.safetensors")
    assert loaded.classes_.dtype == classifier.classes_.dtype
    np.testing.assert_array_equal(loaded.classes_, classifier.classes_)
    np.testing.assert_array_equal(loaded.predict(X), classifier.predict(X))
    np.testing.assert_array_equal(loaded.predict_proba(X), classifier.predict_proba(X))


def test_sparse_input_is_refused() -> None:
    X, y = small()
    with pytest.raises(TypeError, match=r"(?i)sparse.*dense"):
        SoftmaxClassifier().fit(sparse.csr_array(X), y)
    with pytest.raises(TypeError, match=r"(?i)sparse.*dense"):
        SoftmaxClassifier().fit(X, y).predict(sparse.csr_array(X))


WRONG_SETTINGS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"C": 0}, ValueError, r"C is 0, expected a number > 0 \(inf for no penalty\)"),
    ({"C": math.nan}, ValueError, "C is nan"),
    ({"C": "1"}, TypeError, "C is '1', expected a number"),
    ({"C": True}, TypeError, "C is True"),
    ({"tol": -1.0}, ValueError, "tol is -1.0, expected at least 0"),
    ({"fit_intercept": 1}, TypeError, "fit_intercept is 1, expected True or False"),
    ({"solver": "saga"}, ValueError, """solver is 'saga', expected "lbfgs" or "sgd" """.strip()),
    ({"max_iter": 0}, ValueError, "max_iter is 0, expected at least 1"),
    ({"max_iter": 1.5}, TypeError, "max_iter is a float, expected an integer"),
    ({"class_weight": "even"}, ValueError, "class_weight is 'even', expected a dict, \"balanced\""),
    ({"class_weight": {0: 1.0, 7: 1.0}}, ValueError, "class_weight has the key 7, expected the"),
    ({"class_weight": {0: -1.0}}, ValueError, r"class_weight\[0\] is -1.0, expected at least 0"),
    ({"class_weight": {0: 0, 1: 0, 2: 0}}, ValueError, "class_weight is zero for every class"),
    ({"batch_size": 0}, ValueError, "batch_size is 0"),
    ({"learning_rate": "fast"}, ValueError, "learning_rate is 'fast', expected a number or"),
    ({"learning_rate": -0.1}, ValueError, "learning_rate is -0.1, expected a number > 0"),
    ({"momentum": 1.0}, ValueError, r"momentum is 1.0, expected a number in \[0, 1\)"),
    ({"n_iter_no_change": 0}, ValueError, "n_iter_no_change is 0"),
    ({"early_stopping": "yes"}, TypeError, "early_stopping is 'yes', expected True or False"),
    ({"early_stopping": True, "validation_fraction": 1.5}, ValueError, "validation_fraction is 1"),
    ({"warm_start": None}, TypeError, "warm_start is None"),
    ({"n_threads": 0}, ValueError, "n_threads is 0"),
    ({"max_memory": "2 elephants"}, ValueError, "max_memory is '2 elephants', expected bytes > 0"),
    ({"max_memory": "1.2.3 GB"}, ValueError, "max_memory is '1.2.3 GB'"),
    ({"max_memory": -5}, ValueError, "max_memory is -5"),
    ({"verbose": -1}, ValueError, "verbose is -1, expected 0 or more"),
    ({"random_state": "dice"}, ValueError, "dice"),
]


@pytest.mark.parametrize(("settings", "error", "message"), WRONG_SETTINGS)
def test_wrong_settings(settings: dict[str, Any], error: type[Exception], message: str) -> None:
    X, y = small()
    with pytest.raises(error, match=message):
        SoftmaxClassifier(**settings).fit(X, y)


def test_wrong_data() -> None:
    X, y = small()
    classifier = SoftmaxClassifier()
    with pytest.raises(ValueError, match="y has only one class, 'a'; expected at least two"):
        classifier.fit(X, ["a"] * len(X))
    with pytest.raises(ValueError, match="sample_weight has shape"):
        classifier.fit(X, y, np.ones(3))
    with pytest.raises(ValueError, match=r"sample_weight\[4\] is -1"):
        classifier.fit(X, y, np.where(np.arange(len(y)) == 4, -1.0, 1.0))
    with pytest.raises(ValueError, match="sample_weight is zero for every sample"):
        classifier.fit(X, y, 0.0)
    with pytest.raises(ValueError, match="validation has the label 9, expected one of"):
        classifier.fit(X, y, validation=(X[:2], [9, 1]))
    with pytest.raises(TypeError, match=r"validation is a ndarray, expected a pair \(X, y\)"):
        classifier.fit(X, y, validation=X)
    with pytest.raises(NotFittedError):
        classifier.predict(X)
    many = np.arange(120) % 10
    with pytest.raises(ValueError, match=r"0, 1, 2, 3, 4, 5, \.\.\. \(10 in all\)"):
        classifier.fit(X, many, validation=(X[:1], [11]))


# ---- minibatches -----------------------------------------------------------------------------


def test_sgd_comes_near_the_optimum(pixels: Any) -> None:
    X, y, X_test, y_test = pixels
    settings = {"C": 1e-6, "random_state": 0}
    best = SoftmaxClassifier(**settings).fit(X, y)
    sgd = SoftmaxClassifier(solver="sgd", tol=1e-3, **settings).fit(X, y)
    assert sgd.gap_.objective < 1.1 * best.gap_.objective
    assert sgd.gap_.objective - sgd.gap_.bound <= best.gap_.objective
    assert sgd.score(X_test, y_test) > best.score(X_test, y_test) - 0.02
    assert sgd.n_iter_.tolist() == [len(sgd.history_["loss"])]
    assert sgd.history_["loss"][-1] < 0.7 * sgd.history_["loss"][0]
    again = SoftmaxClassifier(solver="sgd", tol=1e-3, **settings).fit(X, y)
    np.testing.assert_array_equal(sgd.coef_, again.coef_)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_minimises_the_weighted_objective(
    n_classes: int, fit_intercept: bool, momentum: float
) -> None:
    """One batch is gradient descent: it ends where the other solver ends."""
    X, y = small(n_classes)
    weight = np.random.default_rng(1).uniform(0.5, 2, len(y))
    settings = {"C": 0.1, "fit_intercept": fit_intercept, "class_weight": {1: 2.0}}
    exact = SoftmaxClassifier(tol=TIGHT, **settings).fit(X, y, weight)
    sgd = SoftmaxClassifier(
        solver="sgd",
        batch_size=1000,
        momentum=momentum,
        tol=1e-9,
        max_iter=4000,
        n_iter_no_change=200,
        **settings,
    ).fit(X, y, weight)
    np.testing.assert_allclose(sgd.coef_, exact.coef_, atol=2e-3)
    np.testing.assert_allclose(sgd.intercept_, exact.intercept_, atol=2e-3)
    assert sgd.gap_.objective == pytest.approx(exact.gap_.objective, rel=1e-5)


def test_a_learning_rate_applies_to_the_features_as_they_are() -> None:
    """Two steps of one batch, by hand."""
    X, y = small(3)
    with pytest.warns(ConvergenceWarning, match="the objective is still falling after 2 epochs"):
        classifier = SoftmaxClassifier(
            C=math.inf, solver="sgd", learning_rate=0.25, batch_size=200, max_iter=2, tol=0.0
        ).fit(X, y)
    W, b = np.zeros((4, 3)), np.zeros(3)
    for _ in range(2):
        _, dW, db = cs.linear_cross_entropy_grad(X, W, b, y)
        W, b = W - 0.25 * dW, b - 0.25 * db
    np.testing.assert_allclose(classifier.coef_, W.T, atol=1e-12)
    np.testing.assert_allclose(classifier.intercept_, b, atol=1e-12)


def test_divergence_is_an_error() -> None:
    X, y = small()
    with pytest.raises(ValueError, match="the descent diverged at learning rate 1e"):
        SoftmaxClassifier(solver="sgd", learning_rate=1e300, max_iter=50).fit(X, y)


def test_partial_fit_is_a_pass_over_what_it_is_given(pixels: Any) -> None:
    X, y, X_test, y_test = pixels
    classifier = SoftmaxClassifier(C=1e-6, random_state=0, momentum=0.5, batch_size=32)
    parts = [slice(i, i + 1500) for i in range(0, 6000, 1500)]
    for part in parts:
        classifier.partial_fit(X[part], y[part], classes=np.arange(10))
    assert classifier.score(X_test, y_test) > 0.7
    assert classifier.n_iter_.tolist() == [4]
    assert len(classifier.history_["loss"]) == 4
    losses = classifier.history_["loss"]
    assert losses[-1] < losses[0]
    # a pickle in the middle changes nothing: order, velocities and weights seen go with it
    other = SoftmaxClassifier(C=1e-6, random_state=0, momentum=0.5, batch_size=32)
    for part in parts:
        other = pickle.loads(pickle.dumps(other))
        other.partial_fit(X[part], y[part], classes=np.arange(10))
    np.testing.assert_array_equal(classifier.coef_, other.coef_)


def test_partial_fit_goes_on_from_any_fit() -> None:
    X, y = small(2)
    classifier = SoftmaxClassifier(C=0.1, tol=1e-9).fit(X, y)
    before = classifier.coef_.copy()
    classifier.partial_fit(X, y)
    np.testing.assert_allclose(classifier.coef_, before, atol=0.1)
    assert not np.array_equal(classifier.coef_, before)
    assert math.isnan(classifier.gap_.estimate)
    classifier.set_params(learning_rate=1e-9).partial_fit(X, y)
    moved = classifier.coef_.copy()
    classifier.coef_ = classifier.coef_ + 1.0
    classifier.partial_fit(X, y)
    np.testing.assert_allclose(classifier.coef_, moved + 1.0, atol=1e-6)


def test_partial_fit_refuses() -> None:
    X, y = small()
    with pytest.raises(ValueError, match="classes is None, expected all classes in the first call"):
        SoftmaxClassifier().partial_fit(X, y)
    with pytest.raises(ValueError, match="classes has 1 classes, expected at least two"):
        SoftmaxClassifier().partial_fit(X, y, classes=[1])
    with pytest.raises(ValueError, match="y has the label 2, expected one of the classes 0, 1"):
        SoftmaxClassifier().partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match='class_weight is "balanced"'):
        SoftmaxClassifier(class_weight="balanced").partial_fit(X, y, classes=[0, 1, 2])
    classifier = SoftmaxClassifier().partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match=r"classes is \[0, 1\], expected those of the first call"):
        classifier.partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match="3 features"):
        classifier.partial_fit(X[:, :3], y)


# ---- validation ------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_validation_is_recorded(solver: str, pixels: Any) -> None:
    X, y, X_test, y_test = pixels
    classifier = SoftmaxClassifier(C=1e-6, solver=solver, tol=1e-2, random_state=0)
    classifier.fit(X, y, validation=(X_test, y_test))
    history = classifier.history_
    n = len(history["loss"] if solver == "sgd" else history["objective"])
    assert len(history["validation_loss"]) == len(history["validation_accuracy"]) == n
    assert history["validation_accuracy"][-1] == pytest.approx(classifier.score(X_test, y_test))
    assert history["validation_loss"][-1] == pytest.approx(
        -np.mean(classifier.predict_log_proba(X_test)[np.arange(len(y_test)), y_test]), rel=1e-4
    )
    without = SoftmaxClassifier(C=1e-6, solver=solver, tol=1e-2, random_state=0).fit(X, y)
    np.testing.assert_array_equal(classifier.coef_, without.coef_)


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
@pytest.mark.parametrize("given", [True, False])
def test_early_stopping_keeps_the_best(solver: str, given: bool) -> None:
    """Labels that are half noise: to go on is to overfit."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 60))
    y = np.where(rng.random(200) < 0.5, X[:, 0] > 0, rng.random(200) < 0.5).astype(int)
    validation = (X[150:], y[150:]) if given else None
    classifier = SoftmaxClassifier(
        C=1e4, solver=solver, early_stopping=True, n_iter_no_change=3, validation_fraction=0.25,
        random_state=0, tol=1e-6,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier.fit(X[:150] if given else X, y[:150] if given else y, validation=validation)
    losses = classifier.history_["validation_loss"]
    assert len(losses) - 1 - int(np.argmin(losses)) == 3
    if given:
        loss = -np.mean(classifier.predict_log_proba(X[150:])[np.arange(50), y[150:]])
        assert loss == pytest.approx(min(losses), rel=1e-6)
    full = SoftmaxClassifier(C=1e4, tol=1e-3).fit(X, y)
    assert np.abs(classifier.coef_).sum() < np.abs(full.coef_).sum()
    assert classifier.gap_.objective > 0
    assert math.isnan(classifier.gap_.estimate) == (solver == "sgd")


def test_held_out_rows_are_not_fitted() -> None:
    X, y = small()
    classifier = SoftmaxClassifier(early_stopping=True, random_state=3, n_iter_no_change=10**6)
    classifier.set_params(tol=TIGHT).fit(X, y)
    seed = int(np.random.RandomState(3).randint(2**31 - 1))
    rows, held = module.held_out_rows(y, 0.1, seed)
    assert len(held) == 12
    assert not set(rows) & set(held)
    best = int(np.argmin(classifier.history_["validation_loss"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = SoftmaxClassifier(max_iter=max(best, 1), tol=TIGHT).fit(X[rows], y[rows])
    np.testing.assert_allclose(classifier.coef_, alone.coef_, atol=1e-6)


def test_verbose_tells(capsys: Any) -> None:
    X, y = small()
    SoftmaxClassifier(verbose=1).fit(X, y)
    told = capsys.readouterr()
    assert "the fit takes up to" in told.out + told.err
    assert "pass " in told.out + told.err
    with pytest.warns(ConvergenceWarning):
        SoftmaxClassifier(verbose=1, solver="sgd", max_iter=1).fit(X, y, validation=(X, y))
    told = capsys.readouterr()
    assert "epoch 1: loss" in told.out + told.err
    assert "validation loss" in told.out + told.err


def test_interrupted_lbfgs_keeps_the_best_so_far(monkeypatch: Any) -> None:
    from csoftmax._problem import Problem

    X, y = CANCER
    evaluate, calls = Problem.evaluate, []

    def interrupted(self: Any, *args: Any) -> Any:
        calls.append(1)
        if len(calls) > 6:
            raise KeyboardInterrupt
        return evaluate(self, *args)

    monkeypatch.setattr(Problem, "evaluate", interrupted)
    with pytest.warns(ConvergenceWarning, match="interrupted after"):
        classifier = SoftmaxClassifier(tol=1e-9).fit(X, y)
    assert classifier.score(X, y) > 0.9


def test_warnings_point_to_the_call() -> None:
    X, y = small()
    for settings in ({"max_iter": 1}, {"max_iter": 1, "solver": "sgd"}):
        with pytest.warns(ConvergenceWarning) as caught:
            SoftmaxClassifier(tol=1e-9, **settings).fit(X, y)
        assert [Path(each.filename).name for each in caught] == ["test_estimator.py"]


def test_threads(monkeypatch: Any) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert SoftmaxClassifier()._threads == 1
    assert SoftmaxClassifier(n_threads=3)._threads == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "0")
    everything = SoftmaxClassifier()._threads
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert SoftmaxClassifier()._threads == everything >= 1


def test_interrupted_sgd_keeps_the_last_epoch(monkeypatch: Any) -> None:
    X, y = small()
    from csoftmax import _estimator_sgd

    epochs = []
    train_epoch = _estimator_sgd.train_epoch

    def interrupted(*args: Any, **options: Any) -> Any:
        if len(epochs) == limit:
            raise KeyboardInterrupt
        epochs.append(train_epoch(*args, **options))
        return epochs[-1]

    monkeypatch.setattr(_estimator_sgd, "train_epoch", interrupted)
    limit = 2
    with pytest.warns(ConvergenceWarning, match="interrupted: .* after epoch 2"):
        classifier = SoftmaxClassifier(solver="sgd").fit(X, y)
    assert classifier.n_iter_.tolist() == [2]
    epochs.clear()
    limit = 0
    with pytest.raises(KeyboardInterrupt):
        SoftmaxClassifier(solver="sgd").fit(X, y)


def test_images_are_refused_with_a_word_of_what_would_do() -> None:
    images, y = np.zeros((6, 2, 2), np.uint8), [0, 1] * 3
    message = r"X has shape \(6, 2, 2\), expected .*; X.reshape\(len\(X\), -1\) has it"
    flat = images.reshape(6, -1)
    for call in (
        lambda: SoftmaxClassifier().fit(images, y),
        lambda: SoftmaxClassifier().partial_fit(images, y, classes=[0, 1]),
        lambda: SoftmaxClassifier().fit(flat, y, validation=(images, y)),
        lambda: SoftmaxClassifier().fit(flat, y).predict(images),
    ):
        with pytest.raises(ValueError, match=message):
            call()


# ---- memory ----------------------------------------------------------------------------------


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
    assert needed[0] - needed[1] == pytest.approx(0.8, abs=0.02)


def test_a_budget_is_kept(pixels: Any) -> None:
    """Measured: what NumPy allocates at the peak of a fit stays within the plan."""
    import tracemalloc

    rng = np.random.default_rng(0)
    y = np.arange(3000) % 50
    X = (rng.normal(size=(3000, 1500)) + rng.normal(size=(50, 1500))[y]).astype(np.float32)
    for budget in ("400 MB", "150 MB", "100 MB", "60 MB"):
        tracemalloc.start()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            SoftmaxClassifier(tol=0.0, max_iter=15, max_memory=budget).fit(X, y)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < module.as_bytes(budget), budget


# ---- living with scikit-learn ----------------------------------------------------------------


def test_pipeline_grid_search_and_pandas_output() -> None:
    X, y = load_iris(return_X_y=True, as_frame=True)
    pipeline = make_pipeline(StandardScaler(), SoftmaxClassifier()).set_output(transform="pandas")
    assert cross_val_score(pipeline, X, y).mean() > 0.9
    assert pipeline.fit(X, y)[-1].feature_names_in_.tolist() == X.columns.tolist()
    search = GridSearchCV(pipeline, {"softmaxclassifier__C": [1e-3, 1.0]}, n_jobs=2).fit(X, y)
    assert search.best_params_ == {"softmaxclassifier__C": 1.0}


def test_sample_weight_is_routed() -> None:
    X, y = IRIS
    weight = np.where(y == 0, 0.1, 1.0)
    with sklearn.config_context(enable_metadata_routing=True):
        classifier = SoftmaxClassifier().set_fit_request(sample_weight=True)
        pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), classifier)
        routed = pipeline.fit(X, y, sample_weight=weight)[-1]
    direct = SoftmaxClassifier().fit(StandardScaler().fit_transform(X), y, weight)
    np.testing.assert_array_equal(routed.coef_, direct.coef_)


@pytest.mark.parametrize("through", ["pickle", "joblib", "deepcopy", "file"])
def test_round_trips(through: str, tmp_path: Path) -> None:
    X, y = IRIS
    classifier = SoftmaxClassifier(C=0.7, class_weight={0: 1.0, 1: 2.0, 2: 1.0}, tol=1e-5)
    classifier.fit(pd.DataFrame(X, columns=list("abcd")), y)
    path = tmp_path / "model"
    if through == "pickle":
        other = pickle.loads(pickle.dumps(classifier))
    elif through == "joblib":
        joblib.dump(classifier, path)
        other = joblib.load(path)
    elif through == "deepcopy":
        other = copy.deepcopy(classifier)
    else:
        classifier.save(path)
        other = SoftmaxClassifier.load(path)
    frame = pd.DataFrame(X, columns=list("abcd"))
    np.testing.assert_array_equal(other.predict_proba(frame), classifier.predict_proba(frame))
    assert other.gap_ == classifier.gap_
    assert other.n_iter_.tolist() == classifier.n_iter_.tolist()
    assert other.get_params() == classifier.get_params()
    assert other.feature_names_in_.tolist() == list("abcd")


def test_clone_has_the_settings_only() -> None:
    classifier = SoftmaxClassifier(C=3.0, max_memory="1 GB").fit(*IRIS)
    other = clone(classifier)
    assert other.get_params() == classifier.get_params()
    assert not hasattr(other, "coef_")


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_from_and_to_logistic_regression(n_classes: int, fit_intercept: bool) -> None:
    X, y = small(n_classes)
    names = np.array(["a", "b", "c"])[y]
    theirs = LogisticRegression(C=0.2, fit_intercept=fit_intercept, warm_start=True).fit(X, names)
    ours = SoftmaxClassifier.from_sklearn(theirs)
    assert (ours.C, ours.fit_intercept, ours.warm_start) == (0.2, fit_intercept, True)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-12)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    back = ours.to_sklearn()
    np.testing.assert_allclose(back.predict_proba(X), theirs.predict_proba(X), atol=1e-12)
    assert back.get_params()["C"] == 0.2
    assert SoftmaxClassifier.from_sklearn(back).fit(X, names).n_iter_[0] < 10


def test_to_logistic_regression_from_pixels(pixels: Any) -> None:
    X, y, X_test, _ = pixels
    ours = SoftmaxClassifier(C=1e-6).fit(X, y)
    theirs = ours.to_sklearn()
    assert theirs.n_features_in_ == 784
    assert np.abs(theirs.predict_proba(X_test) - ours.predict_proba(X_test)).max() < 1e-6
    np.testing.assert_array_equal(theirs.classes_, ours.classes_)


def test_from_other_logistic_regressions() -> None:
    X, y = small(3)
    frame = pd.DataFrame(X, columns=list("abcd"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        chosen = LogisticRegressionCV(Cs=3, cv=2).fit(frame, y)
        unpenalised = LogisticRegression(C=math.inf).fit(X, y).sparsify()
    assert np.ravel(chosen.C_)[0] == SoftmaxClassifier.from_sklearn(chosen).C
    assert SoftmaxClassifier.from_sklearn(chosen).feature_names_in_.tolist() == list("abcd")
    assert math.inf == SoftmaxClassifier.from_sklearn(unpenalised).C
    assert SoftmaxClassifier.from_sklearn(chosen).to_sklearn().feature_names_in_.tolist() == list(
        "abcd"
    )
    with pytest.raises(TypeError, match="classifier is a Ridge, expected a LogisticRegression"):
        SoftmaxClassifier.from_sklearn(Ridge())
    chosen.solver = "liblinear"
    with pytest.raises(ValueError, match="one-against-rest"):
        SoftmaxClassifier.from_sklearn(chosen)


# ---- files -----------------------------------------------------------------------------------


def test_a_file_is_a_model_too(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for n_classes in (2, 3):
        X, y = small(n_classes)
        labels = np.array(["ant", "bee", "cat"])[y]
        classifier = SoftmaxClassifier(random_state=np.random.RandomState(0)).fit(X, labels)
        classifier.save(path)
        model = cs.SoftmaxRegression.load(path)
        assert model.class_names == tuple(sorted(set(labels)))
        np.testing.assert_allclose(model(X), classifier.predict_proba(X), atol=1e-12)
        assert SoftmaxClassifier.load(path).random_state is None


def _rewritten(path: Path, change: Any) -> None:
    from safetensors import safe_open
    from safetensors.numpy import save_file

    with safe_open(path, framework="numpy") as file:
        key, text = next(iter(file.metadata().items()))
        tensors = {name: file.get_tensor(name) for name in ("weight", "bias")}
    description = json.loads(text)
    change(description)
    save_file(tensors, path, {key: json.dumps(description)})


BROKEN: list[tuple[str, Any, str]] = [
    ("no classifier", lambda d: d.update(classifier=3), "a description of the classifier, got 3"),
    ("another", lambda d: d["classifier"].update(kind="Tree"), "expected a SoftmaxClassifier, got"),
    ("version", lambda d: d.update(format_version=99), "expected format version 1, got 99"),
    ("no classes", lambda d: d["classifier"].pop("classes"), "KeyError"),
    ("labels", lambda d: d["classifier"]["classes"].update(labels=[1, {}, 2]), "labels"),
    ("dtype", lambda d: d["classifier"]["classes"].update(dtype="V8"), "labels"),
    ("count", lambda d: d["classifier"]["classes"].update(labels=[1, 2]), "one per row of weight"),
    ("huge", lambda d: d["classifier"]["classes"].update(labels=[1, 2, 2**80]), "OverflowError"),
    ("names", lambda d: d["classifier"].update(feature_names=["a"]), "one feature name per column"),
    ("settings", lambda d: d["classifier"]["settings"].update(evil=1), "evil"),
    ("gap", lambda d: d["classifier"].update(gap=["far"]), "do not fit a classifier"),
]


@pytest.mark.parametrize(("change", "message"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_broken_files_are_refused(change: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    SoftmaxClassifier().fit(*IRIS).save(path)
    _rewritten(path, change)
    with pytest.raises(DataError, match=message) as caught:
        SoftmaxClassifier.load(path)
    assert str(path) in str(caught.value)


def test_files_that_are_not_there_or_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such model file"):
        SoftmaxClassifier.load(tmp_path / "nothing")
    cs.SoftmaxRegression(2, 1).save(tmp_path / "lone")
    with pytest.raises(
        DataError, match="lone: expected at least 2 classes of different names, got"
    ):
        SoftmaxClassifier.load(tmp_path / "lone")


@pytest.mark.parametrize(
    ("n_classes", "names", "classes"),
    [
        (3, None, [0, 1, 2]),
        (2, ["-1", "1"], [-1, 1]),
        (2, ["01", "1"], ["01", "1"]),
        (3, ["a", "b", "7"], ["a", "b", "7"]),
    ],
)
def test_a_plain_model_is_loaded_as_a_classifier(
    n_classes: int, names: Any, classes: list[Any], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 256, (50, 6), dtype=np.uint8), rng.integers(0, n_classes, 50)
    model = cs.SoftmaxRegression(6, n_classes, seed=0, scale=1 / 255, class_names=names)
    cs.train(model, (X, y), epochs=3)
    model.save(tmp_path / "plain")
    classifier = SoftmaxClassifier.load(tmp_path / "plain")
    assert classifier.classes_.tolist() == sorted(classes)
    order = np.argsort(classes)
    np.testing.assert_allclose(
        classifier.predict_proba(X), model.predict_proba(X)[:, order], atol=1e-6
    )
    labels = np.array(classes)[model.predict(X)]
    np.testing.assert_array_equal(classifier.predict(X), labels)
    assert math.isnan(classifier.gap_.estimate)
    labels = np.array(classes)[y]
    classifier.set_params(warm_start=True).fit(X, labels)
    assert classifier.gap_.relative < 1e-3
    np.testing.assert_array_equal(clone(classifier).fit(X, labels).classes_, sorted(classes))


def test_labels_that_cannot_be_saved(tmp_path: Path) -> None:
    X, y = small(2)
    classifier = SoftmaxClassifier().fit(X, y)
    classifier.classes_ = np.array([(1, 2), None], object)
    with pytest.raises(TypeError, match=r"the class \(1, 2\) is a tuple of dtype object, expected"):
        classifier.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()
    with pytest.raises(NotFittedError):
        SoftmaxClassifier().save(tmp_path / "model")


# ---- the package -----------------------------------------------------------------------------


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


def test_the_package_imports_without_scikit_learn() -> None:
    hide = "import sys; sys.modules['sklearn'] = None; sys.modules['scipy'] = None\n"
    done = run(f"{hide}from csoftmax import *\nimport csoftmax\nprint(dir(csoftmax))")
    assert done.returncode == 0, done.stderr
    assert "SoftmaxClassifierCV" in done.stdout
    for name in ("SoftmaxClassifier", "SoftmaxClassifierCV"):
        done = run(f"{hide}import csoftmax\ncsoftmax.{name}")
        last = done.stderr.strip().splitlines()[-1]
        assert last == (
            f"ImportError: csoftmax.{name} needs scikit-learn: pip install 'csoftmax[sklearn]'"
        )


def test_the_names_are_those_of_the_modules() -> None:
    assert cs.SoftmaxClassifier is SoftmaxClassifier
    with pytest.raises(AttributeError, match="has no attribute 'SoftmaxClasifier'"):
        cs.SoftmaxClasifier  # type: ignore[attr-defined]  # noqa: B018
