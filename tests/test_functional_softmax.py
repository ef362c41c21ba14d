"""The compiled functions of logits against NumPy and wider arithmetic, as cases.py rules."""

from __future__ import annotations

import functools
import itertools
from typing import Any, NamedTuple

import numpy as np
import oracle
import pytest
from cases import DTYPES, N_CLASSES, N_SAMPLES, REDUCTIONS, Array, assert_no_worse, compute_type
from numpy.testing import assert_allclose, assert_array_equal

from csoftmax import _kernels, functional, reference

pytestmark = pytest.mark.usefixtures("no_warnings")


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


@pytest.mark.slow  # compare.c writes past the caches too
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


class CrossEntropy(NamedTuple):
    """One case: what a call takes, what NumPy makes of it, the truth and its magnitudes."""

    logits: Array
    y: Array
    options: dict[str, Any]
    plain: tuple[Any, Array]
    loss: Any  # NaN for a mean of nothing
    loss_size: Any
    dlogits: Array
    dlogits_size: float


PAIRS = list(itertools.product(N_CLASSES, N_SAMPLES, [False, True]))


@functools.lru_cache(maxsize=len(PAIRS))  # the cases of one test, for all instruction sets
def cross_entropy_case(dtype: Any, target: str, smoothing: float, index: int) -> CrossEntropy:
    k, n, weighted = PAIRS[index]
    rng = np.random.default_rng([n, k, index])
    logits, t = make_logits(dtype, n, k), compute_type(dtype)
    y: Array = rng.integers(0, k, n)
    if target == "ignored":
        y[::3] = -7
    elif target == "probabilities":
        y = rng.dirichlet(np.ones(k), n).astype(t)
    weight = rng.uniform(0.1, 2, k).astype(t) if weighted else None
    options: Any = {"weight": weight, "ignore_index": -7, "label_smoothing": smoothing}
    wide = logits.astype(oracle.wider(t))
    truth = oracle.cross_entropy(wide, y, **options)
    reduction = options["reduction"] = REDUCTIONS[index % 3]
    plain = reference.softmax_cross_entropy_grad(logits, y, **options)
    heaviest = 1.0 if weight is None else float(weight.max())
    if reduction == "mean" and truth.divisor == 0:
        return CrossEntropy(logits, y, options, plain, np.nan, 1, truth.dlogits, heaviest)
    each = heaviest * np.maximum(1, -oracle.log_softmax(wide).min(axis=1))
    divisor = truth.divisor if reduction == "mean" else 1
    return CrossEntropy(
        logits, y, options, plain, oracle.reduce(truth, reduction),
        oracle.reduce(truth._replace(losses=each), reduction), truth.dlogits / divisor,
        heaviest / divisor,
    )  # fmt: skip


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("target", ["labels", "ignored", "probabilities"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_cross_entropy(isa: str, dtype: Any, target: str, smoothing: float) -> None:
    """Every pair of (classes, samples) with both settings of weight, reductions in turn.

    Where another test has all of that, every two of the three settings meet: NumPy makes float32
    or float64 of the other types before a kernel sees them, and compare.c holds all the sets.
    """
    whole = dtype in (np.float32, np.float64) and isa in (_kernels.available()[0], "scalar")
    for index, (k, n, weighted) in enumerate(PAIRS):
        if not whole and (N_CLASSES.index(k) + N_SAMPLES.index(n) + weighted) % 2:
            continue
        case = cross_entropy_case(dtype, target, smoothing, index)
        loss, dlogits = functional.softmax_cross_entropy_grad(case.logits, case.y, **case.options)
        forward = functional.softmax_cross_entropy(case.logits, case.y, **case.options)
        assert_array_equal(forward, loss)
        plain, dlogits_plain = case.plain
        assert type(loss) is type(plain)
        if np.isnan(case.loss).any():
            assert np.isnan(loss)
        else:
            assert_no_worse(loss, plain, case.loss, case.loss_size)
        assert_no_worse(dlogits, dlogits_plain, case.dlogits, case.dlogits_size)


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


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradients_by_central_differences(isa: str, reduction: str) -> None:
    logits = np.random.default_rng(1).normal(size=(3, 4, 2))
    labels = np.array([[0, 1], [2, -1], [3, 3]])
    for target in (labels, np.abs(logits[::-1])):
        settings: Any = {
            "weight": np.array([0.4, 1.9, 0.7, 1.2]), "label_smoothing": 0.2, "ignore_index": -1,
            "reduction": reduction, "axis": 1,
        }  # fmt: skip

        def loss(target: Array = target, settings: Any = settings) -> Any:
            return functional.softmax_cross_entropy(logits, target, **settings)

        _, dlogits = functional.softmax_cross_entropy_grad(logits, target, **settings)
        assert_allclose(dlogits, oracle.central_difference(loss, logits), atol=1e-9)
