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
from csoftmax.core.checks import Stored
from csoftmax.core.files import write_atomically
from csoftmax.data.readers.front import read_samples
from csoftmax.data.readers.table.options import TableOptions
from csoftmax.rows.base import blocks, take

_ROWS_AT_A_TIME = 8192  # bounds the memory for the probabilities of many classes


@click.command(cls=Command)
@model_file
@argument("file", metavar="FILE", type=PATH)
@option("--output", type=PATH, help="CSV file to write.", show_default="stdout")
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
    """Write the class of each sample and its probability, as CSV.

    The class is the most probable one.

    MODEL is a model.safetensors file, as `train` writes it. FILE has the samples: a table, .npy,
    .npz, svmlight or IDX file.
    """
    with users_mistakes():
        model = load_model(model_file)
        table = options_for(model, given, stored_dtype(model), file)
        del table["class_names"]
        with pixels_expected(model):
            options = TableOptions(**table)
            X, kept = read_samples(file, options, model.n_features, model.class_names)
        tell_order(file, table)
        refuse_to_overwrite(output, file, model_file)
        model.features_of(X, str(file))
        check_pixels(model, X, str(file))
        if isinstance(X, np.ndarray) and X.dtype == np.uint8 and model._scale is None:
            model.scale = 1 / 255  # that of a data set of pixels, as `evaluate` takes it
    if output is None:
        write_predictions(sys.stdout, model, X, kept, threads, probabilities)
        return

    def write(binary: IO[bytes]) -> None:
        text = io.TextIOWrapper(binary, encoding="utf-8", newline="")
        write_predictions(text, model, X, kept, threads, probabilities)
        text.detach()

    with users_mistakes():
        if output.exists() and not output.is_file():  # a pipe or a device cannot be replaced
            with open(output, "wb") as device:
                write(device)
        else:
            write_atomically(output, write)


def refuse_to_overwrite(output: Path | None, *inputs: Path) -> None:
    """Raise ValueError if a result would replace what it is made of."""
    for path in inputs:
        if output is not None and output.is_file() and output.samefile(path):
            raise ValueError(f"--output is {output}, which is read: expected another file")


def write_predictions(
    file: IO[str], model: cs.SoftmaxRegression, X: Stored, kept: NDArray[np.bool_] | None,
    threads: int | None, all_classes: bool,
) -> None:  # fmt: skip
    """Write a row per sample: its class, the probability of that, and if wanted of each class.

    X has the samples that were kept; the others get empty cells, so that a line here is of the
    same sample as the line there.
    """
    writer = csv.writer(file, lineterminator="\n")
    columns = ("label", "probability", *(model.class_names if all_classes else ()))
    writer.writerow(columns)
    predicted = _predicted(model, X, threads, all_classes)
    if kept is None:
        writer.writerows(predicted)
    else:
        unknown = ("",) * len(columns)
        writer.writerows(next(predicted) if row else unknown for row in kept)
    file.flush()


def _predicted(
    model: cs.SoftmaxRegression, X: Stored, threads: int | None, all_classes: bool
) -> Iterator[tuple[str, ...]]:
    names = model.class_names
    for rows in blocks(len(X), _ROWS_AT_A_TIME):
        probabilities = model.predict_proba(take(X, rows), n_threads=threads)
        labels = probabilities.argmax(axis=1)
        best = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
        # small probabilities keep their digits
        others = ([f"{p:.6g}" for p in row] for row in probabilities if all_classes)
        for k, p in zip(labels.tolist(), best.tolist(), strict=True):
            yield names[k], f"{p:.6f}", *next(others, ())
