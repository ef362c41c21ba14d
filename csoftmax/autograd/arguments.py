"""Arguments of NumPy's functions and of the tensor library's methods, brought to one form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def each(function: Callable[[Any], Any], value: Any) -> Any:
    """Apply a function to the items of nested lists, tuples and dicts, and return the same nest."""
    if isinstance(value, dict):
        return {key: each(function, item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(each(function, item) for item in value)
    return function(value)


def numpys_names(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return keyword arguments by NumPy's names."""
    names = {"dim": "axis", "keepdim": "keepdims"}
    return {names.get(name, name): value for name, value in kwargs.items()}


def along(indices: Array, axis: int) -> list[Array]:
    """Return the index that picks, along an axis, the entries at `indices`."""
    places = list(np.ogrid[tuple(map(slice, indices.shape))])
    places[axis] = indices
    return places
