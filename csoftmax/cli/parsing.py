"""Commands, options and arguments as click parses them, and mistakes in our own words."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from csoftmax.cli.messages import UserError

PATH = click.Path(path_type=Path)


class _Parameter(click.Parameter):
    """What an option and an argument have in common: a value that is refused in our words."""

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        try:
            if value == "" and isinstance(self.type, click.Path):  # not the current folder
                raise click.BadParameter("empty")
            return super().type_cast_value(ctx, value)
        except click.BadParameter:
            name = self.opts[0] if isinstance(self, click.Option) else self.human_readable_name
            came = shlex.quote(str(value))
            raise UserError(f"{name} is {came}, expected {_expected(self.type)}") from None


class Option(_Parameter, click.Option):
    """An option of a command."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        record = super().get_help_record(ctx)
        if record is None or not isinstance(self.show_default, str):
            return record
        names, text = record  # with the default that is told in words in parentheses
        return names, text.replace(f"({self.show_default})", self.show_default)


class Argument(_Parameter, click.Argument):
    """A word of a command that has no option's name before it."""


class Command(click.Command):
    """A command that says which word it has no use for."""

    allow_extra_args = True  # so that they come back from the parser

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            rest = super().parse_args(ctx, args)
        except click.BadOptionUsage as error:
            error.ctx = ctx
            raise
        if rest and not ctx.resilient_parsing:
            hint = "; data are given by --data" if "data" in ctx.params else ""
            raise UserError(
                f"{shlex.quote(rest[0])} has no place here, expected {_usage(ctx)}{hint}"
            )
        return rest


class Integer(click.IntRange):
    """An integer of at least `min`."""

    name = "integer"


class NumberOr(click.ParamType[Any]):
    """A number, or a word that stands for one."""

    name = "float"

    def __init__(self, word: str) -> None:
        self.word = word

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | str:
        return self.word if value == self.word else click.FLOAT.convert(value, param, ctx)


option = partial(click.option, cls=Option)
argument = partial(click.argument, cls=Argument)


def given_options(context: click.Context) -> set[str]:
    """Return the names of the parameters that the command line gives, as others are defaults."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name for name, source in sources.items() if source is ParameterSource.COMMANDLINE}


def in_our_words(error: click.ClickException) -> str:
    """Return what is wrong with a command line, what was expected and what came."""
    context: click.Context | None = getattr(error, "ctx", None)
    if context is None:
        return error.format_message()
    path, command = context.command_path, context.command
    if isinstance(error, click.NoSuchOption):
        hint = did_you_mean(error.option_name, list(_options(context)))
        if not hint and isinstance(command, click.Group):
            hint = f"; expected a command before it: {alternatives(command.list_commands(context))}"
        hint = hint or f"; {path} --help lists its options"
        return f"{path} has no option {error.option_name}{hint}"
    if isinstance(error, click.MissingParameter) and error.param is not None:
        return f"{error.param.human_readable_name} is missing, expected {_usage(context)}"
    if isinstance(error, click.BadOptionUsage):
        option = _options(context)[error.option_name]
        if option.is_flag:
            return f"{error.option_name} takes no value"
        return f"{error.option_name} has no value, expected {_expected(option.type)}"
    if isinstance(command, click.Group):
        return f"expected a command: {path} {alternatives(command.list_commands(context))}"
    return error.format_message()


def _options(context: click.Context) -> dict[str, click.Option]:
    """Return the options of a command by each of their names."""
    options = (p for p in context.command.get_params(context) if isinstance(p, click.Option))
    return {name: option for option in options for name in (*option.opts, *option.secondary_opts)}


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return a question that names what begins as the word does, or else what is near to it."""
    begin = f"--{word.lstrip('-')}" if word.startswith("-") else word
    near = [name for name in known if begin and name.startswith(begin)]
    near = near or get_close_matches(begin, known, n=2, cutoff=0.7)
    return f"; did you mean {alternatives(near)}?" if near else ""


def alternatives(words: Iterable[str]) -> str:
    """Return the words as a list in a sentence: a, b or c."""
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def _usage(context: click.Context) -> str:
    pieces = context.command.collect_usage_pieces(context)
    return " ".join([context.command_path, *pieces])


def _expected(kind: click.ParamType[Any]) -> str:
    """Return what an option takes, to follow the word `expected`."""
    if isinstance(kind, click.Choice):
        return alternatives(kind.choices)
    if isinstance(kind, click.IntRange):
        return f"an integer >= {kind.min}"
    if isinstance(kind, click.FloatRange):
        if kind.max is not None:
            return f"a number from {kind.min:g} to {kind.max:g}"
        return f"a number > {kind.min:g}"
    if kind is click.FLOAT:
        return "a number"
    if isinstance(kind, NumberOr):
        return f"a number or {kind.word}"
    return "a path" if isinstance(kind, click.Path) else "text"
