"""What the two estimators share: the linear model that they end with."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.validation import check_is_fitted

from csoftmax import functional
from csoftmax.core.checks import FLOAT64, compute_dtype
from csoftmax.core.sparse import CSR
from csoftmax.core.version import __version__
from csoftmax.data.shards import Shards
from csoftmax.engine import calls
from csoftmax.estimators.by_blocks import by_blocks, comes_in_blocks, labels_in
from csoftmax.estimators.inputs import checked_probabilities, features, probabilities_in, threads
from csoftmax.rows.base import Stored, as_stored, blocks, take
from csoftmax.solver.two_classes import estimator_form, softmax_form

Array = NDArray[Any]
Self = TypeVar("Self", bound="LinearSoftmax")
_BLOCK_BYTES = 1 << 24  # of logits in float64


class Gap(NamedTuple):
    """How far the parameters are from the optimum.

    ``objective`` is what was minimised, in nats per unit of weight. It is above the optimum by
    ``bound`` at most: a point of the dual problem proves it, up to rounding. (Without a penalty
    there is no such point, and the bound only says that no loss is below 0.) It is above the
    optimum by about ``estimate``, which comes from the last steps and an approximate Hessian, or
    the exact one of a small problem. After minibatches the estimate is NaN. With
    ``tol="sampling"``, ``noise`` is by how much chance has moved the optimum: in the mean, those of
    other samples of the same size are so far above that of all there might be. Otherwise it is 0.
    """

    objective: float
    bound: float
    estimate: float
    noise: float = 0.0

    @property
    def relative(self) -> float:
        """The estimate as a share of the objective."""
        return self.estimate / self.objective if self.objective else 0.0


UNKNOWN_GAP = Gap(math.nan, math.inf, math.nan)


class VersionWarning(UserWarning):
    """An estimator was unpickled that another version of csoftmax had pickled.

    Examples
    --------
    >>> from csoftmax.estimators import VersionWarning
    >>> issubclass(VersionWarning, UserWarning)
    True
    """


def _parameters(X: Stored, coef: Array, intercept: Array) -> calls.Parameters:
    return calls.Parameters(calls.weights_for(X, coef.T, intercept.dtype), intercept)


def warn_caller(message: str, category: type[Warning]) -> None:
    """Warn at the line that called the estimator, the nearest one outside this package."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_globals.get("__name__", "").startswith(__package__):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


