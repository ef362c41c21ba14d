"""The compiled functions against the plain NumPy page and wider arithmetic.

The rule for tolerances: against a truth in a wider type, the compiled result may err no more than
plain NumPy does in the same type, plus MARGIN units of rounding of the magnitudes it has to add up.
Where pixels are multiplied by integers, weights and dlogits count as large as the largest of their
class: they are rounded to 24 bits of that.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any, NamedTuple

import numpy as np
import oracle
import pytest
from cases import DTYPES, REDUCTIONS, Array, compute_type, make_case
from numpy.testing import assert_allclose, assert_array_equal

from csoftmax import _kernels, functional, reference

MARGIN = 4

# Around the lengths of vectors of 4, 8 and 16 floats and their unrolled loops.
N_FEATURES = [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 784, 1029]
N_CLASSES = [1, 2, 3, 5, 7, 9, 10, 11, 16, 17, 33, 100]
N_SAMPLES = [0, 1, 2, 3, 5, 15, 16, 17, 33, 100, 1025]


pytestmark = pytest.mark.usefixtures("no_warnings")


def assert_no_worse(got: Array, plain: Array, truth: Array, magnitude: Array) -> None:
    """Hold `got` to the rule above; `magnitude` is what one unit of rounding is relative to."""
    got, plain = np.asarray(got), np.asarray(plain)
    assert got.shape == plain.shape
    assert got.dtype == plain.dtype
    if got.size == 0:
        return
    # plain is float64 for a mean or sum of float32 losses; the losses themselves are not.
    info = np.finfo(np.float32 if np.asarray(truth).dtype == np.float64 else np.float64)
    unit = np.maximum(magnitude, info.tiny)
    theirs = float((abs(plain - truth) / unit).max() / info.eps)
    ours = float((abs(got - truth) / unit).max() / info.eps)
    assert ours <= theirs + MARGIN, f"off by {ours:.2f} units of rounding, NumPy by {theirs:.2f}"


# ---------------------------------------------------------------- the linear functions


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


@functools.cache
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


def check_linear(dtype: Any, n: int, j: int, k: int, weighted: bool, reduction: str) -> None:
    X, W, b, y, s, scale = make_case(dtype, n, j, k)
    digits = _kernels.active() in ("amx", "vnni") and dtype == np.uint8
    truth = truth_of(dtype, n, j, k, weighted, digits)
    assert_no_worse(
        functional.linear(X, W, b, scale=scale),
        reference.linear(X, W, b, scale=scale), truth.logits, truth.logits_size,
    )  # fmt: skip
    options: Any = {
        "scale": scale, "sample_weight": s if weighted else None, "reduction": reduction,
    }  # fmt: skip
    loss, dW, db = functional.linear_cross_entropy_grad(X, W, b, y, **options)
    plain, dW_plain, db_plain = reference.linear_cross_entropy_grad(X, W, b, y, **options)
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


# ---------------------------------------------------------------- functions of logits


def make_logits(dtype: Any, n: int, k: int) -> Array:
    rng = np.random.default_rng([n, k])
    if np.dtype(dtype).kind == "f":
        return (6 * rng.normal(size=(n, k))).astype(dtype)
    return rng.integers(0, 30, (n, k)).astype(dtype)


@pytest.mark.parametrize("n_classes", N_CLASSES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_and_log_softmax(isa: str, dtype: Any, n_classes: int) -> None:
    for n in N_SAMPLES:
        x = make_logits(dtype, n, n_classes)
        wide = x.astype(oracle.wider(compute_type(dtype)))
        p, log_p = oracle.softmax(wide), oracle.log_softmax(wide)
        assert_no_worse(functional.softmax(x), reference.softmax(x), p, p)
        assert_no_worse(
            functional.log_softmax(x), reference.log_softmax(x), log_p, np.maximum(1, -log_p)
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("offset", "n_classes"), [(0, 4099), (1, 4099), (1, 20_001), (1, 70_001)])
def test_large_results_have_the_bits_of_small_ones(
    isa: str, dtype: Any, offset: int, n_classes: int
) -> None:
    """They are written past the caches, wherever they lie."""
    n = (1 << 26) // (n_classes * np.dtype(dtype).itemsize) + 1
    logits = np.random.default_rng(0).normal(0, 5, n_classes + 4 * n).astype(dtype)
    x = np.lib.stride_tricks.sliding_window_view(logits, n_classes)[::4][:n]
    out = np.zeros(n * n_classes + 2, dtype)
    result = out[offset : offset + n * n_classes].reshape(n, n_classes)
    for function in (functional.softmax, functional.log_softmax):
        assert function(x, out=result) is result
        for some in (slice(0, 3), slice(n // 2, n // 2 + 3), slice(n - 3, n)):
            assert_array_equal(result[some], function(x[some]))
    y = np.arange(n) * 7 % n_classes
    y[:3] = 0, n_classes - 1, n_classes - 2
    y[4] = -100
    losses = functional.softmax_cross_entropy_grad(
        x, y, reduction="none", ignore_index=-100, out=result
    )[0]
    for some in (slice(0, 5), slice(n // 2, n // 2 + 3), slice(n - 3, n)):
        expected = functional.softmax_cross_entropy_grad(
            x[some], y[some], reduction="none", ignore_index=-100
        )
        assert_array_equal(losses[some], expected[0])
        assert_array_equal(result[some], expected[1])
    assert out[:offset].sum() == out[offset + n * n_classes :].sum() == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_classes", [20_001, 70_001])
def test_long_rows_in_pieces(isa: str, n_classes: int, dtype: Any) -> None:
    """The largest logit may come early, late or piece by piece; so may what is not finite."""
    rng = np.random.default_rng(5)
    x = rng.normal(0, 5, (9, n_classes)).astype(dtype)
    x[1].sort()
    x[2] = np.sort(x[2])[::-1]
    x[3, : n_classes * 3 // 4] = -np.inf
    x[4, 3] = 1e30
    x[5, :] = -np.inf
    x[5, 7] = np.nan
    x[6, :] = -np.inf
    x[7, -1_001] = np.inf
    x[8, -1] = np.nan
    wide = x[:5].astype(oracle.wider(dtype))
    p, log_p = oracle.softmax(wide), oracle.log_softmax(wide)
    got, got_log = functional.softmax(x), functional.log_softmax(x)
    assert_no_worse(got[:5], reference.softmax(x[:5]), p, p)
    scale = np.where(np.isfinite(log_p), np.maximum(1, -log_p), 1)
    finite = np.isfinite(log_p)
    assert_array_equal(got_log[:5][~finite], -np.inf)
    plain = reference.log_softmax(x[:5])
    assert_no_worse(got_log[:5][finite], plain[finite], log_p[finite], scale[finite])
    assert np.isnan(got[5:]).all()
    assert np.isnan(got_log[5:]).all()
    assert_array_equal(functional.softmax(x, out=x.copy()), got)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("target", ["labels", "ignored", "probabilities"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_cross_entropy(isa: str, dtype: Any, target: str, smoothing: float) -> None:
    """Every pair of (classes, samples) with both settings of weight, reductions in turn."""
    pairs = itertools.product(N_CLASSES, N_SAMPLES, [False, True])
    for index, (k, n, weighted) in enumerate(pairs):
        rng = np.random.default_rng([n, k, index])
        logits, t = make_logits(dtype, n, k), compute_type(dtype)
        y: Array = rng.integers(0, k, n)
        if target == "ignored":
            y[::3] = -7
        elif target == "probabilities":
            y = rng.dirichlet(np.ones(k), n).astype(t)
        weight = rng.uniform(0.1, 2, k).astype(t) if weighted else None
        reduction = REDUCTIONS[index % 3]
        options: Any = {"weight": weight, "ignore_index": -7, "label_smoothing": smoothing}
        wide = logits.astype(oracle.wider(t))
        truth = oracle.cross_entropy(wide, y, **options)
        options["reduction"] = reduction
        loss, dlogits = functional.softmax_cross_entropy_grad(logits, y, **options)
        plain, dlogits_plain = reference.softmax_cross_entropy_grad(logits, y, **options)
        assert_array_equal(functional.softmax_cross_entropy(logits, y, **options), loss)
        assert type(loss) is type(plain)
        heaviest = 1.0 if weight is None else weight.max()
        mean_of_nothing = reduction == "mean" and truth.divisor == 0
        if mean_of_nothing:
            assert np.isnan(loss)
        else:
            each = heaviest * np.maximum(1, -oracle.log_softmax(wide).min(axis=1))
            loss_size = oracle.reduce(truth._replace(losses=each), reduction)
            assert_no_worse(loss, plain, oracle.reduce(truth, reduction), loss_size)
        divisor = truth.divisor if reduction == "mean" and not mean_of_nothing else 1
        assert_no_worse(dlogits, dlogits_plain, truth.dlogits / divisor, heaviest / divisor)


def test_mean_of_nothing(isa: str) -> None:
    """The labels weigh nothing, the classes that smoothing brings in do."""
    logits = [[1.0, 2.0, 4.0], [np.nan, 1.0, 2.0], [np.inf, 0.0, 0.0]]
    for smoothing in (0.0, 0.1):
        for module in (functional, reference):
            loss, dlogits = module.softmax_cross_entropy_grad(
                logits, [1, 1, 1], weight=[1.0, 0.0, 1.0], label_smoothing=smoothing
            )
            assert np.isnan(loss)
            assert_array_equal(dlogits, np.zeros((3, 3)))


@pytest.mark.parametrize("shape", [(5,), (4, 6), (3, 5, 4), (2, 3, 5, 2), (0, 3, 2), (2, 3, 0)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_any_dimensions_any_axis(isa: str, dtype: Any, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=shape).astype(dtype)
    tolerance: Any = {"atol": 8 * np.finfo(dtype).eps}
    for axis in range(-len(shape), len(shape)):
        k = shape[axis]
        if k == 0:
            continue
        p = functional.softmax(x, axis)
        assert_allclose(p, reference.softmax(x, axis), **tolerance)
        assert_allclose(
            functional.log_softmax(x, axis), reference.log_softmax(x, axis), **tolerance
        )
        labels = rng.integers(0, k, x.max(axis=axis).shape)
        for y in (labels, p):
            for reduction in REDUCTIONS:
                loss, dlogits = functional.softmax_cross_entropy_grad(
                    x, y, axis=axis, reduction=reduction
                )
                plain, dlogits_plain = reference.softmax_cross_entropy_grad(
                    x, y, axis=axis, reduction=reduction
                )
                assert np.shape(loss) == np.shape(plain)
                assert dlogits.shape == shape
                assert_allclose(loss, plain, rtol=1e-5 if dtype == np.float32 else 1e-13)
                assert_allclose(dlogits, dlogits_plain, **tolerance)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("soft", [False, True], ids=["labels", "probabilities"])
def test_segmentation_masks_are_torchs(soft: bool, reduction: str) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(4)
    logits = rng.normal(size=(2, 5, 7, 3))
    y: Array = rng.integers(0, 5, (2, 7, 3))
    y[0, ::2] = 255
    if soft:
        y = oracle.softmax(rng.normal(size=logits.shape), axis=1)
    weight = rng.uniform(0, 2, 5)
    options: Any = {"label_smoothing": 0.2, "reduction": reduction}
    if not soft:  # PyTorch refuses an ignore_index together with probabilities
        options["ignore_index"] = 255
    x = torch.tensor(logits, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(
        x, torch.tensor(y), weight=torch.tensor(weight), **options
    )
    expected.sum().backward()
    loss, dlogits = functional.softmax_cross_entropy_grad(
        logits, y, weight=weight, axis=1, **options
    )
    assert_allclose(loss, expected.detach().numpy(), rtol=1e-12)
    assert_allclose(dlogits, x.grad.numpy(), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy_of_probabilities(isa: str, dtype: Any) -> None:
    for n, k in itertools.product(N_SAMPLES, [1, 2, 10, 33]):
        probs = functional.softmax(make_logits(np.float64, n, k)).astype(dtype)
        y = np.random.default_rng(n).integers(0, k, n)
        with np.errstate(divide="ignore"):
            truth = -np.log(probs[np.arange(n), y].astype(oracle.wider(compute_type(dtype))))
        got, plain = functional.cross_entropy(probs, y), reference.cross_entropy(probs, y)
        assert_array_equal(np.isinf(got), np.isinf(truth))
        fine = np.isfinite(truth)
        assert_no_worse(got[fine], plain[fine], truth[fine], np.maximum(1, truth[fine]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exp_to_the_last_bits(isa: str, dtype: Any) -> None:
    """Of two classes with logits x and 0, exp(x) / (1 + exp(x)): at most 3 units in the last place.

    One unit for exp, one half each for the sum and the quotient, one spare below the normal range.
    """
    lowest = -104 if dtype == np.float32 else -745
    x = np.linspace(lowest, 0, 300_001).astype(dtype)
    p = functional.softmax(np.stack([x, np.zeros_like(x)], axis=1))[:, 0]
    e = np.exp(x.astype(oracle.wider(dtype)))
    truth = e / (1 + e)
    units = abs(p - truth) / np.spacing(truth.astype(dtype))
    assert units.max() <= 3


# ---------------------------------------------------------------- gradients by differences


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradients_by_central_differences(isa: str, reduction: str) -> None:
    X, W, b, y, s, scale = make_case(np.float64, 9, 5, 4)
    options: Any = {"scale": scale, "sample_weight": s, "reduction": reduction}

    def linear_loss() -> Any:
        return functional.linear_cross_entropy(X, W, b, y, **options)

    _, dW, db = functional.linear_cross_entropy_grad(X, W, b, y, **options)
    assert_allclose(dW, oracle.central_difference(linear_loss, W), atol=1e-8)
    assert_allclose(db, oracle.central_difference(linear_loss, b), atol=1e-8)

    logits = np.random.default_rng(1).normal(size=(3, 4, 2))
    labels = np.array([[0, 1], [2, -1], [3, 3]])
    for target in (labels, np.abs(logits[::-1])):
        settings: Any = {
            "weight": s[:4] + 0.1, "label_smoothing": 0.2, "ignore_index": -1,
            "reduction": reduction, "axis": 1,
        }  # fmt: skip

        def loss(target: Array = target, settings: Any = settings) -> Any:
            return functional.softmax_cross_entropy(logits, target, **settings)

        _, dlogits = functional.softmax_cross_entropy_grad(logits, target, **settings)
        assert_allclose(dlogits, oracle.central_difference(loss, logits), atol=1e-9)
