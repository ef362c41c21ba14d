"""The estimator's minibatch descent: epochs of `csoftmax.training`, in coordinates of its own.

Features are multiplied by a power of two that brings their mean square near 1 (the kernel folds it
in, the data stay as they are), so one learning rate suits pixels from 0 to 255 and standardised
columns alike. A power of two rounds nothing. Of sparse rows, the mean square of a whole row comes
near 1.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.checks import Stored
from csoftmax.core.sparse import CSR
from csoftmax.data import DataLoader
from csoftmax.engine.calls import StoredRows, shuffle
from csoftmax.engine.linear import gradients
from csoftmax.estimators.base import warn_caller
from csoftmax.estimators.fit import ConvergenceWarning, FitTask
from csoftmax.estimators.inputs import Labels
from csoftmax.estimators.monitor import Columns, Monitor
from csoftmax.functional import linear, softmax_cross_entropy_grad
from csoftmax.model import SoftmaxRegression
from csoftmax.results import Epoch
from csoftmax.rows.base import blocks, take
from csoftmax.training import SGD, train_epoch

Array = NDArray[Any]
SGD_COLUMNS = ("objective", "loss", "accuracy", "seconds")
SAMPLED_ROWS = 4096  # for the mean square of the features
# A column is far from 0 where its mean is so many standard deviations. The curvature along its
# weight and the intercept together is then 400 times that across: see `far_from_0`.
FAR = 20.0


class RowsLoader(DataLoader):
    """Some rows of X in a new random order each epoch; the others are never read."""

    def __init__(
        self, X: Array, y: Array, rows: Labels | None, batch_size: int, scale: float,
        random: np.random.Generator,
    ) -> None:  # fmt: skip
        # checked already: the constructor would make a copy of small labels
        self.X, self.y = X, y if y.ndim == 1 else y.argmax(axis=1)
        self.batch_size, self.shuffle, self.scale = batch_size, True, scale
        self.class_names, self.feature_names, self.recipe = (), (), None
        self.probabilities = None if y.ndim == 1 else y
        self.rows = rows
        self._random = random

    def epoch_order(self) -> NDArray[np.int64]:
        order = np.arange(len(self.y)) if self.rows is None else self.rows.copy()
        return shuffle(order, self._random)


# from a descent and a batch size to the parts of the rows, and the weights of their rows
Loaders = Callable[["MinibatchDescent", int], Iterable[tuple[RowsLoader, "Array | None"]]]


@dataclass
class MinibatchDescent:
    """Where the descent is: parameters in its own coordinates, and velocities."""

    model: SoftmaxRegression  # of the features times `scale`
    scale: float
    automatic: bool  # whether the learning rate is measured, and with it the scale
    random: np.random.Generator  # of the order of the samples
    velocities: tuple[Array, ...] = ()  # of W and b; none without momentum

    @classmethod
    def begin(
        cls, X: Array, rows: Labels | None, n_classes: int, dtype: np.dtype[Any],
        automatic: bool, seed: int,
    ) -> MinibatchDescent:  # fmt: skip
        """Start at 0. A learning rate that the user chose applies to the features as they are."""
        model = SoftmaxRegression(X.shape[1], n_classes, dtype=dtype, seed=0)
        model.W, model.b = np.zeros_like(model.W), np.zeros_like(model.b)
        scale = _power_of_two_scale(X, rows) if automatic else 1.0
        return cls(model, scale, automatic, np.random.default_rng(seed))

    @property
    def parameters(self) -> tuple[Array, Array]:
        """W (n_classes, n_features) and b in the coordinates of X; setting them rounds nothing."""
        return self.model.W.T * self.model.dtype.type(self.scale), self.model.b.copy()

    @parameters.setter
    def parameters(self, values: tuple[Array, Array]) -> None:
        self.model.W, self.model.b = values[0].T / self.model.dtype.type(self.scale), values[1]

    def epoch(
        self, loader: RowsLoader, optimizer: SGD, weight: Array | None, n_threads: int | None
    ) -> Epoch:
        """Go through the loader's rows once; interrupted, all is as it was before."""
        held = optimizer.velocities_of(self.model)
        for velocity, kept in zip(held, self.velocities, strict=False):
            velocity[...] = kept
        moving = (self.model.W, self.model.b, *held)
        before = [array.copy() for array in moving]
        try:
            if loader.probabilities is not None:
                epoch = self._epoch_of_probabilities(loader, optimizer, weight, n_threads)
            else:
                epoch = train_epoch(
                    self.model, loader, optimizer, sample_weight=weight, n_threads=n_threads
                )
        except BaseException:
            for array, copy in zip(moving, before, strict=True):
                array[...] = copy
            raise
        self.velocities = tuple(velocity.copy() for velocity in held)
        return epoch

    def _epoch_of_probabilities(
        self, loader: RowsLoader, optimizer: SGD, weight: Array | None, n_threads: int | None
    ) -> Epoch:
        """Do what `train_epoch` does, one minibatch after the other: that one knows labels only."""
        model, started = self.model, time.perf_counter()
        assert loader.probabilities is not None
        order, loss, n_right = loader.epoch_order(), 0.0, 0
        W, b = model.W, model.b
        velocities = optimizer.velocities_of(model) or (None, None)
        velocity = None if velocities[0] is None else velocities[0].T
        bias_rate = optimizer.lr if optimizer.bias_lr is None else optimizer.bias_lr
        for some in blocks(len(order), loader.batch_size):
            batch = order[some]
            X, target = take(loader.X, batch), loader.probabilities[batch]
            logits = linear(X, model.W, b, scale=self.scale, n_threads=n_threads)
            losses, dlogits = softmax_cross_entropy_grad(
                logits, target, reduction="none", n_threads=n_threads
            )
            share = np.ones(len(batch)) if weight is None else weight[batch]
            loss += float(share @ losses)
            n_right += int((logits.argmax(axis=1) == loader.y[batch]).sum())
            dlogits = (dlogits * (share / len(batch))[:, None]).astype(b.dtype)
            dW, db = gradients(StoredRows(X, self.scale), dlogits)
            dW += optimizer.weight_decay * W
            _move(W, dW, velocity, optimizer.lr, optimizer.momentum)
            if optimizer.l1:
                W -= np.clip(W, -optimizer.lr * optimizer.l1, optimizer.lr * optimizer.l1)
            if bias_rate:
                _move(b, db, velocities[1], bias_rate, optimizer.momentum)
        n = len(order)
        return Epoch(loss / n, n_right / n, time.perf_counter() - started, n)

    def optimizer(
        self, learning_rate: float | None, momentum: float, fit_intercept: bool, task: FitTask
    ) -> SGD:
        """Return the rule of the steps. Without an intercept the bias has the rate 0.

        Where `learning_rate` is None it is 1 over a bound of the curvature: that of a model that
        knows nothing but the frequencies pi of the classes,
        ``max_k pi_k (1 - pi_k) (1 + mean ||scale x||^2)``, plus the penalty's.
        """
        decay = task.penalty * self.scale**2
        if learning_rate is None:
            n_classes = self.model.n_classes
            counts = task.mass
            share = counts / max(counts.sum(), 1e-300)
            spread = max(float((share * (1 - share)).max()), (n_classes - 1) / n_classes**2)
            mean_square = _mean_square(task.X, task.rows)
            square = 1 + task.X.shape[1] * self.scale**2 * mean_square
            learning_rate = (1 - momentum) / (spread * square + decay)
        bias_lr = None if fit_intercept else 0.0
        l1 = self.scale * task.l1
        return SGD(learning_rate, momentum, weight_decay=decay, bias_lr=bias_lr, l1=l1)


