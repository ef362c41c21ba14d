"""The tape: its gradients against formulas and central differences, and what it refuses."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import oracle
import pytest
from autograd_cases import loss_of, problem
from cases import compute_type
from numpy.testing import assert_allclose, assert_array_equal

import csoftmax as cs
from csoftmax import reference

# ---------------------------------------------------------------- Parameter


def test_a_parameter_is_a_float32_copy_stored_class_major() -> None:
    data = np.arange(6.0).reshape(2, 3)
    W = cs.Parameter(data)
    assert isinstance(W, np.ndarray)
    assert W.dtype == np.float32
    assert W.grad is None
    assert W.T.flags.c_contiguous
    W[0, 0] = 9
    assert data[0, 0] == 0
    assert cs.Parameter([1, 2], dtype="float64").dtype == np.float64
    assert_array_equal(cs.Parameter(cs.Parameter([[1, 2]])), [[1, 2]])


@pytest.mark.parametrize("dtype", ["float16", "int64", "complex64", ">f4"])
def test_a_parameter_of_another_dtype_is_refused(dtype: str) -> None:
    with pytest.raises(TypeError, match="expected float32 or float64"):
        cs.Parameter([1.0], dtype=dtype)


@pytest.mark.parametrize("data", [[1j], ["a"], [None]])
def test_a_parameter_of_other_data_is_refused(data: Any) -> None:
    with pytest.raises(TypeError, match="data has dtype"):
        cs.Parameter(data)


def test_an_update_in_place_keeps_a_parameter_and_its_gradient() -> None:
    X, W0, b0, y = problem()
    W, b = cs.Parameter(W0), cs.Parameter(b0)
    loss_of(X, W, b, y).sum().backward()
    same, grad = W, W.grad
    W -= 0.1 * W.grad
    W[...] = W - 0.1 * grad
    W *= 0.5
    assert W is same
    assert W.grad is grad
    assert W.dtype == np.float32
    loss_of(X, W, b, y).sum().backward()
    assert not np.array_equal(W.grad, grad)


def test_results_are_tensors_that_keep_no_gradient() -> None:
    W = cs.Parameter(np.eye(3))
    for computed in (W - 0.1, W.T, W[:], W.copy(), W.reshape(9), W.astype("f8"), W.cumsum(0)):
        assert type(computed) is cs.Tensor
        assert computed.requires_grad
        assert computed.grad is None
        with pytest.raises(AttributeError):
            computed.grad = W
    for other in (np.zeros_like(W), np.ones_like(W), W > 0, W.argmax(1), W.astype(int)):
        assert type(other) is cs.Tensor
        assert not other.requires_grad


def test_a_gradient_can_be_set_and_is_checked() -> None:
    W = cs.Parameter(np.eye(2))
    W.grad = [[1, 2], [3, 4]]
    assert W.grad.dtype == np.float32
    W.grad.zero_()
    assert_array_equal(W.grad, np.zeros((2, 2)))
    W.grad = None
    assert W.grad is None
    with pytest.raises(ValueError, match=r"grad has shape \(3,\), expected \(2, 2\)"):
        W.grad = [1, 2, 3]


def test_copies_of_a_parameter_are_parameters_of_their_own() -> None:
    W = cs.Parameter([[1.0, 2.0]], np.float64)
    W.sum().backward()
    for other in (copy.deepcopy(W), pickle.loads(pickle.dumps(W)), cs.Parameter(W, np.float64)):
        assert type(other) is cs.Parameter
        assert other.dtype == np.float64
        assert_array_equal(other, W)
        assert other.grad is None
        (other * 3).sum().backward()
        assert_array_equal(other.grad, [[3, 3]])
    assert_array_equal(W.grad, [[1, 1]])


# ---------------------------------------------------------------- gradients


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1, 1), (13, 7, 5), (33, 40, 10), (100, 784, 10)])
def test_gradients_are_those_of_the_formula(
    isa: str, shape: tuple[int, int, int], dtype: Any, reduction: str
) -> None:
    X, W0, b0, y = problem(dtype, *shape)
    W, b = cs.Parameter(W0, dtype), cs.Parameter(b0, dtype)
    loss = getattr(loss_of(X, W, b, y), reduction)()
    loss.backward()
    wide = (a.astype(np.float64) for a in (X, W0, b0))
    expected, dW, db = reference.linear_cross_entropy_grad(*wide, y, reduction=reduction)
    size = 1 if reduction == "mean" else len(X)
    tolerance = 100 * size * np.finfo(dtype).eps
    assert_allclose(loss, expected, rtol=100 * np.finfo(dtype).eps)
    assert_allclose(W.grad, dW, atol=tolerance)
    assert_allclose(b.grad, db, atol=tolerance)
    assert W.grad.dtype == b.grad.dtype == dtype
    assert W.grad.shape == W.shape


def test_gradients_by_central_differences(isa: str) -> None:
    X, W0, b0, y = problem()
    W, b = cs.Parameter(W0, np.float64), cs.Parameter(b0, np.float64)
    loss_of(X, W, b, y).sum().backward()

    def loss() -> float:
        return float(loss_of(X, W0, b0, y).sum())

    assert_allclose(W.grad, oracle.central_difference(loss, W0), atol=1e-8)
    assert_allclose(b.grad, oracle.central_difference(loss, b0), atol=1e-8)


@pytest.mark.parametrize(
    "dtype", [np.bool_, np.uint8, np.int16, np.int64, np.float16, ">f4", ">f8"]
)
@pytest.mark.parametrize("layout", ["plain", "strided", "transposed", "images", "unaligned"])
def test_any_stored_input(isa: str, dtype: Any, layout: str) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2 if dtype == "?" else 100, (12, 8)).astype(dtype)
    X = values
    if layout == "strided":
        X = np.repeat(np.repeat(values, 2, axis=0), 3, axis=1)[::2, ::3]
    elif layout == "transposed":
        X = np.array(values, order="F")
    elif layout == "images":
        X = values.reshape(12, 1, 2, 4)
    elif layout == "unaligned":
        X = np.frombuffer(b"\0" + values.tobytes(), np.uint8)[1:].view(dtype).reshape(12, 8)
    X.flags.writeable = False
    y = rng.integers(0, 3, 12)
    W0, b0 = rng.normal(size=(8, 3)), rng.normal(size=3)
    W, b = cs.Parameter(W0), cs.Parameter(b0)
    probs = cs.softmax(cs.linear(X, W, b, scale=0.01))
    assert probs.dtype == compute_type(dtype)
    cs.cross_entropy(probs, y).sum().backward()
    _, dW, db = reference.linear_cross_entropy_grad(
        values.astype(np.float64), W0, b0, y, scale=0.01, reduction="sum"
    )
    assert_allclose(W.grad, dW, rtol=1e-4, atol=1e-5)
    assert_allclose(b.grad, db, rtol=1e-4, atol=1e-5)


def test_gradients_accumulate_until_they_are_zeroed() -> None:
    X, W0, b0, y = problem()
    W, b = cs.Parameter(W0), cs.Parameter(b0)
    loss = loss_of(X, W, b, y).sum()
    loss.backward()
    once = b.grad.copy()
    loss.backward()
    assert_allclose(b.grad, 2 * once, rtol=1e-6)
    loss_of(X, W, b, y).sum().backward()
    assert_allclose(b.grad, 3 * once, rtol=1e-6)
    b.grad[...] = 0
    loss_of(X, W, b, y).sum().backward()
    assert_array_equal(b.grad, once)


def test_only_the_parameters_get_gradients() -> None:
    X, W0, b0, y = problem()
    W, b = cs.Parameter(W0), cs.Parameter(b0)
    loss_of(X, W, b0, y).sum().backward()
    assert W.grad is not None
    loss_of(X, W0, b, y).sum().backward()
    assert b.grad is not None
    no_bias = cs.Parameter(W0)
    loss_of(X, no_bias, None, y).sum().backward()
    assert no_bias.grad is not None
    assert type(loss_of(X, W0, b0, y)) is np.ndarray


def test_the_loss_is_stable_where_the_probability_is_zero() -> None:
    X = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    W = cs.Parameter([[1e4, 0.0, -1e4], [0.0, 1e4, 0.0]])
    probs = cs.softmax(cs.linear(X, W))
    assert probs[0, 2] == 0
    losses = cs.cross_entropy(probs, [2, 0])
    assert_allclose(losses, [2e4, 1e4], rtol=1e-6)
    losses.sum().backward()
    assert_array_equal(W.grad, [[1, 0, -1], [-1, 1, 0]])


def test_two_linear_layers() -> None:
    """The gradient goes on through linear to the layer below, scale and image shape included."""
    rng = np.random.default_rng(2)
    X, y = rng.normal(size=(9, 6)), rng.integers(0, 3, 9)
    arrays = [rng.normal(size=shape) for shape in ((6, 4), (4,), (4, 3), (3,))]

    def loss_with(V: Any, a: Any, W: Any, b: Any) -> Any:
        hidden = cs.linear(X, V, a, scale=0.5)
        return cs.cross_entropy(cs.softmax(cs.linear(hidden, W, b, scale=2.0)), y)

    parameters = [cs.Parameter(array, np.float64) for array in arrays]
    loss_with(*parameters).mean().backward()
    for array, parameter in zip(arrays, parameters, strict=True):
        expected = oracle.central_difference(lambda: float(loss_with(*arrays).mean()), array)
        assert_allclose(parameter.grad, expected, atol=1e-8)


def test_a_parameter_used_twice_gets_both_gradients() -> None:
    rng = np.random.default_rng(3)
    X, y, W0 = rng.normal(size=(5, 3)), rng.integers(0, 3, 5), rng.normal(size=(3, 3))

    def loss_with(W: Any) -> Any:
        return cs.cross_entropy(cs.softmax(cs.linear(cs.linear(X, W), W)), y)

    W = cs.Parameter(W0, np.float64)
    loss_with(W).sum().backward()
    expected = oracle.central_difference(lambda: float(loss_with(W0).sum()), W0)
    assert_allclose(W.grad, expected, atol=1e-7)


@pytest.mark.parametrize("axis", [0, 1, -2])
def test_softmax_along_either_axis(axis: int) -> None:
    """Along the samples too, where the loss is not that of the logits' rows."""
    X, W0, b0, y = problem()

    def loss_with(W: Any, b: Any) -> Any:
        return cs.cross_entropy(cs.softmax(cs.linear(X, W, b), axis), y)

    W, b = cs.Parameter(W0, np.float64), cs.Parameter(b0, np.float64)
    loss_with(W, b).sum().backward()
    for array, parameter in ((W0, W), (b0, b)):
        expected = oracle.central_difference(lambda: float(loss_with(W0, b0).sum()), array)
        assert_allclose(parameter.grad, expected, atol=1e-7)


