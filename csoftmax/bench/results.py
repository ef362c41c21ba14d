"""What a run found: the results, the machine, and the JSON file that holds them."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import csoftmax as cs
from csoftmax import _kernels
from csoftmax.bench.limits import Limits
from csoftmax.bench.measure import Samples
from csoftmax.bench.peers import versions
from csoftmax.core.errors import DataError
from csoftmax.core.files import write_atomically

FORMAT = "csoftmax-bench"
FORMAT_VERSION = 1
OURS = "csoftmax"
# Slower than before by more than this is worth a line; minima of a quiet machine repeat within it.
SLOWER = 1.10


@dataclass
class Result:
    """One piece of work at one number of threads; samples in seconds ("s") or bytes ("B")."""

    name: str
    threads: int
    sides: dict[str, Samples]
    unit: str = "s"
    flop: float = 0.0
    n_bytes: int = 0
    traffic: str = ""  # "read", or "copy" where as many bytes are written as read
    limit: float | None = None  # seconds, the larger of the two limits
    bound: str = ""  # which one it is: "FLOP" or "bytes"
    facts: dict[str, float] = field(default_factory=dict)  # what else was found, by name

    @property
    def group(self) -> str:
        return self.name.split("/")[0]

    @property
    def ours(self) -> Samples | None:
        return self.sides.get(OURS)

    def ratio(self, side: str) -> float | None:
        """Return how many times as much as csoftmax this side takes (minima)."""
        if self.ours is None or side not in self.sides or self.ours.min <= 0:
            return None
        return self.sides[side].min / self.ours.min

    def measure_against(self, limits: Limits) -> None:
        """Say what the limits, as they are known by now, allow at best."""
        if self.n_bytes:
            self.limit, self.bound = limits.seconds(
                self.flop, self.n_bytes, self.traffic, self.threads
            )

    @property
    def fraction(self) -> float | None:
        """Return the share of the limit that csoftmax reaches."""
        return self.limit / self.ours.min if self.limit and self.ours else None

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads, with the figures that a reader wants spelled out."""
        sides = {
            name: {
                "min": s.min,
                "median": s.median,
                "ratio": self.ratio(name),
                "repetitions": s.repetitions,
                "samples": s.values,
            }
            for name, s in self.sides.items()
        }
        return {
            "name": self.name, "threads": self.threads, "unit": self.unit, "flop": self.flop,
            "bytes": self.n_bytes, "traffic": self.traffic, "limit": self.limit,
            "bound": self.bound, "fraction": self.fraction, "facts": self.facts, "sides": sides,
        }  # fmt: skip

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> Result:
        """Read one entry."""
        sides = {
            name: Samples(list(map(float, side["samples"])), int(side["repetitions"]))
            for name, side in entry["sides"].items()
        }
        return cls(
            entry["name"], entry["threads"], sides, entry["unit"], entry["flop"], entry["bytes"],
            entry["traffic"], entry["limit"], entry["bound"], dict(entry["facts"]),
        )  # fmt: skip


@dataclass
class Run:
    """All results of one process, and what they were measured on."""

    machine: dict[str, Any]
    results: list[Result] = field(default_factory=list)
    limits: dict[str, Any] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)  # peer: why it did not take part

    def find(self, name: str, threads: int | None = None) -> Result | None:
        """Return the first result whose name starts with `name`."""
        for result in self.results:
            if result.name.startswith(name) and threads in (None, result.threads):
                return result
        return None

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write everything as JSON, whole or not at all."""
        content = {
            "format": FORMAT, "version": FORMAT_VERSION, "machine": self.machine,
            "limits": self.limits, "missing": self.missing,
            "results": [result.to_json() for result in self.results],
        }  # fmt: skip
        text = json.dumps(content, indent=1) + "\n"
        write_atomically(path, lambda file: file.write(text.encode()))

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Run:
        """Read what `write` wrote.

        Raises
        ------
        FileNotFoundError, DataError
            No such file; or not a benchmark's JSON.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            if content["format"] != FORMAT or content["version"] != FORMAT_VERSION:
                raise ValueError(f"format {content['format']!r}, version {content['version']!r}")
            results = [Result.from_json(entry) for entry in content["results"]]
            return cls(content["machine"], results, content["limits"], content["missing"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path}: expected the JSON of `python -m csoftmax bench`, got {error!r}"
            ) from None


def describe_machine(threads: list[int], dataset: str, rounds: int) -> dict[str, Any]:
    """Return what the figures depend on."""
    pinning = {
        "csoftmax": "n_threads",
        "NumPy, scikit-learn": "threadpoolctl",
        "PyTorch": "torch.set_num_threads",
        "JAX": "CPU affinity",
        "scikit-learn-intelex": "n_jobs",
    }
    return {
        "cpu": _cpu_model(),
        "system": f"{platform.system()} {platform.machine()}",
        "instruction_set": _kernels.active(),
        "usable_cpus": cs.info()["usable CPUs"],
        "threads": threads,
        "pinning": pinning,
        "python": sys.version.split()[0],
        "csoftmax": cs.__version__,
        "versions": versions(),
        "dataset": dataset,
        "rounds": rounds,
        "date": time.strftime("%Y-%m-%d"),
    }


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def n_threads(n: int) -> str:
    """Return "1 thread" or "2 threads"."""
    return f"{n} thread{'s' * (n > 1)}"


def compare(old: Run, new: Run) -> list[str]:
    """Return a line for each result of csoftmax that became slower, then for each faster one."""
    before = {(r.name, r.threads): r.ours for r in old.results}
    slower, faster = [], []
    for result in new.results:
        was, now = before.get((result.name, result.threads)), result.ours
        if was is None or now is None or was.min <= 0:
            continue
        factor = now.min / was.min
        what = f"{result.name}, {n_threads(result.threads)}"
        if factor > SLOWER:
            slower.append((factor, f"slower x{factor:.2f}: {what}"))
        elif factor < 1 / SLOWER:
            faster.append((1 / factor, f"faster x{1 / factor:.2f}: {what}"))
    lines = [line for _, line in sorted(slower, reverse=True) + sorted(faster, reverse=True)]
    shared = sum((r.name, r.threads) in before for r in new.results)
    lines.append(f"{shared} results in both, {len(slower)} slower, {len(faster)} faster by > 10 %")
    return lines
