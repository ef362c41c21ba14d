"""`evaluate`: its metrics, by hand and at the edges."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from training_cases import GOOD_DATA, state_of

import csoftmax as cs


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_metrics_by_hand(isa: str, dtype: str) -> None:
    """Class 2 is never predicted, class 3 never occurs."""
    logits = np.array(
        [[5, 0, 0, 0], [4, 1, 0, 0], [0, 3, 0, 0], [0, 3, 1, 0], [0, 0, 1, 7], [2, 0, 1, 0]]
    )
    y = np.array([0, 1, 1, 1, 0, 2])
    model = cs.SoftmaxRegression(4, 4, dtype=dtype, class_names=["a", "b", "c", "long name"])
    model.W = np.eye(4)
    metrics = cs.evaluate(model, (logits.astype(dtype), y))
    assert_array_equal(metrics.confusion, [[1, 0, 0, 1], [1, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
    assert_allclose(metrics.precision, [1 / 3, 1, np.nan, 0])
    assert_allclose(metrics.recall, [1 / 2, 2 / 3, 0, np.nan])
    assert metrics.accuracy == 0.5
    assert metrics.n_samples == 6
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert_allclose(metrics.loss, -np.log(p[np.arange(6), y]).mean(), rtol=1e-6)
    assert metrics.class_names == ("a", "b", "c", "long name")
    assert str(metrics) == (
        "class      precision  recall  samples\n"
        "a              0.333   0.500        2\n"
        "b              1.000   0.667        3\n"
        "c                  -   0.000        1\n"
        "long name      0.000       -        0\n"
        f"loss {metrics.loss:.4f}, accuracy 0.5000, 6 samples"
    )


def test_metrics_take_the_names_of_the_data() -> None:
    model = cs.SoftmaxRegression(6, 3)
    names = ("cat", "dog", "eel")
    data = cs.Dataset(GOOD_DATA.X, GOOD_DATA.y, GOOD_DATA.scale, names)
    assert cs.evaluate(model, data).class_names == names
    assert cs.evaluate(model, GOOD_DATA).class_names == ("0", "1", "2")
    with pytest.raises(ValueError, match="data has 3 classes, cat, dog, eel, but the model has 4"):
        cs.evaluate(cs.SoftmaxRegression(6, 4), data)


def test_metrics_of_nothing() -> None:
    metrics = cs.evaluate(cs.SoftmaxRegression(6, 3), (np.zeros((0, 6)), []))
    assert np.isnan([metrics.loss, metrics.accuracy, *metrics.precision, *metrics.recall]).all()
    assert metrics.n_samples == metrics.confusion.sum() == 0


def test_evaluation_draws_no_order_and_changes_nothing() -> None:
    loader, same = (cs.DataLoader.from_dataset(GOOD_DATA, 8, shuffle=True, seed=0) for _ in "ab")
    model = cs.SoftmaxRegression(6, 3, scale=0.5)
    before = state_of(model)
    with pytest.warns(UserWarning, match="data.scale"):
        cs.evaluate(model, loader)
    assert state_of(model) == before
    assert_array_equal(loader.epoch_order(), same.epoch_order())
    with pytest.raises(TypeError, match="model is a function"):
        cs.evaluate(lambda X: X, loader)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="data is a str"):
        cs.evaluate(model, "data")  # type: ignore[arg-type]
