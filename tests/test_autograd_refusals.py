"""What the tape does not record, and what it keeps its users from."""

from __future__ import annotations

import gc
import re
import weakref
from typing import Any

import numpy as np
import oracle
import pytest
from autograd_cases import problem
from numpy.testing import assert_allclose, assert_array_equal

import csoftmax as cs

LINE = re.compile(r"\(line \d+ of .*test_autograd_refusals\.py\)")
UNRECORDED = {
    "numpy.sin": np.sin,
    "numpy.add.reduce": np.add.reduce,
    "numpy.cumsum": np.cumsum,
    "numpy.std": np.std,
    "numpy.where": lambda x: np.where(x > 0, x, 0),
    "numpy.concatenate": lambda x: np.concatenate([x, np.ones(3, "f4")]),
    "numpy.stack": lambda x: np.stack([x, x])[0],
    "numpy.split": lambda x: np.split(x, 3)[0],
    "numpy.linalg.norm|numpy.norm": np.linalg.norm,
    "cumsum": lambda x: x.cumsum(),
    "round": lambda x: x.round(2),
    "prod": lambda x: x.prod(),
    "sum with dtype, out or where": lambda x: x.sum(dtype=np.float64),
    "clip with such limits": lambda x: x.clip(min=x[0]),
    "an array method": lambda x: x.view(),
    "linear_cross_entropy": lambda x: cs.linear_cross_entropy(
        np.ones((1, 3)), x.reshape(3, 1), None, [0]
    ),
}


@pytest.mark.parametrize("name", UNRECORDED)
def test_backward_through_another_operation_names_it_its_line_and_two_ways_out(name: str) -> None:
    x, other = cs.Parameter([1.0, 2.0, 3.0]), cs.Parameter([1.0])
    result = UNRECORDED[name](x)
    for loss in (result.sum(), (result * 2).mean(), x.sum() + other.sum() * result.max()):
        with pytest.raises(RuntimeError, match=f"no gradient goes through ({name}) ") as failed:
            loss.backward()
        assert LINE.search(str(failed.value))
        assert ".detach()" in str(failed.value)
        assert "recorded operations" in str(failed.value)
        assert x.grad is None  # not even the part that is recorded
        assert other.grad is None


def test_what_is_not_recorded_computes_as_ever() -> None:
    """To look at numbers while training is no mistake."""
    x = cs.Parameter([1.26, 2.0])
    y = x * 2
    assert_array_equal(y.round(1), np.float32([2.5, 4]))
    assert repr(y) == "Tensor([2.52, 4.  ], dtype=float32)"
    assert f"{y.sum():.2f}" == "6.52"
    assert_array_equal(np.concatenate([y, y]).argmax(), 1)
    assert_array_equal(np.histogram(y, bins=2)[0], [1, 1])
    assert y.tolist() == [np.float32(2.52), 4]
    assert np.isfinite(y).all()
    assert np.array_equal(y, y)
    assert [float(item) for item in y] == y.tolist()
    with cs.no_grad():
        assert not np.sin(x).requires_grad


def test_a_maximum_along_an_axis_says_which_of_its_two_meanings() -> None:
    """``X.max(1)[0]`` would be a row in NumPy's meaning, the values in the tensor library's."""
    x = cs.Parameter([[1.0, 3.0], [5.0, 2.0]])
    for name in ("max", "min"):
        with pytest.raises(TypeError, match=rf"{name}\(1\) has two meanings: {name}\(axis=1\)"):
            getattr(x, name)(1)
        with pytest.raises(TypeError, match="two meanings"):
            getattr(x, name)(1, keepdims=True)
    assert_array_equal(np.max(x, 1), [3, 5])
    assert_array_equal(x.max(axis=1), [3, 5])
    assert_array_equal(x.max(1, keepdim=True)[0], [[3], [5]])
    assert_array_equal(x.sum(1, True), [[4], [7]])


