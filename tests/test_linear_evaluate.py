"""The loss and the number of samples predicted right, in one pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
import pytest
from cases import DTYPES, make_case
from numpy.testing import assert_allclose

from csoftmax import functional, reference


@pytest.mark.parametrize("dtype", DTYPES)
def test_loss_and_number_right(isa: str, dtype: Any) -> None:
    for n, j, k in ((1, 1, 2), (100, 784, 10), (77, 5, 3), (1025, 33, 17)):
        X, W, b, y, s, scale = make_case(dtype, n, j, k)
        logits = oracle.linear(X, W, b, scale, np.float64)
        for weight in (None, s):
            options: Any = {"scale": scale, "sample_weight": weight}
            loss, n_correct = functional.linear_evaluate(X, W, b, y, **options)
            plain_loss, plain_correct = reference.linear_evaluate(X, W, b, y, **options)
            right = logits.argmax(axis=1) == y
            expected = right.sum() if weight is None else weight.astype(np.float64) @ right
            assert loss == functional.linear_cross_entropy(X, W, b, y, **options)
            assert_allclose(plain_loss, loss, rtol=1e-5)
            assert_allclose([n_correct, plain_correct], expected, rtol=1e-12)


def test_rows_of_equal_or_undefined_logits(isa: str) -> None:
    """Of equal logits the first counts; a row with NaN is wrong, one of weight 0 is left out."""
    X = np.array([[0.0, 0.0], [0.0, 0.0], [np.nan, 1.0], [1.0, 2.0]])
    W, y = np.eye(2), [0, 1, 1, 1]
    for module in (functional, reference):
        loss, n_correct = module.linear_evaluate(X, W, None, y)
        assert np.isnan(loss)
        assert n_correct == 2
        weight = [0.5, 2.0, 0.0, 0.25]
        loss, n_correct = module.linear_evaluate(X, W, None, y, sample_weight=weight)
        assert loss == pytest.approx((2.5 * np.log(2) + 0.25 * np.log1p(np.exp(-1))) / 2.75)
        assert n_correct == 0.75


def test_no_samples(isa: str) -> None:
    for module in (functional, reference):
        loss, n_correct = module.linear_evaluate(np.ones((0, 2)), np.eye(2), None, [])
        assert np.isnan(loss)
        assert n_correct == 0


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"y": [0, 2]}, ValueError, r"y\[1\] is 2"),
        ({"y": [0.0, 1.0]}, TypeError, "y has dtype"),
        ({"X": np.ones((2, 3))}, ValueError, "X has 3 features but W has 2 rows"),
        ({"sample_weight": [1, -1]}, ValueError, r"sample_weight\[1\]"),
    ],
)
def test_refusals(changed: Any, error: Any, message: str) -> None:
    given = {"X": np.eye(2), "W": np.eye(2), "b": None, "y": [0, 1], **changed}
    for module in (functional, reference):
        with pytest.raises(error, match=message):
            module.linear_evaluate(**given)
    with pytest.raises(ValueError, match="n_threads is 0"):
        functional.linear_evaluate(np.eye(2), np.eye(2), None, [0, 1], n_threads=0)
