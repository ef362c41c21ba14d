"""Special values in the compiled functions: huge, infinite, NaN, ignored, of weight zero, none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import REDUCTIONS, compute_type, make_case
from numpy.testing import assert_allclose, assert_array_equal

from csoftmax import functional, reference

pytestmark = pytest.mark.usefixtures("no_warnings")


@pytest.mark.parametrize("n_classes", [3, 8, 17, 40])
@pytest.mark.parametrize("big", [1e8, 1e30, 3.4028234e38])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_stable_at_any_magnitude(isa: str, dtype: Any, big: float, n_classes: int) -> None:
    logits = np.full((5, n_classes), big, dtype)
    logits[1] = -big
    logits[2, 1:] = -big
    logits[3, :-1] = 0
    logits[4] = np.arange(n_classes) * dtype(big / n_classes)
    y = np.array([0, 1, 0, 0, n_classes - 1])
    assert_allclose(functional.softmax(logits), reference.softmax(logits), rtol=1e-5)
    assert_allclose(functional.log_softmax(logits), reference.log_softmax(logits), rtol=1e-6)
    loss, dlogits = functional.softmax_cross_entropy_grad(logits, y, reduction="none")
    plain, dlogits_plain = reference.softmax_cross_entropy_grad(logits, y, reduction="none")
    assert_allclose(loss, plain, rtol=1e-6)
    assert_allclose(loss[:2], np.log(n_classes), rtol=1e-6)
    assert_allclose(dlogits, dlogits_plain, atol=1e-6)
    W, b = np.eye(n_classes, dtype=dtype), np.zeros(n_classes, dtype)
    assert_allclose(
        functional.linear_cross_entropy(logits, W, b, y, reduction="none"), plain, rtol=1e-6
    )


@pytest.mark.parametrize("n_classes", [3, 8, 17, 40])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_nan_and_infinities(isa: str, dtype: Any, n_classes: int) -> None:
    inf, nan = np.inf, np.nan
    for column in (0, n_classes // 2, n_classes - 1):
        logits = np.zeros((6, n_classes), dtype)
        logits[0, column] = nan
        logits[1, column] = inf
        logits[2] = -inf
        logits[3, column] = -inf
        logits[4] = inf
        y = np.full(6, (column + 1) % n_classes)
        p = functional.softmax(logits)
        log_p = functional.log_softmax(logits)
        loss, dlogits = functional.softmax_cross_entropy_grad(logits, y, reduction="none")
        for result in (p, log_p, loss, dlogits):
            assert np.isnan(result[[0, 1, 2, 4]]).all()
        assert p[3, column] == dlogits[3, column] == 0
        assert log_p[3, column] == -inf
        for got, expected in (
            (p, reference.softmax(logits)),
            (log_p, reference.log_softmax(logits)),
            (loss, reference.softmax_cross_entropy(logits, y, reduction="none")),
        ):
            assert_allclose(got[[3, 5]], expected[[3, 5]], rtol=1e-6)
        impossible = functional.softmax_cross_entropy_grad(logits[3:4], [column])
        assert impossible[0] == inf
        assert impossible[1][0, column] == -1


def test_one_bad_row_does_not_touch_another(isa: str) -> None:
    X, W, b, y, _, scale = make_case(np.float32, 40, 33, 10)
    clean = functional.linear_cross_entropy(X, W, b, y, scale=scale, reduction="none")
    X[7, 5], X[20, 0] = np.nan, np.inf
    losses = functional.linear_cross_entropy(X, W, b, y, scale=scale, reduction="none")
    rest = np.delete(np.arange(40), [7, 20])
    assert np.isnan(losses[[7, 20]]).all()
    assert_array_equal(losses[rest], clean[rest])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_ignored_rows_and_targets_of_zero_are_left_out(isa: str, smoothing: float) -> None:
    nan, inf = np.nan, np.inf
    logits = np.array([[nan, nan], [0.0, 0.0], [inf, 0.0]], np.float32)
    loss, dlogits = functional.softmax_cross_entropy_grad(
        logits, [-100, 1, -100], label_smoothing=smoothing
    )
    assert_allclose(loss, np.log(2), rtol=1e-6)
    assert_array_equal(dlogits[[0, 2]], 0)
    loss, dlogits = functional.softmax_cross_entropy_grad([[0.0, -inf, 0.0]], [[0.5, 0.0, 0.5]])
    assert_allclose(loss, np.log(2))
    assert_array_equal(dlogits, [[0, 0, 0]])
    as_class = functional.softmax_cross_entropy([[1.0, 2.0], [3.0, 5.0]], [0, 1], ignore_index=1)
    assert_allclose(as_class, np.log1p(np.e))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_samples_of_weight_zero_are_left_out(isa: str, dtype: Any, reduction: str) -> None:
    """Even where their loss is NaN or inf; the others are as if those had never been there."""
    X, W, b, y, s, scale = make_case(dtype, 40, 33, 10)
    left_out = [0, 7, 20, 39]
    X[0], X[7, 5], X[20, 0], X[39] = np.nan, np.inf, -np.inf, 3  # the last is an ordinary one
    s[left_out] = 0
    options: Any = {"scale": scale, "reduction": reduction}
    kept = np.delete(np.arange(40), left_out)
    expected = reference.linear_cross_entropy_grad(
        X[kept], W, b, y[kept], sample_weight=s[kept], **options
    )
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if compute_type(dtype) == np.float32 else {}
    for module in (reference, functional):
        loss, dW, db = module.linear_cross_entropy_grad(X, W, b, y, sample_weight=s, **options)
        forward = module.linear_cross_entropy(X, W, b, y, sample_weight=s, **options)
        for losses in (loss, forward):
            if reduction == "none":
                assert_array_equal(losses[left_out], 0)
                losses = losses[kept]
            assert_allclose(losses, expected[0], **tolerance)
        assert_allclose(dW, expected[1], **tolerance)
        assert_allclose(db, expected[2], **tolerance)


def test_nothing_to_average(isa: str) -> None:
    assert np.isnan(functional.softmax_cross_entropy(np.zeros((0, 3)), []))
    assert functional.softmax_cross_entropy(np.zeros((0, 3)), [], reduction="sum") == 0.0
    assert functional.cross_entropy(np.zeros((0, 3)), []).shape == (0,)
    for y, weight in ([[-100, -100], None], [[1, 1], [1.0, 0.0, 1.0]]):
        loss, dlogits = functional.softmax_cross_entropy_grad(np.ones((2, 3)), y, weight=weight)
        assert np.isnan(loss)
        assert_array_equal(dlogits, np.zeros((2, 3)))
    X, W, b = np.ones((2, 4)), np.ones((4, 3)), np.ones(3)
    for n, s in ((0, None), (2, np.zeros(2))):
        loss, dW, db = functional.linear_cross_entropy_grad(
            X[:n], W, b, np.zeros(n, int), sample_weight=s
        )
        assert np.isnan(loss)
        assert_array_equal(dW, np.zeros((4, 3)))
        assert_array_equal(db, np.zeros(3))
