"""Data in many files, as the commands open them: patterns, and formats that only shards have."""

from __future__ import annotations

import csv
import glob
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import csoftmax as cs
from csoftmax.cli.inputs import check_pixels
from csoftmax.core.checks import Stored
from csoftmax.data.readers.parts.files import suffix_of
from csoftmax.data.readers.parts.formats import FORMATS, is_saved_by_datasets
from csoftmax.data.shard_loader import ShardLoader
from csoftmax.data.shards import Shards

ONLY_SHARDS = (".parquet", ".pq", ".arrow", ".feather", ".ipc", ".tar")
ROWS_AT_A_TIME = 8192
_OPTIONS = ("label_column", "columns")  # of those that say how a table is read
_WITHOUT_COLUMNS = ("npy", "npz", "svmlight")  # formats


def are_shards(path: Path | None) -> bool:
    """Is this a pattern of files, or a file or folder that is read as shards?"""
    if path is None:
        return False
    if path.is_dir():
        return is_saved_by_datasets(path) or any(
            suffix_of(each) in ONLY_SHARDS for each in path.iterdir()
        )
    return (glob.has_magic(str(path)) and not path.exists()) or suffix_of(path) in ONLY_SHARDS


def read_as_shards(path: Path | None, label_files: str | None) -> bool:
    """Is it data in many files, or one file whose labels are in another?"""
    beside = label_files is not None and path is not None and path.is_file()
    return are_shards(path) or beside


def refuse_for_one_file(name: str, value: Any) -> None:
    """Raise ValueError for an option of data in many files that is given for others."""
    if value is not None:
        raise ValueError(f"--{name.replace('_', '-')} is for data in many files: give a pattern "
                         "of them with --data")  # fmt: skip


def open_shards(
    path: Path,
    given: dict[str, Any],
    model: cs.SoftmaxRegression | None,
    dtype: str | None = None,
    label_files: str | None = None,
    cache: Path | None = None,
    before: dict[str, Any] | None = None,
) -> tuple[Shards, dict[str, Any]]:
    """Open shards as the command line says, and as the model was trained on them.

    Returns the shards, and how they were opened, for the model's file; `before` is that of other
    shards. Raises ValueError for options of text tables.
    """
    for name, value in given.items():
        if value is not None and name not in _OPTIONS:
            option = "--no-header" if value is False else f"--{name.replace('_', '-')}"
            raise ValueError(f"{option} is for text tables, but {path} is read as shards")
    if before is None:
        before = {} if model is None else model.trained_with.get("shards", {})
    if FORMATS.get(suffix_of(path)) in _WITHOUT_COLUMNS:
        before = {**before, "X": None}
    columns = before.get("X")
    if given.get("columns") is not None:
        columns = [name.strip() for name in next(csv.reader([given["columns"]]), [])]
    how = {"X": columns, "dtype": dtype or before.get("dtype")}
    label = given.get("label_column")
    try:
        data = cs.shards(str(path), labels=label_files, y=label, cache=cache, **how)
    except ImportError as error:
        raise ValueError(str(error)) from error
    how["y"] = label
    if data.feature_names:  # whoever predicts has other columns beside them
        how["X"] = list(data.feature_names)
    return data, how


def labelled_shards(
    path: Path,
    given: dict[str, Any],
    model: cs.SoftmaxRegression | None,
    dtype: str | None = None,
    label_files: str | None = None,
    cache: Path | None = None,
    before: dict[str, Any] | None = None,
    option: str = "--label-files",
) -> tuple[Shards, dict[str, Any]]:
    """Do what `open_shards` does, of shards with labels, as many features as the model's, and rows.

    The column of the labels is the one that the model was trained on, unless another is given, or
    files of them are, which `option` names. Raises ValueError for other shards.
    """
    known = before or ({} if model is None else model.trained_with.get("shards", {}))
    if label_files is None and FORMATS.get(suffix_of(path)) not in _WITHOUT_COLUMNS:
        given = {**given, "label_column": given.get("label_column") or known.get("y")}
    data, how = open_shards(path, given, model, dtype, label_files, cache, before)
    if not data.has_labels:
        raise ValueError(f"{path} has no labels: name their column by --label-column, or their "
                         f"files by {option}")  # fmt: skip
    if model is not None:
        check_features(model, data, str(path))
    elif not data.n_rows:
        raise ValueError(f"{path} has no rows")
    return data, how


def with_progress(data: Any, quiet: bool = False) -> Any:
    """Return shards, or a loader of them, whose rows show on a bar as they are read.

    The bar is there on a terminal, for a pass that takes more than a second.
    """
    if isinstance(data, ShardLoader):
        data.shards = with_progress(data.shards, quiet)
        data.X = data.shards.rows
        return data
    if quiet or not sys.stderr.isatty():
        return data
    bar = RowsBar(data.n_rows)
    return Shards([
        replace(
            part, read=partial(bar.read, part.read),
            pieces=None if part.pieces is None else partial(bar.read, part.pieces),
        )
        for part in data.parts
    ])  # fmt: skip


class RowsBar:
    """A bar of the rows that a pass has read; it begins anew where the pass has read them all."""

    def __init__(self, n_rows: int) -> None:
        from tqdm import tqdm

        self._bar = tqdm(total=n_rows, unit=" rows", unit_scale=True, leave=False, delay=1.0,
                         file=sys.stderr)  # fmt: skip

    def read(self, read: Callable[[int, int], Any], start: int, stop: int) -> Any:
        """Read some rows and count them."""
        rows = read(start, stop)
        self._bar.update(stop - start)
        if self._bar.n >= self._bar.total:
            self._bar.reset()
        return rows


def check_features(model: cs.SoftmaxRegression, data: Shards, where: str) -> None:
    """Raise ValueError for another number of features than the model has, warn of other pixels."""
    if data.n_features != model.n_features:
        raise ValueError(
            f"{where} has {data.n_features} features but the model has {model.n_features}"
        )
    first = next((block for _, block in data.rows.blocks(1)), None)
    if first is None:
        raise ValueError(f"{where} has no rows")
    check_pixels(model, first, where)
    if isinstance(first, np.ndarray) and first.dtype == np.uint8 and model._scale is None:
        model.scale = 1 / 255  # that of a data set of pixels


def finite_blocks(data: Shards) -> Iterator[Stored]:
    """Yield the rows block by block; raise DataError for a value that is not finite."""
    for some, block in data.rows.blocks(ROWS_AT_A_TIME):
        data.rows.check_finite(some.start, block)
        yield block
