"""Training in compiled code against the plain loop, and what happens when something goes wrong."""

from __future__ import annotations

import contextlib
import copy
import csv
import math
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import csoftmax as cs
from csoftmax import functional, reference

Array = Any
RULES = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "nesterov": {"momentum": 0.8, "nesterov": True},
    "weight decay": {"weight_decay": 0.01},
    "all": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.001},
}


def stored_as(X: Array, dtype: Any) -> tuple[Array, float]:
    """Pixels 0..255 in another type, and the scale that makes them 0..1 again."""
    X = X.reshape(len(X), -1)
    if np.dtype(dtype).kind == "f":
        return (X / 255).astype(dtype), 1.0
    return X.astype(dtype), 1 / 255


def synthetic(n: int, j: int, k: int, dtype: Any = np.uint8) -> cs.Dataset:
    rng = np.random.default_rng([n, j, k])
    X = rng.integers(0, 256, (n, j), dtype=np.uint8)
    y = (X[:, : max(1, j // 3)].astype(np.int64).sum(axis=1) + rng.integers(0, 2, n)) % k
    stored, scale = stored_as(X, dtype)
    return cs.Dataset(stored, y, scale)


def state_of(model: cs.SoftmaxRegression, optimizer: cs.SGD | None = None) -> tuple[Any, ...]:
    """All that training changes, as bytes."""
    velocities = () if optimizer is None else optimizer.velocities_of(model)
    return (model.scale, *(a.tobytes() for a in (model.W, model.b, *velocities)))


# ---------------------------------------------------------------- the same as the plain loop


class Trained(NamedTuple):
    W: Array
    b: Array
    losses: Array  # of the epochs
    accuracies: Array


EPOCHS = 3
_already: dict[Any, Trained] = {}


def plain_training(
    model: cs.SoftmaxRegression, loader: cs.DataLoader, dtype: str, lr: float, rule: dict[str, Any]
) -> Trained:
    """Train copies of the parameters by reference.sgd_epoch; once for all instruction sets."""
    key = (
        hash(loader.X.tobytes()), loader.X.dtype, loader.batch_size, model.W.tobytes(), dtype, lr,
        tuple(rule.items()),
    )  # fmt: skip
    if key not in _already:
        W, b = model.W.astype(dtype), model.b.astype(dtype)
        velocity = np.zeros_like(W), np.zeros_like(b)
        X = loader.X.reshape(len(loader.X), -1)
        epochs = [
            reference.sgd_epoch(
                X, loader.y, W, b, loader.epoch_order(), loader.batch_size, lr,
                scale=loader.scale, velocity=velocity, **rule,
            )
            for _ in range(EPOCHS)
        ]  # fmt: skip
        _already[key] = Trained(W, b, *np.array(epochs).T)
    return _already[key]


def check_against_plain(
    data: cs.Dataset, batch_size: int, dtype: str, *, lr: float = 0.1, **rule: Any
) -> None:
    """Let compiled float32 be twice as far from the truth, NumPy's float64, as NumPy's float32.

    Compiled float64 may differ from that truth by the order of the sums.
    """

    def loader() -> cs.DataLoader:
        return cs.DataLoader.from_dataset(data, batch_size, shuffle=True, seed=2)

    model = cs.SoftmaxRegression(data.n_features, int(data.y.max()) + 1, seed=1, dtype=dtype)
    truth = plain_training(model, loader(), "float64", lr, rule)
    plain = plain_training(model, loader(), dtype, lr, rule)
    optimizer = cs.SGD(lr, **rule)
    history = cs.train(model, loader(), epochs=EPOCHS, optimizer=optimizer, n_threads=2)
    trained = model.W, model.b, np.array(history.train_loss)
    for got, theirs, true in zip(trained, plain[:3], truth[:3], strict=True):
        size = abs(true).max()
        assert size > 1e-3
        room = 1e-11 * size
        if dtype == "float32":
            room = 2 * abs(theirs - true).max() + 64 * np.finfo(np.float32).eps * size
            assert room < 1e-3 * size
        assert abs(got - true).max() <= room
    # a tie to rounding may fall either way
    assert abs(history.train_accuracy - truth.accuracies).max() * len(data) <= 3


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_rule(isa: str, fashion_mnist: Any, dtype: str, rule: str) -> None:
    train, _ = fashion_mnist
    data = cs.Dataset(train.X[:2500], train.y[:2500], train.scale)
    check_against_plain(data, 256, dtype, **RULES[rule])


@pytest.mark.parametrize("batch_size", [1, 32, 1000, 1100, 2500, 10**15])
def test_every_batch_size(isa: str, fashion_mnist: Any, batch_size: int) -> None:
    """Short last batches, batches beyond the block of 1024 rows, and all samples in one batch."""
    train, _ = fashion_mnist
    n = 500 if batch_size == 1 else 2500
    data = cs.Dataset(train.X[:n], train.y[:n], train.scale)
    lr = min(1e-3 * batch_size, 0.1)  # steps that grow instead would blow rounding up
    check_against_plain(data, batch_size, "float32", lr=lr, momentum=0.9, weight_decay=0.01)


@pytest.mark.parametrize(
    "stored", [np.bool_, np.uint8, np.int64, np.float16, np.float32, np.float64]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_stored_type(isa: str, fashion_mnist: Any, stored: Any, dtype: str) -> None:
    train, _ = fashion_mnist
    X, scale = stored_as(train.X[:1000], stored)
    check_against_plain(cs.Dataset(X, train.y[:1000], scale), 128, dtype, momentum=0.5)


@pytest.mark.parametrize("shape", [(700, 1, 2), (3000, 33, 2), (3000, 17, 300), (2200, 50, 1000)])
@pytest.mark.parametrize("batch_size", [100, 2100])
def test_every_number_of_classes(isa: str, shape: tuple[int, int, int], batch_size: int) -> None:
    """Of 300 classes and more, a batch of 2100 is cut into blocks of fewer than 1024 rows."""
    check_against_plain(synthetic(*shape, np.float32), batch_size, "float32", momentum=0.9)


@pytest.mark.parametrize("layout", ["strided", "transposed", "byte-swapped", "read-only"])
def test_every_layout(isa: str, layout: str) -> None:
    data = synthetic(1500, 40, 5, np.float32)
    X = data.X
    if layout == "strided":
        X = np.repeat(np.repeat(X, 2, axis=0), 3, axis=1)[::2, ::3]
    elif layout == "transposed":
        X = np.array(X, order="F")
    elif layout == "byte-swapped":
        X = X.astype(">f4")
    else:
        X.flags.writeable = False
    straight, awkward = (cs.SoftmaxRegression(40, 5, seed=0) for _ in range(2))
    for model, stored in ((straight, data.X), (awkward, X)):
        loader = cs.DataLoader(stored, data.y, 64, shuffle=True, seed=1)
        cs.train(model, loader, epochs=2)
    assert state_of(straight) == state_of(awkward)


def test_many_batches_of_real_data(isa: str, fashion_mnist: Any) -> None:
    train, _ = fashion_mnist
    check_against_plain(cs.Dataset(train.X[:20_000], train.y[:20_000], train.scale), 256, "float32")


@pytest.mark.parametrize("rule", RULES)
def test_step_by_step_through_the_functions(isa: str, fashion_mnist: Any, rule: str) -> None:
    """The Python loop that anybody can write over csoftmax.functional, two ways."""
    train, _ = fashion_mnist
    data = cs.Dataset(train.X[:6000], train.y[:6000], train.scale)
    options = RULES[rule]
    momentum, decay = options.get("momentum", 0.0), options.get("weight_decay", 0.0)
    model = cs.SoftmaxRegression(784, 10, seed=1)
    fused = {"W": model.W.copy(), "b": model.b.copy()}
    apart = {"W": model.W.copy(), "b": model.b.copy()}
    loaders = [cs.DataLoader.from_dataset(data, 256, shuffle=True, seed=2) for _ in range(2)]
    velocities = [{name: np.zeros_like(a) for name, a in fused.items()} for _ in range(2)]
    losses = []
    for _ in range(3):
        total = 0.0
        for X, y in loaders[0]:
            mean, dW, db = functional.linear_cross_entropy_grad(X, fused["W"], fused["b"], y)
            total += mean * len(y)
            features = X.reshape(len(X), -1)
            logits = functional.linear(features, apart["W"], apart["b"])
            _, dlogits = functional.softmax_cross_entropy_grad(logits, y)
            by_hand = {"W": features.T @ dlogits, "b": dlogits.sum(axis=0)}
            steps = ((fused, {"W": dW, "b": db}), (apart, by_hand))
            for v, (parameters, gradients) in zip(velocities, steps, strict=True):
                for name, parameter in parameters.items():
                    g = gradients[name] + (decay * parameter if name == "W" else 0)
                    v[name] = momentum * v[name] + g
                    parameter -= 0.1 * (
                        g + momentum * v[name] if "nesterov" in options else v[name]
                    )
        losses.append(total / len(data))
    history = cs.train(model, loaders[1], epochs=3, optimizer=cs.SGD(0.1, **options))
    assert_allclose(history.train_loss, losses, rtol=1e-5)
    for parameters in (fused, apart):
        for got, name in ((model.W, "W"), (model.b, "b")):
            size = abs(parameters[name]).max()
            assert_allclose(got, parameters[name], atol=1e-4 * size)


def test_raw_images_train_like_the_books_batches(fashion_mnist: Any) -> None:
    """Pixels with their scale, or the floats that the loader makes of them: the same to predict."""
    train, test = fashion_mnist
    loader = cs.DataLoader(
        train.X[:3000], train.y[:3000], 100, shuffle=True, seed=0, scale=train.scale
    )
    raw, floats = (cs.SoftmaxRegression(784, 10, seed=0) for _ in range(2))
    cs.train(raw, loader, epochs=3)
    assert raw.scale == 1 / 255
    X = (train.X[:3000] / np.float32(255)).astype(np.float32)
    cs.train(floats, cs.DataLoader(X, train.y[:3000], 100, shuffle=True, seed=0), epochs=3)
    assert floats.scale == 1.0  # float data say nothing of the scale of integers
    assert_allclose(raw.W, floats.W, atol=1e-5)
    batch, _ = next(iter(cs.DataLoader.from_dataset(test, 1000)))
    assert_allclose(raw(test.X[:1000]), raw(batch), atol=1e-5)
    disagree = np.count_nonzero(raw.predict(test.X[:1000]) != floats.predict(batch))
    assert disagree <= 1  # a tie to rounding


# ---------------------------------------------------------------- reproducibility


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("shape", "batch_size"),
    [((20_000, 784, 10), 256), ((3000, 500, 300), 1200), ((4100, 200, 3), 4000)],
)
def test_bitwise_the_same_for_any_number_of_threads(
    isa: str, shape: tuple[int, int, int], batch_size: int, dtype: str
) -> None:
    data = synthetic(*shape)
    if isa == "scalar":
        data = cs.Dataset(data.X[:4000], data.y[:4000], data.scale)
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


_MEMORY_PROGRAM = """
import resource, numpy as np, csoftmax as cs
X = np.random.default_rng(0).integers(0, 256, (60_000, 784), dtype=np.uint8)
y = np.arange(60_000) % 10
model = cs.SoftmaxRegression(784, 10, scale=1 / 255)
small = cs.Dataset(X[:300], y[:300], 1 / 255)
cs.train(model, small, validation=small, epochs=1, n_threads=2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
data = cs.Dataset(X, y, 1 / 255)
cs.train(model, data, validation=data, epochs=2, n_threads=2)
cs.evaluate(model, data, n_threads=2)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_no_float_copy_of_the_data_is_made() -> None:
    """As float32 the data would take 188 MB more; orders, labels and thread stacks take a few."""
    run = subprocess.run(
        [sys.executable, "-c", _MEMORY_PROGRAM], capture_output=True, text=True, check=True
    )
    assert int(run.stdout) < 20_000  # kB


# ---------------------------------------------------------------- orders


class OrderedLoader(cs.DataLoader):
    """A loader with a sampler of one's own."""

    order: Any = None

    def epoch_order(self) -> Any:
        return self.order


def ordered(order: Any) -> OrderedLoader:
    data = synthetic(50, 6, 3)
    loader = OrderedLoader(data.X, data.y, 8, scale=data.scale)
    loader.order = order
    return loader


@pytest.mark.parametrize(
    ("order", "error", "message"),
    [
        (np.array([0, 50]), ValueError, r"epoch_order\(\)\[1\] is 50, expected .* 0..49"),
        (np.array([0, 3, -1]), ValueError, r"epoch_order\(\)\[2\] is -1"),
        (np.array([2**63 - 1]), ValueError, "is 9223372036854775807"),
        (np.array([2**64 - 1], np.uint64), ValueError, "is 18446744073709551615"),
        (np.arange(50.0), TypeError, r"epoch_order\(\) has dtype float64"),
        (np.array(["0"]), TypeError, "dtype <U1"),
        (np.arange(50).reshape(5, 10), ValueError, r"shape \(5, 10\)"),
        (np.array([], np.int64), ValueError, "an epoch of 0 samples"),
        (3, ValueError, r"shape \(\)"),
    ],
)
def test_an_order_that_points_elsewhere_is_refused(
    order: Any, error: type[Exception], message: str
) -> None:
    model = cs.SoftmaxRegression(6, 3, seed=0)
    before = state_of(model)
    with pytest.raises(error, match=message):
        cs.train(model, ordered(order))
    assert state_of(model) == before


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8, list, "strided"])
def test_an_order_may_leave_out_and_repeat_samples(kind: Any) -> None:
    chosen = [3, 3, 7, 49, 0, 3, 12, 30, 31, 5, 5]
    order: Any = chosen
    if kind == "strided":
        order = np.repeat(np.array(chosen), 2)[::2]
    elif kind is not list:
        order = np.array(chosen, kind)
    loader = ordered(order)
    model, plain = (cs.SoftmaxRegression(6, 3, seed=0, dtype="float64") for _ in range(2))
    history = cs.train(model, loader, epochs=1)
    loss, accuracy = reference.sgd_epoch(
        loader.X, loader.y, plain.W, plain.b, chosen, 8, 0.1, scale=loader.scale
    )
    assert_allclose(model.W, plain.W, rtol=1e-12)
    assert_allclose(history.train_loss, [loss], rtol=1e-12)
    assert history.train_accuracy == [accuracy]
    assert_allclose(history.samples_per_second[0] * history.seconds[0], len(chosen))


# ---------------------------------------------------------------- data that changed or do not fit


def spoiled(**changes: Any) -> cs.DataLoader:
    loader = cs.DataLoader.from_dataset(synthetic(50, 6, 3), 8)
    for name, value in changes.items():
        setattr(loader, name, value)
    return loader


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"y": np.full(50, 3)}, ValueError, r"\.y\[0\] is 3, expected an integer in 0..2"),
        ({"y": np.full(50, -1)}, ValueError, r"\.y\[0\] is -1"),
        ({"y": np.zeros(50)}, TypeError, r"\.y has dtype float64"),
        ({"y": np.zeros(49, int)}, ValueError, r"\.y has 49 labels but there are 50 samples"),
        ({"X": np.zeros((50, 5))}, ValueError, r"\.X has 5 features but the model has 6"),
        ({"X": np.zeros((50, 6), complex)}, TypeError, r"\.X has dtype complex128"),
        ({"scale": float("nan")}, ValueError, r"\.scale is nan"),
    ],
)
def test_a_loader_that_was_changed_is_checked_again(
    changes: Any, error: type[Exception], message: str
) -> None:
    model = cs.SoftmaxRegression(6, 3, seed=0)
    before, good = state_of(model), synthetic(50, 6, 3)
    with pytest.raises(error, match="train_data" + message):
        cs.train(model, spoiled(**changes))
    with contextlib.suppress(KeyError), pytest.raises(error, match="data" + message):
        cs.evaluate(model, spoiled(**changes))
    if "scale" not in changes:
        with pytest.raises(error, match="validation" + message):
            cs.train(model, good, validation=spoiled(**changes))
        assert state_of(model) == before


