"""One front door: a path in, data sets out, whatever kind of file it is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from csoftmax.core.errors import DataError
from csoftmax.data.dataset import Dataset
from csoftmax.data.labels import check_features
from csoftmax.data.readers.arrays import open_npy, read_npy, read_npz, read_npz_features
from csoftmax.data.readers.idx import read_idx, read_idx_folder
from csoftmax.data.readers.rows import column_means, fill_missing
from csoftmax.data.readers.table_options import TableOptions
from csoftmax.data.readers.tables import read_csv, read_csv_features, read_table
from csoftmax.data.split import split_dataset


def read(
    path: str | os.PathLike[str],
    *,
    class_names: Sequence[str] | None = None,
    test_fraction: float = 0.2,
    seed: int | None = 0,
    **table: Any,
) -> tuple[Dataset, Dataset]:
    """Read a train and a test set from a path.

    What the path may be: a folder of IDX files; a folder with ``X.npy`` and ``y.npy`` (and
    ``X_test.npy``, ``y_test.npy``), or the file ``X.npy``; an ``.npz`` file; a ``.csv``, ``.tsv``
    or ``.txt`` table, plain or ``.gz``. The test set is the files' own if they have one, otherwise
    a stratified part of the samples.

    Labels are encoded as 0..n_classes-1: any integers or strings are accepted, and the class names
    keep them as text, sorted (integers by value).

    Parameters
    ----------
    path : path of a file or folder
    class_names : sequence of str, optional
        The classes to expect, such as those of a model. Without it they are the labels that occur.
        Labels are looked up by name; where no name is an integer, integers count the names from 0.
    test_fraction : float
        The share of the samples that goes to the test set, where the files have none.
    seed : int or None
        Seed of that split.
    table
        For tables, the other parameters of read_csv: label_column, header, delimiter, dtype,
        feature_names, drop, columns, missing, labels, decimal, encoding. The means of
        ``missing="mean"`` are those of the train part, for both parts.

    Returns
    -------
    train, test : Dataset

    Raises
    ------
    DataError
        For a broken file, a label that is not one of class_names, NaN or infinity, one class
        only, or no samples.
    FileNotFoundError
        If there is no such file.
    ValueError
        For a test_fraction outside its range, or too few samples for both parts.

    Examples
    --------
    >>> from csoftmax.data import read, sample_folder
    >>> read(sample_folder())
    (Dataset('sample train', X (6000, 28, 28) uint8, 10 classes), \
Dataset('sample test', X (1000, 28, 28) uint8, 10 classes))
    """
    path = Path(path)
    if _kind(path) == "table":
        options = TableOptions(**table)
        train, test = split_dataset(read_table(path, options, class_names), test_fraction, seed)
        if options.wants_means:
            means = column_means(train)
            fill_missing(train.X, means)
            fill_missing(test.X, means)
        return train, test
    train, own_test = read_parts(path, class_names=class_names, **table)
    return split_dataset(train, test_fraction, seed) if own_test is None else (train, own_test)


def read_parts(
    path: str | os.PathLike[str],
    *,
    class_names: Sequence[str] | None = None,
    **table: Any,
) -> tuple[Dataset, Dataset | None]:
    """Read what a path holds, without splitting it; the parameters are those of read.

    Returns
    -------
    train : Dataset
        All samples, if the files have no test set of their own.
    test : Dataset or None

    Examples
    --------
    >>> from csoftmax.data import read_parts, sample_folder
    >>> train, test = read_parts(sample_folder())
    >>> len(train), len(test)
    (6000, 1000)
    """
    path = Path(path)
    kind = _kind(path)
    if kind == "table":
        return read_csv(path, class_names=class_names, **table), None
    _check_not_for_tables(path, table)
    if kind == "npz":
        return read_npz(path, class_names=class_names)
    if kind == "npy":
        return _read_npy_parts(path, class_names)
    if kind == "idx folder":
        return read_idx_folder(path, class_names=class_names)
    raise DataError(f"{path}: expected labels too: give the folder that holds the IDX files of "
                    "images and labels")  # fmt: skip


def read_features(
    path: str | os.PathLike[str],
    *,
    n_features: int | None = None,
    **table: Any,
) -> NDArray[Any]:
    """Read samples without labels, to be predicted.

    What the path may be: a table (.csv, .tsv, .txt, plain or .gz), a .npy file (memory-mapped),
    an .npz file with the array X, or an IDX file of images.

    Parameters
    ----------
    path : path of the file
    n_features : int, optional
        For tables: how many features to expect. A table with one column more has labels in the
        column that read_csv would take them from, and they are left out.
    table
        For tables, the other parameters of read_csv: label_column (left out), header, delimiter,
        dtype, feature_names, drop, columns, missing, decimal, encoding. Missing values can be
        dropped with their rows, or filled with the training table's means
        (``missing=train.X.mean(axis=0)``).

    Returns
    -------
    array, shape (n_samples, ...)

    Raises
    ------
    DataError
        For a broken file, NaN or infinity, or no samples.
    FileNotFoundError
        If there is no such file.

    Examples
    --------
    >>> from csoftmax.data import read_features, sample_folder
    >>> read_features(sample_folder() / "t10k-images-idx3-ubyte.gz").shape
    (1000, 28, 28)
    """
    path = Path(path)
    kind = _kind(path)
    if kind == "table":
        return read_csv_features(path, n_features=n_features, **table)
    _check_not_for_tables(path, table)
    if path.is_dir():
        raise DataError(f"{path}: expected a file of samples to predict, got a folder")
    if kind == "npz":
        X = read_npz_features(path)
    elif kind == "npy":
        X = open_npy(path)
    else:
        X = read_idx(path)
    check_features(str(path), X)
    return X


def is_table(path: Path) -> bool:
    """Tell whether this is read as a text table; raises as the readers do for what they refuse."""
    return _kind(path) == "table"


def _kind(path: Path) -> str:
    if path.is_dir():
        return "npy" if (path / "X.npy").exists() else "idx folder"
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    name = path.name.lower()
    suffix = Path(name.removesuffix(".gz")).suffix
    if suffix in (".csv", ".tsv", ".txt"):
        return "table"
    if name.endswith((".npz", ".npy")):
        return name[-3:]
    if "idx" in name or "ubyte" in name:
        return "idx file"
    raise DataError(f"{path}: expected .csv, .tsv, .txt (or .gz of these), .npy, .npz, an IDX file "
                    "or a folder")  # fmt: skip


def _check_not_for_tables(path: Path, table: dict[str, Any]) -> None:
    """Refuse what would be passed over in a file that is no table, but for harmless parameters."""
    TableOptions(**table)
    harmless = ("label_column", "header", "delimiter", "dtype", "feature_names", "encoding")
    for name, value in table.items():
        if value is not None and name not in harmless:
            raise ValueError(f"{name} is for tables, but {path} is none")


def _read_npy_parts(
    path: Path, class_names: Sequence[str] | None
) -> tuple[Dataset, Dataset | None]:
    train = read_npy(path, class_names=class_names)
    test_path = path / "X_test.npy"
    if not test_path.exists():
        return train, None
    test = read_npy(test_path, path / "y_test.npy", class_names=train.class_names)
    if test.X.shape[1:] != train.X.shape[1:]:
        raise DataError(f"{test_path}: expected samples of shape {train.X.shape[1:]}, as in X.npy, "
                        f"got {test.X.shape[1:]}")  # fmt: skip
    return train, test
