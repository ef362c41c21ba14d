"""Sparse rows: ``python -m csoftmax bench --sparse --data FOLDER``, beside scikit-learn.

`benchmarks/package_texts.py` makes the tables of the folder; without one a small table is made up.
Every objective is `objective`, in float64, whoever minimised it. "To 1e-4" means: until the
objective is 1e-4 of the optimum above the optimum. Peers that take minutes run with --slow-peers.
"""

from __future__ import annotations

import functools
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from csoftmax.bench import memory, peers
from csoftmax.bench.measure import REST_SECONDS, Samples, Side, WrongResultError, alternate, check
from csoftmax.bench.processes import python
from csoftmax.bench.results import OURS, Result
from csoftmax.bench.session import Session
from csoftmax.core.sparse import CSR, as_csr

Array = NDArray[Any]

NAMES = ("words", "pairs", "pairs_12000", "dependencies")
MADE_UP = "made-up"
THEIRS = "scikit-learn"
LBFGS, SAGA, LIBLINEAR = "lbfgs", "saga", "liblinear, one against rest"
NEAR = 1e-4
PATH = np.logspace(-1, 1, 20)
MOST_EPOCHS = 3000  # of saga
BATCH = 256


class Table(NamedTuple):
    name: str
    X: Any  # scipy's, csr
    y: Array
    n_classes: int

    def in_type(self, dtype: Any) -> Table:
        return self._replace(X=self.X.astype(dtype))


def all_sparse(session: Session) -> Iterator[tuple[str, Callable[[], Iterator[Result]]]]:
    """Yield the name of each measurement and what runs it."""
    names = NAMES if session.data is not None and not session.quick else (MADE_UP,)
    few = names[2] if len(names) > 1 else MADE_UP
    for name in names:
        for dtype in ("float32", "float64"):
            yield f"sparse/pass {name} {dtype}", functools.partial(a_pass, session, name, dtype)
    for name in dict.fromkeys((names[0], few)):
        yield f"sparse/epoch {name}", functools.partial(an_epoch, session, name)
    yield f"sparse/L2 {names[0]}", functools.partial(ridge, session, names[0])
    yield f"sparse/L2 {few} C = 100", functools.partial(weak_ridge, session, few)
    yield "sparse/L2 memory", functools.partial(peak, session, names[min(1, len(names) - 1)])
    for name, C in dict.fromkeys(((few, 1.0), (few, 10.0), (names[0], 1.0))):
        yield f"sparse/L1 {name} C = {C:g}", functools.partial(lasso, session, name, C)
    yield f"sparse/L1 path {few}", functools.partial(a_path, session, few)


# ---- tables and what is minimised ----------------------------------------------------------------


@functools.lru_cache(maxsize=1)
def table_of(name: str, folder: Path | None) -> Table:
    """Read a table of the folder, or make one up."""
    sparse = import_module("scipy.sparse")
    if name == MADE_UP:
        return made_up()
    assert folder is not None
    with np.load(folder / f"{name}.npz") as file:
        X = sparse.csr_matrix((file["data"], file["indices"], file["indptr"]), tuple(file["shape"]))
        return Table(name, X, file["y"].astype(np.int64), len(file["class_names"]))


def made_up(n: int = 1500, d: int = 3000, k: int = 12) -> Table:
    """Return texts of words that are as frequent as words are, each class with its own favourites.

    Examples
    --------
    >>> made_up(100, 50, 3).X.shape
    (100, 50)
    """
    random = np.random.default_rng(0)
    y = random.integers(0, k, n)
    lengths = random.integers(8, 40, n)
    words = (d * random.random(lengths.sum()) ** 4).astype(np.int64)
    own = random.random(len(words)) < 0.3
    words[own] = (words[own] + 97 * np.repeat(y, lengths)[own]) % d
    rows = np.repeat(np.arange(n), lengths)
    X = import_module("scipy.sparse").csr_matrix((np.ones(len(words), np.float32), (rows, words)))
    X.resize(n, d)
    X.sum_duplicates()
    X.data = 1 + np.log(X.data)
    lengths_of_rows = np.sqrt(np.asarray(X.multiply(X).sum(axis=1)).ravel())
    X.data /= np.repeat(np.maximum(lengths_of_rows, 1e-9), np.diff(X.indptr)).astype(np.float32)
    return Table(MADE_UP, X, y, k)


def objective(table: Table, W: Array, b: Array, C: float, l1_ratio: float = 0.0) -> float:
    """Return mean loss and penalty in float64; W is class-major.

    Examples
    --------
    >>> table = made_up(100, 50, 3)
    >>> round(objective(table, np.zeros((3, 50)), np.zeros(3), 1.0), 6)  # log 3
    1.098612
    """
    W = np.asarray(W, np.float64)
    logits = np.asarray(table.X.astype(np.float64) @ np.ascontiguousarray(W.T)) + b
    logits -= logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(table.y)), table.y]
    penalty = l1_ratio * np.abs(W).sum() + (1 - l1_ratio) / 2 * np.vdot(W, W)
    return float(losses.mean() + penalty / (C * len(table.y)))


