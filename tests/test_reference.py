"""The plain NumPy page against PyTorch's results, wider arithmetic and central differences."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
import oracle
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from csoftmax import reference

DTYPES = [np.float32, np.float64]
REDUCTIONS = ["mean", "sum", "none"]
EPS = {np.float32: 2.0**-23, np.float64: 2.0**-52}

# Three rows of logits, and what torch 2.13.0 makes of them in float64:
# (target, weight, label_smoothing, mean, losses, gradient of the mean)
LOGITS = np.array([[2.0, -1.0, 0.5, 3.0], [0.0, 0.0, 0.0, 0.0], [-3.0, 4.0, 1.0, -0.5]])
TARGETS: dict[str, Any] = {
    "labels": [3, 0, 1],
    "ignored": [3, -100, 1],
    "probs": [[0.1, 0.2, 0.3, 0.4], [0.0, 0.0, 1.0, 0.0], [0.25, 0.25, 0.5, 0.0]],
}
WEIGHT = [0.5, 1.0, 2.0, 0.25]
TORCH: list[Any] = [
    (
        "labels", None, 0.0, 0.61011971, [0.3840917, 1.38629436, 0.05997307],
        [[0.08351709, 0.00415807, 0.01863518, -0.10631034],
         [-0.25, 0.08333333, 0.08333333, 0.08333333],
         [0.00028627, -0.01940337, 0.01562965, 0.00348745]],
    ),
    (
        "labels", None, 0.2, 0.97678638, [0.7590917, 1.38629436, 0.78497307],
        [[0.06685042, -0.0125086, 0.00196852, -0.05631034],
         [-0.2, 0.06666667, 0.06666667, 0.06666667],
         [-0.0163804, 0.03059663, -0.00103701, -0.01317922]],
    ),
    (
        "labels", WEIGHT, 0.0, 0.48522467, [0.09602293, 0.69314718, 0.05997307],
        [[0.03579304, 0.00178203, 0.00798651, -0.04556158],
         [-0.21428571, 0.07142857, 0.07142857, 0.07142857],
         [0.00049074, -0.03326291, 0.02679369, 0.00597848]],
    ),
    (
        "labels", WEIGHT, 0.2, 1.15928964, [0.62383553, 0.81444794, 0.5904734],
        [[0.0411935, -0.02580928, -0.04476377, 0.02937956],
         [-0.15892857, 0.05535714, 0.02678571, 0.07678571],
         [-0.01380111, 0.0457243, -0.03068409, -0.00123911]],
    ),
    (
        "ignored", None, 0.0, 0.22203238, [0.3840917, 0.0, 0.05997307],
        [[0.12527564, 0.00623711, 0.02795277, -0.15946552],
         [0.0, 0.0, 0.0, 0.0],
         [0.0004294, -0.02910505, 0.02344448, 0.00523117]],
    ),
    (
        "ignored", None, 0.2, 0.77203238, [0.7590917, 0.0, 0.78497307],
        [[0.10027564, -0.01876289, 0.00295277, -0.08446552],
         [0.0, 0.0, 0.0, 0.0],
         [-0.0245706, 0.04589495, -0.00155552, -0.01976883]],
    ),
    (
        "ignored", WEIGHT, 0.0, 0.12479679, [0.09602293, 0.0, 0.05997307],
        [[0.05011025, 0.00249484, 0.01118111, -0.06378621],
         [0.0, 0.0, 0.0, 0.0],
         [0.00068704, -0.04656808, 0.03751117, 0.00836987]],
    ),
    (
        "ignored", WEIGHT, 0.2, 0.97144715, [0.62383553, 0.0, 0.5904734],
        [[0.05767089, -0.03613299, -0.06266928, 0.04113138],
         [0.0, 0.0, 0.0, 0.0],
         [-0.01932155, 0.06401402, -0.04295772, -0.00173475]],
    ),
    (
        "probs", None, 0.0, 2.24345304, [2.0340917, 1.38629436, 3.30997307],
        [[0.05018376, -0.0625086, -0.08136482, 0.09368966],
         [0.08333333, 0.08333333, -0.25, 0.08333333],
         [-0.08304707, 0.23059663, -0.15103701, 0.00348745]],
    ),
    (
        "probs", None, 0.2, 2.28345304, [2.0790917, 1.38629436, 3.38497307],
        [[0.04018376, -0.06584193, -0.07803148, 0.10368966],
         [0.06666667, 0.06666667, -0.2, 0.06666667],
         [-0.08304707, 0.23059663, -0.13437035, -0.01317922]],
    ),
    (
        "probs", WEIGHT, 0.0, 3.14831293, [2.71488712, 2.77258872, 3.95746297],
        [[0.06267457, -0.0627165, -0.18229658, 0.18233851],
         [0.16666667, 0.16666667, -0.5, 0.16666667],
         [-0.04127305, 0.34832037, -0.31184256, 0.00479524]],
    ),
    (
        "probs", WEIGHT, 0.2, 2.96846446, [2.71892689, 2.47800117, 3.70846532],
        [[0.05746578, -0.06606023, -0.1756765, 0.18427095],
         [0.140625, 0.13229167, -0.41770833, 0.14479167],
         [-0.0412981, 0.3208515, -0.27987682, 0.00032342]],
    ),
]  # fmt: skip


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


@pytest.fixture(autouse=True)
def _no_warnings() -> Any:
    """inf and NaN are results here: no function may warn of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


