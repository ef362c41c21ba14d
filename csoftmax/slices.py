"""Training in slices of an epoch: to watch it, to pause it, to stop it within a moment.

An epoch of small data takes a hundredth of a second: one can neither see it nor interrupt it. A
slice is some minibatches of an epoch, one compiled call as an epoch is in `csoftmax.train`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.checks import as_labels, check_positive, check_threads
from csoftmax.data import DataLoader
from csoftmax.data.shard_loader import ShardLoader
from csoftmax.evaluation import evaluate_epoch
from csoftmax.labelled import Data
from csoftmax.model import SoftmaxRegression
from csoftmax.results import Epoch
from csoftmax.training import (
    SGD,
    as_optimizer,
    counted,
    loaders_for,
    train_epoch,
)


class Slice(NamedTuple):
    """What a slice of an epoch came to: see `train_slices`.

    ``loss`` (mean, in nats), ``accuracy``, ``seconds`` and ``n_samples`` are of the slice alone, as
    its samples were met. ``x`` is where training is, in epochs: 0.1, 0.2, ...
    ``of_epoch`` and ``validation`` are the figures of the whole epoch, after its last slice; None
    after the others, and without validation data.
    """

    epoch: int
    x: float
    loss: float
    accuracy: float
    seconds: float
    n_samples: int
    of_epoch: Epoch | None = None
    validation: Epoch | None = None


def train_slices(
    model: SoftmaxRegression,
    train_data: Data,
    *,
    validation: Data | None = None,
    epochs: int = 10,
    slices: int = 10,
    optimizer: SGD | None = None,
    n_threads: int | None = None,
) -> Iterator[Slice]:
    """Train as `train` does, and come back after each slice of an epoch.

    To pause, do not ask for the next slice; to stop, do not ask again. The model can be read
    between two slices; whatever is changed in it then stays changed.

    Parameters
    ----------
    model, train_data, validation, epochs, optimizer, n_threads
        As in `train`. The optimizer may be changed between slices.
    slices : int
        Into how many parts an epoch is cut, at least 1; they hold as many minibatches each, to one.
        An epoch of fewer minibatches has a slice for each.

    Yields
    ------
    Slice

    Raises
    ------
    TypeError, ValueError
        For arguments that do not fit, before the first slice; the model is then as it was.
    KeyboardInterrupt
        Ctrl-C is answered within a moment; model and velocities are then as after the last
        finished slice.

    Notes
    -----
    The model gets the same bits as by `train`. Two things are the same to rounding alone: the sum
    that an epoch's loss is, and models of sparse rows with momentum, weight decay or L1, which each
    call makes up for at its end where a row does not have a feature.

    Examples
    --------
    >>> import csoftmax as cs
    >>> train, test = cs.fashion_mnist_sample()
    >>> model = cs.SoftmaxRegression(784, 10, seed=0)
    >>> for part in cs.train_slices(model, train, validation=test, epochs=1, slices=4):
    ...     print(part.x, part.n_samples, part.validation is not None)
    0.256 1536 False
    0.512 1536 False
    0.768 1536 False
    1.0 1392 True
    """
    loader, held = loaders_for(model, train_data, validation)
    if isinstance(loader, ShardLoader):
        raise TypeError("train_data are shards, expected a DataLoader, a Dataset or a pair (X, y)")
    epochs = check_positive(epochs, "epochs")
    slices = check_positive(slices, "slices")
    optimizer = as_optimizer(optimizer)
    check_threads(n_threads)
    return _slices(model, loader, held, epochs, slices, optimizer, n_threads)


class _Part(DataLoader):
    """Some samples of a loader, in the order that its epoch has them."""

    rows: NDArray[np.int64]

    def __init__(self, loader: DataLoader) -> None:
        vars(self).update(vars(loader))

    def epoch_order(self) -> NDArray[np.int64]:
        return self.rows


def _slices(
    model: SoftmaxRegression,
    loader: DataLoader,
    held: DataLoader | ShardLoader | None,
    epochs: int,
    slices: int,
    optimizer: SGD,
    n_threads: int | None,
) -> Iterator[Slice]:
    part = _Part(loader)
    for epoch in range(1, epochs + 1):
        order = _order(loader)
        n, before = len(order), model.trained_with
        sums, seen = Epoch(0.0, 0.0, 0.0, 0), 0
        for part.rows in _cut(order, loader.batch_size, slices):
            done = train_epoch(model, part, optimizer, n_threads=n_threads)
            seen += done.n_samples
            model.trained_with = _facts(before, model.trained_with, loader, n, seen)
            sums = _added(sums, done)
            if seen < n:
                yield Slice(epoch, epoch - 1 + seen / n, *done)
        whole = sums._replace(loss=sums.loss / n, accuracy=sums.accuracy / n)
        after = None if held is None else evaluate_epoch(model, held, n_threads)
        yield Slice(epoch, float(epoch), *done, whole, after)


def _order(loader: DataLoader) -> NDArray[np.int64]:
    order = loader.epoch_order()
    if order is None:
        return np.arange(len(loader.X))
    order = as_labels(order, (np.size(order),), len(loader.X), name="train_data.epoch_order()")
    if len(order) == 0:
        raise ValueError("train_data has an epoch of 0 samples, expected at least one")
    return order


def _cut(order: NDArray[np.int64], batch_size: int, slices: int) -> list[NDArray[np.int64]]:
    """Cut an epoch's order into slices of whole minibatches."""
    batches = -(-len(order) // batch_size)
    slices = min(slices, batches)
    ends = [batch_size * (batches * k // slices) for k in range(1, slices)]
    return np.split(order, ends)


def _added(sums: Epoch, done: Epoch) -> Epoch:
    """Return sums in the place of means."""
    n = done.n_samples
    return Epoch(
        sums.loss + n * done.loss, sums.accuracy + n * done.accuracy, sums.seconds + done.seconds,
        sums.n_samples + n,
    )  # fmt: skip


def _facts(
    before: dict[str, Any], now: dict[str, Any], loader: DataLoader, n: int, seen: int
) -> dict[str, Any]:
    """Return what the model's file says of its training: after an epoch what `train` makes it say.

    In the midst of an epoch the number of epochs is no integer.
    """
    settings = {**now, "batch_size": min(loader.batch_size, n), "n_samples": n}
    del settings["epochs"]
    return counted(before, settings, 1 if seen == n else seen / n)
