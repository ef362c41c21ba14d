"""How fast the solver is: ``python -m csoftmax bench --solver``.

Every objective is scikit-learn's, computed in float64 by `objective`, whoever minimised it. The
peers get float32 features from 0 to 1, csoftmax the pixels as they are.
"""

from __future__ import annotations

import functools
import json
import math
import time
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.bench import peers
from csoftmax.bench.measure import REST_SECONDS, Samples, WrongResultError
from csoftmax.bench.processes import python
from csoftmax.bench.results import OURS, Result
from csoftmax.bench.session import Session
from csoftmax.bench.work import images
from csoftmax.solver.two_classes import softmax_C, softmax_form

Array = NDArray[Any]

ESTIMATORS = ("sklearn", "sklearnex")
SWEEP = np.logspace(-6, 5, 45)
SAMPLED = [0, 12, 24, 34, 44]  # 1e-6, 1e-3, 1, 316, 1e5: what the peers are timed at
QUICK_SWEEP, QUICK_SAMPLED = SWEEP[:25:6], [0, 4]
NEAR, VERY_NEAR = 1e-3, 1e-6
BLOCK_ROWS = 4096


def all_solver(session: Session) -> Iterator[tuple[str, Callable[[], Iterator[Result]]]]:
    """Yield the name of each measurement and what runs it."""
    yield "solver/as far as", functools.partial(as_far_as, session)
    yield "solver/near", functools.partial(near, session)
    yield "solver/defaults", functools.partial(defaults, session)
    yield "solver/sweep", functools.partial(sweep, session)
    yield "solver/folds", functools.partial(folds, session)
    yield "solver/classes", functools.partial(many_classes, session)


def objective(X: Array, y: Array, W: Array, b: Array, C: float, scale: float = 1.0) -> float:
    """Return scikit-learn's objective in float64, W class-major: mean loss and penalty.

    Examples
    --------
    >>> objective(np.eye(2), np.array([0, 1]), np.zeros((2, 2)), np.zeros(2), 1.0)
    0.6931471805599453
    """
    W, total = np.asarray(W, np.float64), 0.0
    for start in range(0, len(X), BLOCK_ROWS):
        rows, labels = X[start : start + BLOCK_ROWS], y[start : start + BLOCK_ROWS]
        logits = (rows.astype(np.float64) * scale) @ W.T + b
        logits -= logits.max(axis=1, keepdims=True)
        total += float(np.log(np.exp(logits).sum(axis=1)).sum())
        total -= float(logits[np.arange(len(labels)), labels].sum())
    return (total + float((W * W).sum()) / (2 * C)) / len(X)


def fitted_objective(estimator: Any, X: Array, y: Array, C: float) -> float:
    """Return the objective of a fitted estimator, scikit-learn's or ours, on labels 0, 1, ..."""
    coef = np.asarray(estimator.coef_, np.float64)
    W, b = softmax_form(coef, np.asarray(estimator.intercept_, np.float64))
    return objective(X, y, W, b, softmax_C(C, len(b)))


# ---- who takes part ----------------------------------------------------------------------------


class Images:
    """Fashion-MNIST as pixels for csoftmax, as numbers from 0 to 1 for the others; its optimum."""

    def __init__(self, quick: bool) -> None:
        X, y, _ = images(quick)
        self.X, self.y = X, y.astype(np.int64)
        self.matrix = (X * np.float32(1 / 255)).astype(np.float32)
        self.scale = 1 / 255
        best = self.minimize(tol=VERY_NEAR)
        self.optimum = self.objective(best.W[0], best.b[0], 1.0)

    def minimize(self, **options: Any) -> Any:
        solver = import_module("csoftmax.solver")
        with warnings.catch_warnings():  # that it has not converged shows in the objective
            warnings.simplefilter("ignore")
            return solver.minimize(self.X, self.y, 10, scale=self.scale, **options)

    def objective(self, W: Array, b: Array, C: float) -> float:
        return objective(self.X, self.y, W, b, C, self.scale)

    def seconds_to(self, target: float, threads: int, C: float = 1.0) -> float:
        """Return how long csoftmax takes to an objective, which is checked."""
        time.sleep(REST_SECONDS)
        started = time.perf_counter()
        found = self.minimize(
            C=C, tol=1e-9, n_threads=threads,
            callback=lambda progress: bool(progress.objective[0] <= target),
        )  # fmt: skip
        seconds = time.perf_counter() - started
        reached = self.objective(found.W[0], found.b[0], C)
        if not reached <= target * (1 + 1e-6):
            raise WrongResultError(f"{OURS}: objective {reached}, expected at most {target}")
        return seconds


@functools.lru_cache(maxsize=2)
def of_images(quick: bool) -> Images:
    return Images(quick)


def estimators(session: Session) -> Iterator[Any]:
    """Yield the peers that are chosen and installed: scikit-learn and its Intel extension."""
    for peer, name in ((peer, getattr(peer, "name", "")) for peer in session.all_peers()):
        if name in {peers.label(name) for name in ESTIMATORS}:
            yield peer


