"""Put work and peers together: build the sides, check each against the reference, time them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from csoftmax import reference
from csoftmax.engine.calls import shuffle

from . import peers
from .experiments import all_experiments
from .measure import OtherLoad, Side, alternate, check
from .peers import Problem
from .processes import all_processes
from .results import Result, Run, describe_machine
from .settings import Settings
from .small import all_small
from .solver import all_solver
from .work import Work, all_work, images

EXPECTED: dict[str, Callable[[Problem], Any]] = {
    "epoch": lambda p: _first_epoch_loss(p),
    "loss_and_gradient": lambda p: reference.linear_cross_entropy_grad(
        p.X, p.W, p.b, p.y, scale=p.scale
    )[:2],
    "linear": lambda p: reference.linear(p.X, p.W, p.b, scale=p.scale),
    "softmax": lambda p: reference.softmax(p.X),
    "small_call": lambda p: reference.softmax(p.X),
    "log_softmax": lambda p: reference.log_softmax(p.X),
    "softmax_cross_entropy_grad": lambda p: reference.softmax_cross_entropy_grad(p.X, p.y),
    "predict": lambda p: reference.linear(p.X, p.W, p.b, scale=p.scale).argmax(axis=1),
}
EXPECTED["predict_one"] = EXPECTED["predict"]


def _first_epoch_loss(p: Problem) -> float:
    # the sides draw their orders alike, so that their losses can be compared
    order = shuffle(np.arange(len(p.X)), np.random.default_rng(0))
    return reference.sgd_epoch(
        p.X, p.y, p.W.copy(), p.b.copy(), order, p.batch_size, 0.1, scale=p.scale
    )[0]


def names_of(settings: Settings) -> Iterator[str]:
    """Yield the names of everything that could be measured, in order."""
    yield from (name for name, _ in _steps(settings))


def _steps(settings: Settings) -> Iterator[tuple[str, Callable[[], Iterator[Result]]]]:
    """Yield the name of each measurement and what runs it."""
    if settings.solver or settings.small:
        yield from all_solver(settings) if settings.solver else ()
        yield from all_small(settings) if settings.small else ()
        return
    for work in all_work(settings.quick):
        yield work.name, functools.partial(measure, work, settings)
    yield from all_experiments(settings)
    yield from all_processes(settings)


def describe(settings: Settings) -> Run:
    """Return a run that knows its machine, and no results yet."""
    X, _, name = images(settings.quick)
    dataset = f"{name}, {len(X):,} x {X.shape[1]} uint8"
    return Run(describe_machine(settings.threads, dataset, settings.rounds))


def measure_all(run: Run, settings: Settings, show: Callable[[Result], None]) -> None:
    """Measure all that is wanted; `show` sees each result as it comes, `run` keeps them."""
    load = OtherLoad()
    for name, step in _steps(settings):
        for result in step() if settings.wants(name) else ():
            run.results.append(result)
            show(result)
    for result in run.results:
        result.measure_against(settings.limits)  # which may have been seen higher since
    run.limits = settings.limits.to_json()
    run.missing = {peers.label(name): why for name, why in settings.missing.items()}
    run.machine["other_load"] = load.fraction()


def measure(work: Work, settings: Settings) -> Iterator[Result]:
    """Yield the result for each number of threads."""
    problem = work.problem()
    sides = list(_sides(work, problem, settings))
    expected = EXPECTED[work.kind](problem)
    most = settings.threads[-1]
    for side in sides:
        check(side, expected, most)
    for threads in settings.threads:
        if work.kind in ("predict_one", "small_call") and threads > 1:
            continue  # nobody uses a second thread for these
        settings.limits.measure_peak(threads)
        if work.n_bytes:
            settings.limits.measure_bandwidth(work.traffic, work.n_bytes, threads)
        samples = alternate(sides, settings.rounds, threads)
        amounts = (work.flop, work.n_bytes, work.traffic)
        result = Result(work.name, threads, samples, "s", *amounts)
        result.measure_against(settings.limits)
        yield result


def _sides(work: Work, problem: Problem, settings: Settings) -> Iterator[Side]:
    for peer in settings.all_peers():
        for kind in work.kinds:
            make = getattr(peer, kind, None)
            if make is not None:
                yield make(problem)
