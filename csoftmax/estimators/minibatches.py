"""What minibatches need of `SoftmaxClassifier`: `partial_fit`, and the solver "sgd"."""

from __future__ import annotations

import copy
import math
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from csoftmax.core.checks import compute_dtype
from csoftmax.data.shards import Shards
from csoftmax.engine.shard_passes import ShardPasses
from csoftmax.estimators.base import UNKNOWN_GAP, unchanged_by_failure, warn_caller
from csoftmax.estimators.by_blocks import alone
from csoftmax.estimators.convert import Convertible
from csoftmax.estimators.fit import ConvergenceWarning, FitTask, Fitted, measure_gap
from csoftmax.estimators.inputs import (
    Labels,
    TrainingSet,
    more_samples,
    number_of,
    probabilities_in,
)
from csoftmax.estimators.monitor import Monitor, validation_set
from csoftmax.estimators.sgd import Loaders, MinibatchDescent, far_from_0, fit_sgd, one_epoch
from csoftmax.estimators.sgd_shards import features_of_shards, shard_task
from csoftmax.estimators.weights import (
    checked_weight,
    rows_that_count,
    weights_of_classes,
    with_class_weights,
)
from csoftmax.rows.base import Stored
from csoftmax.solver.memory import Plan

Array = NDArray[Any]
Self = TypeVar("Self", bound="MinibatchClassifier")


