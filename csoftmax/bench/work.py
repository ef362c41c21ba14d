"""The pieces of work that are measured, with the FLOP and bytes that each cannot do without.

FLOP: of the matrix products, 2 per multiply-add; of softmax, some 5 per element. Bytes: every input
from memory once, every large result once; parameters and a minibatch stay in the caches.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import csoftmax as cs
from csoftmax.bench.peers import Task

SOFTMAX_FLOP = 5


@dataclass(frozen=True)
class Work:
    """One row of the table for each number of threads."""

    name: str
    kinds: tuple[str, ...]  # methods of the peers: the first is csoftmax's and the reference's
    task: Callable[[], Task]
    flop: float = 0.0
    n_bytes: int = 0
    traffic: str = "read"  # or "copy": as many bytes written as read

    @property
    def kind(self) -> str:
        return self.kinds[0]


def all_work(quick: bool) -> Iterator[Work]:
    """Yield the work in the order of the report."""
    yield from epochs(quick)
    yield from full_passes(quick)
    yield from many_classes(quick)
    yield from functions(quick)
    yield from predictions(quick)


@functools.cache
def images(quick: bool) -> tuple[Any, Any, str]:
    """Return X (n_samples, 784) uint8, y and where they come from; nothing is downloaded."""
    found = [p.found for p in cs.dataset_locations() if p.where != "bundled sample"]
    if not quick and any(found):
        train, _ = cs.fashion_mnist()
        return np.ascontiguousarray(train.X.reshape(len(train), -1)), train.y, "Fashion-MNIST"
    train, _ = cs.fashion_mnist_sample()
    X, times = train.X.reshape(len(train), -1), 1 if quick else 10
    return np.tile(X, (times, 1)), np.tile(train.y, times), "the bundled sample"


@functools.lru_cache(maxsize=1)
def image_task(quick: bool, dtype: str, batch_size: int = 256) -> Task:
    """Fashion-MNIST with parameters as the book starts from."""
    X, y, _ = images(quick)
    W, b = parameters(X.shape[1], 10)
    if dtype == "uint8":
        return Task(X, y, W, b, 1 / 255, batch_size)
    return Task((X * np.float32(1 / 255)).astype(dtype), y, W, b, 1.0, batch_size)


def parameters(n_features: int, n_classes: int) -> tuple[Any, Any]:
    """Return small random weights and zeros."""
    random = np.random.default_rng(0)
    W = random.standard_normal((n_features, n_classes), np.float32) * np.float32(0.01)
    return W, np.zeros(n_classes, np.float32)


@functools.lru_cache(maxsize=1)
def rows_task(n_samples: int, n_features: int, n_classes: int, dtype: str) -> Task:
    """Random features of unit variance, as a vision backbone's."""
    random = np.random.default_rng(1)
    X = random.standard_normal((n_samples, n_features), np.float32).astype(dtype, copy=False)
    return Task(X, random.integers(0, n_classes, n_samples), *parameters(n_features, n_classes))


@functools.lru_cache(maxsize=1)
def logits_task(n_samples: int, n_classes: int) -> Task:
    """Logits, and labels for them."""
    random = np.random.default_rng(2)
    X = random.standard_normal((n_samples, n_classes), np.float32)
    X *= 3
    return Task(X, random.integers(0, n_classes, n_samples), *parameters(1, 1))


def epochs(quick: bool) -> Iterator[Work]:
    """(a) A shuffled minibatch epoch, as the book trains."""
    n, j = images(quick)[0].shape
    for dtype, batch_size in (("uint8", 256), ("float32", 256), ("uint8", 32), ("uint8", 4096)):
        of_the_book = (dtype, batch_size) == ("uint8", 256)
        yield Work(
            f"epoch/{dtype}/batch {batch_size}",
            ("epoch", "epoch_of_the_book") if of_the_book else ("epoch",),
            functools.partial(image_task, quick, dtype, batch_size),
            4 * n * j * 10,
            n * j * np.dtype(dtype).itemsize + 16 * n,
        )


def full_passes(quick: bool) -> Iterator[Work]:
    """(b) Loss and gradient over the whole data set, what L-BFGS evaluates."""
    n, j = images(quick)[0].shape
    for dtype in ("uint8", "float32"):
        kinds = ("loss_and_gradient", "loss_and_gradient_by_fit")
        yield Work(
            f"pass/{dtype}/{n}x{j}x10",
            kinds if dtype == "uint8" else kinds[:1],
            functools.partial(image_task, quick, dtype),
            4 * n * j * 10,
            n * j * np.dtype(dtype).itemsize + 8 * n,
        )


def many_classes(quick: bool) -> Iterator[Work]:
    """(c) Features of a backbone, a hundred and a thousand classes."""
    for n, j, k in ((4096, 768, 100), (4096, 1024, 1000), (65536, 512, 100)):
        n = n // 16 if quick else n
        for dtype in ("float32", "float16"):
            yield Work(
                f"classes/{dtype}/{n}x{j}x{k}",
                ("loss_and_gradient",),
                functools.partial(rows_task, n, j, k, dtype),
                4 * n * j * k,
                n * j * np.dtype(dtype).itemsize + 8 * j * k,
            )


def functions(quick: bool) -> Iterator[Work]:
    """(d) The functions one by one."""
    for n, j, k in ((65536, 784, 10), (65536, 512, 100), (2048, 256, 32768)):
        n = n // 16 if quick else n
        yield Work(
            f"function/linear/{n}x{j}x{k}",
            ("linear",),
            functools.partial(rows_task, n, j, k, "float32"),
            2 * n * j * k,
            4 * (n * j + j * k + n * k),
            "copy" if k > j else "read",
        )
    for n, k in ((65536, 10), (65536, 100), (2048, 32768)):
        n = n // 16 if quick else n
        for kind in ("softmax", "log_softmax", "softmax_cross_entropy_grad"):
            task = functools.partial(logits_task, n, k)
            work = (SOFTMAX_FLOP * n * k, 8 * n * k, "copy")
            yield Work(f"function/{kind}/{n}x{k}", (kind,), task, *work)


def predictions(quick: bool) -> Iterator[Work]:
    """(e) Labels for many images and for one, and what a call of Python costs."""
    n, j = images(quick)[0].shape
    whole = functools.partial(image_task, quick, "uint8")
    n_bytes = n * j + 8 * n
    yield Work(f"predict/{n} images", ("predict",), whole, 2 * n * j * 10, n_bytes)

    def one() -> Task:
        p = whole()
        return Task(p.X[:1], p.y[:1], p.W, p.b, p.scale)

    yield Work("predict/one image", ("predict_one",), one)
    for n, k in ((1, 10), (256, 10)):
        yield Work(f"call/softmax {n}x{k}", ("small_call",), functools.partial(logits_task, n, k))
