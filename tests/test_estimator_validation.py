"""`SoftmaxClassifier`: validation by iteration or epoch, and early stopping."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from estimator_cases import TIGHT, objective, small

from csoftmax import estimator as module
from csoftmax.estimator import SoftmaxClassifier


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
        expected = objective(classifier, X[:150], y[:150], 1e4)
        assert classifier.gap_.objective == pytest.approx(expected, rel=1e-6)
    full = SoftmaxClassifier(C=1e4, tol=1e-3).fit(X, y)
    assert np.abs(classifier.coef_).sum() < np.abs(full.coef_).sum()
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
