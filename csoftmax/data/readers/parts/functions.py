"""Shards that are functions ``(start, stop) -> X, y, weight``, for what no format here has."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from csoftmax.core.checks import Stored, as_features
from csoftmax.core.errors import DataError
from csoftmax.data.readers.parts.part import Part, Wanted

Function: TypeAlias = Callable[[int, int], Any]


def are_functions(source: Any) -> bool:
    """Is this a sequence of pairs of a number of rows and a function?"""
    return isinstance(source, (list, tuple)) and any(
        isinstance(each, (list, tuple)) and len(each) == 2 and callable(each[1]) for each in source
    )


def open_parts(source: Sequence[Any], wanted: Wanted) -> Iterator[Part]:
    """Yield a part for each function; its first row is asked for, to see what it gives."""
    wanted.refuse_columns("functions")
    for s, pair in enumerate(source):
        try:
            n_rows, function = pair
            n_rows = operator.index(n_rows)
        except (TypeError, ValueError):
            n_rows = -1
        if n_rows < 0 or not callable(function):
            raise TypeError(f"source[{s}] is {pair!r:.60}, expected a number of rows and a "
                            "function (start, stop) -> X, y, weight")  # fmt: skip
        name = str(getattr(function, "__name__", type(function).__name__))
        rows = FunctionRows(name, n_rows, function)
        given = rows.call(0, min(1, n_rows))
        X = given[0]
        rows.expected = (X.shape[1], X.dtype, len(given))
        columns = [partial(rows.column, i) if i < len(given) else None for i in (1, 2)]
        yield Part(
            name, n_rows, X.shape[1], X.dtype, rows.read, columns[0], columns[1],
            is_sparse=not isinstance(X, np.ndarray),
        )  # fmt: skip


class FunctionRows:
    """What a function gives, checked; the last answer is kept, as it has the labels too."""

    def __init__(self, name: str, n_rows: int, function: Function) -> None:
        self.name, self.n_rows, self.function = name, n_rows, function
        self.expected: tuple[int, np.dtype[Any], int] | None = None  # of the first row
        self._last: tuple[int, int, tuple[Any, ...]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_last": None}

    def read(self, start: int, stop: int) -> Stored:
        """Return some rows."""
        return self.call(start, stop)[0]

    def column(self, i: int, start: int, stop: int) -> Any:
        """Return the labels (1) or the weights (2) of some rows."""
        return self.call(start, stop)[i]

    def call(self, start: int, stop: int) -> tuple[Any, ...]:
        """Return X, and perhaps labels and weights, of some rows."""
        last = self._last  # another thread may put another in its place
        if last is not None and last[:2] == (start, stop):
            return last[2]
        given = self.function(start, stop)
        X, *columns = given if isinstance(given, tuple) else (given,)
        where = f"{self.name}({start}, {stop})"
        X = as_features(X, f"X of {where}")
        arrays = [np.asarray(column) for column in columns]
        for array in (X, *arrays):
            if len(array.shape) == 0 or array.shape[0] != stop - start:
                raise DataError(f"{where}: expected {stop - start} rows, labels and weights, got "
                                f"shape {array.shape}")  # fmt: skip
        kind = X.shape[1], X.dtype, 1 + len(arrays)
        if self.expected is not None and kind != self.expected:
            told = "{1} with {0} features, {2} arrays"
            raise DataError(f"{where}: got {told.format(*kind)}, expected "
                            f"{told.format(*self.expected)} as for row 0")  # fmt: skip
        self._last = start, stop, (X, *arrays)
        return self._last[2]
