"""How good a model is on labelled data: in one pass over an array, block by block over shards."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.checks import Stored, check_threads
from csoftmax.core.names import class_order
from csoftmax.data import DataLoader
from csoftmax.data.shard_loader import ShardLoader
from csoftmax.engine import calls
from csoftmax.labelled import (
    Data,
    are_shards,
    as_loader,
    check_labelled,
    check_model,
    check_shards,
    scale_of,
)
from csoftmax.model import SoftmaxRegression
from csoftmax.results import Epoch, Metrics
from csoftmax.rows.base import as_stored

if TYPE_CHECKING:
    from csoftmax.data.shards import Shards

Array = NDArray[Any]
_ROWS = 1 << 16  # of shards at a time


def evaluate(
    model: SoftmaxRegression, data: Data | Shards | ShardLoader, *, n_threads: int | None = None
) -> Metrics:
    """Return loss, accuracy, precision and recall by class, and the confusion matrix.

    Parameters
    ----------
    model : SoftmaxRegression
        The model.
    data : DataLoader, Dataset, (X, y) or `csoftmax.data.Shards`
        Integers are multiplied by the model's scale: `SoftmaxRegression` has the rule. Shards have
        their labels, and are read block by block; each row counts once, whatever it weighs.
    n_threads : int, optional
        At most so many threads; None: all CPUs that this process may use.

    Returns
    -------
    Metrics

    Raises
    ------
    TypeError, ValueError
        For data that do not fit the model.
    DataError
        For a value of shards that is not finite, or a label that the model does not know: names
        its shard and row.

    Notes
    -----
    D2L section 3.6, ``evaluate_accuracy``.

    Examples
    --------
    >>> import csoftmax as cs
    >>> _, test = cs.fashion_mnist_sample()
    >>> metrics = cs.evaluate(cs.SoftmaxRegression(784, 10, seed=0), test)
    >>> metrics.n_samples, round(metrics.loss)
    (1000, 2)
    """
    check_model(model)
    given: Any = data
    if are_shards(data):
        given = ShardLoader(given, scale=model._scale)
    if isinstance(given, ShardLoader):
        return _evaluate_shards(model, given, n_threads)
    loader = as_loader(given, "data", model.scale)
    features, labels = check_labelled(model, loader, "data")
    predictions = np.empty(len(labels), np.int64)
    scale = scale_of(model, loader, "data", stacklevel=3)
    done = _pass(model, features, labels, scale, predictions, n_threads)
    return _metrics(model, loader, done, _confusion(labels, predictions, model.n_classes))


def evaluate_epoch(
    model: SoftmaxRegression, loader: DataLoader | ShardLoader, n_threads: int | None = None
) -> Epoch:
    """Return loss and accuracy alone."""
    if isinstance(loader, ShardLoader):
        started = time.perf_counter()
        metrics = _evaluate_shards(model, loader, n_threads)
        seconds = time.perf_counter() - started
        return Epoch(metrics.loss, metrics.accuracy, seconds, metrics.n_samples)
    features, labels = check_labelled(model, loader, "data")
    return _pass(model, features, labels, scale_of(model, loader, "data"), None, n_threads)


def _pass(
    model: SoftmaxRegression,
    features: Stored,
    labels: Array,
    scale: float,
    predictions: Array | None,
    n_threads: int | None,
) -> Epoch:
    """Evaluate checked rows, and fill in the predictions where they are wanted."""
    started = time.perf_counter()
    loss, n_correct = calls.evaluate(
        calls.StoredRows(as_stored(features, model.dtype), scale),
        calls.Parameters(calls.weights_for(features, model.W, model.dtype), model.b),
        calls.Targets(labels),
        calls.Sink(predictions=predictions),
        check_threads(n_threads),
    )
    n = len(labels)
    seconds = time.perf_counter() - started
    return Epoch(loss / n if n else math.nan, n_correct / n if n else math.nan, seconds, n)


def _evaluate_shards(
    model: SoftmaxRegression, loader: ShardLoader, n_threads: int | None
) -> Metrics:
    labels, rows = check_shards(model, loader, "data"), loader.X
    scale = scale_of(model, loader, "data")
    confusion = np.zeros((model.n_classes, model.n_classes), np.int64)
    losses = []
    for some, block in rows.blocks(_ROWS):
        of_block = labels[some].astype(np.int64)
        predictions = np.empty(len(of_block), np.int64)
        done = _pass(model, block, of_block, scale, predictions, n_threads)
        if not math.isfinite(done.loss):
            rows.check_finite(some.start, block)
        losses.append(done.loss * done.n_samples)
        confusion += _confusion(of_block, predictions, model.n_classes)
    n = rows.n_rows
    accuracy = np.diagonal(confusion).sum() / n if n else math.nan
    loss = math.fsum(losses) / n if n and np.isfinite(losses).all() else math.nan
    return _metrics(model, loader, Epoch(loss, float(accuracy), 0.0, n), confusion)


def _confusion(labels: Array, predictions: Array, n_classes: int) -> NDArray[np.int64]:
    wide = labels.astype(np.int64, copy=False)  # small ones would overflow
    pairs = np.bincount(wide * n_classes + predictions, minlength=n_classes**2)
    return pairs.reshape(n_classes, n_classes)


def _metrics(
    model: SoftmaxRegression, loader: DataLoader | ShardLoader, done: Epoch,
    confusion: NDArray[np.int64],
) -> Metrics:  # fmt: skip
    right = np.diagonal(confusion)
    with np.errstate(invalid="ignore"):
        precision, recall = right / confusion.sum(axis=0), right / confusion.sum(axis=1)
    same = class_order(loader.class_names, model._class_names, model.n_classes, "data") is None
    names = loader.class_names if same and loader.class_names else model.class_names
    return Metrics(done.loss, done.accuracy, precision, recall, confusion, names, done.n_samples)
