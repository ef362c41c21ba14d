"""The command `predict`."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import click
import numpy as np
from numpy.typing import NDArray

import csoftmax as cs
from csoftmax.cli.inputs import (
    check_pixels,
    load_model,
    options_for,
    pixels_expected,
    stored_dtype,
    tell_order,
)
from csoftmax.cli.messages import users_mistakes
from csoftmax.cli.options import model_file, of_tables, threads
from csoftmax.cli.parsing import PATH, Command, argument, option
from csoftmax.cli.shards import (
    ROWS_AT_A_TIME,
    are_shards,
    check_features,
    finite_blocks,
    open_shards,
    with_progress,
)
from csoftmax.core.checks import Stored
from csoftmax.core.files import refuse_to_overwrite, write_atomically, write_npy_blocks
from csoftmax.data.parquet import write_parquet
from csoftmax.data.readers.front import read_samples
from csoftmax.data.readers.parts.part import numbers_or_texts
from csoftmax.data.readers.table.options import TableOptions
from csoftmax.rows.base import blocks, take


@click.command(cls=Command)
@model_file
@argument("file", metavar="FILE", type=PATH)
@option("--output", type=PATH, help="CSV, Parquet or .npy file to write.", show_default="stdout")
@option(
    "--label-column",
    metavar="COLUMN",
    help="Column of a table to leave out: its name, or its position from 0.",
    show_default="none, or the label's if there is one column too many",
)
@option(
    "--probabilities",
    is_flag=True,
    help="Write the probabilities of all classes too, a column each.",
    show_default="off",
)
@of_tables
@threads
def predict(
    model_file: Path,
    file: Path,
    output: Path | None,
    probabilities: bool,
    threads: int | None,
    **given: Any,
) -> None:
    """Write the class of each sample and its probability, as CSV or Parquet.

    The class is the most probable one. A .npy file gets the classes alone, or with --probabilities
    an array of the probabilities alone.

    MODEL is a model.safetensors file, as `train` writes it. FILE has the samples: a table, .npy,
    .npz, svmlight or IDX file, or more than memory holds: a pattern of files in quotes, such as
    'part/*.parquet', or a file of Parquet, Arrow or tar.
    """
    if are_shards(file):
        with users_mistakes():
            model = load_model(model_file)
            data, _ = open_shards(file, given, model)
            refuse_to_overwrite(output, "--output", [model_file, *(s.path for s in data.stamps)])
            check_features(model, data, str(file))
        parts = finite_blocks(with_progress(data))
        _write(output, model, parts, data.n_rows, None, threads, probabilities)
        return
    with users_mistakes():
        model = load_model(model_file)
        table = options_for(model, given, stored_dtype(model), file)
        del table["class_names"]
        with pixels_expected(model):
            options = TableOptions(**table)
            X, kept = read_samples(file, options, model.n_features, model.class_names)
        tell_order(file, table)
        refuse_to_overwrite(output, "--output", [file, model_file])
        model.features_of(X, str(file))
        check_pixels(model, X, str(file))
        if isinstance(X, np.ndarray) and X.dtype == np.uint8 and model._scale is None:
            model.scale = 1 / 255  # that of a data set of pixels, as `evaluate` takes it
    parts = (take(X, rows) for rows in blocks(len(X), ROWS_AT_A_TIME))
    _write(output, model, parts, len(X), kept, threads, probabilities)


def _write(
    output: Path | None, model: cs.SoftmaxRegression, parts: Iterator[Stored], n_rows: int,
    kept: NDArray[np.bool_] | None, threads: int | None, all_classes: bool,
) -> None:  # fmt: skip
    """Write predictions for rows that come block by block, to where they are wanted."""
    if output is None:
        with users_mistakes():
            write_predictions(sys.stdout, model, parts, kept, threads, all_classes)
        return
    if output.suffix in (".parquet", ".pq"):
        with users_mistakes():
            write_table(output, model, parts, kept, threads, all_classes)
        return

    if output.suffix == ".npy":
        with users_mistakes():
            write_array(output, model, parts, n_rows, kept, threads, all_classes)
        return

    def write(binary: IO[bytes]) -> None:
        text = io.TextIOWrapper(binary, encoding="utf-8", newline="")
        write_predictions(text, model, parts, kept, threads, all_classes)
        text.detach()

    with users_mistakes():
        if output.exists() and not output.is_file():  # a pipe or a device cannot be replaced
            with open(output, "wb") as device:
                write(device)
        else:
            write_atomically(output, write)


def write_predictions(
    file: IO[str], model: cs.SoftmaxRegression, parts: Iterator[Stored],
    kept: NDArray[np.bool_] | None, threads: int | None, all_classes: bool,
) -> None:  # fmt: skip
    """Write a row per sample: its class, the probability of that, and if wanted of each class.

    The parts have the samples that were kept; the others get empty cells, so that a line here is of
    the same sample as the line there.
    """
    writer = csv.writer(file, lineterminator="\n")
    columns = ("label", "probability", *(model.class_names if all_classes else ()))
    writer.writerow(columns)
    predicted = _predicted(model, parts, threads, all_classes)
    if kept is None:
        writer.writerows(predicted)
    else:
        unknown = ("",) * len(columns)
        writer.writerows(next(predicted) if row else unknown for row in kept)
    file.flush()


def write_table(
    path: Path, model: cs.SoftmaxRegression, parts: Iterator[Stored],
    kept: NDArray[np.bool_] | None, threads: int | None, all_classes: bool,
) -> None:  # fmt: skip
    """Write what `write_predictions` writes as a Parquet file."""
    names = np.array(model.class_names)
    _refuse_gaps(path, kept)
    if all_classes and {"label", "probability"} & set(model.class_names):
        raise ValueError(f"--output is {path}, but a class has the name of another column: "
                         "expected a .csv file")  # fmt: skip

    def tables() -> Iterator[dict[str, Any]]:
        for probabilities, labels, best in _by_parts(model, parts, threads):
            of_classes = zip(model.class_names, probabilities.T, strict=True) if all_classes else ()
            yield {"label": names[labels], "probability": best, **dict(of_classes)}

    try:
        write_parquet(path, tables())
    except ImportError as error:
        raise ValueError(str(error)) from error


def write_array(
    path: Path, model: cs.SoftmaxRegression, parts: Iterator[Stored], n_rows: int,
    kept: NDArray[np.bool_] | None, threads: int | None, all_classes: bool,
) -> None:  # fmt: skip
    """Write the classes as an array (n_rows,), or the probabilities, (n_rows, n_classes)."""
    _refuse_gaps(path, kept)
    predicted = _by_parts(model, parts, threads)
    if all_classes:
        shape, blocks = (n_rows, model.n_classes), (of_rows for of_rows, _, _ in predicted)
        write_npy_blocks(path, shape, model.dtype, blocks)
        return
    names = numbers_or_texts(model.class_names)
    write_npy_blocks(path, (n_rows,), names.dtype, (names[labels] for _, labels, _ in predicted))


def _refuse_gaps(path: Path, kept: NDArray[np.bool_] | None) -> None:
    if kept is not None:
        raise ValueError(f"--output is {path}, but rows with missing values have no class there: "
                         "expected a .csv file")  # fmt: skip


def _by_parts(
    model: cs.SoftmaxRegression, parts: Iterator[Stored], threads: int | None
) -> Iterator[tuple[NDArray[Any], NDArray[np.int64], NDArray[Any]]]:
    """Yield the probabilities of each part, the most probable class, and how probable it is."""
    for part in parts:
        probabilities = model.predict_proba(part, n_threads=threads)
        labels = probabilities.argmax(axis=1)
        yield probabilities, labels, np.take_along_axis(probabilities, labels[:, None], 1)[:, 0]


def _predicted(
    model: cs.SoftmaxRegression, parts: Iterator[Stored], threads: int | None, all_classes: bool
) -> Iterator[tuple[str, ...]]:
    names = model.class_names
    for probabilities, labels, best in _by_parts(model, parts, threads):
        # small probabilities keep their digits
        others = ([f"{p:.6g}" for p in row] for row in probabilities if all_classes)
        for k, p in zip(labels.tolist(), best.tolist(), strict=True):
            yield names[k], f"{p:.6f}", *next(others, ())
