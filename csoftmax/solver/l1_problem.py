"""The problem of a fit with L1: its arguments, checked, and the rows of each head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from csoftmax.core.checks import (
    Stored,
    as_features,
    as_labels_or_probabilities,
    check_number,
    check_positive,
    check_threads,
    compute_dtype,
)
from csoftmax.core.sparse import CSR
from csoftmax.engine.calls import wide_labels
from csoftmax.engine.class_rows import Array, ClassRows
from csoftmax.rows.base import as_stored, blocks, take
from csoftmax.rows.memory import MemoryRows
from csoftmax.solver.arguments import as_heads, as_parameters, as_weight_rows
from csoftmax.solver.checkpoint import digest_of
from csoftmax.solver.penalty import Penalty
from csoftmax.solver.problem import Problem

RowsT = TypeVar("RowsT", bound=ClassRows)


@dataclass(frozen=True)
class L1Problem:
    """What `minimize_l1` was given, checked.

    Attributes
    ----------
    y : ndarray
        Labels, or a row of probabilities for each row of X.
    penalties : list of Penalty
        One for each head, of ``scale * W``.
    weights : float64 array (n_weights, n_rows) or None
    weight_of_head : int64 array (n_heads,)
    free : int64 array
        The classes whose weights may differ from 0.
    """

    X: Any
    y: Array
    n_classes: int
    penalties: list[Penalty]
    scale: float
    weights: NDArray[np.float64] | None
    weight_of_head: NDArray[np.int64]
    fit_intercept: bool
    free: NDArray[np.int64]
    n_threads: int

    @property
    def n_features(self) -> int:
        n: int = self.X.n_features if hasattr(self.X, "n_features") else self.X.shape[1]
        return n

    def fingerprint(self, starts: tuple[Array | None, Array | None], path: bool) -> str:
        """Return a digest of all that the bits depend on, except tol and max_iter."""
        settings = (
            "l1", self.penalties, self.n_classes, self.scale, self.fit_intercept, path,
            [start is None for start in starts], self.weights is None,
        )  # fmt: skip
        y = self.y if self.y.ndim == 2 else wide_labels(self.y)  # as they were in older files
        arrays = (y, self.weights, self.weight_of_head, self.free, *starts)
        return digest_of(MemoryRows(self.X).fingerprint(), settings, arrays)

    def rows(self, r: int) -> ClassRows:
        """Return the rows that a row of weights counts."""
        weight = None if self.weights is None else self.weights[r]
        return counted_rows(
            ClassRows, self.X, self.y, self.n_classes, weight, self.fit_intercept, self.n_threads
        )


def counted_rows(
    kind: type[RowsT], X: Stored, y: Array, n_classes: int, weight: Array | None,
    fit_intercept: bool, n_threads: int,
) -> RowsT:  # fmt: skip
    """Return the rows whose weight is above 0."""
    if weight is not None:
        counting = weight > 0
        if not counting.all():
            X, y, weight = take(X, counting), y[counting], weight[counting]
        weight = weight / weight.max()  # the sum of large ones may overflow
        weight *= len(weight) / weight.sum()
        if (weight == weight[0]).all():
            weight = None
    rows = kind(X, y, n_classes, weight, compute_dtype(X), fit_intercept, n_threads)
    if not np.isfinite(rows.largest).all():
        raise_bad_value(X)
    return rows


def checked_l1_problem(
    X: ArrayLike,
    y: ArrayLike,
    n_classes: int,
    C: float | ArrayLike,
    l1_ratio: float,
    scale: float,
    sample_weight: ArrayLike | None,
    weight_of_head: ArrayLike | None,
    fit_intercept: bool,
    one_row: bool,
    n_threads: int | None,
) -> L1Problem:
    features = as_features(X)
    n = len(features)
    n_classes = check_positive(n_classes, "n_classes")
    target = as_labels_or_probabilities(y, n, n_classes)
    weights = as_weight_rows(sample_weight, n)
    values, of_head = as_heads(C, weight_of_head, weights)
    if n == 0:
        raise ValueError("X has 0 rows, expected at least one sample that counts")
    totals = np.array([float(n)]) if weights is None else weights.sum(axis=1)
    if not totals.all():
        raise ValueError(
            "sample_weight has a row that sums to 0, expected at least one sample that counts"
        )
    return L1Problem(
        as_stored(features, compute_dtype(features)), target, n_classes,
        l1_penalties(values, totals[of_head], l1_ratio, scale), float(scale), weights, of_head,
        bool(fit_intercept), free_classes(n_classes, one_row), check_threads(n_threads),
    )  # fmt: skip


def l1_problem_of(whole: Problem, l1_ratio: float, scale: float, one_row: bool) -> L1Problem:
    """Return the heads of a problem over rows that may not be in memory, with L1."""
    passes = whole.passes
    # where features are very far from 1, those of sparse shards are multiplied as they are read
    scale = check_number(scale, "scale") * passes.scale / whole.unit
    penalties = l1_penalties(whole.C, whole.total, l1_ratio, scale)
    return L1Problem(
        passes.rows, passes.target, whole.n_classes, penalties, scale, None,
        whole.weight_of_head, whole.fit_intercept, free_classes(whole.n_classes, one_row),
        passes.n_threads,
    )  # fmt: skip


def l1_penalties(C: Array, totals: Array, l1_ratio: float, scale: float) -> list[Penalty]:
    """Return the penalties of heads, of the weights of X as it is stored, not of scale * X."""
    ratio = check_number(l1_ratio, "l1_ratio")
    if not 0 < ratio <= 1:
        raise ValueError(f"l1_ratio is {l1_ratio}, expected a number from 0 to 1")
    if np.isinf(C).any():
        raise ValueError("C has inf, expected finite numbers, or inf for every head")
    if not check_number(scale, "scale") > 0:
        raise ValueError(f"scale is {scale}, expected a number > 0")
    return [
        Penalty(ratio / (c * S) / scale, (1 - ratio) / (c * S) / scale**2)
        for c, S in zip(C, totals, strict=True)
    ]


def free_classes(n_classes: int, one_row: bool) -> NDArray[np.int64]:
    """Return the classes whose weights may differ from 0."""
    if one_row and n_classes != 2:
        raise ValueError(f"one_row is True for {n_classes} classes, expected 2")
    return np.array([1]) if one_row else np.arange(n_classes)


def l1_starts(
    problem: L1Problem, W: ArrayLike | None, b: ArrayLike | None
) -> tuple[Array | None, Array | None]:
    H, K, d = len(problem.penalties), problem.n_classes, problem.n_features
    return (
        None if W is None else as_parameters(W, (H, K, d), "W"),
        None if b is None else as_parameters(b, (H, K), "b"),
    )


def raise_bad_value(X: Stored) -> NoReturn:
    """Raise ValueError with the first value of X that is not finite."""
    if isinstance(X, CSR):
        entry = int(np.flatnonzero(~np.isfinite(X.data))[0])
        i = int(np.searchsorted(X.indptr, entry, side="right")) - 1
        j, value = X.indices[entry], X.data[entry]
    else:
        for some in blocks(len(X), 1024):
            bad = np.argwhere(~np.isfinite(X[some]))
            if len(bad):
                break
        i, j = some.start + int(bad[0, 0]), bad[0, 1]
        value = X[i, j]
    raise ValueError(f"X[{i}, {j}] is {value}, expected finite numbers")
