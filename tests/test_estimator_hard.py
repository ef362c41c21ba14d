"""Data and settings for which other libraries, or an earlier csoftmax, gave wrong answers."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import scale

from csoftmax import SoftmaxClassifier, SoftmaxClassifierCV
from csoftmax.solver import ConvergenceWarning, minimize

Array = NDArray[Any]

pytestmark = pytest.mark.usefixtures("either_way")


def far_from_0(name: str) -> tuple[Array, Array, float]:
    """One column, and labels that depend on it."""
    rng = np.random.default_rng(0)
    z, noise = rng.normal(size=(2, 200))
    noisy = z + 0.3 * noise > 0
    return {
        "2e4": (z + 2e4, z > 0, 1.0),
        "seconds since 1970": (1.7e9 + 3e7 * z, noisy, 1.0),
        "Julian days": (2.45e6 + 300 * z, noisy, 1.0),
        "years": (2000 + np.round(10 * z), noisy, 1e4),
        "kelvin": (300 + 5 * z, np.digitize(z + 0.3 * noise, [-0.5, 0.5]), 1.0),
    }[name]


@pytest.mark.filterwarnings("ignore:.*the rounding of float32 allows no further step")
@pytest.mark.parametrize("name", ["2e4", "seconds since 1970", "Julian days", "years", "kelvin"])
def test_features_far_from_0(name: str) -> None:
    """The optimum of the centred column, its intercept shifted back."""
    x, y, C = far_from_0(name)
    X, mean = x[:, None], x.mean()
    theirs = LogisticRegression(C=C, tol=1e-12, solver="newton-cholesky").fit(X - mean, y)
    ours = SoftmaxClassifier(C=C, tol=1e-9).fit(X, y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-4)
    shifted = theirs.intercept_ - theirs.coef_ @ [mean]
    np.testing.assert_allclose(ours.intercept_, shifted, rtol=1e-4)
    assert np.array_equal(ours.predict(X), theirs.predict(X - mean))
    assert ours.score(X, y) == theirs.score(X - mean, y) > 0.8
    in_float32 = SoftmaxClassifier(C=C).fit(X.astype(np.float32), y)
    assert in_float32.score(X, y) == pytest.approx(ours.score(X, y), abs=0.01)
    search = SoftmaxClassifierCV(Cs=[C], cv=3).fit(X, y)
    assert search.scores_.mean() > 0.8
    assert search.score(X, y) == pytest.approx(ours.score(X, y), abs=0.01)


@pytest.mark.filterwarnings("ignore:the objective is still falling")
@pytest.mark.parametrize("name", ["2e4", "seconds since 1970", "Julian days", "years", "kelvin"])
def test_minibatches_say_that_features_are_far_from_0(name: str) -> None:
    """They stop near the null model there, and once did so in silence."""
    x, y, C = far_from_0(name)
    model = SoftmaxClassifier(C=C, solver="sgd", random_state=0)
    with pytest.warns(ConvergenceWarning, match=r"column 0 of X has the mean .* far from 0\. Subt"):
        model.fit(x[:, None], y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit((x[:, None] - x.mean()) / x.std(), y)
    assert model.score((x[:, None] - x.mean()) / x.std(), y) > 0.8


def test_squares_that_overflow_float64_are_told() -> None:
    X, y = load_iris(return_X_y=True)
    X[:, 2] *= 1e155
    with pytest.raises(ValueError, match=r"column 2 of X has values up to .*e.155, whose squares"):
        SoftmaxClassifier().fit(X, y)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("C", [1e-12, 1e-9, 1e-6, 1e-4, 1e-2])
@pytest.mark.parametrize("load", [load_breast_cancer, load_wine])
def test_a_strong_penalty_leaves_a_direction(load: Any, C: float, dtype: Any) -> None:
    X, y = load(return_X_y=True)
    X = scale(X)
    ours = SoftmaxClassifier(C=C).fit(X.astype(dtype), y)
    theirs = LogisticRegression(C=C, tol=1e-14, solver="newton-cholesky").fit(X, y)
    error = np.linalg.norm(ours.coef_ - theirs.coef_) / np.linalg.norm(theirs.coef_)
    assert error < 1e-2
    areas = []
    for model in (ours, theirs):
        p = model.predict_proba(X)  # in float64: float32 cannot tell such probabilities apart
        areas.append(roc_auc_score(y, p[:, 1] if p.shape[1] == 2 else p, multi_class="ovr"))
    assert areas[0] == pytest.approx(areas[1], abs=1e-4)
    assert areas[0] > 0.97


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("unit", "C"), [(1e20, 1e-40), (1e25, 1e-50), (1e-25, 1e50), (1e30, 1.0)])
def test_features_of_any_magnitude(unit: float, C: float, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 4))
    y = (X @ rng.normal(size=(4, 3)) + 0.5 * rng.gumbel(size=(300, 3))).argmax(axis=1)
    plain = minimize(X, y, 3, C=min(C * unit**2, 1e9), tol=1e-7)
    scaled = minimize((X * unit).astype(dtype), y, 3, C=C, tol=1e-7)
    assert scaled.converged.all()
    assert scaled.objective[0] == pytest.approx(plain.objective[0], rel=1e-5)
    np.testing.assert_allclose(scaled.W[0] * unit, plain.W[0], rtol=0.02, atol=1e-3)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("weight", [1e-300, 1e-50, 1e-39, 1e-7, 1e7, 1e37, 1e300])
def test_weights_of_any_magnitude(weight: float, dtype: Any) -> None:
    X, y = load_iris(return_X_y=True)
    relative = np.random.default_rng(0).uniform(0.5, 2, len(y))
    plain = SoftmaxClassifier(C=1.0, tol=1e-8).fit(X.astype(dtype), y, relative)
    scaled = SoftmaxClassifier(C=1 / weight, tol=1e-8)
    scaled.fit(X.astype(dtype), y, relative * weight)
    np.testing.assert_allclose(scaled.coef_, plain.coef_, rtol=1e-3, atol=1e-4)
    assert scaled.gap_.objective == pytest.approx(plain.gap_.objective, rel=1e-6)


def test_a_column_far_larger_than_the_others_and_one_too_large() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3)).astype(np.float32)
    y = (X[:, 0] + X[:, 1] + 0.3 * rng.normal(size=300) > 0).astype(int)
    X[:, 1] *= 1e20
    model = SoftmaxClassifier().fit(X, y)
    assert model.score(X, y) > 0.85
    X[:, 2] *= 1e38
    with (
        np.errstate(invalid="ignore"),  # of the check for NaN, which adds up
        pytest.raises(ValueError, match=r"overflow float32: column 2 has values up to \d"),
    ):
        SoftmaxClassifier().fit(X, y)


# library(glmnet); x <- as.matrix(iris[, 1:4]); y <- iris$Species
# fit <- glmnet(x, y, family = "multinomial", alpha = 0, lambda = c(1, .1, .01),
#               standardize = FALSE, thresh = 1e-16, maxit = 1e8)
# coef(fit, s = .01)
# fit <- glmnet(x, y == "versicolor", family = "binomial", ...)
GLMNET_MULTINOMIAL = [
    [9.064408931880, -0.415830492231, 0.823862323251, -2.246510817783, -0.949190222678],
    [2.161915856582, 0.438399029988, -0.347881928053, -0.148649642351, -0.781726954582],
    [-11.226324788462, -0.022568537757, -0.475980395197, 2.395160460134, 1.730917177260],
]
GLMNET_BINOMIAL = [
    [5.054955062780, -0.191939525012, -1.913557875307, 0.611241500687, -1.029143158031]
]


def test_a_tight_tol_reaches_the_coefficients_of_glmnet() -> None:
    X, y = load_iris(return_X_y=True)
    C = 1 / (len(X) * 0.01)
    for labels, expected in ((y, GLMNET_MULTINOMIAL), (y == 1, GLMNET_BINOMIAL)):
        model = SoftmaxClassifier(C=C, tol=1e-10).fit(X, labels)
        ours = np.concatenate([model.intercept_[:, None], model.coef_], axis=1)
        np.testing.assert_allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize("C", [1e-2, 1.0, 100.0])
def test_a_tight_tol_goes_on_to_float64_accuracy(C: float) -> None:
    X, y = load_wine(return_X_y=True)
    X = scale(X)
    theirs = LogisticRegression(C=C, tol=1e-13, solver="newton-cholesky").fit(X, y)
    ours = SoftmaxClassifier(C=C, tol=1e-12).fit(X, y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-6 * np.abs(theirs.coef_).max())


def test_values_that_a_sample_of_the_rows_has_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a penalty such features once stopped the first step."""
    from csoftmax.solver import sample

    monkeypatch.setattr(sample, "SAMPLED_ROWS", 256)
    monkeypatch.setattr(sample, "LEAST_ROWS", 256)
    X, y = load_digits(return_X_y=True)
    solution = minimize(X, y, 10, C=math.inf, tol=1e-2, least_nats=5000)
    assert solution.converged.all()
    assert solution.loss[0] < 0.03


def test_nearly_separable_labels_end_within_half_a_nat_in_all() -> None:
    X, y = load_digits(return_X_y=True)
    X = scale(X)
    best = minimize(X, y, 10, C=1000.0, tol=1e-6).objective[0]
    theirs = LogisticRegression(C=1000.0).fit(X, y)
    p = theirs.predict_proba(X)[np.arange(len(y)), y]
    of_theirs = -np.log(p).mean() + np.square(theirs.coef_).sum() / (2 * 1000 * len(y))
    model = SoftmaxClassifier(C=1000.0).fit(X, y)
    assert model.gap_.objective < of_theirs
    assert model.gap_.objective - best < 2 * 0.5 / len(y)
    assert model.n_iter_[0] < 60
    assert model.gap_.objective - model.gap_.bound <= best
