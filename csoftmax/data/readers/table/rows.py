"""All rows of a table put together, and what is missing in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.errors import DataError
from csoftmax.data.dataset import Dataset
from csoftmax.data.labels import labels_from_text
from csoftmax.data.readers.table.cells import parse_blocks
from csoftmax.data.readers.table.layout import Layout, note
from csoftmax.data.readers.table.lines import Record
from csoftmax.data.readers.table.options import TableOptions


@dataclass
class TableRows:
    """The features, the labels (none without a label column), and the line of each row."""

    X: NDArray[Any]
    labels: NDArray[Any]
    lines: list[int]
    # for each row of the table, whether it is here
    kept: NDArray[np.bool_]

    def locate(self, i: int) -> str:
        return f"line {self.lines[i]}"


def read_rows(layout: Layout, options: TableOptions, records: Iterator[Record]) -> TableRows:
    """Read all rows; missing features are dropped, filled, refused, or NaN if means are wanted."""
    fill = options.missing if isinstance(options.missing, np.ndarray) else None
    if fill is not None and len(fill) != len(layout.features):
        raise ValueError(f"missing has {len(fill)} values but {layout.path} has "
                         f"{len(layout.features)} features")  # fmt: skip
    gaps = _Gaps(layout)
    blocks: list[NDArray[Any]] = []
    texts: list[str] = []
    lines: list[int] = []
    kept = [np.empty(0, np.bool_)]
    for block, X, labels in parse_blocks(layout, records):
        is_missing = np.isnan(X)
        gaps.count(block, is_missing)
        if fill is not None:
            fill_missing(X, fill)
        incomplete = np.isnan(X).any(axis=1) & (not options.wants_means)
        kept.append(~incomplete)
        if incomplete.any():
            chosen = np.flatnonzero(~incomplete).tolist()
            X, block = X[chosen], [block[i] for i in chosen]
            labels = [labels[i] for i in chosen] if labels else []
        blocks.append(X.astype(layout.dtype, copy=False))
        texts += labels
        lines += [record.line for record in block]
    if options.missing is None:
        gaps.refuse()
    X = _put_together(layout, blocks)
    rows = TableRows(X, np.empty(0, np.int64), lines, np.concatenate(kept))
    if layout.label is not None:
        _fill_in_labels(layout, options, rows, texts)
    if len(rows.X) < gaps.n_rows:
        gaps.tell_dropped(len(rows.X))
    if not len(rows.X):
        raise DataError(f"{layout.path}: expected at least one sample, got none")
    return rows


def _put_together(layout: Layout, blocks: list[NDArray[Any]]) -> NDArray[Any]:
    X = np.empty((sum(map(len, blocks)), len(layout.features)), layout.dtype)
    # from the end, freeing each block: memory for one copy of the table, not for two
    end = len(X)
    while blocks:
        last = blocks.pop()
        X[end - len(last) : end] = last
        end -= len(last)
    return X


def _fill_in_labels(
    layout: Layout, options: TableOptions, rows: TableRows, texts: list[str]
) -> None:
    rows.labels, present = labels_from_text(
        str(layout.path),
        texts,
        rows.locate,
        as_text=options.labels == "text",
        drop=options.drops_missing,
        decimal=layout.decimal,
    )
    if not present.all():
        rows.X = rows.X[present]
        rows.lines = [rows.lines[i] for i in np.flatnonzero(present)]
        rows.kept[rows.kept] = present


@dataclass
class _Gaps:
    """The missing values of a table, counted by column."""

    layout: Layout
    n_rows: int = 0
    n_rows_missing: int = 0
    first: str = ""
    columns: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.columns = np.zeros(len(self.layout.features), np.int64)

    def count(self, block: list[Record], is_missing: NDArray[np.bool_]) -> None:
        self.n_rows += len(block)
        if not is_missing.any():
            return
        i, j = np.argwhere(is_missing)[0]
        self.first = self.first or (
            f"line {block[i].line}, column {self.layout.name(self.layout.features[j])}"
        )
        self.n_rows_missing += int(np.count_nonzero(is_missing.any(axis=1)))
        self.columns += np.count_nonzero(is_missing, axis=0)

    def by_column(self) -> str:
        some = [
            f"column {self.layout.name(self.layout.features[j])} has {self.columns[j]}"
            for j in np.flatnonzero(self.columns)[:10]
        ]
        return ", ".join(some) + (", ..." if np.count_nonzero(self.columns) > 10 else "")

    def refuse(self) -> None:
        if not self.first:
            return
        if self.layout.dtype == np.uint8:
            or_fill = ""
        elif self.layout.label is None:
            or_fill = ", or missing=train.X.mean(axis=0) to fill in the training table's means"
        else:
            or_fill = ", or missing='mean' to fill in the column's mean"
        raise DataError(
            f"{self.layout.path}: missing values in {self.n_rows_missing} of {self.n_rows} rows, "
            f"the first in {self.first}; {self.by_column()}; say missing='drop' to leave these "
            f"rows out{or_fill}"
        )

    def tell_dropped(self, n_kept: int) -> None:
        note(f"{self.layout.path}: {self.n_rows - n_kept} of {self.n_rows} rows are left out, "
             f"with missing values: {self.by_column() or 'no label'}")  # fmt: skip


def column_means(data: Dataset) -> NDArray[np.float64]:
    """Return the mean of each feature's values, without the missing ones."""
    present = ~np.isnan(data.X)
    counts = np.count_nonzero(present, axis=0)
    if not counts.all():
        j = int(counts.argmin())
        name = repr(data.feature_names[j]) if data.feature_names else f"{j} (counted from 0)"
        raise DataError(f"{data.name}: the feature {name} has no value in any of {len(data)} "
                        "samples, so no mean: leave its column out")  # fmt: skip
    sums = np.sum(data.X, axis=0, dtype=np.float64, where=present)
    return np.asarray(sums / counts)


def fill_missing(X: NDArray[Any], values: NDArray[np.float64]) -> None:
    """Put each feature's value in the place of its NaN, in X itself."""
    rows, columns = np.nonzero(np.isnan(X))
    X[rows, columns] = values[columns]
