"""Put work and peers together: build the sides, check each against the reference, time them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from csoftmax import reference
from csoftmax.bench import peers
from csoftmax.bench.book import all_book
from csoftmax.bench.experiments import all_experiments
from csoftmax.bench.measure import OtherLoad, Side, alternate, check
from csoftmax.bench.peers import Task
from csoftmax.bench.processes import all_processes
from csoftmax.bench.results import Result, Run, describe_machine
from csoftmax.bench.scale import all_scale
from csoftmax.bench.session import Session
from csoftmax.bench.small import all_small
from csoftmax.bench.solver import all_solver
from csoftmax.bench.sparse import all_sparse
from csoftmax.bench.work import Work, all_work, images
from csoftmax.engine.calls import shuffle

EXPECTED: dict[str, Callable[[Task], Any]] = {
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


def _first_epoch_loss(p: Task) -> float:
    # the sides draw their orders alike, so that their losses can be compared
    order = shuffle(np.arange(len(p.X)), np.random.default_rng(0))
    return reference.sgd_epoch(
        p.X, p.y, p.W.copy(), p.b.copy(), order, p.batch_size, 0.1, scale=p.scale
    )[0]


def names_of(session: Session) -> Iterator[str]:
    """Yield the names of everything that could be measured, in order."""
    yield from (name for name, _ in _steps(session))


def _steps(session: Session) -> Iterator[tuple[str, Callable[[], Iterator[Result]]]]:
    """Yield the name of each measurement and what runs it."""
    some = session.solver, session.small, session.book, session.sparse, session.scale
    if any(some):
        yield from all_solver(session) if session.solver else ()
        yield from all_small(session) if session.small else ()
        yield from all_book(session) if session.book else ()
        yield from all_sparse(session) if session.sparse else ()
        yield from all_scale(session) if session.scale else ()
        return
    for work in all_work(session.quick):
        yield work.name, functools.partial(measure, work, session)
    yield from all_experiments(session)
    yield from all_processes(session)


def describe(session: Session) -> Run:
    """Return a run that knows its machine, and no results yet."""
    X, _, name = images(session.quick)
    dataset = f"{name}, {len(X):,} x {X.shape[1]} uint8"
    if session.sparse:
        real = session.data is not None and not session.quick
        dataset = f"sparse tables of {session.data}" if real else "a small sparse table, made up"
    return Run(describe_machine(session.threads, dataset, session.rounds))


def measure_all(run: Run, session: Session, show: Callable[[Result], None]) -> None:
    """Measure all that is wanted; `show` sees each result as it comes, `run` keeps them."""
    load = OtherLoad()
    for name, step in _steps(session):
        for result in step() if session.wants(name) else ():
            run.results.append(result)
            show(result)
    for result in run.results:
        result.measure_against(session.limits)  # which may have been seen higher since
    run.limits = session.limits.to_json()
    run.missing = {peers.label(name): why for name, why in session.missing.items()}
    run.machine["other_load"] = load.fraction()


def measure(work: Work, session: Session) -> Iterator[Result]:
    """Yield the result for each number of threads."""
    task = work.task()
    sides = list(_sides(work, task, session))
    expected = EXPECTED[work.kind](task)
    most = session.threads[-1]
    for side in sides:
        check(side, expected, most)
    for threads in session.threads:
        if work.kind in ("predict_one", "small_call") and threads > 1:
            continue  # nobody uses a second thread for these
        session.limits.measure_peak(threads)
        if work.n_bytes:
            session.limits.measure_bandwidth(work.traffic, work.n_bytes, threads)
        samples = alternate(sides, session.rounds, threads)
        amounts = (work.flop, work.n_bytes, work.traffic)
        result = Result(work.name, threads, samples, "s", *amounts)
        result.measure_against(session.limits)
        yield result


def _sides(work: Work, task: Task, session: Session) -> Iterator[Side]:
    for peer in session.all_peers():
        for kind in work.kinds:
            make = getattr(peer, kind, None)
            if make is not None:
                yield make(task)
