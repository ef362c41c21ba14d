"""Peak memory of one side in a process of its own: ``python -m csoftmax.bench.memory SIDE WORK``.

Prints one line of JSON: the peak of the resident set above what was there before the work began,
and the bytes of data in that work. The kernel's own high-water mark of this process is read, not
getrusage's: that one starts from the process that it was forked from.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np

import csoftmax as cs

from . import peers
from .measure import Side
from .peers import CSoftmax, NumPy, Problem
from .work import rows_problem

STATUS = Path("/proc/self/status")


def resident(field: str) -> int:
    """Return VmRSS or VmHWM of this process in bytes; without /proc, the largest so far."""
    with contextlib.suppress(OSError):
        for line in STATUS.read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def begin() -> int:
    """Let the high-water mark begin anew, where the system can; return what is resident now."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # or memory that was freed before would be used unseen
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return resident("VmRSS")


def make_peer(name: str) -> Any:
    """Import the library of this side."""
    own = {"csoftmax": CSoftmax, "numpy": NumPy}
    return own[name]() if name in own else peers.make(name)


def epoch(peer: Any) -> int:
    """Load the images and train two epochs; return the data's bytes."""
    train, _ = cs.fashion_mnist() if _found() else cs.fashion_mnist_sample()
    problem = Problem(
        train.X.reshape(len(train), -1), train.y,
        np.zeros((784, 10), np.float32), np.zeros(10, np.float32), train.scale,
    )  # fmt: skip
    side = peer.epoch(problem)
    run_twice(side)
    return int(train.X.nbytes + train.y.nbytes)


def _found() -> bool:
    return any(p.found for p in cs.dataset_locations() if p.where != "bundled sample")


def _threads() -> int:
    return int(cs.info()["usable CPUs"])


def run_twice(side: Side) -> None:
    """Run it on all threads; again, because what the first run leaves behind counts too."""
    with side.pinned(_threads()):
        side.run()
        side.run()


def main(name: str, work: str) -> dict[str, int]:
    """Measure one side at "epoch", or at loss and gradient of a shape like 4096x512x100xfloat32."""
    peer = make_peer(name)
    if work == "epoch":
        before = begin()
        data = epoch(peer)
        return {"peak": resident("VmHWM") - before, "data": data}
    n, j, k, dtype = work.split("x")
    # small enough to leave no trace, large enough to start threads
    run_twice(peer.loss_and_gradient(rows_problem(64, 64, 16, "float32")))
    problem = rows_problem(int(n), int(j), int(k), dtype)
    side = peer.loss_and_gradient(problem)  # its data and parameters are there already
    before = begin()
    run_twice(side)
    return {"peak": resident("VmHWM") - before, "data": int(problem.X.nbytes)}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