def timed_fit(peer: Any, threads: int, X: Array, y: Array, **options: Any) -> tuple[float, Any]:
    """Fit a peer's estimator; return seconds and the fitted estimator."""
    return timed(peer, threads, lambda: peer.estimator(**options).fit(X, y))


def timed(peer: Any, threads: int, run: Callable[[], Any]) -> tuple[float, Any]:
    time.sleep(REST_SECONDS)
    with warnings.catch_warnings(), peer.pinned(threads):
        warnings.simplefilter("ignore")
        started = time.perf_counter()
        result = run()
        return time.perf_counter() - started, result


# ---- what is measured --------------------------------------------------------------------------


def as_far_as(session: Session) -> Iterator[Result]:
    """Time csoftmax to the objective where each peer stops by default, after 100 iterations."""
    data, threads = of_images(session.quick), session.threads[-1]
    for peer in estimators(session):
        seconds, fitted = timed_fit(peer, threads, data.matrix, data.y)
        target = fitted_objective(fitted, data.matrix, data.y, 1.0)
        ours = [data.seconds_to(target, threads) for _ in range(session.rounds)]
        sides = {OURS: Samples(ours), peer.name: Samples([seconds])}
        facts = {
            "objective": target,
            "% above the optimum": 100 * (target / data.optimum - 1),
            "its iterations": float(np.max(fitted.n_iter_)),
        }
        yield Result(f"solver/as far as {peer.name}", threads, sides, facts=facts)


def near(session: Session) -> Iterator[Result]:
    """Time csoftmax to 1 %, 0.1 % and 0.01 % above the optimum."""
    data, threads = of_images(session.quick), session.threads[-1]
    for distance in (1e-2, NEAR, 1e-4):
        target = data.optimum * (1 + distance)
        ours = [data.seconds_to(target, threads) for _ in range(session.rounds)]
        yield Result(
            f"solver/near {100 * distance:g} %", threads, {OURS: Samples(ours)},
            facts={"objective": target},
        )  # fmt: skip


def tables(session: Session) -> Iterator[tuple[str, Array, Array]]:
    """Yield small and large data sets: names, float features, labels 0, 1, ..."""
    datasets = import_module("sklearn.datasets")
    for name in ("iris", "wine", "breast_cancer", "digits"):
        yield name, *getattr(datasets, f"load_{name}")(return_X_y=True)
    rng = np.random.default_rng(0)
    n, f, k = 2000 if session.quick else 20_000, 30, 4
    X = rng.standard_normal((n, f))
    y = np.argmax(X @ rng.standard_normal((f, k)) + rng.gumbel(size=(n, k)), axis=1)
    yield "ten decades", X * np.logspace(-5, 5, f), y
    data = of_images(session.quick)
    yield "images", data.matrix, data.y


def defaults(session: Session) -> Iterator[Result]:
    """Fit every table by the estimators as they come."""
    if peers.is_installed("sklearn"):
        for name, X, y in tables(session):
            yield fits_by_default(session, name, X, y)


def fits_by_default(session: Session, name: str, X: Array, y: Array) -> Result:
    """Fit one table by the estimators as they come: who ends lower, and in what time."""
    threads = session.threads[-1]
    classifier: Any = import_module("csoftmax").SoftmaxClassifier
    others = list(estimators(session))
    own: Any = peers.NumPy()
    sides: dict[str, Samples] = {OURS: Samples()}
    reached: dict[str, float] = {}
    for i in range(session.rounds):
        fit = functools.partial(classifier(n_threads=threads).fit, X, y)
        seconds, fitted = timed(own, threads, fit)
        sides[OURS].values.append(seconds)
        reached[OURS] = fitted_objective(fitted, X, y, 1.0)
        for peer in others:
            samples = sides.setdefault(peer.name, Samples())
            if i == 0 or samples.min < 1.0:
                seconds, fitted = timed_fit(peer, threads, X, y)
                samples.values.append(seconds)
                reached[peer.name] = fitted_objective(fitted, X, y, 1.0)
    facts = {f"{who} above us": reached[who] / reached[OURS] - 1 for who in sides if who != OURS}
    facts = {"objective": reached[OURS], **facts}
    return Result(f"solver/defaults {name}", threads, sides, facts=facts)