@functools.lru_cache(maxsize=4)
def optimum(name: str, folder: Path | None, C: float, l1_ratio: float) -> float:
    """Return the objective of a fit that is told to come a hundred times as near."""
    found = minimize(table_of(name, folder), C, l1_ratio, tol=NEAR / 100)
    return objective(table_of(name, folder), found.W[0], found.b[0], C, l1_ratio)


def minimize(table: Table, C: Any, l1_ratio: float = 0.0, **options: Any) -> Any:
    solver = import_module("csoftmax.solver")
    options = {"max_iter": 5000, "warns": False, **options}
    return solver.minimize(table.X, table.y, table.n_classes, C=C, l1_ratio=l1_ratio, **options)


def seconds_to(
    table: Table, target: float, threads: int, C: float, l1_ratio: float = 0.0
) -> tuple[float, Any]:
    """Return how long csoftmax takes to an objective, which is checked, and what it found."""
    time.sleep(REST_SECONDS)
    started = time.perf_counter()
    found = minimize(
        table, C, l1_ratio, tol=NEAR / 1000, n_threads=threads,
        callback=lambda progress: bool(progress.objective[0] <= target),
    )  # fmt: skip
    seconds = time.perf_counter() - started
    reached = objective(table, found.W[0], found.b[0], C, l1_ratio)
    if not reached <= target * (1 + NEAR / 10):
        raise WrongResultError(f"{OURS}: objective {reached}, expected at most {target}")
    return seconds, found


def timed(threads: int, run: Callable[[], Any]) -> tuple[float, Any]:
    """Time a peer, whose BLAS has so many threads."""
    time.sleep(REST_SECONDS)
    with warnings.catch_warnings(), peers.NumPy().pinned(threads):
        warnings.simplefilter("ignore")  # that it has not converged shows in the objective
        started = time.perf_counter()
        result = run()
        return time.perf_counter() - started, result


# ---- scikit-learn ----------------------------------------------------------------------------


class TheirLoss:
    """scikit-learn's loss and gradient as its L-BFGS calls them, coefficients class-major."""

    def __init__(self, table: Table, threads: int) -> None:
        loss = import_module("sklearn._loss").HalfMultinomialLoss(n_classes=table.n_classes)
        model = import_module("sklearn.linear_model._linear_loss").LinearModelLoss
        self.model, self.table, self.threads = model(loss, fit_intercept=True), table, threads
        self.y = table.y.astype(table.X.dtype)

    def zeros(self) -> Array:
        shape = self.table.n_classes, self.table.X.shape[1] + 1
        return np.zeros(shape, self.table.X.dtype, order="F")

    def evaluate(self, coef: Array, C: float = np.inf) -> Any:
        penalty = 1 / (C * len(self.y))
        return self.model.loss_gradient(
            coef, self.table.X, self.y, l2_reg_strength=penalty, n_threads=self.threads
        )

    def lbfgs(self, C: float, target: float) -> Array:
        """Minimise as LogisticRegression does, but stop at an objective."""

        def reached(intermediate_result: Any) -> None:
            if intermediate_result.fun <= target:
                raise StopIteration

        found = import_module("scipy.optimize").minimize(
            lambda coef: self.evaluate(coef, C), self.zeros().ravel(order="F"),
            method="L-BFGS-B", jac=True, callback=reached,
            options={"maxiter": 5000, "maxls": 50, "gtol": 1e-12, "ftol": 0.0},
        )  # fmt: skip
        coef: Array = found.x.reshape(self.table.n_classes, -1, order="F")
        return coef


def has_sklearn(session: Session) -> bool:
    """Say whether scikit-learn takes part; remember that it is missing."""
    if "sklearn" not in session.peers:
        return False
    if not peers.is_installed("sklearn"):
        session.missing["sklearn"] = "not installed"
        return False
    return True


def saga_to(
    table: Table, target: float, C: float, l1_ratio: float
) -> tuple[float, dict[str, float]]:
    """Return the time of the first of 10, 20, 40, .. epochs of saga that end low enough.

    And how many they were, and where they ended: above 0 if `MOST_EPOCHS` were too few.
    """
    model = import_module("sklearn.linear_model").LogisticRegression
    epochs = 10
    while True:
        options = _penalty(model, l1_ratio) | {"C": C, "max_iter": epochs, "tol": 1e-12}
        estimator = model(solver="saga", random_state=0, **options)
        seconds, fitted = timed(1, functools.partial(estimator.fit, table.X, table.y))
        above = objective(table, fitted.coef_, fitted.intercept_, C, l1_ratio) / target - 1
        if above <= 0 or epochs >= MOST_EPOCHS:
            return seconds, {"saga above": above, "its epochs": epochs}
        epochs *= 2


