"""The data, loaders and states that the tests of training share."""

from __future__ import annotations

from typing import Any

import numpy as np

import csoftmax as cs

Array = Any


def stored_as(X: Array, dtype: Any) -> tuple[Array, float]:
    """Pixels 0..255 in another type, and the scale that makes them 0..1 again."""
    X = X.reshape(len(X), -1)
    if np.dtype(dtype).kind == "f":
        return (X / 255).astype(dtype), 1.0
    return X.astype(dtype), 1 / 255


def synthetic(n: int, j: int, k: int, dtype: Any = np.uint8) -> cs.Dataset:
    rng = np.random.default_rng([n, j, k])
    X = rng.integers(0, 256, (n, j), dtype=np.uint8)
    y = (X[:, : max(1, j // 3)].astype(np.int64).sum(axis=1) + rng.integers(0, 2, n)) % k
    stored, scale = stored_as(X, dtype)
    return cs.Dataset(stored, y, scale)


GOOD_DATA = synthetic(50, 6, 3)


def state_of(model: cs.SoftmaxRegression, optimizer: cs.SGD | None = None) -> tuple[Any, ...]:
    """All that training changes, as bytes."""
    velocities = () if optimizer is None else optimizer.velocities_of(model)
    return (model.scale, *(a.tobytes() for a in (model.W, model.b, *velocities)))


class OrderedLoader(cs.DataLoader):
    """A loader with a sampler of one's own."""

    order: Any = None

    def epoch_order(self) -> Any:
        return self.order


def ordered(order: Any) -> OrderedLoader:
    data = synthetic(50, 6, 3)
    loader = OrderedLoader(data.X, data.y, 8, scale=data.scale)
    loader.order = order
    return loader