def test_out_of_the_tape() -> None:
    x = cs.Parameter([1.0, 2.0])
    (x * np.sin(x.detach())).sum().backward()
    assert_allclose(x.grad, np.sin([1, 2]), rtol=1e-6)
    assert np.shares_memory(x, x.detach())
    assert type((x * 2).numpy()) is np.ndarray
    x.grad.data.zero_()
    assert_array_equal(x.grad, [0, 0])
    x.data -= 1
    assert_array_equal(x, [0, 1])
    with pytest.raises(ValueError, match="read-only"):
        (x * 2).data = 0
    assert x.to("cpu") is x

    @cs.no_grad()
    def doubled(y: Any) -> Any:
        return 2 * y

    assert not doubled(x).requires_grad
    assert (2 * x).requires_grad
    with pytest.raises(ZeroDivisionError), cs.no_grad(), cs.no_grad():
        raise ZeroDivisionError
    assert (2 * x).requires_grad


@pytest.mark.parametrize("make", [lambda: cs.Tensor([1.0]), lambda: inside_no_grad()])
def test_backward_of_what_came_from_no_parameter_says_so(make: Any) -> None:
    with pytest.raises(RuntimeError, match="no Parameter went into: make W and b with req"):
        make().backward()


def inside_no_grad() -> Any:
    with cs.no_grad():
        return cs.Parameter([1.0]).sum()


@pytest.mark.parametrize("of", ["loss", "probs", "logits"])
def test_backward_of_more_than_a_number_says_so(of: str) -> None:
    X, W0, b0, y = problem()
    logits = cs.linear(X, cs.Parameter(W0), b0)
    probs = cs.softmax(logits)
    result = {"loss": cs.cross_entropy(probs, y), "probs": probs, "logits": logits}[of]
    with pytest.raises(RuntimeError, match=r"a single number, this has shape \(13"):
        result.backward()


def test_recorded_results_cannot_change_behind_the_tape() -> None:
    """l *= 2 would keep the gradient of l."""
    X, W0, b0, y = problem()
    logits = cs.linear(X, cs.Parameter(W0), b0)
    probs = cs.softmax(logits)
    losses = cs.cross_entropy(probs, y)
    for array in (logits, probs, losses, losses.sum(), losses * 2, logits.T):
        with pytest.raises(ValueError, match="computed from a Parameter and is read-only"):
            array *= 2
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
        with pytest.raises(ValueError, match="read-only"):
            np.add.at(array, 0, 1)
    W = cs.Parameter(np.eye(2))
    with pytest.raises(ValueError, match=r"to update a part of a Parameter, do it inside no_grad"):
        W[0] *= 2
    with cs.no_grad():
        W[0] *= 2
    assert W[0, 0] == 2
    total = np.zeros(len(y))
    with pytest.raises(ValueError, match="written into another array"):
        total += losses
    free = losses.detach().copy()
    free *= 2
    assert_allclose(free, 2 * losses)


def test_a_value_that_backward_reads_must_be_there_still() -> None:
    V, W = cs.Parameter(np.eye(2)), cs.Parameter(np.eye(2))
    loss = (np.ones((1, 2), np.float32) @ V @ W).sum()
    W *= 2
    with pytest.raises(RuntimeError, match=r"matmul read was updated in place before backward\(\)"):
        loss.backward()
    assert V.grad is None
    # the gradient of a lone linear layer reads only X
    loss = (np.ones((1, 2), np.float32) @ W).sum()
    W[...] = 0
    loss.backward()
    assert_array_equal(W.grad, np.ones((2, 2)))


def test_long_and_branching_tapes() -> None:
    x = cs.Parameter([1.0], np.float64)
    chain = x
    for _ in range(5000):  # no recursion
        chain = chain * 1.0
    chain.backward()
    assert_array_equal(x.grad, [1])
    x.grad = None
    tree = x
    for _ in range(60):  # each node once, not 2^60 paths
        tree = (tree + tree) / 2
    tree.backward()
    assert_array_equal(x.grad, [1])


