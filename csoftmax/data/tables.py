"""CSV and TSV files: one sample per line, one column of labels.

The lines are parsed in blocks by NumPy's C parser. A block that it refuses is parsed again cell
by cell, which is slow and knows the line and the column of what is wrong.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .dataset import DataError, Dataset, check_distinct
from .labels import check_features, make_dataset
from .textlines import Record, read_records

_BLOCK_CHARACTERS = 4 << 20
# one long label would widen every element of an array of labels
_MAX_LABEL = 1000
_LABEL_NAMES = ("label", "class", "target", "species", "y")
_DTYPES = ("float32", "float64", "uint8")


def read_csv(
    path: str | os.PathLike[str],
    *,
    label_column: str | int | None = None,
    header: bool | None = None,
    delimiter: str | None = None,
    dtype: DTypeLike = "float32",
    class_names: Sequence[str] | None = None,
    feature_names: Sequence[str] | None = None,
) -> Dataset:
    """Read a CSV or TSV file, plain or .gz: numeric features and one column of labels.

    UTF-8, with or without byte-order mark; cells may be quoted; blank lines are skipped. A first
    column whose header is empty holds row numbers and is left out.

    Parameters
    ----------
    path : path of the file
    label_column : str or int, optional
        Name, or position from 0 (negative: from the end). By default the column named label,
        class, target, species or y, or else the last one.
    header : bool, optional
        Whether the first line holds names; by default it does if it has text where the second
        line has a number, or nothing but text.
    delimiter : str, optional
        By default tab, semicolon or comma: the first of them that the first line has.
    dtype : {"float32", "float64", "uint8"}
        Type of the features. uint8 is for tables of pixels 0..255: the data set gets the scale
        1/255, as images do.
    class_names : sequence of str, optional
        The classes to expect. Without it they are the labels that occur.
    feature_names : sequence of str, optional
        The features to expect, in this order, such as those of a model. Where the table has a
        header its columns are picked by name, and other columns are left out with a warning.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        For a line of another length, a cell that is no finite number, an empty label (all with
        the line number), one class only, no samples, or no such label column.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from csoftmax.data import read_csv
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "iris.csv"
    >>> _ = path.write_text("length,width,species\\n5.1,3.5,setosa\\n6.2,2.9,versicolor\\n")
    >>> data = read_csv(path)
    >>> data.X.shape, data.y.tolist(), data.class_names
    ((2, 2), [0, 1], ('setosa', 'versicolor'))
    """
    path = Path(path)
    first, records = _open(path)
    layout = _find_layout(path, first, header, delimiter, dtype)
    layout.label = _find_label(layout, label_column)
    _choose_features(layout, feature_names)
    X, labels, lines = _read_rows(layout, records)

    def locate(i: int) -> str:
        return f"line {lines[i]}"

    values = _labels_from_text(path, labels, locate)
    return make_dataset(
        str(path), X, values, class_names=class_names, locate=locate, name=path.name,
        feature_names=_feature_names(layout, feature_names),
    )  # fmt: skip


def read_csv_features(
    path: str | os.PathLike[str],
    *,
    label_column: str | int | None = None,
    header: bool | None = None,
    delimiter: str | None = None,
    dtype: DTypeLike = "float32",
    n_features: int | None = None,
    feature_names: Sequence[str] | None = None,
) -> NDArray[Any]:
    """Read the features of a CSV or TSV file; the parameters are those of read_csv.

    A label column is left out if label_column names it, or if the file has one column more than
    n_features. Otherwise every column is a feature.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "new.csv"
    >>> _ = path.write_text("length,width\\n5.1,3.5\\n6.2,2.9\\n")
    >>> read_csv_features(path).shape
    (2, 2)
    """
    path = Path(path)
    first, records = _open(path)
    layout = _find_layout(path, first, header, delimiter, dtype)
    if feature_names is not None and n_features is None:
        n_features = len(feature_names)
    if label_column is not None or len(layout.feature_columns) - 1 == n_features:
        layout.label = _find_label(layout, label_column)
    _choose_features(layout, feature_names)
    X = _read_rows(layout, records)[0]
    check_features(str(path), X)
    return X


def _open(path: Path) -> tuple[list[Record], Iterator[Record]]:
    """Return the first two rows, and all rows."""
    records = read_records(path)
    first = list(islice(records, 2))
    if not first:
        raise DataError(f"{path}: line 1: expected a table, got an empty file")
    return first, chain(first, records)


@dataclass
class _Layout:
    """What the first lines tell about all the others."""

    path: Path
    delimiter: str
    names: list[str] | None
    n_columns: int
    dtype: np.dtype[Any]
    label: int | None = None
    chosen: list[int] | None = None

    @property
    def text_columns(self) -> list[int]:
        """The columns that are no features, such as the labels."""
        return sorted(set(range(self.n_columns)) - set(self.feature_columns))

    @property
    def feature_columns(self) -> list[int]:
        """The features in the order of X: by default all columns but row numbers and labels."""
        if self.chosen is not None:
            return self.chosen
        first = 1 if self.names and not self.names[0] else 0
        return [j for j in range(first, self.n_columns) if j != self.label]

    @property
    def number_type(self) -> np.dtype[Any]:
        return np.dtype(np.float32) if self.dtype == np.uint8 else self.dtype

    @property
    def row_dtype(self) -> np.dtype[Any]:
        """One field of numbers per run of feature columns, one of text per other column."""
        fields: list[Any] = []
        start = 0
        for end in (*self.text_columns, self.n_columns):
            if end > start:
                fields.append((f"features{start}", self.number_type, (end - start,)))
            if end < self.n_columns:
                fields.append((f"text{end}", object))
            start = end + 1
        return np.dtype(fields)

    def place(self, record: Record, column: int) -> str:
        name = f"{column} (counted from 0)" if self.names is None else repr(self.names[column])
        return f"{self.path}: line {record.line}, column {name}"


def _find_layout(
    path: Path, first: list[Record], header: bool | None, delimiter: str | None, dtype: DTypeLike
) -> _Layout:
    value_type = np.dtype(dtype)
    if value_type.name not in _DTYPES:
        raise TypeError(f"dtype must be one of {', '.join(_DTYPES)}, got {dtype!r}")
    if delimiter is None:
        delimiter = next((mark for mark in "\t;" if mark in first[0].text), ",")
    rows = [record.cells(path, delimiter) for record in first]
    if header is None:
        numeric = [[_number(cell) is not None for cell in row] for row in rows]
        header = not any(numeric[0]) or (
            len(rows) == 2 and any(below > above for above, below in zip(*numeric, strict=False))
        )
    names = [name.strip() for name in rows[0]] if header else None
    return _Layout(path, delimiter, names, len(rows[0]), value_type)


def _find_label(layout: _Layout, label_column: str | int | None) -> int:
    names = layout.names or []
    n = layout.n_columns
    if n < 2:
        raise DataError(f"{layout.path}: line 1: expected features and a label, separated by "
                        f"{layout.delimiter!r}, got one column")  # fmt: skip
    if label_column is None:
        lower = [name.lower() for name in names]
        return next((lower.index(name) for name in _LABEL_NAMES if name in lower), n - 1)
    if isinstance(label_column, str) and label_column in names:
        return names.index(label_column)
    try:
        column = int(label_column)
    except ValueError:
        column = n
    if not -n <= column < n:
        known = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        raise DataError(f"{layout.path}: line 1: expected the label column {label_column!r}, got "
                        f"{n} columns: {known or 'without names'}")  # fmt: skip
    return column % n


def _choose_features(layout: _Layout, wanted: Sequence[str] | None) -> None:
    """Pick the wanted features by name, where the table has names."""
    if wanted is None or layout.names is None:
        return
    check_distinct("feature_names", tuple(wanted))
    others = layout.feature_columns
    layout.chosen = []
    for name in wanted:
        if layout.names.count(name) != 1:
            how_many = "more than one" if name in layout.names else "none"
            raise DataError(f"{layout.path}: line 1: expected one column {name!r}, "
                            f"got {how_many}")  # fmt: skip
        layout.chosen.append(layout.names.index(name))
    extra = [layout.names[j] for j in others if j not in layout.chosen]
    if extra:
        warnings.warn(f"{layout.path}: columns that are no features of the model are left out: "
                      f"{', '.join(extra)}", stacklevel=3)  # fmt: skip


def _feature_names(layout: _Layout, wanted: Sequence[str] | None) -> tuple[str, ...]:
    if layout.names is None:
        names = wanted or ()
        return tuple(names) if len(names) == len(layout.feature_columns) else ()
    found = tuple(layout.names[j] for j in layout.feature_columns)
    return found if len(set(found)) == len(found) else ()


def _read_rows(
    layout: _Layout, records: Iterator[Record]
) -> tuple[NDArray[Any], list[str], list[int]]:
    """Return the features, the labels as text, and the line number of each row."""
    if layout.names is not None:
        next(records)
    blocks: list[NDArray[Any]] = []
    labels: list[str] = []
    lines: list[int] = []
    for block in _blocks(records):
        X, texts = _parse_block(layout, block)
        blocks.append(X)
        labels += texts
        lines += [record.line for record in block]
    X = np.empty((len(lines), len(layout.feature_columns)), layout.dtype)
    columns = layout.feature_columns
    order = None if columns == sorted(columns) else np.argsort(np.argsort(columns))
    # from the end, freeing each block: memory for one copy of the table, not for two
    end = len(X)
    while blocks:
        last = blocks.pop()
        X[end - len(last) : end] = last if order is None else last[:, order]
        end -= len(last)
    return X, labels, lines


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


def _parse_block(layout: _Layout, block: list[Record]) -> tuple[NDArray[Any], list[str]]:
    try:
        rows = np.loadtxt(
            [record.text for record in block],
            dtype=layout.row_dtype,
            delimiter=layout.delimiter,
            comments=None,
            quotechar='"',
            ndmin=1,
        )
        texts = [] if layout.label is None else rows[f"text{layout.label}"].tolist()
        names = [name for name in rows.dtype.names or () if name.startswith("features")]
        X = np.concatenate([rows[name] for name in names], axis=1) if names else None
    except (ValueError, OverflowError):
        X = None
    if X is None or len(X) != len(block) or not _is_valid(X, layout.dtype).all():
        X, texts = _parse_cells(layout, block)
    return X.astype(layout.dtype, copy=False), texts


def _is_valid(X: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[np.bool_]:
    if dtype == np.uint8:
        valid: NDArray[np.bool_] = (X >= 0) & (X <= 255) & (np.trunc(X) == X)
        return valid
    return np.asarray(np.isfinite(X))


def _parse_cells(layout: _Layout, block: list[Record]) -> tuple[NDArray[Any], list[str]]:
    columns = sorted(layout.feature_columns)
    X = np.empty((len(block), len(columns)), layout.number_type)
    texts: list[str] = []
    for i, record in enumerate(block):
        cells = record.cells(layout.path, layout.delimiter)
        if len(cells) != layout.n_columns:
            raise DataError(f"{layout.path}: line {record.line}: expected {layout.n_columns} "
                            f"cells, got {len(cells)}")  # fmt: skip
        numbers = [_number(cells[j]) for j in columns]
        for j, number in zip(columns, numbers, strict=True):
            if number is None:
                raise DataError(f"{layout.place(record, j)}: expected a number, got {cells[j]!r}")
        with np.errstate(over="ignore"):
            X[i] = numbers
        valid = _is_valid(X[i], layout.dtype)
        if not valid.all():
            j = columns[int(valid.argmin())]
            kind = "an integer 0..255" if layout.dtype == np.uint8 else "a finite number"
            raise DataError(f"{layout.place(record, j)}: expected {kind}, got {cells[j]!r}")
        if layout.label is not None:
            texts.append(cells[layout.label])
    return X, texts


def _number(cell: str) -> float | None:
    try:
        # Python's float takes digits grouped by underscores, which no table means
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def _labels_from_text(path: Path, texts: list[str], locate: Any) -> NDArray[Any]:
    """Return integers if all labels are integers (or floats without a fraction), else text."""
    for i, text in enumerate(texts):
        if not text.strip() or len(text) > _MAX_LABEL:
            got = "an empty cell" if not text.strip() else f"{len(text)} characters"
            raise DataError(f"{path}: {locate(i)}: expected a label, got {got}")
    values = np.char.strip(np.array(texts, dtype=np.str_))
    try:
        return values.astype(np.int64)
    except (ValueError, OverflowError):
        pass
    numbers = [_number(text) for text in texts]
    if all(number is not None for number in numbers):
        return np.array(numbers, np.float64)
    return values
