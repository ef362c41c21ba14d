"""The compiled functions and memory: layouts, out=, overlaps, peak memory, threads."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import DTYPES, Array, make_case
from numpy.testing import assert_array_equal

from csoftmax import functional

# ---------------------------------------------------------------- layouts


def _unaligned(array: Array) -> Array:
    buffer = b"x" + array.tobytes()
    return np.frombuffer(buffer, array.dtype, array.size, 1).reshape(array.shape)


def _columns_of_wider(array: Array) -> Array:
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1] + 1), array.dtype)
    wide[..., 1::2] = array
    return wide[..., 1::2]


def _inside_of_larger(array: Array) -> Array:
    larger = np.zeros(tuple(size + 3 for size in array.shape), array.dtype)
    inside = tuple(slice(1, 1 + size) for size in array.shape)
    larger[inside] = array
    return larger[inside]


def _read_only(array: Array) -> Array:
    array = array.copy()
    array.flags.writeable = False
    return array


LAYOUTS: dict[str, Any] = {
    "fortran": np.asfortranarray,
    "reversed": lambda a: np.ascontiguousarray(a[::-1])[::-1],
    "both reversed": lambda a: np.flip(np.ascontiguousarray(np.flip(a))),
    "columns of wider": _columns_of_wider,
    "inside of larger": _inside_of_larger,
    "byte-swapped": lambda a: a.astype(a.dtype.newbyteorder("S")),
    "read-only": _read_only,
    "unaligned": _unaligned,
}


def results(X: Array, W: Array, b: Array, y: Array, s: Array, scale: float) -> list[Array]:
    """What every function makes of these arrays, with X for logits and for probabilities too."""
    m = min(len(y), W.shape[1])
    return [
        functional.linear(X, W, b, scale=scale),
        *functional.linear_cross_entropy_grad(X, W, b, y, scale=scale, sample_weight=s),
        functional.linear_cross_entropy(X, W, b, y, scale=scale, sample_weight=s),
        functional.softmax(X),
        functional.softmax(X, 0),
        functional.log_softmax(X),
        *functional.softmax_cross_entropy_grad(X, y, weight=X.shape[1] * [0.5]),
        functional.softmax_cross_entropy(W.T[:m], y[:m] % len(W)),
        functional.cross_entropy(X != 0, y),
    ]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_layout_does_not_matter(isa: str, dtype: Any, layout: str) -> None:
    case = make_case(dtype, 21, 19, 11)
    changed = [LAYOUTS[layout](array) for array in case[:5]]
    before = [array.copy() for array in changed]
    for got, expected in zip(results(*changed, case.scale), results(*case), strict=True):
        assert_array_equal(got, expected)
    for array, kept in zip(changed, before, strict=True):
        assert_array_equal(array, kept)


@pytest.mark.parametrize("dtype", DTYPES)
def test_broadcast_rows(isa: str, dtype: Any) -> None:
    case = make_case(dtype, 1, 19, 11)
    X = np.broadcast_to(case.X, (6, 19))
    y, s = np.broadcast_to(case.y, 6), np.broadcast_to(case.s, 6)
    expected = results(X.copy(), case.W, case.b, y.copy(), s.copy(), case.scale)
    for got, plain in zip(results(X, case.W, case.b, y, s, case.scale), expected, strict=True):
        assert_array_equal(got, plain)


def test_memory_mapped(isa: str, tmp_path: Path) -> None:
    case = make_case(np.uint8, 33, 65, 10)
    np.save(tmp_path / "X.npy", case.X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    for got, expected in zip(results(mapped, *case[1:]), results(*case), strict=True):
        assert_array_equal(got, expected)


# ---------------------------------------------------------------- out


def _calls(dtype: Any) -> dict[str, Any]:
    """name: (call taking out=, its result without; the last item is what out= receives)."""
    X, W, b, y, _, scale = make_case(dtype, 18, 19, 11)
    logits = functional.linear(X, W, b, scale=scale)
    probs = functional.softmax(logits)
    return {
        "linear": lambda **o: functional.linear(X, W, b, scale=scale, **o),
        "softmax": lambda **o: functional.softmax(logits, **o),
        "softmax of columns": lambda **o: functional.softmax(logits, 0, **o),
        "log_softmax": lambda **o: functional.log_softmax(logits, **o),
        "softmax_cross_entropy": lambda **o: functional.softmax_cross_entropy(
            logits, y, reduction="none", **o
        ),
        "softmax_cross_entropy_grad": lambda **o: functional.softmax_cross_entropy_grad(
            logits, y, **o
        )[1],
        "cross_entropy": lambda **o: functional.cross_entropy(probs, y, **o),
        "linear_cross_entropy": lambda **o: functional.linear_cross_entropy(
            X, W, b, y, reduction="none", **o
        ),
    }


@pytest.mark.parametrize("name", _calls(np.float32))
@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_out(isa: str, dtype: Any, name: str) -> None:
    call = _calls(dtype)[name]
    expected = call()
    out = np.full_like(expected, np.nan)
    assert call(out=out) is out
    assert_array_equal(out, expected)
    surrounded = np.full([size + 2 for size in expected.shape], 7, expected.dtype)
    layouts = [
        np.full([2 * size for size in expected.shape], np.nan, expected.dtype)[
            tuple(slice(None, None, 2) for _ in expected.shape)
        ],
        np.full_like(expected, np.nan, order="F"),
        np.full_like(expected, np.nan)[::-1],
        surrounded[tuple(slice(1, -1) for _ in expected.shape)],
    ]
    for strided in layouts:
        assert call(out=strided) is strided
        assert_array_equal(strided, expected)
    surrounded[tuple(slice(1, -1) for _ in expected.shape)] = 7
    assert (surrounded == 7).all()

    read_only = np.zeros_like(expected)
    read_only.flags.writeable = False
    other = np.float32 if expected.dtype == np.float64 else np.float64
    for bad, error, message in (
        (np.zeros((3, *expected.shape), expected.dtype), ValueError, "out has shape"),
        (np.zeros_like(expected, other), TypeError, "out has dtype"),
        (np.zeros_like(expected, expected.dtype.newbyteorder("S")), TypeError, "out has dtype"),
        (read_only, ValueError, "out is read-only"),
        (expected.tolist(), TypeError, "out is a list, expected a NumPy array"),
    ):
        with pytest.raises(error, match=message):
            call(out=bad)


def test_out_of_linear_cross_entropy_grad(isa: str) -> None:
    X, W, b, y, _, scale = make_case(np.float32, 18, 19, 11)
    loss, dW, db = functional.linear_cross_entropy_grad(X, W, b, y, scale=scale)
    for dW_out in (np.ones_like(dW), np.ones((11, 19), np.float32).T, np.ones_like(dW)[::-1]):
        db_out = np.ones_like(db)
        got = functional.linear_cross_entropy_grad(X, W, b, y, scale=scale, out=(dW_out, db_out))
        assert got[0] == loss
        assert got[1] is dW_out
        assert got[2] is db_out
        assert_array_equal(dW_out, dW)
        assert_array_equal(db_out, db)
    for bad, error in (
        ((np.ones((11, 19), np.float32), np.ones_like(db)), ValueError),
        ((np.ones_like(dW), np.ones(12, np.float32)), ValueError),
        ((np.ones_like(dW), db.astype(float)), TypeError),
        ((np.ones_like(dW),), (TypeError, ValueError)),
    ):
        with pytest.raises(error):
            functional.linear_cross_entropy_grad(X, W, b, y, out=bad)


def test_gradients_may_overlap_the_input(isa: str) -> None:
    X, W, b, y, s, scale = make_case(np.float32, 18, 19, 11)
    expected = functional.linear_cross_entropy_grad(X, W, b, y, scale=scale, sample_weight=s)
    inside = np.empty(18 * 19, np.float32)
    for dW, db, given in (
        (W.copy().T.copy().T, b.copy(), None),
        (inside[: 11 * 19].reshape(11, 19).T, np.empty_like(b), inside.reshape(18, 19)),
    ):
        inside[:] = X.ravel()
        weights, bias = (dW, db) if given is None else (W, b)
        features = X if given is None else given
        got = functional.linear_cross_entropy_grad(
            features, weights, bias, y, scale=scale, sample_weight=s, out=(dW, db)
        )
        assert got[0] == expected[0]
        assert_array_equal(dW, expected[1])
        assert_array_equal(db, expected[2])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_classes", [17, 301, 8203])  # tiles, rows, long rows: all end raggedly
@pytest.mark.parametrize("shift", [0, 1, 5])
def test_out_may_overlap_the_input(isa: str, dtype: Any, n_classes: int, shift: int) -> None:
    """In place, or shifted within one buffer: the result is as if the input were read first."""
    size = 20 * n_classes
    base = np.random.default_rng(5).normal(size=size + shift).astype(dtype)
    for call in (
        functional.softmax, functional.log_softmax,
        lambda x, out: functional.softmax_cross_entropy_grad(x, [1] * 20, out=out)[1],
    ):  # fmt: skip
        for back in (False, True):
            buffer = base.copy()
            first, second = buffer[:size], buffer[shift : shift + size]
            x, out = (second, first) if back else (first, second)
            x, out = x.reshape(20, n_classes), out.reshape(20, n_classes)
            expected = call(x.copy(), out=np.empty_like(x))
            assert_array_equal(call(x, out=out), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_out_may_be_the_input_turned_round(isa: str, dtype: Any) -> None:
    square = np.random.default_rng(5).normal(size=(17, 17)).astype(dtype)
    expected = functional.softmax(square)
    assert_array_equal(functional.softmax(square, out=square.T), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_out_of_linear_may_be_its_input(isa: str, dtype: Any) -> None:
    x, W = np.random.default_rng(5).normal(size=(2, 17, 17)).astype(dtype)
    expected = functional.linear(x, W)
    assert_array_equal(functional.linear(x, W, out=x), expected)


def test_a_failed_call_writes_nothing(isa: str) -> None:
    out = np.full((2, 3), 7.0)
    with pytest.raises(ValueError, match=r"y\[1\] is 3"):
        functional.softmax_cross_entropy_grad(np.zeros((2, 3)), [0, 3], out=out)
    assert (out == 7).all()


# ---------------------------------------------------------------- peak memory


def peak_of(call: Any) -> int:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_no_float_copy_of_X_and_no_matrix_of_probabilities() -> None:
    rng = np.random.default_rng(6)
    few, n = 8 * 2**20, 20_000
    X, y = rng.integers(0, 256, (n, 784), dtype=np.uint8), rng.integers(0, 10, n)
    W, b = np.zeros((784, 10), np.float32), np.zeros(10, np.float32)
    for function in (functional.linear_cross_entropy, functional.linear_cross_entropy_grad):
        assert 4 * X.size > 7 * few
        assert peak_of(lambda f=function: f(X, W, b, y, scale=1 / 255)) < few
        W_many, b_many = np.zeros((16, 1000), np.float32), np.zeros(1000, np.float32)
        assert 4 * n * 1000 > 9 * few
        assert peak_of(lambda f=function, w=W_many, c=b_many: f(X[:, :16], w, c, y)) < few


def test_no_second_gradient_and_little_scratch(isa: str) -> None:
    """The gradient goes straight into `out`, and the rest is little more than the parameters."""
    X, W, b, y, _, _ = make_case(np.float32, 2048, 1024, 1000)
    W = np.asfortranarray(W)
    dW, db = np.empty_like(W), np.empty_like(b)
    peak = peak_of(
        lambda: functional.linear_cross_entropy_grad(X, W, b, y, out=(dW, db), n_threads=2)
    )
    assert peak < 1.25 * W.nbytes


# ---------------------------------------------------------------- threads


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize(("n_samples", "n_classes"), [(3001, 10), (3001, 100), (801, 601)])
def test_same_bits_for_any_number_of_threads(
    isa: str, dtype: Any, n_samples: int, n_classes: int
) -> None:
    X, W, b, y, s, scale = make_case(dtype, n_samples, 100, n_classes)
    logits = functional.linear(X, W, b, scale=scale, n_threads=1)
    columns = np.ascontiguousarray(logits.T)
    smooth: Any = {"label_smoothing": 0.1, "weight": np.linspace(0.5, 2, n_classes)}

    def run(n_threads: int | None) -> list[Array]:
        t: Any = {"n_threads": n_threads}
        return [
            functional.linear(X, W, b, scale=scale, **t),
            functional.softmax(logits, **t),
            functional.softmax(columns, 0, **t),
            functional.log_softmax(logits, **t),
            functional.softmax_cross_entropy(logits, y, **t),
            *functional.softmax_cross_entropy_grad(logits, y, **t),
            *functional.softmax_cross_entropy_grad(logits, y, **smooth, **t),
            functional.linear_cross_entropy(X, W, b, y, scale=scale, **t),
            *functional.linear_cross_entropy_grad(X, W, b, y, scale=scale, sample_weight=s, **t),
        ]

    expected = run(1)
    for n_threads in (2, 3, 8, 64, None):
        for got, one in zip(run(n_threads), expected, strict=True):
            assert np.asarray(got).tobytes() == np.asarray(one).tobytes()
