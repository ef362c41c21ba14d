"""The options that several commands share, and what they say to the readers."""

from __future__ import annotations

import csv
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar

import click

from csoftmax.cli.parsing import PATH, Integer, argument, option
from csoftmax.data.readers.front import is_table

Function = TypeVar("Function", bound=Callable[..., Any])

model_file = argument("model_file", metavar="MODEL", type=PATH)
data = option(
    "--data",
    type=PATH,
    help="A folder of IDX files or of X.npy and y.npy, or an .npz (also a sparse matrix of scipy), "
    ".npy, .csv, .tsv or .txt file, or one of svmlight: .svm, .libsvm. More than memory holds: a "
    "pattern of files in quotes, such as 'part/*.parquet', or a file or folder of Parquet, Arrow "
    "or tar.",
    show_default="Fashion-MNIST; the bundled sample of it if it cannot be had",
)
label_column = option(
    "--label-column",
    metavar="COLUMN",
    help="Column of a table with the labels: its name, or its position from 0.",
    show_default="label, class, target, species or y, else the last",
)
labels = option(
    "--labels",
    type=click.Choice(["text"]),
    help="text: labels as they are written, so that 2, 2.1 and 2.21 can be classes.",
    show_default="integers where all of them are",
)
label_files = option(
    "--label-files",
    metavar="PATTERN",
    help="For data in many files: the .npy files of labels, such as 'lab/*.npy'.",
    show_default="none",
)
threads = option(
    "--threads",
    type=Integer(min=1),
    help="At most so many threads.",
    show_default="all usable CPUs",
)
_OF_TABLES = (
    option(
        "--drop",
        metavar="COLUMNS",
        help="Columns of a table to leave out: names or positions, as id,name.",
        show_default="none",
    ),
    option(
        "--columns",
        metavar="COLUMNS",
        help="Columns of a table to take as features, in this order: names or positions.",
        show_default="all but the labels; those of the model by name",
    ),
    option(
        "--header/--no-header",
        default=None,
        help="Whether the first row of a table holds the columns' names.",
        show_default="a guess",
    ),
    option(
        "--missing",
        type=click.Choice(["drop", "mean"]),
        help="What to do about empty cells, NA and the like: drop their rows, or put the column's "
        "mean of the training samples in their place.",
        show_default="refuse them",
    ),
    option(
        "--decimal",
        type=click.Choice([".", ","]),
        help="Decimal mark of a table.",
        show_default="a guess",
    ),
    option(
        "--encoding",
        metavar="NAME",
        help="Encoding of a table, such as cp1252.",
        show_default="by its byte-order mark, or UTF-8",
    ),
)


def of_tables(function: Function) -> Function:
    """Give a command the options that say how a table is read, whatever it is read for."""
    return reduce(lambda command, add: add(command), reversed(_OF_TABLES), function)


def table_options(given: dict[str, Any], path: Path | None) -> dict[str, Any]:
    """Return what the command line says of a table, as `csoftmax.data.read` takes it.

    Raises
    ------
    ValueError
        For options that would have no effect.
    """
    options = {name: value for name, value in given.items() if value is not None}
    if options and (path is None or not is_table(path)):
        name, value = next(iter(options.items()))
        named = "--no-header" if value is False else f"--{name.replace('_', '-')}"
        if path is None:
            raise ValueError(f"{named} is for a table: give one with --data")
        raise ValueError(f"{named} is for tables, but {path} is none")
    for name in ("drop", "columns"):
        if name in options:
            # a name with a comma in it is in quotes, as in the file
            columns = next(csv.reader([options[name]], skipinitialspace=True), [])
            options[name] = [column.strip() for column in columns]
    return options
