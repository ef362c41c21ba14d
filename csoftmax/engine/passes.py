"""What a solver asks of labelled rows, as sums over all of them: it never sees how they are stored.

`LocalPasses` is for rows in this process. It gives sums and never means, as the sums of several
parts of the rows can be added up.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.checks import compute_dtype
from csoftmax.engine import calls
from csoftmax.rows.base import as_stored, blocks, take
from csoftmax.rows.memory import MemoryRows

Array = NDArray[Any]

BLOCK_BYTES = 1 << 22  # of rows in float64 at a time
# So many rows are summed in float32 before their sum joins a total in float64. With 1,024 the means
# of 60,000 rows of pixels were right to 7e-8, with 4,096 to 8e-8, and no faster.
SUM_ROWS = 1024
# Below so many bytes of X the caller alone is as fast as threads, which take 0.3 ms to start.
ALONE_BYTES = 1 << 24
# What each thread of a pass takes for the parts of X and W that it multiplies.
PANEL_BYTES = 3 << 20


def bytes_needed(
    n_rows: int, n_heads: int, n_classes: int, parameter_bytes: int, n_threads: int
) -> int:
    """Return what a pass over rows takes, at most; `parameter_bytes` are those of all heads."""
    partial_gradients = 8 * parameter_bytes if parameter_bytes <= n_heads << 19 else 0
    logits = 16 * min(n_rows, 512) * n_heads * n_classes
    return (4 << 20) + logits + (n_threads - 1) * PANEL_BYTES + partial_gradients


class Sums(NamedTuple):
    """What a pass sums up, a number for each head."""

    losses: list[float]  # times the weights of the rows
    n_correct: list[int]  # rows predicted right, whatever they weigh


class Moments(NamedTuple):
    """Sums over the rows that do not depend on the parameters; row r is of row r of weights."""

    totals: NDArray[np.float64]  # (n_weights,) sums of the weights
    n_counting: NDArray[np.int64]  # (n_weights,) how many rows have a weight > 0
    mass: NDArray[np.float64]  # (n_weights, n_classes) `mass_of_classes`
    feature_sums: NDArray[np.float64]  # (n_weights, n_features) of the weighted rows ``scale * x``


class LocalPasses:
    """Passes over rows in this process, for heads that share X and the targets.

    Parameters
    ----------
    X : array (n_rows, n_features)
        Anything that `csoftmax.core.checks.as_features` gives.
    target : int64 array (n_rows,) of labels, or float64 (n_rows, n_classes) of probabilities
        They must be checked: for a label out of range a kernel reads and writes foreign memory.
    n_classes : int
    weights : float64 array (n_weights, n_rows), optional
        Rows of weights >= 0, of which each head has one; None: one row of ones.
    scale : float
        Multiplies X.
    n_threads : int
        At most so many threads. The bits do not depend on it.
    """

    def __init__(
        self,
        X: Array,
        target: Array,
        n_classes: int,
        *,
        weights: NDArray[np.float64] | None = None,
        scale: float = 1.0,
        n_threads: int = 1,
    ) -> None:
        self.dtype = compute_dtype(X)
        self.rows = MemoryRows(as_stored(X, self.dtype))
        self.n_rows, self.n_features = X.shape
        self.n_classes, self.scale, self.n_threads = n_classes, scale, n_threads
        self.target, self.weights = target, weights
        # a row of probabilities has its most probable class as label; `_soft_excess` adds the rest
        self.y = target if target.ndim == 1 else target.argmax(axis=1)

    @property
    def n_weights(self) -> int:
        """How many rows of weights there are."""
        return 1 if self.weights is None else len(self.weights)

    def weight(self, r: int) -> NDArray[np.float64] | None:
        """Return one of the rows of weights; None where all rows weigh 1."""
        return None if self.weights is None else self.weights[r]

    def evaluate(
        self, W: Array, b: Array, weight_of_head: NDArray[np.int64], dW: Array, db: Array
    ) -> Sums:
        """Return the sums of heads at W and b, and set dW and db to the gradients of the losses.

        W and dW are (n_heads, n_classes, n_features) or the same flat, b and db (n_heads,
        n_classes), all C-contiguous and of `dtype`; ``weight_of_head[h]`` is the row of weights of
        head h. Each head has the bits that it would have alone.
        """
        of_head = None if self.weights is None else weight_of_head
        losses, n_correct = calls.evaluate_heads(
            calls.StoredRows(self.rows.X, self.scale),
            calls.Parameters(W, b),
            calls.Targets(self.y, self.weights, of_head),
            calls.Sink((dW, db)),
            self.n_threads,
        )
        if self.target.ndim == 2:
            split = self.n_classes * self.n_features
            for h, excess in enumerate(self._soft_excess[weight_of_head]):
                losses[h] += float(np.dot(excess, np.append(W[h], b[h])))
                dW[h] += excess[:split].reshape(dW[h].shape)
                db[h] += excess[split:]
        return Sums(losses, n_correct)

    @cached_property
    def _soft_excess(self) -> NDArray[np.float64]:
        """Return ``sum_i s_i (e_yi - t_i) (scale x_i, 1)``, flat, for each row of weights.

        The loss of a row of probabilities t is ``log sum_k exp o_k - t . o``. It differs from that
        of a label y by ``(e_y - t) . o``, which is linear in W and b: this is its gradient, and its
        product with the parameters is what the losses are above those of the labels.
        """
        n, K, f = self.n_weights, self.n_classes, self.n_features
        of_W, of_b = np.zeros((n, K, f)), np.zeros((n, K))
        for some, block in self.rows.blocks(BLOCK_BYTES // (8 * (f + K + 1))):
            features = block.astype(np.float64) * self.scale
            more = -self.target[some]
            more[np.arange(len(more)), self.y[some]] += 1.0
            for r in range(n):
                weight = self.weight(r)
                weighted = more if weight is None else more * weight[some, None]
                of_W[r] += weighted.T @ features
                of_b[r] += weighted.sum(axis=0)
        return np.concatenate([of_W.reshape(n, -1), of_b], axis=1)

    def moments(self, of_features: bool = True) -> Moments:
        """Return the moments; ValueError with the value of X that makes one of them not finite.

        The sums of the features take a pass over the rows; without `of_features` they are 0.
        """
        n = self.n_weights
        totals, n_counting = np.full(n, float(self.n_rows)), np.full(n, self.n_rows)
        if self.weights is not None:
            totals, n_counting = self.weights.sum(axis=1), np.count_nonzero(self.weights, axis=1)
        mass = [mass_of_classes(self.target, self.weight(r), self.n_classes) for r in range(n)]
        sums = self._feature_sums() if of_features else np.zeros((n, self.n_features))
        if not np.isfinite(sums).all():
            self.raise_bad_value()
        return Moments(totals, n_counting, np.array(mass), sums)

    def _feature_sums(self) -> NDArray[np.float64]:
        """Sum the weighted rows: gradients whose dlogits are the weights, block by block.

        Each row of weights has a gradient of its own, so that its bits do not depend on the others.
        """
        sums = np.zeros((self.n_weights, self.n_features))

        def sum_of(some: slice) -> Array:
            block = self.rows.take(some)
            dW, db = np.empty_like(sums, self.dtype), np.empty(1, self.dtype)
            for r, total in enumerate(dW):
                weight = self.weight(r)
                weight = np.ones(len(block)) if weight is None else weight[some]
                dlogits = weight[None].astype(self.dtype)
                calls.linear_gradient(calls.StoredRows(block, self.scale), dlogits, total[None], db)
                counting = weight > 0
                if not (counting.all() or np.isfinite(total).all()):
                    # a row that does not count may hold anything, and 0 times NaN is NaN
                    finite = np.where(counting[:, None], block, 0).astype(block.dtype)
                    calls.linear_gradient(
                        calls.StoredRows(finite, self.scale), dlogits, total[None], db
                    )
            return dW

        parts = blocks(self.n_rows, SUM_ROWS)
        if self.n_threads == 1 or self.rows.X.nbytes < ALONE_BYTES:
            for part in map(sum_of, parts):
                sums += part
            return sums
        with ThreadPoolExecutor(self.n_threads) as pool:
            for part in pool.map(sum_of, parts):
                sums += part
        return sums

    def raise_bad_value(self) -> None:
        """Raise ValueError with what of X spoils sums: NaN, infinity, or the largest column."""
        largest = np.zeros(self.n_features)
        for some, block in self.rows.blocks(BLOCK_BYTES // max(1, self.n_features)):
            numbers = np.arange(some.start, some.stop)
            if self.weights is not None:
                counting = self.weights[:, some].max(axis=0) > 0
                block, numbers = take(block, counting), numbers[counting]
            bad = ~np.isfinite(block)
            if bad.any():
                i, j = (int(index) for index in np.argwhere(bad)[0])
                raise ValueError(f"X[{numbers[i]}, {j}] is {block[i, j]}, expected finite numbers")
            np.maximum(largest, np.abs(block).max(axis=0, initial=0), out=largest)
        j = int(largest.argmax())
        raise ValueError(
            f"sums over the rows of X overflow {self.dtype}: column {j} has values up to "
            f"{largest[j]:.3g}, expected smaller numbers or a smaller scale"
        )

    def sample(self, weight_row: int, n: int, seed: int) -> LocalPasses:
        """Return at most n of the rows that a row of weights counts, drawn at random, in order.

        They keep that row of weights only. X is not copied where all rows are taken.
        """
        weight = self.weight(weight_row)
        rows = np.arange(self.n_rows) if weight is None else np.flatnonzero(weight)
        if len(rows) > n:
            rows = np.sort(np.random.default_rng(seed).choice(rows, n, replace=False))
        X = self.rows.X if len(rows) == self.n_rows else self.rows.take(rows)
        return LocalPasses(
            X, self.target[rows], self.n_classes,
            weights=None if weight is None else weight[None, rows],
            scale=self.scale, n_threads=self.n_threads,
        )  # fmt: skip

    def fingerprint(self) -> bytes:
        """Return a digest of the rows, the targets, the weights and the scale."""
        digest = hashlib.blake2b(self.rows.fingerprint(), digest_size=16)
        digest.update(f"{self.n_classes} {self.scale!r} {self.target.shape}".encode())
        for array in (self.target, self.weights):
            if array is not None:
                digest.update(np.ascontiguousarray(array).reshape(-1).data)
        return digest.digest()


def mass_of_classes(target: Array, weight: Array | None, n_classes: int) -> NDArray[np.float64]:
    """Return how much weight each class has, by labels or by rows of probabilities."""
    if target.ndim == 1:
        return np.bincount(target, weight, n_classes).astype(np.float64)
    mass: NDArray[np.float64] = target.sum(axis=0) if weight is None else weight @ target
    return mass
