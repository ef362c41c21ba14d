"""The command `app`."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

import click

from csoftmax.cli.inputs import load_model, model_for, options_for, pixels_expected, stored_dtype
from csoftmax.cli.messages import UserError, users_mistakes
from csoftmax.cli.options import data, label_column, labels, of_tables
from csoftmax.cli.parsing import PATH, Command, Integer, option
from csoftmax.cli.train import TEST_FRACTION, read_to_train


@click.command(cls=Command)
@data
@label_column
@labels
@of_tables
@option(
    "--test-fraction",
    type=float,
    help="Share of the samples to test on, if the files have no test set.",
    show_default=str(TEST_FRACTION),
)
@option("--model", type=PATH, help="Begin with this saved model.", show_default="a new one")
@option("--port", type=Integer(min=0), default=8765, help="Port of the page; 0 for a free one.")
@option("--host", default="127.0.0.1", metavar="ADDRESS", help="Address to serve on.")
@option(
    "--open-to-network",
    is_flag=True,
    help="Let other machines reach the page at --host: whoever has its address with the token can "
    "train, upload files to this program, and see the data.",
    show_default="off",
)
@option("--no-browser", is_flag=True, help="Do not open the browser.", show_default="off")
def app(
    data: Path | None,
    test_fraction: float | None,
    model: Path | None,
    port: int,
    host: str,
    open_to_network: bool,
    no_browser: bool,
    **given: Any,
) -> None:
    """Open a page to train, watch, draw a picture and see why it is taken for what.

    It is served on this machine, and to this machine alone; Ctrl-C ends it.
    """
    try:
        from csoftmax.app.page import Page
        from csoftmax.app.session import PageSession
    except ImportError as error:
        raise UserError(str(error)) from None
    with users_mistakes():
        if port > 65535:
            raise ValueError(f"--port is {port}, expected 0 to 65535")
        saved = None if model is None else load_model(model)
        known = _data(data, test_fraction, saved, given)
        page = Page(
            PageSession(known, saved, is_own=data is not None), host=host, port=port,
            to_network=open_to_network,
        )  # fmt: skip
    page.show(not no_browser)
    sys.stdout.flush()
    if any(thread.name.startswith("AnyIO worker") for thread in threading.enumerate()):
        os._exit(0)  # a file is still being read for somebody: Python would wait for its thread


def _data(path: Path | None, test_fraction: float | None, model: Any, given: dict[str, Any]) -> Any:
    """Return the data to begin with: nothing is downloaded for the page."""
    from csoftmax.app import data as sets

    table = options_for(model, given, stored_dtype(model), path, to_train=True)
    if path is None:
        if test_fraction is not None:
            raise ValueError("--test-fraction has no effect: Fashion-MNIST has a test set")
        if sets.has_fashion_mnist():
            return sets.known(sets.FULL)
        print("Fashion-MNIST is not on this machine, so the page begins with the bundled sample; "
              "csoftmax train downloads all of it")  # fmt: skip
        return sets.known(sets.SAMPLE)
    with pixels_expected(model):
        train, test, is_split = read_to_train(path, table, test_fraction, 0)
    model_for(train, path, model, None, 0)
    share = (test_fraction or TEST_FRACTION) if is_split else None
    return sets.Data(train, test, sets.source_of(path.name, str(path), table, share))
