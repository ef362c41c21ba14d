"""Minibatches of rows in shards, window by window as `csoftmax.data.shard_loader` reads them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.checks import FLOAT64, as_weights
from csoftmax.core.errors import DataError
from csoftmax.data.shard_loader import WINDOW_BYTES, rows_of_window, windows
from csoftmax.data.shards import Shards
from csoftmax.estimators.fit import FitTask
from csoftmax.estimators.inputs import as_bytes
from csoftmax.estimators.sgd import SAMPLED_ROWS, MinibatchDescent, RowsLoader
from csoftmax.estimators.weights import rows_that_count, weights_of_classes
from csoftmax.rows.base import blocks
from csoftmax.rows.shards import ShardRows

Array = NDArray[Any]
_LABELS_AT_ONCE = 1 << 20


@dataclass
class ShardTask(FitTask):
    """A fit to shards: X has a sample of the rows, y the classes of all rows as small integers."""

    shards: Shards = field(kw_only=True)
    by_class: Array | None = field(kw_only=True)  # weights of the classes
    class_mass: NDArray[np.float64] = field(kw_only=True)
    n_counting: int = field(kw_only=True)  # how many rows have a weight > 0
    window_rows: int = field(kw_only=True)

    @property
    def mass(self) -> NDArray[np.float64]:
        """How much weight each class has."""
        return self.class_mass

    @property
    def total(self) -> float:
        """The sum of the weights."""
        return float(self.class_mass.sum())

    def loaders(
        self, descent: MinibatchDescent, batch_size: int
    ) -> Iterator[tuple[RowsLoader, Array | None]]:
        """Yield the windows of an epoch, and the weights of their rows, whose mean is 1 in all."""
        mean = self.total / max(1, self.n_counting)
        for X, at in windows(self.shards.rows, self.window_rows, descent.random):
            y = np.concatenate([self.y[some] for some in at]).astype(np.int64)
            weight = _weights(self.shards, at, y, self.by_class)
            rows = rows_that_count(weight)
            if rows is not None and not len(rows):
                continue
            loader = RowsLoader(X, y, rows, batch_size, descent.scale, descent.random)
            yield loader, None if weight is None else weight / mean

    def raise_bad_value(self) -> None:
        """Raise DataError for the first value of a row that counts which is not finite."""
        rows = self.shards.rows
        for some, block in rows.blocks(8192):
            weight = _weights(self.shards, [some], self.y[some], self.by_class)
            counting = rows_that_count(weight)
            if counting is None:
                rows.check_finite(some.start, block)
                continue
            for i in counting.tolist():
                rows.check_finite(some.start + i, block[i : i + 1])


def features_of_shards(estimator: Any, shards: Shards, *, reset: bool) -> None:
    """Let an estimator know the features of shards, or compare them with those that it knows."""
    if not reset:
        if shards.n_features != estimator.n_features_in_:
            raise ValueError(f"X has {shards.n_features} features, expected "
                             f"{estimator.n_features_in_} as in the last fit")  # fmt: skip
        return
    if not shards.n_rows:
        raise ValueError("X has 0 rows, expected at least one")
    estimator.n_features_in_ = shards.n_features
    vars(estimator).pop("feature_names_in_", None)
    if shards.feature_names:
        estimator.feature_names_in_ = np.array(shards.feature_names, object)


def shard_task(
    estimator: Any, shards: Shards, classes: Array | None, seen: float = 0.0
) -> tuple[ShardTask, Array]:
    """Return what is fitted, and the classes: those of the labels where none are given.

    The labels and weights of all shards are read. Raises ValueError where there is one class only,
    or no weight; DataError for a label that is not one of the classes, or a weight that is none.
    """
    found, codes = shards.encoded(classes)
    if len(found) < 2:
        raise ValueError(f"y has only one class, {found.tolist()!r}; expected at least two")
    by_class, mass, n_counting = _masses(estimator.class_weight, shards, found, codes)
    if not mass.any():
        raise ValueError("the weights of all rows are zero, expected some weight")
    # a quarter of `max_memory` at most
    window_bytes = min(WINDOW_BYTES, as_bytes(estimator.max_memory) / 4)
    window_rows = rows_of_window(shards.rows, estimator.batch_size, window_bytes)
    n_sampled = min(SAMPLED_ROWS, shards.n_rows, max(64, window_rows))
    some = np.unique(np.linspace(0, shards.n_rows - 1, n_sampled).astype(np.int64))
    sample = shards.rows.take(some)
    weight = _weights(shards, [slice(i, i + 1) for i in some.tolist()], codes[some], by_class)
    if weight is not None and weight.any():  # rows of no weight may hold anything
        sample = sample[np.flatnonzero(weight)]
    task = ShardTask(
        sample, codes, len(found), None, None, float(estimator.C), seen, estimator._l1_ratio,
        shards=shards, by_class=by_class, class_mass=mass, n_counting=n_counting,
        window_rows=window_rows,
    )  # fmt: skip
    if not np.isfinite(sample.data if task.shards.is_sparse else sample).all():
        task.raise_bad_value()  # a scale that is measured on it would be none
    return task, found


def _masses(
    class_weight: Any, shards: Shards, classes: Array, codes: Array
) -> tuple[Array | None, NDArray[np.float64], int]:
    """Return the weights of the classes, how much weight each has, and how many rows count."""
    mass, counts = np.zeros(len(classes)), np.zeros(len(classes), np.int64)
    for some in blocks(shards.n_rows, _LABELS_AT_ONCE):
        weight = _weights(shards, [some], codes[some], None)
        mass += np.bincount(codes[some], weight, len(classes))
        counting = codes[some] if weight is None else codes[some][weight > 0]
        counts += np.bincount(counting, minlength=len(classes))
    # each class as one row that has its weight
    by_class = weights_of_classes(class_weight, classes, np.arange(len(classes)), mass)
    if by_class is not None:
        mass, counts = mass * by_class, np.where(by_class > 0, counts, 0)
    return by_class, mass, int(counts.sum())


def _weights(shards: Shards, at: list[slice], y: Array, by_class: Array | None) -> Array | None:
    """Return the weights of rows at some places, times those of their classes; None: all 1."""
    weight = None if by_class is None else by_class[y]
    if not shards.has_weights:
        return weight
    rows = shards.rows
    parts = [part for some in at for part in _weights_of(rows, some)]
    of_rows = np.concatenate(parts)
    return of_rows if weight is None else of_rows * weight


def _weights_of(rows: ShardRows, some: slice) -> Iterator[Array]:
    """Yield the weights of rows, which may be in several shards."""
    start = some.start
    while start < some.stop:
        s = rows.shard_of(start)
        shard, first = rows.shards[s], int(rows.starts[s])
        stop = min(some.stop, first + shard.n_rows)
        assert shard.weights is not None
        given = shard.weights(start - first, stop - first)
        try:
            yield as_weights(given, stop - start, "weights", FLOAT64)
        except (TypeError, ValueError) as error:
            raise DataError(f"{shard.name}: rows {start - first} to {stop - first}: {error}"
                            ) from error  # fmt: skip
        start = stop
