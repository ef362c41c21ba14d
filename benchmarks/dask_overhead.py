"""What a cluster adds to a pass: ``python -m benchmarks.dask_overhead [--workers 4]``.

Milliseconds per pass over shards of one row, for 10 classes and 784 features, by turns: tasks that
give sums of zeros, so that all the time is the cluster's; the pass; and the same pass without a
cluster. Then what two workers add to long passes: how much longer these are than half of the sum of
their units' own times. Workers are processes on loopback.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

import csoftmax as cs
from csoftmax.engine import dask_parts as parts
from csoftmax.engine.dask import DaskRows, pinned
from csoftmax.engine.shard_passes import ShardPasses
from csoftmax.engine.units import CHUNK_ROWS
from csoftmax.rows.shards import Shard, ShardRows

N_CLASSES, N_FEATURES, ROWS = 10, 784, 1


def read(start: int, stop: int) -> NDArray[np.uint8]:
    """Return rows of zeros."""
    return np.zeros((stop - start, N_FEATURES), np.uint8)


def show_times(client: Any, n_shards: int, n_passes: int) -> None:
    """Print milliseconds of passes; those that give workers what they hold do not count."""
    shards = [Shard(f"shard {s} (part-{s:06d}.npy)", ROWS, read) for s in range(n_shards)]
    of_shards = ShardRows(shards, N_FEATURES, np.dtype(np.uint8))
    rows, target = DaskRows(client, of_shards), np.zeros(n_shards * ROWS, np.uint8)
    remote, here = rows.passes(target, N_CLASSES), ShardPasses(of_shards, target, N_CLASSES)
    W = np.zeros((1, N_CLASSES, N_FEATURES), np.float32)
    b, of_head = np.zeros((1, N_CLASSES), np.float32), np.zeros(1, np.int64)
    dW, db = np.empty_like(W), np.empty_like(b)
    calls: dict[str, Callable[[], object]] = {
        "cluster alone": lambda: remote.run(parts.nothing_of_unit, (W, b, of_head)),
        "whole pass": lambda: remote.evaluate(W, b, of_head, dW, db),
        "same pass on one thread here": lambda: here.evaluate(W, b, of_head, dW, db),
    }
    took: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(n_passes + 2):
        for name, call in calls.items():
            at = time.perf_counter()
            call()
            took[name].append(1e3 * (time.perf_counter() - at))
    print(f"{n_shards} shards in {len(rows.units)} units")
    for name, times in took.items():
        least, middle = min(times[2:]), statistics.median(times[2:])
        print(f"  {name}: min {least:.0f} ms, median {middle:.0f} ms", flush=True)


def timed_unit(*task: Any) -> tuple[parts.Evaluated, float, int]:
    """Return what a unit adds to a pass, its seconds, and by which process."""
    at = time.perf_counter()
    found = parts.evaluate_unit(*task)
    return found, time.perf_counter() - at, os.getpid()


def show_long(client: Any, file: Path, n_gigabytes: float, n_passes: int) -> None:
    """Print what a cluster adds to passes over one file of pixels that is opened many times."""
    shape = 16 * CHUNK_ROWS, N_FEATURES
    X = np.lib.format.open_memmap(file, "w+", np.uint8, shape)
    X[:] = np.random.default_rng(0).integers(0, 256, (1024, N_FEATURES), np.uint8)[
        np.arange(len(X)) % 1024
    ]
    n_shards = math.ceil(n_gigabytes * 1e9 / X.nbytes)
    rows = DaskRows(client, cs.shards([file] * n_shards).rows)
    remote = rows.passes(np.arange(rows.n_rows) % N_CLASSES, N_CLASSES)
    common = (
        np.zeros((1, N_CLASSES, N_FEATURES), np.float32), np.zeros((1, N_CLASSES), np.float32),
        np.zeros(1, np.int64),
    )  # fmt: skip
    print(f"{n_shards * X.nbytes / 1e9:.1f} GB in {len(rows.units)} units")
    for n in range(n_passes + 1):
        at = time.perf_counter()
        found = remote.run(timed_unit, common)
        took = time.perf_counter() - at
        own: dict[int, float] = {}
        for _, seconds, pid in found:
            own[pid] = own.get(pid, 0.0) + seconds
        half = sum(own.values()) / len(own)
        if n:  # the first one gives workers what they hold, and reads the file
            print(
                f"  pass of {took:.2f} s: {took / half - 1:.1%} longer than the units take, "
                f"{took / max(own.values()) - 1:.1%} than those of the busiest worker",
                flush=True,
            )


def main() -> None:
    """Print the times for one shard per unit, for 10,000 shards, and for large ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--passes", type=int, default=20)
    parser.add_argument("--gigabytes", type=float, default=6.0)
    args = parser.parse_args()
    with workers(args.workers) as client:
        for n_shards in (4 * args.workers, 10_000):
            show_times(client, n_shards, args.passes)
    with workers(2) as client, TemporaryDirectory() as folder:
        show_long(client, Path(folder) / "pixels.npy", args.gigabytes, 3)


@contextmanager
def workers(n_workers: int) -> Iterator[Any]:
    """Yield the client of a cluster of so many processes, each with a thread."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=n_workers, threads_per_worker=1, processes=True, host="127.0.0.1",
            dashboard_address=":0", silence_logs=50, memory_limit=0,
        ) as cluster,
        Client(cluster) as client, pinned(client) as isa,
    ):  # fmt: skip
        print(f"{n_workers} workers, {isa}, W of {N_CLASSES} x {N_FEATURES}")
        yield client


if __name__ == "__main__":
    main()
