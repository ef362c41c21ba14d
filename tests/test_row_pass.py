"""Several problems over the same rows in one pass; what bytes and tiles could get wrong."""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from row_pass_cases import problem

from csoftmax import _kernels, reference


@pytest.mark.usefixtures("free_threads")
@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    ("n", "n_features", "n_classes", "heads"),
    [
        (1, 1, 1, 2),
        (37, 5, 3, 4),
        (700, 65, 10, 5),
        (1500, 784, 10, 7),
        (300, 20, 120, 3),
        (33, 784, 10, 10),
        (65, 784, 60, 2),
        (97, 784, 10, 10),
        (1057, 784, 10, 10),
    ],
)
def test_every_head_has_the_bits_it_has_alone(
    isa: str, dtype: Any, n: int, n_features: int, n_classes: int, heads: int
) -> None:
    X, W, b, y, weights = problem(dtype, n, n_features, n_classes, heads)
    weight_of_head = np.arange(heads) % 3
    scale = 1 / 255 if dtype == np.uint8 else 1.0
    for n_threads in (1, 2, 3):
        dW, db = np.full_like(W, np.nan), np.full_like(b, np.nan)
        losses, correct = _kernels.row_pass(
            X, W, b, scale, y=y, heads=heads, sample_weight=weights,
            weight_of_head=weight_of_head, gradient=(dW, db), n_threads=n_threads,
        )  # fmt: skip
        assert len(losses) == len(correct) == heads
        for h in range(heads):
            own = slice(h * n_classes, (h + 1) * n_classes)
            dW_alone, db_alone = np.empty_like(W[own]), np.empty_like(b[own])
            loss, n_correct = _kernels.row_pass(
                X, W[own], b[own], scale, y=y, heads=1, sample_weight=weights[weight_of_head[h]],
                gradient=(dW_alone, db_alone),
            )  # fmt: skip
            assert ([losses[h]], [correct[h]]) == (loss, n_correct)
            assert_array_equal(dW[own], dW_alone)
            assert_array_equal(db[own], db_alone)


def test_heads_share_one_row_of_weights(isa: str) -> None:
    X, W, b, y, weights = problem(np.float32, 50, 4, 3, 2)
    shared = _kernels.row_pass(X, W, b, 1.0, y=y, heads=2, sample_weight=weights[0])
    each = _kernels.row_pass(
        X, W, b, 1.0, y=y, heads=2, sample_weight=weights, weight_of_head=np.array([0, 0])
    )
    assert shared == each
    one = _kernels.row_pass(X, W[:3], b[:3], 1.0, y=y, heads=1)
    loss, correct = _kernels.row_pass(X, W[:3], b[:3], 1.0, y=y)
    assert one == ([loss], [correct])


def test_wrong_heads_are_refused() -> None:
    X, W, b, y, weights = problem(np.float32, 50, 4, 3, 2)
    for wrong in (0, -1, 4, 7):
        with pytest.raises(ValueError, match=f"heads is {wrong}: expected a divisor of 6"):
            _kernels.row_pass(X, W, b, 1.0, y=y, heads=wrong)
    with pytest.raises(ValueError, match="no results by row"):
        _kernels.row_pass(X, W, b, 1.0, y=y, heads=2, losses=np.empty(50, np.float32))
    for of_head, found in (([0, 3], 3), ([-1, 0], -1)):
        with pytest.raises(ValueError, match=rf"weight_of_head\[[01]\] is {found}, expected 0..2"):
            _kernels.row_pass(
                X, W, b, 1.0, y=y, heads=2, sample_weight=weights, weight_of_head=np.array(of_head)
            )
    with pytest.raises(ValueError, match="sample_weight has no rows"):
        _kernels.row_pass(X, W, b, 1.0, y=y, sample_weight=np.zeros((0, 50)))
    with pytest.raises(ValueError, match="weight_of_head: expected 2 contiguous items"):
        _kernels.row_pass(
            X, W, b, 1.0, y=y, heads=2, sample_weight=weights, weight_of_head=np.zeros(3, np.int64)
        )


# ---- pixels by integers --------------------------------------------------------------------------


