"""The fused path: a reader's concise program recognised as what compiled code does in one call.

A net ``Sequential(Flatten(), Linear(...))``, cross-entropy of its logits, plain minibatch SGD and a
`csoftmax.data.DataLoader` are what `csoftmax.training` runs: batches are gathered from the images
as stored, and no Python runs between them. `layer_of`, `rate_of` and `reads` say whether a net, an
optimizer and batches are that, and not where the reader replaced one of their methods; `train` and
`evaluate` run batches. The weights come to the same numbers as step by step, to
rounding. The current edition's `Trainer` uses this for stretches of an epoch, and the second
edition's ``train_epoch_ch3`` for a whole one: ``train(layer, lr, loader, loader.epoch_order())``.
"""

from __future__ import annotations

from inspect import getattr_static
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.books import nn, optim
from csoftmax.books.images import ImageLoader
from csoftmax.core.checks import as_labels, check_threads
from csoftmax.data import DataLoader
from csoftmax.engine import calls
from csoftmax.rows.base import as_stored

__all__ = ["evaluate", "layer_of", "rate_of", "reads", "remember", "replaced", "train"]

_STEPS = ("__call__", "__getitem__", "__iter__", "__len__")
_METHODS: dict[type, dict[str, Any]] = {}


def remember(*classes: type) -> None:
    """Keep the methods that classes have now, so that `replaced` can tell what a reader changed."""
    for own in classes:
        names = [name for name in dir(own) if name in _STEPS or not name.startswith("__")]
        _METHODS[own] = {name: getattr_static(own, name) for name in names}


def replaced(thing: object, own: type, but: tuple[str, ...] = ()) -> str:
    """Return what of a class that was remembered is another in `thing`; "" if nothing is.

    Methods named in `but` may be others.
    """
    kind = type(thing)
    if not isinstance(thing, own):
        return kind.__name__
    for name, method in _METHODS[own].items():
        if name not in but and callable(method) and name in vars(thing):
            return f"{kind.__name__}.{name}"
    return changed(kind, own, but)


def changed(kind: type, own: type, but: tuple[str, ...] = ()) -> str:
    """Return what of a class that was remembered is another in the class `kind`, as `replaced`."""
    for name, method in _METHODS[own].items():
        if name not in but and getattr_static(kind, name, None) is not method:
            return f"{kind.__name__}.{name}"
    return ""


remember(DataLoader, ImageLoader, nn.Sequential, nn.Flatten, nn.Linear, nn.LazyLinear, optim.SGD)


def reads(loader: object) -> bool:
    """Are these batches that compiled code cuts from the stored samples itself?"""
    own = ImageLoader if isinstance(loader, ImageLoader) else DataLoader
    if not isinstance(loader, DataLoader) or replaced(loader, own):
        return False
    return loader.X.dtype in (np.uint8, np.float16, np.float32)


def layer_of(net: object) -> nn.Linear | None:
    """Return the one layer of ``Sequential(Flatten(), Linear(...))``."""
    if replaced(net, nn.Sequential) or not isinstance(net, nn.Sequential) or len(net) != 2:
        return None
    flatten, layer = net
    if replaced(flatten, nn.Flatten) or not isinstance(layer, nn.Linear) or layer.bias is None:
        return None
    for parameter in (layer.weight, layer.bias):
        if parameter.dtype != np.float32 or not parameter.flags.c_contiguous:
            return None  # a copy, or what the reader put there
    own = nn.LazyLinear if isinstance(layer, nn.LazyLinear) else nn.Linear
    # a lazy layer is about to become a Linear
    return None if replaced(layer, own) or changed(nn.Linear, nn.Linear) else layer


def rate_of(optimizer: object, layer: nn.Linear) -> float | None:
    """Return the learning rate of a plain `optim.SGD` of the layer's weight and bias."""
    if replaced(optimizer, optim.SGD) or not isinstance(optimizer, optim.SGD):
        return None
    same = [id(param) for param in optimizer.params] == [id(layer.weight), id(layer.bias)]
    plain = optimizer.momentum == optimizer.weight_decay == 0
    return optimizer.lr if same and plain else None


def train(
    layer: nn.Linear, lr: float, loader: DataLoader, order: NDArray[np.int64] | None
) -> tuple[float, int]:
    """Train on the samples of `order` in the loader's batches; None: on all as they are stored.

    Returns
    -------
    loss : float
        The sum of the losses, each taken before the update by its batch.
    n_correct : int
        How many were predicted right, likewise.
    """
    rows, targets = _rows(layer, loader, order)
    step = calls.Step(lr, 0.0, False, 0.0)
    n_rows = len(loader.y) if order is None else len(order)
    batch_size = min(loader.batch_size, max(n_rows, 1))
    return calls.minibatches(
        rows, _parameters(layer), targets, step, batch_size, check_threads(None)
    )


def evaluate(layer: nn.Linear, loader: DataLoader, order: NDArray[np.int64]) -> tuple[float, int]:
    """Return the sum of the losses of the samples of `order`, and how many are predicted right."""
    rows, targets = _rows(layer, loader, order)
    return calls.evaluate(rows, _parameters(layer), targets, calls.Sink(), check_threads(None))


def _rows(
    layer: nn.Linear, loader: DataLoader, order: NDArray[np.int64] | None
) -> tuple[calls.StoredRows, calls.Targets]:
    features = np.asarray(loader.X).reshape(len(loader.X), -1)
    if isinstance(layer, nn.LazyLinear):
        layer.materialize(features.shape[1])
    if features.shape[1] != layer.in_features:
        raise ValueError(
            f"images have {features.shape[1]} pixels but the layer takes {layer.in_features}"
        )
    # labels index C arrays
    labels = as_labels(loader.y, (len(features),), layer.out_features, name="the data's y")
    stored = as_stored(features, np.dtype(np.float32))
    return calls.StoredRows(stored, loader.scale, order), calls.Targets(labels)


def _parameters(layer: nn.Linear) -> calls.Parameters:
    return calls.Parameters(np.asarray(layer.weight), np.asarray(layer.bias))
