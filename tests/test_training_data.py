"""The data of a training: no copy is made, any order will do, and whose scale counts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from training_cases import GOOD_DATA, ordered

import csoftmax as cs
from csoftmax import reference

_MEMORY_PROGRAM = """
import numpy as np, csoftmax as cs
def peak():  # of this program alone: getrusage begins with that of the process that started it
    with open("/proc/self/status") as status:
        return int(next(line.split()[1] for line in status if line.startswith("VmHWM")))
X = np.random.default_rng(0).integers(0, 256, (60_000, 784), dtype=np.uint8)
y = np.arange(60_000) % 10
model = cs.SoftmaxRegression(784, 10, scale=1 / 255)
small = cs.Dataset(X[:300], y[:300], 1 / 255)
cs.train(model, small, validation=small, epochs=1, n_threads=2)
before = peak()
data = cs.Dataset(X, y, 1 / 255)
cs.train(model, data, validation=data, epochs=2, n_threads=2)
cs.evaluate(model, data, n_threads=2)
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc/self/status")
def test_no_float_copy_of_the_data_is_made() -> None:
    """As float32 the data would take 188 MB more; orders, labels and thread stacks take a few."""
    run = subprocess.run(
        [sys.executable, "-c", _MEMORY_PROGRAM], capture_output=True, text=True, check=True
    )
    assert int(run.stdout) < 20_000  # kB


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
