"""The linear layer, forward and back, for `csoftmax.linear` and for ``@`` on the tape."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.checks import check_threads
from csoftmax.core.sparse import CSR
from csoftmax.engine import calls
from csoftmax.rows.base import as_stored

Array = NDArray[Any]

CLASSES = 512  # at once: so that the logits of some rows stay in L2


def contiguous_bias(b: Array | None, W: Array, dtype: np.dtype[Any]) -> Array:
    if b is None:
        return np.zeros(W.shape[1], dtype)
    if b.dtype == dtype and b.flags.c_contiguous and b.flags.aligned:
        return b
    return np.array(b, dtype, order="C")


def fill_logits(
    rows: calls.StoredRows, W: Array, b: Array | None, result: Array, n_threads: int
) -> None:
    """Set ``result = scale * X @ W + b``; W is (n_features, n_classes), of any layout."""
    biases = contiguous_bias(b, W, result.dtype)
    if isinstance(rows.X, CSR):
        parameters = calls.Parameters(calls.weights_for(rows.X, W, result.dtype), biases)
        calls.forward(rows, parameters, calls.Sink(logits=result), n_threads)
        return
    for first in range(0, W.shape[1], CLASSES):
        some = slice(first, first + CLASSES)
        weights = calls.weights_for(rows.X, W[:, some], result.dtype)
        parameters = calls.Parameters(weights, biases[some])
        calls.forward(rows, parameters, calls.Sink(logits=result, first_class=first), n_threads)


def gradients(rows: calls.StoredRows, dlogits: Array) -> tuple[Array, Array]:
    """Return ``dW = scale * X.T @ dlogits``, laid out as W is, and ``db = dlogits.sum(axis=0)``.

    dlogits is (n_rows, n_classes).
    """
    dW, db = calls.gradient_for(rows.X, dlogits.shape[1], dlogits.dtype)
    if isinstance(rows.X, CSR):
        columns = rows.X.columns(dlogits.dtype)
        calls.sparse_gradient(columns, np.ascontiguousarray(dlogits), rows.scale, dW)
        np.sum(dlogits, axis=0, out=db)
        return dW, db
    calls.linear_gradient(rows, np.ascontiguousarray(dlogits.T), dW, db)
    return dW.T, db


def matmul(x: Array, y: Array) -> Array:
    """Return ``x @ y``, by the kernel of `linear` where both are matrices of real numbers.

    It does not start the threads of BLAS, which wait for one another where others use the CPUs.
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != len(y) or y.shape[1] == 0:
        return np.asarray(np.matmul(x, y))
    dtype = np.result_type(x, y)
    if dtype not in (np.float32, np.float64) or "c" in x.dtype.kind + y.dtype.kind:
        return np.asarray(np.matmul(x, y))
    result = np.empty((len(x), y.shape[1]), dtype)
    rows = calls.StoredRows(as_stored(x, dtype))
    fill_logits(rows, y, None, result, check_threads(None))
    return result
