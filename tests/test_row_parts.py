"""Rows of several arrays in one pass: the bits of one array, nothing read behind any of them."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from row_pass_cases import problem

from csoftmax import _kernels
from csoftmax.engine.units import CHUNK_ROWS, SumTree, n_chunks

Array = Any


def cut(X: Array, lengths: Sequence[int]) -> tuple[Array, ...]:
    """Return rows as arrays that each end where memory ends that may be read."""
    libc, arrays, start = ctypes.CDLL(None, use_errno=True), [], 0
    for n in lengths:
        some = np.ascontiguousarray(X[start : start + n])
        n_bytes = -(-some.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
        memory = mmap.mmap(-1, n_bytes + mmap.PAGESIZE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        assert libc.mprotect(ctypes.c_void_p(address + n_bytes), mmap.PAGESIZE, 0) == 0
        array = np.ndarray(some.shape, X.dtype, memory, n_bytes - some.nbytes)
        array[...] = some
        arrays.append(array)
        start += n
    assert start == len(X)
    return tuple(arrays)


def sums(X: Any, rest: tuple[Array, ...], tree: bool, n_threads: int) -> tuple[Any, ...]:
    W, b, y, weights = rest
    dW, db = np.empty_like(W), np.empty_like(b)
    nodes = SumTree(n_chunks(len(y)), W.size + b.size + 1).nodes
    nodes[:] = 0
    of_tree: Any = {"tree": nodes, "leaf_rows": CHUNK_ROWS} if tree else {}
    told = _kernels.row_pass(
        X, W, b, 1 / 255, y=y, heads=1, sample_weight=weights, gradient=(dW, db),
        n_threads=n_threads, **of_tree,
    )  # fmt: skip
    return (*told, nodes) if tree else (*told, dW, db)


@pytest.mark.usefixtures("free_threads")
@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("n_features", "n_classes"), [(5, 3), (70, 10), (784, 10), (64, 70)])
def test_rows_of_many_arrays_have_the_bits_of_one(
    isa: str, dtype: Any, n_features: int, n_classes: int
) -> None:
    X, W, b, y, weights = problem(dtype, 1700, n_features, n_classes, 1)
    expected = sums(X, (W, b, y, weights[0]), False, 1)
    for lengths in ((1700,), (600, 600, 500), (1, 0, 30, 33, 1036, 600)):
        arrays = cut(X, lengths)
        for n_threads in (1, 3):
            for got, one in zip(
                sums(arrays, (W, b, y, weights[0]), False, n_threads), expected, strict=True
            ):
                assert_array_equal(got, one)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_chunks_of_many_arrays_have_the_bits_of_one(isa: str, dtype: Any) -> None:
    X, W, b, y, weights = problem(dtype, 2 * CHUNK_ROWS + 9, 64, 3, 1)
    expected = sums(X, (W, b, y, weights[0]), True, 1)
    lengths = [1000] * (len(X) // 1000) + [len(X) % 1000]
    for got, one in zip(sums(cut(X, lengths), (W, b, y, weights[0]), True, 2), expected,
                        strict=True):  # fmt: skip
        assert_array_equal(got, one)


def test_rows_that_are_copied_and_an_order_go_through_many_arrays(isa: str) -> None:
    X, W, b, _, _ = problem(np.float32, 90, 20, 4, 1)
    order = np.array([80, 3, 3, 55, 0])
    logits = [np.empty((5, 4), np.float32) for _ in range(3)]
    swapped = X.astype(X.dtype.newbyteorder())
    for some, out in zip((X, (X[:50], X[50:]), (swapped[:50], swapped[50:])), logits, strict=True):
        _kernels.row_pass(some, W, b, 1.0, order=order, logits=out)
        assert_array_equal(out, logits[0])


def test_arrays_that_differ_are_refused() -> None:
    X, W, b, y, _ = problem(np.float32, 30, 5, 3, 1)
    with pytest.raises(ValueError, match="X: expected at least one array"):
        _kernels.row_pass((), W, b, 1.0, y=y)
    for other in (X[:, :4], X.astype(np.float64), X.astype(">f4"), X[:, ::-1]):
        with pytest.raises(ValueError, match="X: expected arrays of one type, width and order"):
            _kernels.row_pass((X, other), W, b, 1.0, y=np.concatenate([y, y]))
    with pytest.raises(ValueError, match="y: expected 60 contiguous items"):
        _kernels.row_pass((X, X), W, b, 1.0, y=y)
    with pytest.raises(TypeError):
        _kernels.linear_gradient((X, X), np.empty((3, 60), np.float32), 1.0, W, b)  # type: ignore[arg-type]
