"""The command `bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from csoftmax.cli.messages import users_mistakes
from csoftmax.cli.parsing import PATH, Command, Integer, alternatives, given_options, option
from csoftmax.cli.results import make_folder, refuse_folder

_OF_MEASURING = ("only", "peers", "rounds", "quick", "solver", "small", "book", "sparse", "data",
                 "slow_peers", "scale", "gigabytes", "folder")  # fmt: skip
_PICTURES = (".png", ".svg", ".pdf")


@click.command(cls=Command)
@option(
    "--only",
    default="",
    metavar="NAMES",
    help="Starts or patterns of names: epoch,*softmax*.",
    show_default="all",
)
@option(
    "--peers",
    default="all",
    metavar="NAMES",
    help="all, none (but NumPy), or some of torch,jax,sklearn,sklearnex.",
)
@option(
    "--rounds", type=Integer(min=1), help="Samples of each.", show_default="7, or 2 with --quick"
)
@option("--quick", is_flag=True, help="Small shapes only.", show_default="off")
@option("--solver", is_flag=True, help="Only whole fits to the optimum.", show_default="off")
@option("--small", is_flag=True, help="Only fits of small tables.", show_default="off")
@option("--book", is_flag=True, help="Only the book's programs.", show_default="off")
@option("--sparse", is_flag=True, help="Only sparse rows.", show_default="off")
@option("--data", type=PATH, help="Their tables' folder.", show_default="a small table, made up")
@option("--slow-peers", is_flag=True, help="Wait for slow peers there.", show_default="off")
@option("--scale", is_flag=True, help="Only rows in files and on a cluster.", show_default="off")
@option(
    "--gigabytes",
    type=click.FloatRange(min=0, min_open=True),
    help="Size of a file there.",
    show_default="10, or .02 with --quick",
)
@option("--folder", type=PATH, help="Files are made here, and removed.", show_default="temporary")
@option("--json", type=PATH, help="Write the measurements here.", show_default="not written")
@option("--chart", type=PATH, help="Draw them here (.png).", show_default="not drawn")
@option("--compare", type=PATH, help="Tell what is slower than in this JSON.", show_default="none")
@option("--from", "from_json", type=PATH, help="Tell this JSON again.", show_default="measure")
@click.pass_context
def bench(context: click.Context, /, json: Path | None, chart: Path | None, **others: Any) -> None:
    """Compare csoftmax with NumPy, peers and this machine's limits."""
    from csoftmax import bench as benchmark

    with users_mistakes():
        given = given_options(context)
        for name in _OF_MEASURING:
            if name in given and "from_json" in given:
                raise ValueError(
                    f"--{name.replace('_', '-')} and --from exclude each other: nothing is measured"
                )
        if chart is not None and chart.suffix.lower() not in _PICTURES:
            raise ValueError(f"--chart is {chart}, expected a name that ends with "
                             f"{alternatives(_PICTURES)}")  # fmt: skip
        for path in (json, chart):
            if path is not None:
                refuse_folder(path)
                make_folder(path.parent)
        options = benchmark.Options(json=json, chart=chart, **others)
    benchmark.main(options)
