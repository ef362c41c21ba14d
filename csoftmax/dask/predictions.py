"""Predictions for Dask collections, and estimators that are fitted on a cluster and go home."""

from __future__ import annotations

import copy
import inspect
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted, validate_data

from csoftmax.core.checks import FLOAT64
from csoftmax.dask.data import client_of, features_of, on_cluster
from csoftmax.data.shards import Shards
from csoftmax.engine.dask import pinned
from csoftmax.estimators.base import LinearSoftmax, dense_coef
from csoftmax.estimators.inputs import is_dask
from csoftmax.estimators.monitor import evaluated
from csoftmax.estimators.sgd_shards import features_of_shards
from csoftmax.solver.two_classes import softmax_form

Array = NDArray[Any]


class OnCluster(LinearSoftmax):
    """What an estimator on a cluster has besides its local twin."""

    client: Any
    _twin: type[LinearSoftmax]

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "client": None}  # a connection stays where it is

    def __sklearn_clone__(self) -> Any:
        """Return an unfitted estimator with these parameters; the client is the same."""
        given = self.get_params(deep=False)
        client = given.pop("client")
        other = type(self)(client=client, **{n: clone(v, safe=False) for n, v in given.items()})
        for name in ("_metadata_request", "_sklearn_output_config"):  # settings, too
            if hasattr(self, name):
                setattr(other, name, copy.deepcopy(getattr(self, name)))
        return other

    def to_local(self) -> Any:
        """Return an estimator of this machine with the same parameters and attributes."""
        given, names = self.get_params(deep=False), inspect.signature(self._twin).parameters
        local = self._twin(**{name: value for name, value in given.items() if name in names})
        here = given.keys() - names.keys()
        local.__dict__.update({name: v for name, v in vars(self).items() if name not in here})
        return local

    def predict(self, X: Any, *, out: Any = None) -> Any:
        """Return the most probable classes; of Dask collections a lazy array of unknown values."""
        if not is_dask(X):
            return super().predict(X, out=out)
        check_is_fitted(self, "coef_")
        return self._lazily("predict", X, self.classes_.dtype, 1, out)

    def predict_proba(self, X: Any, *, out: Any = None) -> Any:
        """Return the probabilities of the classes; of Dask collections a lazy array."""
        if not is_dask(X):
            return super().predict_proba(X, out=out)
        return self._lazily("predict_proba", X, None, 2, out)

    def predict_log_proba(self, X: Any, *, out: Any = None) -> Any:
        """Return the logarithms of the probabilities; of Dask collections a lazy array."""
        if not is_dask(X):
            return super().predict_log_proba(X, out=out)
        return self._lazily("predict_log_proba", X, None, 2, out)

    def decision_function(self, X: Any, *, out: Any = None) -> Any:
        """Return the logits; of Dask collections a lazy array, (n_rows,) for two classes."""
        if not is_dask(X):
            return super().decision_function(X, out=out)
        check_is_fitted(self, "coef_")
        return self._lazily("decision_function", X, None, 1 + (len(self.classes_) > 2), out)

    def _score_of_shards(self, X: Shards, y: Any, sample_weight: Any) -> float:
        """Return the accuracy on shards, which workers read, with their labels."""
        check_is_fitted(self, "coef_")
        client = client_of(self.client)
        with client.as_current(), pinned(client):
            data = on_cluster(client, X, y, sample_weight, labels_here=False)
            features_of_shards(self, X, reset=False)
            codes, weight = data.encoded(self.classes_)[1], data.weights()
            passes = data.rows.passes(
                codes, len(self.classes_), weights=None if weight is None else weight[None]
            )
            # in float64, as predictions are made
            W, b = softmax_form(dense_coef(self), np.asarray(self.intercept_, FLOAT64))
            return evaluated(passes, codes, weight, W, b, None)[1]

    def _lazily(self, method: str, X: Any, dtype: Any, ndim: int, out: Any) -> Any:
        check_is_fitted(self, "coef_")
        if out is not None:
            raise ValueError(f"out is {str(out)!r}, which is for rows that are read here: of a "
                             "Dask collection the result is lazy, and writes itself by to_zarr "
                             "or dask.array.to_npy_stack")  # fmt: skip
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


def signature_of(init: Any, twin: Any) -> inspect.Signature:
    """Return the parameters that scikit-learn is to see: those of the twin, and those of `init`."""
    own = inspect.signature(init).parameters.values()
    of_twin = inspect.signature(twin.__init__).parameters.values()
    return inspect.Signature([*of_twin, *(p for p in own if p.kind is p.KEYWORD_ONLY)])


def _of_block(X: Array, local: Any, method: str) -> Any:
    """Predict for one block, on one thread: workers have one for each task."""
    if not len(X):
        columns = (len(local.classes_),) if method.endswith("proba") else ()
        return np.empty((0, *columns))
    with warnings.catch_warnings():  # names were compared before
        warnings.filterwarnings("ignore", "X does not have valid feature names")
        local.n_threads = 1
        return getattr(local, method)(X)
