"""Training: one epoch is one call into compiled code.

The minibatches of an epoch are gathered by index from the array as it is stored, each goes through
forward, softmax, gradient and update without a copy, and no Python runs between them. A Python loop
over `csoftmax.functional` gives the same weights to rounding (tests/test_training.py holds the two
together).
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.checks import (
    as_labels,
    check_learning_rate,
    check_not_negative,
    check_number,
    check_positive,
    check_threads,
)
from csoftmax.data import DataLoader
from csoftmax.data.shard_loader import ShardLoader
from csoftmax.engine import calls
from csoftmax.evaluation import evaluate_epoch
from csoftmax.labelled import (
    Data,
    Names,
    as_loader,
    check_labelled,
    check_model,
    check_same_images,
    check_shards,
    names_after,
    scale_of,
    take_facts,
)
from csoftmax.model import SoftmaxRegression, is_integer
from csoftmax.results import Epoch, History
from csoftmax.rows.base import as_stored

Array = NDArray[Any]
Callback: TypeAlias = "Callable[[SoftmaxRegression, History], object]"


@dataclass(eq=False)
class SGD:
    """Minibatch stochastic gradient descent.

    With the gradient ``g`` of a minibatch's mean loss: ``g += weight_decay * W`` (not for the
    bias), ``v = momentum * v + g``, ``step = g + momentum * v`` if nesterov else ``v``,
    ``W -= lr * step``; the bias moves at `bias_lr`, if that is given. Then, with `l1`, each weight
    moves ``lr * l1`` toward 0 and stops there.

    Parameters
    ----------
    lr : float
        Learning rate, > 0. Like the others, it may be changed between epochs.
    momentum : float
        In [0, 1). The velocities live as long as this object and the model they belong to; a copy
        starts without any.
    nesterov : bool
        Nesterov's momentum; needs momentum > 0.
    weight_decay : float
        >= 0.
    bias_lr : float, optional
        Learning rate of the bias, >= 0; None: `lr`. With 0 the bias and its velocity keep their
        bits: a model without an intercept.
    l1 : float
        >= 0: the factor of ``sum |W|`` beside the mean loss. It needs momentum 0.

    Raises
    ------
    TypeError, ValueError
        For anything else.

    Notes
    -----
    D2L section 3.4; momentum as in PyTorch's ``optim.SGD`` and D2L section 12.6; `l1` is the
    truncated gradient of Langford, Li and Zhang 2009, applied at each step.

    On sparse rows a minibatch reads and writes only the features that it has. What weight decay,
    momentum and `l1` do to the others comes later, all at once: the same to rounding.

    Examples
    --------
    >>> import csoftmax as cs
    >>> cs.SGD(lr=0.1, momentum=0.9)
    SGD(lr=0.1, momentum=0.9, nesterov=False, weight_decay=0.0, bias_lr=None, l1=0.0)
    """

    lr: float
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    bias_lr: float | None = None
    l1: float = 0.0

    def __post_init__(self) -> None:
        self._check()
        self._velocities: WeakKeyDictionary[SoftmaxRegression, tuple[Array, Array]]
        self._velocities = WeakKeyDictionary()

    def _check(self) -> None:
        self.lr = check_learning_rate(self.lr)
        self.momentum = check_number(self.momentum, "momentum")
        self.nesterov = bool(self.nesterov)
        self.weight_decay = check_not_negative(self.weight_decay, "weight_decay")
        if self.bias_lr is not None:
            self.bias_lr = check_not_negative(self.bias_lr, "bias_lr")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum is {self.momentum}, expected a number in [0, 1)")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov is True but momentum is 0, expected momentum > 0")
        self.l1 = check_not_negative(self.l1, "l1")
        if self.l1 > 0 and self.momentum > 0:
            raise ValueError(f"l1 is {self.l1} and momentum is {self.momentum}, expected one of 0")

    def __reduce__(self) -> tuple[type[SGD], tuple[float, float, bool, float, float | None, float]]:
        rule = self.lr, self.momentum, self.nesterov, self.weight_decay, self.bias_lr, self.l1
        return SGD, rule

    def velocities_of(self, model: SoftmaxRegression) -> tuple[Array, Array] | tuple[()]:
        """Return the model's velocities as stored, zero at first; none without momentum."""
        if self.momentum == 0:
            return ()
        if model not in self._velocities:
            self._velocities[model] = (np.zeros_like(model.W.T), np.zeros_like(model.b))
        return self._velocities[model]


