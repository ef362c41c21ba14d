"""The two limits of this machine, measured in the same run as the work: arithmetic and memory.

Arithmetic: float32 multiply-adds that never leave the registers. Memory: an array as large as the
work's is read, or copied where the work writes as much as it reads. Its size matters, because a few
megabytes come from the caches and hundreds do not.

Work takes at least the longer of the two times. Two kinds of work can be faster: pixels, which some
CPUs multiply as bytes, and long rows of softmax. A copy reads and writes the same place of its
arrays at a time, which is slower than to write in another place than is read.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from csoftmax import _kernels

PEAK_ROUNDS = 2_000_000
SAMPLE_SECONDS = 0.01
SAMPLES = 3
SMALLEST_FOOTPRINT = 1 << 16


@dataclass
class Limits:
    """The best figures seen so far: FLOP per second and bytes per second."""

    flops: dict[tuple[str, int], float] = field(default_factory=dict)
    bandwidths: dict[tuple[str, int, int], float] = field(default_factory=dict)

    def measure_peak(self, threads: int) -> float:
        """Measure the float32 peak on the instruction set in use; keep the best."""
        run = [lambda: _kernels.multiply_adds("float32", PEAK_ROUNDS)] * threads
        return _keep_best(self.flops, (_kernels.active(), threads), _best_rate(run))

    def measure_bandwidth(self, traffic: str, n_bytes: int, threads: int) -> float:
        """Measure "read", or "copy" (half of the bytes read, half written); keep the best."""
        rate = _best_rate(_traffic(traffic, n_bytes, threads))
        return _keep_best(self.bandwidths, (traffic, n_bytes, threads), rate)

    def seconds(self, flop: float, n_bytes: int, traffic: str, threads: int) -> tuple[float, str]:
        """Return the least time that the work can take, and which limit says so.

        Peak and bandwidth must have been measured.
        """
        arithmetic = flop / self.flops[_kernels.active(), threads]
        memory = n_bytes / self.bandwidths[traffic, n_bytes, threads]
        return (arithmetic, "FLOP") if arithmetic >= memory else (memory, "bytes")

    def to_json(self) -> dict[str, Any]:
        """Return plain lists: what JSON can hold."""
        return {
            "flops": [
                {"instruction_set": isa, "threads": threads, "flop_per_second": rate}
                for (isa, threads), rate in self.flops.items()
            ],
            "bandwidths": [
                {"traffic": kind, "bytes": size, "threads": threads, "bytes_per_second": rate}
                for (kind, size, threads), rate in self.bandwidths.items()
            ],
        }


def _keep_best(best: dict[Any, float], key: Any, rate: float) -> float:
    best[key] = max(rate, best.get(key, 0.0))
    return best[key]


def _traffic(traffic: str, n_bytes: int, threads: int) -> list[Callable[[], float]]:
    """Return what each thread does: its own part of the array, so that parts stay in its caches."""
    part = max(n_bytes, SMALLEST_FOOTPRINT) // threads
    if traffic == "read":
        return [_reader(np.ones(part, np.uint8)) for _ in range(threads)]
    return [
        _copier(np.ones(part // 2, np.uint8), np.ones(part // 2, np.uint8)) for _ in range(threads)
    ]


def _reader(array: Any) -> Callable[[], float]:
    return lambda: float(_kernels.read_all(array))


def _copier(source: Any, target: Any) -> Callable[[], float]:
    def copy() -> float:
        np.copyto(target, source)
        return float(source.nbytes + target.nbytes)

    return copy


def _best_rate(parts: list[Callable[[], float]]) -> float:
    """Run one callable per thread, all at once; return the best total amount per second."""
    started = time.perf_counter()
    parts[0]()
    once = max(time.perf_counter() - started, 1e-9)
    repetitions = max(1, int(SAMPLE_SECONDS / once))
    return max(_rate(parts, repetitions) for _ in range(SAMPLES))


def _rate(parts: list[Callable[[], float]], repetitions: int) -> float:
    amounts = [0.0] * len(parts)
    start = threading.Barrier(len(parts) + 1)

    def work(i: int) -> None:
        start.wait()
        for _ in range(repetitions):
            amounts[i] += parts[i]()

    workers = [threading.Thread(target=work, args=(i,)) for i in range(len(parts))]
    for worker in workers:
        worker.start()
    start.wait()
    started = time.perf_counter()
    for worker in workers:
        worker.join()
    return sum(amounts) / (time.perf_counter() - started)
