"""Predictions for shards, block by block: in memory, or into a file of .npy or Parquet."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.checks import as_features
from csoftmax.core.files import refuse_to_overwrite, write_npy_blocks
from csoftmax.data.parquet import write_parquet
from csoftmax.data.readers.npy import open_npy
from csoftmax.data.shards import Shards
from csoftmax.rows.base import Stored
from csoftmax.rows.memory import MemoryRows, mapped
from csoftmax.rows.shards import ShardRows

Array = NDArray[Any]
Paths = str | os.PathLike[str]
_ROWS = 8192  # at a time
_BYTES = 1 << 26  # of the predictions for them, at most, where they have many classes


def comes_in_blocks(X: Any, out: Any) -> bool:
    """Are the predictions to be made block by block?"""
    return out is not None or isinstance(X, Shards)


def has_shards(X: Any) -> bool:
    """Are these rows in shards, with their labels: on this machine or on a cluster?"""
    return isinstance(getattr(X, "rows", None), ShardRows)


def by_blocks(
    predict: Callable[[Any], Array], X: Any, out: Paths | None, names: tuple[str, ...]
) -> Any:
    """Return what `predict` says of all rows, or write it to a file.

    Parameters
    ----------
    predict : function
        From some rows to an array with an entry or a row for each.
    X : Shards, array_like or sparse matrix
    out : path, optional
        A .npy file, of which a map is returned, or a .parquet file, whose path is.
    names : sequence of str
        Of the columns in Parquet.

    Raises
    ------
    ValueError
        For rows that `predict` refuses: their shard and row are named; for another kind of file.
    """
    rows = X.rows if isinstance(X, Shards) else MemoryRows(as_features(X))
    if not rows.n_rows:
        raise ValueError(f"X has {rows.n_rows} rows, expected at least one")
    refuse_to_overwrite(out, "out", files_of(X))
    blocks = _predictions(predict, rows, len(names))
    first = next(blocks)
    if out is None:
        result = np.empty((rows.n_rows, *first.shape[1:]), first.dtype)
        done = 0
        for block in _again(first, blocks):
            result[done : done + len(block)] = block
            done += len(block)
        return result
    path, all_blocks = Path(out), _again(first, blocks)
    if path.suffix == ".npy":
        write_npy_blocks(path, (rows.n_rows, *first.shape[1:]), first.dtype, all_blocks)
        return open_npy(path)
    if path.suffix not in (".parquet", ".pq"):
        raise ValueError(f"out is {str(out)!r}, expected a file .npy or .parquet")
    if len(set(names)) < len(names):
        raise ValueError(f"the classes {names} have the same names, expected no two")
    write_parquet(path, (_columns(block, names) for block in all_blocks))
    return path


def files_of(X: Any) -> list[str]:
    """Return the paths of the files that rows are read from."""
    if isinstance(X, Shards):
        return [stamp.path for stamp in X.stamps]
    file = mapped(X)
    return [] if file is None or not file.filename else [str(file.filename)]


def _columns(block: Array, names: tuple[str, ...]) -> dict[str, Array]:
    columns = block[:, None] if block.ndim == 1 else block
    return dict(zip(names, map(np.ascontiguousarray, columns.T), strict=True))


def _again(first: Array, blocks: Iterator[Array]) -> Iterator[Array]:
    yield first
    yield from blocks


def _predictions(
    predict: Callable[[Any], Array], rows: MemoryRows | ShardRows, n_columns: int
) -> Iterator[Array]:
    at_once = max(1, min(_ROWS, _BYTES // (8 * max(n_columns, 1))))
    for some, block in rows.blocks(at_once):
        with _of_rows(rows, some, block):
            predictions = predict(block)
        yield predictions


@contextmanager
def _of_rows(rows: MemoryRows | ShardRows, some: slice, block: Stored) -> Iterator[None]:
    """Say in errors of which rows they are; the names of features are not told for each block."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "X does not have valid feature names")
            yield
    except ValueError as error:
        if isinstance(rows, ShardRows):
            rows.check_finite(some.start, block)
        raise ValueError(f"rows {some.start} to {some.stop} of X: {error}") from error


def alone(y: Any, sample_weight: Any) -> None:
    """Raise ValueError for labels and weights beside shards, which have their own."""
    for name, given in (("y", y), ("sample_weight", sample_weight)):
        if given is not None:
            raise ValueError(f"{name} is given, but shards have their own: open them with "
                             "labels= and weights=, or y= and weight=")  # fmt: skip


def labels_in(shards: Shards, y: Any, sample_weight: Any, classes: Array) -> tuple[Array, Any]:
    """Return the labels and the weights that shards have, to be compared with predictions.

    Raises ValueError for others beside them, DataError for a label that is not one of the classes.
    """
    alone(y, sample_weight)
    known, codes = shards.encoded(classes)
    if shards.has_weights:
        parts = [s.weights(0, s.n_rows) for s in shards.rows.shards if s.weights is not None]
        sample_weight = np.concatenate(parts)
    return known[codes], sample_weight
