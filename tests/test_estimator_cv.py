"""`SoftmaxClassifierCV`: the choice of LogisticRegressionCV, from passes that all heads share."""

from __future__ import annotations

import math
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, load_iris
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics import make_scorer
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import csoftmax as cs
from csoftmax.estimators import MemoryBudgetError, SoftmaxClassifier, SoftmaxClassifierCV, fit
from csoftmax.solver.memory import Plan

IRIS = load_iris(return_X_y=True)
NEW_ATTRIBUTES = {"use_legacy_attributes": False, "l1_ratios": (0.0,), "scoring": None}


def two_classes() -> tuple[Any, Any]:
    X, y = load_breast_cancer(return_X_y=True)
    return (X - X.mean(axis=0)) / X.std(axis=0), y


def reference(**settings: Any) -> Any:
    """LogisticRegressionCV to the optimum, with the attributes of its newest form."""
    try:
        return LogisticRegressionCV(**{**NEW_ATTRIBUTES, **settings})
    except TypeError:
        pytest.skip("this scikit-learn has only the older attributes")


@parametrize_with_checks([SoftmaxClassifierCV(cv=3)])  # some checks have three samples of a class
def test_scikit_learn_checks(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("data", [IRIS, two_classes()], ids=["3 classes", "2 classes"])
@pytest.mark.parametrize("refit", [True, False])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_the_choice_and_the_scores_are_those_of_logistic_regression_cv(
    data: Any, refit: bool, fit_intercept: bool
) -> None:
    X, y = data
    settings = {"Cs": 7, "cv": 4, "refit": refit, "fit_intercept": fit_intercept}
    theirs = reference(tol=1e-9, max_iter=2000, solver="newton-cholesky", **settings).fit(X, y)
    ours = SoftmaxClassifierCV(tol=1e-9, max_iter=3000, **settings).fit(X, y)
    for name in ("scores_", "coefs_paths_", "n_iter_", "Cs_", "coef_", "intercept_"):
        assert getattr(ours, name).shape == getattr(theirs, name).shape, name
    np.testing.assert_array_equal(ours.Cs_, theirs.Cs_)
    np.testing.assert_allclose(ours.scores_, theirs.scores_, atol=0.02)
    assert (ours.scores_ == theirs.scores_).mean() > 0.9
    assert isinstance(ours.C_, float)
    if refit:
        assert ours.C_ == theirs.C_
        np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-3)
    strong = np.s_[:, :, :5]  # weaker penalties leave the parameters undetermined
    np.testing.assert_allclose(ours.coefs_paths_[strong], theirs.coefs_paths_[strong], atol=0.05)


def test_five_folds_of_ten_C_on_iris_as_it_comes() -> None:
    theirs = reference(cv=5, tol=1e-9, max_iter=2000, solver="newton-cholesky").fit(*IRIS)
    ours = SoftmaxClassifierCV(tol=1e-9).fit(*IRIS)
    assert ours.C_ == theirs.C_
    np.testing.assert_array_equal(ours.scores_, theirs.scores_)
    assert SoftmaxClassifierCV().fit(*IRIS).C_ == theirs.C_


def test_digits() -> None:
    X, y = load_digits(return_X_y=True)
    settings = {"Cs": [1e-2, 1e-1, 1.0], "cv": 3}
    theirs = reference(tol=1e-7, solver="newton-cg", **settings).fit(X / 16, y)
    ours = SoftmaxClassifierCV(tol=1e-8, **settings).fit(X / 16, y)
    assert ours.C_ == theirs.C_
    np.testing.assert_allclose(ours.scores_, theirs.scores_, atol=0.002)


def test_a_head_is_a_fit_of_its_own() -> None:
    X, y = IRIS
    weight = np.random.default_rng(0).uniform(0.5, 2, len(y))
    cv = StratifiedKFold(3)
    many = SoftmaxClassifierCV(Cs=[0.01, 1.0], cv=cv, tol=1e-11, class_weight={0: 2.0})
    many.fit(X, y, weight)
    for i, (train, test) in enumerate(cv.split(X, y)):
        for j, C in enumerate(many.Cs_):
            one = SoftmaxClassifier(C=C, tol=1e-10, class_weight={0: 2.0})
            one.fit(X[train], y[train], weight[train])
            path = many.coefs_paths_[i, 0, j]
            np.testing.assert_allclose(path[:, :-1], one.coef_, atol=1e-4)
            np.testing.assert_allclose(path[:, -1], one.intercept_, atol=1e-3)
            assert many.scores_[i, 0, j] == pytest.approx(
                one.score(X[test], y[test], weight[test]), abs=1e-12
            )


