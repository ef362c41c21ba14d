"""What the two estimators share: the linear model that they end with."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from csoftmax import functional
from csoftmax._estimator_data import features
from csoftmax._validate import compute_dtype
from csoftmax.solver import ABSENT_BIAS

Array = NDArray[Any]


class Gap(NamedTuple):
    """How far the parameters are from the optimum.

    ``objective`` is what was minimised, in nats per unit of weight; ``objective - optimum`` is at
    most ``bound`` (a certificate: the objective's curvature is at least that of the penalty, so
    ``||gradient||^2 / (2 * penalty)`` cannot be exceeded; inf without a penalty), and about
    ``estimate`` (``gradient^T H^-1 gradient / 2`` with the preconditioner's H; NaN where it was not
    measured).
    """

    objective: float
    bound: float
    estimate: float

    @property
    def relative(self) -> float:
        """The estimate as a share of the objective: what `tol` is compared with."""
        return self.estimate / self.objective if self.objective else 0.0


UNKNOWN_GAP = Gap(math.nan, math.inf, math.nan)


class LinearSoftmax(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Predicting with ``coef_`` and ``intercept_``: one row per class, or one for two classes."""

    fit_intercept: bool
    n_threads: int | None
    classes_: Array
    coef_: Array
    intercept_: Array

    def decision_function(self, X: Any) -> Array:
        """Return the logits ``X @ coef_.T + intercept_``.

        Parameters
        ----------
        X : array_like (n_samples, n_features)

        Returns
        -------
        array (n_samples, n_classes), or (n_samples,) for two classes: that of ``classes_[1]``
            float32 for uint8, float16 and float32 data and parameters, else float64.
        """
        X, coef, intercept = self._ready(X)
        logits = np.empty((len(X), len(intercept)), coef.dtype)
        functional.forward(X, coef, intercept, 1.0, self.n_threads, logits=logits)
        return logits[:, 0] if len(intercept) == 1 else logits

    def predict(self, X: Any) -> Array:
        """Return the most probable class of each sample, (n_samples,), of the dtype of `classes_`.

        Parameters
        ----------
        X : array_like (n_samples, n_features)
            No array of n_samples x n_classes is made.
        """
        X, coef, intercept = self._ready(X)
        if len(intercept) == 1:
            coef, intercept = softmax_form(coef, intercept)
        labels = np.empty(len(X), np.int64)
        functional.forward(X, coef, intercept, 1.0, self.n_threads, predictions=labels)
        return self.classes_[labels]

    def predict_proba(self, X: Any) -> Array:
        """Return the probabilities of the classes, (n_samples, n_classes), in their order.

        Parameters
        ----------
        X : array_like (n_samples, n_features)
        """
        logits = _two_columns(self.decision_function(X))
        return functional.softmax(logits, out=logits, n_threads=self.n_threads)

    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithms of `predict_proba`, exact where the probability rounds to 0.

        Parameters
        ----------
        X : array_like (n_samples, n_features)
        """
        logits = _two_columns(self.decision_function(X))
        return functional.log_softmax(logits, out=logits, n_threads=self.n_threads)

    def _ready(self, X: Any) -> tuple[Array, Array, Array]:
        check_is_fitted(self, "coef_")
        X = features(self, X)
        coef, intercept = np.asarray(self.coef_), np.asarray(self.intercept_)
        dtype = compute_dtype(X, coef, intercept)
        return X, np.ascontiguousarray(coef, dtype), np.ascontiguousarray(intercept, dtype)

    def _keep(self, W: Array, b: Array) -> None:
        """Keep one head's parameters as scikit-learn shows them."""
        self.coef_, self.intercept_ = estimator_form(W, centred(b, self.fit_intercept))


def softmax_form(coef: Array, intercept: Array) -> tuple[Array, Array]:
    """Return W (n_classes, n_features) and b: two classes share the difference, half each."""
    if len(intercept) > 1:
        return np.ascontiguousarray(coef), np.ascontiguousarray(intercept)
    halves = np.array([-0.5, 0.5], coef.dtype)
    return halves[:, None] * coef, halves * intercept


def centred(b: Array, fit_intercept: bool) -> Array:
    """Return the intercepts of the classes, along the last axis, with the sum 0.

    The probabilities do not change. A class that no sample has keeps its huge negative intercept
    and does not count.
    """
    if not fit_intercept:
        return np.zeros_like(b)
    present = b > ABSENT_BIAS / 2
    mean = np.where(present, b, 0).sum(axis=-1, keepdims=True) / present.sum(axis=-1, keepdims=True)
    return np.where(present, b - mean, b).astype(b.dtype)


def estimator_form(W: Array, b: Array) -> tuple[Array, Array]:
    """Return coef_ and intercept_: for two classes one row, the logit of the second class."""
    if len(b) > 2:
        return W, b
    return W[1:] - W[:1], b[1:] - b[:1]


def softmax_C(C: float | Array, n_classes: int) -> Any:
    """Return the C of the softmax form that equals C in the estimator's form.

    With two classes scikit-learn penalises ``||w||^2`` of the difference ``w = W_1 - W_0``; the
    best W with that difference has ``||W||^2 = ||w||^2 / 2``: half the C penalises it equally.
    """
    return C / 2 if n_classes == 2 else C


def _two_columns(decision: Array) -> Array:
    if decision.ndim == 2:
        return decision
    logits = np.zeros((len(decision), 2), decision.dtype)
    logits[:, 1] = decision
    return logits