def _move(
    parameter: Array, gradient: Array, velocity: Array | None, rate: float, momentum: float
) -> None:
    step = gradient
    if velocity is not None:
        velocity *= momentum
        velocity += gradient
        step = velocity
    parameter -= rate * step


def mean_one(weight: Array | None, rows: Labels | None) -> Array | None:
    """Return the weights over their mean on the rows in use."""
    if weight is None:
        return None
    return weight / float((weight if rows is None else weight[rows]).mean())


def _sampled(X: Stored, rows: Labels | None) -> Stored:
    """Return some of the rows in use, at equal distances."""
    n = len(X) if rows is None else len(rows)
    every = slice(None, None, max(1, math.ceil(n / SAMPLED_ROWS)))
    return take(X, every if rows is None else rows[every])


def measuring_bytes(X: Stored) -> int:
    """Return what the sampled rows take, as they are stored and in float64."""
    if isinstance(X, CSR):
        return int(2 * X.nbytes + 24 * X.shape[1])
    return int(min(len(X), SAMPLED_ROWS) * X.shape[1] * (X.itemsize + 8))


def _mean_square(X: Stored, rows: Labels | None) -> float:
    some = _sampled(X, rows)
    if isinstance(some, CSR):  # what comes twice in a row counts as two: this is an estimate
        return float(np.square(some.data, dtype=np.float64).sum() / max(1, math.prod(some.shape)))
    squares = some.astype(np.float64)
    return float(np.square(squares, out=squares).mean())


