"""The tensor library's functions: dtypes, shapes and values, beside NumPy and PyTorch."""

from __future__ import annotations

import importlib.util
import math
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import csoftmax as cs
from csoftmax import d2l
from csoftmax.d2l import torch

X = [[1.0, -2.0, 3.0], [4.0, 0.5, 6.0]]
LIBRARIES = [torch]
if importlib.util.find_spec("torch"):
    LIBRARIES.append(importlib.import_module("torch"))


# Each is true of PyTorch too, where that is installed: the dtype, the shape and the values.
NEW: list[tuple[Any, str, Any]] = [
    (lambda t: t.tensor(X), "float32", X),
    (lambda t: t.tensor([0, 2]), "int64", [0, 2]),
    (lambda t: t.tensor(7.5), "float32", 7.5),
    (lambda t: t.tensor([True]), "bool", [True]),
    (lambda t: t.tensor(np.float64(X)), "float64", X),
    (lambda t: t.tensor(np.uint8([3])), "uint8", [3]),
    (lambda t: t.tensor([1, 2], dtype=t.float64), "float64", [1, 2]),
    (lambda t: t.tensor(X, dtype=t.int32), "int32", [[1, -2, 3], [4, 0, 6]]),
    (lambda t: t.zeros(2), "float32", [0, 0]),
    (lambda t: t.zeros(2, 1), "float32", [[0], [0]]),
    (lambda t: t.zeros((1, 2), dtype=t.int64), "int64", [[0, 0]]),
    (lambda t: t.ones([2]), "float32", [1, 1]),
    (lambda t: t.eye(2, 3), "float32", [[1, 0, 0], [0, 1, 0]]),
    (lambda t: t.arange(3), "int64", [0, 1, 2]),
    (lambda t: t.arange(1, 7, 2), "int64", [1, 3, 5]),
    (lambda t: t.arange(0.0, 1.0, 0.25), "float32", [0, 0.25, 0.5, 0.75]),
    (lambda t: t.arange(2, dtype=t.float32), "float32", [0, 1]),
    (lambda t: t.from_numpy(np.int32([4])), "int32", [4]),
    (lambda t: t.sum(t.tensor(X)), "float32", 12.5),
    (lambda t: t.sum(t.tensor(X), 0), "float32", [5, -1.5, 9]),
    (lambda t: t.sum(t.tensor(X), 1, True), "float32", [[2], [10.5]]),
    (lambda t: t.sum(t.tensor(X), dim=1, keepdim=True), "float32", [[2], [10.5]]),
    (lambda t: t.sum(t.tensor(X), [0, 1]), "float32", 12.5),
    (lambda t: t.sum(t.tensor(X), dim=[0, 1], keepdim=True), "float32", [[12.5]]),
    (lambda t: t.sum(t.tensor(X), dim=[1]), "float32", [2, 10.5]),
    (lambda t: t.sum(t.tensor(X), dim=[]), "float32", 12.5),
    (lambda t: t.mean(t.tensor(X), dim=[0, 1]), "float32", 12.5 / 6),
    (lambda t: t.amax(t.tensor(X), dim=[0, 1]), "float32", 6),
    (lambda t: t.amax(t.tensor(X), (0, 1), keepdim=True), "float32", [[6]]),
    (lambda t: t.logsumexp(t.tensor([[0.0, 0.0]]), [0, 1]), "float32", math.log(2)),
    (lambda t: t.mean(t.tensor(X), dim=1), "float32", [2 / 3, 3.5]),
    (lambda t: t.max(t.tensor(X)), "float32", 6),
    (lambda t: t.max(t.tensor(X), 1)[1], "int64", [2, 2]),
    (lambda t: t.max(t.tensor(X), dim=0, keepdim=True).values, "float32", [[4, 0.5, 6]]),
    (lambda t: t.max(t.tensor(X), 1, True)[0], "float32", [[3], [6]]),
    (lambda t: t.argmax(t.tensor(X), axis=1), "int64", [2, 2]),
    (lambda t: t.argmax(t.tensor(X), dim=0), "int64", [1, 1, 1]),
    (lambda t: t.argmax(t.tensor(X)), "int64", 5),
    (lambda t: t.abs(t.tensor(X)), "float32", np.abs(X)),
    (lambda t: t.exp(t.tensor(X)), "float32", np.exp(X)),
    (lambda t: t.log(t.tensor([1.0, math.e])), "float32", [0, 1]),
    (lambda t: t.relu(t.tensor(X)), "float32", [[1, 0, 3], [4, 0.5, 6]]),
    (lambda t: t.maximum(t.tensor(X), t.tensor(2.0)), "float32", [[2, 2, 3], [4, 2, 6]]),
    (lambda t: t.isnan(t.tensor([math.nan, 1])), "bool", [True, False]),
    (lambda t: t.isinf(t.tensor([-math.inf, 1])), "bool", [True, False]),
    (lambda t: t.tensor(X).max(1, keepdim=True)[0], "float32", [[3], [6]]),
    (lambda t: t.clamp(t.tensor(X), 0, 4), "float32", [[1, 0, 3], [4, 0.5, 4]]),
    (lambda t: t.clamp(t.tensor(X), min=1), "float32", [[1, 1, 3], [4, 1, 6]]),
    (lambda t: t.matmul(t.tensor(X), t.tensor([1.0, 0, 2])), "float32", [7, 16]),
    (lambda t: t.softmax(t.tensor([[0.0, 0.0]]), -1), "float32", [[0.5, 0.5]]),
    (lambda t: t.log_softmax(t.tensor([[0.0, 0.0]]), 1), "float32", [[-math.log(2)] * 2]),
    (lambda t: t.logsumexp(t.tensor([[1e4, 1e4], [-1e4, 1e4]]), 1), "float32", [10000.693, 1e4]),
    (lambda t: t.logsumexp(t.tensor([[0.0, 0.0]]), 1, keepdim=True), "float32", [[math.log(2)]]),
    (lambda t: t.logsumexp(t.tensor([[-math.inf] * 2]), 1), "float32", [-math.inf]),
    (lambda t: t.logsumexp(t.tensor([[math.inf, 0]]), 1), "float32", [math.inf]),
    (lambda t: t.logsumexp(t.tensor([[math.nan, 0]]), 1), "float32", [math.nan]),
]  # fmt: skip


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.__name__)
@pytest.mark.parametrize("case", range(len(NEW)))
def test_values_and_dtypes(case: int, library: Any, no_warnings: None) -> None:
    make, dtype, expected = NEW[case]
    made = make(library)
    assert str(made.dtype).rpartition(".")[2] == dtype
    assert tuple(made.shape) == np.shape(expected)
    assert_allclose(made.numpy(), expected, rtol=1e-6, atol=1e-7)
    assert library.is_tensor(made)