@pytest.mark.parametrize(
    ("batch_size", "error"), [(0, ValueError), (-3, ValueError), (2.0, TypeError)]
)
def test_a_changed_batch_size_is_checked(batch_size: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"train_data\.batch_size is"):
        cs.train(cs.SoftmaxRegression(6, 3), spoiled(batch_size=batch_size))


@pytest.mark.parametrize("label", [99, -1, 3, 2**63 - 1, -(2**63)])
def test_labels_changed_between_two_epochs_are_refused(label: int) -> None:
    model, optimizer = cs.SoftmaxRegression(6, 3, seed=0), cs.SGD(0.1, momentum=0.9)
    loader = cs.DataLoader.from_dataset(synthetic(50, 6, 3), 8, shuffle=True)
    after_first: list[Any] = []

    def spoil(model: cs.SoftmaxRegression, history: cs.History) -> None:
        after_first.append(state_of(model, optimizer))
        loader.y[7] = label

    with pytest.raises(ValueError, match=rf"train_data\.y\[7\] is {label}"):
        cs.train(model, loader, epochs=3, optimizer=optimizer, callbacks=[spoil])
    assert [state_of(model, optimizer)] == after_first
    with pytest.raises(ValueError, match=rf"data\.y\[7\] is {label}"):
        cs.evaluate(model, loader)


