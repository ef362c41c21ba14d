"""How a text table is to be read: the parameters of read_csv, checked, in one place."""

from __future__ import annotations

import io
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from csoftmax.data.dataset import check_distinct
from csoftmax.data.text import whole_number

LABEL_NAMES = ("label", "class", "target", "species", "y")
DTYPES = ("float32", "float64", "uint8")

Column = str | int
Columns = Column | Sequence[Column]


@dataclass
class TableOptions:
    """The parameters of read_csv but for the path and the classes."""

    label_column: Column | None = None
    header: bool | None = None
    delimiter: str | None = None
    dtype: DTypeLike = "float32"
    feature_names: Sequence[str] | None = None
    drop: Columns | None = None
    columns: Columns | None = None
    encoding: str | None = None
    missing: Any = None
    labels: str | None = None
    decimal: str | None = None

    def __post_init__(self) -> None:
        if np.dtype(self.dtype).name not in DTYPES:
            raise TypeError(f"dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}")
        if self.header not in (None, True, False):
            raise ValueError(f"header must be True, False or None, got {self.header!r}")
        _check_choice("labels", self.labels, ("text",))
        _check_choice("decimal", self.decimal, (".", ","))
        for argument, columns in (("drop", self.drop), ("columns", self.columns)):
            for column in _listed(argument, columns):
                _check_column(argument, column)
        if self.label_column is not None:
            _check_column("label_column", self.label_column)
        if self.delimiter is not None and not isinstance(self.delimiter, str):
            raise TypeError(f"delimiter must be one character, got {self.delimiter!r}")
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '"\r\n'):
            raise ValueError(f"delimiter must be one character, got {self.delimiter!r}")
        self._check_encoding()
        self.missing = self._checked_missing()
        if self.feature_names is not None:
            if isinstance(self.feature_names, str):
                raise TypeError(
                    f"feature_names must be a sequence of names, got {self.feature_names!r}"
                )
            self.feature_names = tuple(map(str, self.feature_names))
            check_distinct("feature_names", self.feature_names)
            if self.label_column in self.feature_names:
                raise ValueError(f"label_column is {self.label_column!r}, one of feature_names")

    def _check_encoding(self) -> None:
        if self.encoding is None:
            return
        try:
            io.TextIOWrapper(io.BytesIO(), self.encoding)
        except LookupError:
            raise ValueError(
                f"encoding must be one that Python knows, such as 'cp1252', got {self.encoding!r}"
            ) from None

    def _checked_missing(self) -> str | NDArray[np.float64] | None:
        is_uint8 = np.dtype(self.dtype) == np.uint8
        if self.missing is None or isinstance(self.missing, str):
            _check_choice("missing", self.missing, ("drop",) if is_uint8 else ("drop", "mean"))
            return self.missing
        values = np.asarray(self.missing, np.float64)
        if values.ndim != 1 or not np.isfinite(values).all() or is_uint8:
            numbers = "" if is_uint8 else ", 'mean' or one finite number per feature"
            raise ValueError(f"missing must be 'drop'{numbers}, got {self.missing!r}")
        return values

    @property
    def wants_means(self) -> bool:
        return isinstance(self.missing, str) and self.missing == "mean"

    @property
    def drops_missing(self) -> bool:
        return isinstance(self.missing, str) and self.missing == "drop"


def _check_choice(argument: str, value: object, choices: tuple[str, ...]) -> None:
    if value is not None and value not in choices:
        known = " or ".join(map(repr, choices))
        raise ValueError(f"{argument} must be {known}, got {value!r}")


def _listed(argument: str, columns: Any) -> list[Any]:
    try:
        return [] if columns is None else as_list(columns)
    except TypeError:
        raise TypeError(
            f"{argument} must be a column's name or position, or several, got {columns!r}"
        ) from None


def _check_column(argument: str, column: Any) -> None:
    is_position = hasattr(column, "__index__") and not isinstance(column, (bool, np.bool_))
    if not (isinstance(column, str) or is_position):
        raise TypeError(f"{argument} must hold a column's name or position, got {column!r}")


def as_list(columns: Columns) -> list[Column]:
    """Return one column, or several, as a list."""
    return [columns] if isinstance(columns, str | int) else list(columns)


def position_of(column: Column) -> int | None:
    """Return the position that a column is given by, or None for a name."""
    return whole_number(column) if isinstance(column, str) else operator.index(column)