@contextmanager
def unchanged_by_failure(estimator: Any) -> Iterator[None]:
    """If what follows fails, give the estimator the attributes that it had before."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


def dense_coef(estimator: Any) -> Array:
    """Return `coef_` as an array, also after `sparsify`: then in the layout that sparse X wants."""
    coef = estimator.coef_
    if hasattr(coef, "toarray"):
        return np.asarray(coef.toarray(order="F"))
    return np.asarray(coef)


class LinearSoftmax(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Predicting with ``coef_`` and ``intercept_``: one row per class, or one for two classes."""

    # where the predictions go is no metadata of the samples
    __metadata_request__predict = {"out": UNUSED}  # noqa: RUF012 - as scikit-learn reads it
    __metadata_request__predict_proba = {"out": UNUSED}  # noqa: RUF012
    __metadata_request__predict_log_proba = {"out": UNUSED}  # noqa: RUF012
    __metadata_request__decision_function = {"out": UNUSED}  # noqa: RUF012

    fit_intercept: bool
    n_threads: int | None
    classes_: Array
    coef_: Array
    intercept_: Array

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_csoftmax_version": __version__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        defaults = {
            name: parameter.default
            for name, parameter in inspect.signature(type(self).__init__).parameters.items()
            if parameter.default is not parameter.empty
        }
        state = {**defaults, **state}  # a setting that the other version did not have
        version = state.pop("_csoftmax_version", "unknown")
        if version != __version__:
            warn_caller(
                f"a {type(self).__name__} of csoftmax {version} was unpickled by csoftmax "
                f"{__version__}: check what it predicts, or fit it anew",
                VersionWarning,
            )
        super().__setstate__(state)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    @property
    def selected_(self) -> NDArray[np.int64]:
        """The features that have a weight other than 0 in some class, (n_selected,), in order."""
        check_is_fitted(self, "coef_")
        used: NDArray[np.int64] = np.flatnonzero((dense_coef(self) != 0).any(axis=0))
        return used

    def sparsify(self: Self) -> Self:
        """Keep `coef_` as a ``scipy.sparse.csr_array``: less memory where most weights are 0.

        Everything works as before. To predict, an array is made of it each time.

        Returns
        -------
        self

        Examples
        --------
        >>> import csoftmax as cs
        >>> X, y = [[0.0, 1.0], [1.0, 1.0], [2.0, 1.0], [3.0, 1.0]], ["cat", "cat", "dog", "dog"]
        >>> classifier = cs.SoftmaxClassifier(l1_ratio=1.0).fit(X, y).sparsify()
        >>> classifier.coef_.nnz, classifier.selected_, classifier.predict([[0.5, 1.0]])
        (1, array([0]), array(['cat'], dtype='<U3'))
        """
        from scipy import sparse

        check_is_fitted(self, "coef_")
        self.coef_ = sparse.csr_array(self.coef_)
        return self

    def densify(self: Self) -> Self:
        """Make `coef_` an array again.

        Returns
        -------
        self
        """
        check_is_fitted(self, "coef_")
        self.coef_ = dense_coef(self)
        return self

    def decision_function(self, X: Any, *, out: Any = None) -> Any:
        """Return the logits ``X @ coef_.T + intercept_``.

        Parameters
        ----------
        X : array_like, sparse matrix or `csoftmax.data.Shards` (n_samples, n_features)
        out : path, optional
            A .npy or .parquet file to write, block by block. The result is then a map of it, or
            its path.

        Returns
        -------
        array (n_samples, n_classes), or (n_samples,) for two classes: that of ``classes_[1]``
            float32 for uint8, float16 and float32 data and parameters, else float64.
        """
        if comes_in_blocks(X, out):
            return by_blocks(self.decision_function, X, out, self._columns(two_columns=False))
        logits = self._of_logits(X, lambda logits: logits, two_columns=False)
        return logits[:, 0] if logits.shape[1] == 1 else logits

    def predict(self, X: Any, *, out: Any = None) -> Any:
        """Return the most probable class of each sample, (n_samples,), of the dtype of `classes_`.

        No array of n_samples x n_classes is made.

        Parameters
        ----------
        X : array_like, sparse matrix or `csoftmax.data.Shards` (n_samples, n_features)
        out : path, optional
            A .npy or .parquet file to write, block by block. The result is then a map of it, or
            its path.
        """
        if comes_in_blocks(X, out):
            return by_blocks(self.predict, X, out, ("label",))
        X, coef, intercept, _ = self._ready(X)
        if len(intercept) == 1:
            coef, intercept = softmax_form(coef, intercept)
        labels = np.empty(len(X), np.int64)
        self._forward(X, _parameters(X, coef, intercept), calls.Sink(predictions=labels))
        return self.classes_[labels]

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the accuracy of `predict`, weighted by the samples' weights.

        Parameters
        ----------
        X : array_like, sparse matrix or `csoftmax.data.Shards` (n_samples, n_features)
        y : array_like (n_samples,), or probabilities (n_samples, n_classes)
            Of probabilities, in the order of `classes_`, the most probable class is right. Shards
            have their labels, and weights where they have any.
        sample_weight : array_like (n_samples,), optional
        """
        if isinstance(X, Shards):
            y, sample_weight = labels_in(X, y, sample_weight, self.classes_)
        target = probabilities_in(y)
        if target is not None:
            check_is_fitted(self, "coef_")
            y = self.classes_[checked_probabilities(target, X, self.classes_, "y").argmax(axis=1)]
        return float(super().score(X, y, sample_weight))

    def predict_proba(self, X: Any, *, out: Any = None) -> Any:
        """Return the probabilities of the classes, (n_samples, n_classes), in their order.

        Parameters
        ----------
        X : array_like, sparse matrix or `csoftmax.data.Shards` (n_samples, n_features)
        out : path, optional
            A .npy or .parquet file to write, block by block. The result is then a map of it, or
            its path.
        """

        if comes_in_blocks(X, out):
            return by_blocks(self.predict_proba, X, out, self._columns())

        def softmax(logits: Array) -> Array:
            return functional.softmax(logits, out=logits, n_threads=self._threads)

        return self._of_logits(X, softmax)

    def predict_log_proba(self, X: Any, *, out: Any = None) -> Any:
        """Return the logarithms of `predict_proba`, exact where the probability rounds to 0.

        Parameters
        ----------
        X : array_like, sparse matrix or `csoftmax.data.Shards` (n_samples, n_features)
        out : path, optional
            A .npy or .parquet file to write, block by block. The result is then a map of it, or
            its path.
        """

        if comes_in_blocks(X, out):
            return by_blocks(self.predict_log_proba, X, out, self._columns())

        def log_softmax(logits: Array) -> Array:
            return functional.log_softmax(logits, out=logits, n_threads=self._threads)

        return self._of_logits(X, log_softmax)

    def _columns(self, two_columns: bool = True) -> tuple[str, ...]:
        """Return the names of the columns of predictions."""
        check_is_fitted(self, "coef_")
        is_one = len(self.classes_) == 2 and not two_columns
        return tuple(map(str, self.classes_.tolist()))[int(is_one) :]

    @property
    def _threads(self) -> int:
        return threads(self.n_threads)

    def _forward(self, X: Stored, parameters: calls.Parameters, sink: calls.Sink) -> None:
        rows = calls.StoredRows(as_stored(X, parameters.b.dtype))
        calls.forward(rows, parameters, sink, self._threads)

    def _of_logits(
        self, X: Any, transform: Callable[[Array], Array], two_columns: bool = True
    ) -> Array:
        """Return a function of the logits of X, row by row, in the type of data and parameters."""
        X, coef, intercept, dtype = self._ready(X)
        parameters, n_logits = _parameters(X, coef, intercept), len(intercept)
        n_columns = 2 if two_columns and n_logits == 1 else n_logits
        result = np.empty((len(X), n_columns), dtype)
        for rows in blocks(len(X), _BLOCK_BYTES // (8 * n_columns)):
            logits = np.empty((rows.stop - rows.start, n_logits), intercept.dtype)
            self._forward(take(X, rows), parameters, calls.Sink(logits=logits))
            if n_columns > n_logits:
                logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
            result[rows] = transform(logits)
        return result

    def _ready(self, X: Any) -> tuple[Stored, Array, Array, np.dtype[Any]]:
        """Return checked X, parameters of the type to compute in, and the type of the results.

        float32 sums over pixels from 0 to 255 would cost probabilities their sixth digit. The sums
        of sparse rows are short, and a wide copy of their many weights would take longer.
        """
        check_is_fitted(self, "coef_")
        X = features(self, X)
        coef, intercept = dense_coef(self), np.asarray(self.intercept_)
        dtype = compute_dtype(X, coef, intercept)
        wide = dtype if isinstance(X, CSR) else FLOAT64
        return X, coef.astype(wide, copy=False), np.array(intercept, wide), dtype

    def _where_it_ended(self, dtype: Any) -> tuple[Array, Array]:
        """Return W and b of the last fit, to go on from.

        A class that had no sample has an intercept from which no minibatch would bring it back: it
        begins as the least probable of the others.
        """
        W, b = softmax_form(
            dense_coef(self).astype(dtype, copy=False), np.asarray(self.intercept_, dtype)
        )
        absent = np.isin(np.arange(len(b)), getattr(self, "_absent", []))
        if absent.any() and not absent.all():
            b[absent] = b[~absent].min()
        if not self.fit_intercept:
            b[:] = 0  # the last fit may have had an intercept
        return W, b

    def _keep(self, W: Array, b: Array, X: Stored) -> None:
        """Keep one head's parameters as scikit-learn shows them, laid out as such rows read them.

        Sparse rows read feature after feature.
        """
        coef, self.intercept_ = estimator_form(W, b)
        is_sparse = isinstance(X, CSR) or getattr(X, "is_sparse", False)  # of shards
        self.coef_ = np.asarray(coef, order="F" if is_sparse else "C")
