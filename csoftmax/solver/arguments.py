"""The arguments of `minimize` that describe the problem: checked, and in units that floats hold."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from csoftmax.core.checks import (
    Stored,
    as_array,
    as_features,
    as_labels,
    as_labels_or_probabilities,
    as_weights,
    check_number,
    check_positive,
    check_threads,
    compute_dtype,
)
from csoftmax.core.sparse import CSR
from csoftmax.engine.local_passes import LocalPasses
from csoftmax.engine.passes import Passes
from csoftmax.engine.row_weights import (
    FoldWeights,
    Weights,
    n_counting,
    totals_of,
    weight_blocks,
)
from csoftmax.engine.sparse_shard_passes import passes_of_shards
from csoftmax.engine.statistics import statistics
from csoftmax.engine.targets import CountedLabels
from csoftmax.rows.base import stacked, take
from csoftmax.rows.shards import ShardRows
from csoftmax.solver import newton
from csoftmax.solver.corrected import LEAST, check_sample_rows, usual_rows
from csoftmax.solver.penalty import Penalty
from csoftmax.solver.problem import Problem
from csoftmax.solver.sample import most_rows

Array = NDArray[Any]

# Features, and row weights, are left as they are while their size is within a factor 2^UNIT_BITS of
# 1: their squares, and those of W, are then far from float32's limits, 2^-126 and 2^128. The size
# of features is measured on at most UNIT_ROWS rows.
UNIT_BITS, UNIT_ROWS = 16, 1024
# Sparse rows become an array of at most so many bytes if Newton's method suits them, or if
# they have so large a share of entries. How long sparse rows took against an array, on a busy
# machine (`benchmarks.few_features`; 3 and 10 classes, C = 1 and 100, 4 MB; medians and ranges):
# - 32 to 128 features: with 2 % of entries .27 (.09 to .95), with 10 % .61 (.25 to 1.2), with 30 %
#   .64 (.34 to 1.3), with 60 % 1.0 (.33 to 1.6);
# - 512 and 2,048: .51 (.13 to 1.4), .76 (.37 to 1.9), 1.2 (.49 to 2.4) and 2.8 (1.6 to 8.2).
DENSE_BYTES, DENSE_SHARE = 1 << 24, 0.5
# By float type: a unit, and the l2 of a penalty in that unit, are at most 2 to this power.
MOST_BITS = {"f": 100, "d": 900}


@runtime_checkable
class HasLabels(Protocol):
    """Shards that have their labels: see `csoftmax.data.shards.Shards`."""

    def encoded(self, classes: ArrayLike | None = None) -> tuple[Array, Array]: ...
    def weights(self) -> Array | None: ...


def checked_problem(
    X: ArrayLike,
    y: ArrayLike | None,
    n_classes: int,
    *,
    C: float | ArrayLike,
    scale: float,
    sample_weight: ArrayLike | FoldWeights | None,
    weight_of_head: ArrayLike | None,
    fit_intercept: bool,
    n_threads: int | None,
    sample_rows: int | None = 0,
    least_rows: int = LEAST,
) -> Problem:
    """Check the arguments of `minimize` that describe the problem.

    A sample has `least_rows` for each free parameter, at least.
    """
    n_classes = check_positive(n_classes, "n_classes")
    shards = shards_of(X)
    features: Stored | ShardRows = as_features(X) if shards is None else shards
    if y is None and isinstance(X, HasLabels):
        y, sample_weight = X.encoded(np.arange(n_classes))[1], X.weights()
    if isinstance(features, CSR) and is_dense_enough(features, n_classes):
        features = as_dense(features)
    if shards is not None and np.ndim(cast(ArrayLike, y)) == 2:
        raise TypeError("y has probabilities, expected labels where X has shards")
    if isinstance(y, CountedLabels):
        target = cast(Array, y)
    else:
        target = as_labels_or_probabilities(cast(ArrayLike, y), len(features), n_classes)
    weights: Weights | None
    if isinstance(sample_weight, FoldWeights):  # made block by block; whoever made it has checked
        weights = sample_weight if shards is not None else sample_weight[:, :]
    else:
        weights = as_weight_rows(sample_weight, len(features))
    values, of_head = as_heads(C, weight_of_head, weights)
    if weights is not None:
        weights, values = _of_mean_near_1(weights, values, of_head)
    scale = check_number(scale, "scale")
    total = len(features) if weights is None else totals_of(weights).min()
    unit = _unit_of(features, scale, Penalty.of(float(values.min()), float(total)))
    whole_scale = scale * unit
    if abs(math.log2(abs(whole_scale) or 1.0)) > UNIT_BITS:
        if isinstance(features, CSR):
            features, whole_scale = _rescaled(features, whole_scale)
        elif isinstance(features, ShardRows) and features.is_sparse:
            features, whole_scale = _rescaled_shards(features, whole_scale), 1.0
    passes: Passes
    if isinstance(features, ShardRows):
        n_sampled = most_rows(features.n_features, n_classes, compute_dtype(features).itemsize)
        passes = passes_of_shards(features)(
            target, n_classes, weights=weights, scale=whole_scale,
            n_threads=check_threads(n_threads), n_sampled=n_sampled,
        )  # fmt: skip
    else:
        passes = LocalPasses(
            features, target, n_classes, weights=cast(Any, weights), scale=whole_scale,
            n_threads=check_threads(n_threads),
        )  # fmt: skip
    if sample_rows is None:
        sample_rows = usual_rows(features, n_classes)
    elif sample_rows:
        check_sample_rows(sample_rows, features, n_classes, least_rows)
    return Problem(
        passes, C=values, weight_of_head=of_head, fit_intercept=bool(fit_intercept), unit=unit,
        statistics=statistics(passes, sample_rows) if sample_rows else None,
    )  # fmt: skip


def shards_of(X: object) -> ShardRows | None:
    """Return the rows of shards, or None for anything else."""
    rows = X if isinstance(X, ShardRows) else getattr(X, "rows", None)
    return rows if isinstance(rows, ShardRows) else None


def is_dense_enough(X: CSR, n_classes: int) -> bool:
    """Say whether sparse rows are solved as an array: a small one, whose whole Hessian is cheap."""
    (n, f), itemsize = X.shape, compute_dtype(X).itemsize
    is_filled = X.rows.n_entries >= DENSE_SHARE * n * f
    return n * f * itemsize <= DENSE_BYTES and (newton.suits(n, f, n_classes) or is_filled)


def as_dense(X: CSR) -> Array:
    """Return sparse rows as an array of the compute type, in which features that come twice add."""
    return CSR(X.data.astype(compute_dtype(X)), X.indices, X.indptr, X.shape[1]).toarray()


def _of_mean_near_1(
    weights: Weights, C: NDArray[np.float64], of_head: NDArray[np.int64]
) -> tuple[Weights, NDArray[np.float64]]:
    """Return weights that float32 holds, and the C of the same objectives.

    Rows of weights whose mean is far from 1 are multiplied by a power of two.
    """
    largest, shares = np.full(len(weights), 2.0**-1000), np.zeros(len(weights))
    for _, block in weight_blocks(weights):
        np.maximum(largest, block.max(axis=1), out=largest)
    for _, block in weight_blocks(weights):
        shares += (block / largest[:, None]).sum(axis=1)  # the sum of the weights may overflow
    means = largest * shares / np.maximum(n_counting(weights), 1)
    bits = np.round(np.log2(np.where(means > 0, means, 1.0)))
    factors = np.exp2(np.where(np.abs(bits) > UNIT_BITS, -bits, 0.0))
    if (factors == 1).all():
        return weights, C
    if isinstance(weights, FoldWeights):
        return weights.scaled(factors), C / factors[of_head]
    return weights * factors[:, None], C / factors[of_head]


def _unit_of(X: Stored | ShardRows, scale: float, strongest: Penalty) -> float:
    """Return the power of two that features are multiplied by, so that float32 holds the squares.

    It is 1 unless features are very far from 1. Then it makes the largest root mean square of a
    column as far above 1 as the smallest is below it; they are measured on some of the rows. The l2
    of a penalty is multiplied by the square of the unit and must not overflow, so the strongest
    penalty of the heads limits the unit.
    """
    if X.dtype.kind != "f" or X.dtype.itemsize < 4 or not math.prod(X.shape):
        return 1.0
    rows = some_rows(X)
    squares: Array
    values = (rows.data if isinstance(rows, CSR) else rows).astype(np.float64, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):
        if isinstance(rows, CSR):
            squares = np.bincount(rows.indices, np.square(values), rows.shape[1])
        else:
            squares = np.einsum("ij,ij->j", values, values)
        squares = squares * (scale * scale / len(rows))
    if X.dtype.itemsize == 8 and np.isposinf(squares).any() and np.isfinite(values).all():
        j = int(squares.argmax())
        of_j = values[rows.indices == j] if isinstance(rows, CSR) else values[:, j]
        raise ValueError(
            f"column {j} of X has values up to {np.abs(of_j).max():.3g}, whose squares "
            "overflow float64: expected smaller numbers or a smaller scale"
        )
    squares = squares[(squares > 0) & (squares < math.inf)]
    if not squares.size:
        return 1.0
    middle = 0.25 * (math.log2(squares.min()) + math.log2(squares.max()))
    if abs(middle) <= UNIT_BITS:
        return 1.0
    most = MOST_BITS[X.dtype.char]
    strength = min(max(strongest.l2, 2.0**-1022), 2.0**most)
    by_penalty = 0.5 * (most - math.log2(strength))
    return 2.0 ** round(max(-most, min(-middle, by_penalty, most)))


def some_rows(X: Stored | ShardRows) -> Stored:
    """Return at most UNIT_ROWS rows: of a few shards their first ones, as others cost a pass."""
    if not isinstance(X, ShardRows):
        return take(X, slice(None, None, -(-len(X) // UNIT_ROWS)))
    full = [shard for shard in X.shards if shard.n_rows]
    full = full[:: -(-len(full) // 16)]
    n = UNIT_ROWS // len(full)
    return stacked([s.read(0, min(n, s.n_rows)) for s in full], X.n_features, X.dtype)


def _rescaled(X: CSR, scale: float) -> tuple[CSR, float]:
    """Return X times scale, and 1; or as they are where the squares of that overflow.

    The diagonal of the Hessian is made of the squares of what is stored.
    """
    dtype = compute_dtype(X)
    with np.errstate(over="ignore"):
        data = X.data.astype(dtype) * dtype.type(scale)
        if not (np.square(data[np.isfinite(data)]) < np.finfo(dtype).max / len(X)).all():
            return X, scale
    return CSR(data, X.indices, X.indptr, X.shape[1]), 1.0


def _rescaled_shards(X: ShardRows, scale: float) -> ShardRows:
    """Return X times scale, converted as it is read."""
    dtype = compute_dtype(X)
    shards = [
        replace(shard, read=partial(_read_times, shard.read, scale, dtype)) for shard in X.shards
    ]
    return ShardRows(shards, X.n_features, dtype, is_sparse=True)


def _read_times(
    read: Callable[[int, int], CSR], scale: float, dtype: np.dtype[Any], start: int, stop: int
) -> CSR:
    with np.errstate(over="ignore"):  # told as not finite by the pass
        return read(start, stop).times(scale, dtype)


def as_weight_rows(sample_weight: ArrayLike | None, n_rows: int) -> NDArray[np.float64] | None:
    """Return (n_weights, n_rows) weights."""
    if sample_weight is None:
        return None
    given = as_array(sample_weight, "sample_weight")
    if given.ndim not in (1, 2) or given.shape[-1] != n_rows or not len(given):
        raise ValueError(
            f"sample_weight has shape {given.shape}, expected ({n_rows},) or (n_weights, {n_rows})"
        )
    flat = as_weights(given.reshape(-1), given.size, "sample_weight", np.dtype(np.float64))
    return flat.reshape(-1, n_rows)


def as_heads(
    C: float | ArrayLike, weight_of_head: ArrayLike | None, weights: Weights | None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return C of each head, and the number of its row of weights.

    One value of C serves any number of heads.
    """
    values = np.atleast_1d(as_array(C, "C")).astype(np.float64)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"C has shape {values.shape}, expected a number or one for each head")
    bad = ~(values > 0)  # NaN too
    if bad.any():
        raise ValueError(f"C is {values[bad][0]}, expected a number > 0 (inf: no penalty)")
    n_weights = 1 if weights is None else len(weights)
    if weight_of_head is not None:
        of_head = as_labels(
            weight_of_head, np.size(weight_of_head), n_weights, name="weight_of_head"
        )
    elif n_weights == 1:
        of_head = np.zeros(len(values), np.int64)
    else:
        of_head = np.arange(n_weights)
    if len(values) == 1:
        values = np.repeat(values, len(of_head))
    if len(values) != len(of_head):
        raise ValueError(
            f"C has {len(values)} values for {len(of_head)} heads: expected one for each, "
            "with weight_of_head for rows of weights that several heads share"
        )
    return values, of_head


def as_parameters(values: ArrayLike, shape: tuple[int, ...], name: str) -> Array:
    """Return starting values; ValueError for another shape, NaN or infinity."""
    array = as_array(values, name)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} has a NaN or an infinite value, expected finite numbers")
    return array


def starting_points(
    problem: Problem, W: ArrayLike | None, b: ArrayLike | None
) -> list[Array] | None:
    """Return flat starting points, centred over the classes that occur; None if none are given."""
    if W is None and b is None:
        return None
    H, K, f = problem.n_heads, problem.n_classes, problem.n_features
    given_W = None if W is None else as_parameters(W, (H, K, f), "W")
    given_b = None if b is None else as_parameters(b, (H, K), "b")
    points = []
    for head in range(H):
        x, _, _ = problem.null_point(head)
        weights, bias = problem.parameters(x)
        present = problem.shares[problem.weight_of_head[head]] > 0
        if given_W is not None:
            given = given_W[head, present] / problem.unit
            weights[present] = given - given.mean(axis=0)
        if given_b is not None and problem.fit_intercept:
            bias[present] = given_b[head, present] - given_b[head, present].mean()
        bias += problem.shift(head, weights)
        points.append(x)
    return points
