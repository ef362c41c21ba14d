"""Where the next fit of a path begins: where the two before it point."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# A fit is predicted no further ahead than so many times the path's last step, in logarithms of the
# penalty's strength.
LONGEST = 2.0


class Solved(NamedTuple):
    """The end of a fit: the penalty's strength, the weights that are not 0 and their places, c."""

    strength: float
    support: NDArray[np.int64]
    weights: Array
    c: NDArray[np.float64]

    def state(self, name: str) -> dict[str, Array]:
        return {f"{name}.{key}": np.array(value) for key, value in self._asdict().items()}

    @classmethod
    def restored(cls, name: str, state: dict[str, Array]) -> Solved | None:
        """Return what `state` was called for; None if there was nothing."""
        if f"{name}.strength" not in state:
            return None
        strength, *arrays = (state[f"{name}.{key}"] for key in cls._fields)
        return cls(strength.item(), *arrays)


def ahead(before: Solved, last: Solved, strength: float) -> tuple[Array, NDArray[np.float64]]:
    """Return the weights at the places of `last`, and c, for a penalty of another strength.

    They go on as from `before` to `last`, in the logarithm of the strength, but no weight beyond 0.
    """
    known = math.log(before.strength / last.strength)
    t = min(math.log(last.strength / strength) / known, LONGEST) if known > 0 else 0.0
    there = np.searchsorted(before.support, last.support)
    there = np.minimum(there, max(len(before.support) - 1, 0))
    was = np.zeros_like(last.weights)
    if len(before.support):
        is_there = before.support[there] == last.support
        was[is_there] = before.weights[there[is_there]]
    to = last.weights + last.weights.dtype.type(t) * (last.weights - was)
    to[to * last.weights < 0] = 0
    return to, last.c + t * (last.c - before.c)
