"""How many helper threads each kind of pass starts: none without a piece, nor for little work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import csoftmax as cs
from csoftmax import _kernels

Array = Any


@pytest.fixture(autouse=True)
def patient() -> Iterator[None]:
    """A busy machine does not send helpers away."""
    before = _kernels.wait_at_most(1e9)
    try:
        yield
    finally:
        _kernels.wait_at_most(before)


def helpers_of(run: Callable[[int], object], n_threads: int) -> int:
    before = _kernels.helpers_started()
    run(n_threads)
    return _kernels.helpers_started() - before


def row_pass(n: int, n_features: int, n_classes: int, kind: str, batch: int = 256) -> Any:
    """A pass over one row of float32, n times: the work of n rows without their memory."""
    X = np.broadcast_to(np.ones((1, n_features), np.float32), (n, n_features))
    W, b = np.zeros((n_classes, n_features), np.float32), np.zeros(n_classes, np.float32)
    dW, db, y = np.empty_like(W), np.empty_like(b), np.zeros(n, np.int64)

    def run(n_threads: int) -> object:
        if kind == "gradient":
            results: dict[str, Any] = {"y": y, "gradient": (dW, db)}
        elif kind == "epoch":
            results = {"y": y, "batch_rows": batch, "sgd": (0.1, 0.0, False, 0.0, None, None)}
        elif kind == "loss":
            results = {"y": y}
        else:
            results = {"predictions": np.empty(n, np.int64)}
        return _kernels.row_pass(X, W, b, 1.0, n_threads=n_threads, **results)

    return run


def softmax_pass(n: int, n_classes: int, kind: str) -> Any:
    logits = np.zeros((n, n_classes, 1), np.float32)
    out = np.empty_like(logits)
    losses = {"y": np.zeros(n, np.int64), "losses": np.empty(n, np.float32)}

    def run(n_threads: int) -> object:
        arguments = losses if kind == "cross_entropy" else {}
        return _kernels.softmax_pass(kind, logits, out, n_threads=n_threads, **arguments)

    return run


KINDS = ["gradient", "epoch", "loss", "predictions", "softmax", "log_softmax", "cross_entropy"]


@pytest.mark.parametrize("kind", KINDS)
def test_little_work_starts_none(isa: str, kind: str) -> None:
    """The iris flowers, a thousand rows of ten logits: microseconds of work."""
    run = (
        softmax_pass(1000, 10, kind)
        if "softmax" in kind or "cross" in kind
        else row_pass(150, 4, 3, kind)
    )
    assert [helpers_of(run, n) for n in (1, 2, 16, 1 << 20)] == [0, 0, 0, 0]


# (kind, rows, features, classes), and into how many pieces its phase is cut: see plan in
# row_plan.pxi and softmax_pass.pxi. None of these packs W.
PIECES = [
    ("gradient", 256, 70, 3, 2),  # parts of 128 rows
    ("gradient", 600, 70, 3, 5),
    ("gradient", 16_000, 70, 3, 8),  # partials, though 16 parts
    ("gradient", 100, 70, 3, 1),
    ("epoch", 1000, 70, 3, 2),  # parts of a batch of 256
    ("gradient", 300, 300, 2000, 5),  # feature pieces of 64, but 2 row pieces of 128
    ("epoch", 500, 300, 2000, 5),
    ("loss", 100, 70, 3, 4),  # row pieces of 32
    ("predictions", 33, 70, 3, 2),
    ("predictions", 32, 70, 3, 1),
    ("softmax", 1000, 10, None, 2),  # blocks of 32 rows, 25 of them a piece
    ("cross_entropy", 3000, 10, None, 4),
    ("log_softmax", 40, 3000, None, 20),  # two long rows a piece
    ("softmax", 0, 10, None, 0),
    ("gradient", 0, 70, 3, 0),
]


@pytest.mark.usefixtures("free_threads")
@pytest.mark.parametrize(("kind", "rows", "features", "classes", "pieces"), PIECES)
def test_never_more_threads_than_pieces(
    isa: str, kind: str, rows: int, features: int, classes: int | None, pieces: int
) -> None:
    """And as many, where they cost nothing."""
    if classes is None:
        run = softmax_pass(rows, features, kind)
    else:
        run = row_pass(rows, features, classes, kind)
    assert [helpers_of(run, n) for n in (1, 2)] == [0, min(1, max(pieces - 1, 0))]
    assert helpers_of(run, 64) == max(pieces - 1, 0)


@pytest.mark.parametrize("n_threads", [2, 3, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_much_work_starts_all(kind: str, n_threads: int) -> None:
    """At what threads cost: some 10 ms of work, in enough pieces."""
    if kind in ("softmax", "log_softmax", "cross_entropy"):
        run = softmax_pass(200_000, 50, kind)
    else:
        run = row_pass(16_000, 400, 100, kind, batch=4000)
    assert helpers_of(run, n_threads) == n_threads - 1


def test_more_threads_than_pay_are_not_started() -> None:
    """A millisecond keeps a few busy, not 64: each start takes a tenth of it, one after another."""
    run = row_pass(3000, 784, 20, "predictions")
    assert 1 <= helpers_of(run, 64) <= 4


def test_an_epoch_starts_its_helpers_once() -> None:
    """Not for each of its batches, of which each is worth a second thread, but not a third."""
    run = row_pass(10_000, 784, 10, "epoch")
    assert [helpers_of(run, n) for n in (2, 16)] == [1, 1]


def test_a_batch_must_be_worth_the_hand_over() -> None:
    """However many batches there are: of 256 rows and 4 features, each takes microseconds."""
    assert helpers_of(row_pass(200_000, 4, 3, "epoch"), 16) == 0
    assert helpers_of(row_pass(200_000, 4, 3, "epoch", batch=200_000), 16) > 0


def test_the_faces_start_as_few() -> None:
    """A model on a page of data: no helper for whatever it does, though all CPUs are offered."""
    data = cs.Dataset(np.ones((150, 4), np.float32), np.arange(150) % 3)
    before = _kernels.helpers_started()
    model = cs.SoftmaxRegression(4, 3, seed=0)
    cs.train(model, cs.DataLoader.from_dataset(data, 30), epochs=2, progress=False, n_threads=16)
    cs.evaluate(model, data, n_threads=16)
    model.predict_proba(data.X, n_threads=16)
    cs.SoftmaxClassifier(n_threads=16).fit(data.X, data.y).predict(data.X)
    assert _kernels.helpers_started() == before