def _means_and_deviations(X: Stored, rows: Labels | None) -> tuple[Array, Array]:
    some = _sampled(X, rows)
    if isinstance(some, CSR):
        n, n_features = some.shape
        values = some.data.astype(np.float64)
        means, squares = (
            np.bincount(some.indices, weights, n_features) / max(1, n)
            for weights in (values, values * values)
        )
        return means, np.sqrt(np.maximum(squares - means * means, 0.0))
    wide = some.astype(np.float64)
    means = wide.mean(axis=0)
    wide -= means
    return means, np.sqrt(np.square(wide, out=wide).mean(axis=0))


def far_from_0(X: Stored, rows: Labels | None) -> str:
    """Say which column is so far from 0 that minibatches hardly learn from it; "" if none is.

    A step of the column's weight moves all logits by about its mean, which the intercept has to
    undo. So the curvature along the two together is ``1 + mean^2 / variance`` times that across,
    and a learning rate that the one allows is too small for the other.
    """
    means, deviations = _means_and_deviations(X, rows)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(deviations > 1e-7 * np.abs(means), np.abs(means) / deviations, 0.0)
    j = int(ratio.argmax()) if ratio.size else 0
    if not ratio.size or ratio[j] < FAR:
        return ""
    return (
        f"column {j} of X has the mean {means[j]:.4g} and the standard deviation "
        f"{deviations[j]:.3g}: minibatches hardly learn from features so far from 0. Subtract "
        'their means, or let the solver be "lbfgs"'
    )


def _power_of_two_scale(X: Stored, rows: Labels | None) -> float:
    square = _mean_square(X, rows)
    if isinstance(X, CSR):  # a feature is seldom there: rows, not features, become as large as 1
        square *= X.shape[1]
    if not 0 < square < math.inf:
        return 1.0
    return 2.0 ** -round(0.5 * math.log2(square))


# ---- a fit, an epoch ---------------------------------------------------------------------------


