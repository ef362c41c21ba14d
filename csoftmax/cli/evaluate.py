"""The command `evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import csoftmax as cs
from csoftmax.cli.inputs import (
    as_trained,
    check_pixels,
    describe,
    find_fashion_mnist,
    load_model,
    model_for,
    options_for,
    pixels_expected,
    stored_dtype,
    tell_order,
    tell_positions,
)
from csoftmax.cli.messages import users_mistakes
from csoftmax.cli.options import (
    data,
    label_column,
    label_files,
    labels,
    model_file,
    of_tables,
    threads,
)
from csoftmax.cli.parsing import Command
from csoftmax.cli.shards import labelled_shards, read_as_shards, refuse_for_one_file, with_progress
from csoftmax.data import read_parts


@click.command(cls=Command)
@model_file
@data
@label_column
@labels
@of_tables
@label_files
@threads
def evaluate(
    model_file: Path,
    data: Path | None,
    label_files: str | None,
    threads: int | None,
    **given: Any,
) -> None:
    """Print how good a model is on the test set.

    All samples are taken where there is no test set.

    MODEL is a model.safetensors file, as `train` writes it.
    """
    if data is not None and read_as_shards(data, label_files):
        with users_mistakes():
            model = load_model(model_file)
            shards, _ = labelled_shards(data, given, model, None, label_files)
            if shards.classes.dtype.kind != "U":
                tell_positions(model, print)
            print(f"{model_file} on {shards}")
            print(cs.evaluate(model, with_progress(shards), n_threads=threads))
        return
    with users_mistakes():
        refuse_for_one_file("label_files", label_files)
        model = load_model(model_file)
        table = options_for(model, given, stored_dtype(model), data)
        if data is None:
            _, test_set = find_fashion_mnist(print)
            if test_set.n_features != model.n_features:
                raise ValueError(
                    f"the model has {model.n_features} features, and no --data was given: "
                    f"{test_set.name}, which is taken then, has {test_set.n_features}"
                )
        else:
            with pixels_expected(model):
                whole, test = read_parts(data, **table)
            tell_order(data, table)
            test_set = whole if test is None else test
        model_for(test_set, data, model, None, None)
        test_set = as_trained(test_set, model, print)
        check_pixels(model, test_set.X, str(data))
    if data is not None:
        tell_positions(model, print)
    print(f"{model_file} on {describe(test_set)}")
    print(cs.evaluate(model, test_set, n_threads=threads))
