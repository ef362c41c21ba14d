"""`SoftmaxClassifier` by minibatches: `solver="sgd"` and `partial_fit`."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest
from estimator_cases import TIGHT, small
from sklearn.exceptions import ConvergenceWarning

import csoftmax as cs
from csoftmax.estimators import SoftmaxClassifier


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


def test_without_an_intercept_that_of_the_last_fit_is_dropped() -> None:
    X, y = small(3)
    options = {"C": math.inf, "learning_rate": 0.25, "batch_size": 200, "momentum": 0.9}
    classifier = SoftmaxClassifier(**options).partial_fit(X, y, classes=[0, 1, 2])
    W = classifier.coef_.T.copy()
    assert classifier.intercept_.any()
    _, first, _ = cs.linear_cross_entropy_grad(X, np.zeros((4, 3)), np.zeros(3), y)
    _, second, _ = cs.linear_cross_entropy_grad(X, W, np.zeros(3), y)
    classifier.set_params(fit_intercept=False).partial_fit(X, y)
    np.testing.assert_allclose(classifier.coef_.T, W - 0.25 * (0.9 * first + second), atol=1e-12)
    assert not classifier.intercept_.any()


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


def test_interrupted_sgd_keeps_the_last_epoch(monkeypatch: Any) -> None:
    X, y = small()
    from csoftmax.estimators import sgd

    epochs = []
    train_epoch = sgd.train_epoch

    def interrupted(*args: Any, **options: Any) -> Any:
        if len(epochs) == limit:
            raise KeyboardInterrupt
        epochs.append(train_epoch(*args, **options))
        return epochs[-1]

    monkeypatch.setattr(sgd, "train_epoch", interrupted)
    limit = 2
    with pytest.warns(ConvergenceWarning, match="interrupted: .* after epoch 2"):
        classifier = SoftmaxClassifier(solver="sgd").fit(X, y)
    assert classifier.n_iter_.tolist() == [2]
    epochs.clear()
    limit = 0
    with pytest.raises(KeyboardInterrupt):
        SoftmaxClassifier(solver="sgd").fit(X, y)
