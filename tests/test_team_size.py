"""How many helper threads are started: none without a piece, none that costs more than it saves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_iris

import csoftmax as cs
from csoftmax import _kernels

Array = Any
MOST = 16


@pytest.fixture(autouse=True)
def nobody_goes_alone() -> Iterator[None]:
    """A thread that loses its CPU sends the helpers away for a while, which is not counted here."""
    before = _kernels.wait_at_most(10.0)
    yield
    _kernels.wait_at_most(before)


def started(run: Callable[[], object]) -> int:
    """Return how many helpers a call starts."""
    before = _kernels.helpers_started()
    run()
    return _kernels.helpers_started() - before


def passes(n: int, j: int, k: int) -> dict[str, Callable[[int], object]]:
    """Each way into the compiled code, on n rows of j pixels and k classes."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (n, j)).astype(np.uint8)
    W, b = np.zeros((k, j), np.float32), np.zeros(k, np.float32)
    y, order = rng.integers(0, k, n), rng.permutation(n)
    dW, db, predictions = np.empty_like(W), np.empty_like(b), np.empty(n, np.int64)
    logits = rng.normal(size=(n, k, 1)).astype(np.float32)
    probs = np.empty_like(logits)
    sgd = (0.1, 0.0, False, 0.0, None, None)
    return {
        "gradient": lambda m: _kernels.row_pass(
            X, W, b, 1 / 255, y=y, gradient=(dW, db), n_threads=m
        ),
        "epoch": lambda m: _kernels.row_pass(
            X, W.copy(), b.copy(), 1 / 255, y=y, order=order, batch_rows=256, sgd=sgd, n_threads=m
        ),
        "predict": lambda m: _kernels.row_pass(
            X, W, b, 1 / 255, predictions=predictions, n_threads=m
        ),
        "softmax": lambda m: _kernels.softmax_pass("softmax", logits, probs, n_threads=m),
    }


NAMES = ["gradient", "epoch", "predict", "softmax"]


@pytest.mark.parametrize("name", NAMES)
def test_little_work_stays_on_the_caller(isa: str, name: str) -> None:
    assert started(lambda: passes(150, 4, 3)[name](MOST)) == 0


@pytest.mark.parametrize("name", NAMES)
def test_one_piece_has_no_helper(isa: str, name: str, threads_cost_nothing: None) -> None:
    """Even where threads cost nothing: they would find nothing to do."""
    run = passes(4, 7, 3)[name]
    assert started(lambda: run(MOST)) <= (1 if name == "epoch" else 0)


@pytest.mark.parametrize("name", NAMES)
def test_much_work_has_helpers_and_no_more_than_asked_for(isa: str, name: str) -> None:
    n, k = (20_000, 400) if name == "softmax" else (4000, 200)
    run = passes(n, 300, k)[name]
    assert started(lambda: run(1)) == 0
    assert started(lambda: run(2)) == 1
    # a third thread may cost an epoch more, in its waits, than it saves
    assert 1 <= started(lambda: run(3)) <= 2


@pytest.mark.parametrize("name", NAMES)
def test_more_work_has_more_helpers(name: str) -> None:
    counts = [started(lambda n=n: passes(n, 784, 10)[name](MOST)) for n in (1000, 8000, 60_000)]  # type: ignore[misc]
    assert counts == sorted(counts)
    assert counts[-1] < MOST


def test_a_small_fit_starts_nobody() -> None:
    X, y = load_iris(return_X_y=True)
    assert started(lambda: cs.SoftmaxClassifier(n_threads=MOST).fit(X, y)) == 0
    model = cs.SoftmaxRegression(4, 3, seed=0)
    batches = cs.DataLoader(X, y, 16, shuffle=True, seed=0)
    assert started(lambda: cs.train(model, batches, epochs=3, n_threads=MOST, progress=False)) == 0
