"""`SoftmaxClassifier`: softmax regression as a scikit-learn estimator."""

from __future__ import annotations

import math
import sys
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from csoftmax.core.checks import check_learning_rate, check_number, check_positive, compute_dtype
from csoftmax.data.shards import Shards
from csoftmax.engine.local_passes import BLOCK_BYTES
from csoftmax.engine.passes import mass_of_classes
from csoftmax.engine.shard_passes import ShardPasses
from csoftmax.estimators.base import (
    Gap,
    VersionWarning,
    unchanged_by_failure,
)
from csoftmax.estimators.fit import (
    ConvergenceWarning,
    FitTask,
    fit_full,
    plan_memory,
)
from csoftmax.estimators.full_shards import fit_shards_by_passes
from csoftmax.estimators.inference import StandardErrors, standard_errors
from csoftmax.estimators.inputs import (
    MemoryBudgetError,
    TrainingSet,
    as_bytes,
    check_C,
    check_common_parameters,
    check_flag,
    check_l1_ratio,
    check_solver,
    conversion_bytes,
    in_rows,
    in_units,
    number_of,
    training_set,
)
from csoftmax.estimators.minibatches import MinibatchClassifier
from csoftmax.estimators.monitor import SPLIT_BYTES, Monitor, rows_to_watch, validation_set
from csoftmax.estimators.sgd import measuring_bytes
from csoftmax.estimators.weights import (
    checked_weight,
    rows_that_count,
    weights_of_classes,
    with_class_weights,
)
from csoftmax.rows.base import Stored, take
from csoftmax.solver.memory import Plan

__all__ = [
    "ConvergenceWarning",
    "Gap",
    "MemoryBudgetError",
    "SoftmaxClassifier",
    "VersionWarning",
]

Array = NDArray[Any]
Self = TypeVar("Self", bound="SoftmaxClassifier")


