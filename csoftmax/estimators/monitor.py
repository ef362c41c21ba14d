"""Validation after each pass: on which rows, how good the parameters are, when to stop."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax import functional
from csoftmax.core.checks import check_number, compute_dtype
from csoftmax.data.split import stratified_rows
from csoftmax.engine.shard_passes import ShardPasses
from csoftmax.engine.sparse_shard_passes import bytes_of_windows, passes_of_shards
from csoftmax.estimators.by_blocks import has_shards
from csoftmax.estimators.inputs import Labels, more_samples, most_probable
from csoftmax.estimators.weights import checked_weight, with_class_weights
from csoftmax.rows.base import Stored, blocks, take
from csoftmax.solver import Progress

Array = NDArray[Any]
Columns = dict[str, list[float]]  # `history_` of an estimator: a list for each name
_BLOCK_BYTES = 1 << 24  # of logits at a time
# What scikit-learn takes for each row while it draws those to hold out: 94 bytes, measured on
# 1,000,000 rows.
SPLIT_BYTES = 100


@dataclass
class Monitor:
    """Evaluates validation data after each pass, keeps the best parameters, says when to stop."""

    X: Stored | ShardPasses  # rows of shards are not in memory
    y: Array  # labels, or a row of probabilities for each sample
    weight: Array | None
    patience: int | None  # None: never stop
    tol: float
    n_threads: int | None
    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    best: float = math.inf
    best_parameters: tuple[Array, Array] | None = None
    without_progress: int = 0
    evaluated: dict[float, int] = field(default_factory=dict)  # which loss has which objective

    @property
    def n_bytes(self) -> int:
        """What the rows take, and their targets and weights; of shards their windows."""
        arrays = self.y, self.weight
        rows = bytes_of_windows(self.X.rows) if isinstance(self.X, ShardPasses) else self.X.nbytes
        wide = 8 * len(self.y) if self.y.ndim == 1 else 0  # labels as functions read them
        return rows + wide + sum(array.nbytes for array in arrays if array is not None)

    @property
    def reads_shards(self) -> bool:
        return isinstance(self.X, ShardPasses)

    def watch(self, progress: Progress) -> bool:
        """Be the callback of the solver: True tells it to stop.

        A pass may evaluate a trial step that is no good. Then parameters and objective are as they
        were, and are not evaluated again.
        """
        now = float(progress.objective[0])
        if now in self.evaluated:
            return False
        self.evaluated[now] = len(self.losses)
        return self.after(*progress.parameters(0))

    def after(self, W: Array, b: Array) -> bool:
        """Evaluate the parameters; True if there has been no progress for too long."""
        loss, accuracy = evaluated(self.X, self.y, self.weight, W, b, self.n_threads)
        self.losses.append(loss)
        self.accuracies.append(accuracy)
        if self.patience is None:
            return False
        self.without_progress += 1
        if loss < self.best * (1 - self.tol):
            self.without_progress = 0
        if loss < self.best:  # NaN never is
            self.best, self.best_parameters = loss, (W.copy(), b.copy())
        return self.without_progress >= self.patience

    def record(self, history: Columns) -> None:
        """Add the evaluations, in the order of the history's entries.

        Raises ValueError if early stopping had no number to go by.
        """
        if self.patience is not None and self.losses and self.best_parameters is None:
            raise ValueError(
                f"the validation loss is {self.losses[-1]} after every pass, expected a finite "
                "number: the features of the validation data are too large"
            )
        order: Iterable[int] = range(len(self.losses))
        if self.evaluated:
            order = [self.evaluated[objective] for objective in history["objective"]]
        history["validation_loss"] = [self.losses[i] for i in order]
        history["validation_accuracy"] = [self.accuracies[i] for i in order]


def evaluated(
    X: Stored | ShardPasses, y: Array, weight: Array | None, W: Array, b: Array,
    n_threads: int | None,
) -> tuple[float, float]:  # fmt: skip
    """Return the weighted means of loss and accuracy; W is (n_classes, n_features).

    A prediction is right where it is the most probable class of the target. DataError names what
    is not finite in shards, which nobody has looked through before.
    """
    total = float(len(y)) if weight is None else float(weight.sum())
    if isinstance(X, ShardPasses):
        dtype = compute_dtype(X.rows, W, b)
        losses, of_right = X.measure(W[None], b[None].astype(dtype), np.zeros(1, np.int64))
        if not math.isfinite(losses[0]):
            X.raise_bad_value()
        return float(losses[0]) / total, float(of_right[0]) / total
    if y.ndim == 2:
        losses, right = _of_probabilities(X, y, W, b, n_threads)
        weight = np.ones(len(y)) if weight is None else weight
        return float(weight @ losses) / total, float(weight @ right) / total
    loss, n_right = functional.linear_evaluate(
        X, W.T, b, y, sample_weight=weight, n_threads=n_threads
    )
    return loss, n_right / total


def _of_probabilities(
    X: Stored, y: Array, W: Array, b: Array, n_threads: int | None
) -> tuple[Array, Array]:
    """Return the loss of each row, and whether its most probable class is predicted."""
    losses, right = np.empty(len(y)), np.empty(len(y), np.bool_)
    for rows in blocks(len(y), _BLOCK_BYTES // (8 * len(b))):
        logits = functional.linear(take(X, rows), W.T, b, n_threads=n_threads)
        losses[rows] = functional.softmax_cross_entropy(
            logits, y[rows], reduction="none", n_threads=n_threads
        )
        right[rows] = logits.argmax(axis=1) == y[rows].argmax(axis=1)
    return losses, right


# ---- on which rows ------------------------------------------------------------------------------


def validation_set(
    estimator: Any, validation: Any, classes: Array, by_class: Array | None
) -> tuple[Stored | ShardPasses, Array, Array | None]:
    """Return what ``fit(..., validation=...)`` is given, checked: X, targets, weights."""
    if has_shards(validation):
        return _validation_shards(estimator, validation, classes, by_class)
    if not isinstance(validation, (tuple, list)) or len(validation) not in (2, 3):
        what = type(validation).__name__
        if isinstance(validation, (tuple, list)):
            what += f" of {len(validation)}"
        raise TypeError(
            f"validation is a {what}, expected a pair (X, y) or (X, y, sample_weight), or shards"
        )
    X, y, *weights = validation
    try:
        data = more_samples(estimator, X, y, classes, "validation")
    except ValueError as error:  # scikit-learn's checks speak of X and y
        told = str(error)
        raise ValueError(told if "validation" in told else f"validation: {told}") from error
    weight = checked_weight(weights[0] if weights else None, len(data.X), "validation[2]")
    return data.X, *with_class_weights(data.y, weight, by_class, "validation")


def _validation_shards(
    estimator: Any, shards: Any, classes: Array, by_class: Array | None
) -> tuple[ShardPasses, Array, Array | None]:
    """Return passes over the rows of shards, their labels and their weights."""
    rows = shards.rows
    if not rows.n_rows:
        raise ValueError("validation has 0 rows, expected at least one")
    if rows.n_features != estimator.n_features_in_:
        raise ValueError(f"validation has {rows.n_features} features, expected "
                         f"{estimator.n_features_in_}, as X has")  # fmt: skip
    try:
        _, codes = shards.encoded(classes)
        given = shards.weights()
    except ValueError as error:
        raise type(error)(f"validation: {error}") from error
    if given is not None and not given.any():
        raise ValueError("validation: the weights of all rows are zero, expected some weight")
    codes, weight = with_class_weights(codes, given, by_class, "validation")
    passes: ShardPasses = passes_of_shards(rows)(
        codes, len(classes), weights=None if weight is None else weight[None],
        n_threads=estimator._threads,
    )  # fmt: skip
    return passes, codes, weight


def rows_to_watch(
    y: Array, fraction: float, seed: int, rows: Labels | None = None, classes: Array | None = None
) -> tuple[Labels, Labels]:
    """Return (training rows, held-out rows) of some rows, or of all, both sorted.

    Both have the classes in the same proportion; ValueError where a class has too few rows for
    that. With probabilities, a row belongs to its most probable class; nobody has chosen these
    classes, so where one has too few rows, the proportion is left to chance.
    """
    fraction = check_number(fraction, "validation_fraction")
    if not 0 < fraction < 1:
        raise ValueError(
            f"validation_fraction is {fraction}, expected a number between 0 and 1, both excluded"
        )
    rows = np.arange(len(y)) if rows is None else rows
    labels = most_probable(y)[rows]
    present, counts = np.unique(labels, return_counts=True)
    n, n_held = len(rows), math.ceil(fraction * len(rows))
    fewest = min(n_held, n - n_held)
    stratified = counts.min() >= 2 and fewest >= len(present)
    if y.ndim == 1 and not stratified:
        names = present if classes is None else classes[present]
        if counts.min() < 2:
            label = names.tolist()[int(counts.argmin())]
            raise ValueError(
                f"y has the label {label!r} once, expected at least two samples of each class to "
                "hold one out for early_stopping=True; fit(..., validation=(X, y)) holds out none"
            )
        part = "held out" if n_held == fewest else "left to train on"
        raise ValueError(
            f"validation_fraction is {fraction}: of {n} samples {fewest} would be {part}, "
            f"expected at least one for each of the {len(present)} classes"
        )
    if fewest < 1:
        raise ValueError(
            f"validation_fraction is {fraction}: of {n} samples none would be left to train on"
        )
    return stratified_rows(rows, labels if stratified else None, fraction, seed)
