"""`SoftmaxClassifierCV` over shards: the folds, the scores and the bits of one array."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import get_scorer
from sklearn.model_selection import GroupKFold, KFold, ShuffleSplit, StratifiedKFold

import csoftmax as cs
from csoftmax.bench.memory import anonymous_peak
from csoftmax.engine.row_weights import FoldWeights
from csoftmax.engine.shard_passes import ShardPasses
from csoftmax.engine.units import CHUNK_ROWS
from csoftmax.estimators import MemoryBudgetError, cv_shards, fit, shard_folds
from csoftmax.estimators.folds import Fold
from csoftmax.estimators.full_shards import plan_of_fit
from csoftmax.estimators.shard_folds import RowFolds, stratified

Array = Any
LENGTHS = (2 * CHUNK_ROWS, 0, CHUNK_ROWS, CHUNK_ROWS + 10)
N = sum(LENGTHS)
NAMES = ("C_", "scores_", "coefs_paths_", "coef_", "intercept_", "n_iter_")


def rows(K: int = 3, dtype: Any = np.float32) -> tuple[Array, Array, Array]:
    """Return rows, labels that are text, and weights."""
    rng = np.random.default_rng(K)
    k = rng.integers(0, K, N)
    X = rng.normal(size=(N, 4)) + 0.8 * rng.normal(size=(K, 4))[k]
    return X.astype(dtype), np.array(["ant", "bee", "cow"])[k], rng.integers(0, 3, N) / 2


def in_shards(folder: Path, X: Array, y: Array, weights: Array | None = None) -> Any:
    ends = np.cumsum(LENGTHS)[:-1]
    for s, (some, labels) in enumerate(zip(np.split(X, ends), np.split(y, ends), strict=True)):
        np.save(folder / f"x-{s}.npy", some)
        np.save(folder / f"y-{s}.npy", labels)
    return cs.shards(f"{folder}/x-*.npy", labels=f"{folder}/y-*.npy", weights=weights)


def search(**settings: Any) -> Any:
    return cs.SoftmaxClassifierCV(**{"Cs": [1e-4, 1e-2], "cv": 3, "n_threads": 2, **settings})


def same(one: Any, other: Any) -> None:
    for name in NAMES:
        assert_array_equal(getattr(one, name), getattr(other, name), name)


def pairs() -> list[tuple[Array, Array]]:
    """Folds that overlap, train on rows twice, and test one twice."""
    half = np.arange(N // 2)
    return [(np.repeat(half, 2), half + N // 2), (half + 5, np.r_[0:1000, 7])]


# ---- the same as for one array -------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"cv": 5, "class_weight": "balanced", "fit_intercept": False},
        {"cv": KFold(3, shuffle=True, random_state=0), "refit": False},
        {"cv": ShuffleSplit(3, random_state=0)},
        {"cv": pairs()},
    ],
    ids=["stratified", "balanced", "splitter", "overlapping", "pairs"],
)
@pytest.mark.parametrize(("K", "weighted"), [(3, True), (3, False), (2, True)])
def test_folds_scores_and_fits_are_those_of_one_array(
    tmp_path: Path, settings: dict[str, Any], K: int, weighted: bool
) -> None:
    X, y, weight = rows(K)
    weight = weight if weighted else None
    many = search(**settings).fit(in_shards(tmp_path, X, y, weight))
    one = search(**{**settings, "n_threads": 1}).fit(X, y, weight)
    same(many, one)
    assert many.classes_.tolist() == one.classes_.tolist()


@pytest.mark.parametrize("scoring", ["accuracy", "f1_macro", "neg_log_loss", "roc_auc_ovr"])
@pytest.mark.parametrize("K", [3, 2])
def test_scorers_by_name(tmp_path: Path, scoring: str, K: int) -> None:
    X, y, weight = rows(K)
    scoring = "roc_auc" if K == 2 and scoring == "roc_auc_ovr" else scoring
    data, settings = in_shards(tmp_path, X, y, weight), {"scoring": scoring, "cv": pairs()}
    many = search(**settings).fit(data)
    assert_allclose(many.scores_, search(**settings).fit(X, y, weight).scores_, rtol=1e-13)
    with sklearn.config_context(enable_metadata_routing=True):
        requested = get_scorer(scoring).set_score_request(sample_weight=True)
        same(search(**{**settings, "scoring": requested}).fit(data), many)


def test_a_scorer_of_ones_own_gets_labels_and_what_the_classifier_says(tmp_path: Path) -> None:
    X, y, _ = rows()

    def gain(model: Any, unseen: Any, labels: Any) -> float:
        assert len(unseen) == len(labels)
        right = model.predict(unseen) == labels
        chances = model.predict_proba(unseen)[np.arange(len(labels)), model.decision_function(
            unseen).argmax(axis=1)]  # fmt: skip
        assert_allclose(np.log(chances), model.predict_log_proba(unseen).max(axis=1), rtol=1e-4)
        return float((right * chances).mean() - model.C)

    data = in_shards(tmp_path, X, y)
    same(search(scoring=gain).fit(data), search(scoring=gain).fit(X, y))


def test_the_chosen_fit_is_that_of_the_classifier(tmp_path: Path) -> None:
    X, y, weight = rows(dtype=np.float64)
    data = in_shards(tmp_path, X, y, weight)
    chosen = search(class_weight={"bee": 2.0}).fit(data)
    alone = cs.SoftmaxClassifier(C=chosen.C_, class_weight={"bee": 2.0}).fit(data)
    assert_array_equal(chosen.coef_, alone.coef_)
    assert chosen.gap_ == alone.gap_
    assert chosen.n_features_in_ == 4
    assert chosen.score(data) == alone.score(data)


# ---- folds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [True, False])
def test_stratified_folds_are_those_of_scikit_learn(
    weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_folds, "BLOCK_ROWS", 64)
    rng = np.random.default_rng(0)
    for n_splits in (2, 3, 7):
        y = np.unique(rng.choice(6, 500, p=rng.dirichlet(np.full(6, 3.0))), return_inverse=True)[1]
        weight = rng.integers(0, 2, 500) / 2 if weighted else None
        there = np.flatnonzero(np.ones(500) if weight is None else weight)
        expected = np.zeros(500, int)
        for i, (_, test) in enumerate(StratifiedKFold(n_splits).split(there, y[there])):
            expected[there[test]] = i + 1
        found = stratified(y.astype(np.uint8), n_splits, weight, int(y.max()) + 1)
        assert_array_equal(found, expected)
        assert found.dtype == np.uint8


def test_too_many_folds_are_refused_as_scikit_learn_does(tmp_path: Path) -> None:
    X, y, _ = rows()
    with pytest.raises(ValueError, match=r"n_splits=1"):
        search(cv=1).fit(in_shards(tmp_path, X, y))
    y[:] = "ant"
    y[:4] = "bee"
    data = in_shards(tmp_path, X, y)
    with pytest.warns(UserWarning, match="least populated class in y has only 4 members"):
        search(cv=5, max_iter=1, scoring="accuracy").fit(data)


def test_codes_of_rows_tell_of_any_folds() -> None:
    rng = np.random.default_rng(1)
    folds = [Fold(rng.integers(0, 50, 60), rng.integers(0, 50, 20)) for _ in range(4)]
    found = RowFolds.of_numbers(folds, 50)
    for i, fold in enumerate(folds):
        assert_array_equal(found.train[i, found.code], np.bincount(fold.train, minlength=50))
        assert_array_equal(found.test[i, found.code], np.bincount(fold.test, minlength=50))
    weights = FoldWeights(found.train, found.code, weight := rng.random(50))
    whole = np.array([np.bincount(fold.train, minlength=50) * weight for fold in folds])
    assert_array_equal(weights[:, 10:30], whole[:, 10:30])
    assert_array_equal(weights[2][np.array([3, 1])], whole[2, [3, 1]])
    assert_array_equal(weights.part(slice(5, 9)).scaled(np.arange(4.0))[:, :],
                       whole[:, 5:9] * np.arange(4.0)[:, None])  # fmt: skip


def test_whole_shards_are_held_out(tmp_path: Path) -> None:
    X, y, weight = rows()
    data = in_shards(tmp_path, X, y, weight)
    numbers = np.repeat(np.arange(4), LENGTHS)
    by_shard = search(cv=cs.ShardKFold(3)).fit(data)
    same(by_shard, search(cv=list(cs.ShardKFold(3).split(data))).fit(data))
    same(by_shard, search(cv=[(numbers != s, numbers == s) for s in (0, 3, 2)]).fit(data))
    folds = cs.ShardKFold(3).of_shards([5, 9, 1, 7, 2, 2])
    assert folds.tolist() == [2, 0, 2, 1, 2, 1]  # 9, 7 + 2, 5 + 2 + 1


def test_groups_go_to_the_splitter(tmp_path: Path) -> None:
    X, y, _ = rows()
    data, groups = in_shards(tmp_path, X, y), np.arange(N) // 500
    with sklearn.config_context(enable_metadata_routing=True):
        many = search(cv=GroupKFold(3)).fit(data, groups=groups)
        same(many, search(cv=GroupKFold(3)).fit(X, y, groups=groups))


# ---- what it costs -------------------------------------------------------------------------------


def test_all_scores_take_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y, _ = rows()
    data, passes = in_shards(tmp_path, X, y), []
    measure, windows = ShardPasses.measure, ShardPasses.windows

    def watched(self: Any, *heads: Any) -> Any:
        monkeypatch.setattr(
            ShardPasses, "windows", lambda self: (passes.append(1), windows(self))[1]
        )
        found = measure(self, *heads)
        monkeypatch.setattr(ShardPasses, "windows", windows)
        return found

    monkeypatch.setattr(ShardPasses, "measure", watched)
    calls, minimize = [], fit.solver.minimize

    def spy(*args: Any, **options: Any) -> Any:
        calls.append(options)
        return minimize(*args, **options)

    monkeypatch.setattr(fit.solver, "minimize", spy)
    search(cv=5, Cs=3).fit(data)
    assert len(passes) == 1
    assert [np.size(call["C"]) for call in calls] == [15, 1]
    assert calls[0]["sample_weight"].nbytes < 2 * N  # where an array would take 40 bytes a row


def test_a_scorer_reads_the_windows_that_a_fold_tests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y, _ = rows()
    data, seen = in_shards(tmp_path, X, y), []
    outputs, read = ShardPasses.outputs, ShardPasses._read

    def reading(self: Any, shard: Any, run: slice) -> Array:
        seen[-1].add(shard.name.split()[1])
        return read(self, shard, run)

    def watched(self: Any, *asked: Any) -> Any:
        seen.append(set())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ShardPasses, "_read", reading)
            return outputs(self, *asked)

    monkeypatch.setattr(ShardPasses, "outputs", watched)
    search(cv=cs.ShardKFold(3), Cs=2, scoring="f1_macro").fit(data)
    assert seen == [{"0"}, {"0"}, {"3"}, {"3"}, {"2"}, {"2"}]


def fit_and_tell(pattern: str, kind: str) -> None:
    """Print what a cross-validation of shards takes at most."""
    n = 2_000_000
    data = cs.shards(pattern, labels=np.arange(n, dtype=np.uint8) % 3)
    cv: Any = {"stratified": 5, "shards": cs.ShardKFold(4)}[kind]
    model = search(cv=cv, max_iter=2, tol=1.0, max_memory="170 MB")
    print(anonymous_peak(lambda: model.fit(data)))


@pytest.mark.slow  # 2,000,000 rows, of which weights of five folds as an array would take 80 MB
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no /proc")
@pytest.mark.parametrize("kind", ["stratified", "shards"])
def test_a_search_stays_within_its_budget(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(0)
    for s in range(4):
        np.save(tmp_path / f"x-{s}.npy", rng.integers(0, 9, (500_000, 12), np.uint8))
    told = subprocess.run(
        [sys.executable, __file__, f"{tmp_path}/x-*.npy", kind], capture_output=True, text=True,
        check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ).stdout  # fmt: skip
    assert int(told) < 100e6


def test_a_budget_that_is_too_small_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y, _ = rows()
    data = in_shards(tmp_path, X, y)
    with pytest.raises(MemoryBudgetError, match=r"max_memory is 1 MB, .* for 3 fits at once"):
        search(max_memory="1 MB", refit=False).fit(data)
    with pytest.raises(MemoryBudgetError, match="for the folds that cv makes of 32778 rows"):
        search(max_memory="1 MB", refit=False, cv=KFold(3)).fit(data)
    monkeypatch.setattr(cv_shards, "plan_of_fit", lambda *args: plan_of_fit(*args, 1e9))
    with pytest.raises(MemoryBudgetError, match="for a fit of 32778 samples"):
        search(max_memory="500 MB").fit(data)  # before the folds are solved


# ---- refusals ------------------------------------------------------------------------------------


def test_refusals(tmp_path: Path) -> None:
    X, y, weight = rows()
    data = in_shards(tmp_path, X, y)
    with pytest.raises(ValueError, match="y is given, but shards have their own"):
        search().fit(data, y)
    with pytest.raises(ValueError, match="n_splits is 4, expected at most the number of shards"):
        search(cv=cs.ShardKFold(4)).fit(data)
    with pytest.raises(ValueError, match="n_splits is 1, expected at least 2"):
        cs.ShardKFold(1)
    with pytest.raises(TypeError, match=r"X is a ndarray, expected shards, of which ShardKFold\(2"):
        search(cv=cs.ShardKFold(2)).fit(X, y)
    weight[:] = 0
    with pytest.raises(ValueError, match="the weights of all rows are zero"):
        search().fit(in_shards(tmp_path, X, y, weight))
    weight[: 2 * CHUNK_ROWS] = 1
    weighted = in_shards(tmp_path, X, y, weight)
    with pytest.raises(ValueError, match="all training rows of fold 0 of cv have weight 0"):
        search(cv=cs.ShardKFold(3)).fit(weighted)
    X[CHUNK_ROWS + 2, 1] = math.nan
    model = search()
    with pytest.raises(ValueError, match=r"shard 0 .*: row 8194 .*: feature 1 is nan"):
        model.fit(in_shards(tmp_path, X, y))
    assert not hasattr(model, "classes_")


if __name__ == "__main__":
    fit_and_tell(*sys.argv[1:])
