"""Runs of the benchmark as the tests make them up."""

from __future__ import annotations

from csoftmax.bench.measure import Samples
from csoftmax.bench.results import Result, Run


def result(name: str, threads: int = 1, unit: str = "s", **sides: float) -> Result:
    samples = {key.replace("_", " "): Samples([value, 2 * value]) for key, value in sides.items()}
    return Result(name, threads, samples, unit)


def run_of(*results: Result) -> Run:
    machine = {
        "cpu": "A processor", "instruction_set": "avx2", "usable_cpus": 2, "threads": [1, 2],
        "python": "3", "csoftmax": "0", "versions": {"numpy": "2", "torch": None},
        "pinning": {"csoftmax": "n_threads"}, "dataset": "images", "rounds": 2,
    }  # fmt: skip
    limits = {
        "flops": [
            {"instruction_set": "avx2", "threads": t, "flop_per_second": 1e11 * t} for t in (1, 2)
        ],
        "bandwidths": [
            {"traffic": "read", "bytes": 10**8, "threads": t, "bytes_per_second": 1e10 * t}
            for t in (1, 2)
        ],
    }  # fmt: skip
    return Run(machine, list(results), limits)
