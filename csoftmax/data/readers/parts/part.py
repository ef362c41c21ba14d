"""What a shard's file holds, and what of it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.checks import Stored
from csoftmax.core.errors import DataError
from csoftmax.data.readers.parts.files import Stamp
from csoftmax.data.text import whole_number

Read = Callable[[int, int], Stored]
Column = Callable[[int, int], NDArray[Any]]


class Wanted(NamedTuple):
    """What of a file is asked for: names of columns or of members, and what bytes are."""

    X: str | tuple[str, ...] | None = None
    y: str | None = None
    weight: str | None = None
    dtype: np.dtype[Any] | None = None

    def refuse_columns(self, what: str) -> None:
        """Raise ValueError for a column that is asked of a format without columns."""
        for name in ("X", "y", "weight"):
            if getattr(self, name) is not None:
                raise ValueError(f"{name} is {getattr(self, name)!r}, but {what} have no columns: "
                                 "labels='lab/*.npy' names the files of labels")  # fmt: skip


@dataclass(frozen=True)
class Part:
    """Rows of one file, as `csoftmax.rows.shards.Shard` wants them, and what they are."""

    name: str  # of the file, and of the member where it has several
    n_rows: int
    n_features: int
    dtype: np.dtype[Any]  # of what `read` gives
    read: Read
    labels: Column | None = None
    weights: Column | None = None
    stamps: tuple[Stamp, ...] = ()
    is_sparse: bool = False
    is_slow: bool = False  # does decoding or copying take as long as much of a pass?
    feature_names: tuple[str, ...] = ()  # of columns of which each is a feature
    pieces: Callable[[int, int], Sequence[NDArray[Any]]] | None = None  # of `read`, not yet joined

    @property
    def kind(self) -> str:
        """Say what the rows are, for messages."""
        sparse = "sparse " if self.is_sparse else ""
        return f"{sparse}{self.dtype} with {self.n_features} features"


def check_count(what: str, got: int, name: str, n_rows: int) -> None:
    """Raise DataError unless there are as many labels, or weights, as rows."""
    if got != n_rows:
        raise DataError(f"{what}: expected {n_rows} values, one for each row of {name}, got {got}")


def numbers_or_texts(texts: Sequence[str]) -> NDArray[Any]:
    """Return labels that are texts as integers of 64 bits, where all of them are such."""
    numbers = [whole_number(text.removeprefix("+").removesuffix(".0")) for text in texts]
    if None in numbers or any(abs(number or 0) >= 2**63 for number in numbers):
        return np.array(texts, np.str_)
    return np.array(numbers, np.int64)
