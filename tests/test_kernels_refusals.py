"""The compiled passes refuse wrong buffers: no wrong byte is ever read or written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from csoftmax import _kernels

Array = Any

N, J, K = 70, 51, 13
f4, f8, i4, i8 = np.float32, np.float64, np.int32, np.int64


def row_pass_arguments() -> dict[str, Any]:
    return {
        "X": np.ones((N, J), f4),
        "W": np.zeros((K, J), f4),
        "b": np.zeros(K, f4),
        "scale": 1.0,
        "y": np.zeros(N, i8),
    }


def misaligned(array: Array) -> Array:
    """The same numbers one byte off their natural place."""
    raw = np.zeros(array.nbytes + 1, np.uint8)[1:]
    raw[:] = np.frombuffer(array.tobytes(), np.uint8)
    return raw.view(array.dtype).reshape(array.shape)


def read_only(array: Array) -> Array:
    array = array.copy()
    array.flags.writeable = False
    return array


EMPTY_ITEMS = np.zeros(3, np.dtype([]))
SGD = (0.1, 0.0, False, 0.0)

WRONG_ROW_PASSES: dict[str, dict[str, Any]] = {
    "X of one dimension": {"X": np.zeros(J, f4)},
    "X of three dimensions": {"X": np.zeros((N, J, 1), f4)},
    "X of int32": {"X": np.zeros((N, J), i4)},
    "X complex": {"X": np.zeros((N, J), np.complex64)},
    "X of bytes": {"X": b"abc"},
    "X missing": {"X": None},
    "W too small": {"W": np.zeros((K, J - 1), f4)},
    "W too large": {"W": np.zeros((K + 1, J), f4)},
    "W of another float": {"W": np.zeros((K, J), f8)},
    "W complex": {"W": np.zeros((K, J), np.complex64)},
    "W not contiguous": {"W": np.zeros((J, K), f4).T},
    "W of another byte order": {"W": np.zeros((K, J), ">f4")},
    "W misaligned": {"W": misaligned(np.zeros((K, J), f4))},
    "b of int32": {"b": np.zeros(K, i4)},
    "b complex": {"b": np.zeros(K, np.complex64)},
    "b of two dimensions": {"b": np.zeros((K, 2), f4)},
    "b empty": {"b": np.zeros(0, f4), "W": np.zeros((0, J), f4)},
    "b not contiguous": {"b": np.zeros(2 * K, f4)[::2]},
    "y too short": {"y": np.zeros(N - 1, i8)},
    "y too long": {"y": np.zeros(N + 1, i8)},
    "y of int32": {"y": np.zeros(N, i4)},
    "y of float64": {"y": np.zeros(N, f8)},
    "y strided": {"y": np.zeros(2 * N, i8)[::2]},
    "y misaligned": {"y": misaligned(np.zeros(N, i8))},
    "order past the end": {"order": np.array([0, N])},
    "order negative": {"order": np.array([0, -1])},
    "order enormous": {"order": np.array([2**63 - 1])},
    "order of int32": {"order": np.zeros(3, i4)},
    "order strided": {"order": np.zeros(6, i8)[::2]},
    "order into nothing": {"X": np.zeros((0, J), f4), "y": np.zeros(0, i8), "order": np.array([0])},
    "sample_weight too short": {"sample_weight": np.zeros(N - 1)},
    "sample_weight of float32": {"sample_weight": np.zeros(N, f4)},
    "logits too small": {"y": None, "logits": np.zeros((N, K - 1), f4)},
    "logits of classes before": {"y": None, "logits": np.zeros((N, K), f4), "first_class": -1},
    "logits of classes past the last": {
        "y": None,
        "logits": np.zeros((N, K), f4),
        "first_class": 1,
    },
    "logits of one dimension": {"y": None, "logits": np.zeros(N * K, f4)},
    "logits of another float": {"y": None, "logits": np.zeros((N, K), f8)},
    "logits not contiguous": {"y": None, "logits": np.zeros((K, N), f4).T},
    "logits read-only": {"y": None, "logits": read_only(np.zeros((N, K), f4))},
    "losses too short": {"losses": np.zeros(N - 1, f4)},
    "losses of another float": {"losses": np.zeros(N, f8)},
    "losses without labels": {"y": None, "losses": np.zeros(N, f4)},
    "losses read-only": {"losses": read_only(np.zeros(N, f4))},
    "predictions too short": {"predictions": np.zeros(N - 1, i8)},
    "predictions of int32": {"predictions": np.zeros(N, i4)},
    "gradient without labels": {"y": None, "gradient": (np.zeros((K, J), f4), np.zeros(K, f4))},
    "gradient of W too small": {"gradient": (np.zeros((K, J - 1), f4), np.zeros(K, f4))},
    "gradient of b too small": {"gradient": (np.zeros((K, J), f4), np.zeros(K - 1, f4))},
    "gradient of another float": {"gradient": (np.zeros((K, J), f8), np.zeros(K, f8))},
    "gradient read-only": {"gradient": (read_only(np.zeros((K, J), f4)), np.zeros(K, f4))},
    "gradient of W alone": {"gradient": (np.zeros((K, J), f4),)},
    "gradient of nothing": {"gradient": ()},
    "sgd too short": {"sgd": (0.1, 0.0)},
    "sgd without velocities": {"sgd": SGD},
    "sgd with one velocity": {"sgd": (*SGD, np.zeros((K, J), f4))},
    "sgd with half a velocity": {"sgd": (*SGD, np.zeros((K, J), f4), None)},
    "velocity too small": {"sgd": (*SGD, np.zeros((K, J - 1), f4), np.zeros(K, f4))},
    "velocity of another float": {"sgd": (*SGD, np.zeros((K, J), f8), np.zeros(K, f8))},
    "sgd on read-only W": {"sgd": (*SGD, None, None), "W": read_only(np.zeros((K, J), f4))},
    "sgd on read-only b": {"sgd": (*SGD, None, None), "b": read_only(np.zeros(K, f4))},
    "sgd without labels": {"sgd": (*SGD, None, None), "y": None},
    "sizes that overflow": {
        "X": np.broadcast_to(np.uint8(1), (1, 2**62)),
        "W": np.zeros(0, f4),
        "b": np.zeros(4, f4),
        "y": None,
    },
    "scale missing": {"scale": None},
}


@pytest.mark.parametrize("name", WRONG_ROW_PASSES)
def test_row_pass_refuses(name: str) -> None:
    _kernels.row_pass(**row_pass_arguments())
    arguments = {**row_pass_arguments(), **WRONG_ROW_PASSES[name]}
    with pytest.raises((ValueError, TypeError)):
        _kernels.row_pass(**arguments)


def softmax_arguments() -> dict[str, Any]:
    return {
        "kind": "cross_entropy",
        "logits": np.zeros((6, 5, 4), f4),
        "out": np.zeros((6, 5, 4), f4),
        "y": np.zeros(24, i8),
        "losses": np.zeros(24, f4),
    }


WRONG_SOFTMAX_PASSES: dict[str, dict[str, Any]] = {
    "kind unknown": {"kind": "hardmax"},
    "logits of two dimensions": {"logits": np.zeros((6, 5), f4)},
    "logits of int32": {"logits": np.zeros((6, 5, 4), i4)},
    "logits of float16": {"logits": np.zeros((6, 5, 4), np.float16)},
    "logits complex": {"logits": np.zeros((6, 5, 4), np.complex64)},
    "logits of another byte order": {"logits": np.zeros((6, 5, 4), ">f4")},
    "logits without classes": {
        "logits": np.zeros((6, 0, 4), f4),
        "out": np.zeros((6, 0, 4), f4),
        "losses": np.zeros(24, f4),
    },
    "out missing": {"kind": "softmax", "out": None},
    "out too small": {"out": np.zeros((6, 5, 3), f4)},
    "out of another float": {"out": np.zeros((6, 5, 4), f8)},
    "out not contiguous": {"out": np.zeros((4, 5, 6), f4).T},
    "out read-only": {"out": read_only(np.zeros((6, 5, 4), f4))},
    "out misaligned": {"out": misaligned(np.zeros((6, 5, 4), f4))},
    "losses missing": {"losses": None},
    "losses too short": {"losses": np.zeros(23, f4)},
    "losses of another float": {"losses": np.zeros(24, f8)},
    "y too short": {"y": np.zeros(23, i8)},
    "y of int32": {"y": np.zeros(24, i4)},
    "dense of another shape": {"dense": np.zeros((6, 5, 3), f4)},
    "dense of two dimensions": {"dense": np.zeros((6, 5), f4)},
    "dense of float64": {"dense": np.zeros((6, 5, 4), f8)},
    "dense of int32": {"dense": np.zeros((6, 5, 4), i4)},
    "dense of another byte order": {"dense": np.zeros((6, 5, 4), ">f4")},
    "label_weight too short": {"label_weight": np.zeros(4, f4)},
    "label_weight of float64": {"label_weight": np.zeros(5, f8)},
}


@pytest.mark.parametrize("name", WRONG_SOFTMAX_PASSES)
def test_softmax_pass_refuses(name: str) -> None:
    _kernels.softmax_pass(**softmax_arguments())
    with pytest.raises((ValueError, TypeError)):
        _kernels.softmax_pass(**{**softmax_arguments(), **WRONG_SOFTMAX_PASSES[name]})


@pytest.mark.parametrize(
    "wrong",
    [
        {"X": np.zeros((N, J), ">f4")},
        {"X": np.zeros((J, N), f4).T},
        {"X": np.zeros(J, f4)},
        {"dlogits": np.zeros((K, N - 1), f4)},
        {"dlogits": np.zeros((K, N), f8)},
        {"dW": np.zeros((K, J + 1), f4)},
        {"dW": read_only(np.zeros((K, J), f4))},
        {"db": np.zeros(K, i4)},
        {"db": np.zeros(K + 1, f4)},
    ],
)
def test_linear_gradient_refuses(wrong: dict[str, Any]) -> None:
    right: dict[str, Any] = {
        "X": np.ones((N, J), f4), "dlogits": np.ones((K, N), f4), "scale": 1.0,
        "dW": np.zeros((K, J), f4), "db": np.zeros(K, f4),
    }  # fmt: skip
    _kernels.linear_gradient(**right)
    assert (right["dW"] == N).all()
    assert (right["db"] == N).all()
    with pytest.raises((ValueError, TypeError)):
        _kernels.linear_gradient(**{**right, **wrong})


@pytest.mark.parametrize(
    ("name", "x", "out"),
    [
        ("exp", np.zeros(3, f4), np.zeros(2, f4)),
        ("exp", np.zeros(3, f4), np.zeros(3, f8)),
        ("exp", np.zeros(3, i4), np.zeros(3, i4)),
        ("exp", np.zeros(3, f4), read_only(np.zeros(3, f4))),
        ("exp", np.zeros(6, f4)[::2], np.zeros(3, f4)),
        ("exp", np.zeros(3, np.complex64), np.zeros(3, np.complex64)),
        ("exp", EMPTY_ITEMS, np.zeros(3, f4)),
        ("tan", np.zeros(3, f4), np.zeros(3, f4)),
    ],
)
def test_elementary_refuses(name: str, x: Array, out: Array) -> None:
    with pytest.raises((ValueError, TypeError)):
        _kernels.elementary(name, x, out)
