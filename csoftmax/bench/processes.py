"""Whole processes: how long an import and a training by command line take, and peak memory."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import csoftmax
from csoftmax.bench import peers
from csoftmax.bench.measure import Samples, Side, alternate
from csoftmax.bench.results import OURS, Result
from csoftmax.bench.session import Session

MEMORY_PEERS = ("torch", "jax")  # those with both kinds of work


def all_processes(session: Session) -> Iterator[tuple[str, Callable[[], Iterator[Result]]]]:
    """Yield the name of each measurement and what runs it."""
    yield "process/import", functools.partial(imports, session)
    yield "process/train", functools.partial(command_line, session)
    yield "memory/epoch", functools.partial(memory, "epoch", "epoch", session)
    shapes = [(256, 256, 100)] if session.quick else [(4096, 1024, 1000), (65536, 512, 100)]
    for shape in shapes:
        name = "x".join(map(str, shape))
        for dtype in ("float32", "float16"):
            yield (
                f"memory/classes {dtype} {name}",
                functools.partial(memory, f"classes {dtype} {name}", f"{name}x{dtype}", session),
            )


def python(*arguments: str) -> str:
    """Run this interpreter with this package importable; return what it printed."""
    here = str(Path(csoftmax.__file__).parent.parent)
    path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": path}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run(
            [sys.executable, *arguments], env=environment, cwd=empty,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"python {' '.join(arguments)} failed:\n{done.stderr.strip()}")
    return done.stdout


def imports(session: Session) -> Iterator[Result]:
    """Time a process that imports csoftmax and ends, against one that imports NumPy."""
    sides = [
        Side(OURS, lambda: python("-c", "import csoftmax")),
        Side("import numpy", lambda: python("-c", "import numpy")),
    ]
    yield Result("process/import", 1, alternate(sides, session.rounds, 1))


def command_line(session: Session) -> Iterator[Result]:
    """Time ten epochs by the command line, data found and cached, no pictures."""
    epochs = "2" if session.quick else "10"

    def train() -> str:
        return python("-m", "csoftmax", "train", "--epochs", epochs, "--no-plots", "--quiet")

    sides = [Side(OURS, train), Side("import csoftmax", lambda: python("-c", "import csoftmax"))]
    samples = alternate(sides, session.rounds, 1)
    above = samples[OURS].min - samples["import csoftmax"].min
    facts = {"seconds above the import": above, "epochs": float(epochs)}
    yield Result("process/train", session.threads[-1], samples, facts=facts)


def memory(name: str, work: str, session: Session) -> Iterator[Result]:
    """Measure each side's peak memory above its import (and, but for "epoch", above its data)."""
    found: dict[str, Samples] = {}
    data = 0
    labels = {OURS: OURS, "numpy": "NumPy"}
    for peer in session.peers:
        if peer in MEMORY_PEERS and peers.is_installed(peer):
            labels[peer] = peers.label(peer)
    for side in labels:
        measured = json.loads(python("-m", f"{__package__}.memory", side, work))
        found[labels[side]] = Samples([float(measured["peak"])])
        data = data or measured["data"]
    yield Result(f"memory/{name}", session.threads[-1], found, "B", facts={"data": float(data)})
