"""dask-ml's LogisticRegression, where it is installed, and csoftmax on the same cluster and rows.

For two classes both minimise the same objective: the sum of the losses and ``||w||^2 / (2 C)``,
without an intercept, as dask-ml would penalise that too. For three classes dask-ml fits one vector
of weights. The cluster is of this process. dask-ml's default, ADMM, takes minutes: it runs with
--slow-peers, L-BFGS always.
"""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import csoftmax as cs
from csoftmax.bench import peers
from csoftmax.bench.measure import REST_SECONDS, Samples, WrongResultError
from csoftmax.bench.results import OURS, Result
from csoftmax.bench.session import Session

Array = NDArray[Any]

THEIRS, ARRAY = "dask-ml", "csoftmax, one array"
SHAPE, QUICK_SHAPE = (200_000, 50), (4000, 5)
N_CHUNKS, ROUNDS = 8, 3
C = 1.0
NEAR = 1e-5  # how near the objectives are to each other, as a share


class BothPlaces(NamedTuple):
    """Rows and labels in memory, and as dask arrays that the workers hold."""

    X: Array
    y: Array
    dX: Any
    dy: Any


def all_dask(session: Session) -> Iterator[tuple[str, Callable[[], Iterator[Result]]]]:
    """Yield the name of each measurement and what runs it."""
    yield "scale/dask-ml two classes", functools.partial(two_classes, session)
    yield "scale/dask-ml three classes", functools.partial(three_classes, session)


def has_dask_ml(session: Session) -> bool:
    """Say whether dask-ml takes part; remember that it is missing."""
    if peers.is_installed("dask_ml"):
        return True
    session.missing[THEIRS] = "not installed"
    return False


@contextmanager
def _cluster(threads: int) -> Iterator[None]:
    distributed = import_module("distributed")
    with (
        distributed.Client(
            processes=False, n_workers=1, threads_per_worker=threads, dashboard_address=None
        ),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


def _data(session: Session, n_classes: int) -> BothPlaces:
    n, d = QUICK_SHAPE if session.quick else SHAPE
    random = np.random.default_rng(0)
    X = random.normal(size=(n, d))
    logits = 2 / np.sqrt(d) * X @ random.normal(size=(d, n_classes))
    y = (logits + random.gumbel(size=logits.shape)).argmax(axis=1)
    array, at_once = import_module("dask.array"), -(-n // N_CHUNKS)
    dX, dy = array.from_array(X, chunks=(at_once, d)), array.from_array(y, chunks=at_once)
    return BothPlaces(X, y, dX.persist(), dy.persist())


def _timed(fit: Callable[[], Any], rounds: int) -> tuple[Samples, Any]:
    values = []
    for _ in range(rounds):
        time.sleep(REST_SECONDS)
        began = time.perf_counter()
        fitted = fit()
        values.append(time.perf_counter() - began)
    return Samples(values), fitted


def objective(data: BothPlaces, w: Array) -> float:
    """Return the sum of the losses of two classes, and the penalty, in float64."""
    logits = data.X @ np.asarray(w, np.float64).reshape(-1)
    losses = np.logaddexp(0, logits) - data.y * logits
    return float(losses.sum() + np.vdot(w, w) / (2 * C))


def two_classes(session: Session) -> Iterator[Result]:
    """Time fits of two classes to the same objective, which is checked."""
    if not has_dask_ml(session):
        return
    estimator = import_module("csoftmax.dask").SoftmaxClassifier
    theirs = import_module("dask_ml.linear_model").LogisticRegression
    threads, rounds = session.threads[-1], min(session.rounds, ROUNDS)
    settings: dict[str, Any] = {"C": C, "fit_intercept": False}
    with _cluster(threads):
        data = _data(session, 2)
        ours = estimator(tol=NEAR / 10, **settings)
        local = cs.SoftmaxClassifier(tol=NEAR / 10, n_threads=threads, **settings)
        fits: dict[str, Callable[[], Any]] = {
            OURS: lambda: ours.fit(data.dX, data.dy),
            ARRAY: lambda: local.fit(data.X, data.y),
        }
        for solver in ("lbfgs", "admm") if session.slow_peers else ("lbfgs",):
            theirs_by = theirs(solver=solver, **settings)
            fits[f"{THEIRS}, {solver}"] = functools.partial(theirs_by.fit, data.dX, data.dy)
        found = {who: _timed(fit, rounds) for who, fit in fits.items()}
        reached = {who: objective(data, fitted.coef_) for who, (_, fitted) in found.items()}
    least = min(reached.values())
    for who in (OURS, ARRAY):
        if not reached[who] <= least * (1 + NEAR):
            raise WrongResultError(f"{who}: objective {reached[who]}, expected {least}")
    facts = {f"{who} above": value / least - 1 for who, value in reached.items()}
    name = f"scale/dask-ml two classes {data.X.shape[0]}x{data.X.shape[1]}"
    sides = {who: samples for who, (samples, _) in found.items()}
    yield Result(name, threads, sides, facts=facts)


def three_classes(session: Session) -> Iterator[Result]:
    """Tell the share of rows that both classify right, of those that they are fitted to."""
    if not has_dask_ml(session):
        return
    estimator = import_module("csoftmax.dask").SoftmaxClassifier(C=C)
    theirs = import_module("dask_ml.linear_model").LogisticRegression(C=C, solver="lbfgs")
    with _cluster(session.threads[-1]):
        data = _data(session, 3)
        found = {
            OURS: _timed(lambda: estimator.fit(data.dX, data.dy), 1),
            f"{THEIRS}, lbfgs": _timed(lambda: theirs.fit(data.dX, data.dy), 1),
        }
        facts = {
            "right": float(estimator.to_local().score(data.X, data.y)),
            "dask-ml right": float(np.mean(np.asarray(theirs.predict(data.X)) == data.y)),
            "dask-ml weights": float(np.size(theirs.coef_)),
        }
    name = f"scale/dask-ml three classes {data.X.shape[0]}x{data.X.shape[1]}"
    sides = {who: samples for who, (samples, _) in found.items()}
    yield Result(name, session.threads[-1], sides, facts=facts)
