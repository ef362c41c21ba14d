"""The command line: train, evaluate, predict, bench, info.

A thin face: each command reads its options, calls the library and prints. A user's mistake ends
with one line on stderr and exit code 2; an error of the program's own keeps its traceback.
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Annotated

import numpy as np
import typer

import csoftmax as cs
from csoftmax.cli.bench import bench
from csoftmax.cli.data import (
    as_trained,
    check_pixels,
    describe,
    drop_output,
    find_fashion_mnist,
    load_model,
    make_folder,
    means_of,
    model_for,
    options_for,
    pixels_expected,
    printer,
    read_to_predict,
    read_to_train,
    refuse_to_overwrite,
    stored_dtype,
    tell_columns,
    tell_order,
    tell_positions,
)
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
    ModelFile,
    Solver,
    Threads,
)
from csoftmax.cli.run import (
    Results,
    Run,
    UserError,
    as_options,
    draw_results,
    image_shape,
    one_line,
    tell_few_steps,
    users_mistakes,
    warn_if_diverged,
    write_predictions,
)
from csoftmax.cli.solver import SolverRun, refuse_options_of_the_other_solver
from csoftmax.core.files import write_atomically
from csoftmax.data import read_parts

app = typer.Typer(
    help="Softmax regression at the speed of the hardware.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command()
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
        results = Results(out, model, means_of(table, train_set, model), say)
    if resume is not None and data is not None:
        tell_positions(model, say)
    say(f"train on {describe(train_set)}; test on {describe(test_set)}")
    tell_columns(train_set, say)
    if full_passes:
        solver_run = SolverRun(
            model, train_set, results, tol, max_iter, threads, resume is not None, say
        )
        accuracy = solver_run.finish(test_set, C, sweep, seed, not no_plots)
        print(f"test accuracy {accuracy:.4f}; results are in {out}{os.sep}")
        return
    run = Run(model, results, epochs, "images/s" if image_shape(train_set) else "samples/s", say)
    loader = cs.DataLoader.from_dataset(train_set, batch_size, shuffle=True, seed=seed)
    try:
        history = cs.train(
            model, loader, validation=test_set, epochs=epochs, optimizer=optimizer,
            callbacks=[run.after_epoch], progress=False if quiet else None, n_threads=threads,
        )  # fmt: skip
        run.save()
        diverged = warn_if_diverged(history, model, lr)
        if not no_plots:
            draw_results(run, history, test_set, threads)
        if not diverged and resume is None:
            tell_few_steps(len(loader), len(history), say)
    except KeyboardInterrupt:
        raise UserError(run.interrupted(), 130) from None
    accuracy = history.validation_accuracy[-1]
    print(f"test accuracy {accuracy:.4f}; results are in {out}{os.sep}")


@app.command()
def evaluate(
    context: typer.Context,
    model_file: ModelFile,
    data: Data = None,
    label_column: LabelColumn = None,
    drop: Drop = None,
    columns: Columns = None,
    header: HasHeader = None,
    missing: MissingValues = None,
    labels: LabelsAs = None,
    decimal: DecimalMark = None,
    encoding: Encoding = None,
    threads: Threads = None,
) -> None:
    """Print how good a model is on the test set, or on all samples where there is no test set."""
    with users_mistakes():
        model = load_model(model_file)
        table = options_for(model, context, stored_dtype(model).value, data)
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


@app.command()
def predict(
    context: typer.Context,
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
    probabilities: Annotated[
        bool,
        typer.Option(
            "--probabilities",
            help="Write the probabilities of all classes too, a column each. [default: off]",
        ),
    ] = False,
    drop: Drop = None,
    columns: Columns = None,
    header: HasHeader = None,
    missing: MissingValues = None,
    decimal: DecimalMark = None,
    encoding: Encoding = None,
    threads: Threads = None,
) -> None:
    """Write the most probable class and its probability for each sample, as CSV."""
    with users_mistakes():
        model = load_model(model_file)
        table = options_for(model, context, stored_dtype(model).value, file)
        del table["class_names"]
        with pixels_expected(model):
            X, kept = read_to_predict(file, model, table)
        tell_order(file, table)
        refuse_to_overwrite(output, file, model_file)
        model.features_of(X, str(file))
        check_pixels(model, X, str(file))
        if X.dtype == np.uint8 and model._scale is None:
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


app.command()(bench)


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
        with warnings.catch_warnings():
            warnings.showwarning = _tell
            exit_code = app(args=words, prog_name="csoftmax", standalone_mode=False) or 0
        sys.stdout.flush()
    except UserError as error:
        prefix = "error: " if error.exit_code == 2 else ""
        print(f"csoftmax: {prefix}{error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        drop_output()
        return 1
    except Exception as error:
        if not hasattr(error, "format_message"):  # not of the option parser: our own mistake
            raise
        print(f"csoftmax: error: {one_line(error.format_message())}", file=sys.stderr)
        return 2
    if exit_code == 130:
        print("csoftmax: interrupted", file=sys.stderr)
    return int(exit_code)


def _tell(message: Warning | str, *where: object, **options: object) -> None:
    """Print a warning as one line, without the place in the source."""
    print(f"csoftmax: warning: {as_options(one_line(str(message)))}", file=sys.stderr)
