"""Peak memory of one side in a process of its own: ``python -m csoftmax.bench.memory SIDE WORK``.

WORK is "epoch", a shape like 4096x512x100xfloat32 for loss and gradient, or fit100000x768x1000: a
fit of float16 features to 1 % by csoftmax's solver.

Prints one line of JSON: by how much the resident set grew at its peak while the work was done, and
the bytes of data in that work. The peak is that of /proc/self/status, which can begin anew.
getrusage's cannot: it begins with the peak of the process that this one was forked from.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import csoftmax as cs
from csoftmax.bench import peers
from csoftmax.bench.measure import Side
from csoftmax.bench.peers import CSoftmax, NumPy, Task
from csoftmax.bench.work import rows_task

STATUS = Path("/proc/self/status")


def resident(field: str) -> int:
    """Return in bytes what is resident now (VmRSS) or was at the peak (VmHWM).

    Without /proc both are the peak since the process began.
    """
    with contextlib.suppress(OSError):
        for line in STATUS.read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def begin() -> int:
    """Let the peak begin anew, where the system can; return how many bytes are resident now."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # or memory that was freed before would be used unseen
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return resident("VmRSS")


def anonymous_peak(run: Callable[[], Any]) -> int:
    """Run it; return by how many bytes the memory that belongs to no file grew meanwhile, at most.

    Without /proc it is all memory. It is looked at every two milliseconds.
    """
    peak, done = [before := resident("RssAnon")], threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            peak.append(resident("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        run()
    finally:
        done.set()
        watcher.join()
    return max(peak) - before


def fit_of_map(path: str) -> dict[str, float]:
    """Fit the rows of an npy file, which is mapped, to labels of three classes, by three steps."""
    X = np.load(path, mmap_mode="r")
    y = (X[:, 0] > 100).astype(np.uint8) + (X[:, 1] > 150)
    estimator = cs.SoftmaxClassifier(C=1e-3, max_iter=3, tol=1.0, n_threads=_threads())
    return {"peak": anonymous_peak(lambda: estimator.fit(X, y)), "data": X.nbytes}


def make_peer(name: str) -> Any:
    """Import the library of this side."""
    own = {"csoftmax": CSoftmax, "numpy": NumPy}
    return own[name]() if name in own else peers.make(name)


def epoch(peer: Any) -> int:
    """Load the images and train two epochs; return the data's bytes."""
    train, _ = cs.fashion_mnist() if _found() else cs.fashion_mnist_sample()
    task = Task(
        train.X.reshape(len(train), -1), train.y,
        np.zeros((784, 10), np.float32), np.zeros(10, np.float32), train.scale,
    )  # fmt: skip
    side = peer.epoch(task)
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


def fit(n: int, j: int, k: int) -> dict[str, float]:
    """Fit clusters of float16 features to 1 %: memory above the data, and the time of a pass."""
    from csoftmax.engine import calls
    from csoftmax.solver import minimize

    rng = np.random.default_rng(0)
    y = rng.integers(0, k, n)
    X = np.empty((n, j), np.float16)
    centres = rng.standard_normal((k, j), np.float32)
    for start in range(0, n, 4096):
        rows = slice(start, start + 4096)
        X[rows] = centres[y[rows]] + 4 * rng.standard_normal((len(y[rows]), j), np.float32)
    minimize(X[:64], y[:64] % 2, 2, max_iter=2, tol=0.5)
    history = 10
    started, before = time.perf_counter(), begin()
    found = minimize(X, y, k, C=0.01, tol=1e-2, history_size=history, n_threads=_threads())
    peak, seconds = resident("VmHWM") - before, time.perf_counter() - started
    W, b = found.W[0], found.b[0]
    stored, parameters, targets = calls.StoredRows(X), calls.Parameters(W, b), calls.Targets(y)
    sink = calls.Sink((np.empty_like(W), np.empty_like(b)))
    bare = []
    for _ in range(3):
        at = time.perf_counter()
        calls.evaluate(stored, parameters, targets, sink, _threads())
        bare.append(time.perf_counter() - at)
    (told,) = found.history
    passes, at_pass = np.diff(told["passes"]), np.diff(told["seconds"])
    return {
        "peak": peak, "data": X.nbytes + y.nbytes, "parameters": W.nbytes + b.nbytes,
        "history": history, "passes": found.n_passes, "seconds": seconds, "bare": min(bare),
        "pass": float(np.median(at_pass / passes)) if len(passes) else min(bare),
        "distance": float(found.estimate[0] / found.objective[0]),
    }  # fmt: skip


def main(name: str, work: str) -> dict[str, Any]:
    """Measure one side at one piece of work."""
    if work.startswith("map "):
        return fit_of_map(work.removeprefix("map "))
    peer = make_peer(name)
    if work.startswith("fit"):
        n, j, k = map(int, work.removeprefix("fit").split("x"))
        return fit(n, j, k)
    if work == "epoch":
        before = begin()
        data = epoch(peer)
        return {"peak": resident("VmHWM") - before, "data": data}
    *shape, dtype = work.split("x")
    n, j, k = map(int, shape)
    # small enough to leave no trace, large enough to start threads
    run_twice(peer.loss_and_gradient(rows_task(64, 64, 16, "float32")))
    task = rows_task(n, j, k, dtype)
    side = peer.loss_and_gradient(task)  # its data and parameters are there already
    before = begin()
    run_twice(side)
    return {"peak": resident("VmHWM") - before, "data": int(task.X.nbytes)}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
