"""More rows than memory holds: ``python -m csoftmax bench --scale [--gigabytes G] [--folder F]``.

What the chunks' tree costs a pass; the memory of a fit of a file; a pass over a file that is not in
memory; shards of each format beside one map (`scale_formats`); how few passes a fit takes
(`scale_passes`); dask-ml on the same rows (`scale_dask`). Files are made in a folder of the given
one, and removed. Workers that die are a matter of the tests (test_dask_faults.py), what a cluster
adds to a pass one of the repository's benchmarks/dask_overhead.py.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import csoftmax as cs
from csoftmax.bench import scale_dask, scale_formats, scale_passes
from csoftmax.bench.measure import Samples, Side, alternate
from csoftmax.bench.processes import python
from csoftmax.bench.results import OURS, Result
from csoftmax.bench.session import Session
from csoftmax.bench.work import images
from csoftmax.core.cpus import usable_cpus
from csoftmax.engine import calls
from csoftmax.engine.local_passes import LocalPasses
from csoftmax.engine.shard_passes import ShardPasses

Array = NDArray[Any]
Step = tuple[str, Callable[[], Iterator[Result]]]

IMAGES, ONE_SUM = "Fashion-MNIST", "without a tree"
MORE_ROUNDS = 3  # of what is to be told within one part in a hundred
N_FEATURES, N_CLASSES = 784, 10
READ_BYTES = 1 << 22
COLD_ROUNDS = 3  # at most: a round is seven passes over the file


class MadeUp(NamedTuple):
    """A table that is made up, of normal numbers."""

    n_rows: int
    n_features: int
    n_classes: int


TABLES = {
    "table": MadeUp(20_000, 10, 3),
    "long table": MadeUp(1_000_000, 10, 3),
    "embeddings": MadeUp(200_000, 384, 10),
    "embeddings 100 classes": MadeUp(50_000, 384, 100),
    "large gradients": MadeUp(20_000, 512, 1000),
}
QUICK_TABLES = {"table": MadeUp(20_000, 10, 3)}


def all_scale(session: Session) -> Iterator[Step]:
    """Yield the name of each measurement and what runs it."""
    for name in (IMAGES, *(QUICK_TABLES if session.quick else TABLES)):
        yield f"scale/tree {name}", functools.partial(a_tree, session, name)
    yield "scale/memory", functools.partial(memory_of_a_fit, session)
    yield "scale/cold", functools.partial(a_cold_pass, session)
    yield from scale_formats.all_formats(session)
    yield from scale_passes.all_passes(session)
    yield from scale_dask.all_dask(session)


# ---- what the tree costs -----------------------------------------------------------------------


def a_tree(session: Session, name: str) -> Iterator[Result]:
    """Time a pass with the tree of chunks, and one that sums in the compute type; tell errors."""
    X, y, n_classes = _rows(session, name)
    random = np.random.default_rng(1)
    W = random.normal(size=(1, n_classes, X.shape[1])).astype(np.float32)
    W /= np.sqrt(X.shape[1]) * float(np.abs(X[:1000]).max())
    b, of_head = np.zeros((1, n_classes), np.float32), np.zeros(1, np.int64)
    sums = {who: (np.empty_like(W), np.empty_like(b)) for who in (OURS, ONE_SUM)}
    for threads in session.threads:
        passes = LocalPasses(X, y, n_classes, n_threads=threads)

        def tree(passes: LocalPasses = passes) -> None:
            passes.evaluate(W, b, of_head, *sums[OURS])

        def one_sum(threads: int = threads) -> None:
            calls.evaluate_heads(
                calls.StoredRows(X), calls.Parameters(W, b), calls.Targets(y),
                calls.Sink(sums[ONE_SUM]), threads,
            )  # fmt: skip

        sides = [Side(OURS, tree), Side(ONE_SUM, one_sum)]
        samples = alternate(sides, MORE_ROUNDS * session.rounds, threads)
        facts = {"of a pass without it": samples[OURS].min / samples[ONE_SUM].min}
        of_dW = {who: error_of(X, y, W, dW) for who, (dW, _) in sums.items()}
        facts |= {"error": of_dW[OURS], "error without": of_dW[ONE_SUM]}
        yield Result(f"scale/tree {name}", threads, samples, facts=facts)


def _rows(session: Session, name: str) -> tuple[Array, Array, int]:
    if name == IMAGES:
        X, y, _ = images(session.quick)
        return X, y.astype(np.int64), 10
    table = (QUICK_TABLES if session.quick else TABLES)[name]
    random = np.random.default_rng(0)
    X = random.normal(1, 1, table[:2]).astype(np.float32)
    return X, random.integers(0, table.n_classes, table.n_rows), table.n_classes


def error_of(X: Array, y: Array, W: Array, dW: Array) -> float:
    """Return the largest error of a gradient, as a share of the sum of the sizes that it adds.

    Examples
    --------
    >>> X, y, W = np.eye(2, dtype=np.float32), np.array([0, 1]), np.zeros((1, 2, 2))
    >>> error_of(X, y, W, np.array([[[-0.5, 0.5], [0.5, -0.5]]]))
    0.0
    """
    right, size = np.zeros(W.shape[1:]), np.zeros(W.shape[1:])
    for start in range(0, len(X), 4096):
        x = X[start : start + 4096].astype(np.float64)
        logits = x @ W[0].T.astype(np.float64)
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        p[np.arange(len(x)), y[start : start + 4096]] -= 1
        right += p.T @ x
        size += np.abs(p).T @ np.abs(x)
    return float((np.abs(dW[0] - right) / np.maximum(size, np.finfo(float).tiny)).max())


# ---- memory, in a process of its own -----------------------------------------------------------


def memory_of_a_fit(session: Session) -> Iterator[Result]:
    """Measure the memory that belongs to no file, while a map of float16 is fitted."""
    n_rows = 20_000 if session.quick else 200_000
    with tempfile.TemporaryDirectory(prefix="scale-", dir=session.folder) as folder:
        path = Path(folder).resolve() / "X.npy"
        write_map(path, n_rows, np.dtype(np.float16))
        told = json.loads(python("-m", "csoftmax.bench.memory", "csoftmax", f"map {path}"))
    facts = {"MB of data": told["data"] / 1e6}
    sides = {OURS: Samples([float(told["peak"])])}
    name = f"scale/memory {n_rows}x{N_FEATURES} float16"
    yield Result(name, session.threads[-1], sides, "B", facts=facts)


def write_map(path: Path, n_rows: int, dtype: np.dtype[Any]) -> None:
    """Write rows of random numbers, and to the disk."""
    random = np.random.default_rng(0)
    some = random.integers(0, 256, (20_000, N_FEATURES), np.uint8).astype(dtype)
    X = np.lib.format.open_memmap(path, "w+", dtype, (n_rows, N_FEATURES))
    for start in range(0, n_rows, len(some)):
        X[start : start + len(some)] = some[: n_rows - start]
    X.flush()


# ---- a file that is not in memory --------------------------------------------------------------


def a_cold_pass(session: Session) -> Iterator[Result]:
    """Time passes over a file that the page cache has forgotten, beside what bounds them.

    These are a read in order by one thread, and a pass over the same file in memory.
    """
    if not hasattr(os, "posix_fadvise"):
        session.missing["scale/cold"] = "this system does not forget a file when asked"
        return
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    n_rows = max(1, int(session.gigabytes * 1e9 / N_FEATURES))
    with tempfile.TemporaryDirectory(prefix="scale-", dir=session.folder) as folder:
        path = Path(folder).resolve() / "X.npy"
        write_map(path, n_rows, np.dtype(np.uint8))
        for _ in range(min(session.rounds, COLD_ROUNDS)):
            for kind in KINDS:
                if not kind.startswith("hot"):
                    forget(path)
                told = python("-m", "csoftmax.bench.scale", kind, str(path))
                seconds[kind].append(float(told))
    sides = {OURS if kind == COLD else kind: Samples(s) for kind, s in seconds.items()}
    hot = min(sides["hot, shards"].min, sides["hot, a map"].min)
    bound = max(sides["read"].min, hot)
    facts = {
        "of what bounds it": bound / sides[OURS].min,
        "a map": bound / sides["cold, a map"].min,
        "GB/s read": session.gigabytes / sides["read"].min,
    }
    yield Result(f"scale/cold {session.gigabytes:g} GB", session.threads[-1], sides, facts=facts)


def check_room(folder: Path | None, gigabytes: float) -> None:
    """Raise where a folder is none, or has no room for a file."""
    place = Path(tempfile.gettempdir()) if folder is None else folder
    if not place.is_dir():
        raise FileNotFoundError(f"folder is {place}, expected one that is there")
    free = shutil.disk_usage(place).free / 1e9
    if gigabytes > free:
        raise ValueError(f"gigabytes is {gigabytes:g}, but {place} has room for {free:.1f}")


def forget(path: Path) -> None:
    """Make the page cache forget a file."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _read(path: Path) -> None:
    buffer = bytearray(READ_BYTES)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def _labels(n_rows: int) -> Array:
    return (np.arange(n_rows) % N_CLASSES).astype(np.uint8)


def _over_map(path: Path) -> None:
    X = np.load(path, mmap_mode="r")
    scale_formats.a_pass(LocalPasses(X, _labels(len(X)), N_CLASSES, n_threads=usable_cpus()))


def _over_shards(path: Path) -> None:
    rows = cs.shards(str(path)).rows
    scale_formats.a_pass(ShardPasses(rows, _labels(len(rows)), N_CLASSES, n_threads=usable_cpus()))


COLD = "cold, shards"
KINDS: dict[str, Callable[[Path], None]] = {
    "read": _read,
    "cold, a map": _over_map,
    COLD: _over_shards,
    "hot, shards": _over_shards,
    "hot, a map": _over_map,
}


def main(kind: str, path: str) -> float:
    """Return the seconds of one kind of pass; the map ends with the process."""
    few = np.zeros((100, N_FEATURES), np.uint8)
    scale_formats.a_pass(LocalPasses(few, _labels(100), N_CLASSES))
    began = time.perf_counter()
    KINDS[kind](Path(path))
    return time.perf_counter() - began


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
