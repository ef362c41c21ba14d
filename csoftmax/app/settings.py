"""The settings of a run as the page sends them, checked before anything starts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import csoftmax as cs
from csoftmax.app.data import finite

KINDS = ("sgd", "lbfgs", "sweep")
MOST_EPOCHS = 1000
MOST_SLICES = 100
MOST_VALUES = 100  # of C in a sweep
SLOWEST = 10.0  # seconds per update
DEFAULTS: dict[str, dict[str, Any]] = {
    "sgd": {
        "epochs": 10, "lr": 0.1, "batch_size": 256, "momentum": 0.0, "nesterov": False,
        "weight_decay": 0.0, "seed": 0, "slices": 10, "resume": False, "pace": 0.05,
    },
    "lbfgs": {"C": 1.0, "l1_ratio": 0.0, "tol": 1e-4, "max_iter": 1000, "seed": 0, "pace": 0.05},
    "sweep": {
        "Cs": None, "l1_ratio": 0.0, "tol": 1e-4, "max_iter": 1000, "seed": 0, "pace": 0.0,
    },
}  # fmt: skip


def checked(given: Any) -> tuple[str, dict[str, Any]]:
    """Return the kind of a run and all of its settings.

    Raises
    ------
    ValueError
        For a setting that is unknown or out of its range: the message names it.
    """
    if not isinstance(given, dict):
        raise ValueError(f"the settings are {given!r}, expected an object")
    kind = given.get("kind", "sgd")
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}, expected sgd, lbfgs or sweep")
    settings = dict(DEFAULTS[kind])
    for name, value in given.items():
        if name == "kind" or value is None:
            continue
        if name not in settings:
            raise ValueError(f"{name} is no setting of {kind}")
        settings[name] = value
    for name, value in settings.items():
        if name != "Cs":
            settings[name] = _one(name, value)
    if kind == "sgd":
        sgd_of(settings)
    if kind == "sweep":
        settings["Cs"] = _values(settings["Cs"])
    if settings.get("l1_ratio") and settings.get("C") == math.inf:
        raise ValueError("l1_ratio needs a finite C: inf is no penalty")
    return kind, settings


def sgd_of(settings: dict[str, Any]) -> cs.SGD:
    """Return the optimizer of a run by minibatches."""
    names = ("lr", "momentum", "nesterov", "weight_decay")
    return cs.SGD(**{name: settings[name] for name in names})


_INTEGERS = {
    "epochs": (1, MOST_EPOCHS), "batch_size": (1, 1 << 30), "slices": (1, MOST_SLICES),
    "seed": (0, 1 << 53), "max_iter": (1, 100_000),
}  # fmt: skip
_NUMBERS = {"pace": (0.0, SLOWEST), "l1_ratio": (0.0, 1.0), "tol": (0.0, 1.0)}


def _one(name: str, value: Any) -> Any:
    if name in _INTEGERS:
        low, high = _INTEGERS[name]
        if isinstance(value, bool) or value != (whole := finite(value, name, low, high)) // 1:
            raise ValueError(f"{name} is {value!r}, expected an integer")
        return int(whole)
    if name in _NUMBERS:
        return float(finite(value, name, *_NUMBERS[name]))
    if name == "C":
        if value in ("inf", math.inf):
            return math.inf
        return _C(value)
    if name in ("nesterov", "resume"):
        if not isinstance(value, bool):
            raise ValueError(f"{name} is {value!r}, expected true or false")
        return value
    return finite(value, name, -1e300, 1e300)  # the optimizer says what it takes


def _C(value: Any) -> float:
    C = float(finite(value, "C", 0, 1e300))
    if C == 0:
        raise ValueError("C is 0, expected a number > 0")
    return C


def _values(Cs: Any) -> list[float]:
    """Return the values of C that a sweep tries, from small to large; a number asks for so many."""
    if Cs is None or (isinstance(Cs, int) and not isinstance(Cs, bool)):
        n = 12 if Cs is None else int(finite(Cs, "Cs", 2, MOST_VALUES))
        return grid(n)
    if not isinstance(Cs, list) or not 2 <= len(Cs) <= MOST_VALUES:
        raise ValueError(f"Cs is {Cs!r}, expected a list of 2 to {MOST_VALUES} numbers")
    return sorted({_C(C) for C in Cs})


def grid(n: int) -> list[float]:
    """Return the values of C that the command line's --sweep tries."""
    values: list[float] = np.logspace(-6, 5, n).tolist()
    return values
