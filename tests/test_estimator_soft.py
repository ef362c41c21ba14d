"""`SoftmaxClassifier`: probabilities as targets."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from estimator_cases import TIGHT, Array, small
from scipy.optimize import minimize
from scipy.special import log_softmax

from csoftmax.estimators import (
    ConvergenceWarning,
    MemoryBudgetError,
    SoftmaxClassifier,
    SoftmaxClassifierCV,
)


def soft(n_classes: int = 3, n: int = 120) -> tuple[Array, Array]:
    rng = np.random.default_rng(n_classes)
    X = rng.normal(size=(n, 4))
    return X, rng.dirichlet(np.full(n_classes, 0.7), n)


def minimum(X: Array, t: Array, s: Array, C: float) -> tuple[Array, Array, float]:
    """Minimise ``sum_i s_i sum_k -t_ik log p_ik / S + ||W||^2 / (2 C S)`` with SciPy."""
    K, f, S = t.shape[1], X.shape[1], s.sum()

    def value(x: Array) -> tuple[float, Array]:
        W, b = x[: K * f].reshape(K, f), x[K * f :]
        log_p = log_softmax(X @ W.T + b, axis=1)
        loss = -(s[:, None] * t * log_p).sum() / S + np.square(W).sum() / (2 * C * S)
        d = s[:, None] * (np.exp(log_p) * t.sum(axis=1, keepdims=True) - t) / S
        return loss, np.concatenate([(d.T @ X + W / (C * S)).ravel(), d.sum(axis=0)])

    done = minimize(value, np.zeros(K * (f + 1)), jac=True, method="BFGS", options={"gtol": 1e-9})
    return done.x[: K * f].reshape(K, f), done.x[K * f :], done.fun


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
@pytest.mark.parametrize("class_weight", [None, {0: 3.0, 1: 0.5}, "balanced"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_optimum_is_that_of_an_independent_solver(
    solver: str, class_weight: Any, n_classes: int
) -> None:
    X, t = soft(n_classes)
    s = np.random.default_rng(1).uniform(0.0, 2.0, len(X))
    c = np.ones(n_classes)
    if class_weight == "balanced":
        c = s.sum() / (n_classes * (s @ t))
    elif class_weight:
        c[:2] = 3.0, 0.5
    C = 0.3
    # class weights are factors of the loss's terms, and of what the penalty is compared with
    factor = (s[:, None] * t * c).sum() / s.sum()
    C_of_softmax = C / 2 if n_classes == 2 else C
    W, b, value = minimum(X, t * c / factor, s, C_of_softmax * factor)
    settings: dict[str, Any] = {"tol": TIGHT}
    if solver == "sgd":
        settings = {"tol": 1e-9, "batch_size": 1000, "max_iter": 5000, "n_iter_no_change": 200}
    ours = SoftmaxClassifier(C=C, solver=solver, class_weight=class_weight, **settings)
    ours.fit(X, t, s)
    coef, intercept = W - W.mean(axis=0), b - b.mean()
    if n_classes == 2:
        coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
    atol = 2e-5 if solver == "lbfgs" else 2e-3
    np.testing.assert_allclose(ours.coef_, coef, atol=atol)
    np.testing.assert_allclose(ours.intercept_, intercept, atol=atol)
    assert ours.gap_.objective == pytest.approx(value, rel=1e-6)
    assert ours.gap_.objective - ours.gap_.bound <= value * (1 + 1e-9)
    assert ours.classes_.tolist() == list(range(n_classes))


@pytest.mark.parametrize("settings", [{}, {"early_stopping": True}, {"class_weight": {0: 2.0}}])
@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_one_hot_rows_are_labels(solver: str, settings: dict[str, Any]) -> None:
    X, y = small(3)
    options = {"solver": solver, "random_state": 0, "momentum": 0.5, "tol": 1e-3, **settings}
    labels = SoftmaxClassifier(**options).fit(X, y)
    rows = SoftmaxClassifier(**options).fit(X, np.eye(3, dtype=int)[y])
    np.testing.assert_allclose(rows.coef_, labels.coef_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(rows.intercept_, labels.intercept_, rtol=1e-6, atol=1e-9)
    for name in rows.history_:
        if name != "seconds":
            np.testing.assert_allclose(rows.history_[name], labels.history_[name], rtol=1e-4)
    assert rows.score(X, np.eye(3)[y]) == labels.score(X, y)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_minibatches_of_pixels(fit_intercept: bool, momentum: float, pixels: Any) -> None:
    """Labels go through the compiled epoch, one-hot rows through one call per minibatch."""
    X, y = pixels[0][:700], pixels[1][:700]
    options = {"C": 1e-6, "fit_intercept": fit_intercept, "momentum": momentum, "random_state": 0}
    a, b = SoftmaxClassifier(**options), SoftmaxClassifier(**options)
    for _ in range(2):
        a.partial_fit(X, y, classes=range(10))
        b.partial_fit(X, np.eye(10)[y])
    np.testing.assert_allclose(b.coef_, a.coef_, atol=1e-4 * np.abs(a.coef_).max())
    np.testing.assert_allclose(b.intercept_, a.intercept_, atol=1e-4)
    np.testing.assert_allclose(b.history_["objective"], a.history_["objective"], rtol=1e-5)


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_validation_on_probabilities(solver: str) -> None:
    X, t = soft()
    s = np.arange(1.0, 21.0)
    classifier = SoftmaxClassifier(solver=solver, random_state=0)
    classifier.fit(X[:100], t[:100], validation=(X[100:], t[100:], s))
    losses = -(t[100:] * classifier.predict_log_proba(X[100:])).sum(axis=1)
    right = classifier.predict(X[100:]) == t[100:].argmax(axis=1)
    history = classifier.history_
    assert history["validation_loss"][-1] == pytest.approx(s @ losses / s.sum(), rel=1e-9)
    assert history["validation_accuracy"][-1] == pytest.approx(s @ right / s.sum())
    assert classifier.score(X[100:], t[100:], s) == pytest.approx(s @ right / s.sum())
    # labels may be judged by probabilities, and the other way round
    labels = SoftmaxClassifier().fit(X, t.argmax(axis=1), validation=(X, t))
    assert labels.history_["validation_accuracy"][-1] == labels.score(X, t.argmax(axis=1))
    SoftmaxClassifier().fit(X, t, validation=(X, t.argmax(axis=1)))


def test_held_out_rows_of_probabilities_need_no_two_of_each_class() -> None:
    X, t = soft(3, 40)
    t[:, 2] = 0.01
    t[7] = [0.1, 0.1, 10.0]
    t /= t.sum(axis=1, keepdims=True)
    assert np.bincount(t.argmax(axis=1))[2] == 1
    classifier = SoftmaxClassifier(early_stopping=True, random_state=0).fit(X, t)
    assert math.isfinite(min(classifier.history_["validation_loss"]))


def test_rounded_rows_are_divided_by_their_sums() -> None:
    X, t = soft()
    exact = SoftmaxClassifier(tol=TIGHT).fit(X, t)
    scaled = SoftmaxClassifier(tol=TIGHT).fit(X, t * 1.0005)
    np.testing.assert_allclose(scaled.coef_, exact.coef_, atol=1e-9)
    half = SoftmaxClassifier(tol=TIGHT).fit(X, t.astype(np.float16))
    np.testing.assert_allclose(half.coef_, exact.coef_, atol=5e-3)


def test_bad_probabilities_are_refused_by_row() -> None:
    X, t = soft()

    def changed(i: int, row: list[float]) -> Array:
        copy = t.copy()
        copy[i] = row
        return copy

    for fit in (SoftmaxClassifier().fit, SoftmaxClassifier().partial_fit):
        with pytest.raises(ValueError, match=r"y\[5\] has the sum 1.5, expected prob"):
            fit(X, changed(5, [0.5, 0.5, 0.5]))
        with pytest.raises(ValueError, match=r"y\[7, 1\] is -0.5, expected a finite"):
            fit(X, changed(7, [1.0, -0.5, 0.5]))
        with pytest.raises(ValueError, match=r"y\[9, 0\] is nan"):
            fit(X, changed(9, [math.nan, 0.5, 0.5]))
        with pytest.raises(ValueError, match="y has 119 rows but X has 120 samples"):
            fit(X, t[1:])
    fitted = SoftmaxClassifier().fit(X, t)
    with pytest.raises(ValueError, match="y has 2 columns, expected one for each of the 3 classes"):
        fitted.score(X, t[:, :2])
    with pytest.raises(ValueError, match="validation has 2 columns, expected"):
        fitted.fit(X, t, validation=(X, np.full((120, 2), 0.5)))
    with pytest.raises(ValueError, match=r"classes is \[2, 1, 0\], expected the order \[0, 1, 2\]"):
        SoftmaxClassifier().partial_fit(X, t, classes=[2, 1, 0])
    with pytest.raises(ValueError, match="1d array"):
        SoftmaxClassifierCV().fit(X, t)
    with pytest.raises(ValueError, match="1d array"):
        SoftmaxClassifier().fit(X, np.array([["a", "b"]] * 120))


def test_lists_of_probabilities_and_standard_errors() -> None:
    X, t = soft()
    classifier = SoftmaxClassifier().fit(X.tolist(), t.tolist())
    np.testing.assert_array_equal(classifier.coef_, SoftmaxClassifier().fit(X, t).coef_)
    assert classifier.standard_errors(X, t).coef.shape == (3, 4)


def test_interrupted_epochs_of_probabilities_change_nothing(monkeypatch: Any) -> None:
    from csoftmax.estimators import sgd

    X, t = soft()
    calls: list[int] = []
    linear = sgd.linear

    def interrupted(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 6:  # the second of four minibatches of the second epoch
            raise KeyboardInterrupt
        return linear(*args, **options)

    options = {"solver": "sgd", "batch_size": 32, "momentum": 0.5, "random_state": 0}
    monkeypatch.setattr(sgd, "linear", interrupted)
    with pytest.warns(ConvergenceWarning, match="interrupted: .* after epoch 1"):
        stopped = SoftmaxClassifier(**options).fit(X, t)
    monkeypatch.setattr(sgd, "linear", linear)
    with pytest.warns(ConvergenceWarning, match="after 1 epochs"):
        one = SoftmaxClassifier(max_iter=1, **options).fit(X, t)
    np.testing.assert_array_equal(stopped.coef_, one.coef_)


def test_the_copies_of_probabilities_count_as_memory() -> None:
    X, t = np.ones((1000, 2)), np.full((1000, 500), 1 / 500)
    needed = []
    for y in (np.arange(1000) % 500, t):
        with pytest.raises(MemoryBudgetError) as caught:
            SoftmaxClassifier(max_memory=1000).fit(X, y)
        needed.append(float(str(caught.value).split("at least ")[1].split(" MB")[0]))
    blocks = 3 * (1 << 22)  # of rows, as they are multiplied with the probabilities
    assert needed[1] - needed[0] == pytest.approx((2 * t.nbytes + blocks) / 1e6, abs=1)
