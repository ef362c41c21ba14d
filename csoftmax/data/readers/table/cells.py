"""From the text of rows to numbers.

A block of rows goes to NumPy's C parser. What that refuses is parsed again cell by cell: that is
slow, but it takes True, False and missing values, and knows the line and column of a mistake.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.errors import DataError
from csoftmax.data.readers.table.lines import Record
from csoftmax.data.text import MISSING, SWAP_MARKS, as_number

if TYPE_CHECKING:
    from csoftmax.data.readers.table.layout import Layout

_BLOCK_CHARACTERS = 4 << 20


def parse_blocks(
    layout: Layout, records: Iterator[Record]
) -> Iterator[tuple[list[Record], NDArray[Any], list[str]]]:
    """Yield blocks of rows: their text, features (NaN where missing) and labels as text."""
    for block in _blocks(records):
        parsed = _parse_fast(layout, block)
        X, labels = parsed if parsed is not None else _parse_cells(layout, block)
        yield block, X, labels


def _blocks(records: Iterator[Record]) -> Iterator[list[Record]]:
    block: list[Record] = []
    size = 0
    for record in records:
        block.append(record)
        size += len(record.text)
        if size >= _BLOCK_CHARACTERS:
            yield block
            block, size = [], 0
    if block:
        yield block


def number_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type in which features of this dtype are parsed."""
    return np.dtype(np.float32) if dtype == np.uint8 else dtype


def _row_dtype(layout: Layout) -> np.dtype[Any]:
    """One field of numbers per run of feature columns, one of text per other column."""
    features = set(layout.features)
    others = [j for j in range(layout.n_columns) if j not in features]
    fields: list[Any] = []
    start = 0
    for end in (*others, layout.n_columns):
        if end > start:
            fields.append((f"features{start}", number_type(layout.dtype), (end - start,)))
        if end < layout.n_columns:
            # of a column that is left out one character is kept
            fields.append((f"text{end}", object if end == layout.label else "U1"))
        start = end + 1
    return np.dtype(fields)


def _parse_fast(layout: Layout, block: list[Record]) -> tuple[NDArray[Any], list[str]] | None:
    texts = [record.text for record in block]
    if layout.decimal == ",":
        texts = [text.translate(SWAP_MARKS) for text in texts]
    try:
        rows = np.loadtxt(
            texts,
            dtype=_row_dtype(layout),
            delimiter=layout.delimiter,
            comments=None,
            quotechar='"',
            ndmin=1,
        )
    except (ValueError, OverflowError):
        return None
    names = [name for name in rows.dtype.names or () if name.startswith("features")]
    if not names or len(rows) != len(block):
        return None
    X = np.concatenate([rows[name] for name in names], axis=1)
    if not _is_valid(X, layout.dtype).all():
        return None
    labels = [] if layout.label is None else rows[f"text{layout.label}"].tolist()
    if layout.decimal == ",":
        labels = [label.translate(SWAP_MARKS) for label in labels]
    in_file_order = sorted(layout.features)
    if layout.features != in_file_order:
        X = X[:, np.searchsorted(in_file_order, layout.features)]
    return X, labels


def _is_valid(X: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[np.bool_]:
    if dtype == np.uint8:
        valid: NDArray[np.bool_] = (X >= 0) & (X <= 255) & (np.trunc(X) == X)
        return valid
    return np.asarray(np.isfinite(X))


def _parse_cells(layout: Layout, block: list[Record]) -> tuple[NDArray[Any], list[str]]:
    X = np.empty((len(block), len(layout.features)), number_type(layout.dtype))
    missing = np.zeros(X.shape, np.bool_)
    labels: list[str] = []
    for i, record in enumerate(block):
        cells = record.cells(layout.path, layout.delimiter)
        if len(cells) != layout.n_columns:
            raise DataError(f"{layout.path}: line {record.line}: expected {layout.n_columns} "
                            f"cells, got {len(cells)}")  # fmt: skip
        numbers = [as_number(cells[j], layout.decimal) for j in layout.features]
        for k, number in enumerate(numbers):
            if number is not None and math.isfinite(number):
                continue
            cell = cells[layout.features[k]]
            missing[i, k] = cell.strip() in MISSING
            if missing[i, k]:
                numbers[k] = math.nan
            elif number is None:
                raise DataError(f"{layout.place(record, layout.features[k])}: expected a number, "
                                f"got {cell!r}{_advice(layout, cell)}")  # fmt: skip
        with np.errstate(over="ignore"):
            X[i] = numbers
        if layout.label is not None:
            labels.append(cells[layout.label])
    valid = _is_valid(X, layout.dtype) | missing
    if not valid.all():
        i, k = np.argwhere(~valid)[0]
        cell = block[i].cells(layout.path, layout.delimiter)[layout.features[k]]
        kind = "an integer 0..255" if layout.dtype == np.uint8 else "a finite number"
        raise DataError(f"{layout.place(block[i], layout.features[k])}: expected {kind}, "
                        f"got {cell!r}")  # fmt: skip
    return X, labels


def _advice(layout: Layout, cell: str) -> str:
    other = "," if layout.decimal == "." else "."
    if layout.delimiter == "," or as_number(cell, other) is None:
        return ""
    return f"; if that is a decimal {'comma' if other == ',' else 'point'}, say decimal={other!r}"
