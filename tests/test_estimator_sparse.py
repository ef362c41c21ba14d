"""`SoftmaxClassifier` on sparse rows: the results of the same rows as an array."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import SelectFromModel
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import parametrize_with_checks

import csoftmax as cs
from csoftmax.estimators import MemoryBudgetError, SoftmaxClassifier

Array = Any


def counts(n: int = 150, n_features: int = 200, n_classes: int = 3) -> tuple[Any, Array]:
    """Rows of small counts, few of them, whose first features speak for the classes."""
    random = np.random.default_rng([n, n_features, n_classes])
    X = random.poisson(0.04, (n, n_features)).astype(float)
    y = random.integers(0, n_classes, n)
    X[np.arange(n), y] += random.poisson(1.0, n)
    return sparse.csr_array(X), y


@parametrize_with_checks(
    [SoftmaxClassifier(l1_ratio=1.0, tol=1e-14), SoftmaxClassifier(l1_ratio=0.5, C=0.1, tol=1e-14)]
)
def test_scikit_learn_checks_with_l1(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("l1_ratio", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_sparse_and_dense_agree(l1_ratio: float, n_classes: int, fit_intercept: bool) -> None:
    X, y = counts(n_classes=n_classes)
    weight = np.random.default_rng(1).uniform(0, 2, len(y)) * (y != 1)  # a class without weight
    weight[:20] = 1.0
    options: dict[str, Any] = {"fit_intercept": fit_intercept, "l1_ratio": l1_ratio, "tol": 1e-9}
    ours = SoftmaxClassifier(**options).fit(X, y, weight)
    dense = SoftmaxClassifier(**options).fit(X.toarray(), y, weight)
    assert ours.coef_.T.flags.c_contiguous
    assert ours.gap_.objective == pytest.approx(dense.gap_.objective, rel=1e-8)
    np.testing.assert_allclose(ours.coef_, dense.coef_, atol=1e-3)
    for method in ("decision_function", "predict_proba", "predict_log_proba"):
        expected = getattr(ours, method)(X.toarray())
        np.testing.assert_allclose(getattr(ours, method)(X), expected, rtol=1e-10, atol=1e-10)
    np.testing.assert_array_equal(ours.predict(X), ours.predict(X.toarray()))
    assert ours.score(X, y, weight) == ours.score(X.toarray(), y, weight)


@pytest.mark.parametrize("l1_ratio", [0.3, 1.0])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_l1_is_that_of_scikit_learn(l1_ratio: float, n_classes: int) -> None:
    X, y = counts(80, 30, n_classes)
    theirs = LogisticRegression(solver="saga", C=0.5, tol=1e-8, max_iter=100_000)
    theirs.set_params(**SoftmaxClassifier(l1_ratio=l1_ratio).fit(X, y).to_sklearn().get_params())
    theirs.set_params(C=0.5, tol=1e-8, max_iter=100_000).fit(X, y)
    ours = SoftmaxClassifier(C=0.5, l1_ratio=l1_ratio, tol=1e-10).fit(X, y)
    assert theirs.coef_.shape == ours.coef_.shape
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=2e-4)
    again = SoftmaxClassifier.from_sklearn(theirs)
    assert (again.C, again.l1_ratio) == (0.5, l1_ratio)


def test_auto_chooses_by_the_penalty() -> None:
    X, y = counts()
    fits = {
        solver: SoftmaxClassifier(solver=solver, l1_ratio=ratio).fit(X, y).coef_
        for solver, ratio in (("lbfgs", 0.0), ("newton-cd", 1.0))
    }
    np.testing.assert_array_equal(fits["lbfgs"], SoftmaxClassifier().fit(X, y).coef_)
    np.testing.assert_array_equal(fits["newton-cd"], SoftmaxClassifier(l1_ratio=1).fit(X, y).coef_)
    # without any penalty there is no L1 either
    free = SoftmaxClassifier(C=np.inf, l1_ratio=1.0, max_iter=50, tol=0.1).fit(X, y)
    assert (
        free.gap_.objective
        == SoftmaxClassifier(C=np.inf, max_iter=50, tol=0.1).fit(X, y).gap_.objective
    )


def test_sparsify_densify_and_selected() -> None:
    X, y = counts()
    classifier = SoftmaxClassifier(l1_ratio=1.0, C=0.3)
    with pytest.raises(NotFittedError):
        classifier.sparsify()
    with pytest.raises(NotFittedError):
        _ = classifier.selected_
    classifier.fit(X, y)
    dense, labels = classifier.coef_.copy(), classifier.predict(X)
    used = np.flatnonzero(np.abs(dense).sum(axis=0))
    assert 0 < len(used) < 100
    np.testing.assert_array_equal(classifier.selected_, used)
    assert classifier.sparsify() is classifier
    assert sparse.issparse(classifier.coef_)
    assert classifier.coef_.nnz == np.count_nonzero(dense)
    np.testing.assert_array_equal(classifier.selected_, used)
    for copy in (classifier, pickle.loads(pickle.dumps(classifier))):
        np.testing.assert_array_equal(copy.predict(X), labels)
        np.testing.assert_array_equal(copy.predict(X.toarray()), labels)
    back = classifier.to_sklearn()
    assert sparse.issparse(back.coef_)
    assert back.l1_ratio == 1.0
    np.testing.assert_array_equal(back.predict(X), labels)
    again = SoftmaxClassifier.from_sklearn(back)
    assert sparse.issparse(again.coef_)
    np.testing.assert_array_equal(again.predict(X), labels)
    np.testing.assert_array_equal(classifier.densify().coef_, dense)
    assert classifier.coef_.T.flags.c_contiguous


def test_scikit_learn_predicts_float32_rows_by_a_sparse_coef() -> None:
    X, y = counts()
    X = X.astype(np.float32)
    classifier = SoftmaxClassifier(l1_ratio=1.0).fit(X, y).sparsify()
    back = classifier.to_sklearn()
    assert back.coef_ is not classifier.coef_
    np.testing.assert_allclose(back.predict_proba(X), classifier.predict_proba(X), atol=1e-6)


@pytest.mark.parametrize("form", ["C", "F", "sparse"])
def test_a_file_keeps_the_layout(form: str, tmp_path: Path) -> None:
    X, y = counts()
    classifier = SoftmaxClassifier(l1_ratio=1.0).fit(X if form != "C" else X.toarray(), y)
    if form == "sparse":
        classifier.sparsify()
    classifier.save(tmp_path / "model")
    loaded = SoftmaxClassifier.load(tmp_path / "model")
    assert loaded.l1_ratio == 1.0
    assert type(loaded.coef_) is type(classifier.coef_)
    if form == "F":
        assert loaded.coef_.T.flags.c_contiguous
    np.testing.assert_array_equal(loaded.predict_proba(X), classifier.predict_proba(X))
    assert cs.SoftmaxRegression.load(tmp_path / "model").predict(X).tolist() == [
        classifier.classes_.tolist().index(label) for label in classifier.predict(X)
    ]


def test_select_from_model_takes_what_l1_leaves() -> None:
    X, y = counts()
    # scikit-learn knows by the names of its own classes that L1 needs no threshold above 0
    selector = SelectFromModel(SoftmaxClassifier(l1_ratio=1.0, C=0.3), threshold=1e-10).fit(X, y)
    np.testing.assert_array_equal(selector.get_support(indices=True), selector.estimator_.selected_)
    assert selector.transform(X).shape == (len(y), len(selector.estimator_.selected_))


@pytest.mark.parametrize("l1_ratio", [0.0, 1.0])
def test_early_stopping_keeps_what_was_best(l1_ratio: float) -> None:
    X, y = counts(300, 60)
    settings: dict[str, Any] = {"l1_ratio": l1_ratio, "C": 100.0, "tol": 1e-8}
    classifier = SoftmaxClassifier(**settings, early_stopping=True, random_state=0).fit(X, y)
    losses = classifier.history_["validation_loss"]
    assert len(losses) == len(classifier.history_["objective"])
    assert len(set(losses)) > 2
    watched = SoftmaxClassifier(**settings).fit(X, y, validation=(X, y))
    proba = watched.predict_proba(X)
    expected = -np.log(proba[np.arange(len(y)), y]).mean()
    assert watched.history_["validation_loss"][-1] == pytest.approx(expected, rel=1e-5)


def test_a_warm_start_with_l1_begins_where_the_last_fit_ended() -> None:
    for n_classes in (2, 3):
        X, y = counts(n_classes=n_classes)
        classifier = SoftmaxClassifier(l1_ratio=1.0, tol=1e-8, warm_start=True).fit(X, y)
        before = classifier.gap_.objective
        assert classifier.fit(X, y).history_["objective"][0] == pytest.approx(before, rel=1e-9)
        coef = classifier.coef_.copy()
        np.testing.assert_array_equal(classifier.set_params(max_iter=0).fit(X, y).coef_, coef)


def test_probabilities_and_standard_errors() -> None:
    X, y = counts(120, 5)
    T = np.random.default_rng(0).dirichlet(np.ones(3), len(y))
    soft = SoftmaxClassifier(tol=1e-8).fit(X, T)
    np.testing.assert_allclose(
        soft.coef_, SoftmaxClassifier(tol=1e-8).fit(X.toarray(), T).coef_, atol=1e-5
    )
    classifier = SoftmaxClassifier().fit(X, y)
    errors = classifier.standard_errors(X, y)
    np.testing.assert_allclose(errors.coef, classifier.standard_errors(X.toarray(), y).coef)
    with pytest.raises(ValueError, match=r"l1_ratio is 0\.5, expected 0 for standard errors"):
        SoftmaxClassifier(l1_ratio=0.5).fit(X, y).standard_errors(X, y)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("form", ["sparse", "dense"])
def test_where_no_feature_is_worth_a_weight_nothing_is_warned_of(form: str) -> None:
    random = np.random.default_rng(0)
    X = sparse.csr_array(random.random((500, 300)) * (random.random((500, 300)) < 0.05))
    y = random.integers(0, 3, 500)
    fitted = SoftmaxClassifier(l1_ratio=1.0, C=0.1).fit(X if form == "sparse" else X.toarray(), y)
    assert len(fitted.selected_) == 0


@pytest.mark.parametrize("l1_ratio", [0.0, 1.0])
def test_any_number_of_threads_gives_the_same_bits(l1_ratio: float) -> None:
    X, y = counts(2000, 500)
    fits = [SoftmaxClassifier(l1_ratio=l1_ratio, n_threads=n).fit(X, y) for n in (1, 2, 7)]
    for fit in fits[1:]:
        np.testing.assert_array_equal(fit.coef_, fits[0].coef_)
        np.testing.assert_array_equal(fit.predict_proba(X), fits[0].predict_proba(X))


@pytest.mark.parametrize("l1_ratio", [0.0, 1.0])
def test_memory_that_is_not_enough_is_refused_before_the_fit(l1_ratio: float) -> None:
    X, y = counts(2000, 3000)
    with pytest.raises(MemoryBudgetError, match="expected at least"):
        SoftmaxClassifier(l1_ratio=l1_ratio, max_memory="1 MB").fit(X, y)
    SoftmaxClassifier(l1_ratio=l1_ratio, max_memory="60 MB").fit(X, y)


# ---- cross-validation ----------------------------------------------------------------------------


@pytest.mark.parametrize("refit", [True, False])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_cv_over_both(refit: bool, n_classes: int) -> None:
    X, y = counts(120, 20, n_classes)
    Cs, ratios = [0.1, 1.0], (0.0, 0.5, 1.0)
    settings: dict[str, Any] = {"Cs": Cs, "l1_ratios": ratios, "cv": 3, "tol": 1e-7}
    ours = cs.SoftmaxClassifierCV(refit=refit, **settings).fit(X, y)
    dense = cs.SoftmaxClassifierCV(refit=refit, **settings).fit(X.toarray(), y)
    n_rows = 1 if n_classes == 2 else n_classes
    assert ours.scores_.shape == ours.n_iter_.shape == (3, 3, 2)
    assert ours.coefs_paths_.shape == (3, 3, 2, n_rows, 21)
    assert ours.coef_.T.flags.c_contiguous
    np.testing.assert_allclose(ours.coefs_paths_, dense.coefs_paths_, atol=2e-3)
    # each of the paths is a fit to the rows of the fold
    from sklearn.model_selection import StratifiedKFold

    train, test = list(StratifiedKFold(3).split(X, y))[1]
    alone = SoftmaxClassifier(C=1.0, l1_ratio=0.5, tol=1e-8).fit(X[train], y[train])
    np.testing.assert_allclose(ours.coefs_paths_[1, 1, 1, :, :-1], alone.coef_, atol=2e-3)
    assert ours.scores_[1, 1, 1] == pytest.approx(alone.score(X[test], y[test]), abs=0.03)
    if refit:
        means = ours.scores_.mean(axis=0)
        at = np.unravel_index(means.argmax(), means.shape)
        assert (ours.l1_ratio_, ours.C_) == (ratios[at[0]], Cs[at[1]])
        best = ours.best()
        assert (best.l1_ratio, best.C) == (ours.l1_ratio_, ours.C_)
        one = SoftmaxClassifier(C=ours.C_, l1_ratio=ours.l1_ratio_, tol=1e-7).fit(X, y)
        np.testing.assert_array_equal(one.coef_, ours.coef_)
    else:
        assert 0.0 <= ours.l1_ratio_ <= 1.0
        assert 0.1 <= ours.C_ <= 1.0


def test_cv_gives_a_scorer_rows_of_scipy() -> None:
    X, y = counts(60, 10)
    seen = []

    def scorer(model: Any, rows: Any, labels: Array) -> float:
        seen.append(type(rows))
        return float((model.predict(rows) == labels).mean())

    cs.SoftmaxClassifierCV(Cs=2, cv=2, scoring=scorer).fit(X, y)
    assert set(seen) == {sparse.csr_array}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"l1_ratios": 0.5}, "l1_ratios is 0.5, expected a list"),
        ({"l1_ratios": ()}, "expected a list"),
        ({"l1_ratios": [0.0, 2.0]}, r"l1_ratios\[1\] is 2.0"),
        ({"l1_ratios": [0.5], "Cs": [1.0, np.inf]}, "Cs has inf"),
    ],
)
def test_cv_refuses(settings: dict[str, Any], message: str) -> None:
    X, y = counts(60, 10)
    with pytest.raises(ValueError, match=message):
        cs.SoftmaxClassifierCV(**settings).fit(X, y)


# ---- minibatches ---------------------------------------------------------------------------------


@pytest.mark.parametrize("l1_ratio", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_minibatches_come_near_the_optimum(l1_ratio: float, n_classes: int) -> None:
    X, y = counts(400, 30, n_classes)
    settings: dict[str, Any] = {"l1_ratio": l1_ratio, "C": 0.1}
    best = SoftmaxClassifier(**settings, tol=1e-8).fit(X, y).gap_.objective
    sgd = SoftmaxClassifier(**settings, solver="sgd", max_iter=60, tol=1e-6, random_state=0)
    for rows in (X, X.toarray()):
        sgd.fit(rows, y)
        assert best <= sgd.gap_.objective < 1.02 * best
        assert sgd.gap_.objective - sgd.gap_.bound <= best * (1 + 1e-6)
        if l1_ratio == 1:
            assert len(sgd.selected_) < 30


def test_partial_fit_takes_sparse_and_dense_in_turns() -> None:
    X, y = counts(400, 30)
    ours, dense = (SoftmaxClassifier(random_state=0, batch_size=16) for _ in range(2))
    for part in range(0, 400, 100):
        rows = slice(part, part + 100)
        given = X[rows] if part % 200 else X[rows].toarray()
        ours.partial_fit(given, y[rows], classes=range(3))
        dense.partial_fit(X[rows].toarray(), y[rows], classes=range(3))
    assert ours.score(X, y) > 0.6
    # the scale of the coordinates is of the first samples, and the rate is measured alike
    np.testing.assert_allclose(ours.coef_, dense.coef_, rtol=1e-5, atol=1e-7)


def test_minibatches_of_probabilities_are_near_those_of_labels() -> None:
    X, y = counts(200, 20)
    T = np.eye(3)[y]
    ours, labels = (
        SoftmaxClassifier(solver="sgd", max_iter=5, random_state=0, tol=0.0).fit(X, target)
        for target in (T * 0.98 + 0.02 / 3, y)
    )
    np.testing.assert_allclose(ours.coef_, labels.coef_, atol=0.1)


def test_a_column_far_from_0_is_told_of_sparse_rows_too() -> None:
    X, y = counts(200, 5)
    far = X.toarray()
    far[:, 2] = 1000 + far[:, 2]
    for rows in (far, sparse.csr_array(far)):
        with pytest.warns(UserWarning, match="column 2 of X has the mean 1000"):
            SoftmaxClassifier(solver="sgd", max_iter=2).fit(rows, y)
