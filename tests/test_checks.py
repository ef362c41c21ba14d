"""Every refusal says which argument, what was expected and what came."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays, integer_dtypes, unsigned_integer_dtypes
from numpy.testing import assert_array_equal

from csoftmax.core import checks, cpus

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        *[(t, F32) for t in ("?", "u1", "i1", "u2", "i2", "f2", "f4", ">f4", ">i2")],
        *[(t, F64) for t in ("u4", "i4", "u8", "i8", "f8", ">f8", ">i8")],
    ],
)
def test_compute_dtype_is_numpys_promotion(dtype: str, expected: Any) -> None:
    array = np.zeros(2, dtype)
    assert checks.compute_dtype(array) == expected
    assert checks.compute_dtype(array) == np.result_type(np.float32, dtype)
    assert checks.compute_dtype(np.zeros(2, "f4"), array) == expected
    assert checks.compute_dtype(np.zeros(2, "f8"), array) == F64


@pytest.mark.parametrize("dtype", ["c8", "c16", "U3", "S3", "O", "M8[s]", "m8[s]", "V4", "g"])
def test_other_dtypes_are_refused_by_name(dtype: str) -> None:
    array = np.zeros((2, 2), dtype)
    with pytest.raises(
        TypeError,
        match=f"X has dtype .*{array.dtype.kind}.*, expected bool, an int"
        if dtype == "S3"
        else "X has dtype .*, expected bool, an integer type",
    ):
        checks.as_features(array)
    with pytest.raises(TypeError, match="an argument has dtype"):
        checks.compute_dtype(array)


def test_ragged_list_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="X cannot be made an array"):
        checks.as_features([[1.0, 2.0], [3.0]])


def test_features_are_returned_as_stored() -> None:
    X = np.zeros((5, 4), np.uint8)[::-2, ::2]
    assert checks.as_features(X) is X
    images = np.zeros((2, 1, 3, 4), np.uint8)
    flat = checks.as_features(images)
    assert flat.shape == (2, 12)
    assert np.shares_memory(flat, images)
    assert checks.as_features(np.zeros((0, 28, 28))).shape == (0, 784)
    for bad in (3.0, [1.0, 2.0]):
        with pytest.raises(
            ValueError, match=r"X has shape \(.*\), expected \(n_samples, n_features"
        ):
            checks.as_features(bad)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((3, 780), (784, 10), (10,)), "X has 780 features but W has 784 rows"),
        (((3, 4), (4,), (1,)), r"W has shape \(4,\), expected \(n_features, n_classes\)"),
        (((3, 4), (4, 0), (0,)), "W has 0 columns, expected at least one class"),
        (((3, 4), (4, 5), (4,)), r"b has shape \(4,\) but W has 5 columns"),
        (((3, 4), (4, 5), (1, 5)), r"b has shape \(1, 5\) but W has 5 columns"),
    ],
)
def test_linear_shapes(shapes: Any, message: str) -> None:
    X, W, b = (np.zeros(shape, np.float32) for shape in shapes)
    with pytest.raises(ValueError, match=message):
        checks.as_linear(X, W, b)


def test_linear_dtype_and_names() -> None:
    X, W = np.zeros((3, 4), np.uint8), np.zeros((4, 2), np.float32)
    assert checks.as_linear(X, W, None)[2:] == (None, F32)
    assert checks.as_linear(X, W, np.zeros(2))[3] == F64
    for name, arguments in (
        ("W", (X, W * 1j, None)), ("b", (X, W, ["x", "y"])), ("X", (X.astype(object), W, None)),
    ):  # fmt: skip
        with pytest.raises(TypeError, match=f"{name} has dtype"):
            checks.as_linear(*arguments)


def test_logits_and_their_axis() -> None:
    x = np.zeros((2, 3, 4), np.float32)
    for axis, expected in ((-1, 2), (0, 0), (-3, 0), (np.int8(1), 1)):
        array, index = checks.as_logits(x, axis)
        assert array is x
        assert index == expected
    for axis in (3, -4):
        with pytest.raises(ValueError, match=f"axis is {axis} but x has 3 dimensions"):
            checks.as_logits(x, axis, "x")
    for axis in (1.0, True, "1", None):
        with pytest.raises(TypeError, match=r"axis is a .*, expected an integer"):
            checks.as_logits(x, axis)
    with pytest.raises(ValueError, match="logits is a single number"):
        checks.as_logits(1.0)
    with pytest.raises(ValueError, match=r"logits has shape \(2, 0\): axis 1 has no classes"):
        checks.as_logits(np.zeros((2, 0)))


# ---------------------------------------------------------------- out


def test_out() -> None:
    out = np.zeros((2, 3), np.float32)
    assert checks.check_out(out, (2, 3), F32) is out
    assert checks.check_out(out[:, ::2], (2, 2), F32).shape == (2, 2)
    read_only = np.broadcast_to(np.float32(0), (2, 3))
    for bad, error, message in (
        ([[0.0] * 3] * 2, TypeError, "out is a list, expected a NumPy array"),
        (out.astype(float), TypeError, "out has dtype float64, expected float32"),
        (out.astype(">f4"), TypeError, "out has dtype >f4, expected float32"),
        (out.T, ValueError, r"out has shape \(3, 2\), expected \(2, 3\)"),
        (read_only, ValueError, "out is read-only, expected a writable array"),
    ):
        with pytest.raises(error, match=message):
            checks.check_out(bad, (2, 3), F32)


# ---------------------------------------------------------------- labels


@pytest.mark.parametrize("dtype", ["?", "u1", "i1", "u2", ">i4", "u8", "i8", ">i8"])
def test_labels_of_every_integer_type(dtype: str) -> None:
    labels = checks.as_labels(np.array([0, 1, 1, 0], dtype)[::-1], 4, 2)
    assert labels.dtype == np.int64
    assert labels.flags.c_contiguous
    assert labels.tolist() == [0, 1, 1, 0]


def test_good_labels_are_not_copied() -> None:
    y = np.arange(5)
    assert checks.as_labels(y, 5, 5) is y
    assert checks.as_labels([], 0, 3).shape == (0,)
    assert checks.as_labels(2, (), 3) == 2
    assert checks.as_labels([[0, 1]], (1, 2), 2).shape == (1, 2)


def test_labels_of_an_unaligned_buffer_are_copied() -> None:
    y = np.frombuffer(b"x" + np.arange(3).tobytes(), np.int64, 3, 1)
    labels = checks.as_labels(y, 3, 3)
    assert labels.flags.aligned
    assert_array_equal(labels, [0, 1, 2])


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0, -1, 9], r"y\[1\] is -1, expected an integer in 0\.\.4"),
        ([0, 1, 5], r"y\[2\] is 5, expected"),
        ([0, 2**31, 0], r"y\[1\] is 2147483648,"),
        ([2**63 - 1, 0, 0], r"y\[0\] is 9223372036854775807,"),
        ([-(2**63), 0, 0], r"y\[0\] is -9223372036854775808,"),
        (np.array([0, 2**63, 0], np.uint64), r"y\[1\] is 9223372036854775808,"),
        (np.array([0, 2**64 - 1, 0], np.uint64), r"y\[1\] is 18446744073709551615,"),
        (np.array([0, 0, 255], np.uint8), r"y\[2\] is 255,"),
        (np.array([0, -1, 0], ">i2"), r"y\[1\] is -1,"),
        ([0, 1], "y has 2 labels but there are 3 samples"),
        ([[0], [1], [2]], r"y has shape \(3, 1\), expected \(3,\); y.ravel\(\) has it"),
        ([[0, 1, 2]], r"y has shape \(1, 3\), expected \(3,\)$"),
        (1, r"y has shape \(\), expected \(3,\)"),
        ([[0], [1, 2]], "y cannot be made an array"),
    ],
)
def test_bad_labels(y: Any, message: str) -> None:
    for check in (checks.as_labels, checks.as_small_labels):
        with pytest.raises(ValueError, match=message):
            check(y, 3, 5)


@pytest.mark.parametrize(
    "y",
    [
        [0.0, 1.0, 2.0], [0.5, 1, 2], [np.nan, 1, 2], ["0", "1", "2"], None, [None, 1, 2],
        [2**70, 0, 0], [0j, 1j, 2j], np.zeros(0), np.zeros(3, "M8[s]"), {0: 1}, b"abc",
    ],
)  # fmt: skip
def test_labels_of_other_types(y: Any) -> None:
    for check in (checks.as_labels, checks.as_small_labels):
        with pytest.raises(TypeError, match=r"y has dtype .*, expected integer labels"):
            check(y, 3, 5)


@pytest.mark.parametrize(
    ("n_classes", "small"), [(1, "u1"), (256, "u1"), (257, "u2"), (65_537, "u4")]
)
@pytest.mark.parametrize("dtype", ["u1", "u2", ">i4", "i8", "u8"])
def test_labels_of_the_smallest_type(dtype: str, n_classes: int, small: str) -> None:
    y = np.zeros(6, dtype)
    y[1] = min(n_classes - 1, np.iinfo(dtype).max)
    labels = checks.as_small_labels(y[::-1], 6, n_classes)
    assert labels.dtype == small
    assert labels.flags.c_contiguous
    assert_array_equal(labels, y[::-1])
    same = labels.copy()
    assert checks.as_small_labels(same, 6, n_classes) is same
    assert checks.as_small_labels([True, False], 2, 2).tolist() == [1, 0]


def test_ignored_labels() -> None:
    y = [-100, 0, 4]
    assert checks.as_labels(y, 3, 5, ignore_index=-100).tolist() == y
    with pytest.raises(ValueError, match=r"y\[2\] is 4, .* in 0\.\.3 \(or -100, ignored\)"):
        checks.as_labels(y, 3, 4, ignore_index=-100)
    # The same bits as int64: still another number.
    wrapped = np.array([2**64 - 100], np.uint64)
    with pytest.raises(ValueError, match=r"y\[0\] is 18446744073709551516"):
        checks.as_labels(wrapped, 1, 4, ignore_index=-100)


def test_bad_label_of_many_dimensions_is_located() -> None:
    y = np.zeros((2, 3, 4), int)
    y[1, 2, 0] = 7
    with pytest.raises(ValueError, match=r"y\[1, 2, 0\] is 7"):
        checks.as_labels(y, (2, 3, 4), 7)


def test_targets_of_both_kinds() -> None:
    shape = (2, 3, 4)
    labels = checks.as_target(np.zeros((2, 4), np.uint8), shape, 1, F32)
    assert labels.dtype == np.int64
    t = np.full(shape, 1 / 3)
    assert checks.as_target(t, shape, 1, F32).dtype == F32
    assert checks.as_target(t, shape, 1, F64) is t
    assert checks.as_target([], (0, 3), 1, F32).dtype == np.int64
    for bad, error, message in (
        (np.zeros((2, 4)), TypeError, r"y has dtype float64, expected integer labels of shape"),
        (np.zeros((2, 3)), ValueError, r"y has shape \(2, 3\), expected .* logits \(2, 3, 4\)"),
        (np.zeros(shape, int), ValueError, r"y has shape \(2, 3, 4\), expected \(2, 4\)"),
        (np.where(t > 0, -0.5, 0), ValueError, r"y\[0, 0, 0\] is -0.5, expected a finite float32"),
        (t.astype("g"), TypeError, "y has dtype (longdouble|float128)"),
    ):
        with pytest.raises(error, match=message):
            checks.as_target(bad, shape, 1, F32)


@pytest.mark.parametrize("bad", [-1e-30, np.nan, np.inf, -np.inf])
def test_bad_weights(bad: float) -> None:
    with pytest.raises(ValueError, match=r"weight\[1\] is .*, expected a finite float64 >= 0"):
        checks.as_weights([1.0, bad, 2.0], 3, "weight", F64)


def test_weights() -> None:
    w = np.array([1.0, 0.0, 3.0], np.float32)
    assert checks.as_weights(w, 3, "weight", F32) is w
    assert checks.as_weights([1, 2], 2, "weight", F32).dtype == F32
    assert checks.as_weights([], 0, "sample_weight", F32).shape == (0,)
    unaligned = np.frombuffer(b"x" + w.tobytes(), np.float32, 3, 1)
    assert checks.as_weights(unaligned, 3, "weight", F32).flags.aligned
    with pytest.raises(ValueError, match=r"weight\[0\] is 1e\+39, expected a finite float32"):
        checks.as_weights([1e39], 1, "weight", F32)
    with pytest.raises(ValueError, match=r"weight has shape \(3,\), expected \(4,\)"):
        checks.as_weights(w, 4, "weight", F32)
    with pytest.raises(TypeError, match="weight has dtype <U1"):
        checks.as_weights(["a"], 1, "weight", F32)


# ---------------------------------------------------------------- numbers


def test_numbers() -> None:
    for value in (1, True, 0.5, np.float32(0.5), np.int8(-3), Fraction(1, 2)):
        assert checks.check_number(value, "scale") == value  # type: ignore[arg-type]
    for value in (np.nan, np.inf, -np.inf, np.float32(np.inf), 10**400):
        with pytest.raises(ValueError, match=r"scale is .*, expected a finite number"):
            checks.check_number(value, "scale")
    for other in ("1", None, 1j, np.ones(1), [1.0]):
        with pytest.raises(TypeError, match=r"scale is a .*, expected a number"):
            checks.check_number(other, "scale")  # type: ignore[arg-type]


def test_label_smoothing() -> None:
    assert [checks.check_label_smoothing(value) for value in (0, 0.5, 1)] == [0.0, 0.5, 1.0]
    for value in (-1e-9, 1.0001):
        with pytest.raises(
            ValueError, match=r"label_smoothing is .*, expected a number in \[0, 1\]"
        ):
            checks.check_label_smoothing(value)


def test_reduction() -> None:
    for good in ("mean", "sum", "none"):
        checks.check_reduction(good)
    for bad in ("avg", "", None, 1, np.zeros(3), ["mean"]):
        with pytest.raises(ValueError, match=r'reduction is .*, expected "mean", "sum" or "none"'):
            checks.check_reduction(bad)


def test_ignore_index() -> None:
    assert checks.check_ignore_index(np.int16(-100)) == -100
    with pytest.raises(ValueError, match=r"ignore_index is .*, expected a 64-bit integer"):
        checks.check_ignore_index(2**63)
    with pytest.raises(TypeError, match="ignore_index is a float, expected an integer"):
        checks.check_ignore_index(-100.0)  # type: ignore[arg-type]


# ---------------------------------------------------------------- threads


def test_n_threads() -> None:
    assert checks.check_threads(3) == checks.check_threads(np.uint8(3)) == 3
    assert checks.check_threads(10**9) == checks.MAX_THREADS
    assert checks.check_threads(None) == cpus.usable_cpus() >= 1
    for value in (0, -1, -(2**70)):
        with pytest.raises(
            ValueError, match=r"n_threads is .*, expected at least 1, or None for all CPUs"
        ):
            checks.check_threads(value)
    for other in (True, 1.0, "2", np.True_, [1]):
        with pytest.raises(
            TypeError, match=r"n_threads is a .*, expected an integer, or None for all CPUs"
        ):
            checks.check_threads(other)


@pytest.fixture
def fresh_cpus() -> Any:
    cpus.usable_cpus.cache_clear()
    yield
    cpus.usable_cpus.cache_clear()


@pytest.mark.parametrize(
    ("affinity", "quotas", "expected"),
    [(8, [], 8), (8, [2.0], 2), (8, [2.5, 4.0], 3), (8, [0.1], 1), (2, [16.0], 2)],
)
def test_usable_cpus(
    affinity: int, quotas: list[float], expected: int, monkeypatch: Any, fresh_cpus: None
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)), raising=False)
    monkeypatch.setattr(cpus, "_cgroup_quotas", lambda: iter(quotas))
    assert cpus.usable_cpus() == expected


def test_usable_cpus_without_affinity(monkeypatch: Any, fresh_cpus: None) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    monkeypatch.setattr(cpus, "_cgroup_quotas", lambda: iter([]))
    assert cpus.usable_cpus() == 1


def test_cgroup_quotas_of_both_versions(tmp_path: Path) -> None:
    def write(name: str, text: str) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    def quotas() -> list[float]:
        return list(cpus._cgroup_quotas(f"{tmp_path}/membership", f"{tmp_path}/mount"))

    assert quotas() == []
    write("membership", "0::/outer/inner\n")
    assert quotas() == []
    write("mount/outer/inner/cpu.max", "max 100000\n")
    assert quotas() == []
    write("mount/outer/cpu.max", "150000 100000\n")
    write("mount/cpu.max", "400000 100000\n")
    assert quotas() == [1.5, 4.0]
    write("membership", "5:cpuset:/x\n4:cpu,cpuacct:/job\n3:memory:/job\nnonsense\n")
    write("mount/cpu/cpu.cfs_quota_us", "-1\n")
    write("mount/cpu/cpu.cfs_period_us", "100000\n")
    assert quotas() == []
    write("mount/cpu/job/cpu.cfs_quota_us", "50000\n")
    write("mount/cpu/job/cpu.cfs_period_us", "100000\n")
    assert quotas() == [0.5]
    write("mount/cpu/job/cpu.cfs_period_us", "0\n")
    assert quotas() == []


@settings(deadline=None, derandomize=True)
@given(
    y=st.one_of(
        arrays(integer_dtypes(endianness="?"), 4, elements={"min_value": -2, "max_value": 3}),
        arrays(integer_dtypes(endianness="?"), 4),
        arrays(unsigned_integer_dtypes(endianness="?"), 4),
        arrays(np.bool_, 4),
    ),
    n_classes=st.integers(1, 4),
    ignored=st.sampled_from([None, -1, -100, 255, 2**63 - 1]),
    step=st.sampled_from([1, -1, 2]),
)
def test_labels_are_kept_or_the_first_bad_one_is_named(
    y: np.ndarray, n_classes: int, ignored: int | None, step: int
) -> None:
    y = y[::step]
    values = [int(value) for value in y]
    bad = [i for i, k in enumerate(values) if not (0 <= k < n_classes or k == ignored)]
    if bad:
        message = rf"y\[{bad[0]}\] is {values[bad[0]]}, expected an integer in 0..{n_classes - 1}"
        with pytest.raises(ValueError, match=message):
            checks.as_labels(y, len(y), n_classes, ignored)
        return
    labels = checks.as_labels(y, len(y), n_classes, ignored)
    assert labels.tolist() == values
    assert labels.dtype == np.int64
    assert labels.flags.c_contiguous
    assert labels.dtype.isnative
