"""Small tables, where most people start: ``python -m csoftmax bench --small``.

Both estimators as they come, on standardised features and one thread: who takes how long, and who
ends lower. Every objective is scikit-learn's, in float64.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.bench import peers
from csoftmax.bench.measure import Side, WrongResultError, alternate
from csoftmax.bench.results import OURS, Result
from csoftmax.bench.session import Session
from csoftmax.bench.solver import fitted_objective
from csoftmax.bench.work import images

Array = NDArray[Any]

TABLES = ("iris", "breast_cancer", "wine", "digits", "50 wines", "5,000 images of 7 x 7",
          "made-up, 20 classes")  # fmt: skip
CS = (1e-3, 1.0, 1e3, math.inf)
# Up to so many nats a row above scikit-learn's objective count as equal: a hundredth of what `tol`
# allows.
NOISE = 1e-6


def all_small(session: Session) -> Iterator[tuple[str, Callable[[], Iterator[Result]]]]:
    """Yield the name of each measurement and what runs it."""
    for table in TABLES:
        for C in CS:
            yield f"small/{table} C = {C:g}", functools.partial(fits, session, table, C)


@functools.lru_cache
def standardised(table: str) -> tuple[Array, Array]:
    """Return features of mean 0 and variance 1, and labels 0, 1, ...

    Examples
    --------
    >>> X, y = standardised("iris")
    >>> X.shape, round(float(X.std()), 3)
    ((150, 4), 1.0)
    """
    X, y = _table(table)
    deviations = X.std(axis=0)
    return (X - X.mean(axis=0)) / np.where(deviations > 0, deviations, 1.0), y


def _table(table: str) -> tuple[Array, Array]:
    datasets = import_module("sklearn.datasets")
    rng = np.random.default_rng(0)
    if table == "5,000 images of 7 x 7":
        X, y, _ = images(quick=False)
        blocks = X[:5000].reshape(-1, 7, 4, 7, 4).mean(axis=(2, 4))
        return blocks.reshape(len(blocks), -1), y[:5000].astype(np.int64)
    if table == "made-up, 20 classes":
        X = rng.standard_normal((2000, 10))
        W = rng.standard_normal((10, 20))
        return X, np.argmax(X @ W + rng.gumbel(size=(2000, 20)), axis=1)
    name = "wine" if table == "50 wines" else table
    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    if table == "50 wines":
        rows = rng.permutation(len(y))[:50]
        X, y = X[rows], y[rows]
    return X, y


def fits(session: Session, table: str, C: float) -> Iterator[Result]:
    """Fit one table with one C by both, in turn."""
    if not peers.is_installed("sklearn"):
        session.missing["sklearn"] = "not installed"
        return
    X, y = standardised(table)
    theirs: Any = import_module("sklearn.linear_model").LogisticRegression
    ours: Any = import_module("csoftmax").SoftmaxClassifier
    fitted: dict[str, Any] = {}

    def fit(name: str, estimator: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it has not converged shows in the objective
            fitted[name] = estimator.fit(X, y)

    pinned, label = peers.NumPy().pinned, peers.label("sklearn")
    sides = [
        Side(OURS, functools.partial(fit, OURS, ours(C=C, n_threads=1)), pinned),
        Side(label, functools.partial(fit, label, theirs(C=C)), pinned),
    ]
    samples = alternate(sides, session.rounds, 1)
    reached = {name: fitted_objective(fitted[name], X, y, C) for name in (OURS, label)}
    if not reached[OURS] <= reached[label] + NOISE:
        raise WrongResultError(
            f"{OURS}: objective {reached[OURS]}, expected at most {label}'s, {reached[label]}"
        )
    facts = {
        "objective": reached[OURS],
        "scikit-learn above us, nats": reached[label] - reached[OURS],
        "our estimate of the distance, nats": float(fitted[OURS].gap_.estimate),
    }
    yield Result(f"small/{table} C = {C:g}", 1, samples, facts=facts)