# ---------------------------------------------------------------- against PyTorch


@pytest.mark.parametrize(("target", "weight", "smoothing", "mean", "losses", "dlogits"), TORCH)
def test_softmax_cross_entropy_is_torchs(
    target: str, weight: Any, smoothing: float, mean: float, losses: Any, dlogits: Any
) -> None:
    y = TARGETS[target]
    options: Any = {"weight": weight, "label_smoothing": smoothing}
    got, gradient = reference.softmax_cross_entropy_grad(LOGITS, y, **options)
    assert_allclose(got, mean, atol=1e-8)
    assert_allclose(gradient, dlogits, atol=1e-8)
    each, sum_gradient = reference.softmax_cross_entropy_grad(
        LOGITS, y, reduction="none", **options
    )
    assert_allclose(each, losses, atol=1e-8)
    total = reference.softmax_cross_entropy(LOGITS, y, reduction="sum", **options)
    assert_allclose(total, sum(losses), atol=1e-7)
    # The two gradients differ by the divisor of the mean, wherever it comes from.
    divisor = sum(losses) / mean
    assert_allclose(sum_gradient, np.multiply(dlogits, divisor), atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("soft", [False, True], ids=["labels", "probabilities"])
@pytest.mark.parametrize("shape", [(6, 5), (3, 5, 4), (2, 5, 3, 2)])
def test_every_option_agrees_with_torch(
    dtype: Any, soft: bool, shape: tuple[int, ...], rng: np.random.Generator
) -> None:
    torch = pytest.importorskip("torch")
    logits = (4 * rng.normal(size=shape)).astype(dtype)
    n_classes, sample_shape = shape[1], shape[:1] + shape[2:]
    if soft:
        y = np.moveaxis(rng.dirichlet(np.ones(n_classes), sample_shape), -1, 1).astype(dtype)
    else:
        y = rng.integers(0, n_classes, sample_shape)
        y.flat[::3] = -100
    weights = [None, rng.uniform(0, 2, n_classes).astype(dtype)]
    for weight, smoothing, reduction in itertools.product(weights, [0.0, 0.1, 1.0], REDUCTIONS):
        x = torch.tensor(logits, requires_grad=True)
        expected = torch.nn.functional.cross_entropy(
            x, torch.tensor(y), weight=None if weight is None else torch.tensor(weight),
            label_smoothing=smoothing, reduction=reduction,
        )  # fmt: skip
        expected.sum().backward()
        loss, dlogits = reference.softmax_cross_entropy_grad(
            logits, y, weight=weight, label_smoothing=smoothing, reduction=reduction, axis=1
        )
        tolerance = 16 * EPS[dtype]
        assert_allclose(loss, expected.detach().numpy(), rtol=tolerance, atol=tolerance)
        assert_allclose(dlogits, x.grad.numpy(), rtol=tolerance, atol=tolerance)


# ---------------------------------------------------------------- against wider arithmetic


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64, np.int64])
def test_linear_and_its_loss_against_wider_arithmetic(dtype: Any, rng: np.random.Generator) -> None:
    X = rng.integers(0, 255, (33, 7)).astype(dtype)
    parameter_dtype = np.float64 if np.dtype(dtype).itemsize == 8 else np.float32
    W = rng.normal(size=(7, 5)).astype(parameter_dtype)
    b = rng.normal(size=5).astype(parameter_dtype)
    y, s = rng.integers(0, 5, 33), rng.uniform(0, 3, 33).astype(parameter_dtype)
    wide, eps = oracle.wider(parameter_dtype), np.finfo(parameter_dtype).eps
    logits = oracle.linear(X, W, b, 1 / 255, wide)
    got = reference.linear(X, W, b, scale=1 / 255)
    assert got.dtype == parameter_dtype
    assert_allclose(got, logits, atol=8 * eps)
    truth = oracle.cross_entropy(logits, y, sample_weight=s)
    dW = wide(1 / 255) * (X.astype(wide).T @ truth.dlogits)
    for reduction in REDUCTIONS:
        options: Any = {"scale": 1 / 255, "sample_weight": s, "reduction": reduction}
        loss = reference.linear_cross_entropy(X, W, b, y, **options)
        assert_allclose(loss, oracle.reduce(truth, reduction), rtol=8 * eps, atol=8 * eps)
        again, dW_got, db_got = reference.linear_cross_entropy_grad(X, W, b, y, **options)
        assert_array_equal(again, loss)
        divisor = truth.divisor if reduction == "mean" else 1
        assert_allclose(dW_got, dW / divisor, atol=100 * eps / divisor)
        assert_allclose(db_got, truth.dlogits.sum(axis=0) / divisor, atol=100 * eps / divisor)
        assert dW_got.dtype == db_got.dtype == parameter_dtype


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_softmax_against_wider_arithmetic(dtype: Any, axis: int, rng: np.random.Generator) -> None:
    x = (20 * rng.normal(size=(3, 4, 5))).astype(dtype)
    wide = x.astype(oracle.wider(dtype))
    p, log_p = reference.softmax(x, axis), reference.log_softmax(x, axis)
    assert p.dtype == log_p.dtype == dtype
    # The rounding of x - max, up to 64, comes out of exp as that many units.
    smallest = np.finfo(dtype).smallest_subnormal
    assert_allclose(p, oracle.softmax(wide, axis), rtol=100 * EPS[dtype], atol=smallest)
    assert_allclose(log_p, oracle.log_softmax(wide, axis), rtol=8 * EPS[dtype], atol=EPS[dtype])