GOOD_DATA = synthetic(50, 6, 3)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"train_data": [1, 2]}, TypeError, "train_data is a list, expected a DataLoader"),
        ({"train_data": (1, 2, 3)}, TypeError, "train_data is a tuple"),
        ({"train_data": None}, TypeError, "train_data is a NoneType"),
        ({"train_data": (np.zeros((2, 6)), [0, 3])}, ValueError, r"train_data\.y\[1\] is 3"),
        ({"train_data": (np.zeros((0, 6)), [])}, ValueError, "train_data has 0 samples"),
        ({"train_data": (np.zeros((2, 7)), [0, 1])}, ValueError, "train_data.X has 7 features"),
        ({"validation": 3}, TypeError, "validation is a int"),
        ({"validation": (np.zeros((2, 6)), [0, 3])}, ValueError, r"validation\.y\[1\] is 3"),
        ({"epochs": 0}, ValueError, "epochs is 0, expected at least 1"),
        ({"epochs": 1.0}, TypeError, "epochs is a float"),
        ({"optimizer": 0.1}, TypeError, "optimizer is a float, expected csoftmax.SGD"),
        ({"callbacks": print}, TypeError, "callbacks is a builtin_function_or_method"),
        ({"callbacks": [print, 5]}, TypeError, "callbacks has a int, expected functions"),
        ({"n_threads": 0}, ValueError, "n_threads is 0"),
        ({"n_threads": "2"}, TypeError, "n_threads is a str"),
        ({"model": None}, TypeError, "model is a NoneType, expected a SoftmaxRegression"),
    ],
)
def test_bad_arguments_change_nothing(options: Any, error: type[Exception], message: str) -> None:
    model = cs.SoftmaxRegression(6, 3, seed=0)
    before = state_of(model)
    arguments = {"model": model, "train_data": GOOD_DATA, **options}
    with pytest.raises(error, match=message):
        cs.train(**arguments)
    assert state_of(model) == before


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"lr": 0}, ValueError, "lr is 0.0, expected a number > 0"),
        ({"lr": -0.1}, ValueError, "lr is -0.1, expected a number > 0"),
        ({"lr": float("nan")}, ValueError, "lr is nan"),
        ({"lr": "0.1"}, TypeError, "lr is a str"),
        (
            {"lr": 0.1, "momentum": 1.0},
            ValueError,
            r"momentum is 1.0, expected a number in \[0, 1\)",
        ),
        ({"lr": 0.1, "momentum": -0.5}, ValueError, "momentum is -0.5"),
        ({"lr": 0.1, "weight_decay": -1}, ValueError, "weight_decay is -1.0"),
        ({"lr": 0.1, "nesterov": True}, ValueError, "nesterov is True but momentum is 0"),
    ],
)
def test_bad_optimizers(options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        cs.SGD(**options)


@pytest.mark.parametrize("lr", [0.0, math.nan])
def test_a_learning_rate_changed_for_the_worse_is_refused_too(lr: float) -> None:
    model, optimizer = cs.SoftmaxRegression(6, 3, seed=0), cs.SGD(0.1)
    optimizer.lr = lr
    before = state_of(model)
    with pytest.raises(ValueError, match=f"lr is {lr}, expected"):
        cs.train(model, GOOD_DATA, optimizer=optimizer)
    assert state_of(model) == before


def test_copies_of_an_optimizer_start_without_velocities() -> None:
    model, optimizer = cs.SoftmaxRegression(6, 3, seed=0), cs.SGD(0.1, 0.9, True, 0.01)
    cs.train(model, GOOD_DATA, epochs=1, optimizer=optimizer)
    assert any(abs(v).max() > 0 for v in optimizer.velocities_of(model))
    for other in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert repr(other) == repr(optimizer)
        assert all(abs(v).max() == 0 for v in other.velocities_of(model))
    assert cs.SGD(0.1).velocities_of(model) == ()


def test_velocities_last_from_one_call_to_the_next_and_belong_to_one_model() -> None:
    def loader() -> cs.DataLoader:
        return cs.DataLoader.from_dataset(GOOD_DATA, 8)

    once, twice, other = (cs.SoftmaxRegression(6, 3, seed=0) for _ in range(3))
    cs.train(once, loader(), epochs=4, optimizer=cs.SGD(0.1, momentum=0.9))
    optimizer = cs.SGD(0.1, momentum=0.9)
    cs.train(twice, loader(), epochs=2, optimizer=optimizer)
    cs.train(other, loader(), epochs=4, optimizer=optimizer)
    cs.train(twice, loader(), epochs=2, optimizer=optimizer)
    assert state_of(once) == state_of(twice) == state_of(other)


# ---------------------------------------------------------------- the scale


def test_a_bare_pair_of_integers_has_the_models_scale() -> None:
    data = GOOD_DATA
    by_data, by_model = (cs.SoftmaxRegression(6, 3, seed=0, scale=s) for s in (None, data.scale))
    histories = [
        cs.train(by_data, data, validation=(data.X, data.y), epochs=2, optimizer=cs.SGD(1e-30)),
        cs.train(by_model, (data.X, data.y), validation=data, epochs=2, optimizer=cs.SGD(1e-30)),
    ]
    assert by_data.scale == by_model.scale == data.scale
    losses = [history.validation_loss for history in histories]
    assert losses[0] == losses[1]
    assert_allclose(histories[0].train_loss, losses[0], rtol=1e-6)  # with this lr, the same
    assert cs.evaluate(by_model, (data.X, data.y)).loss == losses[0][0]
    floats = cs.evaluate(by_model, ((data.X * data.scale).tolist(), data.y.tolist()))
    assert_allclose(floats.loss, losses[0][0], rtol=1e-5)
    mixed = cs.train(
        by_model, (data.X * data.scale, data.y), validation=(data.X, data.y), epochs=1,
        optimizer=cs.SGD(1e-30),
    )  # fmt: skip
    assert_allclose(mixed.validation_loss, losses[0][:1], rtol=1e-6)


def test_the_models_scale_goes_before_that_of_the_data_and_it_is_told() -> None:
    model = cs.SoftmaxRegression(6, 3, seed=0, scale=0.5)
    other = cs.Dataset(GOOD_DATA.X, GOOD_DATA.y, 0.25)
    pair = (other.X, other.y)
    with pytest.warns(UserWarning, match="data.scale is 0.25 but the model's is 0.5") as warned:
        told = cs.evaluate(model, other)
    assert warned[0].filename == __file__
    assert told.loss == cs.evaluate(model, pair).loss
    assert_array_equal(told.confusion.sum(axis=0), np.bincount(model.predict(other.X), minlength=3))
    expected = cs.SoftmaxRegression(6, 3, seed=0, scale=0.5)
    cs.train(expected, pair, epochs=1)
    with pytest.warns(UserWarning, match="train_data.scale is 0.25") as warned:
        cs.train(model, other, validation=pair, epochs=1)
    assert warned[0].filename == __file__
    assert model.scale == 0.5
    with pytest.warns(UserWarning, match="data.scale is 0.25"):
        cs.train(model, pair, validation=other, epochs=1)


def test_a_model_without_a_scale_takes_that_of_the_data() -> None:
    """Such as one that was trained on floats: it says nothing of integers."""
    model = cs.SoftmaxRegression(6, 3, seed=0)
    floats = (GOOD_DATA.X * GOOD_DATA.scale).astype(np.float32)
    cs.train(model, (floats, GOOD_DATA.y), epochs=1)
    loss = cs.evaluate(model, (floats, GOOD_DATA.y)).loss
    assert_allclose(cs.evaluate(model, GOOD_DATA).loss, loss, rtol=1e-5)
    assert model.scale == 1.0
    cs.train(model, GOOD_DATA, epochs=1)
    assert model.scale == GOOD_DATA.scale


# ---------------------------------------------------------------- history, callbacks, progress


def test_callbacks_see_every_epoch_and_can_stop() -> None:
    model = cs.SoftmaxRegression(6, 3, seed=0)
    seen: list[Any] = []

    def watch(given: cs.SoftmaxRegression, history: cs.History) -> str:
        assert given is model
        seen.append((len(history), history.train_loss[-1], history.validation_loss[-1]))
        return "not True"

    for stop in (lambda m, h: len(h) == 3, lambda m, h: np.bool_(len(h) == 3)):
        seen.clear()
        history = cs.train(
            model, GOOD_DATA, validation=GOOD_DATA, epochs=9, callbacks=iter([stop, watch])
        )
        assert len(history) == 3
        assert [entry[0] for entry in seen] == [1, 2, 3]
        assert [entry[1] for entry in seen] == history.train_loss
        assert [entry[2] for entry in seen] == history.validation_loss


def test_a_callback_may_change_the_learning_rate() -> None:
    def loader() -> cs.DataLoader:
        return cs.DataLoader.from_dataset(GOOD_DATA, 8)

    scheduled, plain = (cs.SoftmaxRegression(6, 3, seed=0) for _ in range(2))
    optimizer = cs.SGD(0.1)

    def halve(model: cs.SoftmaxRegression, history: cs.History) -> None:
        optimizer.lr /= 2

    cs.train(scheduled, loader(), epochs=2, optimizer=optimizer, callbacks=[halve])
    for lr in (0.1, 0.05):
        cs.train(plain, loader(), epochs=1, optimizer=cs.SGD(lr))
    assert state_of(scheduled) == state_of(plain)


def test_an_error_in_a_callback_goes_on_and_keeps_the_epoch() -> None:
    model, same = (cs.SoftmaxRegression(6, 3, seed=0) for _ in range(2))

    def fail(model: cs.SoftmaxRegression, history: cs.History) -> None:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        cs.train(model, cs.DataLoader.from_dataset(GOOD_DATA, 8), callbacks=[fail])
    cs.train(same, cs.DataLoader.from_dataset(GOOD_DATA, 8), epochs=1)
    assert state_of(model) == state_of(same)


def test_history_to_dict_and_csv(tmp_path: Path) -> None:
    model = cs.SoftmaxRegression(6, 3, seed=0)
    history = cs.train(model, GOOD_DATA, validation=GOOD_DATA, epochs=3)
    columns = history.to_dict()
    names = [
        "epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy",
        "seconds", "samples_per_second",
    ]  # fmt: skip
    assert list(columns) == names
    assert columns["epoch"] == [1, 2, 3]
    assert columns["train_loss"] == history.train_loss
    assert columns["train_loss"] is not history.train_loss
    assert min(history.seconds) > 0
    assert_allclose(np.multiply(history.samples_per_second, history.seconds), 50)
    history.to_csv(tmp_path / "history.csv")
    with open(tmp_path / "history.csv", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == names
    read = [[float(cell) for cell in row] for row in rows]
    assert read == [list(row) for row in zip(*columns.values(), strict=True)]

    cs.train(model, GOOD_DATA, epochs=1).to_csv(tmp_path / "history.csv")
    text = (tmp_path / "history.csv").read_text()
    assert text.splitlines()[0] == "epoch,train_loss,train_accuracy,seconds,samples_per_second"
    assert len(text.splitlines()) == 2
    cs.History().to_csv(tmp_path / "history.csv")
    assert len((tmp_path / "history.csv").read_text().splitlines()) == 1
    assert os.listdir(tmp_path) == ["history.csv"]


def test_validation_is_of_the_parameters_after_the_epoch() -> None:
    model = cs.SoftmaxRegression(6, 3, seed=0)
    found: list[float] = []

    def measure(model: cs.SoftmaxRegression, history: cs.History) -> None:
        metrics = cs.evaluate(model, GOOD_DATA)
        found.extend([metrics.loss, metrics.accuracy])

    history = cs.train(model, GOOD_DATA, validation=GOOD_DATA, epochs=2, callbacks=[measure])
    assert history.validation_loss == found[::2]
    assert history.validation_accuracy == found[1::2]


def test_progress_is_a_bar_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    model = cs.SoftmaxRegression(6, 3, seed=0)
    for silent in (False, None):  # the captured stderr is no terminal
        cs.train(model, GOOD_DATA, epochs=2, progress=silent)
        assert capsys.readouterr() == ("", "")
    history = cs.train(model, GOOD_DATA, validation=GOOD_DATA, epochs=2, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "2/2" in err
    assert f"loss {history.validation_loss[-1]:.3f}" in err


# ---------------------------------------------------------------- interruption


@pytest.mark.parametrize("n_threads", [1, 2])
def test_ctrl_c_puts_the_last_finished_epoch_back(n_threads: int) -> None:
    """An epoch of minutes, over one row that is read again and again, is left within a second."""
    rng = np.random.default_rng(0)
    data = cs.Dataset(
        rng.integers(0, 256, (2000, 784), dtype=np.uint8), rng.integers(0, 10, 2000), 0.5
    )
    loader = OrderedLoader(data.X, data.y, 256, scale=data.scale)
    model, optimizer = cs.SoftmaxRegression(784, 10, seed=0), cs.SGD(0.1, momentum=0.9)
    finished: list[Any] = []
    sent: list[float] = []

    def lengthen(model: cs.SoftmaxRegression, history: cs.History) -> None:
        model._scale = None  # the interrupted epoch takes one, and gives it back
        finished.append(state_of(model, optimizer))
        loader.order = rng.integers(0, 2000, 50_000_000)

    def interrupt(signum: int, frame: Any) -> None:
        sent.append(time.monotonic())
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 1.5)
        with pytest.raises(KeyboardInterrupt):
            cs.train(
                model, loader, epochs=2, optimizer=optimizer, callbacks=[lengthen],
                n_threads=n_threads,
            )  # fmt: skip
        answered = time.monotonic() - sent[0]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert answered < 1
    assert [state_of(model, optimizer)] == finished
    assert model.scale == 1.0
    cs.train(model, data, epochs=1, optimizer=optimizer)  # and it can go on
    assert [state_of(model, optimizer)] != finished


# ---------------------------------------------------------------- evaluation


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_metrics_by_hand(isa: str, dtype: str) -> None:
    """Class 2 is never predicted, class 3 never occurs."""
    logits = np.array(
        [[5, 0, 0, 0], [4, 1, 0, 0], [0, 3, 0, 0], [0, 3, 1, 0], [0, 0, 1, 7], [2, 0, 1, 0]]
    )
    y = np.array([0, 1, 1, 1, 0, 2])
    model = cs.SoftmaxRegression(4, 4, dtype=dtype, class_names=["a", "b", "c", "long name"])
    model.W = np.eye(4)
    metrics = cs.evaluate(model, (logits.astype(dtype), y))
    assert_array_equal(metrics.confusion, [[1, 0, 0, 1], [1, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
    assert_allclose(metrics.precision, [1 / 3, 1, np.nan, 0])
    assert_allclose(metrics.recall, [1 / 2, 2 / 3, 0, np.nan])
    assert metrics.accuracy == 0.5
    assert metrics.n_samples == 6
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert_allclose(metrics.loss, -np.log(p[np.arange(6), y]).mean(), rtol=1e-6)
    assert metrics.class_names == ("a", "b", "c", "long name")
    assert str(metrics) == (
        "class      precision  recall  samples\n"
        "a              0.333   0.500        2\n"
        "b              1.000   0.667        3\n"
        "c                  -   0.000        1\n"
        "long name      0.000       -        0\n"
        f"loss {metrics.loss:.4f}, accuracy 0.5000, 6 samples"
    )


def test_metrics_take_the_names_of_the_data() -> None:
    model = cs.SoftmaxRegression(6, 3)
    names = ("cat", "dog", "eel")
    data = cs.Dataset(GOOD_DATA.X, GOOD_DATA.y, GOOD_DATA.scale, names)
    assert cs.evaluate(model, data).class_names == names
    assert cs.evaluate(model, GOOD_DATA).class_names == ("0", "1", "2")
    assert cs.evaluate(cs.SoftmaxRegression(6, 4), data).class_names == ("0", "1", "2", "3")


def test_metrics_of_nothing() -> None:
    metrics = cs.evaluate(cs.SoftmaxRegression(6, 3), (np.zeros((0, 6)), []))
    assert np.isnan([metrics.loss, metrics.accuracy, *metrics.precision, *metrics.recall]).all()
    assert metrics.n_samples == metrics.confusion.sum() == 0


def test_evaluation_draws_no_order_and_changes_nothing() -> None:
    loader, same = (cs.DataLoader.from_dataset(GOOD_DATA, 8, shuffle=True, seed=0) for _ in "ab")
    model = cs.SoftmaxRegression(6, 3, scale=0.5)
    before = state_of(model)
    with pytest.warns(UserWarning, match="data.scale"):
        cs.evaluate(model, loader)
    assert state_of(model) == before
    assert_array_equal(loader.epoch_order(), same.epoch_order())
    with pytest.raises(TypeError, match="model is a function"):
        cs.evaluate(lambda X: X, loader)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="data is a str"):
        cs.evaluate(model, "data")  # type: ignore[arg-type]
