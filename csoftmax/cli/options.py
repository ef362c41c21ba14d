"""The options that several commands share, and what they say to the readers."""

from __future__ import annotations

import csv
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from csoftmax.data.readers.front import is_table


class Dtype(str, Enum):
    """What --dtype accepts."""

    float32 = "float32"
    float64 = "float64"
    uint8 = "uint8"


class Solver(str, Enum):
    """What --solver accepts."""

    sgd = "sgd"
    lbfgs = "lbfgs"


class Missing(str, Enum):
    """What --missing accepts."""

    drop = "drop"
    mean = "mean"


class Labels(str, Enum):
    """What --labels accepts."""

    text = "text"


class Decimal(str, Enum):
    """What --decimal accepts."""

    point = "."
    comma = ","


Data = Annotated[
    Path | None,
    typer.Option(
        help="A folder of IDX files or of X.npy and y.npy, or an .npz, .npy, .csv, .tsv or .txt "
        "file. "
        "[default: Fashion-MNIST; the bundled sample of it if it cannot be had]",
        show_default=False,
    ),
]
LabelColumn = Annotated[
    str | None,
    typer.Option(
        help="Column of a table with the labels: its name, or its position from 0. "
        "[default: label, class, target, species or y, else the last]",
        show_default=False,
    ),
]
HasHeader = Annotated[
    bool | None,
    typer.Option(
        "--header/--no-header",
        help="Whether the first row of a table holds the columns' names. [default: a guess]",
        show_default=False,
    ),
]
Drop = Annotated[
    str | None,
    typer.Option(
        help="Columns of a table to leave out: names or positions, as id,name. [default: none]",
        show_default=False,
    ),
]
Columns = Annotated[
    str | None,
    typer.Option(
        help="Columns of a table to take as features, in this order: names or positions. "
        "[default: all but the labels; those of the model by name]",
        show_default=False,
    ),
]
MissingValues = Annotated[
    Missing | None,
    typer.Option(
        "--missing",
        help="What to do about empty cells, NA and the like: drop their rows, or put the column's "
        "mean of the training samples in their place. [default: refuse them]",
        show_default=False,
    ),
]
LabelsAs = Annotated[
    Labels | None,
    typer.Option(
        "--labels",
        help="text: labels as they are written, so that 2, 2.1 and 2.21 can be classes. "
        "[default: integers where all of them are]",
        show_default=False,
    ),
]
DecimalMark = Annotated[
    Decimal | None,
    typer.Option("--decimal", help="Decimal mark of a table. [default: a guess]",
                 show_default=False),
]  # fmt: skip
Encoding = Annotated[
    str | None,
    typer.Option(
        help="Encoding of a table, such as cp1252. [default: by its byte-order mark, or UTF-8]",
        show_default=False,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1, help="At most so many threads. [default: all usable CPUs]", show_default=False
    ),
]
ModelFile = Annotated[Path, typer.Argument(metavar="MODEL", help="A model.safetensors file.")]

_OF_TABLES = ("label_column", "header", "drop", "columns", "missing", "labels", "decimal",
              "encoding")  # fmt: skip


def table_options(context: typer.Context, path: Path | None) -> dict[str, Any]:
    """Return what the command line says of a table, as `csoftmax.data.read` takes it.

    Raises
    ------
    ValueError
        For options that would have no effect.
    """
    given = {name: context.params.get(name) for name in _OF_TABLES}
    options = {name: value for name, value in given.items() if value is not None}
    if options and (path is None or not is_table(path)):
        name, value = next(iter(options.items()))
        option = "--no-header" if value is False else f"--{name.replace('_', '-')}"
        if path is None:
            raise ValueError(f"{option} is for a table: give one with --data")
        raise ValueError(f"{option} is for tables, but {path} is none")
    for name in ("drop", "columns"):
        if name in options:
            # a name with a comma in it is in quotes, as in the file
            columns = next(csv.reader([options[name]], skipinitialspace=True), [])
            options[name] = [column.strip() for column in columns]
    for name, value in options.items():
        if isinstance(value, Enum):
            options[name] = value.value
    return options
