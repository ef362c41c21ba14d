"""The compiled linear functions against plain NumPy and wider arithmetic, as cases.py rules."""

from __future__ import annotations

import functools
import itertools
from typing import Any, NamedTuple

import numpy as np
import oracle
import pytest
from cases import (
    DTYPES,
    N_CLASSES,
    N_SAMPLES,
    REDUCTIONS,
    Array,
    Case,
    assert_no_worse,
    compute_type,
    make_case,
)
from numpy.testing import assert_allclose, assert_array_equal

from csoftmax import _kernels, functional, reference

# Around the lengths of vectors of 4, 8 and 16 floats and their unrolled loops.
N_FEATURES = [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 784, 1029]

pytestmark = pytest.mark.usefixtures("no_warnings")


class Truth(NamedTuple):
    """Wider results and their magnitudes."""

    logits: Array
    logits_size: Array
    loss: oracle.Loss
    loss_size: Array  # of each loss
    dW: Array  # of the sum of the losses
    dW_size: Array
    db: Array
    db_size: Array


@functools.lru_cache(maxsize=2 * len(N_CLASSES))  # of one test, for all instruction sets
def truth_of(dtype: Any, n: int, j: int, k: int, weighted: bool, digits: bool) -> Truth:
    X, W, b, y, s, scale = make_case(dtype, n, j, k)
    wide = oracle.wider(W.dtype)
    s = s if weighted else np.ones_like(s)
    logits = oracle.linear(X, W, b, scale, wide)
    W_size = abs(W)
    if digits:
        W_size = np.broadcast_to(W_size.max(axis=0, initial=0), W.shape)
    logits_size = oracle.linear(abs(X), W_size, abs(b), scale, wide)
    loss = oracle.cross_entropy(logits, y, sample_weight=s)
    row_size = 1 + logits_size.max(axis=1, initial=0)  # how far rounding can move a row's logits
    p, onehot = oracle.softmax(logits), y[:, None] == np.arange(k)
    dlogits_size = s[:, None] * (p * row_size[:, None] + onehot)
    X_wide, factor, added_up = X.astype(wide), wide(scale), dlogits_size
    if digits:
        added_up = np.broadcast_to(dlogits_size.max(axis=0, initial=0), dlogits_size.shape)
    return Truth(
        logits, logits_size, loss, s * row_size + loss.losses,
        factor * (X_wide.T @ loss.dlogits), factor * (abs(X_wide).T @ added_up),
        loss.dlogits.sum(axis=0), dlogits_size.sum(axis=0),
    )  # fmt: skip


class Plain(NamedTuple):
    """A case, what a call of it takes, and what plain NumPy makes of it."""

    case: Case
    options: dict[str, Any]
    logits: Array
    loss_and_gradient: tuple[Any, Array, Array]


@functools.lru_cache(maxsize=len(N_CLASSES))
def plain_of(dtype: Any, n: int, j: int, k: int, weighted: bool, reduction: str) -> Plain:
    case = make_case(dtype, n, j, k)
    X, W, b, y, s, scale = case
    options = {"scale": scale, "sample_weight": s if weighted else None, "reduction": reduction}
    return Plain(
        case, options, reference.linear(X, W, b, scale=scale),
        reference.linear_cross_entropy_grad(X, W, b, y, **options),
    )  # fmt: skip


def check_linear(dtype: Any, n: int, j: int, k: int, weighted: bool, reduction: str) -> None:
    case, options, logits_plain, plain_results = plain_of(dtype, n, j, k, weighted, reduction)
    X, W, b, y, _, scale = case
    digits = _kernels.active() in ("amx", "vnni") and dtype == np.uint8
    truth = truth_of(dtype, n, j, k, weighted, digits)
    assert_no_worse(
        functional.linear(X, W, b, scale=scale), logits_plain, truth.logits, truth.logits_size
    )
    loss, dW, db = functional.linear_cross_entropy_grad(X, W, b, y, **options)
    plain, dW_plain, db_plain = plain_results
    forward = functional.linear_cross_entropy(X, W, b, y, **options)
    if reduction == "mean" and n == 0:
        assert np.isnan(loss)
        assert np.isnan(forward)
    else:
        loss_size = oracle.reduce(truth.loss._replace(losses=truth.loss_size), reduction)
        for got in (loss, forward):
            assert type(got) is type(plain)
            assert_no_worse(got, plain, oracle.reduce(truth.loss, reduction), loss_size)
    divisor = truth.loss.divisor if reduction == "mean" and n else 1
    assert_no_worse(dW, dW_plain, truth.dW / divisor, truth.dW_size / divisor)
    assert_no_worse(db, db_plain, truth.db / divisor, truth.db_size / divisor)


