"""Gradients that are sums of several parts', and the updates that they make."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from row_pass_cases import problem

from csoftmax import _kernels, reference

# ---- gradients of parts --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize(
    ("n", "n_features", "n_classes"),
    [(30_000, 300, 10), (8 * 1024, 300, 10), (8 * 1024 + 1, 300, 10), (700, 9001, 3)],
)
def test_partials_add_up_in_one_order(
    isa: str, dtype: Any, n: int, n_features: int, n_classes: int
) -> None:
    """More parts than partials, and threads that take them as they come; rows of which few fit."""
    X, W, b, y, _ = problem(dtype, n, n_features, n_classes, 1)
    scale = 1 / 255 if dtype == np.uint8 else 1.0
    found = []
    for n_threads in (1, 2, 3, 8, 64):
        dW, db = np.full_like(W, np.nan), np.full_like(b, np.nan)
        loss, correct = _kernels.row_pass(
            X, W, b, scale, y=y, factor=1 / n, gradient=(dW, db), n_threads=n_threads
        )
        found.append((loss, correct, dW.tobytes(), db.tobytes()))
    assert len(set(found)) == 1
    expected = reference.linear_cross_entropy_grad(X, W.T.astype(float), b, y, scale=scale)
    assert_allclose(loss / n, expected[0], rtol=1e-5)
    assert_allclose(dW, expected[1].T, rtol=1e-4, atol=1e-6)
    assert_allclose(db, expected[2], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("batch_rows", [31, 128, 129, 300, 2048, 4096, 20_000])
def test_minibatches_of_any_number_of_parts(isa: str, batch_rows: int, momentum: float) -> None:
    """The last batch has fewer parts; an update is that of the whole batch's gradient."""
    n = 5_000 if batch_rows < 300 else 10_000
    X, W, b, y, _ = problem(np.uint8, n, 784, 10, 1)
    order = np.random.default_rng(0).permutation(n)
    found = []
    for n_threads in (1, 2, 8):
        moved, moved_b, vW, vb = W.copy(), b.copy(), np.zeros_like(W), np.zeros_like(b)
        velocity = (vW, vb) if momentum else (None, None)
        result = _kernels.row_pass(
            X, moved, moved_b, 1 / 255, y=y, order=order, batch_rows=batch_rows,
            sgd=(3e-4, momentum, False, 1e-3, *velocity), n_threads=n_threads,
        )  # fmt: skip
        found.append((result, moved.tobytes(), moved_b.tobytes(), vW.tobytes(), vb.tobytes()))
    assert len(set(found)) == 1
    plain, plain_b, vW, vb = W.copy(), b.copy(), np.zeros_like(W), np.zeros_like(b)
    for start in range(0, n, batch_rows):
        rows = order[start : start + batch_rows]
        dW, db = np.empty_like(W), np.empty_like(b)
        _kernels.row_pass(
            X[rows], plain, plain_b, 1 / 255, y=y[rows], factor=1 / len(rows), gradient=(dW, db)
        )
        vW, vb = momentum * vW + dW + np.float32(1e-3) * plain, momentum * vb + db
        plain -= np.float32(3e-4) * vW
        plain_b -= np.float32(3e-4) * vb
    assert_allclose(moved, plain, rtol=1e-4, atol=1e-6)
    assert_allclose(moved_b, plain_b, rtol=1e-4, atol=1e-6)


# ---- the bias ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize(("n", "n_classes"), [(100, 10), (1300, 10), (1300, 200)])
def test_a_frozen_bias_keeps_its_bits(isa: str, dtype: Any, n: int, n_classes: int) -> None:
    """Batches of one part, of several, of a shared block: W moves, as in the reference."""
    n_features = 784 if n_classes > 10 else 70
    X, W, b, y, _ = problem(dtype, n, n_features, n_classes, 1)
    b[0] = -0.0  # minus 0 times anything is 0
    W_start, scale = W.copy(), 1 / 255 if dtype == np.uint8 else 1.0
    vW, vb = np.zeros_like(W), np.ones_like(b)
    rule = (1e-3, 0.9, True, 1e-3)
    moved, moved_b = W.copy(), b.copy()
    _kernels.row_pass(
        X, moved, moved_b, scale, y=y, batch_rows=n - 30, sgd=(*rule, vW, vb), bias_rate=0.0,
        n_threads=2,
    )  # fmt: skip
    assert moved_b.tobytes() == b.tobytes()
    assert (vb == 1).all()
    expected = W_start.T.astype(float)
    reference.sgd_epoch(
        X, y, expected, b.astype(float), None, n - 30, 1e-3, scale=scale, momentum=0.9,
        nesterov=True, weight_decay=1e-3, bias_lr=0,
    )  # fmt: skip
    assert abs(expected - W_start.T).max() > 1e-5
    assert_allclose(moved, expected.T, rtol=1e-4, atol=1e-6)


def test_a_frozen_bias_is_not_reached_by_nan(isa: str) -> None:
    X, W, b, y, _ = problem(np.float32, 100, 70, 10, 1)
    X[3, 3] = np.nan
    moved, moved_b = W.copy(), b.copy()
    _kernels.row_pass(
        X, moved, moved_b, 1.0, y=y, batch_rows=50, sgd=(0.1, 0.0, False, 0.0, None, None),
        bias_rate=0,
    )  # fmt: skip
    assert_array_equal(moved_b, b)
    assert np.isnan(moved).any()


def test_a_bias_at_the_rate_of_the_weights_is_the_default(isa: str) -> None:
    X, W, b, y, _ = problem(np.uint8, 700, 70, 10, 1)
    found = []
    for bias_rate in (None, 0.1, 0.05):
        moved, moved_b = W.copy(), b.copy()
        _kernels.row_pass(
            X, moved, moved_b, 1 / 255, y=y, batch_rows=256,
            sgd=(0.1, 0.0, False, 0.0, None, None), bias_rate=bias_rate,
        )  # fmt: skip
        found.append((moved.tobytes(), moved_b.tobytes()))
    assert found[0] == found[1] != found[2]
