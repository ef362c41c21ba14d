"""Softmax regression on a Dask cluster: the parameters, attributes and bits of one machine.

    from csoftmax.dask import SoftmaxClassifier

    classifier = SoftmaxClassifier(C=0.01).fit(dX, dy)

X may be a Dask array (kept in the workers' memory during the fit), a Dask dataframe, or
`csoftmax.shards` whose files the workers can open by themselves. It needs the extra ``dask``:
``pip install 'csoftmax[dask]'``.
"""

from __future__ import annotations

import inspect
import os
import sys
import warnings
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from csoftmax import estimators
from csoftmax.data.shards import Shards
from csoftmax.engine.dask import DaskRows, pinned
from csoftmax.estimators.base import unchanged_by_failure
from csoftmax.estimators.full_shards import fit_shards_by_passes
from csoftmax.estimators.inputs import FEATURE_DTYPES, is_dask
from csoftmax.estimators.weights import checked_weight

__all__ = ["SoftmaxClassifier"]

Array = NDArray[Any]
Self = TypeVar("Self", bound="SoftmaxClassifier")
# Passes that take longer than this are saved one by one; a save of 10 x 784 takes 1 ms.
CHECKPOINT_SECONDS = 1.0


class SoftmaxClassifier(estimators.SoftmaxClassifier):
    """`csoftmax.SoftmaxClassifier` for rows that are on a Dask cluster.

    The same objective, parameters and attributes, and the same bits as `csoftmax.SoftmaxClassifier`
    has for the same rows in one array in memory, whatever the chunks and the workers, and whichever
    of them die. Only shards whose lengths are no multiples of 8,192 are rounded in other places.
    (Large shards on one machine are fitted by way of a sample, in fewer passes; not on a cluster.)

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
    Labels (a byte a row, for up to 256 classes) and weights (8 bytes a row) pass through the
    client, and a sample of the rows that preconditions. A pass is a few tasks for each thread of
    the cluster. The bits depend on the instruction set: the best one that all workers have is used.

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
        validation : (X, y) or (X, y, sample_weight), optional
            In memory here: evaluated after each pass.

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
        client = _client(self.client)
        with unchanged_by_failure(self):
            self._check_parameters()
            if self.solver == "sgd" or self._l1_ratio:
                what = 'solver is "sgd"' if self.solver == "sgd" else "l1_ratio is above 0"
                raise ValueError(f"{what}, which does not run on a cluster: expected full passes "
                                 "without L1")  # fmt: skip
            with pinned(client) as isa, client.as_current():
                data = _on_cluster(client, X, y, sample_weight)
                if self.verbose:
                    n = len(client.nthreads())
                    print(f"{n} workers, instruction set {isa}, {len(data.rows.units)} units of "
                          f"{data.rows.chunks_at_once} chunks", file=sys.stderr)  # fmt: skip
                shards: Any = data
                fit_shards_by_passes(
                    self, shards, None, None, validation, checkpoint=self.checkpoint,
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
        X = _features(X)
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
        """Return the accuracy of `predict`, weighted by the rows' weights."""
        if not is_dask(X):
            return super().score(X, y, sample_weight)
        client = _client(self.client)
        with client.as_current():
            right = np.asarray(self.predict(X).compute() == _column(y, "y"))
            weight = None if sample_weight is None else _column(sample_weight, "sample_weight")
        return float(np.average(right, weights=weight))


def _signature() -> inspect.Signature:
    """Return the parameters that scikit-learn is to see: those of the base class, and two more."""
    own = inspect.signature(SoftmaxClassifier.__init__).parameters
    base = inspect.signature(estimators.SoftmaxClassifier.__init__).parameters
    return inspect.Signature([*base.values(), own["client"], own["checkpoint"]])


SoftmaxClassifier.__init__.__signature__ = _signature()  # type: ignore[attr-defined]


# ---- what is fitted ----------------------------------------------------------------------------


class _ClusterData:
    """Rows on a cluster with their labels and weights: what a fit asks of `Shards`."""

    is_sparse = False
    feature_names: tuple[str, ...] = ()

    def __init__(self, rows: DaskRows) -> None:
        self.rows = rows
        self.n_rows, self.n_features = rows.shape

    def encoded(self) -> tuple[Array, Array]:
        return self._encoded

    def weights(self) -> Array | None:
        return self._weights

    _encoded: tuple[Array, Array]
    _weights: Array | None


