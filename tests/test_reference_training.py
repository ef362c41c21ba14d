"""An epoch in plain NumPy against PyTorch's results, its own steps, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from csoftmax import reference

EPS = {np.float32: 2.0**-23, np.float64: 2.0**-52}

pytestmark = pytest.mark.usefixtures("no_warnings")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


# torch.optim.SGD, float64, two epochs of two batches: (momentum, nesterov, weight_decay of W,
# loss and accuracy of the second epoch, W, b)
SGD = [
    (
        0.0, False, 0.0, 0.9270706063, 0.75,
        [[0.0979015627, -0.2633966778, 0.1654951151], [0.6176731569, -0.4029043613, 0.0852312043]],
        [-0.2393934685, 0.6520710998, -0.1126776313],
    ),
    (
        0.9, False, 0.1, 0.7200366642, 1.0,
        [[0.0581559715, -0.9439336317, 0.8857776602], [0.6908003382, -0.7538108502, 0.237398637]],
        [-0.4573254241, 1.1409074967, -0.3835820726],
    ),
    (
        0.9, True, 0.1, 0.59901486, 1.0,
        [[0.0546509031, -1.0343673815, 0.9797164784], [0.7549004042, -0.9035528344, 0.2908977791]],
        [-0.5208945473, 1.368355139, -0.5474605917],
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("momentum", "nesterov", "weight_decay", "loss", "accuracy", "W_end", "b_end"), SGD
)
def test_sgd_epoch_is_torchs(
    momentum: float, nesterov: bool, weight_decay: float,
    loss: float, accuracy: float, W_end: Any, b_end: Any,
) -> None:  # fmt: skip
    X = np.array([[1.0, 2.0], [0.0, -1.0], [3.0, 1.0], [-2.0, 0.5]])
    y = np.array([0, 1, 2, 1])
    W, b = np.array([[0.1, 0.2, -0.3], [0.4, 0.0, -0.1]]), np.array([0.0, 0.1, 0.2])
    velocity = np.zeros_like(W), np.zeros_like(b)
    for _ in range(2):
        got = reference.sgd_epoch(
            X, y, W, b, [2, 0, 3, 1], 3, 0.5, scale=0.5, momentum=momentum,
            nesterov=nesterov, weight_decay=weight_decay, velocity=velocity,
        )  # fmt: skip
    assert_allclose(got, (loss, accuracy), atol=1e-9)
    assert_allclose(W, W_end, atol=1e-9)
    assert_allclose(b, b_end, atol=1e-9)


@pytest.mark.parametrize("dtype", EPS)
def test_sgd_epoch_is_its_steps(dtype: Any, rng: np.random.Generator) -> None:
    X, y = rng.integers(0, 255, (25, 6), dtype=np.uint8), rng.integers(0, 3, 25)
    W, b = rng.normal(size=(6, 3)).astype(dtype), np.zeros(3, dtype)
    W_steps, b_steps, losses, correct = W.copy(), b.copy(), 0.0, 0
    for start in range(0, 25, 8):
        batch = slice(start, start + 8)
        logits = reference.linear(X[batch], W_steps, b_steps, scale=1 / 255)
        correct += (logits.argmax(axis=1) == y[batch]).sum()
        loss, dW, db = reference.linear_cross_entropy_grad(
            X[batch], W_steps, b_steps, y[batch], scale=1 / 255
        )
        losses += loss * len(X[batch])
        W_steps -= (0.1 * dW).astype(dtype)
        b_steps -= (0.1 * db).astype(dtype)
    loss, accuracy = reference.sgd_epoch(X, y, W, b, None, 8, 0.1, scale=1 / 255)
    assert_allclose(loss, losses / 25, rtol=8 * EPS[dtype])
    assert accuracy == correct / 25
    assert_allclose(W, W_steps, atol=8 * EPS[dtype])
    assert_allclose(b, b_steps, atol=8 * EPS[dtype])


@pytest.mark.parametrize("nesterov", [False, True])
def test_the_bias_has_its_own_rate(nesterov: bool, rng: np.random.Generator) -> None:
    """With one batch b moves by a share of what it would have moved by, and W as it would have."""
    X, y = rng.normal(size=(25, 6)), rng.integers(0, 3, 25)
    W, b = rng.normal(size=(6, 3)), rng.normal(size=3)
    rule = {"momentum": 0.5, "nesterov": nesterov, "weight_decay": 0.1}
    moved, velocities = [], []
    for bias_lr in (None, 0.1, 0.025, 0):
        parameters = W.copy(), b.copy()
        velocity = np.ones_like(W), np.ones_like(b)
        reference.sgd_epoch(
            X, y, *parameters, None, 25, 0.1, bias_lr=bias_lr, velocity=velocity, **rule
        )
        moved.append(parameters)
        velocities.append(velocity[1])
    for W_moved, _ in moved[1:]:
        assert_array_equal(W_moved, moved[0][0])
    assert (moved[0][0] != W).all()
    assert_array_equal(moved[1][1], moved[0][1])
    assert_allclose(moved[2][1] - b, 0.25 * (moved[0][1] - b), rtol=1e-12)
    assert (moved[0][1] != b).all()
    assert_array_equal(moved[3][1], b)
    assert_array_equal(velocities[3], np.ones(3))


def test_sgd_epoch_of_nothing() -> None:
    W, b = np.ones((2, 3)), np.ones(3)
    loss, accuracy = reference.sgd_epoch(np.ones((4, 2)), [0] * 4, W, b, [], 2, 0.1)
    assert np.isnan(loss)
    assert np.isnan(accuracy)
    assert (W == 1).all()


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"y": [0, 1, 3]}, ValueError, r"y\[2\] is 3, expected an integer in 0\.\.2"),
        ({"order": [0, 3]}, ValueError, r"order\[1\] is 3, expected an integer in 0\.\.2"),
        ({"W": np.ones((3, 3))}, ValueError, "X has 2 features but W has 3 rows"),
        ({"W": np.ones((2, 3), np.float16)}, TypeError, "W is float16, expected a float32 or"),
        ({"W": [[1.0] * 3] * 2}, TypeError, "W is float64, expected a float32 or"),
        ({"b": np.ones(3, np.float32)}, TypeError, "b has dtype float32, expected float64"),
        ({"velocity": (np.ones((2, 3)), np.ones(2))}, ValueError, r"velocity\[1\] has shape"),
        ({"batch_size": 0}, ValueError, "batch_size is 0, expected at least 1"),
        ({"lr": np.nan}, ValueError, "lr is nan, expected a finite number"),
        ({"lr": 0}, ValueError, "lr is 0.0, expected a number > 0"),
        ({"momentum": "0.9"}, TypeError, "momentum is a str, expected a number"),
        ({"bias_lr": -0.1}, ValueError, r"bias_lr is -0\.1, expected at least 0"),
    ],
)
def test_sgd_epoch_refuses(changed: dict[str, Any], error: Any, message: str) -> None:
    good: dict[str, Any] = {
        "X": np.ones((3, 2)), "y": [0, 1, 2], "W": np.ones((2, 3)), "b": np.ones(3),
        "order": None, "batch_size": 2, "lr": 0.1,
    }  # fmt: skip
    arguments = good | changed
    with pytest.raises(error, match=message):
        reference.sgd_epoch(**arguments)
    assert (np.asarray(arguments["W"]) == 1).all()