def fit_sgd(
    task: FitTask,
    descent: MinibatchDescent,
    monitor: Monitor | None,
    *,
    learning_rate: float | None,
    momentum: float,
    batch_size: int,
    max_iter: int,
    tol: float,
    patience: int,
    n_threads: int | None,
    fit_intercept: bool,
    verbose: int,
    loaders: Loaders | None = None,
) -> tuple[int, Columns]:
    """Descend until the loss stops falling; the descent holds the parameters it ends with."""
    epoch_of = _epochs(
        task, descent, learning_rate, momentum, batch_size, fit_intercept, n_threads, loaders
    )
    history: Columns = {name: [] for name in SGD_COLUMNS}
    best, without_progress, stopped = math.inf, 0, False
    try:
        while len(history["loss"]) < max_iter and not stopped:
            for name, value in epoch_of().items():
                history[name].append(value)
            now = history["objective"][-1]
            if monitor is not None:
                stopped = monitor.after(*descent.parameters)
            if monitor is None or monitor.patience is None:
                without_progress = 0 if now < best * (1 - tol) else without_progress + 1
                stopped = without_progress >= patience
            best = min(best, now)
            if verbose:
                print(_epoch_line(history, monitor), flush=True)
    except KeyboardInterrupt:
        if not history["loss"]:
            raise
        n_epochs = len(history["loss"])
        warn_caller(
            f"interrupted: the parameters are those after epoch {n_epochs}", ConvergenceWarning
        )
        stopped = True
    if not stopped:
        warn_caller(
            f"the objective is still falling after {max_iter} epochs (it is "
            f"{history['objective'][-1]:.6g}, tol {tol:g}): increase max_iter, or let the solver "
            'be "lbfgs"'
            if max_iter
            else "max_iter is 0: the parameters are those of the start",
            ConvergenceWarning,
        )
    if monitor is not None:
        monitor.record(history)
        if monitor.best_parameters is not None:
            descent.parameters = monitor.best_parameters
    return len(history["loss"]), history


def one_epoch(
    task: FitTask, descent: MinibatchDescent, loaders: Loaders | None = None, **options: Any
) -> Columns:
    """Go through the samples once."""
    names = ("learning_rate", "momentum", "batch_size", "fit_intercept", "n_threads")
    chosen = {name: options[name] for name in names}
    epoch = _epochs(task, descent, loaders=loaders, **chosen)()
    return {name: [value] for name, value in epoch.items()}


def _epochs(
    task: FitTask, descent: MinibatchDescent, learning_rate: float | None, momentum: float,
    batch_size: int, fit_intercept: bool, n_threads: int | None, loaders: Loaders | None,
) -> Callable[[], dict[str, float]]:  # fmt: skip
    """Return what goes through the samples once more at each call."""
    optimizer = descent.optimizer(learning_rate, momentum, fit_intercept, task)
    parts = loaders or _all_rows(task, descent, batch_size)

    def epoch() -> dict[str, float]:
        done = _together([
            descent.epoch(loader, optimizer, weight, n_threads)
            for loader, weight in parts(descent, batch_size)
        ])  # fmt: skip
        if not (math.isfinite(done.loss) and np.isfinite(descent.model.W).all()):
            task.raise_bad_value()
            raise ValueError(
                f"the descent diverged at learning rate {optimizer.lr:.3g}: choose a smaller "
                'learning_rate, or "auto"'
            )
        with np.errstate(over="ignore"):
            penalty = 0.5 * optimizer.weight_decay * float(np.square(descent.model.W).sum())
            if optimizer.l1:
                penalty += optimizer.l1 * float(np.abs(descent.model.W).sum())
        values = (done.loss + penalty, done.loss, done.accuracy, done.seconds)
        return dict(zip(SGD_COLUMNS, values, strict=True))

    return epoch


def _all_rows(task: FitTask, descent: MinibatchDescent, batch_size: int) -> Loaders:
    weight = mean_one(task.weight, task.rows)
    loader = RowsLoader(task.X, task.y, task.rows, batch_size, descent.scale, descent.random)
    return lambda *_: [(loader, weight)]


def _together(epochs: Sequence[Epoch]) -> Epoch:
    """Return epochs of parts of the rows as one of all."""
    if len(epochs) == 1:
        return epochs[0]
    n = sum(epoch.n_samples for epoch in epochs)
    loss, accuracy = (
        sum(getattr(epoch, name) * epoch.n_samples for epoch in epochs) / n
        for name in ("loss", "accuracy")
    )
    return Epoch(loss, accuracy, sum(epoch.seconds for epoch in epochs), n)


def _epoch_line(history: Columns, monitor: Monitor | None) -> str:
    line = f"epoch {len(history['loss'])}: loss {history['loss'][-1]:.6f}"
    if monitor is not None:
        line += f", validation loss {monitor.losses[-1]:.6f}, accuracy {monitor.accuracies[-1]:.4f}"
    return line
