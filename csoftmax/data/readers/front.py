"""One front door: a path in, data sets out, whatever kind of file it is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from csoftmax.core.checks import Stored
from csoftmax.core.errors import DataError
from csoftmax.data.dataset import Dataset
from csoftmax.data.labels import check_features
from csoftmax.data.readers import csv, idx, npy, npz, svmlight
from csoftmax.data.readers.reader import Reader, Samples
from csoftmax.data.readers.table.options import TableOptions
from csoftmax.data.readers.table.rows import column_means, fill_missing
from csoftmax.data.split import split_dataset

# A path is read by the first that takes it: idx takes any folder.
READERS = (csv.READER, npy.READER, npz.READER, svmlight.READER, idx.READER)
# parameters for tables that may be given for any file
_HARMLESS = ("label_column", "header", "delimiter", "dtype", "feature_names", "encoding")


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
    ``X_test.npy``, ``y_test.npy``), or the file ``X.npy``; an ``.npz`` file, also of a sparse
    matrix that ``scipy.sparse.save_npz`` wrote; a ``.csv``, ``.tsv`` or ``.txt`` table, or a
    ``.svm``, ``.libsvm`` or ``.svmlight`` file, plain or ``.gz``. The test set is the files' own if
    they have one, otherwise a stratified part of the samples.

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
    reader, options = _open(path, table)
    train, test = reader.read_parts(path, options, class_names)
    if test is None:
        train, test = split_dataset(train, test_fraction, seed)
    _fill_means(options, train, test)
    return train, test


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
    reader, options = _open(path, table)
    train, test = reader.read_parts(path, options, class_names)
    _fill_means(options, train, test)
    return train, test


def read_features(
    path: str | os.PathLike[str],
    *,
    n_features: int | None = None,
    **table: Any,
) -> Stored:
    """Read samples without labels, to be predicted.

    What the path may be: a table (.csv, .tsv, .txt, plain or .gz), a .npy file (memory-mapped),
    an .npz file with the array X or a sparse matrix of scipy, a file of svmlight or LIBSVM (.svm,
    .libsvm, .svmlight), or an IDX file of images.

    Parameters
    ----------
    path : path of the file
    n_features : int, optional
        For tables and svmlight files: how many features to expect. A table with one column more has
        labels in the column that read_csv would take them from, and they are left out.
    table
        For tables, the other parameters of read_csv: label_column (left out), header, delimiter,
        dtype, feature_names, drop, columns, missing, decimal, encoding. Missing values can be
        dropped with their rows, or filled with the training table's means
        (``missing=train.X.mean(axis=0)``).

    Returns
    -------
    array, shape (n_samples, ...), or `csoftmax.core.sparse.CSR` of a sparse matrix

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
    _, options = _open(path, table)
    X, _ = read_samples(path, options, n_features)
    return X


def read_samples(
    path: Path,
    options: TableOptions,
    n_features: int | None = None,
    class_names: Sequence[str] | None = None,
) -> Samples:
    """Read samples without labels, and which of a table's rows they are (None: all).

    A column that is left out because there is one too many must hold some of class_names.
    """
    if path.is_dir():
        raise DataError(f"{path}: expected a file of samples to predict, got a folder")
    reader = _reader_of(path)
    X, kept = reader.read_samples(path, options, n_features, class_names)
    if reader.has_names is None:  # a table's cells were checked one by one
        check_features(str(path), X)
    return X, kept


def is_table(path: Path) -> bool:
    """Is this read as a table? Raises as the readers do for what they refuse."""
    return _reader_of(path).has_names is not None


def has_names(path: Path, options: TableOptions) -> bool:
    """Have the columns of this table names of their own?"""
    of_columns = _reader_of(path).has_names
    return of_columns is not None and of_columns(path, options)


def _reader_of(path: Path) -> Reader:
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    for reader in READERS:
        if reader.takes(path):
            return reader
    raise DataError(f"{path}: expected {', '.join(reader.what for reader in READERS)}")


def _open(path: Path, table: dict[str, Any]) -> tuple[Reader, TableOptions]:
    """Return the reader and the checked options, which must not be passed over by it."""
    reader, options = _reader_of(path), TableOptions(**table)
    for name, value in table.items():
        if reader.has_names is None and value is not None and name not in _HARMLESS:
            raise ValueError(f"{name} is for tables, but {path} is none")
    return reader, options


def _fill_means(options: TableOptions, train: Dataset, test: Dataset | None) -> None:
    """Put the means of the train part in the place of what is missing, where that is wanted."""
    if options.wants_means:
        means = column_means(train)
        for part in (train,) if test is None else (train, test):
            fill_missing(part.X, means)
