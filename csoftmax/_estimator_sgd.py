"""The estimator's minibatch descent: epochs of `csoftmax.training`, in coordinates of its own.

Features are multiplied by a power of two that brings their mean square near 1 (the kernel folds it
in, the data stay as they are), so one learning rate suits pixels from 0 to 255 and standardised
columns alike. A power of two rounds nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax._estimator_data import Labels
from csoftmax._results import Epoch
from csoftmax.data import DataLoader
from csoftmax.data.loader import shuffled
from csoftmax.model import SoftmaxRegression
from csoftmax.training import SGD, train_epoch

Array = NDArray[Any]
_SAMPLED_ROWS = 4096  # for the mean square of the features


class RowsLoader(DataLoader):
    """Some rows of X in a new random order each epoch; the others are never read."""

    def __init__(
        self, X: Array, y: Labels, rows: Labels | None, batch_size: int, scale: float,
        random: np.random.Generator,
    ) -> None:  # fmt: skip
        super().__init__(X, y, batch_size, shuffle=True, scale=scale)
        self.rows = rows
        self._random = random

    def epoch_order(self) -> NDArray[np.int64]:
        order = np.arange(len(self.y)) if self.rows is None else self.rows.copy()
        return shuffled(order, self._random)


class _Batch(RowsLoader):
    """One minibatch of a loader."""

    def __init__(self, loader: RowsLoader, batch: Labels) -> None:
        self.__dict__.update(vars(loader))
        self.batch = batch

    def epoch_order(self) -> NDArray[np.int64]:
        return self.batch


@dataclass
class Descent:
    """Where the descent is: parameters in its own coordinates, velocities, what it has seen."""

    model: SoftmaxRegression
    scale: float
    automatic: bool
    random: np.random.Generator
    velocities: tuple[Array, ...] = ()
    seen: float = 0.0

    @classmethod
    def begin(
        cls, X: Array, n_classes: int, dtype: np.dtype[Any], automatic: bool, seed: int
    ) -> Descent:
        """Start anew; only an automatic learning rate may choose the coordinates."""
        model = SoftmaxRegression(X.shape[1], n_classes, dtype=dtype, seed=0)
        model.W, model.b = np.zeros_like(model.W), np.zeros_like(model.b)
        scale = _power_of_two_scale(X) if automatic else 1.0
        return cls(model, scale, automatic, np.random.default_rng(seed))

    @property
    def parameters(self) -> tuple[Array, Array]:
        """W (n_classes, n_features) and b in the coordinates of X; setting them rounds nothing."""
        return self.model.W.T * self.model.dtype.type(self.scale), self.model.b.copy()

    @parameters.setter
    def parameters(self, values: tuple[Array, Array]) -> None:
        self.model.W, self.model.b = values[0].T / self.model.dtype.type(self.scale), values[1]

    def epoch(
        self, loader: RowsLoader, optimizer: SGD, weight: Array | None, fit_intercept: bool,
        n_threads: int | None,
    ) -> Epoch:  # fmt: skip
        """Go through the loader's rows once; interrupted, parameters and velocities stay."""
        held = optimizer.velocities_of(self.model)
        for velocity, kept in zip(held, self.velocities, strict=False):
            velocity[...] = kept
        if fit_intercept:
            epoch = train_epoch(
                self.model, loader, optimizer, sample_weight=weight, n_threads=n_threads
            )
        else:
            epoch = self._epoch_without_intercept(loader, optimizer, weight, n_threads)
        self.velocities = tuple(velocity.copy() for velocity in held)
        return epoch

    def _epoch_without_intercept(
        self, loader: RowsLoader, optimizer: SGD, weight: Array | None, n_threads: int | None
    ) -> Epoch:
        """One call per minibatch: compiled steps move the intercept, which goes back to 0."""
        order, sums = loader.epoch_order(), np.zeros(3)
        for start in range(0, len(order), loader.batch_size):
            batch = _Batch(loader, order[start : start + loader.batch_size])
            done = train_epoch(
                self.model, batch, optimizer, sample_weight=weight, n_threads=n_threads
            )
            for array in (self.model.b, *optimizer.velocities_of(self.model)[1:]):
                array[:] = 0
            sums += done.loss * done.n_samples, done.accuracy * done.n_samples, done.seconds
        return Epoch(sums[0] / len(order), sums[1] / len(order), sums[2], len(order))

    def optimizer(
        self, learning_rate: float | None, momentum: float, penalty: float, X: Array, y: Labels,
        weight: Array | None,
    ) -> SGD:  # fmt: skip
        """Return the steps of `learning_rate`, or where it is None, of 1 / curvature.

        The curvature is bounded by that of a model that knows the class frequencies only:
        ``max_k pi_k (1 - pi_k) (1 + mean ||scale x||^2)``, plus the penalty's.
        """
        decay = penalty * self.scale**2
        if learning_rate is None:
            n_classes = self.model.n_classes
            counts = np.bincount(y, weight, minlength=n_classes)
            share = counts / max(counts.sum(), 1e-300)
            spread = max(float((share * (1 - share)).max()), (n_classes - 1) / n_classes**2)
            square = 1 + X.shape[1] * self.scale**2 * _mean_square(X)
            learning_rate = (1 - momentum) / (spread * square + decay)
        return SGD(learning_rate, momentum, weight_decay=decay)


def mean_one(weight: Array | None, rows: Labels | None) -> Array | None:
    """Return the weights over their mean on the rows in use."""
    if weight is None:
        return None
    mean = float((weight if rows is None else weight[rows]).mean())
    if not mean > 0:
        raise ValueError("sample_weight is zero for every training sample, expected some weight")
    return weight / mean


def _mean_square(X: Array) -> float:
    rows = X[:: max(1, math.ceil(len(X) / _SAMPLED_ROWS))].astype(np.float64)
    return float(np.mean(np.square(rows)))


def _power_of_two_scale(X: Array) -> float:
    square = _mean_square(X)
    if not 0 < square < math.inf:
        return 1.0
    return 2.0 ** -round(0.5 * math.log2(square))
