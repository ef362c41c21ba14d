"""The benchmark of small tables."""

from __future__ import annotations

import math

import pytest

import csoftmax as cs
from csoftmax.bench import Options, small
from csoftmax.bench.measure import WrongResultError
from csoftmax.bench.run import names_of
from csoftmax.bench.session import Session


def test_small_measures_small_tables_and_nothing_else() -> None:
    names = list(names_of(Options(small=True, peers="none").session))
    assert len(names) == len(small.TABLES) * len(small.CS)
    assert all(name.startswith("small/") for name in names)


def test_both_fit_and_the_objectives_are_told() -> None:
    (result,) = small.fits(Session([], 1, small=True), "iris", math.inf)
    assert result.ratio("scikit-learn") is not None
    assert 0 < result.facts["objective"] < 0.05
    assert result.facts["scikit-learn above us, nats"] > -small.NOISE


def test_an_objective_above_scikit_learns_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = cs.SoftmaxClassifier.fit

    def lazy(self: cs.SoftmaxClassifier, X: object, y: object) -> cs.SoftmaxClassifier:
        fit(self, X, y)
        self.coef_ = 0 * self.coef_
        return self

    monkeypatch.setattr(cs.SoftmaxClassifier, "fit", lazy)
    with pytest.raises(WrongResultError, match="expected at most scikit-learn's"):
        list(small.fits(Session([], 1, small=True), "iris", 1.0))


@pytest.mark.parametrize("table", small.TABLES)
def test_tables_are_standardised(table: str) -> None:
    X, y = small.standardised(table)
    assert X.ndim == 2
    assert len(X) == len(y)
    assert 50 <= len(X) <= 5000
    assert abs(X.mean(axis=0)).max() < 1e-9
    assert abs(X.var(axis=0) - 1)[X.any(axis=0)].max() < 1e-9
