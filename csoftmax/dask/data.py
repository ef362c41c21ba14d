"""What is fitted on a cluster: Dask collections or shards, with their labels and weights."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.multiclass import check_classification_targets

from csoftmax.data.shards import Shards
from csoftmax.engine.dask import DaskRows
from csoftmax.estimators.inputs import FEATURE_DTYPES, is_dask
from csoftmax.estimators.weights import checked_weight

Array = NDArray[Any]


def client_of(client: Any) -> Any:
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


class ClusterData:
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


def on_cluster(client: Any, X: Any, y: Any, sample_weight: Any) -> ClusterData:
    if isinstance(X, Shards):
        if y is not None or sample_weight is not None:
            raise ValueError("y or sample_weight is given, but shards have their own")
        if X.is_sparse:
            raise ValueError("X has sparse shards, expected dense ones")
        if not X.n_rows:
            raise ValueError("X has 0 rows, expected at least one")
        data = ClusterData(DaskRows(client, X.rows))
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
    X = features_of(X)
    if any(np.isnan(X.chunks[0])):
        X = client.persist(X).copy()  # read once, then counted
        X.compute_chunk_sizes()
    if not X.shape[0]:
        raise ValueError("X has 0 rows, expected at least one")
    data = ClusterData(DaskRows(client, X))
    data.feature_names = names
    data._encoded = _encoded(client, y, data.n_rows)
    given = None if sample_weight is None else column_of(sample_weight, "sample_weight")
    data._weights = checked_weight(given, data.n_rows)
    return data


def features_of(X: Any) -> Any:
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


def column_of(values: Any, name: str) -> Array:
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
        y = column_of(y, "y")
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
