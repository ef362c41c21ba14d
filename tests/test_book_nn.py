"""The layers, losses and optimizers of the book's concise programs."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import csoftmax as cs
from csoftmax.books import functional, init, nn, optim

Array = Any


@pytest.fixture
def batch() -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    return rng.random((6, 1, 2, 2), np.float32), rng.integers(0, 3, 6)


def loss_by_hand(X: Array, y: Array, weight: Array, bias: Array) -> Array:
    """The losses in float64, as the chapter has them."""
    logits = X.reshape(len(X), -1).astype(np.float64) @ np.float64(weight).T + np.float64(bias)
    return np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(y)), y]


def gradient_by_hand(X: Array, y: Array, weight: Array, bias: Array) -> tuple[Array, Array]:
    """Central differences of the summed losses."""
    gradients = []
    for array in (weight, bias):
        gradient = np.zeros(array.shape)
        for i in np.ndindex(array.shape):
            sides = []
            for step in (1e-5, -1e-5):
                moved = np.float64(array)
                moved[i] += step
                pair = (moved, bias) if array is weight else (weight, moved)
                sides.append(loss_by_hand(X, y, *pair).sum())
            gradient[i] = (sides[0] - sides[1]) / 2e-5
        gradients.append(gradient)
    return gradients[0], gradients[1]


@pytest.mark.parametrize("layer", [nn.Linear(4, 3), nn.LazyLinear(3)])
def test_a_net_s_loss_and_gradients(layer: Any, batch: tuple[Array, Array]) -> None:
    X, y = batch
    net = nn.Sequential(nn.Flatten(), layer)
    losses = nn.CrossEntropyLoss(reduction="none")(net(X), y)
    weight, bias = np.array(net[1].weight), np.array(net[1].bias)
    assert_allclose(losses, loss_by_hand(X, y, weight, bias), rtol=1e-6)
    losses.sum().backward()
    dweight, dbias = gradient_by_hand(X, y, weight, bias)
    assert_allclose(net[1].weight.grad, dweight, atol=1e-5)
    assert_allclose(net[1].bias.grad, dbias, atol=1e-5)


@pytest.mark.parametrize(("reduction", "divisor"), [("mean", 6), ("sum", 1)])
def test_a_reduced_loss(reduction: str, divisor: int, batch: tuple[Array, Array]) -> None:
    X, y = batch
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    loss = functional.cross_entropy(net(X), y, reduction=reduction)
    parameters = np.array(net[1].weight), np.array(net[1].bias)
    assert_allclose(loss, loss_by_hand(X, y, *parameters).sum() / divisor, rtol=1e-6)
    loss.backward()
    assert_allclose(net[1].bias.grad, gradient_by_hand(X, y, *parameters)[1] / divisor, atol=1e-5)


def test_the_loss_is_stable_and_takes_logits_that_nothing_recorded() -> None:
    logits, y = np.float32([[1000, 0], [0, 1000], [-1000, 0]]), np.array([0, 0, 1])
    losses = nn.CrossEntropyLoss(reduction="none")(logits, y)
    assert_array_equal(losses, np.float32([0, 1000, 0]))
    assert losses.dtype == np.float32


def test_a_linear_layer_starts_uniform_within_the_bound_of_its_width() -> None:
    np.random.seed(0)
    layer = nn.Linear(100, 1000)
    for parameter in (np.asarray(layer.weight), np.asarray(layer.bias)):
        assert abs(parameter).max() <= 0.1
        assert 0.055 < parameter.std() < 0.06  # 0.1 / sqrt(3) = 0.0577
    assert layer.weight.flags.c_contiguous  # as the kernels read it, without a copy


def test_a_layer_without_a_bias() -> None:
    layer = nn.Linear(2, 2, bias=False)
    init.ones_(layer.weight)
    assert layer.bias is None
    assert_array_equal(layer(np.float32([[1, 2]])), [[3, 3]])
    assert len(list(layer.parameters())) == 1


def test_a_layer_works_on_the_last_axis() -> None:
    layer = nn.Linear(2, 3)
    X = np.ones((4, 5, 2), np.float32)
    assert layer(X).shape == (4, 5, 3)
    assert layer(X[0, 0]).shape == (3,)


def test_parameters_of_a_lazy_layer_are_the_same_objects_after_the_first_batch() -> None:
    net = nn.Sequential(nn.Flatten(), nn.LazyLinear(3))
    trainer = optim.SGD(net.parameters(), lr=0.1)
    assert [parameter.shape for parameter in net.parameters()] == [(0,), (0,)]
    X, y = np.ones((2, 2, 2), np.float32), np.array([0, 1])
    nn.CrossEntropyLoss()(net(X), y).backward()
    before = np.array(net[1].bias)
    trainer.step()
    assert trainer.params[0] is net[1].weight
    assert net[1].bias[0] > before[0]
    assert net[1].bias[2] < before[2]
    assert type(net[1]) is nn.Linear


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copy_of_a_lazy_layer_is_lazy_and_one_of_a_layer_has_its_weights(copied: Any) -> None:
    net = nn.Sequential(nn.LazyLinear(3))
    other = copied(net)
    X = np.ones((2, 4), np.float32)
    assert net(X).shape == other(X).shape == (2, 3)
    assert_array_equal(copied(net)(X), net(X))


class Net(nn.Module):
    """Parts of every kind, as a reader might set them."""

    def __init__(self) -> None:
        self.W = cs.Parameter(np.zeros((2, 2)))
        self.inner = nn.Sequential(nn.Linear(2, 2, bias=False))
        self.lr = 0.1
        self.again = self.W

    def forward(self, X: Array) -> Array:
        return X


def test_a_module_finds_what_belongs_to_it() -> None:
    net = Net()
    first, second = net.parameters()
    assert first is net.W
    assert second is net.inner[0].weight
    met: list[Any] = []
    assert net.apply(met.append) is net
    assert met == [net.inner[0], net.inner, net]
    assert net.eval() is net
    assert [module.training for module in net.modules()] == [False] * 3
    net.train()
    assert net.inner[0].training
    assert net(3) == 3


def test_init_weights_as_the_second_edition_has_it() -> None:
    np.random.seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))

    def init_weights(module: Any) -> None:
        if type(module) is nn.Linear:
            nn.init.normal_(module.weight, std=0.01)

    net.apply(init_weights)
    assert 0.0095 < np.asarray(net[1].weight).std() < 0.0105


def test_inits_fill_in_place() -> None:
    np.random.seed(0)
    b = cs.Parameter(np.zeros(1000))
    assert init.uniform_(b, 2, 4) is b
    assert 2 <= np.asarray(b).min() < 2.1 < 3.9 < np.asarray(b).max() < 4
    assert_array_equal(init.constant_(b, 5), np.full(1000, 5))
    assert_array_equal(init.zeros_(b), np.zeros(1000))
    assert abs(np.asarray(init.normal_(b, 3, 0.1)).mean() - 3) < 0.02


def test_a_net_shows_what_it_is_made_of() -> None:
    net = nn.Sequential(nn.Flatten(), nn.LazyLinear(10))
    assert repr(net) == (
        "Sequential(\n  (0): Flatten()\n"
        "  (1): LazyLinear(in_features=0, out_features=10, bias=True)\n)"
    )


@pytest.mark.parametrize(("momentum", "weight_decay"), [(0.0, 0.0), (0.9, 0.0), (0.5, 0.1)])
def test_sgd_s_steps(momentum: float, weight_decay: float) -> None:
    b = cs.Parameter([1.0, -2.0], dtype=np.float64)
    trainer = optim.SGD([b], lr=0.1, momentum=momentum, weight_decay=weight_decay)
    expected, velocity = np.array([1.0, -2.0]), np.zeros(2)
    for gradient in ([1.0, 2.0], [-3.0, 0.5]):
        trainer.zero_grad()
        b.grad = np.array(gradient)
        trainer.step()
        velocity = momentum * velocity + np.array(gradient) + weight_decay * expected
        expected = expected - 0.1 * velocity
        assert_allclose(b, expected, rtol=1e-14)


def test_a_step_is_an_update_that_the_tape_knows_of() -> None:
    b = cs.Parameter([1.0])
    loss = (b * b).sum()
    loss.backward()
    optim.SGD([b], lr=0.1).step()
    with pytest.raises(RuntimeError, match="updated in place before backward"):
        loss.backward()


def test_sgd_moves_nothing_where_a_parameter_has_no_gradient() -> None:
    W, b = cs.Parameter([1.0]), cs.Parameter([1.0, 1.0])
    trainer = optim.SGD([W, b], lr=0.5)
    W.grad = np.ones(1, np.float32)
    with pytest.raises(
        RuntimeError, match=r"params\[1\] of shape \(2,\) has no .*no recorded oper"
    ):
        trainer.step()
    assert_array_equal(W, [1])
    trainer.zero_grad()
    assert W.grad is None
    with pytest.raises(RuntimeError, match="no parameter has a gradient"):
        trainer.step()


def copied_outside_the_tape() -> Any:
    with cs.no_grad():
        return cs.Parameter([0.0]).view()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.Linear(4, 3)(np.zeros((2, 1, 2, 2))), ValueError, "in_features=4: an nn.Flat"),
        (lambda: nn.Linear(0, 3), ValueError, "in_features"),
        (lambda: nn.LazyLinear(2.5), TypeError, "out_features"),
        (lambda: nn.Sequential(nn.Flatten, nn.Flatten()), TypeError, "layer 0 is a type"),
        (lambda: nn.Module()(1), NotImplementedError, "Module has no forward"),
        (lambda: nn.CrossEntropyLoss(reduction="max"), ValueError, "reduction"),
        (lambda: functional.cross_entropy(np.zeros((2, 3)), np.array([0, 3])), ValueError, "3"),
        (lambda: init.normal_(np.zeros(3), std=-1), ValueError, "std is -1"),
        (lambda: init.uniform_(np.zeros(3), 1, 0), ValueError, "a is 1 and b 0"),
        (lambda: optim.SGD([], lr=0.1), ValueError, "params is empty"),
        (lambda: optim.SGD(cs.Parameter([0.0]), lr=0.1), TypeError, "expected a list of them"),
        (lambda: optim.SGD([np.zeros(3)], lr=0.1), TypeError, r"params\[0\] is a ndarray"),
        (lambda: optim.SGD([cs.Parameter([0.0]).view()], lr=1), TypeError, r"\[0\] is a copy or a"),
        (lambda: optim.SGD([copied_outside_the_tape()], lr=1), TypeError, r"\[0\] is a copy or a"),
        (lambda: optim.SGD([cs.Parameter([0.0])], lr=0), ValueError, "lr is 0"),
        (lambda: optim.SGD([cs.Parameter([0.0])], lr=1, momentum=1), ValueError, "momentum is 1"),
        (lambda: optim.Optimizer([cs.Parameter([0.0])]).step(), NotImplementedError, "no step"),
    ],
)
def test_refusals(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