@pytest.mark.skipif(
    not {"vnni", "amx"} <= set(_kernels.available()), reason="this CPU has one way alone"
)
@pytest.mark.parametrize("n_classes", [1, 5, 6, 10, 23])
def test_both_ways_have_the_same_bits(n_classes: int) -> None:
    X, W, b, y, _ = problem(np.uint8, 300, 150, n_classes, 1)
    before, gradients = _kernels.active(), []
    try:
        for name in ("vnni", "amx"):
            _kernels.use(name)
            dW, db = np.empty_like(W), np.empty_like(b)
            _kernels.row_pass(X, W, b, 1 / 255, y=y, gradient=(dW, db))
            gradients.append(dW)
    finally:
        _kernels.use(before)
    assert_array_equal(*gradients)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_pixels_with_weights_that_are_not_finite(isa: str, wrong: float) -> None:
    X, W, b, _, _ = problem(np.uint8, 300, 70, 12, 1)
    X[:, 3] = 1
    W[5, 3] = wrong
    logits = np.empty((300, 12), np.float32)
    _kernels.row_pass(X, W, b, 1 / 255, logits=logits)
    with np.errstate(all="ignore"):
        expected = reference.linear(X, W.T, b, scale=1 / 255)
    assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    # the next pass, with weights that are, forgets it
    W[5, 3] = 0
    _kernels.row_pass(X, W, b, 1 / 255, logits=logits)
    assert_allclose(logits, reference.linear(X, W.T, b, scale=1 / 255), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n", [257, 513, 1025])
def test_weights_that_are_not_finite_on_any_number_of_threads(isa: str, n: int) -> None:
    X, W, b, _, _ = problem(np.uint8, n, 700, 40, 1)
    W[5, 3] = np.inf
    alone = np.empty((n, 40), np.float32)
    _kernels.row_pass(X, W, b, 1 / 255, logits=alone)
    for n_threads in (2, 3, 8, 64):
        logits = np.empty_like(alone)
        _kernels.row_pass(X, W, b, 1 / 255, logits=logits, n_threads=n_threads)
        assert_array_equal(logits, alone)


def test_a_batch_that_diverges_poisons_only_what_it_must(isa: str) -> None:
    """One row's logits overflow: its dlogits are NaN, and so is the gradient, as in NumPy."""
    X, W, b, y, _ = problem(np.uint8, 300, 70, 12, 1)
    X[7] = 255
    W[4] = 3e38
    dW, db = np.empty_like(W), np.empty_like(b)
    loss, _ = _kernels.row_pass(X, W, b, 1.0, y=y, gradient=(dW, db))
    assert np.isnan(loss)
    assert np.isnan(db).all()
    assert np.isnan(dW).all()


@pytest.mark.parametrize("n_features", [65_793, 65_794, 70_000])
def test_the_largest_sums_of_pixels_have_room(isa: str, n_features: int) -> None:
    """At 65,793 features of 255 times a digit of 128 a sum of 32 bits is just full."""
    X = np.full((64, n_features), 255, np.uint8)
    W = np.full((2, n_features), np.float32(-(2**22 + 128 * 257)) / 2**22)
    logits = np.empty((64, 2), np.float32)
    _kernels.row_pass(X, W, np.zeros(2, np.float32), 1 / 255, logits=logits)
    truth = float(W[0, 0]) * n_features
    assert_allclose(logits, truth, rtol=1e-4)


@pytest.mark.parametrize("magnitude", [1e-44, 1e-38, 1e-30, 1.0, 1e30])
def test_weights_of_any_magnitude(isa: str, magnitude: float) -> None:
    X, W, b, _, _ = problem(np.uint8, 64, 100, 3, 1)
    W = (W * np.float32(magnitude)).astype(np.float32)
    W[1] = 0
    logits = np.empty((64, 3), np.float32)
    _kernels.row_pass(X, W, np.zeros_like(b), 1 / 255, logits=logits)
    truth = X.astype(float) @ W.T.astype(float) / 255
    scale = X.sum(axis=1, keepdims=True) / 255 * abs(W).max(axis=1)
    assert (abs(logits - truth) <= 1e-6 * scale + 1e-44).all()
    assert (logits[:, 1] == 0).all()


# ---- many classes by tiles of bfloat16 -----------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_row_that_is_not_finite_stays_alone(isa: str, dtype: Any, wrong: float) -> None:
    X, W, b, y, _ = problem(dtype, 700, 150, 80, 1)
    clean = np.empty((700, 80), np.float32)
    _kernels.row_pass(X, W, b, 1.0, logits=clean)
    X[300, 7] = wrong
    W[3] = 0  # 0 * inf is NaN
    logits = np.empty_like(clean)
    _kernels.row_pass(X, W, b, 1.0, logits=logits)
    assert_allclose(logits, reference.linear(X, W.T, b), rtol=1e-4, atol=1e-5)
    clean[:, 3] = b[3]
    others = np.arange(700) // 32 != 300 // 32  # rows that share no tile have the same bits
    assert_array_equal(logits[others], clean[others])
    # a row of weight 0 is left out, whatever is in it
    weight = np.ones(700)
    weight[300] = 0
    dW, db = np.empty_like(W), np.empty_like(b)
    loss, _ = _kernels.row_pass(X, W, b, 1.0, y=y, sample_weight=weight, gradient=(dW, db))
    kept = weight > 0
    expected = reference.linear_cross_entropy_grad(X[kept], W.T, b, y[kept], reduction="sum")
    assert_allclose(loss, expected[0], rtol=1e-5)
    assert_allclose(dW, expected[1].T, rtol=1e-3, atol=1e-3)
    # and one that counts makes the gradient of all classes NaN where its number is
    _kernels.row_pass(X, W, b, 1.0, y=y, gradient=(dW, db))
    assert np.isnan(dW).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize(("n", "n_features", "n_classes"), [(1300, 700, 330), (1600, 1100, 100)])
def test_more_weights_than_a_cache_holds(
    isa: str, dtype: Any, n: int, n_features: int, n_classes: int
) -> None:
    """Blocks of any number of rows, the last a short one: the same bits, those of one product."""
    X, W, b, y, _ = problem(dtype, n, n_features, n_classes, 1)
    order = np.random.default_rng(0).permutation(n)
    found = []
    for n_threads in (1, 2, 3, 8, 64):
        logits, dW, db = np.empty((n, n_classes), np.float32), np.empty_like(W), np.empty_like(b)
        _kernels.row_pass(X, W, b, 1.0, logits=logits, n_threads=n_threads)
        total = _kernels.row_pass(X, W, b, 1.0, y=y, gradient=(dW, db), n_threads=n_threads)
        moved, moved_b = W.copy(), b.copy()
        trained = _kernels.row_pass(
            X, moved, moved_b, 1.0, y=y, order=order, batch_rows=n - 100,
            sgd=(0.1, 0.0, False, 0.0, None, None), n_threads=n_threads,
        )  # fmt: skip
        found.append((total, trained, *(a.tobytes() for a in (logits, dW, db, moved, moved_b))))
    assert len(set(found)) == 1
    assert_allclose(logits, reference.linear(X, W.T, b), rtol=1e-4, atol=1e-4)
    expected = reference.linear_cross_entropy_grad(X, W.T, b, y, reduction="sum")
    assert_allclose(total[0], expected[0], rtol=1e-5)
    assert_allclose(dW, expected[1].T, rtol=1e-3, atol=1e-3)
    assert_allclose(db, expected[2], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("n_classes", [60, 400])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, np.finfo(np.float32).max])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_weights_that_are_not_finite(isa: str, n_classes: int, wrong: float) -> None:
    """What floats would make of them: the logits of other classes are as they should be."""
    X, W, b, _, _ = problem(np.float32, 300, 700, n_classes, 1)
    W[50, 699], X[2, 699] = wrong, 0
    logits = np.empty((300, n_classes), np.float32)
    _kernels.row_pass(X, W, b, 1.0, logits=logits)
    expected = X.astype(float) @ W.T.astype(float) + b
    kept = np.arange(n_classes) != 50
    assert_allclose(logits[:, kept], expected[:, kept], rtol=1e-4, atol=1e-4)
    assert_allclose(logits[:, 50], expected[:, 50].astype(np.float32), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("largest", [1e-30, 3e38])
def test_floats_of_any_magnitude(isa: str, largest: float) -> None:
    rng = np.random.default_rng(3)
    X = rng.uniform(-1, 1, (200, 50)).astype(np.float32) * np.float32(largest)
    X[0, 0] = np.float32(np.finfo(np.float32).max) if largest > 1 else X[0, 0]
    W = rng.uniform(-1, 1, (60, 50)).astype(np.float32) * np.float32(1e-3 if largest > 1 else 1)
    logits = np.empty((200, 60), np.float32)
    _kernels.row_pass(X, W, np.zeros(60, np.float32), 1.0, logits=logits)
    truth = X.astype(float) @ W.T.astype(float)
    size = abs(X).astype(float) @ abs(W.T).astype(float)
    assert (abs(logits - truth) <= 1e-6 * size).all()


@pytest.mark.parametrize("n_classes", [24, 48, 63, 100, 1000])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_batch_of_many_classes_is_one_step(isa: str, dtype: Any, n_classes: int) -> None:
    """The update in registers equals the gradient, stored and applied."""
    X, W, b, y, _ = problem(dtype, 300, 70, n_classes, 1)
    moved, moved_b = W.copy(), b.copy()
    _kernels.row_pass(
        X, moved, moved_b, 1.0, y=y, batch_rows=300, sgd=(0.5, 0.0, False, 0.0, None, None)
    )
    _, dW, db = reference.linear_cross_entropy_grad(X, W.T, b, y)
    assert_allclose(moved, W - 0.5 * dW.T, rtol=1e-5, atol=1e-6)
    assert_allclose(moved_b, b - 0.5 * db, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n_classes", [10, 60])
def test_sums_that_overflow_are_infinite_not_nan(isa: str, n_classes: int) -> None:
    X, W, b, y, _ = problem(np.float32, 300, 70, n_classes, 1)
    X[:, 0], W[4, 0] = 3e25, -7e25
    logits, labels = np.empty((300, n_classes), np.float32), np.empty(300, np.int64)
    _kernels.row_pass(X, W, b, 1.0, logits=logits, predictions=labels)
    assert (logits[:, 4] == -np.inf).all()
    assert (labels != 4).all()
    y[:] = 1
    dW, db = np.empty_like(W), np.empty_like(b)
    loss, _ = _kernels.row_pass(X, W, b, 1.0, y=y, gradient=(dW, db))
    assert np.isfinite(loss)
    assert (dW[4] == 0).all()


def test_a_gradient_that_overflows(isa: str) -> None:
    """300 rows of 3e38 times dlogits of either sign: infinite where floats say so, no NaN."""
    X, W, b, _, _ = problem(np.float32, 300, 70, 60, 1)
    X[:, 3], W[:], b[:] = 3e38, 0, 0
    dW, db = np.empty_like(W), np.empty_like(b)
    _kernels.row_pass(X, W, b, 1.0, y=np.zeros(300, np.int64), gradient=(dW, db))
    assert dW[0, 3] == -np.inf
    assert (dW[1:, 3] == np.inf).all()
    assert np.isfinite(np.delete(dW, 3, axis=1)).all()


def test_one_weight_does_not_hide_the_others(isa: str) -> None:
    X, W, b, _, _ = problem(np.uint8, 300, 70, 3, 1)
    X[1:, 5], W[:, 5] = 0, 1e8
    logits = np.empty((300, 3), np.float32)
    _kernels.row_pass(X, W, b, 1 / 255, logits=logits)
    assert_allclose(logits[1:], reference.linear(X[1:], W.T, b, scale=1 / 255), atol=1e-5)


def test_sample_weights_far_apart_keep_the_small_ones(isa: str) -> None:
    X, W, b, y, _ = problem(np.uint8, 300, 70, 3, 1)
    X[0, :35] = 0
    weight = np.ones(300)
    weight[0] = 1e8
    dW, db = np.empty_like(W), np.empty_like(b)
    _kernels.row_pass(X, W, b, 1 / 255, y=y, sample_weight=weight, gradient=(dW, db))
    _, expected, _ = reference.linear_cross_entropy_grad(
        X.astype(float), W.T.astype(float), b, y, scale=1 / 255, sample_weight=weight,
        reduction="sum",
    )  # fmt: skip
    assert_allclose(dW[:, :35], expected.T[:, :35], rtol=1e-3, atol=1e-3)


def test_no_rows_have_a_gradient_of_zero(isa: str) -> None:
    X, W, b, y, _ = problem(np.float32, 5, 4, 3, 1)
    dW, db = np.full_like(W, 7), np.full_like(b, 7)
    assert _kernels.row_pass(X[:0], W, b, 1.0, y=y[:0], gradient=(dW, db)) == (0.0, 0)
    assert not dW.any()
    assert not db.any()


# ---- rows where they lie -------------------------------------------------------------------------


@pytest.mark.parametrize("n_features", [64, 100, 101, 784])
@pytest.mark.parametrize("n", [513, 545, 1600])
@pytest.mark.parametrize("gap", [0, 7])
def test_nothing_is_read_behind_the_last_row(isa: str, n: int, n_features: int, gap: int) -> None:
    """Rows are multiplied where they lie, in steps of 4 or 64 bytes; the page behind is closed."""
    _, W, b, y, _ = problem(np.uint8, n, n_features, 10, 1)
    size, stride = (n - 1) * (n_features + gap) + n_features, n_features + gap
    n_bytes = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    pages = mmap.mmap(-1, n_bytes + mmap.PAGESIZE)
    last_page = ctypes.c_char.from_buffer(pages, n_bytes)
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mprotect(ctypes.byref(last_page), mmap.PAGESIZE, 0) == 0
    X = np.ndarray((n, n_features), np.uint8, pages, n_bytes - size, (stride, 1))
    X[:] = np.random.default_rng(0).integers(0, 256, X.shape)
    found = []
    for rows, order in ((X, None), (np.asfortranarray(X), None), (X, np.arange(n))):
        dW, db = np.empty_like(W), np.empty_like(b)
        loss, correct = _kernels.row_pass(
            rows, W, b, 1 / 255, y=y, order=order, gradient=(dW, db), factor=1 / n
        )
        found.append((dW, db, loss, correct))
    for ours, copied in zip(found[0], found[1], strict=True):  # by another way, the same bits
        assert_array_equal(ours, copied)
    assert_allclose(found[0][0], found[2][0], rtol=1e-4, atol=1e-6)