def train(
    model: SoftmaxRegression,
    train_data: Data | ShardLoader,
    *,
    validation: Data | ShardLoader | None = None,
    epochs: int = 10,
    optimizer: SGD | None = None,
    callbacks: Iterable[Callback] = (),
    progress: bool | None = None,
    n_threads: int | None = None,
) -> History:
    """Train a model by minibatch SGD on the mean cross-entropy.

    Parameters
    ----------
    model : SoftmaxRegression
        Updated in place. If it has no scale yet, it takes that of integer data.
    train_data : DataLoader, Dataset, (X, y), or `csoftmax.data.shard_loader.ShardLoader`
        A loader says batch size and order; anything else is shuffled in batches of 256.
        Integers are multiplied by the model's scale: `SoftmaxRegression` has the rule.
    validation : as train_data, optional
        Evaluated after each epoch.
    epochs : int
        How often to go through the data, at least 1.
    optimizer : SGD
        ``SGD(lr=0.1)`` if None.
    callbacks : iterable of callables
        ``callback(model, history)`` is called after each epoch; if one returns True, training ends.
    progress : bool, optional
        Show a progress bar on stderr; None: if stderr is a terminal.
    n_threads : int, optional
        At most so many threads; None: all CPUs that this process may use. The result is bitwise the
        same for any number.

    Returns
    -------
    History

    Raises
    ------
    TypeError, ValueError
        For arguments that do not fit; the model is then as it was.
    KeyboardInterrupt
        Ctrl-C is answered within a moment; model and velocities are then as after the last
        finished epoch.

    Notes
    -----
    D2L section 3.6, ``train_ch3``.

    Examples
    --------
    >>> import csoftmax as cs
    >>> train, test = cs.fashion_mnist_sample()
    >>> model = cs.SoftmaxRegression(784, 10, seed=0)
    >>> loader = cs.DataLoader.from_dataset(train, 256, shuffle=True, seed=0)
    >>> history = cs.train(model, loader, validation=test, epochs=5)
    >>> history.validation_accuracy[-1] > 0.7
    True
    """
    loader, held = loaders_for(model, train_data, validation)
    epochs = check_positive(epochs, "epochs")
    optimizer = as_optimizer(optimizer)
    callbacks = _as_callbacks(callbacks)
    check_threads(n_threads)
    history = History()
    with _progress_bar(epochs, progress) as bar:
        for _ in range(epochs):
            finished, undo = len(history), _undo(model, optimizer)
            try:
                if isinstance(loader, ShardLoader):
                    epoch = _epoch_of_shards(model, loader, optimizer, n_threads)
                else:
                    epoch = _epoch(model, loader, optimizer, None, n_threads)
                after = None
                if held is not None:
                    after = evaluate_epoch(model, held, n_threads)
                history.add(epoch, after)
            except BaseException:
                if len(history) == finished:
                    undo()
                    history.keep(finished)
                raise
            if bar is not None:
                shown = after or epoch
                bar.set_postfix_str(f"loss {shown.loss:.3f}, accuracy {shown.accuracy:.3f}", False)
                bar.update()
            # every callback sees every epoch, also one that another callback stops at
            answers = [callback(model, history) for callback in callbacks]
            if any(isinstance(answer, (bool, np.bool_)) and answer for answer in answers):
                break
    return history


def train_epoch(
    model: SoftmaxRegression,
    loader: DataLoader,
    optimizer: SGD,
    *,
    sample_weight: NDArray[np.float64] | None = None,
    n_threads: int | None = None,
) -> Epoch:
    """Train for one epoch: one call into compiled code.

    A minibatch's gradient is the sum of its weighted losses' gradients over its number of samples,
    so weights should have the mean 1; the epoch's loss is that of the weighted samples too.

    Interrupted or refused, it leaves the model and its velocities as they were.
    """
    undo = _undo(model, optimizer)
    try:
        return _epoch(model, loader, optimizer, sample_weight, n_threads)
    except BaseException:
        undo()
        raise


def _epoch(
    model: SoftmaxRegression,
    loader: DataLoader,
    optimizer: SGD,
    sample_weight: NDArray[np.float64] | None,
    n_threads: int | None,
) -> Epoch:
    optimizer._check()
    features, labels = check_labelled(model, loader, "train_data")
    order = loader.epoch_order()
    if order is not None:
        order = as_labels(order, (np.size(order),), len(labels), name="train_data.epoch_order()")
    n_samples = len(labels) if order is None else len(order)
    if n_samples == 0:
        raise ValueError("train_data has an epoch of 0 samples, expected at least one")
    batch_size = min(check_positive(loader.batch_size, "train_data.batch_size"), n_samples)
    scale = scale_of(model, loader, "train_data")
    threads = check_threads(n_threads)
    W_velocity, b_velocity = optimizer.velocities_of(model) or (None, None)
    step = calls.Step(
        optimizer.lr, optimizer.momentum, optimizer.nesterov, optimizer.weight_decay,
        W_velocity, b_velocity, optimizer.bias_lr, optimizer.l1,
    )  # fmt: skip
    started = time.perf_counter()
    if is_integer(features):
        model.scale = scale
    take_facts(model, loader)
    model.trained_with = _settings(model, optimizer, batch_size, n_samples)
    loss, n_correct = calls.minibatches(
        calls.StoredRows(as_stored(features, model.dtype), scale, order),
        calls.Parameters(model.W.T, model.b),
        calls.Targets(labels, sample_weight),
        step,
        batch_size,
        threads,
    )
    seconds = time.perf_counter() - started
    return Epoch(loss / n_samples, n_correct / n_samples, seconds, n_samples)


