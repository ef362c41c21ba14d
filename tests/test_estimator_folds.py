"""The folds of `SoftmaxClassifierCV`: which rows they take, what they weigh, what they agree on."""

from __future__ import annotations

import itertools
import math
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn
from estimator_cases import CANCER, IRIS
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics import accuracy_score, get_scorer, make_scorer
from sklearn.model_selection import GroupKFold, KFold, LeaveOneGroupOut, PredefinedSplit
from sklearn.model_selection import StratifiedKFold as Stratified

from csoftmax.estimators import SoftmaxClassifierCV
from csoftmax.estimators.folds import mean_parameters

N = 150
RNG = np.random.default_rng(0)
ORDER = RNG.permutation(N)
X, Y = IRIS[0][ORDER], IRIS[1][ORDER]
TEST = np.arange(N) % 3 == 0
TRAIN = ~TEST
HALVES = [(np.arange(75), np.arange(75, N)), (np.arange(75, N), np.arange(75))]


def choice(**settings: Any) -> SoftmaxClassifierCV:
    return SoftmaxClassifierCV(**{"Cs": [0.01, 1.0], "cv": 3, **settings})


def same(one: Any, other: Any) -> None:
    for name in ("scores_", "coefs_paths_", "coef_", "intercept_", "C_"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), name)


# ---- row numbers -------------------------------------------------------------------------------

ROWS = {
    "masks": (TRAIN, TEST),
    "lists of bool": (TRAIN.tolist(), TEST.tolist()),
    "series of bool": (pd.Series(TRAIN, index=ORDER), pd.Series(TEST, index=ORDER)),
    "negative": (np.flatnonzero(TRAIN) - N, np.flatnonzero(TEST) - N),
    "lists": (np.flatnonzero(TRAIN).tolist(), np.flatnonzero(TEST).tolist()),
    "index": (pd.Index(np.flatnonzero(TRAIN)), pd.Index(np.flatnonzero(TEST))),
    "bytes": (np.flatnonzero(TRAIN).astype(np.uint8), np.flatnonzero(TEST).astype(np.uint8)),
}


@pytest.mark.parametrize("pair", ROWS.values(), ids=ROWS)
def test_rows_are_told_in_any_way_that_numpy_knows(pair: Any) -> None:
    expected = choice(cv=[(np.flatnonzero(TRAIN), np.flatnonzero(TEST))]).fit(X, Y)
    same(choice(cv=[pair]).fit(X, Y), expected)
    assert expected.scores_.max() > 0.9


def test_masks_are_those_of_logistic_regression_cv() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = LogisticRegressionCV(Cs=[0.01, 1.0], cv=[(TRAIN, TEST)], tol=1e-8).fit(X, Y)
    ours = choice(cv=[(TRAIN, TEST)], tol=1e-8).fit(X, Y)
    their_scores = np.asarray(next(iter(theirs.scores_.values()))).ravel()
    np.testing.assert_array_equal(ours.scores_.ravel(), their_scores)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-3)


def test_slices_and_arrays_of_pairs() -> None:
    expected = choice(cv=HALVES).fit(X, Y)
    same(choice(cv=[(slice(75), slice(75, N)), (slice(75, N), slice(75))]).fit(X, Y), expected)
    same(choice(cv=np.array(HALVES)).fit(X, Y), expected)


