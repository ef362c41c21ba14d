"""What is not a race with a peer: instruction sets, input types, growth, cliffs, a busy machine."""

from __future__ import annotations

import contextlib
import functools
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from csoftmax import _kernels
from csoftmax.bench.measure import Samples, Side, alternate, seconds_of
from csoftmax.bench.peers import CSoftmax, Task
from csoftmax.bench.results import OURS, Result
from csoftmax.bench.session import Session
from csoftmax.bench.work import Work, all_work, image_task, rows_task

ONE_THREAD = "csoftmax, 1 thread"
CONTENTION_EPOCHS = 5


def all_experiments(session: Session) -> Iterator[tuple[str, Callable[[], Iterator[Result]]]]:
    """Yield the name of each experiment and what runs it."""
    parts = {"epoch/uint8/batch 256", "pass/uint8", "classes/float32/4096"}
    if session.quick:
        parts = {"epoch/uint8/batch 256", "pass/uint8"}
    for work in all_work(session.quick):
        if any(work.name.startswith(part) for part in parts) and _vector_sets():
            yield f"isa/{work.name}", functools.partial(instruction_sets, work, session)
    for work in all_work(session.quick):
        if work.name.startswith("classes/float16"):
            yield f"float16/{work.name[16:]}", functools.partial(half_precision, work, session)
    for what in ("n_samples", "n_features", "n_classes", "threads"):
        yield f"growth/{what}", functools.partial(growth, what, session)
    yield "growth/powers of two", functools.partial(powers_of_two, session)
    yield "contention/epoch", functools.partial(contention, session)


def instruction_sets(work: Work, session: Session) -> Iterator[Result]:
    """Time the work on the instruction set in use, and on the sets that have vectors alone."""
    side = getattr(CSoftmax(), work.kind)(work.task())
    others = [
        Side(f"csoftmax on {isa}", side.run, functools.partial(_using, isa, side))
        for isa in _vector_sets()
    ]
    for threads in session.threads:
        samples = alternate([side, *others], session.rounds, threads)
        yield Result(f"isa/{work.name}", threads, samples)


def _vector_sets() -> list[str]:
    return [isa for isa in _kernels.available() if isa.startswith("avx")]


@contextlib.contextmanager
def _using(isa: str, side: Side, n: int) -> Iterator[None]:
    before = _kernels.active()
    _kernels.use(isa)
    try:
        with side.pinned(n):
            yield
    finally:
        _kernels.use(before)


def half_precision(work: Work, session: Session) -> Iterator[Result]:
    """Time float16 rows against the same rows in float32."""
    half = work.task()
    single = Task(half.X.astype(np.float32), half.y, half.W, half.b)
    ours, other = CSoftmax().loss_and_gradient(half), CSoftmax().loss_and_gradient(single)
    other.name = "csoftmax on float32"
    for threads in session.threads:
        samples = alternate([ours, other], session.rounds, threads)
        yield Result(f"float16/{work.name[16:]}", threads, samples)


def growth(what: str, session: Session) -> Iterator[Result]:
    """Time loss and gradient over three decades of one size; the others stay."""
    if what == "threads":
        yield _thread_growth(session)
        return
    sizes = {
        "n_samples": [200, 600, 2000, 6000, 20000, 60000, 200000],
        "n_features": [10, 30, 100, 300, 1000, 3000, 10000],
        "n_classes": [2, 5, 10, 30, 100, 300, 1000, 3000, 10000],
    }[what]
    if session.quick:
        sizes = sizes[:-2]
    task = {"n_samples": _samples, "n_features": _features, "n_classes": _classes}[what]
    samples = _alternate_sizes([(str(size), task(size)) for size in sizes], session)
    seconds = [samples[str(size)].min for size in sizes]
    fixed, each, deviation = affine_fit(sizes, seconds)
    facts = {
        "fixed seconds": fixed,
        "seconds per unit": each,
        "largest deviation": deviation,
    }
    yield Result(f"growth/{what}", 1, samples, facts=facts)


def _samples(n: int) -> Task:
    random = np.random.default_rng(0)
    p = rows_task(1, 784, 10, "float32")
    X = random.integers(0, 256, (n, 784), np.uint8)
    return Task(X, random.integers(0, 10, n), p.W, p.b, 1 / 255)