def test_what_is_to_be_learned_is_a_parameter() -> None:
    made = [
        torch.tensor([1.0, 2.0], requires_grad=True),
        torch.zeros(3, requires_grad=True),
        torch.ones(3, 2, requires_grad=True),
        torch.normal(0, 1, size=(4, 2), requires_grad=True),
        torch.rand(4, requires_grad=True),
        torch.randn(4, 2, requires_grad=True),
        torch.arange(3.0, requires_grad=True),
        torch.eye(2, requires_grad=True),
    ]
    for parameter in made:
        assert isinstance(parameter, cs.Parameter)
        assert parameter.dtype == np.float32
        (2 * parameter).sum().backward()
        assert_array_equal(parameter.grad, np.full(parameter.shape, 2))
    assert torch.zeros(2, dtype=torch.float64, requires_grad=True).dtype == np.float64
    with pytest.raises(TypeError, match="expected float32 or float64"):
        torch.tensor([1, 2], requires_grad=True)


def test_random_numbers_are_of_their_distributions() -> None:
    torch.manual_seed(5)
    normal, standard, uniform = (
        torch.normal(3, 0.5, (200, 100)),
        torch.randn(200, 100),
        torch.rand((200, 100)),
    )
    assert_allclose([normal.mean(), normal.numpy().std()], [3, 0.5], atol=0.02)
    assert_allclose([standard.mean(), standard.numpy().std()], [0, 1], atol=0.03)
    assert_allclose([uniform.mean(), uniform.numpy().std()], [0.5, 12**-0.5], atol=0.02)
    assert 0 <= uniform.min() <= uniform.max() < 1
    assert {normal.dtype, standard.dtype, uniform.dtype} == {np.dtype("float32")}
    torch.manual_seed(5)
    assert_array_equal(torch.normal(3, 0.5, (200, 100)), normal)
    means = torch.normal(torch.arange(3.0), 1e-9)  # one mean an entry
    assert_allclose(means, [0, 1, 2], atol=1e-6)


def test_a_tensor_is_a_copy_and_from_numpy_is_none() -> None:
    values = np.zeros(2)
    copy, same = torch.tensor(values), torch.from_numpy(values)
    values[0] = 1
    assert copy.tolist() == [0, 0]
    assert same.tolist() == [1, 0]
    assert not torch.is_tensor(values)
    assert not torch.is_tensor([1.0])


def test_the_book_s_aliases() -> None:
    matrix = d2l.tensor(X)
    assert_array_equal(d2l.reduce_sum(matrix, 1, keepdim=True), [[2], [10.5]])
    assert_array_equal(d2l.reshape(matrix, (3, 2)), np.reshape(X, (3, 2)))
    assert d2l.reshape(matrix, (-1, 2)).shape == (3, 2)
    assert_array_equal(d2l.transpose(matrix), np.transpose(X))
    assert d2l.astype(matrix, d2l.int32).dtype == np.int32
    assert d2l.size(matrix) == 6
    assert type(d2l.numpy(torch.ones(2, requires_grad=True))) is np.ndarray
    assert_array_equal(d2l.argmax(matrix, axis=0), [1, 1, 1])
    assert_array_equal(d2l.matmul(np.eye(2), X), X)  # arrays and lists are welcome


def test_what_is_not_there_says_what_is() -> None:
    with pytest.raises(AttributeError, match=r"csoftmax's torch has no einsum: .*NumPy's"):
        torch.einsum  # noqa: B018
    assert not hasattr(torch, "bmm")
    assert {"exp", "nn", "optim", "utils"} <= set(dir(torch))


def test_gradients_go_through_the_functions() -> None:
    W = torch.tensor(X, requires_grad=True)
    torch.logsumexp(W, 1).sum().backward()
    assert_allclose(W.grad, cs.softmax(np.float32(X)), rtol=1e-5)
    W.grad = None
    torch.log(torch.clamp(torch.sum(torch.exp(W), 1), min=0)).sum().backward()
    assert_allclose(W.grad, cs.softmax(np.float32(X)), rtol=1e-5)
    W.grad = None
    torch.max(W, 1).values.sum().backward()
    assert_array_equal(W.grad, [[0, 0, 1], [0, 0, 1]])
