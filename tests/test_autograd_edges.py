"""The edges of the tape: where a gradient could be lost in silence, or be of other values."""

from __future__ import annotations

import copy
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import csoftmax as cs


def matrix() -> Any:
    return cs.Parameter(np.arange(1.0, 10).reshape(3, 3))


LOST: dict[str, Callable[[Any], Any]] = {
    "an ordinary array's dot": lambda W: np.ones((2, 3), "f4").dot(W),
    "a named tuple": lambda W: np.linalg.svd(W)[1],
    "complex numbers": lambda W: np.abs(W * 1j),
    "a Fourier transform": lambda W: np.abs(np.fft.rfft(W)),
    "objects": lambda W: W.astype(object).astype(float),
    "a list of entries": lambda W: W[0, :2] + [W[0, 0], W[0, 1]],
    "a tuple of entries": lambda W: np.maximum(W[1], tuple(W[0])),
    "limits of entries": lambda W: cs.Tensor(np.ones(3, "f4")).clip([W[0, 0], 0, 0]),
    "soft targets": lambda W: cs.softmax_cross_entropy(np.eye(3), cs.softmax(W)),
    "weights of classes": lambda W: cs.softmax_cross_entropy(np.eye(3), [0, 1, 2], weight=W[0]),
    "weights of samples": lambda W: cs.linear_cross_entropy(
        np.eye(3), np.eye(3), None, [0, 1, 2], sample_weight=W[0]
    ),
    "a condition": lambda W: np.exp(W, where=W > 0),
    "a dot of more axes": lambda W: np.dot(W, np.ones((2, 3, 2), "f4")),
    "a deque": lambda W: np.stack(deque([W, W])),
}


@pytest.mark.parametrize("name", LOST)
def test_no_gradient_is_lost_in_silence(name: str) -> None:
    W, b = matrix(), cs.Parameter(1.0)
    with pytest.raises(RuntimeError, match="no gradient goes through"):
        (LOST[name](W).sum() * 1.0 + b.sum()).backward()
    assert b.grad is None


STORED: dict[str, Callable[[Any, Any], Any]] = {
    "an item": lambda x, W: x.__setitem__(0, W[0]),
    "items": lambda x, W: x.__setitem__(slice(None), [W[0, 0]] * 3),
    "data": lambda x, W: setattr(x, "data", W),
    "copyto": lambda x, W: np.copyto(x, W),
    "fill": lambda x, W: x.fill(W.sum()),
    "put": lambda x, W: np.put(x, [0], W[0, 0]),
    "fill_diagonal": lambda x, W: np.fill_diagonal(x, W[0]),
    "sum": lambda x, W: W.sum(0, out=x[0]),
    "numpy.sum": lambda x, W: np.sum(W, axis=0, out=x[0]),
    "concatenate": lambda x, W: np.concatenate([W], out=x),
    "clip": lambda x, W: W.clip(0, 1, out=x),
    "dot": lambda x, W: W.dot(W, out=x),
    "exp": lambda x, W: np.exp(W, out=x),
}


@pytest.mark.parametrize("name", STORED)
def test_recorded_values_are_not_stored_where_nobody_records(name: str) -> None:
    W, x = matrix(), cs.Tensor(np.zeros((3, 3), "f4"))
    with pytest.raises(ValueError, match="written into another array"):
        STORED[name](x, W)
    assert not x.any()
    with cs.no_grad():
        STORED[name](x, W)
    assert x.any()


UPDATES: dict[str, Callable[[Any], Any]] = {
    "in place": lambda W: W.__imul__(2),
    "an item": lambda W: W.__setitem__(0, 5),
    "copyto": lambda W: np.copyto(W, 5),
    "fill": lambda W: W.fill(5),
    "sort": lambda W: W.sort(),
    "data": lambda W: setattr(W, "data", W.data - 1),
}
READERS: dict[str, Callable[[Any], Any]] = {
    "itself": lambda W: W * W,
    "transposes": lambda W: W.T * W.T,
    "rows": lambda W: W[0] * W[0],
    "a reshape": lambda W: W.reshape(-1, order="F") ** 2,
    "clip of a view": lambda W: W.T.clip(2, 5),
    "relu of a view": lambda W: W.squeeze().relu(),
    "a product": lambda W: (np.ones((1, 3), "f4") @ W) @ W.T,
    "a layer": lambda W: cs.linear(np.ones((1, 3), "f4") @ W, W.T),
    "a maximum": lambda W: W.T.max(axis=1),
    "probabilities": lambda W: cs.cross_entropy(W, [0, 1, 2]),
}


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("reader", READERS)
def test_a_gradient_of_values_that_are_gone_is_refused(reader: str, update: str) -> None:
    W = matrix()
    loss = READERS[reader](W).sum()
    UPDATES[update](W)
    with pytest.raises(RuntimeError, match="was updated in place before backward"):
        loss.backward()
    assert W.grad is None
    READERS[reader](W).sum().backward()
    assert W.grad is not None


