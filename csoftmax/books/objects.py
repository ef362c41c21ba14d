"""Classes in pieces, as the book's current edition writes them in notebooks (section 3.2)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["HyperParameters", "add_to_class"]


def add_to_class(Class: type) -> Callable[[Callable[..., Any]], None]:
    """Make the function below it a method of a class, and of the objects that there are already.

    Parameters
    ----------
    Class : type
        The class; a method of the function's name is replaced.

    Raises
    ------
    TypeError
        An object in the place of its class.

    Examples
    --------
    >>> from csoftmax import d2l1 as d2l
    >>> class Cat:
    ...     sound = "meow"
    >>> cat = Cat()
    >>> @d2l.add_to_class(Cat)
    ... def speak(self):
    ...     return self.sound
    >>> cat.speak()
    'meow'

    Notes
    -----
    D2L current edition section 3.2.1.
    """
    if not isinstance(Class, type):
        name = type(Class).__name__
        raise TypeError(f"Class is an object of the class {name}, expected the class itself")

    def add(function: Callable[..., Any]) -> None:
        setattr(Class, function.__name__, function)

    return add


class HyperParameters:
    """What keeps the arguments of its ``__init__`` as attributes.

    Attributes
    ----------
    hparams : dict
        The arguments that were kept last, by name.

    Examples
    --------
    >>> from csoftmax import d2l1 as d2l
    >>> class Model(d2l.HyperParameters):
    ...     def __init__(self, lr, sigma=0.01, verbose=False):
    ...         self.save_hyperparameters(ignore=["verbose"])
    >>> model = Model(0.1)
    >>> model.lr, model.sigma, hasattr(model, "verbose"), model.hparams
    (0.1, 0.01, False, {'lr': 0.1, 'sigma': 0.01})

    Notes
    -----
    D2L current edition section 3.2.1.
    """

    hparams: dict[str, Any]

    def save_hyperparameters(self, ignore: Sequence[str] = ()) -> None:
        """Keep the local variables of the method that calls this, its arguments first of all.

        Parameters
        ----------
        ignore : list of str
            Names to leave out; ``self`` and names with a leading underscore are left out anyway.

        Raises
        ------
        TypeError
            One name in the place of a list.
        """
        if isinstance(ignore, str):
            raise TypeError(f"ignore is {ignore!r}, expected a list of names: [{ignore!r}]")
        ignored = {"self", *ignore}
        local = sys._getframe(1).f_locals
        self.hparams = {
            name: value
            for name, value in local.items()
            if name not in ignored and not name.startswith("_")
        }
        for name, value in self.hparams.items():
            setattr(self, name, value)
