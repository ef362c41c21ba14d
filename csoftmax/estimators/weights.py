"""How much samples count: weights of samples, and weights of classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from csoftmax.core.checks import FLOAT64, as_weights, check_number
from csoftmax.engine.passes import mass_of_classes
from csoftmax.estimators.inputs import Labels, listed

Array = NDArray[Any]


def _check_class_weight(class_weight: Any, classes: Array) -> None:
    """Refuse what is no class weighting, and a mapping that does not fit the classes."""
    if class_weight is None or (isinstance(class_weight, str) and class_weight == "balanced"):
        return
    if not isinstance(class_weight, Mapping):
        raise ValueError(f'class_weight is {class_weight!r}, expected a dict, "balanced" or None')
    labels = classes.tolist()
    unknown = [label for label in class_weight if label not in labels]
    if unknown and any(label not in class_weight for label in labels):
        raise ValueError(
            f"class_weight has the key {unknown[0]!r}, expected the classes {listed(classes)}"
        )
    for label, weight in class_weight.items():
        if check_number(weight, f"class_weight[{label!r}]") < 0:
            raise ValueError(f"class_weight[{label!r}] is {weight}, expected at least 0")


def weights_of_classes(
    class_weight: Any, classes: Array, y: Array, weight: Array | None
) -> Array | None:
    """Return one weight per class, or None; "balanced" ones are S / (n_classes * S_k)."""
    _check_class_weight(class_weight, classes)
    if class_weight is None:
        return None
    if isinstance(class_weight, Mapping):
        return np.array([class_weight.get(label, 1.0) for label in classes.tolist()], np.float64)
    totals = mass_of_classes(y, weight, len(classes))
    with np.errstate(divide="ignore"):
        balanced: Array = totals.sum() / (len(classes) * totals)
    return np.where(totals > 0, balanced, 0.0)


def checked_weight(sample_weight: Any, n_samples: int, name: str = "sample_weight") -> Array | None:
    """Return one weight per sample in float64, some of them not 0; None where none are given."""
    if sample_weight is None:
        return None
    given = np.asarray(sample_weight)
    if given.ndim == 0:
        given = np.full(n_samples, given[()])
    weight = as_weights(given, n_samples, name, FLOAT64)
    if not weight.any():
        raise ValueError(f"{name} is zero for every sample, expected some weight")
    return weight


def with_class_weights(
    y: Array, weight: Array | None, by_class: Array | None, name: str = "y"
) -> tuple[Array, Array | None]:
    """Return targets and weights of samples, the weights c of the classes taken into account.

    A sample of class k weighs c_k times as much. With probabilities t the loss is
    ``sum_k c_k t_ik loss_ik``: that of the probabilities ``c_k t_ik / m_i`` of a sample that weighs
    ``m_i = sum_k c_k t_ik`` times as much.
    """
    if by_class is None:
        return y, weight
    mass = by_class[y] if y.ndim == 1 else y @ by_class
    if y.ndim == 2:
        target = y * by_class
        target /= np.where(mass > 0, mass, 1.0)[:, None]
        lost = mass == 0  # the weight is 0, and any target will do
        target[lost] = y[lost]
        y = target
    weight = mass if weight is None else weight * mass
    if not weight.any():
        raise ValueError(f"class_weight is zero for every class in {name}, expected some weight")
    return y, weight


def weights_of_samples(
    sample_weight: ArrayLike | None, class_weight: Any, classes: Array, y: Labels
) -> Array | None:
    """Return sample weight times class weight in float64, or None where all are 1."""
    weight = checked_weight(sample_weight, len(y))
    by_class = weights_of_classes(class_weight, classes, y, weight)
    return with_class_weights(y, weight, by_class)[1]


def rows_that_count(weight: Array | None) -> Labels | None:
    """Return the rows of weight > 0; None is all."""
    return None if weight is None or weight.all() else np.flatnonzero(weight)
