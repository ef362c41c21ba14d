"""How sure the parameters are: standard errors from the Hessian at the solution.

The Hessian of a multinomial logit's log-likelihood does not depend on the labels, so the observed
information is the expected one too. Let theta_k be the weights of class k and its intercept, and x
a row of features and a 1. In the coordinates ``phi_k = theta_k - theta_0`` the Hessian's blocks are

    H_kl = sum_i s_i p_ik ([k = l] - p_il) x_i x_i^T  +  [weights] ([k = l] - 1/K) / C.

The second part is of the penalty ``||W||^2 / (2 C)`` of weights that sum to 0 over the classes;
intercepts do not have it. The parameters are shown with the sum 0, as differences from one class,
or as the one row of two classes. All of these are linear in phi, so that their covariance follows
from ``H^-1``.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from csoftmax import functional
from csoftmax.engine.passes import mass_of_classes
from csoftmax.estimators.base import LinearSoftmax, dense_coef
from csoftmax.estimators.inputs import (
    MemoryBudgetError,
    TrainingSet,
    as_bytes,
    in_units,
    more_samples,
)
from csoftmax.estimators.weights import checked_weight, weights_of_classes, with_class_weights
from csoftmax.rows.base import blocks, filled, take
from csoftmax.solver.two_classes import estimator_form, softmax_C, softmax_form

Array = NDArray[Any]
MAX_PARAMETERS = 8_000  # entries of coef_ and intercept_: a matrix of that side takes 512 MB
MATRICES = 6  # of that size, at once
# A parameter has no standard error where less than this share of its information is left once the
# others are known.
LEAST_PIVOT = 1e-10
_BLOCK_BYTES = 1 << 24  # of rows in float64


class StandardErrors(NamedTuple):
    """Standard errors, shaped as the parameters that they belong to, and the covariance.

    ``covariance`` is of the rows of ``coef`` one after the other, each with its intercept last (if
    there is one).
    """

    coef: NDArray[np.float64]
    intercept: NDArray[np.float64]
    covariance: NDArray[np.float64]


def standard_errors(
    estimator: LinearSoftmax, X: Any, y: Any, sample_weight: Any, reference: Any
) -> StandardErrors:
    """Return the standard errors of a fitted `SoftmaxClassifier`; see there."""
    if estimator.l1_ratio and math.isfinite(estimator.C):
        raise ValueError(
            f"l1_ratio is {estimator.l1_ratio}, expected 0 for standard errors: an L1 penalty has "
            "no Hessian where weights are 0, and those that it chose are not chosen at random"
        )
    data = more_samples(estimator, X, y, estimator.classes_, "y")
    given = checked_weight(sample_weight, len(data.X))
    by_class = weights_of_classes(estimator.class_weight, data.classes, data.y, given)
    target, weight = with_class_weights(data.y, given, by_class)
    totals = mass_of_classes(target, weight, len(estimator.classes_))
    if not totals.all():
        empty = estimator.classes_[totals == 0].tolist()[0]
        raise ValueError(f"y has no sample of weight > 0 of the class {empty!r}, expected some")
    shown = _shown_rows(estimator.classes_, reference)
    n_rows, n_columns = len(shown), data.X.shape[1] + estimator.fit_intercept
    _check_size(estimator, n_rows, n_columns)
    with threadpool_limits(estimator._threads, "blas"):
        information, mean = _information(estimator, data, weight)
        covariance = _inverse(information, estimator, n_columns)
        back = np.eye(n_columns)
        if estimator.fit_intercept:
            back[-1, :-1] = -mean  # the intercept of features that are not centred
        transform = np.kron(shown, back)
        covariance = transform @ covariance @ transform.T
    errors = np.sqrt(np.maximum(covariance.diagonal(), 0.0)).reshape(n_rows, n_columns)
    n_features = data.X.shape[1]
    intercept = errors[:, -1].copy() if estimator.fit_intercept else np.zeros(n_rows)
    return StandardErrors(errors[:, :n_features].copy(), intercept, covariance)


def _shown_rows(classes: Array, reference: Any) -> NDArray[np.float64]:
    """Return what the rows of the result are of the differences from the first class."""
    n_classes = len(classes)
    every = np.eye(n_classes)[:, 1:]
    if reference is not None:
        at = np.flatnonzero(classes == reference)
        if len(at) != 1:
            raise ValueError(
                f"reference is {reference!r}, expected None or one of {classes.tolist()}"
            )
        every = every - every[at]
    elif n_classes > 2:
        every = every - every.mean(axis=0)
    return estimator_form(every, np.zeros(n_classes))[0]


def _check_size(estimator: LinearSoftmax, n_rows: int, n_columns: int) -> None:
    n_parameters = n_rows * n_columns
    if n_parameters > MAX_PARAMETERS:
        raise MemoryBudgetError(
            f"coef_ and intercept_ have {n_parameters} parameters, expected at most "
            f"{MAX_PARAMETERS} for standard errors: their covariance would take "
            f"{in_units(8.0 * n_parameters**2)}"
        )
    max_memory = estimator.max_memory
    needed = 8.0 * MATRICES * n_parameters**2 + 4 * _BLOCK_BYTES
    if needed > as_bytes(max_memory):
        raise MemoryBudgetError(
            f"max_memory is {in_units(as_bytes(max_memory))}, expected at least "
            f"{in_units(needed)} for the standard errors of {n_parameters} parameters"
        )


def _information(
    estimator: LinearSoftmax, data: TrainingSet, weight: Array | None
) -> tuple[Array, Array]:
    """Return the Hessian for centred features, (K - 1, p, K - 1, p) as a matrix, and their means.

    Centred, because features far from 0 would be all but collinear with the intercept.
    """
    (n_samples, n_features), n_classes = data.X.shape, len(data.classes)
    s = np.ones(n_samples) if weight is None else weight
    n_columns = n_features + estimator.fit_intercept
    at_once = _BLOCK_BYTES // (8 * n_classes * (n_features + 1))
    mean = np.zeros(n_features)
    if estimator.fit_intercept:
        for rows in blocks(n_samples, at_once):
            mean += s[rows] @ filled(take(data.X, rows))
        mean /= s.sum()
    coef = dense_coef(estimator).astype(np.float64)
    W, b = softmax_form(coef, np.asarray(estimator.intercept_, np.float64) + coef @ mean)
    information = np.zeros((n_classes - 1, n_columns, n_classes - 1, n_columns))
    for rows in blocks(n_samples, at_once):
        x = np.ones((len(s[rows]), n_columns))
        x[:, :n_features] = filled(take(data.X, rows)) - mean
        p = functional.softmax(x[:, :n_features] @ W.T + b)
        for k in range(1, n_classes):  # with the classes 1 to k, the rest by symmetry
            curvature = -s[rows, None] * p[:, [k]] * p[:, 1 : k + 1]
            curvature[:, -1] += s[rows] * p[:, k]
            weighted = (curvature[:, :, None] * x[:, None]).reshape(len(x), -1)
            information[k - 1, :, :k] += (x.T @ weighted).reshape(n_columns, k, n_columns)
    for k in range(n_classes - 1):
        information[:k, :, k] = information[k, :, :k].transpose(1, 2, 0)
    penalty = 1.0 / softmax_C(float(estimator.C), n_classes)
    of_classes = penalty * (np.eye(n_classes - 1) - 1.0 / n_classes)
    for j in range(n_features):
        information[:, j, :, j] += of_classes
    side = (n_classes - 1) * n_columns
    return information.reshape(side, side), mean


def _inverse(information: Array, estimator: LinearSoftmax, n_columns: int) -> Array:
    """Return the inverse, or say which features have no standard errors."""
    diagonal = information.diagonal()
    scale = 1.0 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    scaled = scale[:, None] * information * scale  # units of the features do not matter
    try:
        regular = np.linalg.cholesky(scaled).diagonal().min() ** 2 > LEAST_PIVOT
    except np.linalg.LinAlgError:
        regular = False
    if not regular:
        flat = np.linalg.eigh(scaled)[1][:, 0].reshape(-1, n_columns)
        shares = np.square(flat).sum(axis=0)[: estimator.n_features_in_]
        columns = np.flatnonzero(shares > 0.01).tolist()
        names = getattr(estimator, "feature_names_in_", None)
        told = ", ".join(str(j) if names is None else repr(names[j]) for j in columns[:6])
        raise ValueError(
            f"the information matrix is singular, so there are no standard errors: the features "
            f"{told} are constant, combinations of one another, or separate the classes; leave "
            "some out, or let C be smaller"
        )
    inverse: Array = scale[:, None] * np.linalg.inv(scaled) * scale
    return inverse
