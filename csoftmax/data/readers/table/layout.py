"""Which columns a table has, and which of them are features and labels."""

from __future__ import annotations

import itertools
import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from csoftmax.core.errors import DataError
from csoftmax.data.readers.table.guesses import (
    SAMPLE_LINES,
    guess_decimal,
    guess_delimiter,
    guess_header,
)
from csoftmax.data.readers.table.lines import Record, read_lines, split_records
from csoftmax.data.readers.table.options import (
    LABEL_NAMES,
    Column,
    Columns,
    TableOptions,
    as_list,
    position_of,
)
from csoftmax.data.text import as_number, whole_number

# a first line as spreadsheets write it
_SEPARATOR_LINE = re.compile(r'("?)sep=([^"\w\r\n])\1', re.IGNORECASE)
# bounds the time for guesses where there are very many columns
_SAMPLE_CELLS = 100_000


@dataclass
class Layout:
    """What the options and the first lines tell about all the others."""

    path: Path
    delimiter: str
    decimal: str
    names: list[str] | None
    n_columns: int
    dtype: np.dtype[Any]
    label: int | None = None
    # in the order of X
    features: list[int] = field(default_factory=list)
    feature_names: tuple[str, ...] = ()
    # the label column, where it is left out for its place alone
    guessed_label: int | None = None
    # the cells of the first sample
    first: list[str] = field(default_factory=list)

    def name(self, column: int) -> str:
        return f"{column} (counted from 0)" if self.names is None else repr(self.names[column])

    def place(self, record: Record, column: int) -> str:
        return f"{self.path}: line {record.line}, column {self.name(column)}"

    def position(self, column: Column, what: str) -> int:
        """Return where a column is that was given by name or by position."""
        names = self.names or []
        if isinstance(column, str) and column in names:
            if names.count(column) > 1:
                raise DataError(f"{self.path}: line 1: {what} {column!r} is the name of "
                                f"{names.count(column)} columns: give a position")  # fmt: skip
            return names.index(column)
        position = position_of(column)
        if position is None or not -self.n_columns <= position < self.n_columns:
            known = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
            raise DataError(f"{self.path}: line 1: expected {what} {column!r}, got "
                            f"{self.n_columns} columns: {known or 'without names'}")  # fmt: skip
        return position % self.n_columns

    def positions(self, columns: Columns | None, what: str) -> list[int]:
        given = [] if columns is None else as_list(columns)
        found = [self.position(column, what) for column in given]
        return list(dict.fromkeys(found))


