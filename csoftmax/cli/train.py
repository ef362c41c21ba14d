"""The command `train`."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

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
from csoftmax.cli.lbfgs import LbfgsTraining, refuse_options_of_the_other_solver
from csoftmax.cli.messages import printer, users_mistakes
from csoftmax.cli.options import (
    Columns,
    Data,
    DecimalMark,
    Drop,
    Dtype,
    Encoding,
    HasHeader,
    LabelColumn,
    LabelsAs,
    MissingValues,
    Solver,
    Threads,
)
from csoftmax.cli.results import ResultsFolder, make_folder
from csoftmax.cli.sgd import SgdTraining
from csoftmax.core.names import listed
from csoftmax.data import read, read_parts, split_dataset
from csoftmax.data.readers.front import is_table

TEST_FRACTION = 0.2


def train(
    context: typer.Context,
    data: Data = None,
    label_column: LabelColumn = None,
    drop: Drop = None,
    columns: Columns = None,
    header: HasHeader = None,
    missing: MissingValues = None,
    labels: LabelsAs = None,
    decimal: DecimalMark = None,
    encoding: Encoding = None,
    test_fraction: Annotated[
        float | None,
        typer.Option(
            help="Share of the samples to test on, if the files have no test set. [default: 0.2]",
            show_default=False,
        ),
    ] = None,
    solver: Annotated[
        Solver | None,
        typer.Option(
            help="sgd: minibatches. lbfgs: full passes to the optimum, with a certificate of how "
            "far it is. [default: sgd; lbfgs with --sweep]",
            show_default=False,
        ),
    ] = None,
    C: Annotated[
        float,
        typer.Option(
            "--C",
            help="For lbfgs: inverse strength of the penalty on the weights, as in scikit-learn; "
            "inf for none.",
        ),
    ] = 1.0,
    sweep: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Try so many values of C, from 1e-6 to 1e5; the accuracy on a fifth of the "
            "training samples chooses. [default: no]",
            show_default=False,
        ),
    ] = None,
    tol: Annotated[
        float,
        typer.Option(help="For lbfgs: stop at this estimated relative distance to the optimum."),
    ] = 1e-4,
    max_iter: Annotated[int, typer.Option(min=1, help="For lbfgs: at most so many steps.")] = 1000,
    epochs: Annotated[int, typer.Option(min=1, help="How often to go through the data.")] = 10,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples per step.")] = 256,
    lr: Annotated[float, typer.Option(help="Learning rate.")] = 0.1,
    momentum: Annotated[float, typer.Option(help="Momentum, from 0 to below 1.")] = 0.0,
    nesterov: Annotated[
        bool,
        typer.Option(
            "--nesterov", help="Nesterov's momentum; needs --momentum above 0. [default: off]"
        ),
    ] = False,
    weight_decay: Annotated[float, typer.Option(help="Weight decay; the bias has none.")] = 0.0,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the split, the first weights and the order.")
    ] = 0,
    threads: Threads = None,
    dtype: Annotated[
        Dtype | None,
        typer.Option(
            help="Type to compute in. uint8 is for tables of pixels 0..255: they are scaled by "
            "1/255 and computed in float32. [default: that of the resumed model, else float32]",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Go on from this saved model. [default: start anew]", show_default=False),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("csoftmax-run"),
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Print only the last line. [default: off]")
    ] = False,
    no_plots: Annotated[
        bool, typer.Option("--no-plots", help="Draw no pictures. [default: off]")
    ] = False,
) -> None:
    """Train a model, test it, and write model, history and pictures to a folder.

    Ctrl-C stops, and keeps the model of the last finished epoch, or the best so far with lbfgs.
    """
    say = printer(quiet)
    full_passes = sweep is not None or solver is Solver.lbfgs
    with users_mistakes():
        refuse_options_of_the_other_solver(context, full_passes)
        optimizer = cs.SGD(lr, momentum, nesterov, weight_decay)
        model = None if resume is None else load_model(resume)
        table = options_for(model, context, (dtype or stored_dtype(model)).value, data)
        if data is None:
            if test_fraction is not None:
                raise ValueError("--test-fraction has no effect: Fashion-MNIST has a test set")
            train_set, test_set = find_fashion_mnist(say)
        else:
            with pixels_expected(model):
                train_set, test_set = read_to_train(data, table, test_fraction, seed)
            tell_order(data, table)
        model = model_for(train_set, data, model, dtype, seed)
        train_set, test_set = (as_trained(part, model, say) for part in (train_set, test_set))
        check_pixels(model, train_set.X, str(data))
        check_pixels(model, test_set.X, f"the test set of {data}", train_set.scale)
        make_folder(out)
        results = ResultsFolder(out, model, means_of(table, train_set, model), say)
    if resume is not None and data is not None:
        tell_positions(model, say)
    say(f"train on {describe(train_set)}; test on {describe(test_set)}")
    tell_columns(train_set, say)
    if full_passes:
        accuracy = LbfgsTraining(
            model, train_set, results, tol, max_iter, threads, resume is not None, say
        ).finish(test_set, C, sweep, seed, not no_plots)
    else:
        accuracy = SgdTraining(
            model, results, optimizer, epochs, batch_size, seed, threads, resume is not None,
            False if quiet else None, say,
        ).finish(train_set, test_set, not no_plots)  # fmt: skip
    print(f"test accuracy {accuracy:.4f}; results are in {out}{os.sep}")


def read_to_train(
    path: Path, table: dict[str, Any], test_fraction: float | None, seed: int
) -> tuple[cs.Dataset, cs.Dataset]:
    """Read a train and a test set, and refuse a fraction that would have no effect."""
    share = TEST_FRACTION if test_fraction is None else test_fraction
    if is_table(path):
        return read(path, test_fraction=share, seed=seed, **table)
    train_set, test_set = read_parts(path, **table)
    if test_set is None:
        return split_dataset(train_set, share, seed)
    if test_fraction is not None:
        raise ValueError(f"--test-fraction has no effect: {path} has a test set of its own")
    return train_set, test_set


def means_of(
    table: dict[str, Any], train_set: cs.Dataset, model: cs.SoftmaxRegression
) -> list[float] | None:
    """Return the means that took the place of missing values, for the model's file."""
    if isinstance(table.get("missing"), str) and table["missing"] == "mean":
        means: list[float] = train_set.X.mean(axis=0, dtype=np.float64).tolist()
        return means
    return model.trained_with.get("means")


def tell_columns(data: cs.Dataset, say: Callable[[str], None]) -> None:
    """Say what was taken for features and for classes, where a table might mean something else."""
    if data.feature_names:
        say(f"features: {listed(data.feature_names)}; classes: {listed(data.class_names)}")
    if data.n_classes > len(data) / 2:
        warnings.warn(f"{data.name}: {data.n_classes} classes for {len(data)} samples: is this "
                      "the label column?", stacklevel=2)  # fmt: skip
