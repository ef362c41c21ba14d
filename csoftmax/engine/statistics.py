"""What a solver asks of the rows before its first step, in one pass: moments, sums, a sample.

It is for rows that are costly to read, wherever they are. The gradient of the null model follows
from the sums by class, and the sample is copied as its rows come by.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from csoftmax.engine.local_passes import LocalPasses
from csoftmax.engine.passes import NullSums, Passes
from csoftmax.engine.targets import Moments, moments_of_targets
from csoftmax.rows.base import as_stored

Array = NDArray[Any]


class Statistics(NamedTuple):
    """Sums over all rows that do not depend on the parameters, and some of the rows."""

    moments: Moments
    class_sums: NDArray[np.float64]  # (n_weights, n_classes, n_features) of the rows, by target
    sample: LocalPasses  # rows of memory, with all rows of weights

    def null_sums(
        self, shares: NDArray[np.float64], of_features: bool, dtype: np.dtype[Any]
    ) -> NullSums:
        """Return the sums at W = 0 without a pass: all rows have the probabilities `shares`."""
        features, moments = self.class_sums.sum(axis=1), self.moments
        dW = shares[:, :, None] * features[:, None] - self.class_sums
        db = shares * moments.totals[:, None] - moments.mass
        losses = -(moments.mass * np.log(np.where(shares > 0, shares, 1.0))).sum(axis=1)
        return NullSums(features * of_features, losses.tolist(), dW.astype(dtype), db, 1)


def statistics(passes: Passes, n_sampled: int, seed: int = 0) -> Statistics:
    """Return the statistics, with about `n_sampled` of the rows, whatever they weigh.

    ValueError names the first value of X that is not finite.
    """
    tree, numbers, X, of_rows = passes.class_sums(n_sampled / max(1, passes.n_rows), seed)
    sums = tree.total().reshape(passes.n_weights, passes.n_classes, passes.n_features)
    if not np.isfinite(sums).all():
        passes.raise_bad_value()
    sample = LocalPasses(
        as_stored(X, passes.dtype),
        of_rows,
        passes.n_classes,
        weights=None if passes.weights is None else passes.weights[:, numbers].copy(),
        scale=passes.scale, n_threads=passes.n_threads,
    )  # fmt: skip
    return Statistics(
        moments_of_targets(passes.target, passes.weights, passes.n_classes), sums, sample
    )