WRONG: list[tuple[Any, type[Exception], str]] = [
    ([(TRAIN[:9], TEST)], ValueError, "training rows of fold 0 of cv are a mask of 9 .*150"),
    (
        [*HALVES, ([0, 1], [3, 150])],
        ValueError,
        "test rows of fold 2 of cv have 150 at 1",
    ),
    ([([0, -151], [3])], ValueError, "training rows of fold 0 of cv have -151 at 1"),
    ([([0.0, 1.0], [3])], TypeError, "training rows of fold 0 of cv have dtype float64"),
    ([(TRAIN, [])], ValueError, "the test rows of fold 0 of cv are none"),
    ([(np.zeros(N, bool), TEST)], ValueError, "the training rows of fold 0 of cv are none"),
    ([([[0, 1]], [3])], ValueError, r"training rows of fold 0 of cv have shape \(1, 2\)"),
    ([([0, [1, 2]], [3])], ValueError, "training rows of fold 0 of cv cannot be made an array"),
    ([TRAIN], ValueError, "fold 0 of cv is array.* expected a pair"),
    ([*HALVES, 7], ValueError, "fold 2 of cv is 7, expected a pair"),
    ("folds", ValueError, "Expected `cv` as an integer"),
    (KFold, TypeError, r"cv is the class KFold, expected an object, KFold\(\)"),
    (iter(()), ValueError, r"cv has no folds, expected at least one \(a generator"),
]


@pytest.mark.parametrize(("cv", "error", "message"), WRONG)
def test_wrong_rows(cv: Any, error: type[Exception], message: str) -> None:
    model = choice(cv=cv)
    with pytest.raises(error, match=message):
        model.fit(X, Y)
    assert not hasattr(model, "coef_")


# ---- weights -----------------------------------------------------------------------------------


@pytest.mark.parametrize("scoring", [None, "f1_macro", "neg_log_loss"])
@pytest.mark.parametrize("refit", [True, False])
def test_rows_of_weight_0_are_not_there(scoring: Any, refit: bool) -> None:
    weight = RNG.uniform(0.5, 2, N)
    weight[RNG.choice(N, 40, replace=False)] = 0
    there, junk = weight > 0, X.copy()
    junk[~there] = RNG.normal(size=(40, 4)) * 100
    for cv in (3, KFold(3), Stratified(3, shuffle=True, random_state=1)):
        settings = {"cv": cv, "scoring": scoring, "refit": refit, "tol": 1e-8}
        weighted = choice(**settings).fit(junk, Y, weight)
        removed = choice(**settings).fit(X[there], Y[there], weight[there])
        np.testing.assert_allclose(weighted.scores_, removed.scores_, atol=1e-5)
        np.testing.assert_allclose(weighted.coef_, removed.coef_, atol=1e-3)
        assert weighted.C_ == removed.C_


def test_row_numbers_of_ones_own_count_rows_of_weight_0() -> None:
    weight = np.where(np.arange(N) % 5 == 0, 0.0, 1.0)
    there = weight > 0
    masks = choice(cv=[(TRAIN, TEST)]).fit(X, Y, weight)
    same(masks, choice(cv=PredefinedSplit(np.where(TEST, 0, -1))).fit(X, Y, weight))
    removed = choice(cv=[(TRAIN[there], TEST[there])]).fit(X[there], Y[there])
    np.testing.assert_array_equal(masks.scores_, removed.scores_)


def test_a_scorer_without_weights_does_not_see_rows_of_weight_0() -> None:
    weight = np.where(np.arange(N) % 5 == 0, 0.0, 1.0)
    there, n_seen = weight > 0, []

    def share(y_true: Any, y_pred: Any) -> float:
        n_seen.append(len(y_true))
        return float(np.mean(y_true == y_pred))

    groups = np.arange(N) % 3
    with sklearn.config_context(enable_metadata_routing=True):
        ours = choice(cv=LeaveOneGroupOut(), scoring=make_scorer(share))
        ours.fit(X, Y, weight, groups=groups)
    assert n_seen == [40] * 6
    expected = choice(
        cv=[(groups[there] != g, groups[there] == g) for g in range(3)], scoring=make_scorer(share)
    ).fit(X[there], Y[there])
    np.testing.assert_array_equal(ours.scores_, expected.scores_)


