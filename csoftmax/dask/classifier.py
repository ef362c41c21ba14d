"""The classifier whose rows are on a cluster."""

from __future__ import annotations

import inspect
import os
import sys
import warnings
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted, validate_data

from csoftmax import estimators
from csoftmax.dask.data import (
    client_of,
    column_of,
    features_of,
    on_cluster,
    validation_on_cluster,
)
from csoftmax.data.shards import Shards
from csoftmax.engine.dask import pinned
from csoftmax.estimators.base import dense_coef, unchanged_by_failure
from csoftmax.estimators.full_shards import fit_shards_by_passes
from csoftmax.estimators.inputs import is_dask
from csoftmax.estimators.monitor import evaluated
from csoftmax.estimators.sgd_shards import features_of_shards
from csoftmax.solver.two_classes import softmax_form

Array = NDArray[Any]
Self = TypeVar("Self", bound="SoftmaxClassifier")
# Passes that take longer than this are saved one by one; a save of 10 x 784 takes 1 ms.
CHECKPOINT_SECONDS = 1.0


class SoftmaxClassifier(estimators.SoftmaxClassifier):
    """`csoftmax.SoftmaxClassifier` for rows that are on a Dask cluster.

    The same objective, parameters and attributes, and the same bits as `csoftmax.SoftmaxClassifier`
    has for the same rows in one array in memory, whatever the chunks and the workers, and whichever
    of them die. Shards have the bits that they have on one machine, where large ones are fitted by
    way of a sample, in few passes. Those whose lengths are no multiples of 8,192 are rounded in
    other places than one array.

    Parameters
    ----------
    C, tol, fit_intercept, class_weight, max_iter, warm_start, max_memory, verbose
        As in `csoftmax.SoftmaxClassifier`. L1 and minibatches do not run on a cluster.
    client : distributed.Client, optional
        None: the current client.
    checkpoint : path, optional
        A file that the state is saved to, at most once a second. If it exists, `fit` goes on from
        there: also on another cluster, to the same bits.

    Notes
    -----
    Files of labels are read by the workers. Weights (8 bytes a row) pass through the client, and so
    do labels (a byte a row, for up to 256 classes) that are in memory, or in a Dask collection, or
    come with weights of rows or classes.

    A sample of the rows comes here: up to 64 MB that precondition. Of shards of 1 GB or more it is
    up to 512 MB, which are sent once and make 3 to 6 passes of 10 to 50. (Of 784 pixels in 10
    classes it has 685,000 rows, where there are eight times as many.)

    A pass is a few tasks for each thread of the cluster, more where it takes long. The bits depend
    on the instruction set: the best one that all workers have is used.

    Examples
    --------
    >>> import csoftmax.dask
    >>> csoftmax.dask.SoftmaxClassifier(C=0.1).get_params()["checkpoint"] is None
    True
    """

    def __init__(
        self,
        *,
        client: Any = None,
        checkpoint: str | os.PathLike[str] | None = None,
        **parameters: Any,
    ) -> None:
        super().__init__(**parameters)
        self.client = client
        self.checkpoint = checkpoint

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "client": None}  # a connection stays where it is

    def fit(
        self: Self, X: Any, y: Any = None, sample_weight: Any = None, *, validation: Any = None
    ) -> Self:
        """Fit to rows X and labels y.

        Parameters
        ----------
        X : dask array (n_rows, n_features), dask dataframe, or `csoftmax.data.Shards`
            Rows are cut as one likes, features are not. Unknown lengths are counted.
        y : dask array or series, or array_like, (n_rows,), optional
            Shards have their own labels, and weights.
        sample_weight : dask array or series, or array_like, (n_rows,), optional
        validation : (X, y), (X, y, sample_weight) or `csoftmax.data.Shards`, optional
            Evaluated after each pass: on the workers, unless X is in memory here.

        Returns
        -------
        self

        Raises
        ------
        ConnectionError
            If the scheduler is gone. `checkpoint` goes on from where it was.
        ImportError
            Without the packages dask and distributed.
        TypeError, ValueError
            For parameters and data that do not fit.

        Warns
        -----
        ConvergenceWarning
            If it stopped before `tol`; after Ctrl-C too, which keeps the best parameters so far.
        """
        client = client_of(self.client)
        with unchanged_by_failure(self):
            self._check_parameters()
            if self.solver == "sgd" or self._l1_ratio:
                what = 'solver is "sgd"' if self.solver == "sgd" else "l1_ratio is above 0"
                raise ValueError(f"{what}, which does not run on a cluster: expected full passes "
                                 "without L1")  # fmt: skip
            with pinned(client) as isa, client.as_current():
                here = self.class_weight is not None  # which makes weights of labels
                data = on_cluster(client, X, y, sample_weight, labels_here=here)
                if self.verbose:
                    n = len(client.nthreads())
                    print(f"{n} workers, instruction set {isa}, {len(data.rows.units)} units of "
                          f"{data.rows.chunks_at_once} chunks", file=sys.stderr)  # fmt: skip
                shards: Any = data
                fit_shards_by_passes(
                    self, shards, None, None, validation_on_cluster(client, validation, here),
                    checkpoint=self.checkpoint,
                    checkpoint_every=CHECKPOINT_SECONDS,
                )  # fmt: skip
        return self

    def to_local(self) -> estimators.SoftmaxClassifier:
        """Return a `csoftmax.SoftmaxClassifier` with the same parameters and attributes."""
        given = self.get_params(deep=False)
        del given["client"], given["checkpoint"]
        local = estimators.SoftmaxClassifier(**given)
        here = {"client", "checkpoint"}
        local.__dict__.update({name: v for name, v in vars(self).items() if name not in here})
        return local

    # ---- predictions ---------------------------------------------------------------------------

    def predict(self, X: Any, *, out: Any = None) -> Any:
        """Return the most probable classes; of Dask collections a lazy array of unknown values."""
        if not is_dask(X):
            return super().predict(X, out=out)
        check_is_fitted(self, "coef_")
        return self._lazily("predict", X, self.classes_.dtype, 1)

    def predict_proba(self, X: Any, *, out: Any = None) -> Any:
        """Return the probabilities of the classes; of Dask collections a lazy array."""
        if not is_dask(X):
            return super().predict_proba(X, out=out)
        return self._lazily("predict_proba", X, None, 2)

    def predict_log_proba(self, X: Any, *, out: Any = None) -> Any:
        """Return the logarithms of the probabilities; of Dask collections a lazy array."""
        if not is_dask(X):
            return super().predict_log_proba(X, out=out)
        return self._lazily("predict_log_proba", X, None, 2)

    def decision_function(self, X: Any, *, out: Any = None) -> Any:
        """Return the logits; of Dask collections a lazy array, (n_rows,) for two classes."""
        if not is_dask(X):
            return super().decision_function(X, out=out)
        check_is_fitted(self, "coef_")
        return self._lazily("decision_function", X, None, 1 + (len(self.classes_) > 2))

    def _lazily(self, method: str, X: Any, dtype: Any, ndim: int) -> Any:
        check_is_fitted(self, "coef_")
        if hasattr(X, "columns"):
            validate_data(self, X._meta, reset=False, skip_check_array=True)  # names
        X = features_of(X)
        if X.shape[1] != self.n_features_in_:
            raise ValueError(f"X has {X.shape[1]} features, expected {self.n_features_in_} as in "
                             "the last fit")  # fmt: skip
        if dtype is None:
            both = np.result_type(self.coef_.dtype, X.dtype)
            dtype = np.dtype(np.float64 if both.itemsize > 4 else np.float32)
        local = self.to_local()
        meta = np.empty((0,) * ndim, dtype)
        if ndim == 1:
            return X.map_blocks(_of_block, local, method, drop_axis=1, dtype=dtype, meta=meta)
        chunks = X.chunks[0], (len(self.classes_),)
        return X.map_blocks(_of_block, local, method, chunks=chunks, dtype=dtype, meta=meta)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the accuracy of `predict`, weighted by the rows' weights.

        What is in memory here is scored here, Dask collections and shards on the workers.
        """
        if not is_dask(X) and not isinstance(X, Shards):
            return super().score(X, y, sample_weight)
        check_is_fitted(self, "coef_")
        client = client_of(self.client)
        if isinstance(X, Shards) and not X.is_sparse:
            with client.as_current(), pinned(client):
                return self._score_of_shards(client, X, y, sample_weight)
        with client.as_current():
            right = np.asarray(self.predict(X).compute() == column_of(y, "y"))
            weight = None if sample_weight is None else column_of(sample_weight, "sample_weight")
        return float(np.average(right, weights=weight))

    def _score_of_shards(self, client: Any, X: Shards, y: Any, sample_weight: Any) -> float:
        data = on_cluster(client, X, y, sample_weight, labels_here=False)
        features_of_shards(self, X, reset=False)
        codes, weight = data.encoded(self.classes_)[1], data.weights()
        passes = data.rows.passes(
            codes, len(self.classes_), weights=None if weight is None else weight[None]
        )
        W, b = softmax_form(dense_coef(self), np.asarray(self.intercept_))
        return evaluated(passes, codes, weight, W, b, None)[1]


def _signature() -> inspect.Signature:
    """Return the parameters that scikit-learn is to see: those of the base class, and two more."""
    own = inspect.signature(SoftmaxClassifier.__init__).parameters
    base = inspect.signature(estimators.SoftmaxClassifier.__init__).parameters
    return inspect.Signature([*base.values(), own["client"], own["checkpoint"]])


SoftmaxClassifier.__init__.__signature__ = _signature()  # type: ignore[attr-defined]


def _of_block(X: Array, local: estimators.SoftmaxClassifier, method: str) -> Any:
    """Predict for one block, on one thread: workers have one for each task."""
    if not len(X):
        columns = (len(local.classes_),) if method.endswith("proba") else ()
        return np.empty((0, *columns))
    with warnings.catch_warnings():  # names were compared before
        warnings.filterwarnings("ignore", "X does not have valid feature names")
        local.n_threads = 1
        return getattr(local, method)(X)
