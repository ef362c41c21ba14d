"""Sparse rows that would lead a kernel out of bounds, and buffers of another kind, are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sparse_cases import sparse_table
from test_kernels_refusals import misaligned, read_only

from csoftmax import _kernels

Array = Any
N, D, K = 20, 9, 4
f4, f8, i4, i8 = np.float32, np.float64, np.int32, np.int64


def table() -> dict[str, Any]:
    values, indices, indptr = sparse_table(f4, N, D)
    return {"values": values, "indices": indices, "indptr": indptr, "n_features": D}


def changed(name: str, at: int, value: int) -> dict[str, Any]:
    array = table()[name].astype(i8)
    array[at] = value
    return {name: array}


M = len(table()["values"])
WRONG_ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "a feature past the last": (changed("indices", 7, D), r"indices\[7\] is 9 \(in row "),
    "a negative feature": (changed("indices", M - 1, -1), rf"indices\[{M - 1}\] is -1"),
    "a feature of 64 bits": (changed("indices", 0, 2**32), r"indices\[0\] is 4294967296"),
    "rows that begin late": (changed("indptr", 0, 1), r"indptr\[0\] is 1"),
    "rows that end early": (changed("indptr", N, M - 1), "indptr"),
    "rows past the entries": (changed("indptr", N, M + 1), "indptr"),
    "a row that goes back": (changed("indptr", 5, M), r"indptr\[5\] is"),
    "a row before the first": (changed("indptr", 5, -1), r"indptr\[5\] is -1"),
    "a row far away": (changed("indptr", 5, 2**62), r"indptr\[5\] is"),
    "no indptr": ({"indptr": np.zeros(0, i4)}, "indptr is empty"),
    "fewer indices than values": ({"indices": np.zeros(M - 1, i4)}, f"{M} entries but indices"),
    "no features": ({"n_features": 0}, r"indices\[0\]"),
    "negative n_features": ({"n_features": -1}, "fewer than 2"),
    "too many features": ({"n_features": 2**31}, "fewer than 2"),
    "values of float16": ({"values": np.ones(M, np.float16)}, "data"),
    "values of int64": ({"values": np.ones(M, i8)}, "data"),
    "values of another byte order": ({"values": np.ones(M, ">f4")}, "data"),
    "values of two dimensions": ({"values": np.ones((M, 1), f4)}, "data"),
    "values strided": ({"values": np.ones(2 * M, f4)[::2]}, "contiguous"),
    "values misaligned": ({"values": misaligned(np.ones(M, f4))}, "data"),
    "indices of int16": ({"indices": np.zeros(M, np.int16)}, "indices"),
    "indices unsigned": ({"indices": np.zeros(M, np.uint32)}, "indices"),
    "indices of floats": ({"indices": np.zeros(M, f4)}, "indices"),
    "indices of another byte order": ({"indices": np.zeros(M, ">i4")}, "indices"),
    "indices misaligned": ({"indices": misaligned(np.zeros(M, i4))}, "indices"),
    "indices strided": ({"indices": np.zeros(2 * M, i4)[::2]}, "contiguous"),
    "indptr of another byte order": ({"indptr": np.zeros(N + 1, ">i8")}, "indptr"),
    "indptr misaligned": ({"indptr": misaligned(table()["indptr"])}, "indptr"),
}


@pytest.mark.parametrize("name", WRONG_ROWS)
def test_sparse_rows_refuse(name: str) -> None:
    _kernels.SparseRows(**table())
    wrong, says = WRONG_ROWS[name]
    with pytest.raises((TypeError, ValueError, BufferError), match=says):
        _kernels.SparseRows(**{**table(), **wrong})


def test_any_corruption_of_one_number_is_refused_or_right() -> None:
    # A change that keeps the numbers in bounds makes another table: it must be read as that.
    random = np.random.default_rng(0)
    n_refused = 0
    for _ in range(400):
        given = table()
        name = ("indices", "indptr")[int(random.integers(2))]
        given[name] = given[name].astype((i4, i8)[int(random.integers(2))])
        at = random.integers(len(given[name]))
        given[name][at] = random.choice([-1, 0, 3, D - 1, D, M, M + 1, 2**31 - 1, -(2**31)])
        starts = given["indptr"]
        good = (given["indices"] >= 0).all() and (given["indices"] < D).all()
        good &= starts[0] == 0 and starts[-1] == M and (np.diff(starts.astype(i8)) >= 0).all()
        try:
            rows = _kernels.SparseRows(**given)
        except ValueError:
            n_refused += 1
            assert not good
            continue
        assert good
        logits = np.empty((N, D), f4)
        _kernels.sparse_pass(rows, np.eye(D, dtype=f4), np.zeros(D, f4), 1.0, logits=logits)
        X = np.zeros((N, D))
        numbers = np.repeat(np.arange(N), np.diff(starts))
        np.add.at(X, (numbers, given["indices"]), given["values"])
        np.testing.assert_allclose(logits, X, rtol=1e-6, atol=1e-6)
    assert 100 < n_refused < 390


ROWS = _kernels.SparseRows(**table())
COLUMNS = _kernels.SparseColumns(ROWS, "float32")


def pass_arguments() -> dict[str, Any]:
    return {
        "rows": ROWS, "W": np.zeros((D, K), f4), "b": np.zeros(K, f4), "scale": 1.0,
        "y": np.zeros(N, i8), "columns": COLUMNS,
    }  # fmt: skip


def gradient(**other: Any) -> dict[str, Any]:
    return {"gradient": (np.zeros((D, K), f4), np.zeros(K, f4)), **other}


OTHER_ROWS = _kernels.SparseRows(**{**table(), "n_features": D + 1})
WRONG_PASSES: dict[str, dict[str, Any]] = {
    "rows of Python": {"rows": (1, 2, 3)},
    "W too few features": {"W": np.zeros((D - 1, K), f4)},
    "W too few classes": {"W": np.zeros((D, K - 1), f4)},
    "W of another float": {"W": np.zeros((D, K), f8)},
    "W of one dimension": {"W": np.zeros(D * K, f4)},
    "W not contiguous": {"W": np.zeros((K, D), f4).T},
    "W of another byte order": {"W": np.zeros((D, K), ">f4")},
    "W misaligned": {"W": misaligned(np.zeros((D, K), f4))},
    "b of int32": {"b": np.zeros(K, i4)},
    "b empty": {"b": np.zeros(0, f4)},
    "y too short": {"y": np.zeros(N - 1, i8)},
    "y of int32": {"y": np.zeros(N, i4)},
    "sample_weight too short": {"sample_weight": np.zeros(N - 1)},
    "sample_weight of float32": {"sample_weight": np.zeros(N, f4)},
    "heads that do not divide": {"heads": 3},
    "no heads": {"heads": 0},
    "heads with losses": {"heads": 2, "losses": np.zeros(N, f4)},
    "weight_of_head past the last": {
        "heads": 2, "sample_weight": np.zeros((2, N)), "weight_of_head": np.array([0, 2]),
    },
    "logits too narrow": {"logits": np.zeros((N, K - 1), f4)},
    "logits read-only": {"logits": read_only(np.zeros((N, K), f4))},
    "losses without labels": {"y": None, "losses": np.zeros(N, f4)},
    "losses of another float": {"losses": np.zeros(N, f8)},
    "predictions too short": {"predictions": np.zeros(N - 1, i8)},
    "gradient without columns": gradient(columns=None),
    "gradient of other columns": gradient(columns=_kernels.SparseColumns(OTHER_ROWS, "float32")),
    "gradient of wide columns": gradient(columns=_kernels.SparseColumns(ROWS, "float64")),
    "gradient without labels": gradient(y=None),
    "gradient of W too small": {"gradient": (np.zeros((D - 1, K), f4), np.zeros(K, f4))},
    "gradient of b too small": {"gradient": (np.zeros((D, K), f4), np.zeros(K - 1, f4))},
    "gradient read-only": {"gradient": (read_only(np.zeros((D, K), f4)), np.zeros(K, f4))},
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_PASSES)
def test_sparse_pass_refuses(name: str) -> None:
    _kernels.sparse_pass(**pass_arguments())
    with pytest.raises((TypeError, ValueError, BufferError)):
        _kernels.sparse_pass(**{**pass_arguments(), **WRONG_PASSES[name]})


@pytest.mark.parametrize(
    "wrong",
    [
        {"dlogits": np.zeros((N - 1, K), f4)},
        {"dlogits": np.zeros((N, K - 1), f4)},
        {"dlogits": np.zeros((N, K), f8)},
        {"dW": np.zeros((D + 1, K), f4)},
        {"dW": np.zeros((D, 0), f4)},
        {"dW": read_only(np.zeros((D, K), f4))},
        {"dW": np.zeros((K, D), f4).T},
    ],
)
def test_sparse_gradient_refuses(wrong: dict[str, Any]) -> None:
    right: dict[str, Any] = {
        "columns": COLUMNS, "dlogits": np.zeros((N, K), f4), "scale": 1.0,
        "dW": np.zeros((D, K), f4),
    }  # fmt: skip
    _kernels.sparse_gradient(**right)
    with pytest.raises((TypeError, ValueError, BufferError)):
        _kernels.sparse_gradient(**{**right, **wrong})
