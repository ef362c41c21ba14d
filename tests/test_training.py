"""Training in compiled code against the plain loop."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.testing import assert_allclose
from training_cases import Array, state_of, stored_as, synthetic

import csoftmax as cs
from csoftmax import functional, reference

RULES = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "nesterov": {"momentum": 0.8, "nesterov": True},
    "weight decay": {"weight_decay": 0.01},
    "all": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.001},
    "slow bias": {"momentum": 0.9, "nesterov": True, "bias_lr": 0.02},
}


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
                    rate = options.get("bias_lr", 0.1) if name == "b" else 0.1
                    parameter -= rate * (
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
