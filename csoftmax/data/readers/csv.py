"""CSV and TSV files: one sample per line, one column of labels."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from numpy.typing import ArrayLike, DTypeLike, NDArray

from csoftmax.core.errors import DataError
from csoftmax.data.dataset import Dataset
from csoftmax.data.labels import make_dataset
from csoftmax.data.readers.reader import ClassNames, Reader, Samples
from csoftmax.data.readers.table.guesses import SAMPLE_LINES
from csoftmax.data.readers.table.layout import Layout, choose_columns, open_table
from csoftmax.data.readers.table.lines import Record
from csoftmax.data.readers.table.options import Column, Columns, TableOptions
from csoftmax.data.readers.table.rows import column_means, fill_missing, read_rows
from csoftmax.data.text import MISSING, whole_number


def read_csv(
    path: str | os.PathLike[str],
    *,
    label_column: Column | None = None,
    header: bool | None = None,
    delimiter: str | None = None,
    dtype: DTypeLike = "float32",
    class_names: Sequence[str] | None = None,
    feature_names: Sequence[str] | None = None,
    drop: Columns | None = None,
    columns: Columns | None = None,
    missing: Literal["drop", "mean"] | ArrayLike | None = None,
    labels: Literal["text"] | None = None,
    decimal: Literal[".", ","] | None = None,
    encoding: str | None = None,
) -> Dataset:
    """Read a CSV or TSV file, plain or .gz: numeric features and one column of labels.

    Cells may be quoted; blank lines are skipped, and so is a first line ``sep=;``, which names the
    delimiter. True and False are read as 1 and 0. A first column whose header is empty holds row
    numbers and is left out.

    Labels that are all written as integers (1, 2, not 01 or +1), or as floats without fraction
    (1.0, 2.0), are integers. Otherwise they are text, and 7 and 07 are two classes.

    Parameters
    ----------
    path : path of the file
    label_column : str or int, optional
        Name, or position from 0 (negative: from the end). By default the column named label,
        class, target, species or y, or else the last one.
    header : bool, optional
        Whether the first row holds names. By default it does if it has text above numbers, counts
        (0, 1, 2, ...), or has nothing but text; where that is a close guess, with a warning.
    delimiter : str, optional
        By default tab, semicolon or comma: the first of them that the first 20 lines have all as
        often, or that the first line has.
    dtype : {"float32", "float64", "uint8"}
        Type of the features. uint8 is for tables of pixels 0..255: the data set gets the scale
        1/255, as images do.
    class_names : sequence of str, optional
        The classes to expect. Without it they are the labels that occur.
    feature_names : sequence of str, optional
        The features to expect, in this order, such as those of a model. Where the table has a
        header its columns are picked by name, and other columns are left out with a warning.
    drop, columns : str or int, or sequence of these, optional
        Columns to leave out, and columns to take as features (in this order), by name or position.
        The label column need not be among them.
    missing : {"drop", "mean"} or array of shape (n_features,), optional
        What to do about missing values, which are cells that are empty or hold NA, N/A, #N/A,
        NaN, nan, null, NULL, None or ?. "drop" leaves their rows out, with a warning; "mean" puts
        the column's mean in their place; an array has a value for each feature. By default they
        are an error that counts them. Labels are missing where the cell is empty and, if all
        others are numbers, where it holds one of these; only "drop" helps.
    labels : {"text"}, optional
        "text" keeps labels as they are written, so that 2, 2.1 and 2.21 can be classes.
    decimal : {".", ","}, optional
        The decimal mark. By default a point; a comma if the delimiter is another mark and the
        first 20 rows have numbers that can only be meant so.
    encoding : str, optional
        Such as "cp1252". By default that of the byte-order mark (UTF-8, UTF-16, UTF-32), or else
        UTF-8.

    Returns
    -------
    Dataset
        Its feature_names are those of the header, unless two are the same or one is empty.

    Raises
    ------
    DataError
        For a line of another length, a cell that is no finite number, an empty label (all with
        the line number), missing values, text of another encoding, one class only, no samples, or
        a column that is not there.
    TypeError, ValueError
        For a parameter that is not one of the above.

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
    options = TableOptions(
        label_column=label_column,
        header=header,
        delimiter=delimiter,
        dtype=dtype,
        feature_names=feature_names,
        drop=drop,
        columns=columns,
        encoding=encoding,
        missing=missing,
        labels=labels,
        decimal=decimal,
    )
    data, _ = _read_parts(Path(path), options, class_names)
    if options.wants_means:
        fill_missing(data.X, column_means(data))
    return data