def test_book_numbers() -> None:
    y_hat = np.array([[0.1, 0.3, 0.6], [0.3, 0.2, 0.5]], dtype=np.float32)
    losses = reference.cross_entropy(y_hat, np.array([0, 2]))
    assert losses.dtype == np.float32
    assert_allclose(losses, [2.3026, 0.6931], atol=1e-4)


# ---------------------------------------------------------------- gradients by differences


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("soft", [False, True], ids=["labels", "probabilities"])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_dlogits_by_central_differences(
    reduction: str, soft: bool, smoothing: float, rng: np.random.Generator
) -> None:
    logits, weight = rng.normal(size=(4, 3, 2)), rng.uniform(0.5, 2, 3)
    y: Any = rng.integers(0, 3, (4, 2))
    y[1, 1] = -1
    if soft:
        y = rng.uniform(0, 1, logits.shape)
    options: Any = {
        "weight": weight, "label_smoothing": smoothing, "reduction": reduction,
        "ignore_index": -1, "axis": 1,
    }  # fmt: skip
    _, dlogits = reference.softmax_cross_entropy_grad(logits, y, **options)
    differences = oracle.central_difference(
        lambda: reference.softmax_cross_entropy(logits, y, **options), logits
    )
    assert_allclose(dlogits, differences, atol=1e-9)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_dW_and_db_by_central_differences(reduction: str, rng: np.random.Generator) -> None:
    X, W, b = rng.normal(size=(6, 4)), rng.normal(size=(4, 3)), rng.normal(size=3)
    y, s = rng.integers(0, 3, 6), rng.uniform(0, 2, 6)
    options: Any = {"scale": 0.7, "sample_weight": s, "reduction": reduction}

    def loss() -> Any:
        return reference.linear_cross_entropy(X, W, b, y, **options)

    _, dW, db = reference.linear_cross_entropy_grad(X, W, b, y, **options)
    assert_allclose(dW, oracle.central_difference(loss, W), atol=1e-8)
    assert_allclose(db, oracle.central_difference(loss, b), atol=1e-8)


