"""What the page costs a training: the same run plain, on the page, and on a page that is open.

    python -m benchmarks.page

Each update is an epoch in one slice; the batch size is such that about ten come in a second. The
listener is a process of its own, as a browser is. What counts is the time of the processor that
this process takes, all its threads together, on one CPU: so the page's own thread counts in full,
and other programs do not. Rounds alternate; the least of each counts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from http.client import HTTPConnection
from typing import Any

import csoftmax as cs
from csoftmax.app import data as sets
from csoftmax.app.page import Page
from csoftmax.app.session import PageSession

ROUNDS = 4
EPOCHS = 20
LISTENER = """
import sys
from http.client import HTTPConnection
port, cookie = sys.argv[1:]
connection = HTTPConnection("127.0.0.1", int(port))
connection.request("GET", "/events", headers={"Cookie": cookie})
n = {}
for line in connection.getresponse():
    if line.startswith(b"event: "):
        name = line[7:-1].decode()
        n[name] = n.get(name, 0) + 1
        if name == "weights":
            print(n, flush=True)
"""


def main() -> None:
    every = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(every)})
    data = sets.known(sets.FULL if sets.has_fashion_mnist() else sets.SAMPLE)
    batch_size = batch_for_ten(data.train)
    with Page(PageSession(data), port=0) as page:
        times: dict[str, list[float]] = {"plain": [], "page": [], "open page": []}
        for _ in range(ROUNDS):
            times["plain"].append(plain(data, batch_size))
            times["page"].append(on_page(page, batch_size))
            with listener(page, every) as process:
                times["open page"].append(on_page(page, batch_size))
            seen = (process.communicate()[0] or "{}").splitlines()[-1]
    least = {name: min(values) for name, values in times.items()}
    epoch = 1e3 * least["plain"] / EPOCHS
    print(f"{data.source.name}, batch {batch_size}, an epoch {epoch:.0f} ms")
    for name, seconds in least.items():
        cost = 1e3 * (seconds - least["plain"]) / EPOCHS
        print(
            f"{name:>10}: {seconds:.3f} s, {cost:+.2f} ms an update, {cost:+.1f} % at ten a second"
        )
    print(f"the last listener saw {seen}")


def batch_for_ten(train: cs.Dataset) -> int:
    """Return a batch size with which an epoch takes about a tenth of a second."""
    for batch_size in (256, 128, 64, 32, 16, 8, 4, 2):
        model = cs.SoftmaxRegression(train.n_features, train.n_classes, seed=0)
        loader = cs.DataLoader.from_dataset(train, batch_size, shuffle=True, seed=0)
        began = time.process_time()
        cs.train(model, loader, epochs=2, progress=False)
        if time.process_time() - began > 0.15:
            break
    return batch_size


def plain(data: sets.Data, batch_size: int) -> float:
    model = data.fresh_model(0)
    loader = cs.DataLoader.from_dataset(data.train, batch_size, shuffle=True, seed=0)
    began = time.process_time()
    cs.train(model, loader, validation=data.test, epochs=EPOCHS, progress=False)
    return time.process_time() - began


def on_page(page: Page, batch_size: int) -> float:
    """Return the seconds of a run that the page was asked for."""
    began = time.process_time()
    ask(page, {"kind": "sgd", "epochs": EPOCHS, "batch_size": batch_size, "slices": 1, "pace": 0})
    job = page.session.job
    assert job is not None
    job.join()
    return time.process_time() - began


def ask(page: Page, settings: dict[str, Any]) -> None:
    connection = HTTPConnection("127.0.0.1", page.port)
    connection.request("POST", "/run", json.dumps(settings), {"Cookie": cookie(page)})
    assert connection.getresponse().status == 200
    connection.close()


def cookie(page: Page) -> str:
    return f"csoftmax-{page.port}={page.token}"


class listener:  # noqa: N801 (used as a function)
    """A process that listens to the page, from the first weights that it gets."""

    def __init__(self, page: Page, cpus: set[int]) -> None:
        words = [sys.executable, "-c", LISTENER, str(page.port), cookie(page)]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        os.sched_setaffinity(self.process.pid, cpus)
        self.process.stdout.readline()

    def __enter__(self) -> subprocess.Popen[str]:
        return self.process

    def __exit__(self, *_: Any) -> None:
        self.process.terminate()


if __name__ == "__main__":
    main()
