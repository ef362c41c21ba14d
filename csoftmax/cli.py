"""The command line: train, evaluate, predict, bench, info.

A thin face: each command reads its options, calls the library and prints. A user's mistake ends
with one line on stderr and exit code 2; an error of the program's own keeps its traceback.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import IO, Annotated, Any

import numpy as np
import typer

import csoftmax as cs
from csoftmax._run import (
    Run,
    UserError,
    draw_results,
    image_shape,
    one_line,
    users_mistakes,
    warn_if_diverged,
    write_predictions,
)
from csoftmax.data import read_features, read_parts, write_atomically

app = typer.Typer(
    help="Softmax regression at the speed of the hardware.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class Dtype(str, Enum):
    """What --dtype accepts."""

    float32 = "float32"
    float64 = "float64"
    uint8 = "uint8"


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
Threads = Annotated[
    int | None,
    typer.Option(
        min=1, help="At most so many threads. [default: all usable CPUs]", show_default=False
    ),
]
ModelFile = Annotated[Path, typer.Argument(metavar="MODEL", help="A model.safetensors file.")]


@app.command()
def train(
    data: Data = None,
    label_column: LabelColumn = None,
    test_fraction: Annotated[
        float, typer.Option(help="Share of the samples to test on, if the files have no test set.")
    ] = 0.2,
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
    """Train a model, test it after each epoch, and write model, history and pictures to a folder.

    Ctrl-C stops, and keeps the model of the last finished epoch.
    """
    say = _printer(quiet)
    with users_mistakes():
        optimizer = cs.SGD(lr, momentum, nesterov, weight_decay)
        model = None if resume is None else cs.SoftmaxRegression.load(resume)
        names = None if model is None else model.class_names
        if data is None:
            train_set, test_set = _fashion_mnist(say)
        else:
            table = _table_options(label_column, (dtype or _stored_dtype(model)).value)
            with _pixels_expected(model):
                train_set, test_set = cs.read(
                    data, class_names=names, test_fraction=test_fraction, seed=seed, **table
                )
        model = _model_for(train_set, data, model, dtype, seed)
        _make_folder(out)
    say(f"train on {_describe(train_set)}; test on {_describe(test_set)}")
    run = Run(model, out, epochs, "images/s" if image_shape(train_set) else "samples/s", say)
    loader = cs.DataLoader.from_dataset(train_set, batch_size, shuffle=True, seed=seed)
    try:
        history = cs.train(
            model, loader, validation=test_set, epochs=epochs, optimizer=optimizer,
            callbacks=[run.after_epoch], progress=False if quiet else None, n_threads=threads,
        )  # fmt: skip
        run.save()
        warn_if_diverged(history, model, lr)
        if not no_plots:
            draw_results(run, history, test_set, threads)
    except KeyboardInterrupt:
        raise UserError(run.interrupted(), 130) from None
    accuracy = history.validation_accuracy[-1]
    print(f"test accuracy {accuracy:.4f}; results are in {out}{os.sep}")


@app.command()
def evaluate(
    model_file: ModelFile,
    data: Data = None,
    label_column: LabelColumn = None,
    threads: Threads = None,
) -> None:
    """Print how good a model is on the test set, or on all samples where there is no test set."""
    with users_mistakes():
        model = cs.SoftmaxRegression.load(model_file)
        if data is None:
            _, test_set = _fashion_mnist(print)
        else:
            table = _table_options(label_column, _stored_dtype(model).value)
            with _pixels_expected(model):
                whole, test = read_parts(data, class_names=model.class_names, **table)
            test_set = whole if test is None else test
        _model_for(test_set, data, model, None, None)
    print(f"{model_file} on {_describe(test_set)}")
    print(cs.evaluate(model, test_set, n_threads=threads))


@app.command()
def predict(
    model_file: ModelFile,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Samples: a table, .npy, .npz or IDX file.")
    ],
    output: Annotated[
        Path | None, typer.Option(help="CSV file to write. [default: stdout]", show_default=False)
    ] = None,
    label_column: Annotated[
        str | None,
        typer.Option(
            help="Column of a table to leave out: its name, or its position from 0. "
            "[default: none, or the label's if there is one column too many]",
            show_default=False,
        ),
    ] = None,
    threads: Threads = None,
) -> None:
    """Write the most probable class and its probability for each sample, as CSV."""
    with users_mistakes():
        model = cs.SoftmaxRegression.load(model_file)
        table = _table_options(label_column, _stored_dtype(model).value)
        with _pixels_expected(model):
            X = read_features(file, n_features=model.n_features, **table)
        model.features_of(X, str(file))
    if output is None:
        write_predictions(sys.stdout, model, X, threads)
        return

    def write(binary: IO[bytes]) -> None:
        text = io.TextIOWrapper(binary, encoding="utf-8", newline="")
        write_predictions(text, model, X, threads)
        text.detach()

    with users_mistakes():
        if output.exists() and not output.is_file():  # a pipe or a device cannot be replaced
            with open(output, "wb") as device:
                write(device)
        else:
            write_atomically(output, write)


@app.command()
def bench(
    only: Annotated[
        str, typer.Option(help="Starts or patterns of names: epoch,*softmax*. [default: all]")
    ] = "",
    peers: Annotated[
        str, typer.Option(help="all, none (but NumPy), or some of torch,jax,sklearn,sklearnex.")
    ] = "all",
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Samples of each. [default: 7, or 2 with --quick]")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small shapes only. [default: off]")
    ] = False,
    goals: Annotated[
        bool, typer.Option("--goals", help="Check the project's goals. [default: off]")
    ] = False,
    json: Annotated[
        Path | None, typer.Option(help="Write the measurements here. [default: not written]")
    ] = None,
    chart: Annotated[
        Path | None, typer.Option(help="Draw them here (.png). [default: not drawn]")
    ] = None,
    compare: Annotated[
        Path | None, typer.Option(help="Tell what is slower than in this JSON. [default: none]")
    ] = None,
    readme: Annotated[
        list[Path] | None,
        typer.Option(help="Put the table between this file's markers. [default: none]"),
    ] = None,
    from_json: Annotated[
        Path | None, typer.Option("--from", help="Tell this JSON again. [default: measure]")
    ] = None,
) -> None:
    """Compare csoftmax with NumPy, the installed peers and the limits of this machine."""
    from csoftmax import bench as benchmark

    with users_mistakes():
        for path in (json, chart):
            if path is not None:
                _make_folder(path.parent)
        options = benchmark.Options(
            only=only, peers=peers, rounds=rounds, quick=quick, goals=goals, json=json,
            chart=chart, compare=compare, readme=readme or (), from_json=from_json,
        )  # fmt: skip
    benchmark.main(options)


@app.command()
def info() -> None:
    """Print version, instruction sets, CPUs, and where Fashion-MNIST was found."""
    facts = cs.info()
    locations = facts.pop("dataset locations")
    width = max(map(len, facts)) + 2
    for name, value in facts.items():
        print(f"{name:<{width}}{', '.join(value) if isinstance(value, list) else value}")
    print("Fashion-MNIST")
    for place in locations:
        state = "found" if place["found"] else "not found"
        print(f"  {place['where']:<{width}}{state}: {place['detail']}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        What follows the program's name; taken from `sys.argv` if None.

    Returns
    -------
    int
        0, 2 after a user's mistake, 130 after Ctrl-C.

    Examples
    --------
    >>> from csoftmax.cli import main
    >>> main(["info"])  # doctest: +ELLIPSIS
    csoftmax ...
    0
    """
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        exit_code = app(args=words, prog_name="csoftmax", standalone_mode=False) or 0
        sys.stdout.flush()
    except UserError as error:
        prefix = "error: " if error.exit_code == 2 else ""
        print(f"csoftmax: {prefix}{error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if not hasattr(error, "format_message"):  # not of the option parser: our own mistake
            raise
        print(f"csoftmax: error: {one_line(error.format_message())}", file=sys.stderr)
        return 2
    if exit_code == 130:
        print("csoftmax: interrupted", file=sys.stderr)
    return int(exit_code)


# --- reading and checking ------------------------------------------------------------------------


def _printer(quiet: bool) -> Callable[[str], None]:
    def say(line: str) -> None:
        from tqdm import tqdm

        tqdm.write(line)  # a plain print would run into the progress bar
        sys.stdout.flush()

    return (lambda line: None) if quiet else say


def _table_options(label_column: str | None, dtype: str) -> dict[str, Any]:
    column: str | int | None = label_column
    if label_column is not None and label_column.removeprefix("-").isdecimal():
        column = int(label_column)
    return {"label_column": column, "dtype": dtype}


def _stored_dtype(model: cs.SoftmaxRegression | None) -> Dtype:
    """The type in which to read a table: a model with a scale was trained on pixels."""
    if model is None:
        return Dtype.float32
    return Dtype(model.dtype.name) if model.scale == 1 else Dtype.uint8


@contextmanager
def _pixels_expected(model: cs.SoftmaxRegression | None) -> Iterator[None]:
    """Say what a model of pixels takes, where a table of something else was read for it."""
    try:
        yield
    except cs.DataError as error:
        if model is None or _stored_dtype(model) is not Dtype.uint8:
            raise
        raise cs.DataError(f"{error} (the model takes {model.n_features} pixels 0..255)") from None


def _fashion_mnist(say: Callable[[str], None]) -> tuple[cs.Dataset, cs.Dataset]:
    try:
        train_set, test_set = cs.fashion_mnist()
    except cs.DataNotFoundError as error:
        say(f"{error}\nUntil then the bundled sample of it will do.")
        return cs.fashion_mnist_sample()
    place = next(place for place in cs.dataset_locations() if place.found)
    return replace(train_set, name=f"{train_set.name} of {place.path}"), test_set


def _model_for(
    data: cs.Dataset,
    path: Path | None,
    model: cs.SoftmaxRegression | None,
    dtype: Dtype | None,
    seed: int | None,
) -> cs.SoftmaxRegression:
    """The given model, checked against the data and the type, or a new one."""
    compute = "float32" if dtype in (None, Dtype.uint8) else dtype.value
    if model is None:
        return cs.SoftmaxRegression(
            data.n_features, data.n_classes, scale=data.scale, seed=seed, dtype=compute,
            class_names=data.class_names,
        )  # fmt: skip
    where = str(path or data.name)
    model.features_of(data.X[:1], where)
    if data.n_classes != model.n_classes:
        raise ValueError(
            f"{where} has {data.n_classes} classes but the model has {model.n_classes}"
        )
    if dtype is not None and model.dtype != np.dtype(compute):
        raise ValueError(f"--dtype is {dtype.value} but the model holds {model.dtype}")
    return model


def _make_folder(folder: Path) -> None:
    """Make the folder, and find out now, not after the training, whether it can be written."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: expected a folder, found a file")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def _describe(data: cs.Dataset) -> str:
    return f"{data.name}: {len(data):,} x {data.n_features}, {data.n_classes} classes"
