"""`SoftmaxClassifier`: validation by iteration or epoch, and early stopping."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from estimator_cases import TIGHT, objective, small

from csoftmax.estimators import SoftmaxClassifier
from csoftmax.estimators import classifier as module
from csoftmax.estimators.monitor import rows_to_watch


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
    rows, held = rows_to_watch(y, 0.1, seed)
    assert len(held) == 12
    assert not set(rows) & set(held)
    best = int(np.argmin(classifier.history_["validation_loss"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = SoftmaxClassifier(max_iter=max(best, 1), tol=TIGHT).fit(X[rows], y[rows])
    np.testing.assert_allclose(classifier.coef_, alone.coef_, atol=1e-6)


# ---- weights -----------------------------------------------------------------------------------


def _with_strangers(X: Any, y: Any) -> tuple[Any, Any, Any]:
    """Rows of weight 0 between the others, in number as many, far away and wrongly labelled."""
    rng = np.random.default_rng(0)
    count = np.sort(rng.permutation(2 * len(y))[: len(y)])
    many = rng.normal(size=(2 * len(y), X.shape[1])) * 30
    labels = rng.integers(0, len(np.unique(y)), 2 * len(y))
    many[count], labels[count] = X, y
    weight = np.zeros(2 * len(y))
    weight[count] = rng.uniform(0.5, 2.0, len(y))
    return many, labels, weight


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
@pytest.mark.parametrize("early_stopping", [True, False])
def test_rows_of_weight_zero_are_not_there(solver: str, early_stopping: bool) -> None:
    X, y = small()
    many, labels, weight = _with_strangers(X, y)
    options = {"solver": solver, "early_stopping": early_stopping, "random_state": 0}
    without = SoftmaxClassifier(**options).fit(X, y, weight[weight > 0])
    zeros = SoftmaxClassifier(**options).fit(many, labels, weight)
    if solver == "sgd":
        np.testing.assert_array_equal(zeros.coef_, without.coef_)
    np.testing.assert_allclose(zeros.coef_, without.coef_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(zeros.intercept_, without.intercept_, rtol=1e-6, atol=1e-9)
    for name in set(without.history_) - {"seconds", "estimate", "gradient_max"}:
        np.testing.assert_allclose(zeros.history_[name], without.history_[name], rtol=1e-6)
    if early_stopping:
        assert zeros.score(X, y) > 0.6


def test_partial_fit_leaves_rows_of_weight_zero_out() -> None:
    X, y = small()
    many, labels, weight = _with_strangers(X, y)
    without = SoftmaxClassifier(random_state=0, batch_size=16)
    zeros = SoftmaxClassifier(random_state=0, batch_size=16)
    for _ in range(2):
        without.partial_fit(X, y, [0, 1, 2], weight[weight > 0])
        zeros.partial_fit(many, labels, [0, 1, 2], weight)
    np.testing.assert_array_equal(zeros.coef_, without.coef_)


def test_a_class_of_weight_zero_is_not_held_out() -> None:
    X, y = small()
    y = np.where(np.arange(len(y)) == 5, 3, y)  # a single row of the class 3, which does not count
    for options, weight in (({}, (y < 3) * 1.0), ({"class_weight": {3: 0.0}}, None)):
        fitted = SoftmaxClassifier(early_stopping=True, random_state=0, **options).fit(X, y, weight)
        assert fitted.predict_proba(X)[:, 3].max() < 1e-6
        assert fitted.score(X, y) > 0.6


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
@pytest.mark.parametrize("class_weight", [None, {0: 3.0, 1: 0.0}, "balanced"])
def test_validation_is_weighted_as_the_objective_is(solver: str, class_weight: Any) -> None:
    X, y = small()
    s = np.random.default_rng(0).uniform(0, 2, 20)
    classifier = SoftmaxClassifier(solver=solver, class_weight=class_weight, random_state=0)
    classifier.fit(X[:100], y[:100], validation=(X[100:], y[100:], s))
    c = {0: 1.0, 1: 1.0, 2: 1.0}
    if class_weight == "balanced":  # as in training
        c = dict(enumerate(100 / (3 * np.bincount(y[:100]))))
    elif class_weight:
        c.update(class_weight)
    s = s * np.array([c[label] for label in y[100:]])
    losses = -classifier.predict_log_proba(X[100:])[np.arange(20), y[100:]]
    loss = classifier.history_["validation_loss"][-1]
    assert loss == pytest.approx(s @ losses / s.sum(), rel=1e-9)
    accuracy = classifier.history_["validation_accuracy"][-1]
    assert accuracy == pytest.approx(classifier.score(X[100:], y[100:], s))


def test_held_out_rows_have_the_weights_of_the_objective() -> None:
    X, y = small()
    weight = np.random.default_rng(0).uniform(0, 2, len(y))
    c = {0: 3.0, 1: 0.5}
    classifier = SoftmaxClassifier(early_stopping=True, random_state=3, class_weight=c)
    classifier.fit(X, y, weight)
    seed = int(np.random.RandomState(3).randint(2**31 - 1))
    rows, held = rows_to_watch(y, 0.1, seed)
    s = weight * np.array([3.0, 0.5, 1.0])[y]
    losses = -classifier.predict_log_proba(X)[np.arange(len(y)), y]
    best = min(classifier.history_["validation_loss"])
    assert best == pytest.approx(s[held] @ losses[held] / s[held].sum(), rel=1e-9)
    expected = objective(classifier, X[rows], y[rows], 1.0, s[rows])
    assert classifier.gap_.objective == pytest.approx(expected, rel=1e-9)


def test_bad_validation_is_refused() -> None:
    X, y = small()
    fit = SoftmaxClassifier(class_weight={0: 0.0}).fit
    with pytest.raises(TypeError, match="validation is a tuple of 4, expected a pair"):
        fit(X, y, validation=(X, y, None, None))
    with pytest.raises(ValueError, match=r"validation\[2\] has shape \(3,\), expected \(120,\)"):
        fit(X, y, validation=(X, y, np.ones(3)))
    with pytest.raises(ValueError, match=r"validation\[2\] is zero for every sample"):
        fit(X, y, validation=(X, y, np.zeros(120)))
    with pytest.raises(ValueError, match="class_weight is zero for every class in validation"):
        fit(X, y, validation=(X[y == 0], y[y == 0]))


# ---- what cannot be held out, or judged --------------------------------------------------------


def test_a_class_with_one_member_is_named() -> None:
    X, y = small()
    names = np.array(["ant", "bee", "cat", "dog"])[np.where(np.arange(len(y)) == 5, 3, y)]
    message = "y has the label 'dog' once, expected at least two .* early_stopping=True"
    with pytest.raises(ValueError, match=message):
        SoftmaxClassifier(early_stopping=True).fit(X, names)
    names[6] = "dog"  # two, of which one does not count
    with pytest.raises(ValueError, match=message):
        SoftmaxClassifier(early_stopping=True).fit(X, names, np.arange(len(y)) != 6)


def test_fractions_that_leave_a_part_without_a_class() -> None:
    X, y = small()
    for fraction, part in ((0.01, "2 would be held out"), (0.99, "1 would be left to train on")):
        message = f"validation_fraction is {fraction}: of 120 samples {part}, expected at least one"
        with pytest.raises(ValueError, match=message):
            SoftmaxClassifier(early_stopping=True, validation_fraction=fraction).fit(X, y)


def test_a_loss_of_nan_is_never_the_best(monkeypatch: Any) -> None:
    X, y = small()
    after, seen = module.Monitor.after, []

    def failing(self: Any, W: Any, b: Any) -> bool:
        """The second pass cannot be told."""
        seen.append(W.copy())
        X = self.X
        if len(seen) == 2:
            self.X = np.full_like(X, np.nan)
        stopped = after(self, W, b)
        self.X = X
        return stopped

    monkeypatch.setattr(module.Monitor, "after", failing)
    for solver in ("lbfgs", "sgd"):
        seen.clear()
        options = {"solver": solver, "early_stopping": True, "random_state": 0}
        classifier = SoftmaxClassifier(**options).fit(X, y)
        losses = classifier.history_["validation_loss"]
        assert math.isnan(losses[1])
        best = int(np.nanargmin(losses))
        np.testing.assert_array_equal(classifier.coef_, seen[best])
        if solver == "lbfgs":
            assert classifier.gap_.estimate == classifier.history_["estimate"][best]


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_nothing_but_nan_is_an_error(solver: str, monkeypatch: Any) -> None:
    X, y = small()
    classifier = SoftmaxClassifier(solver=solver, random_state=0).fit(X, y)
    before = dict(vars(classifier))
    monkeypatch.setattr("csoftmax.estimators.monitor.evaluated", lambda *args: (math.nan, 0.0))
    with pytest.raises(ValueError, match="the validation loss is nan after every pass"):
        classifier.set_params(early_stopping=True).fit(X, y)
    assert classifier.coef_ is before["coef_"]
    # where nothing depends on it, it is told as it is
    recorded = SoftmaxClassifier(solver=solver, random_state=0).fit(X, y, validation=(X, y))
    assert np.isnan(recorded.history_["validation_loss"]).all()
    np.testing.assert_array_equal(recorded.coef_, before["coef_"])
