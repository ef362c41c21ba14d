"""The book's small tools: sgd, accuracy, Accumulator, Timer, and every signature."""

from __future__ import annotations

import inspect
import time
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import csoftmax as cs
from csoftmax import d2l

Array = Any


def test_sgd_steps_and_zeroes() -> None:
    W = cs.Parameter([[1.0, 2.0], [3.0, 4.0]])
    W.grad = np.array([[2.0, 0.0], [0.0, -4.0]])
    d2l.sgd([W], 0.5, 2)
    assert_array_equal(W, [[0.5, 2.0], [3.0, 5.0]])
    assert_array_equal(W.grad, np.zeros((2, 2)))
    assert isinstance(W, cs.Parameter)
    assert W.dtype == np.float32


@pytest.mark.parametrize(
    ("second", "batch_size", "error", "message"),
    [
        (np.zeros(3), 4, TypeError, r"params\[1\] is a ndarray, expected a csoftmax.Parameter"),
        (cs.Parameter([1.0]).view(), 4, TypeError, r"params\[1\] is a copy or a view"),
        (
            cs.Parameter([1.0]),
            4,
            RuntimeError,
            r"params\[1\] of shape \(1,\) has no .*no recorded op",
        ),
        (None, 0, ValueError, "batch_size is 0"),
    ],
)
def test_a_refused_sgd_changes_nothing(
    second: Any, batch_size: int, error: type[Exception], message: str
) -> None:
    first = cs.Parameter([1.0, 2.0])
    first.grad = np.ones(2, np.float32)
    params = [first] if second is None else [first, second]
    with pytest.raises(error, match=message):
        d2l.sgd(params, 0.1, batch_size)
    assert_array_equal(first, [1.0, 2.0])
    assert_array_equal(first.grad, [1.0, 1.0])


def test_sgd_before_backward() -> None:
    with pytest.raises(RuntimeError, match=r"no parameter has a gradient: call backward\(\)"):
        d2l.sgd([cs.Parameter([1.0]), cs.Parameter([1.0])], 0.1, 1)


@pytest.mark.parametrize("lr", [0, -0.1, float("nan"), float("inf")])
def test_sgd_refuses_a_learning_rate(lr: float) -> None:
    W = cs.Parameter([1.0])
    W.grad = np.ones(1, np.float32)
    with pytest.raises(ValueError, match="lr is "):
        d2l.sgd([W], lr, 1)
    assert_array_equal(W, [1.0])


def test_accuracy_is_a_count() -> None:
    y_hat = np.array([[0.1, 0.3, 0.6], [0.3, 0.2, 0.5], [0.9, 0.1, 0.0]])
    for y in ([0, 2, 0], np.array([0, 2, 0], np.uint8)):
        count = d2l.accuracy(y_hat, y)
        assert count == 2.0
        assert type(count) is float
    assert d2l.accuracy([0.0, 2.0, 1.0], [0, 2, 0]) == 2.0  # labels already
    with pytest.raises(ValueError, match=r"y_hat predicts \(3,\) labels but y has \(2,\)"):
        d2l.accuracy(y_hat, [0, 1])
    with pytest.raises(ValueError, match=r"y_hat predicts \(2, 1\)"):
        d2l.accuracy([[0], [1]], [0, 1])


def test_accumulator() -> None:
    metric = d2l.Accumulator(2)
    metric.add(1, np.float32(2.5))
    metric.add(True, 0.5)
    assert metric[0] == 2.0
    assert metric[1] == 3.0
    assert metric.data == [2.0, 3.0]
    with pytest.raises(ValueError, match="got 1 numbers, expected 2"):
        metric.add(1)
    assert metric.data == [2.0, 3.0]
    metric.reset()
    assert metric.data == [0.0, 0.0]


def test_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 2.0, 10.0, 14.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    timer = d2l.Timer()
    assert timer.stop() == 2.0
    timer.start()
    assert timer.stop() == 4.0
    assert timer.times == [2.0, 4.0]
    assert timer.avg() == 3.0
    assert timer.sum() == 6.0
    assert timer.cumsum() == [2.0, 6.0]


SIGNATURES = {
    "get_dataloader_workers": "()",
    "load_data_fashion_mnist": "(batch_size, resize=None)",
    "get_fashion_mnist_labels": "(labels)",
    "accuracy": "(y_hat, y)",
    "evaluate_accuracy": "(net, data_iter)",
    "evaluate_loss": "(net, data_iter, loss)",
    "sgd": "(params, lr, batch_size)",
    "train_epoch_ch3": "(net, train_iter, loss, updater)",
    "train_ch3": "(net, train_iter, test_iter, loss, num_epochs, updater)",
    "predict_ch3": "(net, test_iter, n=6)",
}


# the tensor library's functions and methods, as the end of the book's own library names them
ALIASES = {
    "abs", "arange", "argmax", "astype", "exp", "eye", "log", "matmul", "normal", "numpy", "ones",
    "rand", "reduce_sum", "reshape", "size", "tensor", "transpose", "zeros",
}  # fmt: skip


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_signatures_of_the_book(name: str) -> None:
    parameters = inspect.signature(getattr(d2l, name)).parameters.values()
    plain = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]
    assert str(inspect.Signature(plain)) == SIGNATURES[name]


def test_every_name_is_there() -> None:
    expected = {
        *SIGNATURES, *ALIASES, "Accumulator", "Animator", "CrossEntropyLoss", "Timer",
        "cross_entropy", "data", "float32", "int32", "nn", "set_axes", "show_images", "torch",
        "torchvision", "transforms", "use_svg_display",
    }  # fmt: skip
    assert set(d2l.__all__) == expected
    assert d2l.cross_entropy is cs.cross_entropy
    show = list(inspect.signature(d2l.show_images).parameters.values())
    assert [p.name for p in show[:5]] == ["imgs", "num_rows", "num_cols", "titles", "scale"]
    assert [p.default for p in show[3:5]] == [None, 1.5]
