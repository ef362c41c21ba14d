"""The fused path: a reader's concise program recognised as what compiled code does in one call.

A net ``Sequential(Flatten(), Linear(...))``, cross-entropy of its logits, plain minibatch SGD and a
`csoftmax.data.DataLoader` are what `csoftmax.training` runs: batches are gathered from the images
as stored, and no Python runs between them. `layer_of`, `rate_of` and `reads` say whether a net, an
optimizer and batches are that, and not where the reader replaced one of their methods, attributes
or functions; `train` and `evaluate` run batches. The weights come to the same numbers as step by
step, to rounding. The current edition's `Trainer` uses this for stretches of an epoch, and the
second edition's ``train_epoch_ch3`` for a whole one: ``train(layer, lr, loader,
loader.epoch_order())``.
"""

from __future__ import annotations

from inspect import getattr_static
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.books import functional, nn, optim
from csoftmax.books.images import ImageLoader, Pictures
from csoftmax.core.checks import as_labels, check_threads
from csoftmax.data import DataLoader
from csoftmax.engine import calls
from csoftmax.rows.base import as_stored

__all__ = [
    "evaluate",
    "layer_of",
    "rate_of",
    "reads",
    "remember",
    "replaced",
    "replaced_function",
    "train",
]

_STEPS = (
    "__call__", "__getattribute__", "__getitem__", "__iter__", "__len__", "__setattr__"
)  # fmt: skip
_METHODS: dict[type, dict[str, Any]] = {}
# what the steps call that is no method
_FUNCTIONS = {
    (module, name): vars(module)[name]
    for module, name in (
        (functional, "cross_entropy"), (functional, "softmax_cross_entropy"), (nn, "linear"),
    )
}  # fmt: skip


def remember(own: type, *attributes: str) -> None:
    """Keep the methods that a class has now, so that `replaced` can tell what a reader changed.

    `attributes` are those of its objects that the fused path reads or sets: no class has them, but
    a property of a reader's class would take their place.
    """
    names = [name for name in dir(own) if name in _STEPS or not name.startswith("__")]
    found = {name: getattr_static(own, name) for name in names}
    _METHODS[own] = {**dict.fromkeys(attributes), **found}


def replaced_function() -> str:
    """Return which function of the layers and losses is another by now; "" if none is."""
    for (module, name), function in _FUNCTIONS.items():
        if vars(module).get(name) is not function:
            return f"{module.__name__}.{name}"
    return ""


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


for _loader in (DataLoader, ImageLoader):
    remember(_loader, "X", "y", "batch_size", "scale", "shuffle")
remember(nn.Sequential)
remember(nn.Flatten)
for _layer in (nn.Linear, nn.LazyLinear):
    remember(_layer, "weight", "bias", "in_features", "out_features")
remember(optim.SGD, "params", "lr", "momentum", "weight_decay")


def reads(loader: object) -> bool:
    """Are these batches that compiled code cuts from the stored samples itself?"""
    own = ImageLoader if isinstance(loader, ImageLoader) else DataLoader
    if not isinstance(loader, DataLoader) or replaced(loader, own):
        return False
    # sparse rows are no array, and pictures that a reader's steps make may be others each time
    kept = isinstance(loader.X, Pictures) and loader.X.same_each_time
    is_array = kept or isinstance(loader.X, np.ndarray)
    return is_array and loader.X.dtype in (np.uint8, np.float16, np.float32)


def layer_of(net: object) -> nn.Linear | None:
    """Return the one layer of ``Sequential(Flatten(), Linear(...))``."""
    if (
        replaced_function()
        or replaced(net, nn.Sequential)
        or not isinstance(net, nn.Sequential)
        or len(net) != 2
    ):
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
