"""The command `info`."""

from __future__ import annotations

import click

import csoftmax as cs
from csoftmax.cli.parsing import Command


@click.command(cls=Command)
def info() -> None:
    """Print versions, instruction sets and where Fashion-MNIST is."""
    facts = cs.info()
    locations = facts.pop("dataset locations")
    width = max(map(len, facts)) + 2
    for name, value in facts.items():
        print(f"{name:<{width}}{', '.join(value) if isinstance(value, list) else value}")
    print("Fashion-MNIST")
    for place in locations:
        state = "found" if place["found"] else "not found"
        print(f"  {place['where']:<{width}}{state}: {place['detail']}")
