"""Sparse matrices as ``scipy.sparse.save_npz`` writes them: an .npz file of their arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

from csoftmax.core.errors import DataError
from csoftmax.core.sparse import CSR, as_csr

Read = Callable[[str], NDArray[Any]]
# the arrays of each format, as scipy's constructors take them
_ARRAYS = {
    "csr": ("data", "indices", "indptr"),
    "csc": ("data", "indices", "indptr"),
    "bsr": ("data", "indices", "indptr"),
    "dia": ("data", "offsets"),
    "coo": ("data", "row", "col"),
}


def is_matrix(keys: Sequence[str]) -> bool:
    """Are these the arrays of a sparse matrix?"""
    return {"format", "shape", "data"} <= set(keys)


def read_matrix(where: str, keys: Sequence[str], read: Read) -> CSR:
    """Return the matrix of which `read` gives the arrays, checked."""
    from scipy import sparse

    kind = read("format").tobytes().replace(b"\0", b"").decode("ascii", "replace")
    names = _ARRAYS.get(kind)
    if names is None:
        raise DataError(f"{where}: expected a sparse matrix of the format "
                        f"{', '.join(_ARRAYS)}, got {kind!r:.40}")  # fmt: skip
    missing = [name for name in names if name not in keys]
    if missing:
        raise DataError(f"{where}: expected the array {missing[0]} of a {kind} matrix, got "
                        f"{', '.join(keys)}")  # fmt: skip
    sizes, (data, *places) = read("shape"), map(read, names)
    if sizes.shape != (2,) or sizes.dtype.kind not in "iu" or (sizes < 0).any():
        raise DataError(f"{where}: expected a shape of two sizes, got {sizes.tolist()}")
    for name, array in zip(names[1:], places, strict=True):
        if array.dtype.kind not in "iu":
            raise DataError(f"{where}: {name}: expected integers, got dtype {array.dtype}")
    shape = tuple(sizes.tolist())
    try:
        if kind == "coo":
            matrix = sparse.coo_array((data, tuple(places)), shape=shape)
        else:
            matrix = getattr(sparse, f"{kind}_array")((data, *places), shape=shape)
        return as_csr(matrix, where)
    except (TypeError, ValueError, IndexError) as error:
        raise DataError(f"{where}: expected a {kind} matrix: {error}") from None
