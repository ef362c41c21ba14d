"""Data in many files, as the commands open them: patterns, and formats that only shards have."""

from __future__ import annotations

import csv
import glob
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import csoftmax as cs
from csoftmax.cli.inputs import check_pixels
from csoftmax.core.checks import Stored
from csoftmax.data.readers.parts.files import suffix_of
from csoftmax.data.readers.parts.formats import is_saved_by_datasets
from csoftmax.data.shards import Shards

ONLY_SHARDS = (".parquet", ".pq", ".arrow", ".feather", ".ipc", ".tar")
ROWS_AT_A_TIME = 8192
_OPTIONS = ("label_column", "columns")  # of those that say how a table is read


def are_shards(path: Path | None) -> bool:
    """Is this a pattern of files, or a file or folder that is read as shards?"""
    if path is None:
        return False
    if path.is_dir():
        return is_saved_by_datasets(path) or any(
            suffix_of(each) in ONLY_SHARDS for each in path.iterdir()
        )
    return (glob.has_magic(str(path)) and not path.exists()) or suffix_of(path) in ONLY_SHARDS


def open_shards(
    path: Path,
    given: dict[str, Any],
    model: cs.SoftmaxRegression | None,
    dtype: str | None = None,
    label_files: str | None = None,
    cache: Path | None = None,
) -> tuple[Shards, dict[str, Any]]:
    """Open shards as the command line says, and as the model was trained on them.

    Returns the shards, and how they were opened, for the model's file. Raises ValueError for
    options of text tables.
    """
    for name, value in given.items():
        if value is not None and name not in _OPTIONS:
            option = "--no-header" if value is False else f"--{name.replace('_', '-')}"
            raise ValueError(f"{option} is for text tables, but {path} is read as shards")
    before = {} if model is None else model.trained_with.get("shards", {})
    columns = before.get("X")
    if given.get("columns") is not None:
        columns = [name.strip() for name in next(csv.reader([given["columns"]]), [])]
    how = {"X": columns, "dtype": dtype or before.get("dtype")}
    try:
        data = cs.shards(
            str(path), labels=label_files, y=given.get("label_column"), cache=cache, **how
        )
    except ImportError as error:
        raise ValueError(str(error)) from error
    if data.feature_names:  # whoever predicts has other columns beside them
        how["X"] = list(data.feature_names)
    return data, how


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
