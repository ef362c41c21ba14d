"""The command `train`."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

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
from csoftmax.cli.options import data, label_column, label_files, labels, of_tables, threads
from csoftmax.cli.parsing import PATH, Command, Integer, NumberOr, option
from csoftmax.cli.results import ResultsFolder, make_folder
from csoftmax.cli.sgd import SgdTraining
from csoftmax.cli.shards import read_as_shards, refuse_for_one_file
from csoftmax.cli.train_shards import shards_to_train
from csoftmax.core.names import listed
from csoftmax.data import read, read_parts, split_dataset
from csoftmax.data.readers.front import is_table
from csoftmax.data.shard_loader import ShardLoader

TEST_FRACTION = 0.2


@click.command(cls=Command)
@data
@label_column
@labels
@of_tables
@label_files
@option(
    "--cache",
    type=PATH,
    help="For data in many files: a folder for what takes long to read, written once as maps.",
    show_default="none",
)
@option(
    "--test-data",
    type=PATH,
    help="For data in many files: those to test on, a pattern or a file.",
    show_default="some of the files that --data names",
)
@option(
    "--test-label-files",
    metavar="PATTERN",
    help="For --test-data: the .npy files of its labels.",
    show_default="none",
)
@option(
    "--test-fraction",
    type=float,
    help="Share of the samples to test on, if the files have no test set; of data in many files, "
    "share of the files.",
    show_default=str(TEST_FRACTION),
)
@option(
    "--solver",
    type=click.Choice(["sgd", "lbfgs"]),
    help="sgd: minibatches. lbfgs: full passes to the optimum, with a certificate of how far it "
    "is.",
    show_default="sgd; lbfgs with --sweep or --l1-ratio",
)
@option(
    "--C",
    "C",
    type=click.FloatRange(min=0, min_open=True),
    metavar="FLOAT",
    default=1.0,
    help="For lbfgs: inverse strength of the penalty on the weights, as in scikit-learn; inf for "
    "none.",
)
@option(
    "--l1-ratio",
    type=click.FloatRange(0, 1),
    metavar="FLOAT",
    default=0.0,
    help="For lbfgs: the share of L1 in the penalty; above 0 only some features keep a weight.",
)
@option(
    "--sweep",
    type=Integer(min=2),
    help="Try so many values of C, from 1e-6 to 1e5; the accuracy on a fifth of the training "
    "samples chooses. With --l1-ratio: from where the first feature gets a weight to 10,000 times "
    "that, or until the validation gets worse.",
    show_default="no",
)
@option(
    "--tol",
    type=NumberOr("sampling"),
    default=1e-4,
    help="For lbfgs: stop at this estimated relative distance to the optimum, or (sampling) at a "
    "tenth of the distance that the chance in the samples makes: half of the passes, for many "
    "samples.",
)
@option("--max-iter", type=Integer(min=1), default=1000, help="For lbfgs: at most so many steps.")
@option("--epochs", type=Integer(min=1), default=10, help="How often to go through the data.")
@option("--batch-size", type=Integer(min=1), default=256, help="Samples per step.")
@option("--lr", type=float, default=0.1, help="Learning rate.")
@option("--momentum", type=float, default=0.0, help="Momentum, from 0 to below 1.")
@option(
    "--nesterov",
    is_flag=True,
    help="Nesterov's momentum; needs --momentum above 0.",
    show_default="off",
)
@option("--weight-decay", type=float, default=0.0, help="Weight decay; the bias has none.")
@option(
    "--seed",
    type=Integer(min=0),
    default=0,
    help="Seed of the split, the first weights and the order.",
)
@threads
@option(
    "--dtype",
    type=click.Choice(["float32", "float64", "uint8"]),
    help="Type to compute in. uint8 is for tables of pixels 0..255: they are scaled by 1/255 and "
    "computed in float32.",
    show_default="that of the resumed model, else float32",
)
@option("--resume", type=PATH, help="Go on from this saved model.", show_default="start anew")
@option("--out", type=PATH, default=Path("csoftmax-run"), help="Folder for the results.")
@option("--quiet", is_flag=True, help="Print only the last line.", show_default="off")
@option("--no-plots", is_flag=True, help="Draw no pictures.", show_default="off")
@click.pass_context
def train(
    context: click.Context,
    /,
    data: Path | None,
    test_fraction: float | None,
    test_data: Path | None,
    test_label_files: str | None,
    label_files: str | None,
    cache: Path | None,
    solver: str | None,
    C: float,
    l1_ratio: float,
    sweep: int | None,
    tol: float | str,
    max_iter: int,
    epochs: int,
    batch_size: int,
    lr: float,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
    seed: int,
    threads: int | None,
    dtype: str | None,
    resume: Path | None,
    out: Path,
    quiet: bool,
    no_plots: bool,
    **given: Any,
) -> None:
    """Train a model; write it, its history and pictures to a folder.

    Ctrl-C stops, and keeps the model of the last finished epoch, or the best so far with lbfgs.
    """
    say = printer(quiet)
    full_passes = solver == "lbfgs" or sweep is not None or (solver is None and l1_ratio > 0)
    with users_mistakes():
        refuse_options_of_the_other_solver(context, full_passes)
        optimizer = cs.SGD(lr, momentum, nesterov, weight_decay)
        refuse_options_of_shards(context, data)
        model = None if resume is None else load_model(resume)
        facts: dict[str, Any] = {}
        train_set: cs.Dataset | ShardLoader
        test_set: cs.Dataset | ShardLoader
        if data is not None and read_as_shards(data, context.params["label_files"]):
            model, train_set, test_set, facts["shards"] = shards_to_train(
                context.params, given, model,
                TEST_FRACTION if test_fraction is None else test_fraction,
            )  # fmt: skip
        else:
            model, train_set, test_set, facts = _sets_to_train(
                context.params, given, model, data, say
            )
        make_folder(out)
        results = ResultsFolder(out, model, facts, say)
    if resume is not None and data is not None:
        tell_positions(model, say)
    tell_sets(train_set, test_set, say)
    if full_passes:
        accuracy = LbfgsTraining(
            model, train_set, results, tol, max_iter, l1_ratio, threads, resume is not None, say
        ).finish(test_set, C, sweep, seed, not no_plots)
    else:
        accuracy = SgdTraining(
            model, results, optimizer, epochs, batch_size, seed, threads, resume is not None,
            False if quiet or isinstance(train_set, ShardLoader) else None, say,
        ).finish(train_set, test_set, not no_plots)  # fmt: skip
    print(f"test accuracy {accuracy:.4f}; results are in {out}{os.sep}")


def _sets_to_train(
    options: dict[str, Any], given: dict[str, Any], model: cs.SoftmaxRegression | None,
    data: Path | None, say: Callable[[str], None],
) -> tuple[cs.SoftmaxRegression, cs.Dataset, cs.Dataset, dict[str, Any]]:  # fmt: skip
    """Return the model, what it is trained and tested on, and facts for its file."""
    dtype, test_fraction, seed = options["dtype"], options["test_fraction"], options["seed"]
    table = options_for(model, given, dtype or stored_dtype(model), data, to_train=True)
    if data is None:
        if test_fraction is not None:
            raise ValueError("--test-fraction has no effect: Fashion-MNIST has a test set")
        train_set, test_set = find_fashion_mnist(say)
    else:
        with pixels_expected(model):
            train_set, test_set, _ = read_to_train(data, table, test_fraction, seed)
        tell_order(data, table)
    model = model_for(train_set, data, model, dtype, seed)
    train_set, test_set = (as_trained(part, model, say) for part in (train_set, test_set))
    check_pixels(model, train_set.X, str(data))
    check_pixels(model, test_set.X, f"the test set of {data}", train_set.scale)
    return model, train_set, test_set, means_of(table, train_set, model)


def tell_sets(
    train_set: cs.Dataset | ShardLoader,
    test_set: cs.Dataset | ShardLoader,
    say: Callable[[str], None],
) -> None:
    """Say what is trained on, and what the model is tested on."""
    if not isinstance(train_set, ShardLoader) and not isinstance(test_set, ShardLoader):
        say(f"train on {describe(train_set)}; test on {describe(test_set)}")
        tell_columns(train_set, say)
        return
    for what, of_set in (("train", train_set), ("test", test_set)):
        if what == "test" and of_set is train_set:
            say("test on the same rows: there is one shard")
        elif isinstance(of_set, ShardLoader):
            say(f"{what} on {of_set.shards}")


def refuse_options_of_shards(context: click.Context, data: Path | None) -> None:
    """Raise ValueError for options of data in many files where there is one, or that have no use.

    The share to test on has none where what to test on is given.
    """
    of_shards = read_as_shards(data, context.params["label_files"])
    for name in ("label_files", "cache", "test_data", "test_label_files"):
        if not of_shards:
            refuse_for_one_file(name, context.params[name])
    if context.params["test_data"] is None:
        if context.params["test_label_files"] is not None:
            raise ValueError("--test-label-files is for --test-data: give that too")
    elif context.params["test_fraction"] is not None:
        raise ValueError("--test-fraction and --test-data exclude each other")


def read_to_train(
    path: Path, table: dict[str, Any], test_fraction: float | None, seed: int
) -> tuple[cs.Dataset, cs.Dataset, bool]:
    """Read a train and a test set, and say whether they were one; refuse an idle fraction."""
    share = TEST_FRACTION if test_fraction is None else test_fraction
    if is_table(path):
        return *read(path, test_fraction=share, seed=seed, **table), True
    train_set, test_set = read_parts(path, **table)
    if test_set is None:
        return *split_dataset(train_set, share, seed), True
    if test_fraction is not None:
        raise ValueError(f"--test-fraction has no effect: {path} has a test set of its own")
    return train_set, test_set, False


def means_of(
    table: dict[str, Any], train_set: cs.Dataset, model: cs.SoftmaxRegression
) -> dict[str, Any]:
    """Return the means that took the place of missing values, for the model's file."""
    if isinstance(table.get("missing"), str) and table["missing"] == "mean":
        return {"means": train_set.X.mean(axis=0, dtype=np.float64).tolist()}
    before = model.trained_with.get("means")
    return {} if before is None else {"means": before}


def tell_columns(data: cs.Dataset, say: Callable[[str], None]) -> None:
    """Say what was taken for features and for classes, where a table might mean something else."""
    if data.feature_names:
        say(f"features: {listed(data.feature_names)}; classes: {listed(data.class_names)}")
    if data.n_classes > len(data) / 2:
        warnings.warn(f"{data.name}: {data.n_classes} classes for {len(data)} samples: is this "
                      "the label column?", stacklevel=2)  # fmt: skip