def sweep(session: Session, **of_the_peers: Any) -> Iterator[Result]:
    """Time 45 values of C along a path, one fit, and the peers at five of the values.

    How near each came is told by the same path to a tenth of the distance. The peers' estimators
    are made with the parameters `of_the_peers`.
    """
    data, threads = of_images(session.quick), session.threads[-1]
    values = QUICK_SWEEP if session.quick else SWEEP
    options: dict[str, Any] = {"path": True, "n_threads": threads, "max_iter": 20_000}
    sides = {OURS: Samples(), "one fit": Samples()}
    found: Any = None
    for _ in range(1 + session.rounds // 4):
        for name, Cs in (("one fit", np.ones(1)), (OURS, values)):
            time.sleep(REST_SECONDS)
            started = time.perf_counter()
            found = data.minimize(C=Cs, tol=NEAR, **options)
            sides[name].values.append(time.perf_counter() - started)
            if name == "one fit":
                one = data.objective(found.W[0], found.b[0], 1.0) / data.optimum - 1
    best = data.minimize(C=values, tol=NEAR / 10, **options)
    above = distances(data, found, best, values)
    facts = {
        "passes": float(found.n_passes),
        "times one fit": sides[OURS].min / sides["one fit"].min,
        "% above the optimum, one fit": 100 * one,
        "% above the optimum, the worst": 100 * max(above),
        "% by its own estimate, the worst": 100 * float((found.estimate / found.objective).max()),
        "true / estimated, the worst": float(np.max(above / (found.estimate / found.objective))),
        "passes to a tenth of the distance": float(best.n_passes),
        **{f"% above at C = {C:.1e}": 100 * a for C, a in zip(values, above, strict=True)},
    }
    for peer in estimators(session):
        seconds = []
        for i in QUICK_SAMPLED if session.quick else SAMPLED:
            C = float(values[i])
            target = data.objective(found.W[i], found.b[i], C)
            taken, fitted = timed_fit(peer, threads, data.matrix, data.y, C=C, **of_the_peers)
            reached = fitted_objective(fitted, data.matrix, data.y, C) / target - 1
            facts[f"{peer.name} above us at C = {C:.0e}"] = reached
            seconds.append(taken)
        # a peer that ended above our objective would take longer to come as low
        scaled = len(values) * sum(seconds) / len(seconds)
        sides[f"{peer.name}, a fit each"] = Samples([scaled])
    yield Result(f"solver/sweep {len(values)} C", threads, sides, facts=facts)


def distances(data: Images, found: Any, best: Any, values: Array) -> Array:
    """Return how far each head of `found` is above its optimum, for which `best` stands."""
    objectives = [
        [data.objective(solution.W[i], solution.b[i], float(C)) for i, C in enumerate(values)]
        for solution in (found, best)
    ]
    reached, nearer = np.array(objectives)
    return np.asarray(reached / nearer - 1)


def folds(session: Session) -> Iterator[Result]:
    """Time 5 folds of 10 C, on some images: pixels for csoftmax, C in their scale, and floats."""
    if not peers.is_installed("sklearn"):
        return
    data, threads = of_images(session.quick), session.threads[-1]
    rows = 300 if session.quick else 6000
    X, y, Cs = data.matrix[:rows], data.y[:rows], np.logspace(-4, 4, 10)
    classifier: Any = import_module("csoftmax").SoftmaxClassifierCV
    sides, facts = {}, {}
    pixels = data.X.reshape(len(data.X), -1)[:rows]
    forms = {OURS: (pixels, Cs * data.scale**2), "csoftmax on float32": (X, Cs)}
    for name, (features, values) in forms.items():
        fit = functools.partial(classifier(Cs=values, cv=5, n_threads=threads).fit, features, y)
        seconds, fitted = timed(peers.NumPy(), threads, fit)
        sides[name] = Samples([seconds])
        facts[f"best accuracy, {name}"] = _best_score(fitted)
    for peer in estimators(session):
        if peer.name == peers.label("sklearn"):  # the extension has none
            model: Any = import_module("sklearn.linear_model").LogisticRegressionCV
            options = {"Cs": Cs, "cv": 5, "use_legacy_attributes": True}
            if "use_legacy_attributes" not in model().get_params():
                del options["use_legacy_attributes"]
            fit = functools.partial(model(**options).fit, X, y)
            seconds, fitted = timed(peer, threads, fit)
            sides[peer.name] = Samples([seconds])
            facts[f"best accuracy, {peer.name}"] = _best_score(fitted)
    yield Result(f"solver/folds 5 x 10 C, {rows} images", threads, sides, facts=facts)


def _best_score(fitted: Any) -> float:
    scores = fitted.scores_
    scores = next(iter(scores.values())) if isinstance(scores, dict) else scores
    return float(np.mean(scores, axis=0).max())


def many_classes(session: Session) -> Iterator[Result]:
    """Fit many classes of float16 features in a process of its own: memory and passes."""
    n, f, k = (2000, 32, 20) if session.quick else (100_000, 768, 1000)
    measured = json.loads(python("-m", f"{__package__}.memory", "csoftmax", f"fit{n}x{f}x{k}"))
    allowed = 1.5 * measured["parameters"] * (2 * measured["history"] + 4) + 200e6
    facts = {
        "data": float(measured["data"]),
        "allowed above the data": allowed,
        "passes": measured["passes"],
        "seconds": measured["seconds"],
        "speed by that of the bare pass": measured["bare"] / measured["pass"],
        "estimated distance": measured["distance"],
    }
    if not math.isfinite(facts["estimated distance"]):
        raise WrongResultError(f"{OURS}: {n} x {f}, {k} classes: the fit came to nothing")
    sides = {OURS: Samples([float(measured["peak"])])}
    yield Result(f"solver/classes {n}x{f}x{k}", session.threads[-1], sides, "B", facts=facts)