def read_csv_features(
    path: str | os.PathLike[str], *, n_features: int | None = None, **options: Any
) -> NDArray[Any]:
    """Read the features of a CSV or TSV file; the options are the parameters of read_csv.

    A label column is left out if label_column names it, or if the file has one column more than
    n_features or feature_names. Otherwise every column is a feature. The means to put in the
    place of missing values are those of the training table, and must be given:
    ``missing=train.X.mean(axis=0)``.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "new.csv"
    >>> _ = path.write_text("length,width\\n5.1,3.5\\n6.2,2.9\\n")
    >>> read_csv_features(path).shape
    (2, 2)
    """
    X: NDArray[Any] = _read_samples(Path(path), TableOptions(**options), n_features, None)[0]
    return X


def _takes(path: Path) -> bool:
    ending = Path(path.name.lower().removesuffix(".gz")).suffix
    return ending in (".csv", ".tsv", ".txt") and not path.is_dir()


def _read_parts(
    path: Path, options: TableOptions, class_names: ClassNames
) -> tuple[Dataset, Dataset | None]:
    layout, records = open_table(path, options)
    choose_columns(layout, options, with_label=True)
    rows = read_rows(layout, options, records)
    data = make_dataset(
        str(path), rows.X, rows.labels, class_names=class_names, locate=rows.locate, name=path.name,
        feature_names=layout.feature_names, checked=True,
    )  # fmt: skip
    return data, None


def _read_samples(
    path: Path, options: TableOptions, n_features: int | None, class_names: ClassNames
) -> Samples:
    """Read a table without labels.

    A column that is left out because there is one too many must hold some of class_names.
    """
    if options.wants_means:
        raise ValueError("missing must be 'drop' or the means of the training table "
                         "(missing=train.X.mean(axis=0)) for samples to be predicted, "
                         "got 'mean'")  # fmt: skip
    layout, records = open_table(path, options)
    choose_columns(layout, options, with_label=False, n_features=n_features)
    if class_names is not None and layout.guessed_label is not None:
        first = list(itertools.islice(records, SAMPLE_LINES))
        records = itertools.chain(first, records)
        _check_classes(layout, layout.guessed_label, first, class_names)
    rows = read_rows(layout, options, records)
    return rows.X, rows.kept


def _check_classes(
    layout: Layout, column: int, records: Sequence[Record], class_names: Sequence[str]
) -> None:
    known = {*class_names, *MISSING}
    if all(whole_number(name) is None for name in class_names):
        known.update(map(str, range(len(class_names))))  # integers count the classes
    for record in records:
        cells = record.cells(layout.path, layout.delimiter)
        cell = cells[column].strip() if column < len(cells) else ""
        if not {cell, cell.removesuffix(".0")} & known:
            raise DataError(
                f"{layout.place(record, column)}: expected a class, as there is one column more "
                f"than the {len(layout.features)} features, got {cell!r}: say which one is left "
                "out as label_column"
            )


def _has_names(path: Path, options: TableOptions) -> bool:
    """Tell whether the first row is read as names of the columns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they come when the table is read
        return open_table(path, options)[0].names is not None


READER = Reader(
    ".csv, .tsv, .txt (or .gz of these)", _takes, _read_parts, _read_samples, _has_names
)
