"""Rows of X as they are stored, and the functions by which they are read.

X is an array, or `CSR`: rows of which few features are not 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.checks import Stored as Stored
from csoftmax.core.sparse import CSR

Array = NDArray[Any]
UINT8 = np.dtype(np.uint8)  # made once: comparing a dtype with np.uint8 would make one each time


def as_stored(X: Stored, dtype: np.dtype[Any]) -> Stored:
    """Return X as the kernels read it: itself, or of `dtype` where they do not know its own."""
    if isinstance(X, CSR):
        return X
    if X.dtype.kind == "f" or X.dtype == UINT8:
        return X
    if X.dtype.kind == "b":
        return X.view(UINT8)
    return X.astype(dtype)


def blocks(n_rows: int, at_once: int) -> Iterator[slice]:
    """Cut rows into slices of so many, but at least one; the last may be shorter.

    Examples
    --------
    >>> list(blocks(5, 2))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    at_once = max(1, at_once)
    for start in range(0, n_rows, at_once):
        yield slice(start, min(start + at_once, n_rows))


def filled(X: Stored) -> NDArray[np.float64]:
    """Return rows in float64 with their zeros."""
    if isinstance(X, CSR):
        return X.times(1.0, np.float64).toarray()
    wide: NDArray[np.float64] = X.astype(np.float64)
    return wide


def take(X: Stored, rows: slice | NDArray[Any]) -> Stored:
    """Return some rows: a view for a slice, a copy for numbers or a mask."""
    taken: Stored = X[rows]
    return taken


def stacked(parts: Sequence[Stored], n_features: int, dtype: np.dtype[Any]) -> Stored:
    """Return rows one after the other, as one array or one `CSR`: as the parts are; a copy."""
    if not isinstance(next(iter(parts), None), CSR):
        return np.concatenate([np.empty((0, n_features), dtype), *parts])
    indptr = np.zeros(sum(map(len, parts)) + 1, np.int64)
    np.cumsum(np.concatenate([np.diff(part.indptr) for part in parts]), out=indptr[1:])
    return CSR(
        np.concatenate([part.data for part in parts]),
        np.concatenate([part.indices for part in parts]),
        indptr, n_features, parts[0].kind,
    )  # fmt: skip
