"""The compiled module by itself: exp and log to the last place, and the instruction sets."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracle import wider

from csoftmax import _kernels

Array = Any

KNOWN = ("amx", "vnni", "avx512", "avx2", "neon", "scalar")  # best first


# ---- exp and log ---------------------------------------------------------------------------------


def evaluate(name: str, x: Array) -> Array:
    out = np.empty_like(x)
    _kernels.elementary(name, x, out)
    return out


def ulp_errors(got: Array, truth: Array) -> Array:
    """|got - truth| in units of the last place of such a result, subnormal ones too."""
    info = np.finfo(got.dtype)
    _, exponent = np.frexp(truth)
    last_place = np.maximum(exponent - info.nmant - 1, int(info.minexp) - info.nmant)
    last_place[truth == 0] = int(info.minexp) - info.nmant
    return np.ldexp(np.abs(got.astype(truth.dtype) - truth), -last_place.astype(np.int32))


def worst_ulp(name: str, x: Array) -> tuple[float, float]:
    """The largest error over x, and where it is."""
    truth = getattr(np, name)(x.astype(wider(x.dtype)))
    errors = ulp_errors(evaluate(name, x), truth)
    assert not np.isnan(errors).any()
    worst = int(errors.argmax())
    return float(errors[worst]), float(x[worst])


def neighbourhoods(points: Array, dtype: Any, lowest: float, highest: float) -> Array:
    """The floats around each point, 64 on either side, that lie in lowest..highest."""
    bits = {4: np.int32, 8: np.int64}[np.dtype(dtype).itemsize]
    centres = np.asarray(points, dtype).view(bits)
    x = (centres[:, None] + np.arange(-64, 65, dtype=bits)).ravel().view(dtype)
    return x[(x >= lowest) & (x <= highest)]


def every_float32(first: float, last: float, step: int = 1) -> list[Array]:
    """All float32 from first to last (of one sign), or every step-th, in chunks of bit patterns."""
    begin, end = np.array([first, last], np.float32).view(np.uint32).tolist()
    size = step << 18
    return [
        np.arange(at, min(at + size, end + 1), step, dtype=np.uint32).view(np.float32)
        for at in range(begin, end + 1, size)
    ]


LOWEST = {np.float32: -104.0, np.float64: -745.2}  # below, exp rounds to 0
HIGHEST = {np.float32: 2.0**31, np.float64: 2.0**1023}


def exp_points(dtype: Any) -> Array:
    """Powers of two, breaks between two multiples of ln 2, edges of the subnormal results."""
    powers = -(2.0 ** np.arange(-126, 10))
    breaks = -(np.arange(1076) + 0.5) * np.log(2.0)
    info = np.finfo(dtype)
    edges = [np.log(info.smallest_normal), np.log(float(info.smallest_normal)) - 1, LOWEST[dtype]]
    points = np.concatenate([powers, breaks, np.array(edges, np.float64)])
    return neighbourhoods(points[points >= 1.1 * LOWEST[dtype]], dtype, LOWEST[dtype], -0.0)


def log_points(dtype: Any) -> Array:
    powers = 2.0 ** np.arange(0, np.log2(HIGHEST[dtype]) + 1)
    return neighbourhoods(np.concatenate([powers, powers * np.sqrt(2.0)]), dtype, 1, HIGHEST[dtype])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exp_is_within_one_ulp(isa: str, dtype: Any) -> None:
    rng = np.random.default_rng(1)
    if dtype is np.float32:
        sample = np.concatenate(every_float32(-0.0, -104.0, step=401))
    else:
        small = -np.exp(rng.uniform(-45, np.log(745), 200_000))
        sample = np.concatenate([rng.uniform(-745.2, 0, 300_000), small])
    for x in (sample, exp_points(dtype)):
        error, at = worst_ulp("exp", x)
        assert error <= 1, f"exp({at!r}) is {error} ULP off"
        result = evaluate("exp", x)
        assert result.min() >= 0
        assert result.max() <= 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_log_is_within_one_ulp(isa: str, dtype: Any) -> None:
    rng = np.random.default_rng(2)
    if dtype is np.float32:
        sample = np.concatenate(every_float32(1, 2.0**31, step=101))
    else:
        near_one = 1 + np.exp(rng.uniform(-36, 3, 200_000))
        sample = np.concatenate([np.exp(rng.uniform(0, 709, 300_000)), near_one])
    for x in (sample, log_points(dtype)):
        error, at = worst_ulp("log", x)
        assert error <= 1, f"log({at!r}) is {error} ULP off"


@pytest.mark.exhaustive
@pytest.mark.parametrize(("name", "first", "last"), [("exp", -0.0, -104.0), ("log", 1.0, 2.0**31)])
def test_every_float32_is_within_one_ulp(
    isa: str, name: str, first: float, last: float, record_property: Callable[[str, Any], None]
) -> None:
    begin, end = np.array([first, last], np.float32).view(np.uint32).tolist()

    def worst_from(at: int) -> tuple[float, float]:
        bits = np.arange(at, min(at + (1 << 18), end + 1), dtype=np.uint32)
        return worst_ulp(name, bits.view(np.float32))

    with ThreadPoolExecutor(2) as pool:
        error, at = max(pool.map(worst_from, range(begin, end + 1, 1 << 18)))
    record_property("worst_ulp", error)
    print(f"{name} float32 {isa}: {error:.4f} ULP at {at!r}, of {end + 1 - begin} floats")
    assert error <= 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exp_special_values(isa: str, dtype: Any) -> None:
    below = [np.nextafter(dtype(LOWEST[dtype]), dtype(-np.inf)), -1e3, -1e10, np.finfo(dtype).min]
    x = np.array([0.0, -0.0, np.nan, -np.inf, *below], dtype)
    expected = np.array([1, 1, np.nan, 0, 0, 0, 0, 0], dtype)
    for turn in range(len(x)):  # each value in each lane, whole vectors and tails
        got = evaluate("exp", np.roll(np.tile(x, 5)[:37], turn))
        np.testing.assert_array_equal(got, np.roll(np.tile(expected, 5)[:37], turn))
        assert not np.signbit(got[~np.isnan(got)]).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_log_special_values(isa: str, dtype: Any) -> None:
    got = evaluate("log", np.array([1, np.nan] * 17, dtype))
    np.testing.assert_array_equal(got, np.array([0, np.nan] * 17, dtype))
    assert not np.signbit(got[::2]).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "sign"), [("exp", -1), ("log", 1)])
def test_an_element_does_not_depend_on_its_place(
    isa: str, dtype: Any, name: str, sign: int
) -> None:
    x = (sign * np.random.default_rng(3).uniform(1, 50, 67)).astype(dtype)
    whole = evaluate(name, x)
    for begin in range(34):
        for n in (0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 33):
            out = np.full(n + 2, 7, dtype)
            _kernels.elementary(name, x[begin : begin + n], out[1:-1])
            np.testing.assert_array_equal(out[1:-1], whole[begin : begin + n])
            assert out[0] == out[-1] == 7


# ---- instruction sets ----------------------------------------------------------------------------


def test_available_instruction_sets() -> None:
    names = _kernels.available()
    assert list(names) == [name for name in KNOWN if name in names]
    assert names[-1] == "scalar"
    assert _kernels.active() in names


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="needs /proc/cpuinfo")
def test_available_agrees_with_the_operating_system() -> None:
    features: set[str] = set()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            features = set(line.partition(":")[2].split())
            break
    names = _kernels.available()
    avx2 = {"avx2", "fma", "f16c"} <= features
    assert ("avx2" in names) == avx2
    avx512 = avx2 and {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= features
    assert ("avx512" in names) == avx512
    assert ("vnni" in names) == (avx512 and "avx512_vnni" in features)
    if "amx" in names:  # not the other way round: an old compiler or system may refuse the tiles
        assert avx512
        assert {"amx_tile", "amx_int8"} <= features
    assert ("neon" in names) == (platform.machine() == "aarch64")


def test_use_switches_and_refuses(isa: str) -> None:
    assert _kernels.active() == isa
    for wrong in ("sse9", "", "AVX2"):
        with pytest.raises(ImportError, match=f"instruction set '{wrong}' is not available"):
            _kernels.use(wrong)
        assert _kernels.active() == isa


@pytest.mark.parametrize("name", [*_kernels.available(), "mmx"])
def test_the_environment_forces_an_instruction_set(name: str) -> None:
    code = "import csoftmax; print(csoftmax._kernels.active())"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "CSOFTMAX_ISA": name},
        capture_output=True,
        text=True,
    )
    if name == "mmx":
        assert run.returncode == 1
        assert "ImportError: environment variable CSOFTMAX_ISA: instruction set 'mmx'" in run.stderr
    else:
        assert (run.returncode, run.stdout.strip()) == (0, name)


class Problem:
    """Fused passes over one small data set, run on whatever instruction set is in use."""

    def __init__(self, dtype: Any, n: int = 70, j: int = 51, k: int = 13) -> None:
        rng = np.random.default_rng([n, j, k])
        self.X = rng.normal(size=(n, j)).astype(dtype)
        self.W = (rng.normal(size=(k, j)) / 4).astype(dtype)
        self.b = rng.normal(size=k).astype(dtype)
        self.y = rng.integers(0, k, n)
        self.order = rng.permutation(n)
        self.logits = np.empty((n, k), dtype)
        self.losses = np.empty(n, dtype)
        self.predictions = np.empty(n, np.int64)
        self.gradient = np.empty_like(self.W), np.empty_like(self.b)

    def arguments(self) -> dict[str, Any]:
        return {"X": self.X, "W": self.W, "b": self.b, "scale": 1.0, "y": self.y}

    def everything(self) -> list[Array]:
        """Logits, losses, gradients, softmax and weights after an epoch."""
        _kernels.row_pass(self.X, self.W, self.b, 0.5, logits=self.logits)
        total, correct = _kernels.row_pass(
            **self.arguments(), losses=self.losses, gradient=self.gradient
        )
        rows = self.logits[:, :, None]
        probs, log_probs, dlogits = (np.empty_like(rows) for _ in range(3))
        losses = np.empty_like(self.losses)
        _kernels.softmax_pass("softmax", rows, probs)
        _kernels.softmax_pass("log_softmax", rows, log_probs)
        _kernels.softmax_pass("cross_entropy", rows, dlogits, y=self.y, losses=losses)
        W, b = self.W.copy(), self.b.copy()
        sgd = (0.1, 0.9, True, 1e-3, np.zeros_like(W), np.zeros_like(b))
        _kernels.row_pass(
            self.X, W, b, 1.0, y=self.y, order=self.order, batch_rows=16, sgd=sgd,
            predictions=self.predictions,
        )  # fmt: skip
        return [
            self.logits.copy(), self.losses.copy(), *(g.copy() for g in self.gradient),
            probs, log_probs, dlogits, losses, W, b, np.array([total, correct]),
        ]  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_instruction_sets_agree_to_rounding(isa: str, dtype: Any) -> None:
    ours, predictions = Problem(dtype), Problem(dtype)
    got = ours.everything()
    _kernels.use("scalar")
    expected = predictions.everything()
    np.testing.assert_array_equal(ours.predictions, predictions.predictions)
    for a, b in zip(got, expected, strict=True):
        # about the square root of the number of terms, times the size of the largest element
        tolerance = 8 * np.finfo(dtype).eps * max(1.0, float(np.abs(b).max()))
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("k", [1, 3, 13, 40])
def test_one_pass_gives_what_several_give(isa: str, dtype: Any, k: int) -> None:
    apart, together = Problem(dtype, k=k), Problem(dtype, k=k)
    _kernels.row_pass(apart.X, apart.W, apart.b, 1.0, logits=apart.logits)
    _kernels.row_pass(apart.X, apart.W, apart.b, 1.0, predictions=apart.predictions)
    first = _kernels.row_pass(**apart.arguments(), losses=apart.losses)
    assert first[1] == np.count_nonzero(apart.predictions == apart.y)
    _kernels.row_pass(**apart.arguments(), gradient=apart.gradient)
    second = _kernels.row_pass(
        **together.arguments(), logits=together.logits, losses=together.losses,
        predictions=together.predictions, gradient=together.gradient,
    )  # fmt: skip
    assert first[1] == second[1]
    np.testing.assert_allclose(first[0], second[0], rtol=1e-12)
    for name in ("logits", "losses", "predictions"):
        np.testing.assert_array_equal(getattr(apart, name), getattr(together, name))
    for a, b in zip(apart.gradient, together.gradient, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("batch_rows", [70, 71, 2**40, 2**63 - 1])
def test_a_batch_larger_than_the_data_is_the_data(batch_rows: int) -> None:
    sgd = (0.1, 0.0, False, 0.0, None, None)
    results = []
    for rows in (70, batch_rows):
        problem = Problem(np.float32, n=70)
        _kernels.row_pass(**problem.arguments(), batch_rows=rows, sgd=sgd, n_threads=2)
        results.append(problem.W)
    assert (results[0] != Problem(np.float32, n=70).W).any()
    np.testing.assert_array_equal(*results)