def test_the_result_is_that_of_the_classifier() -> None:
    X, y = IRIS
    weight = np.random.default_rng(0).uniform(0.5, 2, len(y))
    chosen = SoftmaxClassifierCV(class_weight="balanced").fit(X, y, weight)
    alone = SoftmaxClassifier(C=chosen.C_, class_weight="balanced").fit(X, y, weight)
    np.testing.assert_array_equal(chosen.coef_, alone.coef_)
    assert chosen.gap_ == alone.gap_


def test_balanced_weights_are_those_of_the_whole() -> None:
    X, y = two_classes()
    settings = {"Cs": [0.01, 0.1], "cv": 3, "class_weight": "balanced"}
    theirs = reference(tol=1e-9, solver="newton-cholesky", **settings).fit(X, y)
    ours = SoftmaxClassifierCV(tol=1e-10, **settings).fit(X, y)
    np.testing.assert_allclose(ours.scores_, theirs.scores_, atol=1e-9)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-3)


def test_one_run_of_the_solver_for_all_heads(monkeypatch: Any) -> None:
    calls: list[dict[str, Any]] = []
    minimize = fit.solver.minimize

    def spy(*args: Any, **options: Any) -> Any:
        calls.append(options)
        return minimize(*args, **options)

    monkeypatch.setattr(fit.solver, "minimize", spy)
    classifier = SoftmaxClassifierCV().fit(*IRIS)
    assert len(calls) == 2
    assert len(calls[0]["C"]) == 50
    assert calls[0]["sample_weight"].shape == (5, 150)
    assert np.size(calls[1]["C"]) == 1
    assert calls[0]["tol"] == pytest.approx(1e-3)
    assert calls[1]["tol"] == 1e-4
    assert calls[1]["C"] == classifier.C_


def test_groups_of_heads_go_from_strong_to_weak_penalties(monkeypatch: Any) -> None:
    X, y = IRIS
    Cs = [1.0, 0.01, 0.1]
    whole = SoftmaxClassifierCV(Cs=Cs, cv=3, tol=1e-10).fit(X, y)
    calls: list[dict[str, Any]] = []
    minimize = fit.solver.minimize

    def spy(*args: Any, **options: Any) -> Any:
        calls.append(options)
        return minimize(*args, **options)

    monkeypatch.setattr(fit.solver, "minimize", spy)
    plan = Plan(10, "full", 0.0)
    weights = np.ones((2, 150))
    W, b, iterations = fit.solve_heads(
        X, y, 3, np.array(Cs), weights, 1, plan, tol=1e-10, max_iter=500, n_threads=1
    )
    assert [call["C"].tolist() for call in calls] == [[0.01] * 2, [0.1] * 2, [1.0] * 2]
    assert calls[0]["W"] is None
    np.testing.assert_array_equal(calls[1]["W"], W[:, 1])
    np.testing.assert_array_equal(calls[2]["b"], b[:, 2])
    assert iterations.shape == (2, 3)
    alone = SoftmaxClassifier(C=1.0, tol=1e-10).fit(X, y)
    np.testing.assert_allclose(W[0, 0], alone.coef_, atol=1e-4)
    assert whole.Cs_.tolist() == Cs


def test_the_budget_decides_how_many_heads_go_together() -> None:
    X, budgets = np.zeros((1000, 500), np.float32), (math.inf, 3e8, 1.4e8)
    several = [fit.plan_groups(budget, X, 100, 1, 5, 10, 0) for budget in budgets]
    counts = [n for n, _ in several]
    assert counts[0] == 10
    assert 10 > counts[1] > counts[2] >= 1
    for budget, (_, plan) in zip(budgets, several, strict=True):
        assert plan.n_bytes <= budget
    with pytest.raises(MemoryBudgetError, match=r"max_memory is 1 kB, .* for 5 fits at once"):
        SoftmaxClassifierCV(max_memory=1000).fit(*IRIS)


