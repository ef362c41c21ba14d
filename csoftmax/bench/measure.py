"""Timing that a busy machine cannot bend much: the sides take turns, A, B, A, B, ..

One sample is the mean of so many runs that it lasts at least `SAMPLE_SECONDS`; the minimum over the
rounds is what the machine can do, the median what it did. Ratios are ratios of minima.
"""

from __future__ import annotations

import contextlib
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

SAMPLE_SECONDS = 0.01
# After its work a BLAS or OpenMP thread spins for a while (OpenBLAS's was seen to for 0.11 s),
# which would be charged to the next side.
REST_SECONDS = 0.15
# A side this slow takes every other round only.
SLOW_SECONDS = 0.5
# A benchmark of wrong results is worthless: the largest relative error of a side's result.
TOLERANCE = 1e-3


class WrongResultError(RuntimeError):
    """A side computed something else than the reference."""


@dataclass
class Side:
    """One implementation of one piece of work, ready to run.

    `run` returns the result that `verify` compares; one call does `units` pieces of the work;
    `pinned(n)` is a context in which the side has n threads.
    """

    name: str
    run: Callable[[], Any]
    pinned: Callable[[int], AbstractContextManager[object]] = lambda n: contextlib.nullcontext()
    units: int = 1
    tolerance: float = TOLERANCE
    verify: Callable[[Any], None] | None = None  # instead of the comparison with the reference


@dataclass
class Samples:
    """The figures of one side: seconds, or bytes, per piece of work."""

    values: list[float] = field(default_factory=list)
    repetitions: int = 1

    @property
    def min(self) -> float:
        return min(self.values)

    @property
    def median(self) -> float:
        return statistics.median(self.values)


def alternate(sides: Sequence[Side], rounds: int, threads: int) -> dict[str, Samples]:
    """Time the sides in turn, `rounds` times each; every side has `threads` threads.

    Examples
    --------
    >>> samples = alternate([Side("sum", lambda: sum(range(100)))], rounds=3, threads=1)
    >>> len(samples["sum"].values), samples["sum"].min <= samples["sum"].median
    (3, True)
    """
    result, once = {}, {}
    for side in sides:
        with side.pinned(threads):
            once[side.name] = min(seconds_of(side.run, 1) for _ in range(2))
        repetitions = max(1, math.ceil(SAMPLE_SECONDS / max(once[side.name], 1e-9)))
        result[side.name] = Samples(repetitions=repetitions)
    for i in range(rounds):
        for side in sides:
            if once[side.name] > SLOW_SECONDS and i % 2:
                continue
            samples = result[side.name]
            if threads > 1:
                time.sleep(REST_SECONDS)
            with side.pinned(threads):
                if once[side.name] < SLOW_SECONDS / 5:
                    side.run()  # wakes its threads, warms the caches
                seconds = seconds_of(side.run, samples.repetitions)
            samples.values.append(seconds / side.units)
    return result


def seconds_of(run: Callable[[], Any], repetitions: int) -> float:
    """Return the mean wall time of one run."""
    loop = range(repetitions)
    started = time.perf_counter()
    for _ in loop:
        run()
    return (time.perf_counter() - started) / repetitions


def check(side: Side, expected: Any, threads: int) -> None:
    """Run a side once and compare its result with the reference's.

    Raises
    ------
    WrongResultError
        If any array of it is further from `expected` than the side's tolerance, relative to the
        largest magnitude in `expected`.

    Examples
    --------
    >>> check(Side("exact", lambda: 0.5), 0.5, threads=1)
    """
    with side.pinned(threads):
        result = side.run()
    if side.verify is not None:
        side.verify(result)
        return
    got = result if isinstance(result, tuple) else (result,)
    want = expected if isinstance(expected, tuple) else (expected,)
    if len(got) != len(want):
        raise WrongResultError(f"{side.name}: {len(got)} results, expected {len(want)}")
    for a, b in zip(map(np.asarray, got), map(np.asarray, want), strict=True):
        if a.shape != b.shape:
            raise WrongResultError(f"{side.name}: a result of shape {a.shape}, expected {b.shape}")
        if a.size == 0:
            continue
        if b.dtype.kind == "i":  # labels: rounding may swap two that are as good
            error, allowed = float(np.mean(a != b)), side.tolerance
        else:
            error = float(np.max(np.abs(np.subtract(a, b, dtype=np.float64))))
            allowed = side.tolerance * float(np.max(np.abs(b)))
        if not error <= allowed:
            raise WrongResultError(f"{side.name}: off by {error:.3g}, allowed {allowed:.3g}")


@contextlib.contextmanager
def on_cpus(n: int) -> Iterator[None]:
    """Keep all threads of this process on n CPUs, for libraries whose pool cannot be resized."""
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    if n >= len(usable):
        yield
        return
    _move_threads(set(usable[-n:]))
    try:
        yield
    finally:
        _move_threads(set(usable))


def _move_threads(cpus: set[int]) -> None:
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            os.sched_setaffinity(int(task), cpus)


class OtherLoad:
    """How much of the CPUs other processes have from now on; None where there is no /proc/stat."""

    def __init__(self) -> None:
        self._start = self._ticks()

    def fraction(self) -> float | None:
        """Return their share of all CPU time since the start, from 0 to 1."""
        now = self._ticks()
        if self._start is None or now is None or now[1] <= self._start[1]:
            return None
        busy, total = now[0] - self._start[0], now[1] - self._start[1]
        return min(1.0, max(0.0, busy / total))

    @staticmethod
    def _ticks() -> tuple[float, float] | None:
        """Ticks in which a CPU worked for somebody else, and all ticks."""
        try:
            line = Path("/proc/stat").read_text().splitlines()[0]
        except OSError:
            return None
        # user nice system idle iowait irq softirq steal; guests are in user already
        ticks = list(map(float, line.split()[1:9]))
        own = os.times()
        ours = sum(own[:4]) * os.sysconf("SC_CLK_TCK")
        return sum(ticks) - ticks[3] - ticks[4] - ours, sum(ticks)