def test_a_loss_of_probabilities_is_of_those_that_were_computed() -> None:
    W = matrix()
    probs = cs.softmax(W)
    expected = -np.log(np.asarray(probs)[range(3), [0, 1, 2]])
    W[...] = 0
    assert_allclose(cs.cross_entropy(probs, [0, 1, 2]), expected, rtol=1e-6)


@pytest.mark.parametrize("view", ["swapaxes(0, 1)", "diagonal()"])
def test_views_of_recorded_results_are_read_only_too(view: str) -> None:
    y = matrix() * 2
    with pytest.raises(ValueError, match="read-only"):
        eval(f"y.{view}")[...] = 99
    with pytest.raises(ValueError, match="read-only"):
        np.moveaxis(y, 0, 1)[...] = 99
    assert np.lib.stride_tricks.sliding_window_view(matrix(), 2, 1).shape == (3, 2, 2)


@pytest.mark.parametrize("order", ["C", "F", "A", "K"])
def test_reshapes_in_any_order(order: Any) -> None:
    W, weights = matrix(), np.arange(9.0)
    ravelled = W.ravel(order)
    assert_array_equal(ravelled, np.asarray(W).ravel(order))
    (ravelled * weights).sum().backward()
    expected = np.zeros((3, 3))
    places = np.arange(9).reshape(3, 3)
    where = np.asarray(cs.Parameter(places)).ravel(order).astype(int)
    expected.reshape(-1)[where] = weights
    assert_array_equal(W.grad, expected)


def test_what_numpy_does_with_arrays_works_with_tensors() -> None:
    x = cs.Tensor([[1.0, 2.0], [3.0, 4.0]])
    assert_array_equal(np.exp(x, where=x > 0), np.exp(np.asarray(x)))
    cube = cs.Tensor(np.arange(8.0).reshape(2, 2, 2))
    assert_array_equal(np.dot(cube, cube), np.dot(np.asarray(cube), np.asarray(cube)))
    assert_array_equal(np.dot(x, 2), 2 * np.asarray(x))
    assert np.clip(x, a_min=2, a_max=3).max() == 3
    assert np.reshape(x, (4,), order="F")[1] == 3
    assert np.transpose(x, axes=(1, 0))[0, 1] == 3
    assert np.amin(x) == 1
    assert len({cs.Tensor(1), cs.Tensor(1), cs.Tensor(2)}) == 2
    with pytest.raises(TypeError, match="no hash"):
        hash(x)
    assert round(x.mean(), 1) == 2.5
    assert all(item.dtype == object for item in np.broadcast_arrays(x[0], None)[1:])
    assert type(np.stack(x.max(dim=1))) is cs.Tensor
    assert_array_equal(x.view((4,)), x.reshape(4))


def test_operands_may_be_lists() -> None:
    W = matrix()
    (W ** [1, 2, 3]).sum().backward()
    assert_allclose(W.grad[0], [1, 4, 27], rtol=1e-6)
    W.grad = 0
    (W @ [1, 2, 3]).sum().backward()
    assert_array_equal(W.grad, [[1, 2, 3]] * 3)
    ([1, 2, 3] @ W).sum().backward()


def test_a_copy_is_a_parameter_of_its_own() -> None:
    W = copy.copy(matrix())
    W.sum().backward()
    assert_array_equal(W.grad, np.ones((3, 3)))


def test_zero_to_the_power_of_zero() -> None:
    x, y = cs.Parameter([0.0]), cs.Parameter([0.0])
    (x**y).sum().backward()
    assert (x.grad[0], y.grad[0]) == (0, 0)


def test_threads_that_add_to_the_same_gradient() -> None:
    W = cs.Parameter(np.zeros(3))

    def go() -> None:
        for _ in range(200):
            W.sum().backward()

    threads = [threading.Thread(target=go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_array_equal(W.grad, [800] * 3)