@pytest.mark.parametrize(
    "scoring", ["accuracy", "neg_log_loss", "f1_macro", "roc_auc_ovr", "neg_brier_score"]
)
def test_scorers(scoring: str) -> None:
    X, y = IRIS
    names = np.array(["a", "b", "c"])[y]
    settings = {"Cs": [0.1, 10.0], "cv": 3, "scoring": scoring}
    theirs = reference(tol=1e-9, solver="newton-cholesky", **settings)
    try:
        theirs.fit(X, names)
    except ValueError:
        pytest.skip("a scorer of two classes only in this scikit-learn")
    ours = SoftmaxClassifierCV(tol=1e-9, **settings).fit(X, names)
    np.testing.assert_allclose(ours.scores_, theirs.scores_, atol=1e-4)
    assert ours.C_ == theirs.C_
    assert ours.score(X, names) == pytest.approx(theirs.score(X, names), abs=1e-4)


def test_scorers_of_two_classes() -> None:
    X, y = two_classes()
    names = np.array(["benign", "malignant"])[y]
    ours = SoftmaxClassifierCV(Cs=[0.1, 1.0], cv=3, scoring="f1", tol=1e-8).fit(X, names)
    theirs = reference(Cs=[0.1, 1.0], cv=3, scoring="f1", tol=1e-8).fit(X, names)
    np.testing.assert_allclose(ours.scores_, theirs.scores_, atol=1e-9)


def test_a_scorer_of_ones_own_and_weights() -> None:
    X, y = IRIS
    seen = []

    def share(y_true: Any, y_pred: Any, sample_weight: Any = None) -> float:
        seen.append(sample_weight)
        return float(np.average(y_true == y_pred, weights=sample_weight))

    weight = np.linspace(0.1, 1, len(y))
    ours = SoftmaxClassifierCV(Cs=2, cv=3, scoring=make_scorer(share)).fit(X, y, weight)
    assert len(seen) == 6
    assert all(len(each) == 50 for each in seen)
    plain = SoftmaxClassifierCV(Cs=2, cv=3).fit(X, y, weight)
    np.testing.assert_allclose(ours.scores_, plain.scores_, atol=1e-12)
    assert plain.score(X, y, weight) == pytest.approx(
        np.average(plain.predict(X) == y, weights=weight)
    )


@pytest.mark.filterwarnings("ignore:cv leaves classes")
def test_a_class_that_a_fold_lacks() -> None:
    X, y = IRIS
    cv = KFold(3)  # sorted by class: each fold lacks one
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = reference(cv=cv, Cs=[0.1, 1.0], tol=1e-9, max_iter=5000).fit(X, y)
    ours = SoftmaxClassifierCV(cv=cv, Cs=[0.1, 1.0], tol=1e-9).fit(X, y)
    assert (ours.scores_ == 0).all()
    np.testing.assert_array_equal(ours.scores_, theirs.scores_)
    assert ours.C_ == theirs.C_
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-3)
    losses = SoftmaxClassifierCV(cv=cv, Cs=[0.1], scoring="neg_log_loss").fit(X, y)
    assert (losses.scores_ < -1).all()
    assert np.isfinite(losses.coef_).all()


def test_splitters() -> None:
    X, y = IRIS
    generator = KFold(3, shuffle=True, random_state=0).split(X)
    from_generator = SoftmaxClassifierCV(Cs=2, cv=generator).fit(X, y)
    from_splitter = SoftmaxClassifierCV(Cs=2, cv=KFold(3, shuffle=True, random_state=0)).fit(X, y)
    np.testing.assert_array_equal(from_generator.scores_, from_splitter.scores_)
    train, test = np.arange(0, 150, 2), np.arange(1, 150, 2)
    repeated = SoftmaxClassifierCV(Cs=[1.0], cv=[(np.repeat(train, 2), test)], tol=1e-9).fit(X, y)
    doubled = SoftmaxClassifier(C=1.0, tol=1e-9).fit(X[train], y[train], np.full(75, 2.0))
    np.testing.assert_allclose(repeated.coefs_paths_[0, 0, 0, :, :-1], doubled.coef_, atol=1e-4)


