"""Training gives the same bits on any number of threads, at once with another, in a child."""

from __future__ import annotations

import multiprocessing
import threading
from typing import Any

import pytest
from training_cases import state_of, synthetic

import csoftmax as cs

pytestmark = pytest.mark.usefixtures("free_threads")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("shape", "batch_size"),
    [((5000, 784, 10), 256), ((1300, 500, 300), 1200), ((4100, 200, 3), 4000)],
)
def test_bitwise_the_same_for_any_number_of_threads(
    isa: str, shape: tuple[int, int, int], batch_size: int, dtype: str
) -> None:
    data = synthetic(*shape)
    seen = set()
    for n_threads in (1, 2, 3, 8, 64, 2, None):
        model = cs.SoftmaxRegression(*shape[1:], seed=0, dtype=dtype)
        optimizer = cs.SGD(0.1, momentum=0.9, weight_decay=1e-4)
        loader = cs.DataLoader.from_dataset(data, batch_size, shuffle=True, seed=0)
        history = cs.train(
            model, loader, validation=data, epochs=1, optimizer=optimizer, n_threads=n_threads
        )
        figures = history.train_loss + history.train_accuracy + history.validation_loss
        metrics = cs.evaluate(model, data, n_threads=n_threads)
        seen.add((*state_of(model, optimizer), *figures, metrics.loss, str(metrics)))
    assert len(seen) == 1


def test_two_models_train_at_once(fashion_mnist: Any) -> None:
    train, _ = fashion_mnist
    data = cs.Dataset(train.X[:6000], train.y[:6000], train.scale)
    results: dict[int, Any] = {}

    def run(seed: int) -> None:
        model = cs.SoftmaxRegression(784, 10, seed=seed)
        loader = cs.DataLoader.from_dataset(data, 256, shuffle=True, seed=seed)
        cs.train(model, loader, validation=data, epochs=3, n_threads=2)
        results[seed] = state_of(model)

    for seed in (0, 1):
        run(seed)
    alone = dict(results)
    results.clear()
    threads = [threading.Thread(target=run, args=(seed,)) for seed in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == alone
    assert alone[0] != alone[1]


def _train_in_child(data: cs.Dataset, connection: Any) -> None:
    model = cs.SoftmaxRegression(784, 10, seed=0)
    cs.train(model, cs.DataLoader.from_dataset(data, 256), epochs=2, n_threads=2)
    connection.send(state_of(model))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_trains_like_its_parent(fashion_mnist: Any) -> None:
    train, _ = fashion_mnist
    data = cs.Dataset(train.X[:6000], train.y[:6000], train.scale)
    model = cs.SoftmaxRegression(784, 10, seed=0)
    cs.train(model, cs.DataLoader.from_dataset(data, 256), epochs=2, n_threads=2)
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=_train_in_child, args=(data, there))
    child.start()
    try:
        assert here.poll(60), "the child did not finish"
        assert here.recv() == state_of(model)
    finally:
        child.join(10)
        child.kill()
