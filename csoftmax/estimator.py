"""`SoftmaxClassifier`: softmax regression as a scikit-learn estimator."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from csoftmax._estimator_base import (
    UNKNOWN_GAP,
    Gap,
    LinearSoftmax,
    softmax_C,
    softmax_form,
)
from csoftmax._estimator_convert import (
    as_logistic_regression,
    from_logistic_regression,
    load_classifier,
    save_classifier,
)
from csoftmax._estimator_data import (
    MemoryBudgetError,
    TrainingSet,
    as_bytes,
    check_C,
    check_common_parameters,
    check_flag,
    compute_dtype,
    conversion_bytes,
    held_out_rows,
    in_rows,
    in_units,
    more_samples,
    training_set,
    weights_of_samples,
)
from csoftmax._estimator_fit import (
    ConvergenceWarning,
    Fitted,
    Monitor,
    Plan,
    Problem,
    fit_lbfgs,
    fit_sgd,
    measure_gap,
    one_epoch,
    plan_memory,
)
from csoftmax._estimator_sgd import Descent
from csoftmax._validate import check_learning_rate, check_number, check_positive
from csoftmax.data import DataError

__all__ = ["ConvergenceWarning", "Gap", "MemoryBudgetError", "SoftmaxClassifier"]

Array = NDArray[Any]
Self = TypeVar("Self", bound="SoftmaxClassifier")


class SoftmaxClassifier(LinearSoftmax):
    """Softmax regression that reaches the optimum and says how far it is.

    Minimises what scikit-learn's ``LogisticRegression`` minimises:
    ``1/S sum_i s_i loss_i + ||coef_||^2 / (2 C S)`` with ``S = sum_i s_i``, the intercept
    unpenalised; for two classes ``coef_`` is the one row that belongs to ``classes_[1]``.

    Parameters
    ----------
    C : float
        Inverse strength of the penalty, > 0; ``inf`` for none.
    tol : float
        "lbfgs" stops when the estimated distance to the optimum is at most so large a share of the
        objective, and the gradient's largest entry is at most `tol`, as scikit-learn asks, where a
        few more iterations achieve it. "sgd" stops when the loss has not fallen by such a share for
        `n_iter_no_change` epochs.
    fit_intercept : bool
        Whether there is an intercept.
    class_weight : dict {label: weight}, "balanced" or None
        Multiplies the sample weights; "balanced" are ``S / (n_classes * S_k)``.
    random_state : int, RandomState instance or None
        Draws the order of the samples for "sgd", and the rows that early stopping holds out.
    solver : "lbfgs" or "sgd"
        Full passes to the optimum, or minibatches.
    max_iter : int
        At most so many iterations ("lbfgs") or epochs ("sgd").
    warm_start : bool
        Start `fit` from the parameters that the last one ended with.
    batch_size : int
        Samples of a minibatch; for "sgd" and `partial_fit`, like the next two.
    learning_rate : float or "auto"
        "auto" is measured: the features' mean square and the class frequencies bound the curvature.
        A number applies to the features as they are.
    momentum : float
        In [0, 1).
    early_stopping : bool
        Stop when the loss on held-out samples (or on ``fit(..., validation=...)``) has not fallen
        for `n_iter_no_change` passes, and keep the parameters that were best there.
    validation_fraction : float
        Share of the samples that early stopping holds out, the classes in proportion.
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
    history_ : dict of lists
        One entry per pass; with validation data also "validation_loss" and "validation_accuracy".
    gap_ : Gap
        ``objective``, and how far above the optimum it is: ``bound`` at most, about ``estimate``
        (NaN after "sgd"); ``gap_.relative`` is the estimate as a share of the objective.

    Notes
    -----
    X is read as it is stored: uint8, float16, float32 and float64 arrays in C order and
    memory-mapped files are not copied; arrays in other orders are, if `max_memory` allows. Other
    numbers become float64. Sparse matrices are refused.
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
    >>> bool(classifier.gap_.relative < 1e-4)
    True
    """

    def __init__(
        self,
        *,
        C: float = 1.0,
        tol: float = 1e-4,
        fit_intercept: bool = True,
        class_weight: Any = None,
        random_state: Any = None,
        solver: str = "lbfgs",
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
        self: Self, X: Any, y: Any, sample_weight: Any = None, *, validation: Any = None
    ) -> Self:
        """Fit to samples X and labels y.

        Parameters
        ----------
        X : array_like (n_samples, n_features)
        y : array_like (n_samples,)
            Labels of any kind: strings, integers, bools.
        sample_weight : array_like (n_samples,), optional
            Weights >= 0; weight 2 is as good as the sample twice.
        validation : (X, y), optional
            Evaluated after each pass: see `history_` and `early_stopping`.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            For parameters and data that do not fit; sparse X.
        MemoryBudgetError
            If `max_memory` is not enough.

        Warns
        -----
        ConvergenceWarning
            If it stopped before `tol`; after Ctrl-C too, which keeps the best parameters so far.
        """
        self._check_parameters()
        budget, converted = as_bytes(self.max_memory), conversion_bytes(X)
        data = training_set(self, X, y)
        weight = weights_of_samples(sample_weight, self.class_weight, data.classes, data.y)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        rows, held_out = None, None
        if validation is not None:
            held_out = self._validation(validation, data.classes)
        elif self.early_stopping:
            rows, held = held_out_rows(data.y, self.validation_fraction, seed)
            held_out = data._replace(X=data.X[held], y=data.y[held])
        start = self._start(data)
        C = softmax_C(float(self.C), len(data.classes))
        problem = Problem(data.X, data.y, len(data.classes), weight, rows, C)
        monitor = None
        if held_out is not None:
            patience = self.n_iter_no_change if self.early_stopping else None
            monitor = Monitor(held_out.X, held_out.y, patience, self.tol, self._threads)
        held_bytes = 0 if rows is None or held_out is None else held_out.X.nbytes
        plan = plan_memory(
            budget, data.X, len(data.classes), self._threads, others=held_bytes + converted
        )
        rows_in_order = in_rows(data.X, budget - plan.n_bytes)
        copied = 0 if rows_in_order is data.X else data.X.nbytes
        problem.X = rows_in_order
        if self.verbose:
            print(
                f"the fit takes up to {in_units(plan.n_bytes + copied)} besides X", file=sys.stderr
            )
        if self.solver == "sgd":
            fitted = self._fit_sgd(problem, start, monitor, seed, plan)
        else:
            fitted = fit_lbfgs(
                problem, start, monitor, plan, fit_intercept=self.fit_intercept, tol=self.tol,
                max_iter=self.max_iter, n_threads=self._threads, verbose=self.verbose,
            )  # fmt: skip
            self.__dict__.pop("_descent", None)
        self.classes_ = data.classes
        self._keep(fitted.W, fitted.b)
        self.n_iter_ = np.array([fitted.n_iter], np.int32)
        self.history_, self.gap_ = fitted.history, fitted.gap
        return self

    def partial_fit(
        self: Self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> Self:
        """Go through some samples once, in minibatches: stochastic gradient descent on the softmax.

        Parameters
        ----------
        X : array_like (n_samples, n_features)
        y : array_like (n_samples,)
        classes : array_like (n_classes,)
            All classes there will ever be; needed in the first call only.
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
        self._check_parameters()
        if isinstance(self.class_weight, str):
            raise ValueError(
                'class_weight is "balanced": partial_fit cannot know the frequencies to come; '
                "pass a dict"
            )
        first = not hasattr(self, "classes_")
        data = self._arrived(X, y, classes, first)
        weight = weights_of_samples(sample_weight, self.class_weight, data.classes, data.y)
        n_classes = len(data.classes)
        descent: Descent | None = getattr(self, "_descent", None)
        start = None if first else softmax_form(self.coef_, self.intercept_)
        if first or descent is None or descent.automatic != (self._learning_rate is None):
            seed = int(check_random_state(self.random_state).randint(2**31 - 1))
            descent = self._begin_descent(data.X, n_classes, start, seed)
        elif start is not None:
            descent.parameters = start  # a user may have set coef_
        C = softmax_C(float(self.C), n_classes)
        problem = Problem(data.X, data.y, n_classes, weight, None, C, seen=descent.seen)
        descent.seen += problem.total
        history = one_epoch(problem, descent, **self._descent_options())
        self._descent, self.classes_ = descent, data.classes
        self._keep(*descent.parameters)
        before = {} if first else self.history_
        self.history_ = {name: before.get(name, []) + values for name, values in history.items()}
        self.n_iter_ = np.array([len(self.history_["loss"])], np.int32)
        self.gap_ = UNKNOWN_GAP
        return self

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write parameters, classes and settings to one safetensors file, whole or not at all.

        Classes may be strings, integers, floats and bools. `SoftmaxRegression.load` and the command
        line read the file too. Not kept: the history, a RandomState instance, SGD's velocities.

        Parameters
        ----------
        path : path
            Replaced if it exists.

        Raises
        ------
        TypeError
            For classes of another kind, or a setting that is no plain value.
        OSError
            If it cannot be written.

        Examples
        --------
        >>> import tempfile, pathlib, csoftmax as cs
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "animals.safetensors"
        >>> X, y = [[0.0], [1.0], [2.0], [3.0]], ["cat", "cat", "dog", "dog"]
        >>> cs.SoftmaxClassifier().fit(X, y).save(path)
        >>> print(cs.SoftmaxClassifier.load(path).predict([[0.0], [3.0]]))
        ['cat' 'dog']
        """
        check_is_fitted(self, "coef_")
        settings = self.get_params(deep=False)
        if isinstance(self.random_state, np.random.RandomState):
            settings["random_state"] = None
        if isinstance(self.class_weight, Mapping):  # the keys of JSON are strings
            settings["class_weight"] = [[*pair] for pair in self.class_weight.items()]
        facts = {"settings": settings, "n_iter": self.n_iter_.tolist(), "gap": list(self.gap_)}
        save_classifier(self, path, facts)

    @classmethod
    def load(cls: type[Self], path: str | os.PathLike[str]) -> Self:
        """Read a classifier that `save` wrote; nothing in the file is executed.

        A model of ``SoftmaxRegression.save`` or of ``python -m csoftmax train`` is read too, as a
        classifier of the integers as they are stored: ``coef_`` is its W times its scale (pixels
        from 0 to 255 go in, not their 255ths). Its class names become `classes_`, integers where
        all of them are. The settings are those of its training, C in units of unscaled features
        (after SGD the C that equals its weight decay, inf without any), and the defaults where the
        file does not tell.

        Parameters
        ----------
        path : path

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        DataError
            If it is no safetensors file of a model; says what was expected, what came.
        """
        facts, classes, coef, intercept = load_classifier(path, cls.__name__)
        names = facts["feature_names"]
        try:
            classifier = cls(**facts["settings"])
            if isinstance(classifier.class_weight, list):
                classifier.class_weight = dict(classifier.class_weight)
            classifier.n_iter_ = np.array(facts["n_iter"], np.int32)
            classifier.gap_ = Gap(*map(float, facts["gap"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{path}: the metadata do not fit a classifier: {error!r}") from None
        classifier.classes_, classifier.coef_, classifier.intercept_ = classes, coef, intercept
        classifier.n_features_in_ = coef.shape[1]
        if names is not None:
            classifier.feature_names_in_ = np.array(names, object)
        classifier.history_ = {}
        return classifier

    @classmethod
    def from_sklearn(cls: type[Self], classifier: Any) -> Self:
        """Return a classifier with the parameters of a fitted ``LogisticRegression``.

        Its C, fit_intercept, class_weight, random_state and warm_start are taken over; tol and
        max_iter mean something else here.

        Parameters
        ----------
        classifier : sklearn.linear_model.LogisticRegression or LogisticRegressionCV

        Raises
        ------
        TypeError
            For anything else.
        ValueError
            For one-against-rest probabilities of more than two classes.

        Examples
        --------
        >>> import csoftmax as cs
        >>> from sklearn.linear_model import LogisticRegression
        >>> theirs = LogisticRegression().fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1])
        >>> print(cs.SoftmaxClassifier.from_sklearn(theirs).predict([[0.5], [2.5]]))
        [0 1]
        """
        settings, parameters = from_logistic_regression(classifier)
        ours = cls(**settings)
        for name, value in parameters.items():
            setattr(ours, name, value)
        ours.history_, ours.gap_ = {}, UNKNOWN_GAP
        return ours

    def to_sklearn(self) -> Any:
        """Return a fitted ``LogisticRegression`` with these parameters, in float64.

        Examples
        --------
        >>> import csoftmax as cs
        >>> ours = cs.SoftmaxClassifier().fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1])
        >>> ours.to_sklearn()
        LogisticRegression()
        """
        return as_logistic_regression(self)

    # ---- steps of fit --------------------------------------------------------------------------

    def _check_parameters(self) -> None:
        check_common_parameters(self)
        check_C(self.C)
        if self.solver not in ("lbfgs", "sgd"):
            raise ValueError(f'solver is {self.solver!r}, expected "lbfgs" or "sgd"')
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

    @property
    def _learning_rate(self) -> float | None:
        """None is automatic."""
        return None if isinstance(self.learning_rate, str) else float(self.learning_rate)

    def _start(self, data: TrainingSet) -> tuple[Array, Array] | None:
        """Where a warm start begins, if the last fit was of this shape."""
        if not self.warm_start or not hasattr(self, "coef_"):
            return None
        n_classes, dtype = len(data.classes), compute_dtype(data.X)
        W, b = softmax_form(np.asarray(self.coef_, dtype), np.asarray(self.intercept_, dtype))
        if W.shape != (n_classes, data.X.shape[1]):
            raise ValueError(
                f"warm_start is True and the last fit had {len(b)} classes and {W.shape[1]} "
                f"features, but X and y have {n_classes} and {data.X.shape[1]}"
            )
        return W, b

    def _validation(self, validation: Any, classes: Array) -> TrainingSet:
        if not isinstance(validation, (tuple, list)) or len(validation) != 2:
            raise TypeError(f"validation is a {type(validation).__name__}, expected a pair (X, y)")
        X, y = validation
        return more_samples(self, X, y, classes, "validation")

    def _fit_sgd(
        self, problem: Problem, start: tuple[Array, Array] | None, monitor: Monitor | None,
        seed: int, plan: Plan,
    ) -> Fitted:  # fmt: skip
        descent = self._begin_descent(problem.X, problem.n_classes, start, seed)
        descent.seen = problem.total
        n_iter, history = fit_sgd(
            problem, descent, monitor, max_iter=self.max_iter, **self._descent_options()
        )
        W, b = descent.parameters
        self._descent = descent
        gap = measure_gap(problem, W, b, plan, self.fit_intercept, self._threads)
        return Fitted(W, b, n_iter, history, gap)

    def _arrived(self, X: Any, y: Any, classes: Any, first: bool) -> TrainingSet:
        """Return the samples of a call of partial_fit, checked against the first one's classes."""
        if first and classes is None:
            raise ValueError(
                "classes is None, expected all classes in the first call of partial_fit"
            )
        known = np.unique(np.asarray(self.classes_ if classes is None else classes))
        if len(known) < 2:
            raise ValueError(f"classes has {len(known)} classes, expected at least two")
        if first:
            return more_samples(self, X, y, known, "y", reset=True)
        if not np.array_equal(known, self.classes_):
            raise ValueError(
                f"classes is {known.tolist()}, expected those of the first call, "
                f"{self.classes_.tolist()}"
            )
        return more_samples(self, X, y, self.classes_, "y")

    def _descent_options(self) -> dict[str, Any]:
        return {
            "learning_rate": self._learning_rate, "momentum": float(self.momentum),
            "batch_size": self.batch_size, "tol": float(self.tol),
            "patience": self.n_iter_no_change, "n_threads": self._threads,
            "fit_intercept": self.fit_intercept, "verbose": self.verbose,
        }  # fmt: skip

    def _begin_descent(
        self, X: Array, n_classes: int, start: tuple[Array, Array] | None, seed: int
    ) -> Descent:
        dtype = compute_dtype(X) if start is None else start[0].dtype
        descent = Descent.begin(X, n_classes, dtype, self._learning_rate is None, seed)
        if start is not None:
            descent.parameters = start
        return descent
