"""``nn.init``: how parameters start. Each function fills its tensor in place and returns it."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["constant_", "normal_", "ones_", "uniform_", "zeros_"]


def normal_(tensor: Any, mean: float = 0.0, std: float = 1.0) -> Any:
    """Draw from the normal distribution N(mean, std^2).

    Examples
    --------
    >>> from csoftmax.d2l1 import nn
    >>> layer = nn.Linear(784, 10)
    >>> round(float(nn.init.normal_(layer.weight, std=0.01).std()), 3)
    0.01
    """
    if not std >= 0:
        raise ValueError(f"std is {std}, expected a number >= 0")
    return _fill(tensor, np.random.normal(mean, std, np.shape(tensor)))


def uniform_(tensor: Any, a: float = 0.0, b: float = 1.0) -> Any:
    """Draw from the uniform distribution on [a, b)."""
    if not a <= b:
        raise ValueError(f"a is {a} and b {b}, expected a <= b")
    return _fill(tensor, np.random.uniform(a, b, np.shape(tensor)))


def constant_(tensor: Any, val: float) -> Any:
    """Set every element to `val`."""
    return _fill(tensor, val)


def zeros_(tensor: Any) -> Any:
    """Set every element to 0."""
    return _fill(tensor, 0.0)


def ones_(tensor: Any) -> Any:
    """Set every element to 1."""
    return _fill(tensor, 1.0)


def _fill(tensor: Any, values: Any) -> Any:
    tensor[...] = values
    return tensor