def test_pixels_and_memory_maps(tmp_path: Path) -> None:
    train, test = cs.fashion_mnist_sample()
    np.save(tmp_path / "X.npy", train.X.reshape(-1, 784))
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    ours = SoftmaxClassifierCV(Cs=[1e-8, 1e-6], cv=2, tol=1e-2).fit(mapped, train.y)
    assert ours.coef_.dtype == np.float32
    assert ours.C_ == 1e-6
    assert ours.score(test.X.reshape(-1, 784), test.y) > 0.8


def test_metadata_routing() -> None:
    X, y = IRIS
    groups = np.arange(150) % 6
    weight = np.linspace(0.5, 1.5, 150)
    with pytest.raises(ValueError, match="fit got groups, which go to the splitter"):
        SoftmaxClassifierCV(cv=GroupKFold(3)).fit(X, y, groups=groups)
    with sklearn.config_context(enable_metadata_routing=True):
        scorer = sklearn.metrics.get_scorer("accuracy").set_score_request(sample_weight=True)
        ours = SoftmaxClassifierCV(Cs=2, cv=GroupKFold(3), scoring=scorer)
        ours.set_fit_request(sample_weight=True).fit(X, y, weight, groups=groups)
        assert ours.score(X, y, sample_weight=weight) == pytest.approx(
            np.average(ours.predict(X) == y, weights=weight)
        )
        pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), clone(ours))
        pipeline.fit(X, y, sample_weight=weight, groups=groups)
    by_hand = list(GroupKFold(3).split(X, y, groups))
    expected = SoftmaxClassifierCV(Cs=2, cv=by_hand).fit(X, y, weight)
    np.testing.assert_array_equal(ours.scores_, expected.scores_)


def test_best_save_and_conversions(tmp_path: Path) -> None:
    X, y = IRIS
    frame = pd.DataFrame(X, columns=list("abcd"))
    for refit in (True, False):
        ours = SoftmaxClassifierCV(Cs=3, cv=3, refit=refit).fit(frame, y)
        ours.save(tmp_path / "model")
        loaded = SoftmaxClassifierCV.load(tmp_path / "model")
        assert loaded.C == ours.C_
        for other in (loaded, ours.best(), ours.to_sklearn(), pickle.loads(pickle.dumps(ours))):
            np.testing.assert_allclose(
                other.predict_proba(frame), ours.predict_proba(frame), atol=1e-9
            )
            assert other.feature_names_in_.tolist() == list("abcd")
    assert isinstance(ours.to_sklearn(), LogisticRegression)


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"Cs": 0}, ValueError, "Cs is 0, expected at least 1 or a list"),
    ({"Cs": []}, ValueError, r"Cs is \[\], expected how many values of C or a list of them"),
    ({"Cs": "many"}, ValueError, "Cs is 'many'"),
    ({"Cs": 2.5}, ValueError, "Cs is 2.5"),
    ({"Cs": [1.0, -1.0]}, ValueError, r"Cs\[1\] is -1.0, expected a number > 0"),
    ({"refit": "yes"}, TypeError, "refit is 'yes', expected True or False"),
    ({"scoring": "beauty"}, ValueError, "beauty"),
    ({"cv": 1}, ValueError, "n_splits"),
    ({"tol": -1}, ValueError, "tol is -1"),
]


@pytest.mark.parametrize(("settings", "error", "message"), WRONG)
def test_wrong_settings(settings: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        SoftmaxClassifierCV(**settings).fit(*IRIS)


def test_verbose_tells(capsys: Any) -> None:
    SoftmaxClassifierCV(Cs=2, cv=2, verbose=1).fit(*IRIS)
    told = capsys.readouterr()
    assert "2 C x 2 folds, 2 C at a time: up to" in told.out + told.err


def test_an_unknown_scoring_is_refused_before_the_work() -> None:
    with pytest.raises(ValueError, match="acuracy"):
        SoftmaxClassifierCV(Cs=3, scoring="acuracy").fit([[0.0], [1.0]], [0, 1])  # too few for 5


def test_ctrl_c_in_the_folds_chooses_no_c(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = load_iris(return_X_y=True)

    def interrupt(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    model = SoftmaxClassifierCV(Cs=3)
    monkeypatch.setattr("csoftmax.solver.problem.Problem.evaluate", interrupt)
    with pytest.raises(KeyboardInterrupt, match="interrupted"):
        model.fit(X, y)
    assert not hasattr(model, "coef_")
