"""`SoftmaxClassifierCV`: C and the share of L1 chosen by cross-validation, in shared passes."""

from __future__ import annotations

import os
import sys
from itertools import product
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn import get_config
from sklearn.utils.metadata_routing import (
    UNUSED,
    MetadataRouter,
    MethodMapping,
    process_routing,
)
from sklearn.utils.validation import check_is_fitted

from csoftmax.data.shards import Shards
from csoftmax.estimators.base import UNKNOWN_GAP, LinearSoftmax, unchanged_by_failure
from csoftmax.estimators.by_blocks import alone, has_shards, labels_in
from csoftmax.estimators.classifier import SoftmaxClassifier
from csoftmax.estimators.cv_arrays import Folded, FoldedSamples
from csoftmax.estimators.cv_shards import FoldedShards
from csoftmax.estimators.fit import plan_groups, solve_heads
from csoftmax.estimators.folds import best_for_all, best_for_each, mean_parameters
from csoftmax.estimators.grid import grid_of
from csoftmax.estimators.inputs import as_bytes, check_common_parameters, check_flag, in_units
from csoftmax.estimators.scoring import for_classes, scorer_of
from csoftmax.solver.two_classes import estimator_form

__all__ = ["SoftmaxClassifierCV"]

Array = NDArray[Any]
Self = TypeVar("Self", bound="SoftmaxClassifierCV")
# The folds only choose C, so they need not come as near to their optima as the result: they stop at
# so many times tol, or after so many iterations, as in LogisticRegressionCV. Folds that are nearly
# separable would take far more.
FOLD_TOL, FOLD_ITERATIONS = 10, 100


