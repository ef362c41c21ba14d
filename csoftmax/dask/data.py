"""What is fitted on a cluster: Dask collections or shards, with their labels and weights."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.multiclass import check_classification_targets

from csoftmax.core.errors import DataError
from csoftmax.data.shard_labels import added, codes, counted
from csoftmax.data.shards import Shards
from csoftmax.engine import dask_parts as parts
from csoftmax.engine.dask import DaskRows
from csoftmax.engine.targets import CountedLabels
from csoftmax.estimators.inputs import FEATURE_DTYPES, is_dask, listed
from csoftmax.estimators.weights import checked_weight
from csoftmax.rows.shards import ShardRows

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

    def encoded(self, classes: Array | None = None) -> tuple[Array, Any]:
        """Return the classes, or those that are given, and each row's number among them."""
        if classes is None:
            return self._encoded
        known, labels = self._encoded
        unknown = np.setdiff1d(known, classes)
        if self._shards is not None and (len(unknown) or not isinstance(labels, CountedLabels)):
            return self._shards.encoded(classes)
        if len(unknown):
            raise ValueError(f"y has the label {unknown.tolist()[0]!r}, expected one of the "
                             f"classes {listed(classes)}")  # fmt: skip
        place = np.searchsorted(classes, known)
        if isinstance(labels, CountedLabels):
            counts = np.zeros(len(classes), np.int64)
            counts[place] = labels.counts
            return classes, CountedLabels(counts, partial(codes, classes))
        return classes, place.astype(labels.dtype)[labels]

    def weights(self) -> Array | None:
        return self._weights

    _encoded: tuple[Array, Any]
    _weights: Array | None
    _shards: Shards | None = None  # that the labels are read from


def on_cluster(
    client: Any, X: Any, y: Any, sample_weight: Any, labels_here: bool = True
) -> ClusterData:
    """Return what is fitted; without `labels_here` files of labels are read by the workers alone.

    Rows that have weights have their labels here.
    """
    if isinstance(X, Shards):
        if y is not None or sample_weight is not None:
            raise ValueError("y or sample_weight is given, but shards have their own")
        if X.is_sparse:
            raise ValueError("X has sparse shards, which are not fitted on a cluster: "
                             "csoftmax.SoftmaxClassifier fits them on one machine")  # fmt: skip
        if not X.n_rows:
            raise ValueError("X has 0 rows, expected at least one")
        data = ClusterData(DaskRows(client, X.rows))
        data.feature_names = X.feature_names
        by_workers = not labels_here and X.has_files_of_labels and not X.has_weights
        data._encoded = _counted(data.rows, X) if by_workers else X.encoded()
        data._weights, data._shards = X.weights(), X
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


def validation_on_cluster(client: Any, validation: Any, labels_here: bool = True) -> Any:
    """Return what is validated on, where that is on the cluster; other data as they are."""
    if isinstance(validation, Shards):
        return on_cluster(client, validation, None, None, labels_here)
    is_tuple = isinstance(validation, (tuple, list)) and len(validation) in (2, 3)
    if is_tuple and is_dask(validation[0]):
        X, y, *weight = validation
        return on_cluster(client, X, y, weight[0] if weight else None)
    return validation


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


def _counted(rows: DaskRows, shards: Shards) -> tuple[Array, Any]:
    """Return the classes, and labels that the workers have counted and will read."""
    client, units = rows.client, [parts.Packed(unit) for unit in rows.units]
    try:
        found = client.gather(client.map(_counted_of_unit, units, pure=False))
        found = [labels for labels in found if len(labels[0])]
        if len({labels.dtype.kind for labels, _ in found}) != 1:
            raise DataError("labels of two kinds, or none")
    except DataError:
        shards.encoded()  # names the row by its number in all rows
        raise
    classes, counts = added(found)
    return classes, CountedLabels(counts, partial(codes, classes))


def _counted_of_unit(unit: parts.Packed) -> tuple[Array, Array]:
    return counted(ShardRows(unit.content, 1, np.dtype(np.uint8)))


def _unique(labels: Any) -> Array:
    return np.unique(np.asarray(labels))


def _codes(classes: Array, dtype: Any, labels: Any) -> Array:
    return np.searchsorted(classes, np.asarray(labels)).astype(dtype)
