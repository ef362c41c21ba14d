"""Two classes: one row of coefficients outside, two rows within, the same penalty."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from estimator_cases import TIGHT, objective, small

from csoftmax.estimators import SoftmaxClassifier, SoftmaxClassifierCV
from csoftmax.solver.two_classes import estimator_C, estimator_form, softmax_C, softmax_form

C = 0.3  # small: with half of it the slopes were 1e-2


def parameters(n_classes: int) -> tuple[Any, Any]:
    """coef_ and intercept_ as scikit-learn shows them; of more classes they sum to 0."""
    rng = np.random.default_rng(n_classes)
    coef, intercept = rng.normal(size=(n_classes, 4)), rng.normal(size=n_classes)
    if n_classes == 2:
        return coef[:1], intercept[:1]
    return coef - coef.mean(axis=0), intercept - intercept.mean()


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_forms_are_each_others_inverse(n_classes: int) -> None:
    coef, intercept = parameters(n_classes)
    W, b = softmax_form(coef, intercept)
    assert W.shape == (n_classes, 4)
    assert b.shape == (n_classes,)
    for back, given in zip(estimator_form(W, b), (coef, intercept), strict=True):
        np.testing.assert_array_equal(back, given)
    assert estimator_C(softmax_C(C, n_classes), n_classes) == C
    stacked = estimator_form(np.stack([W, 2 * W]), np.stack([b, 2 * b]))
    np.testing.assert_array_equal(stacked[0], [coef, 2 * coef])
    np.testing.assert_array_equal(stacked[1], [intercept, 2 * intercept])


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_forms_penalise_equally(n_classes: int) -> None:
    coef, intercept = parameters(n_classes)
    W, _ = softmax_form(coef, intercept)
    penalty = np.square(coef).sum() / (2 * C)
    assert np.square(W).sum() / (2 * softmax_C(C, n_classes)) == pytest.approx(penalty, rel=1e-14)
    # and no other weights of the same probabilities are penalised less
    for shift in np.random.default_rng(0).normal(size=(20, 4)):
        assert np.square(W + shift).sum() > np.square(W).sum()


def slopes(model: Any, X: Any, y: Any) -> Any:
    """The derivatives of the documented objective, by central differences."""
    found = []
    for array in (model.coef_, model.intercept_):
        for at in np.ndindex(array.shape):
            value, sides = array[at], []
            for step in (1e-5, -1e-5):
                array[at] = value + step
                sides.append(objective(model, X, y, C))
            array[at] = value
            found.append((sides[0] - sides[1]) / 2e-5)
    return np.abs(found)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_each_estimator_minimises_the_documented_objective(n_classes: int) -> None:
    X, y = small(n_classes)
    one = SoftmaxClassifier(C=C, tol=TIGHT).fit(X, y)
    assert one.gap_.objective == pytest.approx(objective(one, X, y, C), rel=1e-12)
    assert slopes(one, X, y).max() < 1e-5
    chosen = SoftmaxClassifierCV(Cs=[C], cv=3, tol=TIGHT).fit(X, y)
    assert slopes(chosen, X, y).max() < 1e-5
    of_folds = SoftmaxClassifierCV(Cs=[C], cv=[(range(100), range(100, 120))], tol=TIGHT / 10)
    path = of_folds.fit(X, y).coefs_paths_[0, 0, 0]
    one.coef_, one.intercept_ = path[:, :-1].copy(), path[:, -1].copy()
    assert slopes(one, X[:100], y[:100]).max() < 1e-5


@pytest.mark.parametrize("n_classes", [2, 3])
def test_minibatches_descend_to_the_same_objective(n_classes: int) -> None:
    X, y = small(n_classes)
    best = objective(SoftmaxClassifier(C=C, tol=TIGHT).fit(X, y), X, y, C)
    options = {"solver": "sgd", "learning_rate": 0.3, "batch_size": 120, "random_state": 0}
    near = SoftmaxClassifier(C=C, tol=1e-9, max_iter=1000, **options).fit(X, y)
    assert near.gap_.objective == pytest.approx(objective(near, X, y, C), rel=1e-12)
    assert near.gap_.objective == pytest.approx(best, rel=1e-6)


def test_probabilities_of_two_classes_are_those_of_one_row() -> None:
    X, y = small(2)
    ours = SoftmaxClassifier(C=C, tol=TIGHT).fit(X, y)
    p = 1 / (1 + np.exp(-ours.decision_function(X)))
    np.testing.assert_allclose(ours.predict_proba(X)[:, 1], p, rtol=1e-12)
    np.testing.assert_allclose(
        ours.predict_log_proba(X), np.log(np.column_stack([1 - p, p])), rtol=1e-9
    )