class SoftmaxClassifierCV(LinearSoftmax):
    """Softmax regression whose C, and share of L1, are chosen by cross-validation.

    Without L1 all folds and all values of C are solved together, in the same passes over X. The
    rows that a fold leaves out have the weight 0 there, so nothing of X is copied but the rows to
    score. With L1 each fold goes from small to large C, and each fit starts where the one before it
    ended.

    Parameters
    ----------
    Cs : int or array_like
        Values of C, or how many of them from 1e-4 to 1e4.
    l1_ratios : array_like
        Shares of L1 in the penalty, from 0 to 1, each tried with every C.
    fit_intercept : bool
        Whether there is an intercept.
    cv : int, splitter or iterable of (train, test)
        Folds; stratified ones for an int. `train` and `test` are row numbers or masks of bool.
        `csoftmax.ShardKFold` holds whole shards out. Splitters get the labels of shards, and no
        features.
    scoring : str, callable or None
        What the folds are scored by, as in scikit-learn; None is the accuracy. NaN ranks last; a
        fold with nothing but NaN has no say. Over shards the accuracies of all folds and C take
        one pass together. Anything else takes a pass over the rows that a fold tests for each C,
        and their probabilities in memory; what is called gets labels and the fitted classifier,
        which knows what to say of these rows, but no features.
    tol : float or "sampling"
        As in `SoftmaxClassifier` for the final fit; the folds, which only choose C, stop at 10 tol
        (with "sampling", as the final fit does), or after 100 iterations for each C.
    max_iter, class_weight, n_threads, max_memory
        As in `SoftmaxClassifier`. "balanced" class weights are those of the whole of y. Where the
        fits do not go into `max_memory` at once (a quarter of the machine's memory, if it is None),
        they go in groups, from strong to weak penalties, each starting where the last one ended.
    refit : bool
        Fit the best C to all samples; else average, over the folds, the parameters and the C that
        are best in each. A class that a fold does not train on (a warning names both) is averaged
        over the other folds: what is averaged are differences between classes.
    random_state
        Without effect: the solver draws nothing. Calls written for ``LogisticRegressionCV`` run.
    verbose : int
        1 tells the plan and the passes.

    Attributes
    ----------
    classes_, coef_, intercept_, n_features_in_, feature_names_in_
        As in `SoftmaxClassifier`.
    C_ : float
    l1_ratio_ : float
        The best of both: the first pair, C after C, with the highest mean score.
    Cs_ : array (n_cs,)
    l1_ratios_ : array (n_l1_ratios,)
    scores_ : array (n_folds, n_l1_ratios, n_cs)
        Shaped, like the next two, as in ``LogisticRegressionCV(use_legacy_attributes=False)``.
    coefs_paths_ : array (n_folds, n_l1_ratios, n_cs, n_classes or 1, n_features + 1)
        The last column is the intercept; without an intercept there is no such column. The
        intercept of a class that the fold does not train on is far below all others.
    n_iter_ : array (n_folds, n_l1_ratios, n_cs)
    history_, gap_
        Of the final fit, as in `SoftmaxClassifier`; only with `refit`.

    Examples
    --------
    >>> import csoftmax as cs
    >>> train, test = cs.fashion_mnist_sample()
    >>> X, X_test = train.X.reshape(6000, 784), test.X.reshape(1000, 784)
    >>> classifier = cs.SoftmaxClassifierCV(Cs=[1e-7, 1e-6, 1e-5], cv=3, tol=1e-3)
    >>> classifier = classifier.fit(X, train.y)
    >>> classifier.scores_.shape, classifier.score(X_test, test.y) > 0.8
    ((3, 1, 3), True)
    """

    # sample_weight reaches score through the scorer
    __metadata_request__score = {"sample_weight": UNUSED}  # noqa: RUF012

    def __init__(
        self,
        *,
        Cs: Any = 10,
        l1_ratios: Any = (0.0,),
        fit_intercept: bool = True,
        cv: Any = 5,
        scoring: Any = None,
        tol: float | str = 1e-4,
        max_iter: int = 1000,
        class_weight: Any = None,
        refit: bool = True,
        random_state: Any = None,
        n_threads: int | None = None,
        max_memory: float | str | None = None,
        verbose: int = 0,
    ) -> None:
        self.Cs = Cs
        self.l1_ratios = l1_ratios
        self.fit_intercept = fit_intercept
        self.cv = cv
        self.scoring = scoring
        self.tol = tol
        self.max_iter = max_iter
        self.class_weight = class_weight
        self.refit = refit
        self.random_state = random_state
        self.n_threads = n_threads
        self.max_memory = max_memory
        self.verbose = verbose

    def fit(self: Self, X: Any, y: Any = None, sample_weight: Any = None, **params: Any) -> Self:
        """Choose C and the share of L1, and fit to samples X and labels y.

        Parameters
        ----------
        X : array_like, sparse matrix or `csoftmax.data.Shards` (n_samples, n_features)
            Shards have their labels, and weights where they have any.
        y : array_like (n_samples,)
        sample_weight : array_like (n_samples,), optional
            Weighs the samples in the fits and in the accuracy. Samples of weight 0 are as good as
            not there: scikit-learn's splitters are given the others only, no fold is scored on
            them, and `train` and `test` of an iterable still count them.
        **params
            For the splitter and the scorer, where metadata routing is enabled.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            For parameters and data that do not fit; folds without rows or without weight;
            a scorer that fails, or is NaN for every C.
        MemoryBudgetError
            If `max_memory` is not enough.
        KeyboardInterrupt
            By Ctrl-C while the folds are fitted; in the final fit, as in `SoftmaxClassifier.fit`.
        """
        with unchanged_by_failure(self):
            return self._fit(X, y, sample_weight, params)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None, **score_params: Any) -> float:
        """Return what `scoring` says of the predictions for X: the accuracy if it is None.

        Parameters
        ----------
        X : array_like, sparse matrix or `csoftmax.data.Shards` (n_samples, n_features)
        y : array_like (n_samples,)
            Shards have their labels, and weights where they have any.
        sample_weight : array_like (n_samples,), optional
        **score_params
            For the scorer, where metadata routing is enabled.
        """
        check_is_fitted(self, "coef_")
        routing = get_config()["enable_metadata_routing"]
        if score_params and not routing:
            raise ValueError(_not_routed("score", score_params, "the scorer"))
        if isinstance(X, Shards):
            y, sample_weight = labels_in(X, y, sample_weight, self.classes_)
        if sample_weight is not None:
            score_params["sample_weight"] = sample_weight
        if routing:
            score_params = process_routing(self, "score", **score_params).scorer.score
        scorer = for_classes(scorer_of(self.scoring), self.classes_)
        return float(scorer(self, X, y, **score_params))

    def get_metadata_routing(self) -> MetadataRouter:
        """Return which of fit's and score's parameters go to the splitter and the scorer."""
        to_splitter = MethodMapping().add(caller="fit", callee="split")
        to_scorer = MethodMapping().add(caller="fit", callee="score")
        to_scorer.add(caller="score", callee="score")
        router = MetadataRouter(owner=self).add_self_request(self)
        router.add(splitter=self.cv, method_mapping=to_splitter)
        return router.add(scorer=scorer_of(self.scoring), method_mapping=to_scorer)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the chosen classifier as `SoftmaxClassifier.save` does."""
        self.best().save(path)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> SoftmaxClassifier:
        """Read the chosen classifier: what `SoftmaxClassifier.load` returns, with ``C = C_``."""
        return SoftmaxClassifier.load(path)

    def to_sklearn(self) -> Any:
        """Return a fitted ``LogisticRegression`` with these parameters, in float64."""
        return self.best().to_sklearn()

    def best(self) -> SoftmaxClassifier:
        """Return the chosen classifier as a `SoftmaxClassifier` with ``C = C_`` and `l1_ratio_`.

        Examples
        --------
        >>> import csoftmax as cs
        >>> X, y = [[0.0], [0.5], [2.5], [3.0]] * 3, ["cat", "cat", "dog", "dog"] * 3
        >>> chosen = cs.SoftmaxClassifierCV(Cs=[0.01, 1.0], cv=3).fit(X, y).best()
        >>> chosen.C
        0.01
        """
        check_is_fitted(self, "coef_")
        names = ("fit_intercept", "class_weight", "tol", "max_iter", "n_threads", "max_memory")
        chosen = SoftmaxClassifier(
            C=self.C_, l1_ratio=self.l1_ratio_, **{name: getattr(self, name) for name in names}
        )
        for name in ("classes_", "coef_", "intercept_", "n_features_in_", "feature_names_in_"):
            if hasattr(self, name):
                setattr(chosen, name, getattr(self, name))
        chosen.history_ = getattr(self, "history_", {})
        chosen.gap_ = getattr(self, "gap_", UNKNOWN_GAP)
        chosen.n_iter_ = np.array([len(chosen.history_.get("objective", ()))], np.int32)
        return chosen

    # ---- steps of fit --------------------------------------------------------------------------

    def _fit(self: Self, X: Any, y: Any, sample_weight: Any, params: dict[str, Any]) -> Self:
        check_common_parameters(self)
        check_flag(self.refit, "refit")
        scorer_of(self.scoring)  # unknown names are refused before the work
        Cs, ratios = grid_of(self.Cs, self.l1_ratios)
        if isinstance(self.tol, str) and ratios.any():
            raise ValueError(f"tol is {self.tol!r}, expected a number with L1")
        folded: Folded
        if has_shards(X):
            alone(y, sample_weight)
            given = X.weights()
            folded = FoldedShards(self, X, given, ratios, *self._routed(given, params))
            del given  # the final fit reads them again
        else:
            routed = self._routed(sample_weight, params)
            folded = FoldedSamples(self, X, y, sample_weight, *routed)
        return self._choose(folded, Cs, ratios)

    def _choose(self: Self, folded: Folded, Cs: Array, ratios: Array) -> Self:
        budget, n_classes = as_bytes(self.max_memory), len(folded.classes)
        n_folds = len(folded.weights)
        n_at_once, plan = plan_groups(
            budget, folded.X, n_classes, self._threads, n_folds, len(Cs), folded.others,
            ratios.tolist(), by_blocks=folded.by_blocks,
        )  # fmt: skip
        folded.settle(budget - plan.n_bytes)
        if self.verbose:
            shares = f"{len(ratios)} l1_ratios x " if len(ratios) > 1 else ""
            print(
                f"{shares}{len(Cs)} C x {n_folds} folds, {n_at_once} C at a time: up to "
                f"{in_units(plan.n_bytes)} besides X",
                file=sys.stderr,
            )
        options = {
            "fit_intercept": self.fit_intercept, "tol": self.tol, "verbose": self.verbose,
            "max_iter": self.max_iter, "n_threads": self._threads,
        }  # fmt: skip
        tol = self.tol if isinstance(self.tol, str) else FOLD_TOL * float(self.tol)
        of_folds = {"tol": tol,
                    "max_iter": min(self.max_iter, FOLD_ITERATIONS)}  # fmt: skip
        solved = [
            solve_heads(
                folded.X, folded.y, n_classes, Cs, folded.weights, n_at_once, plan, l1_ratio=ratio,
                **{**options, **of_folds},
            )
            for ratio in ratios.tolist()
        ]  # fmt: skip
        # every C with the first share of L1, then with the next
        W, b, iterations = (np.concatenate(parts, axis=1) for parts in zip(*solved, strict=True))
        del solved
        pairs = list(product(ratios.tolist(), Cs.tolist()))
        paths = self._paths(W, b)
        scores = folded.scores(pairs, paths)
        name = repr(self.scoring or "accuracy")
        if self.refit:
            self.l1_ratio_, self.C_ = pairs[best_for_all(scores, name)]
            folded.refit(self.l1_ratio_, self.C_, plan, **options)
        else:
            telling, best = best_for_each(scores, name)
            self.l1_ratio_, self.C_ = np.mean([pairs[i] for i in best], axis=0).tolist()
            self._keep(
                *mean_parameters(W[telling, best], b[telling, best], folded.present[telling]),
                folded.X,
            )
            for stale in ("history_", "gap_"):
                self.__dict__.pop(stale, None)
        self.classes_, self.Cs_, self.l1_ratios_ = folded.classes, Cs, ratios
        shape = (n_folds, len(ratios), len(Cs))
        self.n_iter_, self.scores_ = iterations.reshape(shape), scores.reshape(shape)
        self.coefs_paths_ = paths.reshape(*shape, *paths.shape[2:])
        return self

    def _routed(
        self, sample_weight: Any, params: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what the splitter and the scorer are to be given."""
        if get_config()["enable_metadata_routing"]:
            routed = process_routing(self, "fit", sample_weight=sample_weight, **params)
            return routed.splitter.split, routed.scorer.score
        if params:
            raise ValueError(_not_routed("fit", params, "the splitter or the scorer"))
        return {}, {} if sample_weight is None else {"sample_weight": sample_weight}

    def _paths(self, W: Array, b: Array) -> Array:
        """Return the parameters of all fits, (n_folds, n, n_classes or 1, n_features + 1)."""
        W, b = estimator_form(W, b)
        return np.concatenate([W, b[..., None]], axis=-1) if self.fit_intercept else W


def _not_routed(method: str, params: dict[str, Any], to: str) -> str:
    return (
        f"{method} got {', '.join(sorted(params))}, which go to {to} only with "
        "sklearn.set_config(enable_metadata_routing=True)"
    )