def test_folds_of_no_weight_are_named() -> None:
    weight = TRAIN.astype(float)
    with pytest.raises(ValueError, match="all test rows of fold 1 of cv have weight 0"):
        choice(cv=[(TRAIN, TRAIN), (TRAIN, TEST)]).fit(X, Y, weight)
    with pytest.raises(ValueError, match="all training rows of fold 0 of cv have weight 0"):
        choice(cv=[(TEST, TRAIN)]).fit(X, Y, weight)
    only_one = np.flatnonzero(Y == 1)
    with pytest.raises(ValueError, match="all training rows of fold 0 of cv have weight 0"):
        choice(cv=[(only_one, TEST)], class_weight={1: 0}).fit(X, Y)


def test_one_weight_for_all_samples() -> None:
    for scoring in (None, "accuracy"):
        expected = choice(scoring=scoring).fit(X, Y, np.full(N, 2.0))
        same(choice(scoring=scoring).fit(X, Y, 2.0), expected)


@pytest.mark.parametrize("requested", [True, False, "mine"])
@pytest.mark.parametrize("name", ["accuracy", "neg_log_loss"])
def test_weights_are_routed_as_in_logistic_regression_cv(name: str, requested: Any) -> None:
    weight, mine = RNG.uniform(0.1, 2, N), RNG.uniform(0.1, 2, N)
    others = {"mine": mine} if requested == "mine" else {}
    with sklearn.config_context(enable_metadata_routing=True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scorer = get_scorer(name).set_score_request(sample_weight=requested)
        theirs = LogisticRegressionCV(Cs=[0.01, 1.0], cv=3, scoring=scorer, tol=1e-8, max_iter=999)
        theirs.fit(X, Y, sample_weight=weight, **others)
        ours = choice(scoring=scorer, tol=1e-8).fit(X, Y, weight, **others)
        for model in (ours, theirs):
            if not requested:
                with pytest.raises(TypeError, match="sample_weight"):
                    model.score(X, Y, sample_weight=weight)
        given = {True: {"sample_weight": weight}, False: {}, "mine": {"mine": mine}}[requested]
        assert ours.score(X, Y, **given) == pytest.approx(theirs.score(X, Y, **given), abs=1e-4)
    their_scores = next(iter(theirs.scores_.values())).reshape(3, 2)
    np.testing.assert_allclose(ours.scores_[:, 0], their_scores, atol=1e-4)


def test_metadata_of_rows_goes_along() -> None:
    bonus = np.arange(N) / N
    seen: list[Any] = []

    def with_bonus(y_true: Any, y_pred: Any, bonus: Any = None, note: Any = None) -> float:
        seen.append((bonus, note))
        return float(np.mean(y_true == y_pred))

    with sklearn.config_context(enable_metadata_routing=True):
        scorer = make_scorer(with_bonus).set_score_request(bonus=True, note=True)
        for value in (bonus, bonus.tolist(), pd.DataFrame({"bonus": bonus}, index=ORDER)):
            seen.clear()
            choice(cv=[(TRAIN, TEST)], scoring=scorer).fit(X, Y, bonus=value, note="n" * N)
            assert len(seen) == 2
            for kept, note in seen:
                np.testing.assert_array_equal(np.ravel(kept), bonus[TEST])
                assert type(kept) in (type(value), list)
                assert note == "n" * N


# ---- classes that a fold lacks -----------------------------------------------------------------


def test_means_fit_the_differences_of_the_folds() -> None:
    present = np.array([[1, 1, 1, 1], [1, 1, 0, 1], [0, 1, 1, 0], [1, 0, 0, 0]], bool)
    W, b = RNG.normal(size=(4, 4, 3)), RNG.normal(size=(4, 4))
    b[~present] = -1e4
    equations, differences = [], []
    for i, (j, k) in itertools.product(range(4), itertools.combinations(range(4), 2)):
        if present[i, j] and present[i, k]:
            root = math.sqrt(present[i].sum())
            equations.append((np.eye(4)[j] - np.eye(4)[k]) / root)
            differences.append((np.append(W[i, j], b[i, j]) - np.append(W[i, k], b[i, k])) / root)
    expected = np.linalg.lstsq(np.array(equations), np.array(differences), rcond=None)[0]
    mean_W, mean_b = mean_parameters(W, b, present)
    np.testing.assert_allclose(mean_W, expected[:, :-1], atol=1e-12)
    np.testing.assert_allclose(mean_b, expected[:, -1], atol=1e-12)
    whole = mean_parameters(W, b, np.ones((4, 4), bool))
    np.testing.assert_array_equal(whole[0], W.mean(axis=0))
    nowhere = mean_parameters(W, b, present & (np.arange(4) != 2))
    assert nowhere[1][2] == b[:, 2].mean()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_class_is_averaged_over_the_folds_that_have_it(dtype: Any) -> None:
    names = np.array(["setosa", "versicolor", "virginica"])[Y]
    lacking = (np.flatnonzero(Y < 2), np.flatnonzero(Y == 2))
    whole = list(Stratified(3).split(X, Y))
    message = "training row .* 'virginica' in fold 0; parameters are averages over the folds that"
    ours = choice(Cs=[1.0], cv=[lacking, *whole], refit=False, tol=1e-6)
    with pytest.warns(UserWarning, match=message):
        ours.fit(X.astype(dtype), names)
    assert ours.coef_.dtype == dtype
    assert ours.scores_[0] == 0
    assert ours.score(X, names) > 0.94
    path = ours.coefs_paths_[:, 0, 0].astype(float)
    assert path[0, 2, -1] < -1e3
    np.testing.assert_array_equal(path[0, 2, :-1], 0)
    between = (path[:, 1] - path[:, 0])[0]
    # a softmax of two classes penalises the difference half as much
    expected = LogisticRegression(C=2.0, tol=1e-8).fit(X[Y < 2], Y[Y < 2])
    np.testing.assert_allclose(between, [*expected.coef_[0], *expected.intercept_], atol=0.02)


def test_of_two_classes_only_folds_with_both_count() -> None:
    y = (Y > 0).astype(int)
    one = (np.flatnonzero(y == 1), np.flatnonzero(y == 0))
    whole = list(Stratified(3).split(X, y))
    for lacking in (one, one[::-1]):
        with pytest.warns(UserWarning, match=r"[01] in fold 1; parameters are averages"):
            ours = choice(Cs=[1.0], cv=[whole[0], lacking, *whole[1:]], refit=False).fit(X, y)
        expected = choice(Cs=[1.0], cv=whole, refit=False).fit(X, y)
        np.testing.assert_allclose(ours.coef_, expected.coef_, rtol=1e-9)
        np.testing.assert_allclose(ours.intercept_, expected.intercept_, rtol=1e-9)
        assert ours.score(X, y) == 1
    with pytest.warns(UserWarning, match=r"0 in fold 0$"):
        assert choice(cv=[one, *whole]).fit(X, y).score(X, y) == 1


def test_a_class_without_any_weight_is_no_news() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        ours = choice(refit=False).fit(X, Y, (Y > 0).astype(float))
    assert set(ours.predict(X)) == {1, 2}
    assert (ours.predict_proba(X)[:, 0] == 0).all()


# ---- scores ------------------------------------------------------------------------------------


def scorer_of(values: Any) -> Any:
    """A scorer that says `values` by fold and C, whatever the predictions."""
    said = iter(np.ravel(values))
    return lambda model, X, y: next(said)


NAN = math.nan


def test_nan_ranks_last() -> None:
    scores = [[NAN, 0.2, 0.5], [0.9, 0.3, 0.4]]
    ours = choice(Cs=[0.01, 0.1, 1.0], cv=HALVES, scoring=scorer_of(scores)).fit(X, Y)
    assert ours.C_ == 1.0
    np.testing.assert_array_equal(ours.scores_[:, 0], scores)
    each = choice(Cs=[0.01, 0.1, 1.0], cv=HALVES, scoring=scorer_of(scores), refit=False)
    each.fit(X, Y)
    assert each.C_ == (1.0 + 0.01) / 2
    np.testing.assert_allclose(
        each.coef_, (each.coefs_paths_[0, 0, 2] + each.coefs_paths_[1, 0, 0])[:, :-1] / 2
    )
    below_all = [[NAN, -math.inf]] * 2
    assert choice(cv=HALVES, scoring=scorer_of(below_all)).fit(X, Y).C_ == 1.0


@pytest.mark.parametrize("refit", [True, False])
def test_a_fold_of_nan_has_no_say(refit: bool) -> None:
    scores = [[NAN, NAN], [0.1, 0.2]]
    with pytest.warns(UserWarning, match=r"is NaN for every C in fold 0 of cv, which has no say"):
        ours = choice(cv=HALVES, scoring=scorer_of(scores), refit=refit).fit(X, Y)
    assert ours.C_ == 1.0
    if not refit:
        np.testing.assert_array_equal(ours.coef_, ours.coefs_paths_[1, 0, 1, :, :-1])


def test_scores_that_choose_nothing_are_an_error() -> None:
    def hopeless(model: Any, X: Any, y: Any) -> float:
        return NAN

    for refit in (True, False):
        with pytest.raises(ValueError, match=r"scoring .*hopeless.* is NaN for every C in every"):
            choice(scoring=hopeless, refit=refit).fit(X, Y)
    with pytest.raises(ValueError, match="NaN in some fold for each C"):
        choice(cv=HALVES, scoring=scorer_of([[NAN, 1.0], [1.0, NAN]])).fit(X, Y)


def test_a_failing_scorer_is_told_with_fold_and_c() -> None:
    def picky(model: Any, X: Any, y: Any) -> float:
        if len(np.unique(y)) < 3:
            raise ValueError("too few classes")
        return 1.0

    folds = [HALVES[0], (np.arange(N), np.flatnonzero(Y < 2))]
    model = choice(cv=HALVES).fit(X, Y)
    before = dict(vars(model))
    with pytest.raises(ValueError, match=r"picky.* of fold 1 at C = 0.01 failed: too few classes"):
        model.set_params(scoring=picky, cv=folds).fit(X, Y)
    for name in ("coef_", "C_", "scores_", "coefs_paths_", "history_", "classes_"):
        assert getattr(model, name) is before[name], name
    with pytest.raises(TypeError, match=r"fold 0 at C = 0\.01 is a dict, expected a number"):
        choice(scoring=lambda model, X, y: {"accuracy": 1.0}).fit(X, Y)
    with pytest.raises(ValueError, match=r"metric accuracy_score, expected a scorer.*make_scorer"):
        choice(scoring=accuracy_score).fit(X, Y)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
def test_the_area_of_a_fold_that_lacks_a_class_has_no_say() -> None:
    y = (Y > 1).astype(int)
    folds = [(TRAIN, TEST), (TRAIN, TEST & (y == 0))]
    with pytest.warns(UserWarning, match="'roc_auc' is NaN for every C in fold 1 of cv"):
        ours = choice(cv=folds, scoring="roc_auc").fit(X, y)
    assert ours.C_ == choice(cv=folds[:1], scoring="roc_auc").fit(X, y).C_


@pytest.mark.parametrize("scoring", ["roc_auc", "roc_auc_ovr", "average_precision"])
def test_ranking_along_a_path_from_very_strong_penalties(scoring: str) -> None:
    X, y = (CANCER[0] - CANCER[0].mean(axis=0)) / CANCER[0].std(axis=0), CANCER[1]
    Cs, scorer = [1e-12, 1e-9, 1e-6, 1e-3, 1.0], get_scorer(scoring)
    expected = [
        [
            scorer(
                LogisticRegression(C=C, tol=1e-10, solver="newton-cholesky").fit(X[a], y[a]),
                X[b],
                y[b],
            )
            for C in Cs
        ]
        for a, b in Stratified(3).split(X, y)
    ]
    ours = SoftmaxClassifierCV(Cs=Cs, cv=Stratified(3), scoring=scoring).fit(X, y)
    np.testing.assert_allclose(ours.scores_[:, 0], expected, atol=1e-3)
    assert ours.scores_.min() > 0.9


# ---- odds and ends -----------------------------------------------------------------------------


def test_the_order_of_cs_does_not_matter() -> None:
    Cs = [1.0, 0.01, math.inf, 1.0, 0.1]
    ours = choice(Cs=Cs, scoring="neg_log_loss", tol=1e-9).fit(X, Y)
    np.testing.assert_array_equal(ours.Cs_, Cs)
    np.testing.assert_allclose(ours.scores_[..., 0], ours.scores_[..., 3], atol=1e-5)
    for j, C in enumerate(Cs[:2]):
        alone = choice(Cs=[C], scoring="neg_log_loss", tol=1e-9).fit(X, Y)
        np.testing.assert_allclose(ours.scores_[:, 0, j], alone.scores_[:, 0, 0], atol=1e-4)
    assert np.isfinite(ours.coefs_paths_).all()
    for one in (pd.Series([0.1, 1.0], index=[5, 3]), (C for C in (0.1, 1.0)), np.array([0.1, 1.0])):
        assert choice(Cs=one).fit(X, Y).Cs_.tolist() == [0.1, 1.0]


def test_frames_strings_and_groups() -> None:
    names = np.array(["setosa", "versicolor", "virginica"])[Y]
    frame = pd.DataFrame(X, columns=list("abcd"), index=ORDER)
    labels = pd.Series(names, index=ORDER)
    weights = {"setosa": 2.0, "virginica": 0.5}
    from_frame = choice(class_weight=weights).fit(frame, labels, pd.Series(np.ones(N), index=ORDER))
    same(from_frame, choice(class_weight=weights).fit(X, names, np.ones(N)))
    assert from_frame.feature_names_in_.tolist() == list("abcd")
    assert from_frame.predict(frame)[:3].tolist() == from_frame.predict(frame[:3]).tolist()
    groups = np.arange(N) % 6
    with sklearn.config_context(enable_metadata_routing=True):
        routed = choice(cv=GroupKFold(3)).fit(frame, labels, groups=pd.Series(groups, index=ORDER))
    same(routed, choice(cv=list(GroupKFold(3).split(X, Y, groups))).fit(X, names))


def test_what_an_earlier_fit_left_is_gone() -> None:
    ours = choice().fit(X, Y)
    assert ours.gap_.bound < 1
    ours.set_params(refit=False).fit(X, Y)
    assert not hasattr(ours, "gap_")
    assert not hasattr(ours, "history_")
    assert math.isnan(ours.best().gap_.objective)


def test_score_knows_the_classes_that_the_samples_lack() -> None:
    ours = choice(scoring="neg_log_loss").fit(X, Y)
    some = Y < 2
    expected = -np.log(ours.predict_proba(X[some])[np.arange(some.sum()), Y[some]]).mean()
    assert ours.score(X[some], Y[some]) == pytest.approx(-expected, rel=1e-6)
    with pytest.raises(ValueError, match="score got bonus, which go to the scorer only with"):
        ours.score(X, Y, bonus=1)


def test_a_failed_fit_leaves_the_features_of_the_last_one() -> None:
    model = choice(Cs=[1.0]).fit(X, Y)
    predicted = model.predict(X)
    with pytest.raises(ValueError, match="only one class"):
        model.fit(X[:, :1], np.zeros(len(X), int))
    assert np.array_equal(model.predict(X), predicted)
