"""The program `csoftmax`: its commands, its exit codes, and how warnings and mistakes are told."""

from __future__ import annotations

import importlib
import shlex
import sys
import warnings
from collections.abc import Sequence

import click

from csoftmax.cli.messages import UserError, as_options, drop_output, one_line
from csoftmax.cli.parsing import alternatives, did_you_mean, in_our_words
from csoftmax.core.version import __version__

COMMANDS = ("train", "evaluate", "predict", "app", "bench", "info")


class _Program(click.Group):
    """The commands, each imported from the module of its name only when it is wanted."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command
        command = getattr(importlib.import_module(f"csoftmax.cli.{cmd_name}"), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not ctx.resilient_parsing:
            hint = did_you_mean(args[0], COMMANDS) or f", expected {alternatives(COMMANDS)}"
            raise UserError(f"csoftmax has no command {shlex.quote(args[0])}{hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> None:
        try:
            super().invoke(ctx)
        except KeyboardInterrupt:  # click would print an empty line
            raise UserError("interrupted", 130) from None


@click.group(cls=_Program, context_settings={"show_default": True, "max_content_width": 100})
@click.version_option(__version__, message="%(prog)s %(version)s")
def app() -> None:
    """Softmax regression at the speed of the hardware."""


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
            app(args=words, prog_name="csoftmax", standalone_mode=False)
        sys.stdout.flush()
    except UserError as error:
        prefix = "error: " if error.exit_code == 2 else ""
        print(f"csoftmax: {prefix}{error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        drop_output()
        return 1
    except click.ClickException as error:
        print(f"csoftmax: error: {one_line(in_our_words(error))}", file=sys.stderr)
        return 2
    return 0


def _tell(message: Warning | str, *where: object, **options: object) -> None:
    """Print a warning as one line, without the place in the source."""
    print(f"csoftmax: warning: {as_options(one_line(str(message)))}", file=sys.stderr)
