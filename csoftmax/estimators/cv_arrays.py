"""The folds of a cross-validation over samples in memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.sparse import as_others_know
from csoftmax.engine.passes import mass_of_classes
from csoftmax.estimators.classifier import SoftmaxClassifier
from csoftmax.estimators.fit import FitTask, fit_full
from csoftmax.estimators.folds import classes_of_folds, folds_of, rows_of, weights_of_folds
from csoftmax.estimators.inputs import TrainingSet, conversion_bytes, in_rows, training_set
from csoftmax.estimators.scoring import for_classes, score_of, scorer_of
from csoftmax.estimators.weights import weights_of_samples
from csoftmax.rows.base import take
from csoftmax.solver.memory import Plan

Array = NDArray[Any]
Pairs = Sequence[tuple[float, float]]  # of a share of L1 and a C


class Folded(Protocol):
    """Samples with the weights that they have in each fold: what is solved, and how it is scored.

    Attributes
    ----------
    y : array (n_samples,)
        Of each sample the number of its class.
    weights : array (n_folds, n_samples), or FoldWeights
    present : bool array (n_folds, n_classes)
        Which classes each fold trains on.
    others : int
        Bytes that are taken besides the solver.
    """

    y: Array
    classes: Array
    weights: Any
    present: NDArray[np.bool_]
    others: int
    by_blocks: bool  # whether weights are made block by block

    @property
    def X(self) -> Any:
        """The samples, or the rows of shards."""

    def settle(self, room: float) -> None:
        """Use so many bytes to make passes faster."""

    def scores(self, pairs: Pairs, paths: Array) -> Array:
        """Return the score of every fold and pair, (n_folds, n_pairs).

        `paths` are (n_folds, n_pairs, n_classes or 1, n_features + 1): see `coefs_paths_`.
        """

    def refit(self, l1_ratio: float, C: float, plan: Plan, **options: Any) -> None:
        """Give the estimator what it finds in all samples: parameters, history and gap."""


class FoldedSamples:
    """Samples in memory; the test rows of a fold are copied to be scored."""

    by_blocks = False

    def __init__(
        self, estimator: Any, X: Any, y: Any, sample_weight: Any, for_splitter: dict[str, Any],
        for_scorer: dict[str, Any],
    ) -> None:  # fmt: skip
        self.estimator, self.for_scorer = estimator, for_scorer
        converted = conversion_bytes(X)
        self.data = data = training_set(estimator, X, y)
        self.classes, self.y = data.classes, data.y
        given = sample_weight
        if given is not None:  # checked, and one number for all samples repeated
            given = weights_of_samples(given, None, data.classes, data.y)
            if for_scorer.get("sample_weight") is sample_weight:
                for_scorer["sample_weight"] = given
        self.given = given
        self.weight = weights_of_samples(given, estimator.class_weight, data.classes, data.y)
        folds = list(folds_of(
            estimator.cv, as_others_know(data.X), data.y, data.classes, given, self.weight,
            for_splitter,
        ))  # fmt: skip
        self.weights = weights_of_folds(folds, self.weight, len(data.y))
        n_classes = len(data.classes)
        mass = [mass_of_classes(data.y, weight, n_classes) for weight in self.weights]
        self.present = classes_of_folds(
            np.array(mass), mass_of_classes(data.y, self.weight, n_classes), data.classes,
            estimator.refit,
        )  # fmt: skip
        self.tests = [fold.test for fold in folds]
        held_out = math.ceil(max(map(len, self.tests)) / len(data.y) * data.X.nbytes)
        self.others = held_out + converted

    @property
    def X(self) -> Any:
        return self.data.X

    def settle(self, room: float) -> None:
        self.data = self.data._replace(X=in_rows(self.data.X, room))

    def scores(self, pairs: Pairs, paths: Array) -> Array:
        data, scores = self.data, np.empty(paths.shape[:2])
        for i, rows in enumerate(self.tests):
            weight = None if self.given is None else self.given[rows]
            given = {n: rows_of(value, rows, len(data.y)) for n, value in self.for_scorer.items()}
            test = data._replace(X=take(data.X, rows), y=data.y[rows])
            scores[i] = self._scores_of_fold(i, test, pairs, paths[i], weight, given)
            del test  # before the rows of the next fold are copied
        return scores

    def _scores_of_fold(
        self, fold: int, test: TrainingSet, pairs: Pairs, paths: Array, weight: Array | None,
        params: dict[str, Any],
    ) -> list[float]:  # fmt: skip
        """Return the score of every fit on the test rows of a fold."""
        scoring, scorer = self.estimator.scoring, None
        if scoring is not None:
            scorer = for_classes(scorer_of(scoring), test.classes)
        y = test.classes[test.y]
        rows = as_others_know(test.X)
        scores = []
        for pair, path in zip(pairs, paths, strict=True):
            model = fitted_as(SoftmaxClassifier(), self.estimator, self.classes, pair, path)
            if scorer is None:
                scores.append(model.score(test.X, y, weight))
            else:
                scores.append(score_of(scorer, where(scoring, fold, pair), model, rows, y, params))
        return scores

    def refit(self, l1_ratio: float, C: float, plan: Plan, **options: Any) -> None:
        data, n_classes = self.data, len(self.classes)
        task = FitTask(data.X, data.y, n_classes, self.weight, None, C, l1_ratio=l1_ratio)
        # from scratch: the result is that of SoftmaxClassifier, whatever the folds came to
        fitted = fit_full(task, None, None, plan.of_one(data.X, n_classes), **options)
        self.estimator._keep(fitted.W, fitted.b, data.X)
        self.estimator.history_, self.estimator.gap_ = fitted.history, fitted.gap


def fitted_as(
    model: SoftmaxClassifier, estimator: Any, classes: Array, pair: tuple[float, float], path: Array
) -> SoftmaxClassifier:
    """Give a classifier what one of the fits has found."""
    n_features = estimator.n_features_in_
    model.set_params(fit_intercept=estimator.fit_intercept, n_threads=estimator._threads)
    model.l1_ratio, model.C = pair
    model.classes_, model.n_features_in_ = classes, n_features
    model.coef_ = np.ascontiguousarray(path[:, :n_features])
    model.intercept_ = np.zeros(len(path), path.dtype)
    if estimator.fit_intercept:
        model.intercept_[:] = path[:, n_features]
    return model


def where(scoring: Any, fold: int, pair: tuple[float, float]) -> str:
    """Return of which fit a score is, for messages."""
    ratio, C = pair
    of_ratio = f", l1_ratio = {ratio:g}" if ratio else ""
    return f"scoring {scoring!r} of fold {fold} at C = {C:g}{of_ratio}"