def _penalty(model: Any, l1_ratio: float) -> dict[str, Any]:
    """Say l1_ratio as this version of scikit-learn wants it."""
    if isinstance(model().get_params().get("l1_ratio"), float):
        return {"l1_ratio": l1_ratio}
    return {"penalty": "l1" if l1_ratio else "l2"}


# ---- what is measured --------------------------------------------------------------------------


def a_pass(session: Session, name: str, dtype: str) -> Iterator[Result]:
    """Time loss and gradient."""
    cs: Any = import_module("csoftmax")
    table = table_of(name, session.data).in_type(dtype)
    n, d = table.X.shape
    k = table.n_classes
    random = np.random.default_rng(0)
    W = (0.1 * random.standard_normal((d, k))).astype(dtype)
    b, X = np.zeros(k, dtype), as_csr(table.X)
    dense = table.X.astype(np.float64) @ W.astype(np.float64)
    probs = np.exp(dense - dense.max(axis=1, keepdims=True))
    probs /= probs.sum(axis=1, keepdims=True)
    loss = -np.log(probs[np.arange(n), table.y]).mean()
    probs[np.arange(n), table.y] -= 1
    expected = loss, np.asarray(table.X.astype(np.float64).T @ probs) / n
    for threads in session.threads:
        run = functools.partial(cs.linear_cross_entropy_grad, X, W, b, table.y, n_threads=threads)
        sides = [Side(OURS, functools.partial(_without_bias, run))]
        if has_sklearn(session):
            theirs = TheirLoss(table, threads)
            coef = theirs.zeros()
            coef[:, :-1] = W.T

            def their_run(theirs: TheirLoss = theirs, coef: Array = coef) -> tuple[Any, Array]:
                value, gradient = theirs.evaluate(coef)
                return value, gradient.reshape(k, d + 1, order="F")[:, :-1].T

            sides.append(Side(THEIRS, their_run, peers.NumPy().pinned))
        for side in sides:
            check(side, expected, threads)
        samples = alternate(sides, session.rounds, threads)
        yield Result(f"sparse/pass {name} {dtype}", threads, samples)


def _without_bias(run: Callable[[], Any]) -> tuple[Any, ...]:
    loss, dW, _ = run()
    return loss, dW


def an_epoch(session: Session, name: str) -> Iterator[Result]:
    """Time an epoch of minibatches; scikit-learn's goes row by row, a class against the rest."""
    calls: Any = import_module("csoftmax.engine.calls")
    table = table_of(name, session.data)
    X: CSR = as_csr(table.X)
    order = np.random.default_rng(0).permutation(len(X))
    W = np.zeros((table.n_classes, X.shape[1]), np.float32)
    b = np.zeros(table.n_classes, np.float32)
    rows, step = calls.StoredRows(X, 1.0, order), calls.Step(0.5, 0.0, False, 1e-6)
    parameters, targets = calls.Parameters(W, b), calls.Targets(table.y)
    for threads in session.threads:
        sides = [
            Side(OURS, functools.partial(
                calls.minibatches, rows, parameters, targets, step, BATCH, threads
            ))
        ]  # fmt: skip
        if has_sklearn(session):
            model = import_module("sklearn.linear_model").SGDClassifier
            estimator = model(
                loss="log_loss", max_iter=1, tol=None, alpha=1e-6, n_jobs=threads, random_state=0
            )
            fit = functools.partial(estimator.fit, table.X, table.y)
            sides.append(Side("SGDClassifier, one against rest", fit))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield Result(f"sparse/epoch {name}", threads, alternate(sides, session.rounds, threads))