# ---------------------------------------------------------------- special values


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("big", [1e8, 1e30, 3.4028234e38])
def test_huge_logits(dtype: Any, big: float) -> None:
    logits = np.array([[big, -big, 0], [big, big, big], [-big, -big, -big]], dtype)
    third = 1 / 3
    assert_allclose(
        reference.softmax(logits), [[1, 0, 0], [third] * 3, [third] * 3], rtol=2 * EPS[dtype]
    )
    losses = reference.softmax_cross_entropy(logits, [0, 1, 2], reduction="none")
    assert_allclose(losses, [0, np.log(3), np.log(3)], rtol=2 * EPS[dtype])


def test_loss_keeps_its_digits_at_large_logits() -> None:
    """log(sum exp) - x_y with the maximum added back first would give 0 or 8 here."""
    logits = np.array([[1e8, 1e8, 1e8]], dtype=np.float32)
    assert_allclose(reference.softmax_cross_entropy(logits, [1]), np.log(3), rtol=1e-6)


def test_nan_and_infinities() -> None:
    inf, nan = np.inf, np.nan
    logits = np.array([[0, nan, 1], [0, inf, 1], [-inf] * 3, [0, -inf, 0], [inf, -inf, 0]])
    rows_of_nan = [0, 1, 2, 4]
    p, log_p = reference.softmax(logits), reference.log_softmax(logits)
    losses, dlogits = reference.softmax_cross_entropy_grad(logits, [0] * 5, reduction="none")
    for result in (p, log_p, losses, dlogits):
        assert np.isnan(result[rows_of_nan]).all()
    assert_array_equal(p[3], [0.5, 0, 0.5])
    assert_allclose(log_p[3], [-np.log(2), -inf, -np.log(2)])
    assert_allclose(losses[3], np.log(2))
    assert_array_equal(dlogits[3], [-0.5, 0, 0.5])
    # The true class itself impossible: an infinite loss, a finite gradient.
    loss, dlogits = reference.softmax_cross_entropy_grad(logits[3], 1)
    assert loss == inf
    assert_array_equal(dlogits, [0.5, -1, 0.5])


def test_target_zero_and_ignored_rows_are_left_out() -> None:
    inf, nan = np.inf, np.nan
    loss, dlogits = reference.softmax_cross_entropy_grad([[0.0, -inf, 0.0]], [[0.5, 0.0, 0.5]])
    assert_allclose(loss, np.log(2))
    assert_array_equal(dlogits, [[0, 0, 0]])
    logits = [[nan, nan], [0.0, 0.0], [inf, 0.0]]
    for smoothing in (0.0, 0.1):
        loss, dlogits = reference.softmax_cross_entropy_grad(
            logits, [-100, 1, -100], label_smoothing=smoothing
        )
        assert_allclose(loss, np.log(2))
        assert_array_equal(dlogits[[0, 2]], 0)