def test_cross_entropy_of_a_linear_output_without_softmax() -> None:
    rng = np.random.default_rng(4)
    X, W0, y = rng.uniform(1, 2, (5, 3)), rng.uniform(1, 2, (3, 4)), rng.integers(0, 4, 5)
    W = cs.Parameter(W0, np.float64)
    losses = cs.cross_entropy(cs.linear(X, W), y)
    assert_allclose(losses, -np.log((X @ W0)[np.arange(5), y]))
    losses.sum().backward()
    expected = oracle.central_difference(
        lambda: float(cs.cross_entropy(cs.linear(X, W0), y).sum()), W0
    )
    assert_allclose(W.grad, expected, atol=1e-8)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_softmax_outputs_can_be_reduced_themselves(reduction: str) -> None:
    """Of the logits: the sum of X by features. Of the probabilities: 0, they always sum to 1."""
    X, W0, _, _ = problem()
    W = cs.Parameter(W0, np.float64)
    logits = cs.linear(X, W)
    getattr(logits, reduction)().backward()
    expected = (
        X.sum(axis=0)[:, np.newaxis] * np.ones(5) / (logits.size if reduction == "mean" else 1)
    )
    assert_allclose(W.grad, expected, atol=1e-12)
    V = cs.Parameter(W0, np.float64)
    getattr(cs.softmax(cs.linear(X, V)), reduction)().backward()
    assert_allclose(V.grad, np.zeros((7, 5)), atol=1e-12)


@pytest.mark.parametrize("reduce", [np.sum, np.mean, lambda losses: losses.sum(axis=None)])
def test_numpys_functions_are_recorded_like_the_methods(reduce: Any) -> None:
    X, W0, b0, y = problem()
    W, same = cs.Parameter(W0), cs.Parameter(W0)
    reduce(loss_of(X, W, b0, y)).backward()
    loss = loss_of(X, same, b0, y)
    (loss.mean() if reduce is np.mean else loss.sum()).backward()
    assert_array_equal(W.grad, same.grad)


def test_the_recorded_result_is_the_ordinary_one() -> None:
    X, W0, b0, y = problem(np.float32)
    recorded, plain = loss_of(X, cs.Parameter(W0), cs.Parameter(b0), y), loss_of(X, W0, b0, y)
    assert_allclose(recorded, plain, rtol=1e-5)
    assert float(recorded.sum()) == recorded.view(np.ndarray).sum()
    assert f"{recorded.mean():.3f}" == f"{plain.mean():.3f}"
