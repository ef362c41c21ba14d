"""A pass over a file that is not in memory, against reading the file and a pass that is hot.

    python -m benchmarks.cold [--gigabytes 10] [--rounds 3] [--folder /tmp]

The file has rows of 784 bytes; it is made in a temporary folder of `--folder` and removed. The page
cache forgets it before each cold measurement. What counts are minima. "read" is the file read in
order by one thread; "cold, map" a pass over a plain map, as `minimize` makes it for an array that
`numpy.load` maps; "cold, shards" a pass over the same file as a shard, whose next window is read
while one is summed. The last lines are the speeds of cold passes as a share of what bounds them:
the slower one of reading and a hot pass.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import csoftmax as cs
from csoftmax.core.cpus import usable_cpus
from csoftmax.engine.local_passes import LocalPasses
from csoftmax.engine.shard_passes import ShardPasses

Array = NDArray[Any]
N_FEATURES, N_CLASSES = 784, 10
READ_BYTES = 1 << 22


def write(path: Path, n_rows: int) -> None:
    """Write rows of random bytes, and to the disk."""
    some = np.random.default_rng(0).integers(0, 256, (20_000, N_FEATURES), np.uint8)
    X = np.lib.format.open_memmap(path, "w+", np.uint8, (n_rows, N_FEATURES))
    for start in range(0, n_rows, len(some)):
        X[start : start + len(some)] = some[: n_rows - start]
    X.flush()


def forget(path: Path) -> None:
    """Make the page cache forget a file."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read(path: Path) -> None:
    buffer = bytearray(READ_BYTES)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def labels(n_rows: int) -> Array:
    return (np.arange(n_rows) % N_CLASSES).astype(np.uint8)


def a_pass(passes: LocalPasses | ShardPasses) -> None:
    W = np.zeros((1, N_CLASSES, N_FEATURES), np.float32)
    b = np.zeros((1, N_CLASSES), np.float32)
    passes.evaluate(W, b, np.zeros(1, np.int64), np.empty_like(W), np.empty_like(b))


def pass_over_map(path: Path) -> None:
    X = np.load(path, mmap_mode="r")
    a_pass(LocalPasses(X, labels(len(X)), N_CLASSES, n_threads=usable_cpus()))


def pass_over_shards(path: Path) -> None:
    rows = cs.shards(str(path)).rows
    a_pass(ShardPasses(rows, labels(len(rows)), N_CLASSES, n_threads=usable_cpus()))


KINDS: dict[str, Callable[[Path], None]] = {
    "read": read,
    "cold, map": pass_over_map,
    "cold, shards": pass_over_shards,
    "hot, shards": pass_over_shards,
    "hot, map": pass_over_map,
}


def in_a_process(kind: str, path: Path) -> tuple[float, float]:
    """Return the seconds of a measurement, by the clock and of CPUs; the map ends with it."""
    if not kind.startswith("hot"):
        forget(path)
    command = [sys.executable, "-m", "benchmarks.cold", "--one", kind, str(path)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return float(told[0]), float(told[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", default=tempfile.gettempdir())
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        a_small_pass = np.zeros((100, N_FEATURES), np.uint8)
        a_pass(LocalPasses(a_small_pass, labels(100), N_CLASSES))
        began, busy = time.perf_counter(), time.process_time()
        KINDS[given.one[0]](Path(given.one[1]))
        print(time.perf_counter() - began, time.process_time() - busy)
        return
    least: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="scale-", dir=given.folder) as folder:
        path = Path(folder) / "X.npy"
        write(path, int(given.gigabytes * 1e9 / N_FEATURES))
        for _ in range(given.rounds):
            for kind in KINDS:
                seconds, busy = in_a_process(kind, path)
                least[kind] = min(seconds, least.get(kind, seconds))
                print(f"{kind:14}{seconds:8.2f} s {busy:8.2f} s of CPUs", flush=True)
    bound = max(least["read"], min(least["hot, map"], least["hot, shards"]))
    for kind in ("cold, map", "cold, shards"):
        print(f"{kind}: {bound / least[kind]:.2f} of what bounds it")


if __name__ == "__main__":
    main()
