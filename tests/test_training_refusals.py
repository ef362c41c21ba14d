"""Training refuses what does not fit, and the model stays as it was."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from training_cases import GOOD_DATA, ordered, state_of, synthetic

import csoftmax as cs
from csoftmax import d2l


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
    with pytest.raises(error, match="^data" + message):
        cs.evaluate(model, spoiled(**changes))
    assert state_of(model) == before
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
        (
            {"validation": (np.zeros((0, 6)), [])},
            ValueError,
            "validation has 0 samples, expected at least one",
        ),
        (
            {"train_data": (GOOD_DATA, GOOD_DATA)},
            TypeError,
            "train_data is a pair of data sets, expected one of them",
        ),
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


def test_validation_on_images_of_another_height_and_width_is_refused() -> None:
    """As many pixels, but each one has its weight."""
    model, y = cs.SoftmaxRegression(6, 3, seed=0), GOOD_DATA.y
    before = state_of(model)
    for shape, other in (((2, 3), (3, 2)), ((1, 2, 3), (3, 2)), ((2, 3, 1), (1, 3, 2))):
        images, turned = (cs.Dataset(GOOD_DATA.X.reshape(-1, *s), y) for s in (shape, other))
        with pytest.raises(ValueError, match=r"validation.X has samples of shape .* but train_dat"):
            cs.train(model, images, validation=turned)
    assert state_of(model) == before
    for same in ((6,), (1, 2, 3), (2, 3, 1)):
        images, flat = (cs.Dataset(GOOD_DATA.X.reshape(-1, *s), y) for s in ((2, 3), same))
        history = cs.train(model, images, validation=flat, epochs=1)
        assert history.validation_accuracy == [cs.evaluate(model, images).accuracy]
    loaders = (cs.DataLoader(np.zeros((3, *s)), [0, 1, 2], 2) for s in ((2, 3), (3, 2)))
    before = state_of(model)
    with pytest.raises(
        ValueError, match=r"test_iter.X has .* \(3, 2\) but train_iter.X of \(2, 3\)"
    ):
        d2l.train_ch3(model, *loaders, d2l.cross_entropy, 1, cs.SGD(lr=0.1))
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
        ({"lr": 0.1, "bias_lr": -1}, ValueError, "bias_lr is -1.0, expected at least 0"),
        ({"lr": 0.1, "bias_lr": "1"}, TypeError, "bias_lr is a str, expected a number"),
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
