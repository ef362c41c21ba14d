"""Standard errors: against statsmodels' numbers, and a Hessian of finite differences."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from estimator_cases import CANCER, small
from sklearn.datasets import load_wine

import csoftmax as cs
from csoftmax.estimators import MemoryBudgetError, SoftmaxClassifier, inference

Array = Any
WINE = load_wine(return_X_y=True)
X, Y = WINE[0][:, [1, 2, 4]], WINE[1]

# What statsmodels 0.15.0 says of X and Y as above, its columns here as rows, the intercept first:
#   fit = sm.MNLogit(Y, sm.add_constant(X)).fit(method="newton", tol=1e-14, maxiter=100)
#   fit.params.T, fit.bse.T
PARAMETERS = [
    [1.17905735e01, 1.06361629e-02, -2.70474467e00, -5.26598222e-02],
    [-7.15488665e-01, 1.19606329e00, 7.38473440e-02, -2.67319739e-02],
]
ERRORS = [
    [2.40344864, 0.23838132, 0.84397755, 0.01516785],
    [2.69724236, 0.24024178, 0.98211441, 0.01861614],
]
# y = (Y == 1) * 1; w = np.arange(len(Y)) % 3 + 1
#   sm.Logit(np.repeat(y, w), sm.add_constant(np.repeat(X, w, axis=0))).fit(...).bse
OF_TWO_WEIGHTED = [1.50198604, 0.12445865, 0.5422983, 0.01028793]
#   sm.Logit(y, X).fit(...).bse
OF_TWO_WITHOUT_INTERCEPT = [0.16260642, 0.4565816, 0.01007738]


def fitted(X: Array, y: Array, sample_weight: Any = None, **settings: Any) -> SoftmaxClassifier:
    model = SoftmaxClassifier(**{"C": math.inf, "tol": 1e-11, **settings})
    return model.fit(X, y, sample_weight)


def test_a_multinomial_logit_with_a_reference_class() -> None:
    model = fitted(X, Y)
    errors = model.standard_errors(X, Y, reference=0)
    differences = np.c_[model.intercept_, model.coef_]
    np.testing.assert_allclose((differences - differences[0])[1:], PARAMETERS, rtol=1e-5)
    np.testing.assert_allclose(np.c_[errors.intercept, errors.coef][1:], ERRORS, rtol=1e-6)
    assert not errors.coef[0].any()
    assert errors.intercept[0] == 0
    assert not errors.covariance[:4].any()


def test_two_classes_and_weights_as_counts() -> None:
    y, weight = (Y == 1) * 1, np.arange(len(Y)) % 3 + 1
    errors = fitted(X, y, weight).standard_errors(X, y, weight)
    shown = np.r_[errors.intercept, errors.coef[0]]
    np.testing.assert_allclose(shown, OF_TWO_WEIGHTED, rtol=1e-5)
    for label in (0, 1):
        other = fitted(X, y, weight).standard_errors(X, y, weight, reference=label)
        np.testing.assert_allclose(other.covariance, errors.covariance, rtol=1e-9)


def test_without_an_intercept() -> None:
    y = (Y == 1) * 1
    errors = fitted(X, y, fit_intercept=False).standard_errors(X, y)
    np.testing.assert_allclose(errors.coef[0], OF_TWO_WITHOUT_INTERCEPT, rtol=1e-6)
    assert errors.intercept.tolist() == [0.0]
    assert errors.covariance.shape == (3, 3)


def hessian(function: Any, at: Array, step: float = 1e-3) -> Array:
    """The second central differences of a function of a vector."""
    steps = step * np.eye(len(at))
    result = np.empty((len(at), len(at)))
    for i, j in itertools.product(range(len(at)), repeat=2):
        a, b = steps[i], steps[j]
        result[i, j] = function(at + a + b) - function(at + a - b)
        result[i, j] -= function(at - a + b) - function(at - a - b)
    return result / (4 * step**2)


@pytest.mark.parametrize("C", [0.3, math.inf])
@pytest.mark.parametrize("n_classes", [2, 3, 4])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_the_inverse_hessian_of_finite_differences(
    C: float, n_classes: int, fit_intercept: bool
) -> None:
    X, y = small(n_classes)
    X = X[:, :2]
    weight = np.linspace(0.5, 1.5, len(y))
    model = fitted(X, y, weight, C=C, fit_intercept=fit_intercept)
    design = np.c_[X, np.ones(len(X))] if fit_intercept else X
    # of two classes one row is shown and penalised; of more, rows that sum to 0
    basis = np.eye(n_classes) - 1 / n_classes
    basis = np.array([[0.0], [1.0]]) if n_classes == 2 else np.linalg.svd(basis)[0][:, :-1]

    def objective(free: Array) -> float:
        theta = basis @ free.reshape(basis.shape[1], -1)
        logits = design @ theta.T
        losses = np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(y)), y]
        return float(weight @ losses + np.square(theta[:, :2]).sum() / (2 * C))

    shown = np.c_[model.coef_, model.intercept_] if fit_intercept else model.coef_
    free = shown[0] if n_classes == 2 else (basis.T @ shown).ravel()
    back = np.kron(basis[1:] if n_classes == 2 else basis, np.eye(design.shape[1]))
    expected = back @ np.linalg.inv(hessian(objective, free)) @ back.T
    errors = model.standard_errors(X, y, weight)
    np.testing.assert_allclose(errors.covariance, expected, rtol=1e-4, atol=1e-7)
    diagonal = np.sqrt(expected.diagonal()).reshape(len(shown), -1)
    np.testing.assert_allclose(errors.coef, diagonal[:, :2], rtol=1e-4)
    if fit_intercept:
        np.testing.assert_allclose(errors.intercept, diagonal[:, 2], rtol=1e-4)


def test_features_far_from_0_and_of_other_units() -> None:
    errors = fitted(X, Y).standard_errors(X, Y)
    scale, shift = np.array([1e-3, 1.0, 1e3]), np.array([0.0, 2e4, 1e9])
    moved = fitted(X, Y)
    moved.coef_ = moved.coef_ / scale
    moved.intercept_ = moved.intercept_ - moved.coef_ @ shift
    there = moved.standard_errors(X * scale + shift, Y)
    np.testing.assert_allclose(there.coef * scale, errors.coef, rtol=1e-6)
    # the intercept at the shifted features' 0 is a sum of correlated parts
    to = np.r_[-shift / scale, 1.0]
    covariance = errors.covariance.reshape(3, 4, 3, 4)
    expected = [math.sqrt(to @ covariance[k, :, k] @ to) for k in range(3)]
    np.testing.assert_allclose(there.intercept, expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_other_dtypes_blocks_and_frames(dtype: Any, monkeypatch: Any) -> None:
    whole = np.round(X * 8).astype(dtype)
    names = np.array(["a", "b", "c"])[Y]
    frame = pd.DataFrame(whole, columns=["malic", "ash", "magnesium"])
    model = fitted(frame, names, class_weight={"a": 2.0}, tol=1e-6)
    expected = model.standard_errors(frame, names)
    assert expected.covariance.dtype == np.float64
    exact = SoftmaxClassifier(C=math.inf, class_weight={"a": 2.0}, tol=1e-11)
    exact.fit(whole.astype(float), names)
    exact_errors = exact.standard_errors(whole.astype(float), names)
    np.testing.assert_allclose(expected.coef, exact_errors.coef, rtol=1e-3)
    monkeypatch.setattr(inference, "_BLOCK_BYTES", 1000)
    np.testing.assert_allclose(model.standard_errors(frame, names).coef, expected.coef, rtol=1e-9)


def test_saved_and_chosen_classifiers_have_them(tmp_path: Path) -> None:
    model = fitted(X, Y)
    model.save(tmp_path / "model")
    loaded = SoftmaxClassifier.load(tmp_path / "model")
    expected = model.standard_errors(X, Y).covariance
    np.testing.assert_array_equal(loaded.standard_errors(X, Y).covariance, expected)
    chosen = cs.SoftmaxClassifierCV(Cs=[0.1, 1.0], cv=2).fit(X, Y)
    assert (chosen.best().standard_errors(X, Y).coef > 0).all()


def test_what_has_no_standard_errors() -> None:
    for extra in (np.full(len(X), 0.1), X[:, 0] - X[:, 1]):
        frame = pd.DataFrame(np.c_[X, extra], columns=["malic", "ash", "magnesium", "more"])
        model = SoftmaxClassifier(C=math.inf, tol=1e-6).fit(frame, Y)
        with pytest.raises(ValueError, match=r"matrix is singular.* features .*'more' are const"):
            model.standard_errors(frame, Y)
        model.set_params(C=1.0).fit(frame, Y).standard_errors(frame, Y)
    model = fitted(X, Y)
    with pytest.raises(ValueError, match=r"reference is 7, expected None or one of \[0, 1, 2\]"):
        model.standard_errors(X, Y, reference=7)
    with pytest.raises(ValueError, match="no sample of weight > 0 of the class 2, expected some"):
        model.standard_errors(X, Y, np.where(Y == 2, 0, 1))
    with pytest.raises(ValueError, match="y has the label 3, expected one of the classes"):
        model.standard_errors(X, Y + 1)
    with pytest.raises(ValueError, match="not fitted"):
        SoftmaxClassifier().standard_errors(X, Y)


def test_too_large_ones_say_how_large(monkeypatch: Any) -> None:
    model = fitted(X, Y)
    with pytest.raises(
        MemoryBudgetError, match=r"max_memory is 1 MB, expected at least .* of 12 parameters"
    ):
        model.set_params(max_memory=10**6).standard_errors(X, Y)
    monkeypatch.setattr(inference, "MAX_PARAMETERS", 11)
    with pytest.raises(MemoryBudgetError, match="have 12 parameters, expected at most 11"):
        model.standard_errors(X, Y)


def test_errors_are_the_spread_of_repeated_samples() -> None:
    """Of 60 samples of 400 rows, the spread of the estimates is that of the errors."""
    rng = np.random.default_rng(0)
    X = CANCER[0][:, :2]
    X = np.tile((X - X.mean(axis=0)) / X.std(axis=0), (2, 1))[:400]
    coef = np.array([[0.8, -0.3], [-0.5, 0.4], [-0.3, -0.1]])
    logits = X @ coef.T
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    estimates, errors = [], []
    for _ in range(60):
        y = (p.cumsum(axis=1) < rng.random((400, 1))).sum(axis=1)
        model = fitted(X, y, tol=1e-6)
        estimates.append(model.coef_)
        errors.append(model.standard_errors(X, y).coef)
    np.testing.assert_allclose(np.std(estimates, axis=0), np.mean(errors, axis=0), rtol=0.3)
