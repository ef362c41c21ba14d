"""Rows of which few features are not 0: what sparse matrices of other libraries become."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from csoftmax._kernels import SparseColumns, SparseRows

Array = NDArray[Any]


class CSR:
    """Sparse rows, checked, as ``scipy.sparse.csr_array`` keeps them; nothing is copied.

    Parameters
    ----------
    data : array (n_entries,) of uint8, float32 or float64
        The values, row after row. In a row features come in any order; those that come twice add
        up.
    indices, indptr : arrays of int32 or int64, (n_entries,) and (n_rows + 1,)
        The feature of each value, and where each row begins.
    n_features : int
    kind : str, optional
        The kind of the dtype that the values had before they became `data`: "i" of integers, which
        a model's scale applies to.

    Raises
    ------
    TypeError, ValueError
        For arrays of another kind, and numbers that would lead a kernel out of bounds: they are
        read once, here. Whoever writes into indices or indptr later breaks that.
    """

    ndim = 2

    def __init__(
        self, data: Array, indices: Array, indptr: Array, n_features: int, kind: str = ""
    ) -> None:
        self.rows = SparseRows(data, indices, indptr, n_features)
        self.kind = kind or data.dtype.kind
        self.data, self.indices, self.indptr = data, indices, indptr
        self._columns: dict[str, SparseColumns] = {}

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows.n_rows, self.rows.n_features

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.data.dtype

    @property
    def nbytes(self) -> int:
        return int(self.data.nbytes + self.indices.nbytes + self.indptr.nbytes)

    def __len__(self) -> int:
        return self.rows.n_rows

    def __repr__(self) -> str:
        return f"CSR({self.shape}, {self.dtype}, {self.rows.n_entries} entries)"

    def __reduce__(self) -> tuple[type[CSR], tuple[Array, Array, Array, int, str]]:
        return CSR, (self.data, self.indices, self.indptr, self.shape[1], self.kind)

    def columns(self, dtype: DTypeLike) -> SparseColumns:
        """Return the entries by their features, for gradients; made once for each float type."""
        name = np.dtype(dtype).name
        if name not in self._columns:
            self._columns[name] = SparseColumns(self.rows, name)
        return self._columns[name]

    def __getitem__(self, rows: slice | NDArray[Any]) -> CSR:
        """Return some rows: for a slice of step 1 in the same memory, otherwise copied."""
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step == 1:
                indptr = self.indptr[start : max(start, stop) + 1]
                some = slice(int(indptr[0]), int(indptr[-1]))
                return self._of(self.data[some], self.indices[some], indptr - indptr[0])
            rows = np.arange(start, stop, step)
        elif rows.dtype == np.bool_:
            rows = np.flatnonzero(rows)
        starts = self.indptr[:-1][rows].astype(np.int64)
        lengths = self.indptr[1:][rows] - starts
        indptr = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(lengths, out=indptr[1:])
        entries = np.arange(indptr[-1]) + np.repeat(starts - indptr[:-1], lengths)
        return self._of(self.data[entries], self.indices[entries], indptr)

    def _of(self, data: Array, indices: Array, indptr: Array) -> CSR:
        return CSR(data, indices, indptr, self.shape[1], self.kind)

    def times(self, factor: float, dtype: DTypeLike) -> CSR:
        """Return the rows times a number, as floats of `dtype`."""
        data = np.multiply(self.data, np.asarray(factor, dtype), dtype=dtype)
        return CSR(data, self.indices, self.indptr, self.shape[1])

    def without(self, left_out: NDArray[np.bool_]) -> CSR:
        """Return a copy in which some rows have no entries but zeros."""
        data = np.where(np.repeat(left_out, np.diff(self.indptr)), 0, self.data)
        return self._of(data.astype(self.dtype), self.indices, self.indptr)

    def toarray(self) -> Array:
        """Return all rows with their zeros."""
        full = np.zeros(self.shape, self.dtype)
        numbers = np.repeat(np.arange(len(self)), np.diff(self.indptr))
        np.add.at(full, (numbers, self.indices), self.data)
        return full

    def tocsr(self) -> Any:
        """Return a ``scipy.sparse.csr_array`` of the same arrays."""
        from scipy import sparse

        return sparse.csr_array((self.data, self.indices, self.indptr), shape=self.shape)

    def check_finite(self, name: str = "X", error: type[ValueError] = ValueError) -> None:
        """Raise an error that names the first entry that is NaN or infinite."""
        if self.dtype.kind != "f" or np.isfinite(self.data).all():
            return
        e = int(np.isfinite(self.data).argmin())
        i = int(np.searchsorted(self.indptr, e, side="right")) - 1
        raise error(f"{name}[{i}, {self.indices[e]}] is {self.data[e]}, expected finite numbers")


def is_sparse(X: object) -> bool:
    """Is this a sparse matrix: this module's, scipy's, or a pandas table of sparse columns?"""
    return isinstance(X, CSR) or hasattr(X, "tocsr") or hasattr(X, "sparse")


def as_others_know(X: Any) -> Any:
    """Return rows as code of others takes them: sparse ones as a ``scipy.sparse.csr_array``."""
    return X.tocsr() if isinstance(X, CSR) else X


def as_csr(X: Any, name: str = "X") -> CSR:
    """Return a sparse matrix of any format as checked rows; its arrays are copied where they must.

    float16 becomes float32; integers become the float that holds them, but for bytes and booleans.
    """
    if isinstance(X, CSR):
        return X
    if not hasattr(X, "tocsr"):
        X = X.sparse.to_coo()
    if len(X.shape) != 2:
        raise ValueError(f"{name} has shape {X.shape}, expected (n_samples, n_features)")
    try:
        _check_indices(X)
        csr = X.tocsr()
    except ValueError as error:
        raise ValueError(f"{name} is no sparse matrix of shape {X.shape}: {error}") from None
    data, kind = np.asarray(csr.data), csr.data.dtype.kind
    if kind == "b":
        data = data.view(np.uint8)
    elif kind in "iuf" and data.dtype.itemsize <= 8:
        small = data.dtype.itemsize <= 2 or data.dtype == np.float32
        if data.dtype not in (np.uint8, np.float32, np.float64):
            data = data.astype(np.float32 if small else np.float64)
    else:
        raise TypeError(f"{name} has dtype {data.dtype}, expected bool, an integer type or floats")
    indices, indptr = _integers(csr.indices), _integers(csr.indptr)
    try:
        return CSR(
            np.require(data, requirements=["C", "A"]), indices, indptr, int(csr.shape[1]), kind
        )
    except ValueError as error:
        raise ValueError(f"{name} is no sparse matrix of shape {csr.shape}: {error}") from None


def _check_indices(X: Any) -> None:
    """Raise ValueError for indices that would lead scipy's conversion out of bounds.

    Those of csr are left to `CSR`, as scipy converts nothing then.
    """
    kind, (n_rows, n_columns) = getattr(X, "format", ""), X.shape
    if kind == "coo":
        coordinates = getattr(X, "coords", None) or (X.row, X.col)
        for axis, (at, size) in enumerate(zip(coordinates, X.shape, strict=True)):
            if len(at) != len(X.data):
                raise ValueError(f"{len(X.data)} entries have {len(at)} numbers on axis {axis}")
            bad = (at < 0) | (at >= size)
            if bad.any():
                e = int(bad.argmax())
                raise ValueError(
                    f"entry {e} has the number {at[e]} on axis {axis}, expected 0..{size - 1}"
                )
    elif kind == "csc":  # the rows of the transpose
        entries = np.zeros(len(X.data), np.uint8)
        try:
            SparseRows(entries, _integers(X.indices), _integers(X.indptr), n_rows)
        except ValueError as error:
            told = str(error).replace("in row", "in column").replace("a feature", "a row")
            raise ValueError(told) from None
        _check_length("indptr", X.indptr, n_columns + 1)
    elif kind == "bsr":
        height, width = X.blocksize
        entries = np.zeros(len(X.data), np.uint8)
        SparseRows(entries, _integers(X.indices), _integers(X.indptr), n_columns // width)
        _check_length("indptr", X.indptr, n_rows // height + 1)
    elif kind == "csr":
        _check_length("indptr", X.indptr, n_rows + 1)


def _check_length(name: str, array: Array, expected: int) -> None:
    if len(array) != expected:
        raise ValueError(f"{name} has {len(array)} numbers, expected {expected}")


def _integers(array: Any) -> Array:
    array = np.asarray(array)
    if array.dtype not in (np.int32, np.int64):
        array = array.astype(np.int64)
    return np.require(array, requirements=["C", "A"])