def ridge(session: Session, name: str) -> Iterator[Result]:
    """Time fits with C = 1 to 1e-4 above the optimum."""
    table, threads = table_of(name, session.data), session.threads[-1]
    target = optimum(name, session.data, 1.0, 0.0) * (1 + NEAR)
    fits = [seconds_to(table, target, threads, 1.0) for _ in range(1 + session.rounds // 3)]
    sides = {OURS: Samples([seconds for seconds, _ in fits])}
    facts = {"objective": target, "passes": float(fits[-1][1].n_passes)}
    if has_sklearn(session):
        loss = TheirLoss(table, threads)
        seconds, coef = timed(threads, lambda: loss.lbfgs(1.0, target))
        sides[LBFGS] = Samples([seconds])
        facts["lbfgs above"] = objective(table, coef[:, :-1], coef[:, -1], 1.0) / target - 1
        if session.slow_peers or name == MADE_UP:
            seconds, of_saga = saga_to(table, target, 1.0, 0.0)
            sides[SAGA], facts = Samples([seconds]), facts | of_saga
    yield Result(f"sparse/L2 {name} C = 1 to {NEAR:g}", threads, sides, facts=facts)


def weak_ridge(session: Session, name: str) -> Iterator[Result]:
    """Time fits with C = 100 to 1e-2, and LogisticRegression until it says that it is there."""
    table, threads = table_of(name, session.data), session.threads[-1]
    best = optimum(name, session.data, 100.0, 0.0)
    seconds, found = seconds_to(table, best * 1.01, threads, 100.0)
    sides = {OURS: Samples([seconds])}
    facts = {"optimum": best, "passes": float(found.n_passes)}
    if has_sklearn(session):
        estimator = import_module("sklearn.linear_model").LogisticRegression(C=100, max_iter=1000)
        seconds, fitted = timed(threads, lambda: estimator.fit(table.X, table.y))
        sides[LBFGS] = Samples([seconds])
        reached = objective(table, fitted.coef_, fitted.intercept_, 100.0)
        facts |= {"% lbfgs ends above": 100 * (reached / best - 1),
                  "its iterations": float(np.max(fitted.n_iter_))}  # fmt: skip
    yield Result(f"sparse/L2 {name} C = 100 to 0.01", threads, sides, facts=facts)


def lasso(session: Session, name: str, C: float) -> Iterator[Result]:
    """Time fits by L1 to 1e-4 above the optimum."""
    table, threads = table_of(name, session.data), session.threads[-1]
    target = optimum(name, session.data, C, 1.0) * (1 + NEAR)
    seconds, found = seconds_to(table, target, threads, C, 1.0)
    sides = {OURS: Samples([seconds])}
    facts = {"objective": target, "weights not 0": float(np.count_nonzero(found.W))}
    if has_sklearn(session) and (session.slow_peers or name == MADE_UP):
        seconds, of_saga = saga_to(table, target, C, 1.0)
        sides[SAGA], facts = Samples([seconds]), facts | of_saga
        multi = import_module("sklearn.multiclass").OneVsRestClassifier
        model = import_module("sklearn.linear_model").LogisticRegression
        estimator = multi(model(C=C, solver="liblinear", random_state=0, **_penalty(model, 1.0)))
        seconds, _ = timed(1, lambda: estimator.fit(table.X, table.y))
        sides[LIBLINEAR] = Samples([seconds])
    yield Result(f"sparse/L1 {name} C = {C:g} to {NEAR:g}", threads, sides, facts=facts)


def a_path(session: Session, name: str) -> Iterator[Result]:
    """Time twenty values of C by L1, one from the other, beside the last of them alone."""
    table, threads = table_of(name, session.data), session.threads[-1]
    sides = {}
    for who, Cs, path in ((OURS, PATH, True), ("the last fit alone", PATH[-1:], False)):
        fit = functools.partial(minimize, table, Cs, 1.0, path=path, tol=NEAR, n_threads=threads)
        seconds, found = timed(threads, fit)
        sides[who] = Samples([seconds])
    facts = {"weights not 0 at the last": float(np.count_nonzero(found.W[-1]))}
    yield Result(f"sparse/L1 path {name} {len(PATH)} C", threads, sides, facts=facts)


# ---- memory, in a process of its own -----------------------------------------------------------


def peak(session: Session, name: str) -> Iterator[Result]:
    """Measure how much memory a fit takes besides the table."""
    folder = "" if session.data is None else str(session.data.resolve())
    sides = {}
    for who in (OURS, THEIRS) if has_sklearn(session) else (OURS,):
        words = "-m", "csoftmax.bench.sparse", who, name, folder
        measured = json.loads(python(*words))
        sides[who] = Samples([float(measured["peak"])])
    facts = {"MB of data": measured["data"] / 1e6}
    yield Result(f"sparse/L2 memory {name}", session.threads[-1], sides, "B", facts=facts)


def main(who: str, name: str, folder: str) -> dict[str, int]:
    """Fit with C = 1, twenty iterations at most; say how much the process grew at its peak."""
    table = table_of(name, Path(folder) if folder else None)
    model = import_module("sklearn.linear_model").LogisticRegression if who == THEIRS else None
    minimize(made_up(100, 50, 3), 1.0, max_iter=1)  # what it imports is no memory of a fit
    before = memory.begin()
    if model is None:
        minimize(table, 1.0, max_iter=20)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model(C=1.0, max_iter=20).fit(table.X, table.y)
    n_bytes = table.X.data.nbytes + table.X.indices.nbytes + table.X.indptr.nbytes
    return {"peak": memory.resident("VmHWM") - before, "data": int(n_bytes)}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