def _features(j: int) -> Task:
    return rows_task(2048, j, 10, "float32")


def _classes(k: int) -> Task:
    return rows_task(1024, 256, k, "float32")


def _alternate_sizes(tasks: Sequence[tuple[str, Task]], session: Session) -> dict[str, Samples]:
    sides = []
    for name, task in tasks:
        side = CSoftmax().loss_and_gradient(task)
        side.name = name
        sides.append(side)
    return alternate(sides, session.rounds, threads=1)


def affine_fit(sizes: Sequence[float], seconds: Sequence[float]) -> tuple[float, float, float]:
    """Fit ``fixed + each * size`` with fixed >= 0; return both and the largest relative deviation.

    The squares of the relative errors are least, so that each decade counts alike.

    Examples
    --------
    >>> fixed, each, deviation = affine_fit([1, 10, 100], [3.0, 12.0, 102.0])
    >>> round(fixed, 6), round(each, 6), round(deviation, 6)
    (2.0, 1.0, 0.0)
    """
    x, t = np.asarray(sizes, float), np.asarray(seconds, float)
    columns = np.stack([1 / t, x / t], axis=1)
    (fixed, each), *_ = np.linalg.lstsq(columns, np.ones_like(t), rcond=None)
    if fixed < 0:
        fixed, each = 0.0, float((x / t).sum() / ((x / t) ** 2).sum())
    return float(fixed), float(each), float(np.max(np.abs((fixed + each * x) / t - 1)))


def _thread_growth(session: Session) -> Result:
    """Time an epoch on 1, 2, 4, .. threads and on all."""
    most = session.threads[-1]
    counts = sorted({most, *(2**i for i in range(most.bit_length()) if 2**i <= most)})
    ours = CSoftmax()
    side = ours.epoch(image_task(session.quick, "uint8"))
    sides = [
        Side(str(n), side.run, functools.partial(lambda n, _: ours.pinned(n), n)) for n in counts
    ]
    samples = alternate(sides, session.rounds, most)
    speedup = samples["1"].min / samples[str(most)].min
    return Result("growth/threads", most, samples, facts={f"speedup on {most}": speedup})


def powers_of_two(session: Session) -> Iterator[Result]:
    """Compare sizes whose rows alias in the caches with their neighbours, per multiply-add."""
    triples = [(1000, 1024, 1048), (4000, 4096, 4192)]
    shapes: list[list[tuple[int, int, int]]] = []
    for triple in triples:
        shapes.append([(512, j, 10) for j in triple])
        shapes.append([(512, j, 100) for j in triple])
        shapes.append([(512, 64, k) for k in triple])
    tasks = [
        ("x".join(map(str, shape)), rows_task(*shape, "float32"))
        for group in shapes
        for shape in group
    ]
    samples = _alternate_sizes(tasks, session)
    facts = {}
    for group in shapes:
        each = [samples["x".join(map(str, s))].min / (s[0] * s[1] * s[2]) for s in group]
        facts["x".join(map(str, group[1]))] = 2 * each[1] / (each[0] + each[2])
    yield Result("growth/powers of two", 1, samples, facts=facts)


def contention(session: Session) -> Iterator[Result]:
    """Time epochs while another process keeps one CPU busy: every epoch is one sample."""
    most = session.threads[-1]
    if most == 1:
        return
    ours = CSoftmax()
    side = ours.epoch(image_task(session.quick, "uint8"))
    one, many = Samples(), Samples()
    of_rounds = []
    with busy_process():
        side.run()
        for _ in range(session.rounds):
            medians = []
            for samples, threads in ((one, 1), (many, most)):
                with ours.pinned(threads):
                    epochs = [seconds_of(side.run, 1) for _ in range(CONTENTION_EPOCHS)]
                samples.values += epochs
                medians.append(statistics.mean(epochs))
            of_rounds.append(medians[1] / medians[0])
    facts = {
        "worst round": max(of_rounds),
        "worst epoch": max(many.values) / one.median,
    }
    yield Result("contention/epoch", most, {OURS: many, ONE_THREAD: one}, facts=facts)


@contextlib.contextmanager
def busy_process() -> Iterator[None]:
    """Keep one CPU busy with another process."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(process.pid, {min(os.sched_getaffinity(0))})
        yield
    finally:
        process.kill()
        process.wait()
