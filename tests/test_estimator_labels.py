"""Labels are kept as small integers, a block of them at a time."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import csoftmax as cs
from csoftmax.engine import targets
from csoftmax.engine.row_weights import BLOCK_ROWS
from csoftmax.solver.problem import Sizes, bytes_needed

pytest.importorskip("sklearn")

from csoftmax.estimators import inputs

pytestmark = pytest.mark.filterwarnings("ignore::csoftmax.estimators.ConvergenceWarning")


def samples(n: int, n_classes: int) -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    y = np.arange(n) % n_classes
    return random.normal(size=(n, 3)).astype(np.float32) + y[:, None] % 5, y


@pytest.mark.parametrize("name", ["numbers", "texts", "objects", "bools"])
def test_classes_are_found_in_blocks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = samples(50, 3)
    labels = {"numbers": y * 7 - 3, "texts": np.array(["a", "bb", "ccc"])[y],
              "objects": np.array(["x", "y", "z"], object)[y], "bools": y == 1}[name]  # fmt: skip
    monkeypatch.setattr(inputs, "LABELS_AT_ONCE", 7)
    data = inputs.training_set(cs.SoftmaxClassifier(), X, labels)
    classes, numbers = np.unique(labels, return_inverse=True)
    assert_array_equal(data.classes, classes)
    assert_array_equal(data.y, numbers)
    assert data.y.dtype == np.uint8


def test_a_label_of_a_later_block_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = samples(50, 3)
    monkeypatch.setattr(inputs, "LABELS_AT_ONCE", 7)
    classifier = cs.SoftmaxClassifier().partial_fit(X, y, classes=[0, 1, 2])
    y[40], y[45] = 9, 8
    with pytest.raises(ValueError, match="y has the label 8, expected one of the classes 0, 1, 2"):
        classifier.partial_fit(X, y)


@pytest.mark.parametrize(("n_classes", "dtype"), [(256, "u1"), (300, "u2")])
def test_many_classes(n_classes: int, dtype: str) -> None:
    """Sums of numbers of classes would overflow their type."""
    X, y = samples(1200, n_classes)
    classifier = cs.SoftmaxClassifier(C=100.0, max_iter=20).fit(X, y)
    assert inputs.training_set(classifier, X, y).y.dtype == dtype
    model = cs.SoftmaxRegression(3, n_classes)
    model.W, model.b = classifier.coef_.T, classifier.intercept_
    right = classifier.predict(X) == y
    metrics = cs.evaluate(model, (X, y.astype(dtype)))
    assert metrics.accuracy == pytest.approx(right.mean(), abs=2e-3)
    assert metrics.confusion.sum(axis=1).tolist() == np.bincount(y).tolist()


def test_a_fit_takes_few_bytes_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    n = 1_500_000
    X = np.random.default_rng(0).random((n, 1), np.float32)
    y = (X[:, 0] > 0.5).astype(np.int64)
    for module, name in ((inputs, "LABELS_AT_ONCE"), (targets, "BLOCK_ROWS")):
        monkeypatch.setattr(module, name, 1 << 14)
    classifier = cs.SoftmaxClassifier(max_iter=1, tol=1.0, n_threads=1).fit(X[:20_000], y[:20_000])
    tracemalloc.start()
    try:
        classifier.fit(X, y)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * n  # with labels of int64 it was 9


def test_the_plan_counts_labels_weights_and_a_block_of_them() -> None:
    for n_classes, n_weights, expected in ((256, 0, 1), (257, 0, 2), (3, 2, 49)):
        sizes = Sizes(5_000_000, 8, n_classes, 1, n_weights, 1, 4, 4)
        assert bytes_needed(sizes) == 5_000_000 * expected + 24 * BLOCK_ROWS
    assert bytes_needed(Sizes(1000, 8, 3, 1, 0, 1, 4, 4)) == 25_000
