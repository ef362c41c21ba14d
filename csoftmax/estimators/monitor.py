"""Validation after each pass: how good the parameters are, which were best, when to stop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax import functional
from csoftmax.rows.base import blocks, take

Array = NDArray[Any]
History = dict[str, list[float]]
_BLOCK_BYTES = 1 << 24  # of logits


@dataclass
class Monitor:
    """Keeps a record and the best parameters, and says when there has been no progress."""

    X: Array
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

    def record(self, history: History, order: Sequence[int] | None = None) -> None:
        """Add the evaluations, in the order of the history's entries.

        Raises ValueError if early stopping had no number to go by.
        """
        if self.patience is not None and self.losses and self.best_parameters is None:
            raise ValueError(
                f"the validation loss is {self.losses[-1]} after every pass, expected a finite "
                "number: the features of the validation data are too large"
            )
        order = range(len(self.losses)) if order is None else order
        history["validation_loss"] = [self.losses[i] for i in order]
        history["validation_accuracy"] = [self.accuracies[i] for i in order]


def evaluated(
    X: Array, y: Array, weight: Array | None, W: Array, b: Array, n_threads: int | None
) -> tuple[float, float]:
    """Return the weighted means of loss and accuracy; W is (n_classes, n_features).

    A prediction is right where it is the most probable class of the target.
    """
    total = float(len(y)) if weight is None else float(weight.sum())
    if y.ndim == 2:
        losses, right = _of_probabilities(X, y, W, b, n_threads)
        weight = np.ones(len(y)) if weight is None else weight
        return float(weight @ losses) / total, float(weight @ right) / total
    loss, n_right = functional.linear_evaluate(
        X, W.T, b, y, sample_weight=weight, n_threads=n_threads
    )
    return loss, n_right / total


def _of_probabilities(
    X: Array, y: Array, W: Array, b: Array, n_threads: int | None
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