def _on_cluster(client: Any, X: Any, y: Any, sample_weight: Any) -> _ClusterData:
    if isinstance(X, Shards):
        if y is not None or sample_weight is not None:
            raise ValueError("y or sample_weight is given, but shards have their own")
        if X.is_sparse:
            raise ValueError("X has sparse shards, expected dense ones")
        if not X.n_rows:
            raise ValueError("X has 0 rows, expected at least one")
        data = _ClusterData(DaskRows(client, X.rows))
        data.feature_names = X.feature_names
        data._encoded, data._weights = X.encoded(), X.weights()
        return data
    if not is_dask(X):
        raise TypeError(
            f"X is a {type(X).__module__}.{type(X).__name__}, expected a dask array, a dask "
            "dataframe or shards; csoftmax.SoftmaxClassifier fits what is in memory"
        )
    if y is None:
        raise ValueError("y is None, expected a label for each row of X")
    names = getattr(X, "columns", ())
    names = tuple(names) if len(names) and all(isinstance(n, str) for n in names) else ()
    X = _features(X)
    if any(np.isnan(X.chunks[0])):
        X = client.persist(X).copy()  # read once, then counted
        X.compute_chunk_sizes()
    if not X.shape[0]:
        raise ValueError("X has 0 rows, expected at least one")
    data = _ClusterData(DaskRows(client, X))
    data.feature_names = names
    data._encoded = _encoded(client, y, data.n_rows)
    given = None if sample_weight is None else _column(sample_weight, "sample_weight")
    data._weights = checked_weight(given, data.n_rows)
    return data


def _features(X: Any) -> Any:
    """Return a Dask collection as an array of a type that passes read, its rows in one piece."""
    X = X.to_dask_array() if hasattr(X, "to_dask_array") else X
    if X.ndim != 2:
        raise ValueError(f"X has shape {X.shape}, expected (n_rows, n_features)")
    if len(X.chunks[1]) > 1:
        raise ValueError(
            f"X is cut into {len(X.chunks[1])} chunks along its columns, expected whole rows: "
            "X.rechunk({1: -1}) has them"
        )
    if not isinstance(X._meta, np.ndarray):
        raise TypeError(f"X has blocks of {type(X._meta).__name__}, expected NumPy arrays")
    if X.dtype.kind not in "biuf" or X.dtype.itemsize > 8:
        raise TypeError(f"X has dtype {X.dtype}, expected booleans, integers or floats")
    if X.dtype == np.bool_:
        return X.astype(np.uint8)
    if X.dtype == np.int8:
        return X.astype(np.float32)
    return X if X.dtype in FEATURE_DTYPES else X.astype(np.float64)


def _column(values: Any, name: str) -> Array:
    """Return a Dask array or series, or anything like an array, as an array here."""
    if is_dask(values):
        values = values.compute()
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}, expected one number for each row")
    return array


def _encoded(client: Any, y: Any, n_rows: int) -> tuple[Array, Array]:
    """Return the classes and each row's number among them; labels are encoded on the workers."""
    import dask

    blocks: list[Any] = []
    if is_dask(y):
        y = y.to_dask_array() if hasattr(y, "to_dask_array") else y
        if y.ndim != 1:
            raise ValueError(f"y has shape {y.shape}, expected one label for each row")
        y = client.persist(y)
        blocks = y.to_delayed().reshape(-1).tolist()
        found = dask.compute(*[dask.delayed(_unique)(block) for block in blocks])
    else:
        y = _column(y, "y")
        found = (_unique(y),)
    classes = np.unique(np.concatenate(found))
    if classes.dtype.kind == "f" and np.isnan(classes).any():
        raise ValueError("y has NaN, expected a label for each row")
    check_classification_targets(classes)
    code = partial(_codes, classes, np.min_scalar_type(max(1, len(classes) - 1)))
    parts = dask.compute(*[dask.delayed(code)(block) for block in blocks]) if blocks else [code(y)]
    codes = np.concatenate(parts)
    if len(codes) != n_rows:
        raise ValueError(f"y has {len(codes)} labels but X has {n_rows} rows")
    return classes, codes


def _unique(labels: Any) -> Array:
    return np.unique(np.asarray(labels))


def _codes(classes: Array, dtype: Any, labels: Any) -> Array:
    return np.searchsorted(classes, np.asarray(labels)).astype(dtype)


def _of_block(X: Array, local: estimators.SoftmaxClassifier, method: str) -> Any:
    """Predict for one block, on one thread: workers have one for each task."""
    if not len(X):
        columns = (len(local.classes_),) if method.endswith("proba") else ()
        return np.empty((0, *columns))
    with warnings.catch_warnings():  # names were compared before
        warnings.filterwarnings("ignore", "X does not have valid feature names")
        local.n_threads = 1
        return getattr(local, method)(X)


def _client(client: Any) -> Any:
    """Return a client, or the current one."""
    try:
        from distributed import default_client
    except ImportError as error:
        raise ImportError(
            "csoftmax.dask needs dask and distributed: pip install 'csoftmax[dask]'"
        ) from error
    if client is not None:
        return client
    try:
        return default_client()
    except ValueError:
        raise ValueError(
            "client is None and there is no current client: distributed.Client(address) makes one"
        ) from None
