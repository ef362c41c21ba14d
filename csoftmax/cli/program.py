"""The program `csoftmax`: its commands, its exit codes, and how warnings and mistakes are told."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence

import typer

from csoftmax.cli.bench import bench
from csoftmax.cli.evaluate import evaluate
from csoftmax.cli.info import info
from csoftmax.cli.messages import UserError, as_options, drop_output, one_line
from csoftmax.cli.predict import predict
from csoftmax.cli.train import train

app = typer.Typer(
    help="Softmax regression at the speed of the hardware.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (train, evaluate, predict, bench, info):
    app.command()(command)


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