@pytest.mark.parametrize("n_features", N_FEATURES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_linear_and_its_loss(isa: str, dtype: Any, n_features: int) -> None:
    """Every pair of (features, classes), (features, samples) and (classes, samples) occurs."""
    at = N_FEATURES.index(n_features)
    for index, n_classes in enumerate(N_CLASSES):
        n_samples = N_SAMPLES[(at + index) % len(N_SAMPLES)]
        weighted, reduction = (at + index) % 2 == 1, REDUCTIONS[index % 3]
        check_linear(dtype, n_samples, n_features, n_classes, weighted, reduction)


@pytest.mark.parametrize("n_classes", [2, 10, 1000])
def test_linear_of_other_shapes(isa: str, n_classes: int) -> None:
    case = make_case(np.uint8, 37, 28 * 28, n_classes)
    for images in (case.X.reshape(37, 28, 28), case.X.reshape(37, 1, 28, 28)):
        assert_array_equal(functional.linear(images, case.W), functional.linear(case.X, case.W))
    no_features = functional.linear(np.ones((3, 0)), np.ones((0, n_classes)), np.ones(n_classes))
    assert_array_equal(no_features, np.ones((3, n_classes)))
    loss, dW, db = functional.linear_cross_entropy_grad(
        case.X, case.W, None, case.y, scale=case.scale
    )
    zero = np.zeros(n_classes, np.float32)
    expected = functional.linear_cross_entropy_grad(case.X, case.W, zero, case.y, scale=case.scale)
    assert loss == expected[0]
    assert_array_equal(dW, expected[1])
    assert_array_equal(db, expected[2])
    assert functional.linear(case.X.tolist(), case.W.tolist()).dtype == np.float64
    # classes go in groups: each has the logits that it has alone; with AVX2 and AVX-512, where few
    # go by dot products and many do not, that it has among others of its kind
    few = 32 if isa == "avx512" else 48
    by_dots = isa in ("avx2", "avx512")
    alone = (n_classes // 2, few + 1) if by_dots and n_classes > few else (1,)
    logits = functional.linear(case.X, case.W, zero, scale=case.scale)
    assert_allclose(
        logits, reference.linear(case.X, case.W, zero, scale=case.scale), rtol=1e-4, atol=1e-4
    )
    for n in alone:
        last = functional.linear(case.X, case.W[:, -n:], zero[-n:], scale=case.scale)
        assert_array_equal(logits[:, -n:], last)
    of_few = functional.linear(case.X, case.W[:, -few:], zero[-few:], scale=case.scale)
    last = functional.linear(case.X, case.W[:, -1:], zero[-1:], scale=case.scale)
    assert_array_equal(of_few[:, -1:], last)


@pytest.mark.parametrize(
    "types", list(itertools.product(DTYPES, [np.float32, np.float64, np.float16]))
)
def test_result_type_is_numpys_promotion(types: Any) -> None:
    X, W, b = np.ones((3, 2), types[0]), np.ones((2, 4), types[1]), np.ones(4, np.float32)
    expected = np.result_type(np.float32, *types)
    assert functional.linear(X, W, b).dtype == expected
    loss, dW, db = functional.linear_cross_entropy_grad(X, W, b, [0, 1, 2], reduction="none")
    assert loss.dtype == dW.dtype == db.dtype == expected
    assert functional.softmax(X).dtype == functional.log_softmax(X).dtype == compute_type(types[0])
    assert functional.cross_entropy(X, [0, 1, 0]).dtype == compute_type(types[0])


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradients_by_central_differences(isa: str, reduction: str) -> None:
    X, W, b, y, s, scale = make_case(np.float64, 9, 5, 4)
    options: Any = {"scale": scale, "sample_weight": s, "reduction": reduction}

    def linear_loss() -> Any:
        return functional.linear_cross_entropy(X, W, b, y, **options)

    _, dW, db = functional.linear_cross_entropy_grad(X, W, b, y, **options)
    assert_allclose(dW, oracle.central_difference(linear_loss, W), atol=1e-8)
    assert_allclose(db, oracle.central_difference(linear_loss, b), atol=1e-8)
