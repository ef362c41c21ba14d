"""`SoftmaxClassifier`: scikit-learn's own checks, the optimum, and stops before it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from estimator_cases import CANCER, IRIS, TIGHT, objective, small
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.utils.estimator_checks import parametrize_with_checks

import csoftmax as cs
from csoftmax.estimators import Gap, SoftmaxClassifier, SoftmaxClassifierCV


@parametrize_with_checks([SoftmaxClassifier()])
def test_scikit_learn_checks(estimator: Any, check: Any) -> None:
    check(estimator)


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


@pytest.mark.parametrize("n_classes", [2, 3])
def test_predictions_of_many_rows_go_in_blocks(n_classes: int, monkeypatch: Any) -> None:
    X, y = small(n_classes, np.float32)
    classifier = SoftmaxClassifier().fit(X, y)
    expected = [
        getattr(classifier, name)(X)
        for name in ("decision_function", "predict_proba", "predict_log_proba")
    ]
    monkeypatch.setattr("csoftmax.estimators.base._BLOCK_BYTES", 100)
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
    assert ours.gap_.bound == ours.gap_.objective  # the optimum is not below 0


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


def test_results_do_not_depend_on_threads(pixels: Any) -> None:
    X, y = pixels[0], pixels[1]
    fits = [SoftmaxClassifier(C=1e-6, tol=1e-2, n_threads=n).fit(X, y).coef_ for n in (1, 2, 3)]
    np.testing.assert_array_equal(fits[0], fits[1])
    np.testing.assert_array_equal(fits[0], fits[2])


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
    from csoftmax.solver.problem import Problem

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
    assert classifier.gap_.objective == min(classifier.history_["objective"])
    assert objective(classifier, X, y, 1.0) == pytest.approx(classifier.gap_.objective, rel=1e-9)
    assert classifier.score(X, y) > 0.9


def test_warnings_point_to_the_call() -> None:
    X, y = small()
    for settings in ({"max_iter": 1}, {"max_iter": 1, "solver": "sgd"}):
        with pytest.warns(ConvergenceWarning) as caught:
            SoftmaxClassifier(tol=1e-9, **settings).fit(X, y)
        assert [each.filename for each in caught] == [__file__]
    with pytest.warns(ConvergenceWarning) as caught:
        SoftmaxClassifierCV(Cs=[1.0], cv=3, max_iter=1).fit(X, y)
    assert [each.filename for each in caught] == [__file__] * 2  # of the folds, of the last fit
    order = np.argsort(y, kind="stable")
    with pytest.warns(UserWarning, match="cv leaves classes without a training row") as caught:
        SoftmaxClassifierCV(Cs=[1.0], cv=KFold(3)).fit(X[order], y[order])
    assert [each.filename for each in caught] == [__file__]


def test_threads(monkeypatch: Any) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert SoftmaxClassifier()._threads == 1
    assert SoftmaxClassifier(n_threads=3)._threads == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "0")
    assert SoftmaxClassifier()._threads == cs.info()["usable CPUs"]
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert SoftmaxClassifier()._threads == cs.info()["usable CPUs"]