class MinibatchClassifier(Convertible):
    """A classifier that goes through samples in minibatches."""

    C: float
    l1_ratio: float
    tol: float | str
    max_iter: int
    learning_rate: float | str
    momentum: float
    batch_size: int
    n_iter_no_change: int
    early_stopping: bool
    verbose: int

    def partial_fit(
        self: Self, X: Any, y: Any = None, classes: Any = None, sample_weight: Any = None
    ) -> Self:
        """Go through some samples once, in minibatches: stochastic gradient descent on the softmax.

        Parameters
        ----------
        X : array_like, sparse matrix or `csoftmax.data.Shards` (n_samples, n_features)
            Shards come in a random order, and their rows in that of windows of up to 256 MB, or a
            quarter of `max_memory`: a window is a run of rows, which is shuffled in memory. So
            files should not be sorted by class.
        y : array_like (n_samples,), or probabilities (n_samples, n_classes)
            As in `fit`; labels and probabilities may take turns. Shards have their labels.
        classes : array_like (n_classes,)
            All classes there will ever be; needed in the first call only, and not with
            probabilities, whose columns they are in sorted order.
        sample_weight : array_like (n_samples,), optional

        Returns
        -------
        self

        Notes
        -----
        The penalty is that of C and of all the weight seen so far. The automatic learning rate is
        measured on the samples of each call, the coordinates on those of the first.

        Examples
        --------
        >>> import csoftmax as cs
        >>> train, _ = cs.fashion_mnist_sample()
        >>> X = train.X.reshape(6000, 784)
        >>> classifier = cs.SoftmaxClassifier(batch_size=32, random_state=0)
        >>> for part in range(0, 6000, 1000):
        ...     rows = slice(part, part + 1000)
        ...     classifier = classifier.partial_fit(X[rows], train.y[rows], classes=range(10))
        >>> classifier.score(X, train.y) > 0.7
        True
        """
        with unchanged_by_failure(self):
            self._check_parameters()
            if isinstance(self.class_weight, str):
                raise ValueError(
                    'class_weight is "balanced": partial_fit cannot know the frequencies to come; '
                    "pass a dict"
                )
            first = not hasattr(self, "classes_")
            seen = getattr(self, "_seen", 0.0)
            task: FitTask
            loaders: Loaders | None = None
            if isinstance(X, Shards):
                alone(y, sample_weight)
                features_of_shards(self, X, reset=first)
                some = None if first and classes is None else self._checked_classes(classes, first)
                of_shards, known = shard_task(self, X, some, seen)
                task, loaders = of_shards, of_shards.loaders
            else:
                task, known = self._task_of(X, y, classes, sample_weight, first, seen)
            start = None if first else self._where_it_ended(self.coef_.dtype)
            # a failed call leaves the old one: where it was, its velocities, its random numbers
            descent: MinibatchDescent | None = copy.deepcopy(getattr(self, "_descent", None))
            if first or descent is None or descent.automatic != (self._learning_rate is None):
                seed = int(check_random_state(self.random_state).randint(2**31 - 1))
                descent = self._begin_descent(task.X, task.rows, len(known), start, seed)
            elif start is not None:
                descent.parameters = start  # a user may have set coef_
            history = one_epoch(task, descent, loaders, **self._descent_options())
            self._descent, self.classes_ = descent, known
            self._seen, self._absent = seen + task.total, []
            self._keep(*descent.parameters, task.X)
            # entries of full passes are no epochs, and epochs of now are not validated
            before = {} if first else self.history_
            if "loss" not in before:
                before = {}
            self.history_ = {
                name: before.get(name, []) + values for name, values in history.items()
            }
            self.n_iter_ = np.array([len(self.history_["loss"])], np.int32)
            self.gap_ = UNKNOWN_GAP
        return self

    # ---- steps -------------------------------------------------------------------------------

    def _task_of(
        self, X: Any, y: Any, classes: Any, sample_weight: Any, first: bool, seen: float
    ) -> tuple[FitTask, Array]:
        """Return what one call of `partial_fit` goes through, and the classes."""
        data = self._arrived(X, y, classes, first)
        weight = checked_weight(sample_weight, len(data.X))
        by_class = weights_of_classes(self.class_weight, data.classes, data.y, weight)
        target, weight = with_class_weights(data.y, weight, by_class)
        task = FitTask(
            data.X, target, len(data.classes), weight, rows_that_count(weight), float(self.C),
            seen, self._l1_ratio,
        )  # fmt: skip
        return task, data.classes

    @property
    def _l1_ratio(self) -> float:
        """The share of L1 in the penalty; 0 where there is no penalty at all."""
        return float(self.l1_ratio) if math.inf > self.C else 0.0

    def _check_parameters(self) -> None:
        raise NotImplementedError

    @property
    def _learning_rate(self) -> float | None:
        """None is automatic."""
        return None if isinstance(self.learning_rate, str) else float(self.learning_rate)

    def _fit_sgd(
        self, task: FitTask, start: tuple[Array, Array] | None, monitor: Monitor | None,
        seed: int, plan: Plan,
    ) -> Fitted:  # fmt: skip
        descent = self._begin_descent(task.X, task.rows, task.n_classes, start, seed)
        far = far_from_0(task.X, task.rows) if self.fit_intercept else ""
        if far:
            warn_caller(far, ConvergenceWarning)
        n_iter, history = fit_sgd(
            task, descent, monitor, max_iter=self.max_iter, **self._descent_options()
        )
        W, b = descent.parameters
        self._descent = descent
        gap = measure_gap(task, W, b, plan, self.fit_intercept, self._threads)
        return Fitted(W, b, n_iter, history, gap)

    def _fit_shards_by_minibatches(
        self: Self, shards: Shards, y: Any, sample_weight: Any, validation: Any
    ) -> Self:
        """Fit to shards whose rows are read window by window in each epoch."""
        alone(y, sample_weight)
        names = getattr(self, "feature_names_in_", None)
        features_of_shards(self, shards, reset=True)
        task, classes = shard_task(self, shards, None)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        monitor = None
        if validation is not None:
            monitor = self._monitor(*validation_set(self, validation, classes, task.by_class))
        elif self.early_stopping:
            raise ValueError("early_stopping is True, but no rows are held out of shards or a "
                             "cluster: give fit(..., validation=shards), or (X, y)")  # fmt: skip
        start = self._start(TrainingSet(task.X, classes, task.y), names)
        descent = self._begin_descent(task.X, None, task.n_classes, start, seed)
        far = far_from_0(task.X, None) if self.fit_intercept else ""
        if far:
            warn_caller(far, ConvergenceWarning)
        n_iter, self.history_ = fit_sgd(
            task, descent, monitor, max_iter=self.max_iter, loaders=task.loaders,
            **self._descent_options(),
        )  # fmt: skip
        self._descent, self.classes_, self._seen, self._absent = descent, classes, task.total, []
        self._keep(*descent.parameters, task.X)
        self.n_iter_ = np.array([n_iter], np.int32)
        self.gap_ = UNKNOWN_GAP
        return self

    def _monitor(self, X: Stored | ShardPasses, y: Array, weight: Array | None) -> Monitor:
        raise NotImplementedError

    def _start(self, data: TrainingSet, names: Array | None) -> tuple[Array, Array] | None:
        raise NotImplementedError

    def _arrived(self, X: Any, y: Any, classes: Any, first: bool) -> TrainingSet:
        """Return the samples of a call of partial_fit, checked against the first one's classes."""
        target = probabilities_in(y)
        if first and classes is None:
            if target is None:
                raise ValueError(
                    "classes is None, expected all classes in the first call of partial_fit"
                )
            classes = range(target.shape[1])
        known = self._checked_classes(classes, first, is_ordered=target is not None)
        return more_samples(self, X, y, known, "y", reset=first)

    def _checked_classes(self, classes: Any, first: bool, is_ordered: bool = False) -> Array:
        """Return the classes of a call of `partial_fit`, sorted; `is_ordered`: they must be."""
        given = np.asarray(self.classes_ if classes is None else classes)
        known: Array = np.unique(given)
        if len(known) < 2:
            raise ValueError(f"classes has {len(known)} classes, expected at least two")
        if is_ordered and known.tolist() != given.tolist():
            raise ValueError(
                f"classes is {given.tolist()}, expected the order {known.tolist()}, in which the "
                "columns of probabilities are read"
            )
        if not first and known.tolist() != self.classes_.tolist():
            raise ValueError(
                f"classes is {known.tolist()}, expected those of the first call, "
                f"{self.classes_.tolist()}"
            )
        return known if first else self.classes_

    def _descent_options(self) -> dict[str, Any]:
        return {
            "learning_rate": self._learning_rate, "momentum": float(self.momentum),
            "batch_size": self.batch_size, "tol": number_of(self.tol),
            "patience": self.n_iter_no_change, "n_threads": self._threads,
            "fit_intercept": self.fit_intercept, "verbose": self.verbose,
        }  # fmt: skip

    def _begin_descent(
        self, X: Stored, rows: Labels | None, n_classes: int, start: tuple[Array, Array] | None,
        seed: int,
    ) -> MinibatchDescent:  # fmt: skip
        dtype = compute_dtype(X) if start is None else start[0].dtype
        descent = MinibatchDescent.begin(
            X, rows, n_classes, dtype, self._learning_rate is None, seed
        )
        if start is not None:
            descent.parameters = start
        return descent