def test_ignore_index_may_be_a_class() -> None:
    logits = np.array([[1.0, 2.0], [3.0, 5.0]])
    loss = reference.softmax_cross_entropy(logits, [0, 1], ignore_index=1)
    assert loss == reference.softmax_cross_entropy(logits[:1], [0])


def test_nothing_to_average() -> None:
    logits, y = np.zeros((0, 3)), np.zeros(0, int)
    loss, dlogits = reference.softmax_cross_entropy_grad(logits, y)
    assert np.isnan(loss)
    assert dlogits.shape == (0, 3)
    assert reference.softmax_cross_entropy(logits, [], reduction="sum") == 0.0
    assert reference.softmax(logits).shape == reference.log_softmax(logits).shape == (0, 3)
    assert reference.cross_entropy(logits, []).shape == (0,)
    for y_ignored, weight in ([[-100, -100], None], [[1, 1], [1.0, 0.0, 1.0]]):
        for smoothing in (0.0, 0.1):
            loss, dlogits = reference.softmax_cross_entropy_grad(
                np.ones((2, 3)), y_ignored, weight=weight, label_smoothing=smoothing
            )
            assert np.isnan(loss)
            assert_array_equal(dlogits, np.zeros((2, 3)))
    X, W, b = np.ones((2, 4)), np.ones((4, 3)), np.ones(3)
    for n, s in ((0, None), (2, np.zeros(2))):
        loss, dW, db = reference.linear_cross_entropy_grad(
            X[:n], W, b, np.zeros(n, int), sample_weight=s
        )
        assert np.isnan(loss)
        assert_array_equal(dW, np.zeros((4, 3)))
        assert_array_equal(db, np.zeros(3))
    assert_array_equal(reference.linear(np.ones((2, 0)), np.ones((0, 3)), b), np.ones((2, 3)))


def test_a_perfect_loss_is_zero_not_minus_zero() -> None:
    losses = [
        *reference.cross_entropy([[1.0, 0.0]], [0]),
        *reference.softmax_cross_entropy([[1e5, 0.0]], [0], reduction="none"),
    ]
    assert_array_equal(losses, [0, 0])
    assert not np.signbit(losses).any()


def test_cross_entropy_of_impossible() -> None:
    assert_array_equal(reference.cross_entropy([[1.0, 0.0], [0.0, 1.0]], [1, 1]), [np.inf, 0])


# ---------------------------------------------------------------- shapes, dtypes, refusals


def test_images_and_lists() -> None:
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    W = np.ones((12, 2), np.float32)
    assert_array_equal(reference.linear(images, W), reference.linear(images.reshape(2, 12), W))
    assert reference.linear([[1, 2]], [[1.0], [2.0]], [3]).tolist() == [[8.0]]


def test_axis_may_be_anywhere(rng: np.random.Generator) -> None:
    logits, y = rng.normal(size=(2, 3, 4)), rng.integers(0, 3, (2, 4))
    at_one = reference.softmax_cross_entropy_grad(logits, y, axis=1, reduction="none")
    at_end = reference.softmax_cross_entropy_grad(np.moveaxis(logits, 1, -1), y, reduction="none")
    assert_array_equal(at_one[0], at_end[0])
    assert_array_equal(at_one[1], np.moveaxis(at_end[1], -1, 1))


def test_reference_refuses() -> None:
    with pytest.raises(ValueError, match=r"probs has shape \(3,\), expected \(n_samples, n_cla"):
        reference.cross_entropy([0.1, 0.2, 0.7], [0])
    with pytest.raises(ValueError, match="probs has 0 columns"):
        reference.cross_entropy(np.zeros((2, 0)), [0, 0])
    with pytest.raises(ValueError, match=r"reduction is 'avg', expected"):
        reference.softmax_cross_entropy([[0.0]], [0], reduction="avg")
    with pytest.raises(TypeError, match="y has dtype float64, expected integer labels"):
        reference.linear_cross_entropy([[0.0]], [[0.0]], None, [0.0])
