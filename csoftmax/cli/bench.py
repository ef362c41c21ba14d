"""The command `bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from csoftmax.cli.messages import users_mistakes
from csoftmax.cli.results import make_folder


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
    solver: Annotated[
        bool, typer.Option("--solver", help="Only whole fits to the optimum. [default: off]")
    ] = False,
    small: Annotated[
        bool, typer.Option("--small", help="Only fits of small tables. [default: off]")
    ] = False,
    book: Annotated[
        bool, typer.Option("--book", help="Only the book's programs. [default: off]")
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
    from_json: Annotated[
        Path | None, typer.Option("--from", help="Tell this JSON again. [default: measure]")
    ] = None,
) -> None:
    """Compare csoftmax with NumPy, the installed peers and the limits of this machine."""
    from csoftmax import bench as benchmark

    with users_mistakes():
        for path in (json, chart):
            if path is not None:
                make_folder(path.parent)
        options = benchmark.Options(
            only=only, peers=peers, rounds=rounds, quick=quick, solver=solver, small=small,
            book=book, json=json, chart=chart, compare=compare, from_json=from_json,
        )  # fmt: skip
    benchmark.main(options)
