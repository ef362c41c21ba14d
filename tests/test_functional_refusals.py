"""What the compiled functions refuse, with which message, before any kernel runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from csoftmax import functional

TAKE_LABELS: dict[str, Any] = {
    "softmax_cross_entropy": lambda y: functional.softmax_cross_entropy(np.zeros((3, 5)), y),
    "softmax_cross_entropy_grad": lambda y: functional.softmax_cross_entropy_grad(
        np.zeros((3, 5)), y
    ),
    "linear_cross_entropy": lambda y: functional.linear_cross_entropy(
        np.zeros((3, 2)), np.zeros((2, 5)), np.zeros(5), y
    ),
    "linear_cross_entropy_grad": lambda y: functional.linear_cross_entropy_grad(
        np.zeros((3, 2)), np.zeros((2, 5)), np.zeros(5), y
    ),
    "cross_entropy": lambda y: functional.cross_entropy(np.ones((3, 5)), y),
}


@pytest.mark.parametrize("name", TAKE_LABELS)
@pytest.mark.parametrize(
    "y",
    [
        [0, -1, 0], [0, 5, 0], [0, 2**31, 0], [0, 2**63 - 1, 0], [0, -(2**63), 0],
        np.array([0, 2**63, 0], np.uint64), np.array([0, -1, 0], np.int8), [0, 1], [0, 1, 2, 3],
        [[0], [1], [2]], [], 0,
    ],
)  # fmt: skip
def test_hostile_labels(name: str, y: Any) -> None:
    with pytest.raises(ValueError, match=r"y(\[1\] is|.* labels but|.* has shape| has shape)"):
        TAKE_LABELS[name](y)


@pytest.mark.parametrize("name", TAKE_LABELS)
@pytest.mark.parametrize(
    "y",
    [
        [0.0, 1.0, 2.0], [np.nan, 0.0, 1.0], [0.5, 1.0, 2.0], ["0", "1", "2"], None, [None] * 3,
        [2**70, 0, 0], [1j, 0, 0], np.zeros(3, "M8[s]"),
    ],
)  # fmt: skip
def test_labels_of_hostile_types(name: str, y: Any) -> None:
    with pytest.raises(TypeError, match="y has dtype"):
        TAKE_LABELS[name](y)


@pytest.mark.parametrize("function", ["softmax_cross_entropy", "softmax_cross_entropy_grad"])
@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"reduction": "avg"}, ValueError, "reduction is 'avg', expected"),
        ({"reduction": None}, ValueError, "reduction is None, expected"),
        ({"axis": 2}, ValueError, "axis is 2 but logits has 2 dimensions"),
        ({"axis": 0.0}, TypeError, "axis is a float"),
        ({"label_smoothing": 1.5}, ValueError, "label_smoothing is 1.5"),
        ({"label_smoothing": np.nan}, ValueError, "label_smoothing is nan"),
        ({"ignore_index": 0.5}, TypeError, "ignore_index is a float"),
        ({"weight": [1.0, -1.0, 1.0]}, ValueError, r"weight\[1\] is -1.0"),
        ({"weight": [1.0, 1.0, np.nan]}, ValueError, r"weight\[2\] is nan"),
        ({"weight": [1.0, 1.0]}, ValueError, r"weight has shape \(2,\), expected \(3,\)"),
        ({"logits": np.zeros((2, 0))}, ValueError, "logits has shape"),
        ({"logits": 1.0}, ValueError, "logits is a single number"),
        ({"logits": np.zeros((2, 3), complex)}, TypeError, "logits has dtype complex128"),
        ({"logits": np.zeros((2, 3), "g")}, TypeError, "logits has dtype"),
        ({"logits": [["a", "b", "c"]] * 2}, TypeError, "logits has dtype"),
        ({"y": [[0.5, -0.5, 1.0]] * 2}, ValueError, r"y\[0, 1\] is -0.5"),
        ({"y": [[0.5, np.inf, 1.0]] * 2}, ValueError, r"y\[0, 1\] is inf"),
        ({"y": [[0.5, np.nan, 1.0]] * 2}, ValueError, r"y\[0, 1\] is nan"),
        ({"y": [[0.5, 0.5]] * 2}, ValueError, r"y has shape \(2, 2\), expected"),
    ],
)
def test_softmax_cross_entropy_refuses(
    function: str, changed: dict[str, Any], error: Any, message: str
) -> None:
    arguments: dict[str, Any] = {"logits": np.zeros((2, 3)), "y": [0, 1], **changed}
    with pytest.raises(error, match=message):
        getattr(functional, function)(**arguments)


@pytest.mark.parametrize("function", ["linear_cross_entropy", "linear_cross_entropy_grad"])
@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"W": np.zeros((784, 10))}, ValueError, "X has 4 features but W has 784 rows"),
        ({"W": np.zeros((4, 0))}, ValueError, "W has 0 columns"),
        ({"W": np.zeros(4)}, ValueError, r"W has shape \(4,\)"),
        ({"b": np.zeros(4)}, ValueError, r"b has shape \(4,\) but W has 3 columns"),
        ({"X": np.zeros(4)}, ValueError, r"X has shape \(4,\)"),
        ({"X": np.zeros((2, 4), complex)}, TypeError, "X has dtype complex128"),
        ({"b": ["a", "b", "c"]}, TypeError, "b has dtype"),
        ({"scale": np.inf}, ValueError, "scale is inf"),
        ({"scale": "1"}, TypeError, "scale is a str"),
        ({"sample_weight": [1.0, -1.0]}, ValueError, r"sample_weight\[1\] is -1.0"),
        ({"sample_weight": [1.0]}, ValueError, r"sample_weight has shape \(1,\)"),
        ({"reduction": "avg"}, ValueError, "reduction is 'avg'"),
    ],
)
def test_linear_cross_entropy_refuses(
    function: str, changed: dict[str, Any], error: Any, message: str
) -> None:
    good: dict[str, Any] = {
        "X": np.zeros((2, 4)), "W": np.zeros((4, 3)), "b": np.zeros(3), "y": [0, 1],
    }  # fmt: skip
    with pytest.raises(error, match=message):
        getattr(functional, function)(**(good | changed))


def test_softmax_refuses() -> None:
    for function in (functional.softmax, functional.log_softmax):
        with pytest.raises(ValueError, match="x is a single number"):
            function(1.0)
        with pytest.raises(ValueError, match="axis is 1 but x has 1 dimensions"):
            function([1.0], 1)
        with pytest.raises(ValueError, match="x has shape"):
            function(np.zeros((2, 0)))
        with pytest.raises(TypeError, match="x has dtype object"):
            function([None])


@pytest.mark.parametrize(
    ("n_threads", "error"),
    [(0, ValueError), (-1, ValueError), (True, TypeError), (1.0, TypeError), ("2", TypeError)],
)
def test_bad_n_threads(n_threads: Any, error: Any) -> None:
    x, y = np.zeros((2, 3)), [0, 1]
    for call in (
        lambda: functional.linear(x, x.T, n_threads=n_threads),
        lambda: functional.softmax(x, n_threads=n_threads),
        lambda: functional.log_softmax(x, n_threads=n_threads),
        lambda: functional.softmax_cross_entropy(x, y, n_threads=n_threads),
        lambda: functional.softmax_cross_entropy_grad(x, y, n_threads=n_threads),
        lambda: functional.linear_cross_entropy(x, x.T, None, y, n_threads=n_threads),
        lambda: functional.linear_cross_entropy_grad(x, x.T, None, y, n_threads=n_threads),
    ):
        with pytest.raises(error, match="n_threads is"):
            call()
