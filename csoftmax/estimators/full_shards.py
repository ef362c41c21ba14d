"""A fit of shards by full passes: their rows stay in their files, or on a cluster."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from csoftmax.data.shards import Shards
from csoftmax.engine.sparse_shard_passes import bytes_of_windows
from csoftmax.engine.targets import CountedLabels
from csoftmax.estimators.by_blocks import alone
from csoftmax.estimators.fit import FitTask, Fitted, fit_full, plan_memory
from csoftmax.estimators.inputs import TrainingSet, as_bytes, in_units
from csoftmax.estimators.monitor import validation_set
from csoftmax.estimators.sgd_shards import features_of_shards
from csoftmax.estimators.weights import weights_of_classes, with_class_weights
from csoftmax.solver.memory import Plan

Array = NDArray[Any]


class CheckedLabels(NamedTuple):
    """The classes of shards, each row's number among them, and the weights of both."""

    classes: Array
    codes: Array
    weight: Array | None  # of the rows, times those of their classes
    by_class: Array | None


def checked_labels(estimator: Any, shards: Shards, given: Array | None) -> CheckedLabels:
    """Return the labels and weights of shards; the estimator learns what features they have.

    `given` are the weights of the rows.
    """
    features_of_shards(estimator, shards, reset=True)
    classes, codes = shards.encoded()
    if len(classes) < 2:
        raise ValueError(f"y has only one class, {classes.tolist()!r}; expected at least two")
    if given is not None and not given.any():
        raise ValueError("the weights of all rows are zero, expected some weight")
    by_class = weights_of_classes(estimator.class_weight, classes, codes, given)
    codes, weight = with_class_weights(codes, given, by_class)
    return CheckedLabels(classes, codes, weight, by_class)


def plan_of_fit(
    estimator: Any, rows: Any, n_classes: int, is_weighted: bool, others: float = 0,
    l1_ratio: float = 0.0,
) -> Plan:  # fmt: skip
    """Return how to fit rows of shards within `max_memory`; `others` are taken besides."""
    return plan_memory(
        as_bytes(estimator.max_memory), rows, n_classes, estimator._threads,
        n_weights=int(is_weighted), others=bytes_of_windows(rows) + others, l1_ratio=l1_ratio,
    )  # fmt: skip


def fit_shards_by_passes(
    estimator: Any, shards: Shards, y: Any, weight: Any, validation: Any, **options: Any
) -> None:
    """Fit to shards by full passes, to the optimum or until validation says to stop.

    `options` are of `csoftmax.solver.minimize`.
    """
    alone(y, weight)
    if estimator.early_stopping and validation is None:
        raise ValueError("early_stopping is True, but no rows are held out of shards or a "
                         "cluster: give fit(..., validation=shards), or (X, y)")  # fmt: skip
    names = getattr(estimator, "feature_names_in_", None)
    classes, codes, weight, by_class = checked_labels(estimator, shards, shards.weights())
    monitor, others = None, 0
    if isinstance(codes, CountedLabels):  # the plan counts them, but workers have them
        others -= shards.n_rows * np.min_scalar_type(len(classes) - 1).itemsize
    if validation is not None:
        monitor = estimator._monitor(*validation_set(estimator, validation, classes, by_class))
        others += monitor.n_bytes if monitor.reads_shards else 0
    rows: Any = shards.rows
    start = estimator._start(TrainingSet(rows, classes, codes), names)
    ratio = estimator._l1_ratio
    task = FitTask(rows, codes, len(classes), weight, None, float(estimator.C), l1_ratio=ratio)
    plan = plan_of_fit(estimator, rows, task.n_classes, task.is_weighted, others, ratio)
    if estimator.verbose:
        print(f"the fit takes up to {in_units(plan.n_bytes)} besides the files", file=sys.stderr)
    fitted: Fitted = fit_full(
        task, start, monitor, plan, fit_intercept=estimator.fit_intercept, tol=estimator.tol,
        max_iter=estimator.max_iter, n_threads=estimator._threads, verbose=estimator.verbose,
        **options,
    )  # fmt: skip
    estimator.__dict__.pop("_descent", None)
    estimator.classes_, estimator._seen = classes, task.total
    estimator._absent = np.flatnonzero(task.mass == 0).tolist()
    estimator._keep(fitted.W, fitted.b, rows)
    estimator.n_iter_ = np.array([fitted.n_iter], np.int32)
    estimator.history_, estimator.gap_ = fitted.history, fitted.gap
