"""The speeds that this project has set itself: ``python -m benchmarks.goals bench.json``.

Each is checked against what the run found. They are for a machine with two AVX-512 cores;
elsewhere they are a yardstick, not a promise.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from csoftmax.bench.results import Result, Run, n_threads

MEGABYTE = 1e6
LBFGS = "scikit-learn, L-BFGS iteration"
INTEL_LBFGS = "scikit-learn-intelex, L-BFGS iteration"
BOOK = "PyTorch, the book's loop"


@dataclass(frozen=True)
class Goal:
    """A figure that should be at least (or at most) so much."""

    what: str
    measured: float
    goal: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        return self.measured <= self.goal if self.at_most else self.measured >= self.goal

    def __str__(self) -> str:
        sign = "<=" if self.at_most else ">="
        verdict = "met" if self.met else "MISSED"
        return f"{verdict:<7}{self.measured:8.3g}  {sign} {self.goal:<6g} {self.what}"


def goals_of(run: Run) -> list[Goal]:
    """Return the goals whose figures this run has."""
    most = max(run.machine["threads"])
    result: list[Goal] = []
    for part in (_epoch, _full_pass, _many_classes, _functions, _predictions, _others, _solver):
        result += part(run, most)
    return result


def _ratios(result: Result | None, goals: dict[str, float]) -> Iterator[Goal]:
    for side, goal in goals.items() if result else ():
        ratio = result.ratio(side) if result else None
        if result and ratio is not None:
            yield Goal(f"x {side}: {_what(result)}", ratio, goal)


def _fraction(result: Result | None, goal: float) -> Iterator[Goal]:
    if result is not None and result.fraction is not None:
        yield Goal(f"of the limit ({result.bound}): {_what(result)}", result.fraction, goal)


def _what(result: Result) -> str:
    return f"{result.name}, {n_threads(result.threads)}"


def _epoch(run: Run, most: int) -> Iterator[Goal]:
    name = "epoch/uint8/batch 256"
    yield from _ratios(run.find(name, most), {"NumPy": 8, "JAX": 6.5, "PyTorch": 14, BOOK: 40})
    yield from _ratios(run.find(name, 1), {"NumPy": 7})
    yield from _fraction(run.find(name, 1), 0.55)


def _full_pass(run: Run, most: int) -> Iterator[Goal]:
    result = run.find("pass/uint8", most)
    goals: dict[str, float] = {LBFGS: 15, "scikit-learn": 7, INTEL_LBFGS: 6, "PyTorch": 10}
    yield from _ratios(result, goals)
    yield from _fraction(result, 0.65)


def _many_classes(run: Run, most: int) -> Iterator[Goal]:
    for result in run.results:
        if result.name.startswith("classes/float32"):
            yield from _ratios(result, {"PyTorch": 1.05})
            if result.bound == "FLOP":
                yield from _fraction(result, 0.72)
        if result.name.startswith("float16/"):
            yield from _ratios(result, {"csoftmax on float32": 0.97})
        if result.name.startswith("memory/classes"):
            yield from _ratios(result, {"PyTorch": 10})


def _functions(run: Run, most: int) -> Iterator[Goal]:
    for result in run.results:
        if result.name.startswith(("function/softmax/", "function/log_softmax/")):
            yield from _ratios(result, {"NumPy": 5, "PyTorch": 1.2})
            if result.n_bytes > 32 * MEGABYTE:
                yield from _fraction(result, 0.70)


def _predictions(run: Run, most: int) -> Iterator[Goal]:
    for result in run.results:
        if result.name.startswith("predict/") and result.name.endswith("images"):
            yield from _ratios(result, {"NumPy": 5})
    one = run.find("predict/one image")
    if one and one.ours:
        yield Goal(f"microseconds: {one.name}", one.ours.min * 1e6, 5, at_most=True)


def _others(run: Run, most: int) -> Iterator[Goal]:
    for result in run.results:
        if result.name.startswith("isa/"):
            narrow, wide = result.ratio("csoftmax on avx2"), result.ratio("csoftmax on avx512")
            if narrow and wide:
                yield Goal(f"AVX2's speed by AVX-512's: {_what(result)}", wide / narrow, 0.45)
    at_most: list[tuple[str, str, Callable[[Result], float | None], float]] = [
        ("contention/epoch", "time by that of 1 thread, worst round", _fact("worst round"), 1.15),
        ("contention/epoch", "time by that of 1 thread, worst epoch", _fact("worst epoch"), 2.0),
        ("process/import", "times import numpy", _import_ratio, 1.3),
        ("process/train", "seconds above the import", _fact("seconds above the import"), 0.5),
        ("memory/epoch", "MB above import and data", _megabytes_above_data, 40),
    ]
    at_most += [
        (f"growth/{size}", "off a straight line", _fact("largest deviation"), 0.15)
        for size in ("n_samples", "n_features", "n_classes")
    ]
    at_most.append(("growth/powers of two", "times its neighbours", _largest_fact, 1.15))
    for name, what, figure, goal in at_most:
        found = run.find(name)
        value = figure(found) if found else None
        if value is not None:
            yield Goal(f"{what}: {name}", value, goal, at_most=True)


def _solver(run: Run, most: int) -> Iterator[Goal]:
    yield from _ratios(run.find("solver/as far as scikit-learn"), {"scikit-learn": 30})
    intel = "scikit-learn-intelex"
    yield from _ratios(run.find(f"solver/as far as {intel}"), {intel: 12})
    result = run.find("solver/near 0.1 %")
    if result and result.ours:
        yield Goal(f"seconds: {result.name}", result.ours.min, 2, at_most=True)
    for result in run.results:
        if result.name.startswith("solver/defaults"):
            above = result.facts.get("scikit-learn above us")
            if above is not None:
                yield Goal(f"relative objective above us: {result.name}", above, -1e-6)
            theirs = result.sides.get("scikit-learn")
            if theirs and theirs.min > 0.05:
                yield from _ratios(result, {"scikit-learn": 1})
        if result.name.startswith("solver/folds"):
            yield from _ratios(result, {"scikit-learn": 30})
        if result.name.startswith("solver/classes") and result.ours:
            allowed = result.facts["allowed above the data"]
            yield Goal(f"bytes: {result.name}", result.ours.min, allowed, at_most=True)
            speed = "speed by that of the bare pass"
            yield Goal(f"{speed}: {result.name}", result.facts[speed], 0.85)
    result = run.find("solver/sweep 45 C")
    if result:
        yield from _ratios(result, {"scikit-learn, a fit each": 60})
        times = result.facts["times one fit"]
        yield Goal(f"times one fit: {result.name}", times, 15, at_most=True)
        worst = "% above the optimum, the worst"
        yield Goal(f"{worst}: {result.name}", result.facts[worst], 0.1, at_most=True)


def _fact(name: str) -> Callable[[Result], float | None]:
    return lambda result: result.facts.get(name)


def _largest_fact(result: Result) -> float | None:
    return max(result.facts.values(), default=None)


def _import_ratio(result: Result) -> float | None:
    ratio = result.ratio("import numpy")
    return 1 / ratio if ratio else None


def _megabytes_above_data(result: Result) -> float | None:
    return (result.ours.min - result.facts["data"]) / MEGABYTE if result.ours else None


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.goals", description="Tell which goals a run meets."
    )
    parser.add_argument("run", type=Path, help="JSON of `python -m csoftmax bench --json`")
    for goal in goals_of(Run.read(parser.parse_args(arguments).run)):
        print(goal)


if __name__ == "__main__":
    main()
