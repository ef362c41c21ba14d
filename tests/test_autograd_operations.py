"""Each recorded operation against central differences, and PyTorch where it is installed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import oracle
import pytest
from cases import Array
from numpy.testing import assert_allclose, assert_array_equal

import csoftmax as cs

# name: what both libraries compute, and the shapes of what it takes. Values are from .5 to 2, so
# that logarithms and roots exist; none of them are equal.
OPERATIONS: dict[str, tuple[Callable[..., Any], list[tuple[int, ...]]]] = {
    "add": (lambda x, y: x + y, [(3, 4), (3, 4)]),
    "add a row": (lambda x, y: x + y, [(3, 4), (4,)]),
    "add a column": (lambda x, y: y + x, [(3, 4), (3, 1)]),
    "add a number": (lambda x: 2 + x + 1.5, [(3, 4)]),
    "add to a number": (lambda x, y: x + y, [(), (2, 3)]),
    "broadcast both": (lambda x, y: x * y, [(3, 1), (1, 4)]),
    "broadcast to more axes": (lambda x, y: x - y, [(4,), (2, 3, 4)]),
    "subtract": (lambda x, y: x - y, [(3, 4), (3, 1)]),
    "subtract from a number": (lambda x: 1 - x, [(3, 4)]),
    "multiply": (lambda x, y: x * y, [(3, 4), (4,)]),
    "multiply with itself": (lambda x: x * x, [(3, 4)]),
    "divide": (lambda x, y: x / y, [(3, 4), (3, 1)]),
    "divide a number": (lambda x: 1 / x, [(3, 4)]),
    "negative": (lambda x: -x, [(3, 4)]),
    "positive": (lambda x: +x, [(3, 4)]),
    "power 2": (lambda x: x**2, [(3, 4)]),
    "power .5": (lambda x: x**0.5, [(3, 4)]),
    "power -1": (lambda x: x**-1, [(3, 4)]),
    "power 0": (lambda x: x**0, [(3, 4)]),
    "power 3": (lambda x: x**3.0, [(3, 4)]),
    "power of arrays": (lambda x, y: x**y, [(3, 4), (4,)]),
    "power of a number": (lambda x: 2**x, [(3, 4)]),
    "matrix product": (lambda x, y: x @ y, [(3, 4), (4, 5)]),
    "matrix times vector": (lambda x, y: x @ y, [(3, 4), (4,)]),
    "vector times matrix": (lambda x, y: x @ y, [(3,), (3, 4)]),
    "vector times vector": (lambda x, y: x @ y, [(3,), (3,)]),
    "matrices": (lambda x, y: x @ y, [(2, 3, 4), (4, 5)]),
    "matrix times matrices": (lambda x, y: x @ y, [(3, 4), (2, 4, 5)]),
    "vector times matrices": (lambda x, y: x @ y, [(4,), (2, 4, 5)]),
    "matrices times vector": (lambda x, y: x @ y, [(2, 3, 4), (4,)]),
    "transposes": (lambda x, y: (y.T @ x.T).T, [(3, 4), (4, 5)]),
    "exp": (lambda x: x.exp(), [(3, 4)]),
    "log": (lambda x: x.log(), [(3, 4)]),
    "sum": (lambda x: x.sum(), [(3, 4)]),
    "sum of columns": (lambda x: x.sum(0), [(3, 4)]),
    "sum of rows, kept": (lambda x: x.sum(1, keepdim=True), [(3, 4)]),
    "sum by dim": (lambda x: x.sum(dim=-1), [(2, 3, 4)]),
    "sum of two axes": (lambda x: x.sum((0, 2)), [(2, 3, 4)]),
    "sum of a list of axes": (lambda x: x.sum(dim=[0, 1]), [(2, 3, 4)]),
    "mean": (lambda x: x.mean(), [(3, 4)]),
    "mean of rows": (lambda x: x.mean(1), [(3, 4)]),
    "mean of columns, kept": (lambda x: x.mean(dim=0, keepdim=True), [(3, 4)]),
    "max": (lambda x: x.max(), [(3, 4)]),
    "min": (lambda x: x.min(), [(3, 4)]),
    "amax of rows, kept": (lambda x: x.amax(1, keepdim=True), [(3, 4)]),
    "amax of columns": (lambda x: x.amax(0), [(3, 4)]),
    "max by dim": (lambda x: x.max(dim=1).values, [(3, 4)]),
    "max by dim, kept": (lambda x: x.max(dim=0, keepdim=True)[0], [(3, 4)]),
    "max by place, kept": (lambda x: x.max(1, keepdim=True)[0], [(3, 4)]),
    "max by axis, kept": (lambda x: x.max(axis=1, keepdim=True).values, [(3, 4)]),
    "min by dim": (lambda x: x.min(dim=1).values, [(3, 4)]),
    "entry": (lambda x: x[1, 2], [(3, 4)]),
    "row": (lambda x: x[1], [(3, 4)]),
    "slice": (lambda x: x[1:, ::2], [(3, 4)]),
    "new axis": (lambda x: x[:, None, ...], [(3, 4)]),
    "picked entries": (lambda x: x[range(3), [0, 3, 3]], [(3, 4)]),
    "picked by lists": (lambda x: x[[0, 1], [2, 2]], [(3, 4)]),
    "picked twice": (lambda x: x[[1, 1, 0]], [(3, 4)]),
    "reshape": (lambda x: x.reshape(2, 6), [(3, 4)]),
    "reshape with a tuple": (lambda x: x.reshape((-1, 2)), [(3, 4)]),
    "view": (lambda x: x.view(-1, 6), [(3, 4)]),
    "unsqueeze": (lambda x: x.unsqueeze(1), [(3, 4)]),
    "ravel": (lambda x: x.ravel(), [(3, 4)]),
    "flatten": (lambda x: x.flatten(), [(2, 3, 2)]),
    "squeeze": (lambda x: x.squeeze(1), [(3, 1, 4)]),
    "squeeze all": (lambda x: x.squeeze(), [(1, 3, 1)]),
    "T": (lambda x: x.T, [(3, 4)]),
    "t": (lambda x: x.t(), [(3, 4)]),
    "clamp": (lambda x: x.clamp(0.9, 1.5), [(3, 4)]),
    "clip from below": (lambda x: x.clip(min=1.0), [(3, 4)]),
    "clip from above": (lambda x: x.clip(max=1.0), [(3, 4)]),
    "relu": (lambda x: (x - 1).relu(), [(3, 4)]),
    "relu by hand": (lambda x: (x - 1) * (x > 1), [(3, 4)]),
    "a reader's softmax": (lambda x: x.exp() / x.exp().sum(1, keepdim=True), [(3, 4)]),
    "a reader's cross-entropy": (
        lambda x: -(x.exp() / x.exp().sum(1, keepdim=True))[range(3), [0, 3, 1]].log(),
        [(3, 4)],
    ),
    "log of sum of exp": (
        lambda x: (x - x.amax(1, keepdim=True)).exp().sum(1).log() + x.amax(1),
        [(3, 4)],
    ),
    "a net of two layers": (
        lambda x, V, a, W: ((x @ V + a).clip(min=4.0) @ W) ** 2,
        [(5, 4), (4, 6), (6,), (6, 2)],
    ),
    "used many times": (lambda x: x * x.sum() + x * x / x.mean() - x, [(3, 4)]),
}  # fmt: skip
NAMES = list(OPERATIONS)


def arrays_for(shapes: list[tuple[int, ...]], dtype: Any) -> list[Array]:
    rng = np.random.default_rng(len(shapes))
    return [rng.uniform(0.5, 2, shape).astype(dtype) for shape in shapes]


def weighted(result: Any, weights: Any) -> Any:
    """A number to go back from, to which each entry of the result counts differently."""
    return (result * weights).sum()


def gradients(function: Callable[..., Any], arrays: list[Array], dtype: Any) -> list[Array]:
    parameters = [cs.Parameter(array, dtype) for array in arrays]
    result = function(*parameters)
    weighted(result, weights_of(result.shape, dtype)).backward()
    return [parameter.grad for parameter in parameters]


def weights_of(shape: tuple[int, ...], dtype: Any) -> Array:
    return np.random.default_rng(7).uniform(0.5, 2, shape).astype(dtype)


@pytest.mark.parametrize("name", NAMES)
def test_by_central_differences(name: str) -> None:
    function, shapes = OPERATIONS[name]
    arrays = arrays_for(shapes, np.float64)

    def number() -> float:
        result = function(*map(cs.Tensor, arrays))
        return float(weighted(result, weights_of(result.shape, np.float64)))

    for array, gradient in zip(arrays, gradients(function, arrays, np.float64), strict=True):
        assert gradient.shape == array.shape
        assert_allclose(gradient, oracle.central_difference(number, array), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NAMES)
def test_as_pytorch_has_it(name: str, dtype: Any) -> None:
    torch = pytest.importorskip("torch")
    function, shapes = OPERATIONS[name]
    arrays = arrays_for(shapes, dtype)
    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the .T of arrays that are no matrices
        expected = function(*tensors)
    weighted(expected, torch.tensor(weights_of(tuple(expected.shape), dtype))).backward()
    tolerance = 20 * np.finfo(dtype).eps
    result = function(*(cs.Parameter(array, dtype) for array in arrays))
    assert result.dtype == dtype
    assert_allclose(result, expected.detach().numpy(), rtol=tolerance)
    for tensor, gradient in zip(tensors, gradients(function, arrays, dtype), strict=True):
        assert gradient.dtype == dtype
        expected_gradient = tensor.grad.numpy()
        assert_allclose(
            gradient,
            expected_gradient,
            rtol=tolerance,
            atol=tolerance * abs(expected_gradient).max(),
        )


@pytest.mark.parametrize("name", NAMES)
def test_the_value_is_that_of_ordinary_arrays(name: str) -> None:
    """Recorded, not recorded, and inside no_grad."""
    function, shapes = OPERATIONS[name]
    arrays = arrays_for(shapes, np.float64)
    recorded = function(*(cs.Parameter(array, np.float64) for array in arrays))
    assert recorded.requires_grad
    assert not recorded.flags.writeable
    # as a Parameter lies in memory: NumPy sums in the order of memory
    not_recorded = function(*(cs.Tensor(array.copy("F")) for array in arrays))
    with cs.no_grad():
        inside = function(*(cs.Parameter(array, np.float64) for array in arrays))
    for other in (not_recorded, inside):
        assert type(other) is cs.Tensor
        assert not other.requires_grad
        assert_array_equal(other, recorded)


NUMPY_FUNCTIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "exp": (np.exp, lambda x: x.exp()),
    "log": (np.log, lambda x: x.log()),
    "sum": (np.sum, lambda x: x.sum()),
    "sum of rows": (
        lambda x: np.sum(x, axis=1, keepdims=True),
        lambda x: x.sum(1, keepdim=True),
    ),
    "mean": (lambda x: np.mean(x, 0), lambda x: x.mean(0)),
    "max": (lambda x: np.max(x, axis=1), lambda x: x.amax(1)),
    "amax": (np.amax, lambda x: x.max()),
    "matmul": (lambda x: np.matmul(x.T, x), lambda x: x.T @ x),
    "dot": (lambda x: np.dot(x, np.ones(4)), lambda x: x @ np.ones(4)),
    "reshape": (lambda x: np.reshape(x, (4, 3)), lambda x: x.reshape(4, 3)),
    "ravel": (np.ravel, lambda x: x.reshape(-1)),
    "transpose": (np.transpose, lambda x: x.T),
    "transpose by axes": (lambda x: np.transpose(x, (1, 0)), lambda x: x.T),
    "clip": (lambda x: np.clip(x, 0.9, 1.5), lambda x: x.clip(0.9, 1.5)),
    "subtract": (lambda x: np.subtract(1, x), lambda x: 1 - x),
    "divide": (lambda x: np.divide(x, 3), lambda x: x / 3),
    "power": (lambda x: np.power(x, 2), lambda x: x * x),
    "square": (np.square, lambda x: x * x),
    "sqrt": (np.sqrt, lambda x: x**0.5),
    "reciprocal": (np.reciprocal, lambda x: 1 / x),
    "negative": (np.negative, lambda x: -x),
    "absolute": (lambda x: np.abs(-x), lambda x: x * 1),
    "log1p": (np.log1p, lambda x: (1 + x).log()),
    "expm1": (np.expm1, lambda x: x.exp() - 1),
    "tanh": (np.tanh, lambda x: 1 - 2 / ((2 * x).exp() + 1)),
    "maximum": (lambda x: np.maximum(x, 1), lambda x: x.clip(min=1)),
    "minimum": (lambda x: np.minimum(1, x), lambda x: x.clip(max=1)),
    "copy": (np.copy, lambda x: x.copy()),
}


@pytest.mark.parametrize("name", NUMPY_FUNCTIONS)
def test_numpys_functions_are_recorded_like_the_methods(name: str) -> None:
    of_numpy, method = NUMPY_FUNCTIONS[name]
    (array,) = arrays_for([(3, 4)], np.float64)
    assert_allclose(of_numpy(cs.Parameter(array, np.float64)), of_numpy(array), rtol=1e-15)
    (one,) = gradients(of_numpy, [array], np.float64)
    (other,) = gradients(method, [array], np.float64)
    assert_allclose(one, other, rtol=1e-12)


# ---------------------------------------------------------------- derivatives with several answers


def test_equal_maxima_share_the_gradient() -> None:
    x = cs.Parameter([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])
    x.max(axis=1).sum().backward()
    assert_allclose(x.grad, [[0, 0.5, 0.5], [1 / 3, 1 / 3, 1 / 3]], rtol=1e-6)
    y, z = cs.Parameter([1.0, 2.0]), cs.Parameter([1.0, 1.0])
    np.maximum(y, z).sum().backward()
    assert_array_equal(y.grad, [0.5, 1])
    assert_array_equal(z.grad, [0.5, 0])


def test_max_by_dim_gives_the_gradient_to_the_index_that_it_returns() -> None:
    x = cs.Parameter([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])
    values, indices = x.max(dim=1)
    assert_array_equal(indices, [1, 0])
    values.sum().backward()
    assert_array_equal(x.grad, [[0, 1, 0], [1, 0, 0]])


def test_relu_has_no_gradient_at_zero() -> None:
    x = cs.Parameter([-1.0, 0.0, 2.0])
    x.relu().sum().backward()
    assert_array_equal(x.grad, [0, 0, 1])


def test_powers_at_zero() -> None:
    x = cs.Parameter([0.0, 2.0], np.float64)
    (x**2 + x**1 + x**0).sum().backward()
    assert_array_equal(x.grad, [1, 5])


def test_types_are_numpys_and_gradients_those_of_the_parameters() -> None:
    x, wide = cs.Parameter([1.0, 2.0]), cs.Parameter([3.0, 4.0], np.float64)
    product = x * wide
    assert product.dtype == np.float64
    assert (x * 2.0).dtype == (x * np.float32(2)).dtype == np.float32
    product.sum().backward()
    assert (x.grad.dtype, wide.grad.dtype) == (np.float32, np.float64)
    assert_array_equal(x.grad, [3, 4])
    x.astype(np.float64).sum().backward()
    assert x.grad.dtype == np.float32
    assert_array_equal(x.grad, [4, 5])


@pytest.mark.parametrize(
    "X_type", [np.bool_, np.uint8, np.int64, np.float16, np.float32, np.float64]
)
@pytest.mark.parametrize("W_type", [np.float32, np.float64])
def test_a_matrix_product_of_any_types_is_numpys(isa: str, X_type: Any, W_type: Any) -> None:
    rng = np.random.default_rng(0)
    X = rng.integers(0, 2, (33, 20)).astype(X_type)
    W0 = rng.normal(size=(20, 5)).astype(W_type)
    W = cs.Parameter(W0, W_type)
    product = X @ W
    assert product.dtype == (X @ W0).dtype
    assert_allclose(product, X @ W0, rtol=1e-5, atol=1e-6)
    (product * product).sum().backward()
    assert_allclose(W.grad, 2 * X.astype(float).T @ (X @ W0.astype(float)), rtol=1e-5, atol=1e-5)


def test_products_of_nothing() -> None:
    W = cs.Parameter(np.ones((3, 2)))
    (np.ones((0, 3), np.float32) @ W).sum().backward()
    assert_array_equal(W.grad, np.zeros((3, 2)))
    V = cs.Parameter(np.ones((3, 0)))
    assert (np.ones((2, 3), np.float32) @ V).shape == (2, 0)
    (np.ones((2, 3), np.float32) @ V).sum().backward()
    assert V.grad.shape == (3, 0)
    with pytest.raises(ValueError, match="mismatch"):
        np.ones((2, 4)) @ W


def test_the_product_of_a_reader_is_that_of_linear(isa: str) -> None:
    """`X @ W` runs in the kernel of `linear`, and so do its gradients."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(256, 784)).astype(np.float32)
    W0, y = rng.normal(0, 0.01, (784, 10)), rng.integers(0, 10, 256)
    grads = []
    for net in (lambda W: X @ W, lambda W: cs.linear(X, W)):
        W = cs.Parameter(W0)
        cs.cross_entropy(cs.softmax(net(W)), y).sum().backward()
        grads.append(W.grad)
        assert_array_equal(net(W), cs.linear(X, W0.astype(np.float32)))
    assert_array_equal(*grads)
