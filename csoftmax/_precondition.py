"""The preconditioner of the solver: the inverse of the Hessian where all weights are 0.

There every row has the same probabilities pi, and the Hessian of the mean loss is the Kronecker
product of ``A = diag(pi) - pi pi^T`` over the classes and the covariance of the features, centred
since the intercept is free to follow. With ``A = U diag(alpha) U^T`` and the covariance
``Q diag(e) Q^T``, one eigendecomposition serves every C:

    P = (U x Q) diag(1 / (alpha_k e_j + lambda)) (U x Q)^T.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# Rows that the covariance is computed from, at most: more did not lower the number of passes.
SAMPLED_ROWS = 8192
BLOCK_BYTES = 1 << 24
# Above so many features, their variances alone: an eigendecomposition costs about 10 n_features^3.
FULL_FEATURES = 4096


def sampled_rows(n_rows: int, weight: Array | None, limit: int) -> Array:
    """Return row numbers, sorted: all of weight > 0, or `limit` of them drawn at random."""
    rows = np.arange(n_rows) if weight is None else np.flatnonzero(weight)
    if len(rows) <= limit:
        return rows
    return np.sort(np.random.default_rng(0).choice(rows, limit, replace=False))


def blocks(X: Array, rows: Array, dtype: np.dtype[Any]) -> Any:
    """Yield (row numbers, those rows of X in `dtype`) in blocks that stay in cache."""
    step = max(1, BLOCK_BYTES // max(1, X.shape[1] * dtype.itemsize))
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        yield some, X[some].astype(dtype)


class Spectrum:
    """Eigenvalues and eigenvectors of the features' covariance; only variances if not `full`."""

    def __init__(
        self,
        X: Array,
        scale: float,
        weight: Array | None,
        mean: Array,
        full: bool,
        dtype: np.dtype[Any],
    ) -> None:
        n_features = X.shape[1]
        rows = sampled_rows(len(X), weight, max(SAMPLED_ROWS, 4 * n_features))
        moments = np.zeros((n_features, n_features) if full else n_features)
        center, total = (mean / scale if scale else mean).astype(dtype), 0.0
        for some, block in blocks(X, rows, dtype):
            block -= center
            share = None if weight is None else weight[some]
            total += len(some) if share is None else float(share.sum())
            if share is not None:
                block *= np.sqrt(share).astype(dtype)[:, None]
            moments += block.T @ block if full else np.einsum("ij,ij->j", block, block)
        moments *= scale * scale / (total or 1.0)
        self.mean = mean.astype(dtype)
        self.vectors: Array | None = None
        self.values = moments
        if full:
            self.values, vectors = np.linalg.eigh(moments)
            self.vectors = vectors.astype(dtype)
            self.transposed = np.ascontiguousarray(self.vectors.T)
        self.values = np.maximum(self.values, 0.0)


class Hessian:
    """The inverse Hessian of one head at W = 0, applied to flat vectors of W and b."""

    def __init__(
        self, spectrum: Spectrum | None, probabilities: Array, lam: float, n_features: int,
        intercept: bool, dtype: np.dtype[Any],
    ) -> None:  # fmt: skip
        self.spectrum, self.shape = spectrum, (len(probabilities), n_features)
        self.intercept = intercept
        present = probabilities > 0
        A = np.diag(probabilities) - np.outer(probabilities, probabilities)
        alpha, U = np.linalg.eigh(A)
        # the null vectors of A: all classes alike, and classes that never occur
        alive = alpha > 1e-9 * max(alpha[-1], 0.0)
        self.U = U[:, alive].astype(dtype)
        self.U_transposed = np.ascontiguousarray(self.U.T)
        e = np.ones(n_features) if spectrum is None else spectrum.values
        curvature = alpha[alive, None] * e + lam
        floor = np.finfo(dtype).eps * (curvature.max() if curvature.size else 1.0) / 64
        self.weights = (1.0 / np.maximum(curvature, floor or 1.0)).astype(dtype)
        self.of_bias = np.where(present, 1.0 / np.where(present, probabilities, 1.0), 0.0)
        self.of_bias = self.of_bias.astype(dtype)

    def apply(self, g: Array, out: Array) -> None:
        n = math.prod(self.shape)
        gW, gb, W, b = g[:n].reshape(self.shape), g[n:], out[:n].reshape(self.shape), out[n:]
        spectrum = self.spectrum
        if self.intercept and spectrum is not None:
            gW = gW - gb[:, None] * spectrum.mean
        v = self.U_transposed @ gW
        if spectrum is not None and spectrum.vectors is not None:
            v = v @ spectrum.vectors
            v *= self.weights
            v = v @ spectrum.transposed
        else:
            v *= self.weights
        np.matmul(self.U, v, out=W)
        if self.intercept:
            np.multiply(gb, self.of_bias, out=b)
            if spectrum is not None:
                b -= W @ spectrum.mean
        else:
            b[:] = 0
