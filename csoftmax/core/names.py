"""Classes and features matched by their names, wherever a model meets data.

Numbers alone do not say which class they mean: a test set that lacks a class, or lists the classes
in another order, numbers them in its own way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

_SHOWN = 10


def as_names(names: Iterable[str] | None, count: int, what: str, counted: str) -> tuple[str, ...]:
    """Return names as a tuple of `count` strings, or an empty one; `what` and `counted` name them.

    Raises
    ------
    TypeError
        For one string, which would be a name per character.
    ValueError
        For another number of names.
    """
    if isinstance(names, str):
        raise TypeError(f"{what} is {names!r}, expected one name per {what.partition('_')[0]}")
    given = tuple(map(str, () if names is None else names))
    if given and len(given) != count:
        raise ValueError(f"{what} has {len(given)} names but {counted} is {count}")
    return given


def listed(names: Sequence[str]) -> str:
    """Return the first names, separated by commas."""
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def is_integer_name(name: str) -> bool:
    """Is this the name of a class that is an integer?"""
    return name.removeprefix("-").isdecimal()


def positions(n_classes: int) -> tuple[str, ...]:
    """Return the names that classes without names go by: "0", "1", ..."""
    return tuple(map(str, range(n_classes)))


def class_order(
    names: Sequence[str], wanted: Sequence[str], n_classes: int, where: str
) -> NDArray[np.int64] | None:
    """Return the model's number of each class of some data: None if the numbers are the same.

    Classes go by name. Integers count the other side's classes where none of these is an integer.
    -1 stands for a class that the model does not know.

    Parameters
    ----------
    names : sequence of str
        The data's; empty if its labels are numbers and nothing else.
    wanted : sequence of str
        The model's; empty if it has none.
    n_classes : int
        The model's.
    where : str
        What to call the data in a message.

    Raises
    ------
    ValueError
        Where nothing says which of the model's classes the data have.

    Examples
    --------
    >>> class_order(["dog", "ant"], ["ant", "bee", "dog"], 3, "data")
    array([2, 0])
    >>> class_order(["0", "2"], ["ant", "bee", "dog"], 3, "data")
    array([0, 2])
    """
    names, wanted = tuple(names), tuple(wanted)
    counted = positions(n_classes)
    if not names or names == (wanted or counted):
        return None
    known = {name: k for k, name in enumerate(wanted or counted)}
    if len(known) < n_classes:
        twice = next(name for name in wanted if wanted.count(name) > 1)
        raise ValueError(
            f"{where} has the classes {listed(names)}, but two of the model's are {twice!r}"
        )
    if not set(names) <= set(known):
        if not any(map(is_integer_name, known)) and all(map(is_integer_name, names)):
            known = {name: k for k, name in enumerate(counted)}
        elif not wanted or (wanted == counted and not any(map(is_integer_name, names))):
            if len(names) == n_classes:
                return None
            raise ValueError(
                f"{where} has {len(names)} classes, {listed(names)}, but the model has "
                f"{n_classes} without names: give it class_names"
            )
    return np.array([known.get(name, -1) for name in names], np.int64)


def reordered(
    labels: NDArray[np.int64],
    order: NDArray[np.int64] | None,
    names: Sequence[str],
    wanted: Sequence[str],
    where: str,
) -> NDArray[np.int64]:
    """Return labels 0..len(names)-1 as the model numbers them, by the `class_order` of the names.

    Raises
    ------
    ValueError
        If a label is of a class that the model does not know.
    """
    if order is None:
        return labels
    moved: NDArray[np.int64] = order[labels]
    if moved.min(initial=0) < 0:
        stranger = names[int(labels[moved.argmin()])]
        raise ValueError(
            f"{where} has the class {stranger!r}, but the model's are {listed(wanted)}"
        )
    return moved


def check_feature_names(names: Sequence[str], wanted: Sequence[str], where: str) -> None:
    """Raise ValueError if both sides name their features and the names are not the same.

    Columns are not put in order here: that would be a copy of the data.
    """
    names, wanted = tuple(names), tuple(wanted)
    if not names or not wanted or names == wanted:
        return
    missing = [name for name in wanted if name not in names]
    extra = [name for name in names if name not in wanted]
    if missing:
        problem = f"lacks the model's {_features(missing)}"
    elif extra:
        problem = f"has the {_features(extra)}, which the model does not have"
    else:
        j = next(j for j, pair in enumerate(zip(names, wanted, strict=False)) if len({*pair}) > 1)
        problem = f"has the feature {names[j]!r} in column {j}, where the model has {wanted[j]!r}"
    raise ValueError(
        f"{where} {problem}: read the table with feature_names=model.feature_names, which "
        "finds the columns by name"
    )


def _features(names: Sequence[str]) -> str:
    return f"feature{'s' if len(names) > 1 else ''} {listed(list(map(repr, names)))}"
