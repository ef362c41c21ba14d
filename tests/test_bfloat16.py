"""bfloat16, and int8 in the estimators: one copy in float32, none in float64."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

import csoftmax as cs
from csoftmax import reference
from csoftmax.estimators import SoftmaxClassifier, SoftmaxClassifierCV
from csoftmax.solver import minimize

ml_dtypes = pytest.importorskip("ml_dtypes")
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def rows(dtype: Any, n: int = 120) -> tuple[Any, Any, Any]:
    """Rows of a dtype, the same in float32, and labels."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % 3
    X = (rng.normal(size=(n, 5)) * 8 + 10 * np.eye(3, 5)[y]).astype(dtype)
    return X, X.astype(np.float32), y


class Foreign:
    """An array of another package, as JAX's of bfloat16 are, that NumPy can read."""

    def __init__(self, array: Any) -> None:
        self.array, self.dtype, self.shape = array, array.dtype, array.shape

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.array if dtype is None else self.array.astype(dtype)

    def __len__(self) -> int:
        return len(self.array)


@pytest.mark.parametrize("foreign", [False, True])
@pytest.mark.parametrize("dtype", [BFLOAT16, np.int8], ids=["bfloat16", "int8"])
@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_the_estimator_computes_in_float32(dtype: Any, solver: str, foreign: bool) -> None:
    given, X, y = rows(dtype)
    given = Foreign(given) if foreign else given
    options = {"solver": solver, "random_state": 0}
    ours = SoftmaxClassifier(**options).fit(given, y, validation=(given, y))
    same = SoftmaxClassifier(**options).fit(X, y)
    assert ours.coef_.dtype == np.float32
    np.testing.assert_array_equal(ours.coef_, same.coef_)
    for name in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        np.testing.assert_array_equal(getattr(ours, name)(given), getattr(same, name)(X))
    assert ours.score(given, y) == same.score(X, y)
    np.testing.assert_array_equal(ours.partial_fit(given, y).coef_, same.partial_fit(X, y).coef_)


@pytest.mark.parametrize("dtype", [BFLOAT16, np.int8], ids=["bfloat16", "int8"])
def test_cross_validation(dtype: Any) -> None:
    given, X, y = rows(dtype)
    ours = SoftmaxClassifierCV(Cs=2, cv=2).fit(given, y)
    np.testing.assert_array_equal(ours.coef_, SoftmaxClassifierCV(Cs=2, cv=2).fit(X, y).coef_)


@pytest.mark.parametrize("dtype", [BFLOAT16, np.int8], ids=["bfloat16", "int8"])
def test_there_is_no_copy_in_float64(dtype: Any) -> None:
    from csoftmax.estimators.classifier import conversion_bytes

    given = np.ones((4000, 300), dtype)
    given[::2] = 0
    y = np.arange(len(given)) % 2
    assert conversion_bytes(given) == 4 * given.size
    peaks = []
    for X in (given.astype(np.float32), given):
        classifier = SoftmaxClassifier(tol=0.1, n_threads=1)
        tracemalloc.start()
        classifier.fit(X, y)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.reset_peak()
        classifier.predict(X)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    for more in (peaks[2] - peaks[0], peaks[3] - peaks[1]):
        assert 3.9 * given.size < more < 4.5 * given.size


def test_the_functions() -> None:
    given, X, y = rows(BFLOAT16)
    W = np.random.default_rng(1).normal(size=(5, 3)).astype(BFLOAT16)
    W32 = W.astype(np.float32)
    logits = cs.linear(given, W, None)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, reference.linear(X, W32, None), rtol=1e-5, atol=1e-4)
    some = logits.astype(BFLOAT16)
    some32 = some.astype(np.float32)
    targets = cs.softmax(logits).astype(BFLOAT16)
    for function, arguments, same in (
        (cs.softmax, (some,), (some32,)),
        (cs.log_softmax, (some,), (some32,)),
        (cs.softmax_cross_entropy, (some, y), (some32, y)),
        (cs.softmax_cross_entropy, (some, targets), (some32, targets.astype(np.float32))),
        (cs.linear_cross_entropy, (given, W, None, y), (X, W32, None, y)),
        (cs.cross_entropy, (targets, y), (targets.astype(np.float32), y)),
    ):  # fmt: skip
        np.testing.assert_array_equal(function(*arguments), function(*same))
    ours, theirs = (cs.linear_cross_entropy_grad(a, b, None, y) for a, b in ((given, W), (X, W32)))
    np.testing.assert_array_equal(ours[1], theirs[1])
    with pytest.raises(TypeError, match="y has dtype bfloat16, expected integer labels"):
        cs.linear_cross_entropy(given, W, None, y.astype(BFLOAT16))
    with pytest.raises(TypeError, match="X has dtype float8"):
        cs.linear(X.astype(ml_dtypes.float8_e4m3fn), W, None)


def test_the_solver_and_training() -> None:
    given, X, y = rows(BFLOAT16)
    np.testing.assert_array_equal(minimize(given, y, 3).W, minimize(X, y, 3).W)
    models = []
    for data in (given, X):
        model = cs.SoftmaxRegression(5, 3, seed=0)
        history = cs.train(model, (data, y), validation=cs.Dataset(data, y), epochs=1)
        assert len(history) == 1
        models.append(model.predict_proba(data))
        assert next(iter(cs.DataLoader(data, y, 8)))[0].dtype == np.float32
        assert cs.evaluate(model, (data, y)).n_samples == 120
    assert models[0].dtype == np.float32
