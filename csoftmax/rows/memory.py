"""Rows in memory: one array, or a file mapped as one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.sparse import CSR
from csoftmax.rows.base import Stored, blocks, take

READ_BYTES = 1 << 24  # read at a time for a digest
SAMPLED_ROWS = 64  # of a mapped file, which a digest does not read whole


def mapped(X: object) -> np.memmap[Any, Any] | None:
    """Return the map of a file that an array is part of; None if it is in memory."""
    while X is not None and not isinstance(X, np.memmap):
        X = getattr(X, "base", None)
    while isinstance(X, np.memmap) and isinstance(X.base, np.memmap):
        X = X.base
    return X


class MemoryRows:
    """Rows of X that this process can read at any place.

    Another class of rows needs the same methods. Only `csoftmax.engine.local_passes` reads `X`
    itself.
    """

    def __init__(self, X: Stored) -> None:
        self.X, self.dtype = X, X.dtype
        self.n_rows, self.n_features = X.shape

    def blocks(self, at_once: int) -> Iterator[tuple[slice, Stored]]:
        """Yield the slice and the rows of each block of `at_once` (at least 1) rows.

        The blocks are the same every time.
        """
        for some in blocks(self.n_rows, at_once):
            yield some, take(self.X, some)

    def take(self, rows: slice | NDArray[Any]) -> Stored:
        """Return some rows: a view for a slice, a copy for numbers or a mask."""
        return take(self.X, rows)

    def fingerprint(self) -> bytes:
        """Return a digest of shape, dtype and every value.

        Of a mapped file that is there, it has path, size, time of change and a sample of the rows.
        """
        digest = hashlib.blake2b(f"{self.X.shape} {self.dtype.str}".encode(), digest_size=16)
        if isinstance(self.X, CSR):
            for array in (self.X.indptr, self.X.indices, self.X.data):
                digest.update(f"{array.shape} {array.dtype.str}".encode())
                digest.update(array.data)
            return digest.digest()
        file = mapped(self.X)
        if file is not None and file.filename and os.path.exists(file.filename):
            at = self.X.__array_interface__["data"][0] - file.__array_interface__["data"][0]
            stat = os.stat(file.filename)
            digest.update(f"{file.filename} {file.offset + at} {self.X.strides}".encode())
            digest.update(f"{stat.st_size} {stat.st_mtime_ns}".encode())
            step = -(-self.n_rows // SAMPLED_ROWS) or 1
            digest.update(np.ascontiguousarray(self.X[::step]).reshape(-1).data)
            return digest.digest()
        row_bytes = max(1, self.n_features * self.dtype.itemsize)
        for _, block in self.blocks(READ_BYTES // row_bytes):
            digest.update(np.ascontiguousarray(block).reshape(-1).data)
        return digest.digest()
