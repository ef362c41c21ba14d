"""Arguments of NumPy's functions and of the tensor library's methods, brought to one form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Extreme(NamedTuple):
    """What ``max(dim=...)`` returns: the values, and where along the axis they stand."""

    values: Any
    indices: Any


def each(function: Callable[[Any], Any], value: Any) -> Any:
    """Apply a function to the items of nested lists, tuples and dicts, and return the same nest."""
    if isinstance(value, dict):
        return {key: each(function, item) for key, item in value.items()}
    if not isinstance(value, (list, tuple)):
        return function(value)
    items = (each(function, item) for item in value)
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)


def items_of(*values: Any) -> list[Any]:
    """Return what nested lists, tuples and dicts hold."""
    items: list[Any] = []
    each(items.append, values)
    return items


# NumPy's function -> the method that does the same, and its names of the arguments after the first
METHODS = {
    getattr(np, name): (name, arguments)
    for name, arguments in {
        "sum": ("axis", "dtype", "out", "keepdims"),
        "mean": ("axis", "dtype", "out", "keepdims"),
        "max": ("axis", "out", "keepdims"),
        "min": ("axis", "out", "keepdims"),
        "amax": ("axis", "out", "keepdims"),
        "amin": ("axis", "out", "keepdims"),
        "argmax": ("axis", "out"),
        "reshape": ("shape", "order"),
        "ravel": ("order",),
        "squeeze": ("axis",),
        "transpose": ("axes",),
        "clip": ("min", "max", "out"),
        "copy": ("order", "subok"),
        "dot": ("other", "out"),
    }.items()
}
SPELLED = {"a_min": "min", "a_max": "max", "newshape": "shape", "b": "other"}


def as_method(func: Any, args: Any, kwargs: Any) -> tuple[str, list[Any], dict[str, Any]] | None:
    """Return the method that a NumPy function stands for, and its arguments, or None."""
    if func not in METHODS or not args:
        return None
    name, names = METHODS[func]
    named = dict(zip(names, args[1:], strict=False))
    named |= {SPELLED.get(key, key): value for key, value in kwargs.items()}
    named.pop("subok", None)
    first = [named.pop(key) for key in ("shape", "axes", "other") if key in named]
    return name, [value for value in first if value is not None], named


def numpys_names(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return keyword arguments by NumPy's names."""
    names = {"dim": "axis", "keepdim": "keepdims"}
    return {names.get(name, name): value for name, value in kwargs.items()}


def along(indices: Array, axis: int) -> list[Array]:
    """Return the index that picks, along an axis, the entries at `indices`."""
    places = list(np.ogrid[tuple(map(slice, indices.shape))])
    places[axis] = indices
    return places
