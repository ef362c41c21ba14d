"""What a cross-validation tries: values of C, and shares of L1."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.estimators.inputs import check_C, check_l1_ratio

Array = NDArray[Any]


def grid_of(Cs: Any, l1_ratios: Any) -> tuple[Array, Array]:
    """Return the values of C and the shares of L1, checked."""
    values, ratios = _as_Cs(Cs), _as_ratios(l1_ratios)
    if ratios.any() and np.isinf(values).any():
        raise ValueError("Cs has inf, expected finite numbers where l1_ratios has one above 0")
    return values, ratios


def _as_Cs(Cs: Any) -> Array:
    if isinstance(Cs, numbers.Integral) and not isinstance(Cs, bool):
        if Cs < 1:
            raise ValueError(f"Cs is {Cs}, expected at least 1 or a list of numbers > 0")
        return np.logspace(-4, 4, int(Cs))
    values = list(Cs) if np.iterable(Cs) and not isinstance(Cs, str) else []
    if not values:
        raise ValueError(f"Cs is {Cs!r}, expected how many values of C or a list of them")
    for i, C in enumerate(values):
        check_C(C, f"Cs[{i}]")
    return np.array(values, np.float64)


def _as_ratios(l1_ratios: Any) -> Array:
    values = list(l1_ratios) if np.iterable(l1_ratios) and not isinstance(l1_ratios, str) else []
    if not values:
        raise ValueError(f"l1_ratios is {l1_ratios!r}, expected a list of numbers from 0 to 1")
    for i, ratio in enumerate(values):
        check_l1_ratio(ratio, f"l1_ratios[{i}]")
    return np.array(values, np.float64)
