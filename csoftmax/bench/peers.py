"""The sides of the comparison. Each peer says, for each kind of work, how it does it best.

A method named after the kind of work takes the `Task` and returns a `Side`; a peer without that
method does not take part. Other libraries are imported when a peer is made, never before.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

import csoftmax as cs
from csoftmax import reference
from csoftmax.bench.measure import Side
from csoftmax.engine.calls import shuffle

Array = Any


@dataclass
class Task:
    """The arrays of one piece of work. `X` is stored as csoftmax reads it."""

    X: Array  # (n_samples, n_features); the logits where the work begins with those
    y: Array
    W: Array
    b: Array
    scale: float = 1.0
    batch_size: int = 256

    @functools.cached_property
    def matrix(self) -> Array:
        """X as the peers need it: a ready, scaled float32 matrix."""
        if self.X.dtype == np.float32 and self.scale == 1:
            return self.X
        return np.multiply(self.X, np.float32(self.scale), dtype=np.float32)


class CSoftmax:
    """This package."""

    name = "csoftmax"

    def __init__(self) -> None:
        self.n_threads = 1

    @contextlib.contextmanager
    def pinned(self, n: int) -> Iterator[None]:
        self.n_threads = n
        yield

    def _side(self, run: Any) -> Side:
        return Side(self.name, run, self.pinned)

    def _model(self, p: Task) -> cs.SoftmaxRegression:
        model = cs.SoftmaxRegression(*p.W.shape, scale=p.scale, seed=0)
        model.W, model.b = p.W, p.b
        return model

    def epoch(self, p: Task) -> Side:
        loader = cs.DataLoader(p.X, p.y, p.batch_size, shuffle=True, seed=0, scale=p.scale)
        model, optimizer = self._model(p), cs.SGD(lr=0.1)

        def run() -> float:
            history = cs.train(
                model, loader, epochs=1, optimizer=optimizer, progress=False,
                n_threads=self.n_threads,
            )  # fmt: skip
            return history.train_loss[0]

        return self._side(run)

    def loss_and_gradient(self, p: Task) -> Side:
        W = self._model(p).W  # class-major, as every model's
        out = (np.empty_like(W), np.empty_like(p.b))
        return self._side(
            lambda: cs.linear_cross_entropy_grad(
                p.X, W, p.b, p.y, scale=p.scale, out=out, n_threads=self.n_threads
            )[:2]
        )

    def linear(self, p: Task) -> Side:
        W, out = self._model(p).W, np.empty((len(p.X), len(p.b)), np.float32)
        return self._side(
            lambda: cs.linear(p.X, W, p.b, scale=p.scale, out=out, n_threads=self.n_threads)
        )

    def softmax(self, p: Task) -> Side:
        out = np.empty_like(p.X)
        return self._side(lambda: cs.softmax(p.X, out=out, n_threads=self.n_threads))

    def log_softmax(self, p: Task) -> Side:
        out = np.empty_like(p.X)
        return self._side(lambda: cs.log_softmax(p.X, out=out, n_threads=self.n_threads))

    def softmax_cross_entropy_grad(self, p: Task) -> Side:
        out = np.empty_like(p.X)
        return self._side(
            lambda: cs.softmax_cross_entropy_grad(p.X, p.y, out=out, n_threads=self.n_threads)
        )

    def predict(self, p: Task) -> Side:
        model = self._model(p)
        return self._side(lambda: model.predict(p.X, n_threads=self.n_threads))

    def predict_one(self, p: Task) -> Side:
        predict, x = self._model(p).predict, p.X
        return self._side(lambda: predict(x))

    def small_call(self, p: Task) -> Side:
        return self._side(lambda: cs.softmax(p.X))


class NumPy:
    """The readable twin, or the few array operations that do the same without new arrays."""

    name = "NumPy"

    def __init__(self) -> None:
        self._controller: Any = importlib.import_module("threadpoolctl").ThreadpoolController()

    @contextlib.contextmanager
    def pinned(self, n: int) -> Iterator[None]:
        with self._controller.limit(limits=n):
            yield

    def _side(self, run: Any, name: str = name) -> Side:
        return Side(name, run, self.pinned)

    def epoch(self, p: Task) -> Side:
        X, W, b, random = p.matrix, p.W.copy(), p.b.copy(), np.random.default_rng(0)

        def run() -> float:
            order = shuffle(np.arange(len(X)), random)
            return reference.sgd_epoch(X, p.y, W, b, order, p.batch_size, 0.1)[0]

        return self._side(run)

    def loss_and_gradient(self, p: Task) -> Side:
        X = p.matrix
        return self._side(lambda: reference.linear_cross_entropy_grad(X, p.W, p.b, p.y)[:2])

    def linear(self, p: Task) -> Side:
        X, out = p.matrix, np.empty((len(p.X), len(p.b)), np.float32)

        def run() -> Array:
            np.matmul(X, p.W, out=out)
            return np.add(out, p.b, out=out)

        return self._side(run)

    def softmax(self, p: Task) -> Side:
        out = np.empty_like(p.X)

        def run() -> Array:
            np.subtract(p.X, p.X.max(axis=1, keepdims=True), out=out)
            np.exp(out, out=out)
            return np.divide(out, out.sum(axis=1, keepdims=True), out=out)

        return self._side(run)

    def log_softmax(self, p: Task) -> Side:
        out, scratch = np.empty_like(p.X), np.empty_like(p.X)

        def run() -> Array:
            np.subtract(p.X, p.X.max(axis=1, keepdims=True), out=out)
            np.exp(out, out=scratch)
            return np.subtract(out, np.log(scratch.sum(axis=1, keepdims=True)), out=out)

        return self._side(run)

    def softmax_cross_entropy_grad(self, p: Task) -> Side:
        out, rows = np.empty_like(p.X), np.arange(len(p.X))

        def run() -> tuple[float, Array]:
            np.subtract(p.X, p.X.max(axis=1, keepdims=True), out=out)
            picked = out[rows, p.y]
            np.exp(out, out=out)
            total = out.sum(axis=1, keepdims=True)
            loss = float(np.mean(np.log(total[:, 0]) - picked, dtype=np.float64))
            total *= len(rows)
            np.divide(out, total, out=out)
            out[rows, p.y] -= 1 / len(rows)
            return loss, out

        return self._side(run)

    def predict(self, p: Task) -> Side:
        X, out = p.matrix, np.empty((len(p.X), len(p.b)), np.float32)

        def run() -> Array:
            np.matmul(X, p.W, out=out)
            return np.add(out, p.b, out=out).argmax(axis=1)

        return self._side(run)

    predict_one = predict

    def small_call(self, p: Task) -> Side:
        side = self._side(lambda: np.exp(p.X), "numpy.exp")
        side.verify = lambda result: None  # one function fewer than softmax: a bound, not a rival
        return side


class Entry(NamedTuple):
    """Where a peer is found: its distribution, the name in tables, and our module and class."""

    distribution: str
    label: str
    module: str
    class_name: str


# by the name on the command line, which is that of the module to import
OTHERS = {
    "torch": Entry("torch", "PyTorch", "frameworks", "PyTorch"),
    "jax": Entry("jax", "JAX", "frameworks", "JAX"),
    "sklearn": Entry("scikit-learn", "scikit-learn", "estimators", "ScikitLearn"),
    "sklearnex": Entry(
        "scikit-learn-intelex", "scikit-learn-intelex", "estimators", "IntelExtension"
    ),
}
ALIASES = {"pytorch": "torch", "scikit-learn": "sklearn", "scikit-learn-intelex": "sklearnex"}


def chosen(peers: str) -> list[str]:
    """Return the names behind "all", "none" or "torch,jax".

    Examples
    --------
    >>> chosen("pytorch,jax"), chosen("none")
    (['torch', 'jax'], [])
    """
    if peers in ("all", "none"):
        return list(OTHERS) if peers == "all" else []
    names = [name.strip().lower() for name in peers.split(",") if name.strip()]
    names = [ALIASES.get(name, name) for name in names]
    for name in names:
        if name not in OTHERS:
            raise ValueError(
                f'peers has "{name}", expected all, none or some of {", ".join(OTHERS)}'
            )
    return names


def versions() -> dict[str, str | None]:
    """Return the version of each peer and of threadpoolctl, None where it is not installed."""
    distributions = [*(entry.distribution for entry in OTHERS.values()), "threadpoolctl"]
    return {"numpy": np.__version__, **{name: _version(name) for name in distributions}}


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def is_installed(name: str) -> bool:
    """Is the module of this peer there? It is not imported."""
    return importlib.util.find_spec(name) is not None


def make(name: str) -> Any:
    """Import a peer's library and return the peer."""
    entry = OTHERS[name]
    return getattr(importlib.import_module(f"{__package__}.{entry.module}"), entry.class_name)()


def label(name: str) -> str:
    """Return the name in tables of a peer, or of something else that is not installed."""
    return OTHERS[name].label if name in OTHERS else name
