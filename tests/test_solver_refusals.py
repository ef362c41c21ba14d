"""Arguments and data that the solver refuses, by name."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from solver_cases import table

from csoftmax.solver import minimize


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_bad_values_are_named(value: float, dtype: type) -> None:
    X, y = table()
    X = X.astype(dtype)
    X[17, 3] = value
    with pytest.raises(ValueError, match=rf"X\[17, 3\] is {value}, expected finite"):
        minimize(X, y, 3)


def test_overflow_is_not_blamed_on_a_value() -> None:
    X = np.full((100, 2), 3e38, np.float32)
    with pytest.raises(ValueError, match="overflow"):
        minimize(X, np.arange(100) % 2, 2, scale=1e30)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"C": 0.0}, ValueError, "C is 0.0, expected a number > 0"),
        ({"C": [1.0, math.nan]}, ValueError, "C is nan"),
        ({"C": [[1.0]]}, ValueError, r"C has shape \(1, 1\)"),
        ({"C": "1"}, TypeError, "C has dtype"),
        ({"tol": "small"}, TypeError, "tol is 'small', expected a number or"),
        ({"tol": math.nan}, ValueError, "tol is nan"),
        ({"tol": -1e-3}, ValueError, "tol is -0.001, expected a number >= 0"),
        ({"gradient_tol": -1}, ValueError, "gradient_tol is -1, expected a number >= 0"),
        ({"max_iter": -1}, ValueError, "max_iter is -1"),
        ({"history_size": 0}, ValueError, "history_size is 0"),
        ({"preconditioner": "best"}, ValueError, "preconditioner is 'best'"),
        ({"n_threads": 0}, ValueError, "n_threads is 0"),
        ({"scale": math.inf}, ValueError, "scale is inf"),
        ({"sample_weight": np.ones(3)}, ValueError, r"sample_weight has shape \(3,\)"),
        ({"sample_weight": -np.ones(200)}, ValueError, r"sample_weight\[0\] is -1.0"),
        ({"sample_weight": np.zeros(200)}, ValueError, "sums to 0"),
        ({"weight_of_head": [0, 1]}, ValueError, r"weight_of_head\[1\] is 1"),
        (
            {"sample_weight": np.ones((2, 200)), "C": [1.0, 2.0, 3.0]},
            ValueError,
            "C has 3 values for 2 heads",
        ),
        ({"W": np.zeros((3, 6))}, ValueError, r"W has shape \(3, 6\), expected \(1, 3, 6\)"),
        ({"b": np.full((1, 3), math.nan)}, ValueError, "b has a NaN"),
        ({"callback": 3}, TypeError, "callback is a int"),
        ({"checkpoint_every": "1"}, TypeError, "checkpoint_every is a str"),
    ],
)
def test_bad_arguments_are_named(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    X, y = table()
    with pytest.raises(error, match=message):
        minimize(X, y, 3, **options)


def test_bad_data_is_named() -> None:
    X, y = table()
    with pytest.raises(ValueError, match=r"y\[0\] is 5"):
        minimize(X, np.full(200, 5), 3)
    with pytest.raises(ValueError, match="y has 100 labels but there are 200 samples"):
        minimize(X, y[:100], 3)
    with pytest.raises(ValueError, match="X has 0 rows"):
        minimize(X[:0], y[:0], 3)
    with pytest.raises(ValueError, match="n_classes is 0"):
        minimize(X, y, 0)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        minimize(X, y, 3, checkpoint="/no/such/folder/file")
