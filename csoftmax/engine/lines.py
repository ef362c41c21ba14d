"""Arithmetic of long vectors of parameters, each operation in one pass over them and on threads.

A vector is flat: W by features, a line of n_classes numbers for each, and after it n_classes more
for the intercept. What is said of a vector here is of the whole, but for the preconditioner: P is
the inverse of ``diagonal + l2`` among lines that sum to 0, and what it does to the intercept is its
caller's. The bits do not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax import _kernels

Array = NDArray[Any]


class Lines:
    """The shape of the vectors, and the most threads that work on them."""

    def __init__(self, n_features: int, n_classes: int, n_threads: int) -> None:
        self.n_features, self.n_classes, self.n_threads = n_features, n_classes, n_threads
        self.split = n_features * n_classes

    def products(
        self, vectors: Sequence[Array], pairs: Sequence[tuple[int, int]], whole: bool = True
    ) -> list[float]:
        """Return the products of pairs of vectors, given by numbers; of W alone if not `whole`."""
        sums: list[float] = _kernels.line_products(
            self.n_features, self.n_classes, vectors, pairs, self.n_threads
        )
        if not whole:
            return sums
        rest = [vector[self.split :].astype(np.float64) for vector in vectors]
        return [s + float(rest[i] @ rest[j]) for s, (i, j) in zip(sums, pairs, strict=True)]

    def step(self, start: Array, direction: Array, step: float, out: Array) -> None:
        """Set out to ``start + step * direction``; out may be start."""
        _kernels.line_step(
            self.n_features, self.n_classes, start, direction, step, out, self.n_threads
        )
        some = slice(self.split, None)
        out[some] = start[some] + out.dtype.type(step) * direction[some]

    def shift(self, W: Array, mean: Array) -> NDArray[np.float64]:
        """Return the sum over features of ``mean[j] * W[j]``, for each class."""
        sums = _kernels.line_shift(self.n_features, self.n_classes, W, mean, self.n_threads)
        return np.array(sums)

    def finish(
        self, dW: Array, W: Array, factor: float, mean: Array | None, db: Array, l2: float
    ) -> float:
        """Set dW to ``factor * (dW - mean db^T) + l2 W``; return ``||W||^2``."""
        return _kernels.line_finish(
            self.n_features, self.n_classes, dW, W, factor, mean, db, l2, self.n_threads
        )

    def largest(self, dW: Array, mean: Array | None, db: Array) -> float:
        """Return the largest of ``|dW + mean db^T|``."""
        return _kernels.line_largest(self.n_features, self.n_classes, dW, mean, db, self.n_threads)

    def direction(
        self, S: Array, Y: Array, slots: Array, of_S: Array, of_Y: Array, gamma: float, g: Array,
        diagonal: Array, l2: float, out: Array,
    ) -> float:  # fmt: skip
        """Set W of out to ``P (of_Y Y - gamma g) + of_S S`` over the slots; return ``<out, g>``."""
        return _kernels.line_direction(
            self.n_features, self.n_classes, S, Y, slots, of_S, of_Y, gamma, g, diagonal, l2, out,
            self.n_threads,
        )  # fmt: skip

    def meet(
        self, S: Array, Y: Array, slots: Array, g: Array, diagonal: Array, l2: float, **pair: Any
    ) -> list[float]:
        """Return ``g P g``, ``S g`` and ``Y P g`` of W over the slots, and products of a new pair.

        That is ``slot``, ``old``, ``direction``, ``step``: s = step * direction and y = g - old go
        there, and s y, y P y, s s, s g, y P g follow. Of it, what belongs to the intercept is not
        set.
        """
        sums: list[float] = _kernels.line_meet(
            self.n_features, self.n_classes, S, Y, slots, g, diagonal, l2, self.n_threads, **pair
        )
        return sums

    def gram(self, S: Array, Y: Array, slots: Array, diagonal: Array, l2: float) -> Array:
        """Return ``Y P Y^T`` of W over the slots."""
        sums = _kernels.line_gram(
            self.n_features, self.n_classes, S, Y, slots, diagonal, l2, self.n_threads
        )
        full = np.zeros((len(slots), len(slots)))
        full[np.tril_indices(len(slots))] = sums
        full += np.tril(full, -1).T
        return full