def open_table(path: Path, options: TableOptions) -> tuple[Layout, Iterator[Record]]:
    """Return the layout of a table, its features and labels not yet chosen, and its samples."""
    lines = read_lines(path, options.encoding)
    head = list(itertools.islice((line for line in lines if line.text.strip("\r\n")), 1))
    delimiter = options.delimiter
    if head and (separator := _SEPARATOR_LINE.fullmatch(head[0].text.strip("\r\n"))):
        delimiter = delimiter or separator[2]
        head = []
    head += itertools.islice(lines, SAMPLE_LINES)
    texts = [line.text for line in head if line.text.strip("\r\n")]
    if not texts:
        raise DataError(f"{path}: line 1: expected a table, got an empty file")
    if delimiter is None:
        delimiter = guess_delimiter("".join(texts), "\t;" if options.decimal == "," else "\t;,")
    if delimiter in (".", options.decimal):
        error = DataError if options.delimiter is None else ValueError
        raise error(f"{path}: the delimiter must be another mark than that of decimals, got "
                    f"{delimiter!r}")  # fmt: skip
    records = split_records(path, itertools.chain(head, lines), delimiter)
    sample = [next(records)]
    rows = [sample[0].cells(path, delimiter)]
    n_rows = max(1, min(SAMPLE_LINES, _SAMPLE_CELLS // len(rows[0])))
    sample += itertools.islice(records, n_rows)
    rows += [record.cells(path, delimiter) for record in sample[1:]]
    decimal = options.decimal or ("." if delimiter == "," else guess_decimal(rows))
    header = _has_header(path, rows, decimal, options)
    names = [name.strip() for name in rows[0]] if header else None
    layout = Layout(path, delimiter, decimal, names, len(rows[0]), np.dtype(options.dtype))
    layout.first = (rows[1] if len(rows) > 1 else [""] * len(rows[0])) if header else rows[0]
    return layout, itertools.chain(sample[1:] if header else sample, records)


def _has_header(path: Path, rows: list[list[str]], decimal: str, options: TableOptions) -> bool:
    if options.header is not None:
        return options.header
    if options.feature_names and {name.strip() for name in rows[0]} >= set(options.feature_names):
        return True
    named = [options.label_column]
    for columns in (options.drop, options.columns):
        named += [] if columns is None else as_list(columns)
    first = {name.strip() for name in rows[0]}
    if any(
        isinstance(name, str) and whole_number(name) is None and name in first for name in named
    ):
        return True
    header, doubt = guess_header(rows, lambda cell: as_number(cell, decimal) is not None)
    if doubt:
        taken, other = ("names", "a sample") if header else ("a sample", "names")
        note(f"{path}: the first row is taken for {taken}, but {doubt}: it might be {other}; say "
              f"header={header} or header={not header}")  # fmt: skip
    return header


def choose_columns(
    layout: Layout, options: TableOptions, *, with_label: bool, n_features: int | None = None
) -> None:
    """Fill in the label column and the features.

    Without ``with_label`` there is a label column only if it is named, or if there is one column
    more than n_features.
    """
    dropped = layout.positions(options.drop, "the column to drop")
    candidates = [j for j in _candidates(layout, options) if j not in dropped]
    wanted = _wanted_columns(layout, options, candidates)
    if n_features is None and options.feature_names is not None:
        n_features = len(options.feature_names)
    one_more = wanted is None and len(candidates) - 1 == n_features
    if with_label or options.label_column is not None or one_more:
        layout.label = _find_label(layout, options, {*dropped, *(wanted or ())})
        if not with_label and options.label_column is None:
            _check_guessed_label(layout, options)
    if wanted is None:
        layout.features = [j for j in candidates if j != layout.label]
    else:
        layout.features = wanted
        guessed = with_label and options.label_column is None
        _note_others(layout, candidates, guessed)
    if not layout.features:
        raise DataError(f"{layout.path}: line 1: expected at least one feature, got "
                        f"{layout.n_columns} columns that are dropped or labels")  # fmt: skip
    if not with_label:
        layout.label = None  # left out like any other column
    layout.feature_names = _names_of_features(layout, options, tell=with_label)


def _candidates(layout: Layout, options: TableOptions) -> list[int]:
    if options.columns is not None:
        return layout.positions(options.columns, "the column")
    # a first column without a name holds row numbers
    first = 1 if layout.names and not layout.names[0] else 0
    return list(range(first, layout.n_columns))


def _wanted_columns(
    layout: Layout, options: TableOptions, candidates: list[int]
) -> list[int] | None:
    """Return the columns of options.feature_names, or None where names play no part."""
    if options.feature_names is None or layout.names is None:
        return None
    found: dict[str, list[int]] = {}
    for j in candidates:
        found.setdefault(layout.names[j], []).append(j)
    absent = [name for name in options.feature_names if name not in found]
    if absent:
        raise DataError(f"{layout.path}: line 1: expected the features {_some(absent)}, got the "
                        f"columns {_some(layout.names)}; if these are no names, say "
                        "header=False")  # fmt: skip
    for name in options.feature_names:
        if len(found[name]) > 1:
            raise DataError(f"{layout.path}: line 1: expected one column {name!r}, got "
                            f"{len(found[name])}")  # fmt: skip
    return [found[name][0] for name in options.feature_names]


def _find_label(layout: Layout, options: TableOptions, taken: set[int]) -> int:
    if layout.n_columns < 2:
        raise DataError(f"{layout.path}: line 1: expected features and a label, separated by "
                        f"{layout.delimiter!r}, got one column")  # fmt: skip
    if options.label_column is not None:
        column = layout.position(options.label_column, "the label column")
        if column in taken:
            raise ValueError(f"label_column {options.label_column!r} is also a column to drop or a "
                             "feature to expect")  # fmt: skip
        return column
    free = [j for j in range(layout.n_columns) if j not in taken]
    if not free:
        raise DataError(f"{layout.path}: line 1: expected a label column beside the features, got "
                        f"{layout.n_columns} columns that are all dropped or features")  # fmt: skip
    names = {} if layout.names is None else {layout.names[j].lower(): j for j in reversed(free)}
    return next((names[name] for name in LABEL_NAMES if name in names), free[-1])


def _check_guessed_label(layout: Layout, options: TableOptions) -> None:
    """Warn that a column is left out because there is one too many, or refuse to choose one.

    It is refused where the features have names, the table has none, and its last column holds
    numbers: that column may be a feature, and the one too many may be row numbers.
    """
    column = layout.label
    if column is None or (layout.names and layout.names[column].lower() in LABEL_NAMES):
        return
    is_number = as_number(layout.first[column], layout.decimal) is not None
    if is_number and options.feature_names is not None:
        raise DataError(f"{layout.path}: line 1: expected a header with the features' names, or "
                        f"{len(options.feature_names)} columns, got {layout.n_columns} of numbers: "
                        "say which one is left out as label_column")  # fmt: skip
    layout.guessed_label = column
    note(f"{layout.path}: there is one column more than features: column {layout.name(column)} is "
         "taken for labels and left out")  # fmt: skip


def _note_others(layout: Layout, candidates: list[int], guessed: bool) -> None:
    names = layout.names or []
    known = {layout.label, *layout.features}
    others = [names[j] for j in candidates if j not in known]
    others = [name for name in others if name.lower() not in LABEL_NAMES]
    if not others:
        return
    labels = ""
    if guessed and layout.label is not None and names[layout.label].lower() not in LABEL_NAMES:
        labels = (f"; the labels are taken from the last, {names[layout.label]!r}: if they are in "
                  "another, say which as label_column")  # fmt: skip
    note(f"{layout.path}: columns that are not among the features to expect are left out: "
         f"{_some(others)}{labels}")  # fmt: skip


def _names_of_features(layout: Layout, options: TableOptions, *, tell: bool) -> tuple[str, ...]:
    n = len(layout.features)
    if layout.names is None:
        names = tuple(options.feature_names or ())
        return names if len(names) == n else ()
    names = tuple(layout.names[j] for j in layout.features)
    unclear = [name for name, count in Counter(names).items() if count > 1 or not name]
    if unclear and tell:
        note(f"{layout.path}: names that are empty or of several columns: {_some(unclear)}; the "
              "features are kept without names, in the order of the columns")  # fmt: skip
    return () if unclear else names


def _some(names: list[str]) -> str:
    return ", ".join(map(repr, names[:10])) + (", ..." if len(names) > 10 else "")


def note(message: str) -> None:
    """Warn of what was read in another way than might be meant, where the readers were called."""
    readers = __package__.rpartition(".")[0] + "."
    frame, level = sys._getframe(), 1
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(readers):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)