def _epoch_of_shards(
    model: SoftmaxRegression, loader: ShardLoader, optimizer: SGD, n_threads: int | None
) -> Epoch:
    """Train for one epoch of windows; DataError for the first value that is not finite."""
    started, before = time.perf_counter(), model.trained_with
    loss, n_correct, n_samples = 0.0, 0.0, 0
    for part, weight in loader.epoch():
        done = _epoch(model, part, optimizer, weight, n_threads)
        loss += done.loss * done.n_samples
        n_correct += done.accuracy * done.n_samples
        n_samples += done.n_samples
        if not math.isfinite(done.loss):
            for some, block in loader.X.blocks(part.batch_size):
                loader.X.check_finite(some.start, block)
    model.trained_with = before
    batch_size = min(loader.batch_size, n_samples)
    model.trained_with = _settings(model, optimizer, batch_size, n_samples)
    seconds = time.perf_counter() - started
    return Epoch(loss / n_samples, n_correct / n_samples, seconds, n_samples)


def _settings(
    model: SoftmaxRegression, optimizer: SGD, batch_size: int, n_samples: int
) -> dict[str, Any]:
    """Return what the model's file says of its training; equal epochs in a row are counted."""
    settings: dict[str, Any] = {
        "solver": "sgd", "lr": optimizer.lr, "momentum": optimizer.momentum,
        "nesterov": optimizer.nesterov, "weight_decay": optimizer.weight_decay,
        "bias_lr": optimizer.bias_lr, "l1": optimizer.l1, "batch_size": batch_size,
        "n_samples": n_samples,
    }  # fmt: skip
    return counted(model.trained_with, settings, 1)


def counted(before: dict[str, Any], settings: dict[str, Any], epochs: float) -> dict[str, Any]:
    """Return the settings with a number of epochs: those before count where they were the same."""
    again = all(before.get(name) == value for name, value in settings.items())
    return {**settings, "epochs": epochs + (before.get("epochs", 0) if again else 0)}


def _undo(model: SoftmaxRegression, optimizer: SGD) -> Callable[[], None]:
    """Return what makes the model and its velocities again what they are now."""
    state = [model.W, model.b, *(optimizer.velocities_of(model) or ())]
    before = [array.copy() for array in state]
    names = "_scale", "_class_names", "_feature_names", "_recipe", "trained_with"
    facts = [(name, getattr(model, name)) for name in names]

    def undo() -> None:
        for name, fact in facts:
            setattr(model, name, fact)
        for array, copy in zip(state, before, strict=True):
            array[...] = copy

    return undo


# ---- arguments ---------------------------------------------------------------------------------


def loaders_for(
    model: SoftmaxRegression, train_data: Data | ShardLoader, validation: Data | ShardLoader | None
) -> tuple[DataLoader | ShardLoader, DataLoader | ShardLoader | None]:
    """Return the loaders of a training and its validation, checked against the model."""
    check_model(model)
    loader = _checked_loader(model, train_data, "train_data", model.scale)
    if not len(loader.y):
        raise ValueError("train_data has 0 samples, expected at least one")
    if validation is None:
        return loader, None
    scale = model.scale_for(loader.X, loader.scale) if is_integer(loader.X) else model.scale
    held = _checked_loader(model, validation, "validation", scale, names_after(model, loader))
    if not isinstance(loader, ShardLoader) and not isinstance(held, ShardLoader):
        check_same_images(loader, "train_data", held, "validation")
    if not len(held.y):
        raise ValueError("validation has 0 samples, expected at least one")
    check_number(held.scale, "validation.scale")
    return loader, held


def _checked_loader(
    model: SoftmaxRegression, data: Data | ShardLoader, name: str, scale: float,
    names: Names | None = None,
) -> DataLoader | ShardLoader:  # fmt: skip
    if isinstance(data, ShardLoader):
        check_shards(model, data, name, names)
        return data
    loader = as_loader(data, name, scale)
    check_labelled(model, loader, name, names)
    return loader


def as_optimizer(optimizer: SGD | None) -> SGD:
    """Return the optimizer, the book's if there is none."""
    optimizer = SGD(lr=0.1) if optimizer is None else optimizer
    if not isinstance(optimizer, SGD):
        raise TypeError(f"optimizer is a {type(optimizer).__name__}, expected csoftmax.SGD")
    return optimizer


def _as_callbacks(callbacks: Iterable[Callback]) -> tuple[Callback, ...]:
    if not isinstance(callbacks, Iterable):
        raise TypeError(f"callbacks is a {type(callbacks).__name__}, expected a list of functions")
    given = tuple(callbacks)
    for callback in given:
        if not callable(callback):
            raise TypeError(f"callbacks has a {type(callback).__name__}, expected functions")
    return given


def _progress_bar(epochs: int, progress: bool | None) -> Any:
    if not (sys.stderr.isatty() if progress is None else progress):
        return contextlib.nullcontext()  # a hidden bar takes time to build, too
    from tqdm import tqdm

    return tqdm(total=epochs, unit="epoch", file=sys.stderr)