class SoftmaxClassifier(MinibatchClassifier):
    """Softmax regression that reaches the optimum and says how far it is.

    Minimises what scikit-learn's ``LogisticRegression`` minimises:
    ``1/S sum_i s_i loss_i + (l1_ratio ||coef_||_1 + (1 - l1_ratio) / 2 ||coef_||^2) / (C S)`` with
    ``S = sum_i s_i``, the intercept unpenalised; for two classes ``coef_`` is the one row that
    belongs to ``classes_[1]``.

    Parameters
    ----------
    C : float
        Inverse strength of the penalty, > 0; ``inf`` for none.
    l1_ratio : float
        The share of L1 in the penalty, from 0 to 1: 0 is L2, 1 is L1, the rest the elastic net.
        L1 leaves few features with a weight: `selected_`.
    tol : float or "sampling"
        "lbfgs" stops when the estimated distance to the optimum is at most `tol` times the
        objective. The gradient's largest entry must be at most `tol` too, as scikit-learn asks,
        where a few more iterations achieve that. An objective near 0, of labels that are all but
        explained, counts as 5,000 nats over all samples, or as the null model's loss if that is
        less: at the default the distance is then half a nat in all. "sgd" stops when the loss has
        not fallen by such a share for `n_iter_no_change` epochs.
        With "sampling" (not with L1 or "sgd"), "lbfgs" stops where the distance is a tenth of what
        chance makes of it: the optimum of other samples of the same size would be as far off as
        ``gap_.noise``. That takes half of the passes, and costs in test loss about a tenth of that
        noise. It is the wrong tool for few samples (less than some ten for each parameter), where a
        tenth of the noise shows, and where `coef_` is to be read, compared or tested.
    fit_intercept : bool
        Whether there is an intercept.
    class_weight : dict {label: weight}, "balanced" or None
        Multiplies the sample weights; "balanced" are ``S / (n_classes * S_k)``.
    random_state : int, RandomState instance or None
        Draws the order of the samples for "sgd", and the rows that early stopping holds out.
    solver : "auto", "lbfgs", "newton-cd" or "sgd"
        To the optimum by full passes without L1, or with L1 by a proximal Newton method whose
        models are solved by coordinate descent on the weights that matter; "auto" is the one of
        these two that suits. Or minibatches.
    max_iter : int
        At most so many iterations or epochs ("sgd"). 0 leaves the parameters where a warm
        start begins, and otherwise at 0.
    warm_start : bool
        Start `fit` from the parameters that the last one ended with. Its classes and features must
        be the same.
    batch_size : int
        Samples of a minibatch; for "sgd" and `partial_fit`, like the next two.
    learning_rate : float or "auto"
        "auto" is measured: the features' mean square and the class frequencies bound the curvature.
        A number applies to the features as they are.
    momentum : float
        In [0, 1).
    early_stopping : bool
        Stop when the loss on held-out samples (or on ``fit(..., validation=...)``) has not fallen
        for `n_iter_no_change` passes, and keep the parameters that were best there. Held-out
        samples have the weights that they would have in the objective.
    validation_fraction : float
        Share of the samples of weight > 0 that early stopping holds out, the classes in proportion;
        of probabilities, the most probable ones, where each occurs twice.
    n_iter_no_change : int
        How many passes without progress are too many.
    n_threads : int, optional
        At most so many threads; None: all CPUs that this process may use, or OMP_NUM_THREADS of
        them where that is set, as in joblib's workers. Results are bitwise the same for any number.
    max_memory : int, str or None
        What `fit` may allocate besides X: bytes, or a string such as "2 GB". Within it the solver
        chooses a smaller history or a diagonal preconditioner; where even these do not fit, `fit`
        raises before it starts and says how much it needs.
    verbose : int
        1 tells the plan and the passes.

    Attributes
    ----------
    classes_ : array (n_classes,)
    coef_ : array (n_classes, n_features), or (1, n_features) for two classes
        float32 for uint8, float16 and float32 data, else float64.
    intercept_ : array (n_classes,) or (1,)
    n_iter_ : array (1,)
        Iterations, or epochs.
    n_features_in_ : int
    feature_names_in_ : array (n_features_in_,)
        Only where X has names that are all strings.
    selected_ : array (n_selected,) of int
        The features that have a weight other than 0 in some class.
    history_ : dict of lists
        An entry for the start and one for each iteration; after "sgd", one for each epoch. With
        validation data also "validation_loss" and "validation_accuracy", weighted means.
    gap_ : Gap
        ``objective``, and how far above the optimum it is: ``bound`` at most, about ``estimate``
        (NaN after "sgd"); ``gap_.relative`` is the estimate as a share of the objective, and
        ``gap_.noise`` what chance has done (0 unless `tol` is "sampling").

    Notes
    -----
    X is read as it is stored: uint8, float16, float32 and float64 arrays in C order and
    memory-mapped files are not copied; arrays in other orders are, if `max_memory` allows. Other
    numbers become float64, but for bfloat16 and int8, of which there is one copy in float32.

    Sparse matrices of scipy, and pandas tables of sparse columns, stay sparse: csr ones of bool,
    uint8, float32 and float64 are read as they are, for any type of indices; gradients need one
    more copy by columns, 8 bytes an entry in float32. Nothing is centred in memory. `coef_` then
    lies feature after feature (``coef_.T`` is contiguous), as sparse rows read it.

    A pickle tells which csoftmax wrote it; another one warns (`VersionWarning`), and settings that
    the older one did not have get their defaults.
    Pixels from 0 to 255 need no scaling: the preconditioner sees to it (but C counts on
    the features as they are: pixels divided by 255 need 255^2 times the C).

    Examples
    --------
    >>> import csoftmax as cs
    >>> train, test = cs.fashion_mnist_sample()
    >>> X, X_test = train.X.reshape(6000, 784), test.X.reshape(1000, 784)
    >>> classifier = cs.SoftmaxClassifier(C=1e-5).fit(X, train.y)
    >>> classifier.score(X_test, test.y) > 0.8
    True
    >>> bool(classifier.gap_.estimate * len(X) < 0.5)  # nats over all samples
    True
    """

    def __init__(
        self,
        *,
        C: float = 1.0,
        l1_ratio: float = 0.0,
        tol: float | str = 1e-4,
        fit_intercept: bool = True,
        class_weight: Any = None,
        random_state: Any = None,
        solver: str = "auto",
        max_iter: int = 1000,
        warm_start: bool = False,
        batch_size: int = 256,
        learning_rate: float | str = "auto",
        momentum: float = 0.0,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        n_threads: int | None = None,
        max_memory: float | str | None = None,
        verbose: int = 0,
    ) -> None:
        self.C = C
        self.l1_ratio = l1_ratio
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.random_state = random_state
        self.solver = solver
        self.max_iter = max_iter
        self.warm_start = warm_start
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.n_threads = n_threads
        self.max_memory = max_memory
        self.verbose = verbose

    def fit(
        self: Self, X: Any, y: Any = None, sample_weight: Any = None, *, validation: Any = None
    ) -> Self:
        """Fit to samples X and labels y.

        Parameters
        ----------
        X : array_like, sparse matrix or `csoftmax.data.Shards` (n_samples, n_features)
            Shards have their labels, and weights where they have any.
        y : array_like (n_samples,), or probabilities (n_samples, n_classes)
            Labels of any kind: strings, integers, bools. Of probabilities the classes are 0, 1,
            ...; rows must sum to 1 (within a thousandth, and are divided by the sum), a row of
            zeros and a one is a label, and class weights multiply the loss's terms.
        sample_weight : array_like (n_samples,), optional
            Weights >= 0; weight 2 is as good as the sample twice, weight 0 as good as none.
        validation : (X, y), (X, y, sample_weight) or `csoftmax.data.Shards`, optional
            Evaluated after each pass, also with the class weights of the fit: see `history_` and
            `early_stopping`. Shards are read block by block, once more in each pass.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            For parameters and data that do not fit, and sparse matrices whose indices are wrong.
        MemoryBudgetError
            If `max_memory` is not enough.

        Warns
        -----
        ConvergenceWarning
            If it stopped before `tol`; after Ctrl-C too, which keeps the best parameters so far.
        """
        with unchanged_by_failure(self):
            self._check_parameters()
            if isinstance(X, Shards) and self.solver == "sgd":
                return self._fit_shards_by_minibatches(X, y, sample_weight, validation)
            if isinstance(X, Shards):
                fit_shards_by_passes(self, X, y, sample_weight, validation)
                return self
            return self._fit(X, y, sample_weight, validation)

    def standard_errors(
        self, X: Any, y: Any, sample_weight: Any = None, *, reference: Any = None
    ) -> StandardErrors:
        """Return standard errors of `coef_` and `intercept_`, from the inverse Hessian.

        Parameters
        ----------
        X : array_like or sparse matrix (n_samples, n_features)
            The samples of `fit`.
        y : array_like (n_samples,)
        sample_weight : array_like (n_samples,), optional
            Those of `fit`: how many times each sample was seen.
        reference : label, optional
            The errors of ``coef_ - coef_[reference]`` instead, as of a multinomial logit with that
            base category; its own row is 0. With two classes they are the same.

        Returns
        -------
        StandardErrors
            ``coef`` and ``intercept``, of the shapes of `coef_` and `intercept_`, and
            ``covariance``: rows of coef_ one after the other, each with its intercept last.

        Raises
        ------
        TypeError, ValueError
            For data that do not fit; with L1, whose penalty has no Hessian at 0; where the Hessian
            is singular (constant or collinear features without a penalty), with the features'
            names.
        MemoryBudgetError
            For more than 8,000 parameters, whose covariance is a dense matrix; or if `max_memory`
            is not enough.

        Notes
        -----
        They are those of the maximum of the likelihood, ``C = inf``, reached with a small `tol`.
        With a penalty the Hessian contains it: the errors are the standard deviations of the normal
        approximation of the posterior, the penalty being a prior. Then they do not tell how far the
        parameters have been pulled towards 0, and intervals of two of them cover too seldom.

        With more than two classes `coef_` sums to 0 over the classes: each row is what a class has
        above the mean of all, and so are its errors.

        Examples
        --------
        >>> import math, csoftmax as cs
        >>> X, y = [[0.0], [1.0], [2.0], [3.0], [4.0], [5.0]], ["a", "a", "b", "a", "b", "b"]
        >>> errors = cs.SoftmaxClassifier(C=math.inf, tol=1e-8).fit(X, y).standard_errors(X, y)
        >>> errors.coef.round(2), errors.intercept.round(2), errors.covariance.shape
        (array([[0.91]]), array([2.55]), (2, 2))
        """
        check_is_fitted(self, "coef_")
        return standard_errors(self, X, y, sample_weight, reference)

    # ---- steps of fit --------------------------------------------------------------------------

    def _check_parameters(self) -> None:
        check_common_parameters(self)
        check_C(self.C)
        check_l1_ratio(self.l1_ratio, "l1_ratio")
        check_solver(self.solver, self._l1_ratio)
        if isinstance(self.tol, str) and (self._l1_ratio or self.solver == "sgd"):
            by = "with L1" if self._l1_ratio else 'for solver "sgd"'
            raise ValueError(f"tol is {self.tol!r}, expected a number {by}")
        check_flag(self.warm_start, "warm_start")
        check_flag(self.early_stopping, "early_stopping")
        check_positive(self.batch_size, "batch_size")
        check_positive(self.n_iter_no_change, "n_iter_no_change")
        if not isinstance(self.learning_rate, str):
            check_learning_rate(self.learning_rate, "learning_rate")
        elif self.learning_rate != "auto":
            raise ValueError(
                f'learning_rate is {self.learning_rate!r}, expected a number or "auto"'
            )
        if not 0 <= check_number(self.momentum, "momentum") < 1:
            raise ValueError(f"momentum is {self.momentum}, expected a number in [0, 1)")

    def _fit(self: Self, X: Any, y: Any, sample_weight: Any, validation: Any) -> Self:
        converted, names = conversion_bytes(X), getattr(self, "feature_names_in_", None)
        by_passes = self.solver != "sgd" and not self._l1_ratio
        data = training_set(self, X, y, soft=True, finite_later=by_passes)
        given = checked_weight(sample_weight, len(data.X))
        by_class = weights_of_classes(self.class_weight, data.classes, data.y, given)
        target, weight = with_class_weights(data.y, given, by_class)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        rows = rows_that_count(weight)
        monitor, others = None, converted
        if validation is not None:
            monitor = self._monitor(*validation_set(self, validation, data.classes, by_class))
            others += monitor.n_bytes if monitor.reads_shards else 0
        elif self.early_stopping:
            rows, held = rows_to_watch(data.y, self.validation_fraction, seed, rows, data.classes)
            of_held = None if weight is None else weight[held]
            monitor = self._monitor(take(data.X, held), target[held], of_held)
            others += monitor.n_bytes + SPLIT_BYTES * len(data.y)
        if target.ndim == 2:  # probabilities, with class weights, the solver's copy, and blocks
            others += (2 if target is data.y else 3) * target.nbytes
            if not self._l1_ratio:
                others += 3 * min(BLOCK_BYTES, target.nbytes + 8 * math.prod(data.X.shape))
        start = self._start(data, names)
        task = FitTask(
            data.X, target, len(data.classes), weight, rows, float(self.C), l1_ratio=self._l1_ratio
        )
        plan = self._plan(task, others)
        if self.solver == "sgd":
            fitted = self._fit_sgd(task, start, monitor, seed, plan)
        else:
            fitted = fit_full(
                task, start, monitor, plan, fit_intercept=self.fit_intercept, tol=self.tol,
                max_iter=self.max_iter, n_threads=self._threads, verbose=self.verbose,
            )  # fmt: skip
            self.__dict__.pop("_descent", None)
        self.classes_, self._seen = data.classes, task.total
        mass = mass_of_classes(target, task.row_weight, task.n_classes)
        self._absent = np.flatnonzero(mass == 0).tolist() if self.solver != "sgd" else []
        self._keep(fitted.W, fitted.b, data.X)
        self.n_iter_ = np.array([fitted.n_iter], np.int32)
        self.history_, self.gap_ = fitted.history, fitted.gap
        return self

    def _plan(self, task: FitTask, others: float) -> Plan:
        """Return how to fit within `max_memory`; with room for it, X gets rows in one piece."""
        budget, by_minibatches = as_bytes(self.max_memory), self.solver == "sgd"
        if by_minibatches:
            others += measuring_bytes(task.X) + 12 * len(task.y)  # and the order of an epoch
        plan = plan_memory(
            budget, task.X, task.n_classes, self._threads, n_weights=int(task.is_weighted),
            others=others, l1_ratio=self._l1_ratio, soft=task.y.ndim == 2, evaluates=by_minibatches,
        )  # fmt: skip
        as_given, task.X = task.X, in_rows(task.X, budget - plan.n_bytes)
        if self.verbose:
            copied = 0 if task.X is as_given else task.X.nbytes
            print(
                f"the fit takes up to {in_units(plan.n_bytes + copied)} besides X",
                file=sys.stderr,
            )
        return plan

    def _start(self, data: TrainingSet, names: Array | None) -> tuple[Array, Array] | None:
        """Where a fit begins: None is the solver's own start.

        A warm start needs the classes of the last fit, and the features, in the same order.
        """
        n_classes, n_features = len(data.classes), data.X.shape[1]
        dtype = compute_dtype(data.X)
        if not (self.warm_start and hasattr(self, "coef_")):
            if self.max_iter:
                return None
            return np.zeros((n_classes, n_features), dtype), np.zeros(n_classes, dtype)
        W, b = self._where_it_ended(dtype)
        if W.shape != (n_classes, n_features):
            raise ValueError(
                f"warm_start is True and the last fit had {len(b)} classes and {W.shape[1]} "
                f"features, but X and y have {n_classes} and {n_features}"
            )
        now = getattr(self, "feature_names_in_", None)
        pairs = [("classes", "y", self.classes_.tolist(), data.classes.tolist())]
        if names is not None and now is not None:
            pairs.append(("features", "X", names.tolist(), now.tolist()))
        for what, where, before, after in pairs:
            if before != after:
                i = next(i for i in range(len(after)) if before[i] != after[i])
                raise ValueError(
                    f"warm_start is True and the last fit had other {what}: {before[i]!r} where "
                    f"{where} has {after[i]!r}; warm_start=False starts anew"
                )
        return W, b

    def _monitor(self, X: Stored | ShardPasses, y: Array, weight: Array | None) -> Monitor:
        patience = self.n_iter_no_change if self.early_stopping else None
        return Monitor(X, y, weight, patience, number_of(self.tol), self._threads)
