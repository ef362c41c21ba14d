"""`SoftmaxClassifier` fitted again: warm starts, partial_fit after fit, calls that fail."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from estimator_cases import TIGHT, objective, small
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from csoftmax.estimators import SoftmaxClassifier

NAMES = np.array(["ant", "bee", "cat"])


def _refitted(through: str, X: Any, y: Any, tmp_path: Path) -> SoftmaxClassifier:
    if through == "sklearn":
        theirs = LogisticRegression(warm_start=True).fit(X, y)
        return SoftmaxClassifier.from_sklearn(theirs)
    classifier = SoftmaxClassifier(warm_start=True)
    if through == "partial_fit":
        return classifier.partial_fit(X, y, classes=np.unique(y))
    classifier.fit(X, y)
    if through == "file":
        classifier.save(tmp_path / "model")
        return SoftmaxClassifier.load(tmp_path / "model")
    return classifier


@pytest.mark.parametrize("through", ["fit", "partial_fit", "file", "sklearn"])
@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_a_warm_start_needs_the_same_classes(through: str, solver: str, tmp_path: Path) -> None:
    X, y = small()
    classifier = _refitted(through, X, NAMES[y], tmp_path).set_params(solver=solver)
    W = classifier.coef_
    message = "the last fit had other classes: 'ant' where y has 'bee'; warm_start=False starts"
    with pytest.raises(ValueError, match=message):
        classifier.fit(X, np.array(["bee", "cat", "dog"])[y])
    with pytest.raises(ValueError, match="other classes: 'ant' where y has 0"):
        classifier.fit(X, y)
    assert classifier.coef_ is W
    classifier.fit(X, NAMES[y].astype(object))  # the same, in another array


@pytest.mark.parametrize("through", ["fit", "file", "sklearn"])
def test_a_warm_start_needs_the_same_features(through: str, tmp_path: Path) -> None:
    X, y = small()
    frame = pd.DataFrame(X, columns=list("abcd"))
    classifier = _refitted(through, frame, y, tmp_path)
    message = "the last fit had other features: 'a' where X has 'b'; warm_start=False"
    with pytest.raises(ValueError, match=message):
        classifier.fit(frame[list("bacd")], y)
    assert classifier.feature_names_in_.tolist() == list("abcd")
    with pytest.raises(ValueError, match="3 classes and 4 features, but X and y have 3 and 3"):
        classifier.fit(frame[list("abc")], y)
    classifier.predict(frame)
    classifier.fit(frame, y).fit(X, y)
    assert not hasattr(classifier, "feature_names_in_")


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_a_failed_fit_changes_nothing(solver: str) -> None:
    X, y = small()
    frame = pd.DataFrame(X, columns=list("abcd"))
    classifier = SoftmaxClassifier(solver=solver, random_state=0).fit(frame, y)
    before = dict(vars(classifier))
    wide = np.ones((120, 7))
    for call in (
        lambda: classifier.fit(wide, y, validation=(X, [9] * 120)),
        lambda: classifier.fit(wide, y, -1.0),
        lambda: classifier.fit(wide, np.zeros(120)),
        lambda: classifier.fit(wide, np.full((120, 3), 0.4)),
    ):
        with pytest.raises(ValueError):  # noqa: PT011
            call()
        assert vars(classifier) == before
    classifier.predict(frame)


def test_a_failed_partial_fit_changes_nothing() -> None:
    X, y = small()
    options = {"momentum": 0.9, "learning_rate": 0.1, "batch_size": 16, "random_state": 0}
    classifier = SoftmaxClassifier(**options)
    twin = SoftmaxClassifier(**options)
    with pytest.raises(ValueError, match="has the label 9"):
        classifier.partial_fit(X, [9] * 120, classes=[0, 1, 2])
    assert not hasattr(classifier, "n_features_in_")
    classifier.partial_fit(X, y, [0, 1, 2])
    with pytest.raises(ValueError, match="the descent diverged"), np.errstate(all="ignore"):
        classifier.partial_fit(X * 1e300, y)
    twin.partial_fit(X, y, [0, 1, 2])
    for each in (classifier, twin):
        each.partial_fit(X, y)
    np.testing.assert_array_equal(classifier.coef_, twin.coef_)


def test_partial_fit_counts_the_weight_of_fit(tmp_path: Path) -> None:
    """The penalty is 1 / (C S) with all the weight so far: here of two times the samples."""
    X, y = small()
    rate, C = 1e-3, 0.01
    fitted = SoftmaxClassifier(C=C, learning_rate=rate, batch_size=200, momentum=0.0).fit(X, y)
    fitted.save(tmp_path / "model")
    for classifier in (fitted, SoftmaxClassifier.load(tmp_path / "model")):
        W = classifier.coef_.copy()
        logits = X @ W.T + classifier.intercept_
        p = np.exp(logits - np.logaddexp.reduce(logits, axis=1)[:, None])
        gradient = (p - np.eye(3)[y]).T @ X / 120 + W / (C * 240)
        classifier.partial_fit(X, y)
        np.testing.assert_allclose(classifier.coef_, W - rate * gradient, rtol=1e-12)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_class_that_had_no_sample_comes_back(n_classes: int, tmp_path: Path) -> None:
    X, y = small(n_classes)
    last = n_classes - 1
    classifier = SoftmaxClassifier(warm_start=True, random_state=0).fit(X, y, y < last)
    assert not (classifier.predict(X) == last).any()
    classifier.save(tmp_path / "model")
    for each in (classifier, SoftmaxClassifier.load(tmp_path / "model")):
        for _ in range(20):
            each.partial_fit(X, y)
        assert each.score(X, y) > 0.9 * SoftmaxClassifier().fit(X, y).score(X, y)
    again = SoftmaxClassifier(warm_start=True, tol=TIGHT).fit(X, y, y < last).fit(X, y)
    cold = SoftmaxClassifier(tol=TIGHT).fit(X, y)
    np.testing.assert_allclose(again.coef_, cold.coef_, atol=1e-5)


def test_the_history_of_partial_fit_is_of_epochs() -> None:
    X, y = small()
    classifier = SoftmaxClassifier(random_state=0).fit(X, y, validation=(X, y))
    classifier.partial_fit(X, y).partial_fit(X, y)
    assert {name: len(values) for name, values in classifier.history_.items()} == dict.fromkeys(
        ("objective", "loss", "accuracy", "seconds"), 2
    )
    assert classifier.n_iter_.tolist() == [2]


# ---- no iteration ------------------------------------------------------------------------------


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_no_iteration_is_no_fit(solver: str, n_classes: int) -> None:
    """As with LogisticRegression: 0, or where a warm start begins, and a warning."""
    X, y = small(n_classes)
    classifier = SoftmaxClassifier(max_iter=0, solver=solver, warm_start=True)
    with pytest.warns(ConvergenceWarning):
        classifier.fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = LogisticRegression(max_iter=0, solver="newton-cholesky").fit(X, y)
    np.testing.assert_array_equal(classifier.coef_, theirs.coef_)
    np.testing.assert_array_equal(classifier.intercept_, theirs.intercept_)
    assert classifier.n_iter_.tolist() == theirs.n_iter_.tolist() == [0]
    assert classifier.gap_.objective == pytest.approx(math.log(n_classes))
    optimum = SoftmaxClassifier(tol=TIGHT).fit(X, y)
    assert classifier.gap_.objective - classifier.gap_.bound <= optimum.gap_.objective
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        classifier.set_params(max_iter=50).fit(X, y)
        W = classifier.coef_.copy()
        classifier.set_params(max_iter=0).fit(X, y, validation=(X, y))
    np.testing.assert_allclose(classifier.coef_, W, rtol=1e-12)
    assert classifier.gap_.objective == pytest.approx(objective(classifier, X, y, 1.0), rel=1e-9)


def test_scores_are_weighted() -> None:
    X, y = small()
    s = np.arange(120.0)
    classifier = SoftmaxClassifier().fit(X, y)
    right = classifier.predict(X) == y
    assert classifier.score(X, y, sample_weight=s) == pytest.approx(s @ right / s.sum())
    assert classifier.score(X, y, sample_weight=pd.Series(s)) == pytest.approx(s @ right / s.sum())
