"""The folds of a cross-validation over rows in shards, on this machine or on a cluster."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax import functional
from csoftmax.core.checks import FLOAT64, compute_dtype
from csoftmax.engine.passes import mass_of_classes
from csoftmax.engine.row_weights import (
    BLOCK_ROWS,
    FoldWeights,
    n_counting,
    totals_of,
    weight_blocks,
)
from csoftmax.engine.shard_passes import LONGER, WINDOW_BYTES, ShardPasses
from csoftmax.engine.sparse_shard_passes import bytes_of_windows, passes_of_shards
from csoftmax.engine.targets import moments_of_targets
from csoftmax.estimators.classifier import SoftmaxClassifier
from csoftmax.estimators.cv_arrays import Pairs, fitted_as, where
from csoftmax.estimators.folds import check_counts, classes_of_folds, folds_of, rows_of
from csoftmax.estimators.full_shards import (
    checked_labels,
    fit_shards_by_passes,
    plan_of_fit,
)
from csoftmax.estimators.inputs import MemoryBudgetError, as_bytes, in_units
from csoftmax.estimators.monitor import SPLIT_BYTES
from csoftmax.estimators.scoring import for_classes, score_of, scorer_of
from csoftmax.estimators.shard_folds import RowFolds, ShardKFold, is_number, stratified
from csoftmax.solver.memory import Plan
from csoftmax.solver.two_classes import softmax_form

Array = NDArray[Any]


class FoldedShards:
    """Rows in shards. The weights of folds are made block by block from a code of each row.

    The accuracies of all fits are measured in one pass. A scorer is asked fit after fit, each time
    with a pass over the rows that the fold tests, of which it gets the labels and what the
    classifier says of them.
    """

    by_blocks = True

    def __init__(
        self, estimator: Any, shards: Any, given: Array | None, ratios: Array,
        for_splitter: dict[str, Any], for_scorer: dict[str, Any],
    ) -> None:  # fmt: skip
        self.estimator, self.shards, self.for_scorer = estimator, shards, for_scorer
        self.classes, self.y, self.weight = checked_labels(estimator, shards, given)[:3]
        self.X, n_classes = shards.rows, len(self.classes)
        if estimator.refit:  # that it fits in is seen before the work
            for ratio in {float(ratios.min()), float(ratios.max())}:
                plan_of_fit(
                    estimator, self.X, n_classes, self.weight is not None, l1_ratio=ratio
                )
        folds = self._folds(given, for_splitter)
        self.weights = FoldWeights(folds.train, folds.code, self.weight)
        self.tests = FoldWeights(folds.test, folds.code, given)
        moments = moments_of_targets(self.y, self.weights, n_classes)
        self.totals = totals_of(self.tests)
        for i, (train, test) in enumerate(zip(moments.totals, self.totals, strict=True)):
            check_counts(i, train > 0, test > 0)
        mass = mass_of_classes(self.y, self.weight, n_classes)
        self.present = classes_of_folds(moments.mass, mass, self.classes, estimator.refit)
        self.others = self._other_bytes(given)

    def _folds(self, given: Array | None, for_splitter: dict[str, Any]) -> RowFolds:
        cv, n_rows = self.estimator.cv, len(self.y)
        if isinstance(cv, ShardKFold):
            if self.X.in_memory:
                raise ValueError(f"cv is {cv}, which holds shards out, but X is a Dask collection")
            lengths = [shard.n_rows for shard in self.X.shards]
            small = np.min_scalar_type(cv.n_splits)
            parts = np.repeat((cv.of_shards(lengths) + 1).astype(small), lengths)
            return RowFolds.of_parts(parts, cv.n_splits)
        if is_number(cv):
            n_splits = 5 if cv is None else int(cv)
            parts = stratified(self.y, n_splits, given, len(self.classes))
            return RowFolds.of_parts(parts, n_splits)
        budget = as_bytes(self.estimator.max_memory)
        if SPLIT_BYTES * n_rows > budget:  # numbers of rows, as scikit-learn's splitters give them
            raise MemoryBudgetError(
                f"max_memory is {in_units(budget)}, expected at least "
                f"{in_units(SPLIT_BYTES * n_rows)} for the folds that cv makes of {n_rows} rows: a "
                "number of folds and ShardKFold take a byte a row"
            )
        nothing = np.empty((n_rows, 0), np.uint8)  # splitters see labels, and no features
        folds = folds_of(cv, nothing, self.y, self.classes, given, self.weight, for_splitter)
        return RowFolds.of_numbers(folds, n_rows)

    def _other_bytes(self, given: Array | None) -> int:
        """Return what is taken besides the solver: windows, codes, weights, what scorers get."""
        rows, n_folds = self.X, len(self.weights)
        n_bytes = bytes_of_windows(rows) + self.weights.nbytes + self.tests.times.nbytes
        # weights of the rows of a window, or of a block
        n_bytes += max(LONGER * WINDOW_BYTES, 3 * 8 * n_folds * BLOCK_ROWS)
        for weight in {id(array): array for array in (given, self.weight)}.values():
            n_bytes += 0 if weight is None else weight.nbytes
        if self.estimator.scoring is None:
            return int(n_bytes)
        of_labels = getattr(scorer_of(self.estimator.scoring), "_response_method", "") == "predict"
        a_row = 64 + (0 if of_labels else 32 * len(self.classes))
        return int(n_bytes + a_row * n_counting(self.tests).max())

    def settle(self, room: float) -> None:
        """There is nothing to be made faster."""

    # ---- scores --------------------------------------------------------------------------------

    def scores(self, pairs: Pairs, paths: Array) -> Array:
        n_folds, n, rows_of_coef, _ = paths.shape
        passes: ShardPasses = passes_of_shards(self.X)(
            self.y, len(self.classes), weights=self.tests, n_threads=self.estimator._threads
        )
        if self.estimator.scoring is not None:
            return np.array([
                self._scores_of_fold(i, passes, pairs, paths[i]) for i in range(n_folds)
            ])  # fmt: skip
        coef, intercept = self._split(paths.reshape(n_folds * n, rows_of_coef, -1))
        if rows_of_coef == 1:
            halves = np.array([-0.5, 0.5], coef.dtype)
            coef, intercept = halves[:, None] * coef, halves * intercept
        heads = np.repeat(np.arange(n_folds), n)
        right = passes.measure(coef, intercept.astype(FLOAT64), heads).right
        return right.reshape(n_folds, n) / self.totals[:, None]

    def _split(self, path: Array) -> tuple[Array, Array]:
        """Return coefficients and intercepts of a path, or of several."""
        coef = path[..., : self.X.n_features]
        if self.estimator.fit_intercept:
            return coef, path[..., -1]
        return coef, np.zeros(coef.shape[:-1], coef.dtype)

    def _scores_of_fold(
        self, fold: int, passes: ShardPasses, pairs: Pairs, paths: Array
    ) -> list[float]:
        """Return what a scorer says of every fit, from the test rows of a fold."""
        estimator, n_rows = self.estimator, len(self.y)
        found = [some.start + np.flatnonzero(w) for some, w in weight_blocks(self.tests[fold])]
        numbers = np.concatenate(found)
        times = self.tests.times[fold, self.tests.code[numbers]].astype(np.int64)
        again = None if (times == 1).all() else np.repeat(np.arange(len(numbers)), times)
        tested = numbers if again is None else numbers[again]
        y = self.classes[self.y[tested]]
        params = {name: rows_of(value, tested, n_rows) for name, value in self.for_scorer.items()}
        scorer = for_classes(scorer_of(estimator.scoring), self.classes)
        scores = []
        for pair, path in zip(pairs, paths, strict=True):
            model = ScoredClassifier()
            fitted_as(model, estimator, self.classes, pair, path)
            model.ask(passes, fold, again, compute_dtype(self.X))
            unseen = np.empty((len(tested), 0))
            where_it_is = where(estimator.scoring, fold, pair)
            scores.append(score_of(scorer, where_it_is, model, unseen, y, params))
        return scores

    def refit(self, l1_ratio: float, C: float, plan: Plan, **options: Any) -> None:
        estimator = self.estimator
        chosen = SoftmaxClassifier(
            C=C, l1_ratio=l1_ratio, class_weight=estimator.class_weight,
            max_memory=estimator.max_memory, **options,
        )  # fmt: skip
        # that fit takes what it takes alone
        del self.weight, self.weights, self.tests, self.for_scorer
        fit_shards_by_passes(chosen, self.shards, None, None, None)
        for name in ("coef_", "intercept_", "history_", "gap_"):
            setattr(estimator, name, getattr(chosen, name))


class ScoredClassifier(SoftmaxClassifier):
    """A classifier as scorers ask it: what it says is of the rows of a fold, and X is not seen."""

    def ask(
        self, passes: ShardPasses, fold: int, again: Array | None, dtype: np.dtype[Any]
    ) -> None:
        """Let the rows that a fold tests be those of which everything is said."""
        self._asked = passes, fold, again, dtype
        self._said: dict[bool, Array] = {}

    def _say(self, labels: bool) -> Array:
        """Return the predictions, or the logits in float64: of one pass over the fold's rows."""
        if labels not in self._said:
            passes, fold, again, _ = self._asked
            coef, intercept = self.coef_, self.intercept_.astype(FLOAT64)
            if labels:
                coef, intercept = softmax_form(coef, intercept)
            said = passes.outputs(fold, coef, intercept, labels)
            self._said[labels] = said if again is None else said[again]
        return self._said[labels]

    def predict(self, X: Any, *, out: Any = None) -> Any:
        return self.classes_[self._say(labels=True)]

    def decision_function(self, X: Any, *, out: Any = None) -> Any:
        logits = self._say(labels=False).astype(self._asked[-1])
        return logits[:, 0] if logits.shape[1] == 1 else logits

    def predict_proba(self, X: Any, *, out: Any = None) -> Any:
        return functional.softmax(self._logits()).astype(self._asked[-1], copy=False)

    def predict_log_proba(self, X: Any, *, out: Any = None) -> Any:
        return functional.log_softmax(self._logits()).astype(self._asked[-1], copy=False)

    def _logits(self) -> Array:
        logits = self._say(labels=False)
        if logits.shape[1] > 1:
            return logits
        return np.concatenate([np.zeros_like(logits), logits], axis=1)