def test_the_memory_of_a_step_is_freed_when_its_loss_is() -> None:
    W = cs.Parameter(np.ones((4, 3)))
    gc.collect()
    gc.disable()
    try:
        hidden = np.ones((2, 4), np.float32) @ W
        alive = [weakref.ref(hidden), weakref.ref(hidden._node)]
        probs = hidden.exp() / hidden.exp().sum(1, keepdim=True)
        loss = -probs[range(2), [0, 2]].log().sum()
        alive += [weakref.ref(probs), weakref.ref(loss)]
        loss.backward()
        del hidden, probs, loss
        assert [reference() for reference in alive] == [None] * 4
    finally:
        gc.enable()


def test_softmax_cross_entropy_and_log_softmax_are_recorded() -> None:
    X, W0, b0, y = problem()
    weight = np.array([0.5, 1, 2, 0, 1.5])

    def losses(W: Any) -> dict[str, Any]:
        logits = cs.linear(X, W, b0)
        return {
            "mean": cs.softmax_cross_entropy(logits, y, label_smoothing=0.1),
            "sum": cs.softmax_cross_entropy(logits, y, reduction="sum", weight=weight),
            "none": (cs.softmax_cross_entropy(logits, y, reduction="none") * (1 + y)).sum(),
            "axis": cs.softmax_cross_entropy(logits.T, y, axis=0, reduction="sum"),
            "log_softmax": (cs.log_softmax(logits, axis=0) * W[0]).sum(),
        }

    for name in losses(W0):
        W = cs.Parameter(W0, np.float64)
        losses(W)[name].backward()
        expected = oracle.central_difference(lambda name=name: float(losses(W0)[name]), W0)
        assert_allclose(W.grad, expected, atol=1e-7, err_msg=name)
        assert_allclose(losses(W)[name], losses(W0)[name], rtol=1e-14)


def test_a_readers_softmax_overflows_as_the_book_says_and_the_stable_one_does_not() -> None:
    X, y = np.float32([[1, 0], [0, 1]]), np.array([0, 1])
    W = cs.Parameter([[100.0, 0.0], [0.0, 100.0]])
    with pytest.warns(RuntimeWarning, match="overflow encountered in exp") as warned:
        exponentials = (X @ W).exp()
    assert warned[0].filename == __file__  # the reader's own line
    with np.errstate(over="raise"), pytest.raises(FloatingPointError, match="overflow"):
        (X @ W).exp()
    with np.errstate(over="ignore"):
        assert np.isinf((X @ W).exp()).any()
    with pytest.warns(RuntimeWarning, match="invalid value"):
        probs = exponentials / exponentials.sum(1, keepdim=True)
    assert np.isnan(probs[range(2), y]).all()
    probs[range(2), y].log().sum().backward()
    assert np.isnan(W.grad).any()
    V = cs.Parameter(W)
    cs.cross_entropy(cs.softmax(X @ V), y).sum().backward()
    assert np.isfinite(V.grad).all()
    shifted = X @ W - (X @ W).max(axis=1, keepdims=True)  # exercise 3
    repaired = shifted[range(2), y] - shifted.exp().sum(1).log()
    assert_array_equal(repaired, [0, 0])


def test_parameter_as_input_gets_its_gradient() -> None:
    X, W = cs.Parameter(np.ones((2, 3))), cs.Parameter(np.eye(3))
    cs.cross_entropy(cs.softmax(cs.linear(X, W)), [0, 1]).sum().backward()
    assert X.grad is not None
    np.testing.assert_allclose(X.grad, [[-2 / 3, 1 / 3, 1 / 3], [1 / 3, -2 / 3, 1 / 3]], rtol=1e-6)
    logits = cs.Parameter(np.zeros((1, 2)))
    cs.cross_entropy(cs.softmax(logits), [0]).sum().backward()
    np.testing.assert_allclose(logits.grad, [[-0.5, 0.5]])


def test_out_of_a_recorded_operation_is_refused() -> None:
    W = cs.Parameter(np.eye(3))
    with pytest.raises(ValueError, match="recorded"):
        cs.linear(np.ones((2, 3)), W, out=np.empty((2, 3)))
    with pytest.raises(ValueError, match="recorded"):
        cs.softmax(cs.linear(np.ones((2, 3)), W), out=np.empty((2, 3), np.float32))
