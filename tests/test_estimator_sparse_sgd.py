"""Minibatches of sparse rows: `train`, and the estimators' solver "sgd" and `partial_fit`."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import csoftmax as cs
from csoftmax import reference
from csoftmax.estimators.fit import ConvergenceWarning

sparse = pytest.importorskip("scipy.sparse")
pytest.importorskip("sklearn")

Array = Any


def problem(n_classes: int, n: int = 300, d: int = 40, dtype: Any = np.float64) -> tuple[Any, Any]:
    random = np.random.default_rng(n_classes)
    X = random.normal(size=(n, d)) * (random.random((n, d)) < 0.15)
    y = (X[:, :n_classes] + 0.3 * random.normal(size=(n, n_classes))).argmax(axis=1)
    return sparse.csr_array(X.astype(dtype)), y


def fitted(X: Any, y: Array, **options: Any) -> Any:
    options = {"solver": "sgd", "random_state": 0, "max_iter": 5, "batch_size": 32, **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return cs.SoftmaxClassifier(**options).fit(X, y)


@pytest.mark.parametrize("rule", [{}, {"momentum": 0.8, "nesterov": True, "weight_decay": 0.01}])
def test_training_on_sparse_rows_is_training_on_arrays(rule: dict[str, Any]) -> None:
    X, y = problem(4, dtype=np.float32)
    results = []
    for features in (X, X.toarray()):
        model = cs.SoftmaxRegression(40, 4, seed=0)
        loader = cs.DataLoader(features, y, 32, shuffle=True, seed=1)
        history = cs.train(
            model, loader, validation=(features, y), epochs=3, optimizer=cs.SGD(0.3, **rule),
            progress=False,
        )  # fmt: skip
        metrics = cs.evaluate(model, (features, y))
        results.append((model.W, model.b, history.train_loss, history.validation_loss,
                        metrics.loss, metrics.confusion))  # fmt: skip
    for got, expected in zip(*results, strict=True):
        assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("filled", [False, True])
def test_l1_of_the_optimizer_is_that_of_the_plain_loop(filled: bool) -> None:
    X, y = problem(3)
    X = X.toarray() if filled else X
    model = cs.SoftmaxRegression(40, 3, seed=0, dtype="float64")
    W, b = model.W.copy(), model.b.copy()
    cs.train(
        model, cs.DataLoader(X, y, 16), epochs=2, optimizer=cs.SGD(0.5, l1=0.02), progress=False
    )
    for _ in range(2):
        reference.sgd_epoch(X, y, W, b, None, 16, 0.5, l1=0.02)
    assert_allclose(model.W, W, rtol=0, atol=1e-14)
    assert 0.1 < (model.W == 0).mean() < 0.95
    assert model.trained_with["l1"] == 0.02


@pytest.mark.parametrize(
    "options", [{}, {"momentum": 0.7}, {"fit_intercept": False}, {"l1_ratio": 0.5}]
)
def test_the_estimator_goes_the_way_that_it_goes_on_arrays(options: dict[str, Any]) -> None:
    X, y = problem(4)
    weight = np.random.default_rng(0).integers(0, 3, len(y)).astype(float)
    models = []
    for features in (X, X.toarray()):
        model = fitted(features, y, learning_rate=0.3, early_stopping=True, **options)
        model.partial_fit(features, y, sample_weight=weight)
        models.append(model)
    assert_allclose(models[0].coef_, models[1].coef_, rtol=0, atol=1e-12)
    assert_allclose(models[0].intercept_, models[1].intercept_, rtol=0, atol=1e-12)


def test_probabilities_as_labels_go_the_same_way() -> None:
    X, y = problem(3)
    soft = 0.8 * np.eye(3)[y] + 0.2 / 3
    ours, dense = (fitted(features, soft, learning_rate=0.3) for features in (X, X.toarray()))
    assert_allclose(ours.coef_, dense.coef_, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("l1_ratio", [0.0, 0.5, 1.0])
def test_steps_of_all_rows_come_to_the_optimum(n_classes: int, l1_ratio: float) -> None:
    X, y = problem(n_classes)

    def objective(model: Any) -> Any:
        log_probs = model.predict_log_proba(X)
        w = model.coef_
        penalty = l1_ratio * np.abs(w).sum() + (1 - l1_ratio) / 2 * np.square(w).sum()
        return -log_probs[np.arange(len(y)), y].mean() + penalty / (0.3 * len(y))

    best = cs.SoftmaxClassifier(C=0.3, l1_ratio=l1_ratio, tol=1e-8).fit(X, y)
    # one batch of all rows: nothing but the steps keeps it from the optimum
    options = {"C": 0.3, "l1_ratio": l1_ratio, "learning_rate": 1.0, "batch_size": len(y)}
    model = fitted(X, y, max_iter=500, tol=0.0, **options)
    assert_allclose(objective(model), objective(best), rtol=1e-4)
    assert_array_equal(model.coef_ == 0, best.coef_ == 0)
    assert_allclose(model.history_["objective"][-1], objective(model), rtol=1e-4)


def test_the_automatic_rate_suits_rows_of_few_features() -> None:
    random = np.random.default_rng(0)
    y = random.integers(0, 5, 600)
    indices = np.concatenate([100 * y[:, None] + random.integers(0, 100, (600, 6)),
                              random.integers(0, 5000, (600, 6))], axis=1)  # fmt: skip
    X = sparse.csr_array(
        (np.full(indices.size, 0.3, np.float32), indices.ravel(), np.arange(0, 7201, 12)),
        shape=(600, 5000),
    )
    assert fitted(X, y, max_iter=20).score(X, y) > 0.95


def test_l1_by_minibatches_needs_no_momentum() -> None:
    X, y = problem(3)
    with pytest.raises(ValueError, match=r"momentum is 0\.5, expected one of 0"):
        fitted(X, y, l1_ratio=0.5, momentum=0.5)


def test_the_rows_are_left_as_they_were() -> None:
    X, y = problem(3)
    before = [array.copy() for array in (X.data, X.indices, X.indptr)]
    fitted(X, y, l1_ratio=0.5)
    for array, kept in zip((X.data, X.indices, X.indptr), before, strict=True):
        assert_array_equal(array, kept)
