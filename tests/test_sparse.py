"""Sparse matrices of every kind: the results of the same numbers as an array, or a refusal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.exceptions import NotFittedError

import csoftmax as cs
from csoftmax.core.sparse import CSR, as_csr
from csoftmax.estimators import SoftmaxClassifier

Array = Any
N, D, K = 30, 12, 3
FORMATS = ("csr", "csc", "coo", "bsr", "lil", "dok", "dia")
DTYPES = ("bool", "uint8", "int8", "uint16", "int32", "int64", "float32", "float64")


def table(dtype: Any = "float64") -> Array:
    """Rows of which few numbers are not 0; a row and a column are empty."""
    random = np.random.default_rng(4)
    X = random.integers(1, 5, (N, D)) * (random.random((N, D)) < 0.3)
    X[7], X[:, 5] = 0, 0
    return X.astype(dtype)


Y = np.random.default_rng(5).integers(0, K, N)


def same_everywhere(given: Any, X: Array) -> None:
    """Check all that takes X: with `given` it must do what it does with the array."""
    wide = np.result_type(np.float32, X.dtype)
    close: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5} if wide == np.float32 else {"rtol": 1e-9}
    random = np.random.default_rng(6)
    W, b = random.normal(size=(D, K)).astype(wide), random.normal(size=K).astype(wide)
    np.testing.assert_allclose(cs.linear(given, W, b), cs.linear(X, W, b), **close)
    ours = cs.linear_cross_entropy_grad(given, W, b, Y)
    for found, expected in zip(ours, cs.linear_cross_entropy_grad(X, W, b, Y), strict=True):
        np.testing.assert_allclose(found, expected, **{**close, "atol": 1e-6})
    model = cs.SoftmaxRegression(D, K, dtype=wide.name)
    model.W, model.b = W, b
    np.testing.assert_array_equal(model.predict(given), model.predict(X))
    ours, dense = cs.evaluate(model, (given, Y)), cs.evaluate(model, (X, Y))
    assert ours.loss == pytest.approx(dense.loss, rel=1e-5)
    train = [cs.DataLoader(data, Y, 8, shuffle=True, seed=1) for data in (given, X)]
    models = [cs.SoftmaxRegression(D, K, dtype=wide.name, seed=2) for _ in train]
    for trained, loader in zip(models, train, strict=True):
        cs.train(trained, loader, epochs=2, progress=False)
    np.testing.assert_allclose(models[0].W, models[1].W, rtol=1e-3, atol=1e-5)
    fits = [SoftmaxClassifier(tol=1e-7, C=0.5).fit(data, Y) for data in (given, X)]
    np.testing.assert_allclose(fits[0].coef_, fits[1].coef_, rtol=1e-2, atol=1e-3)
    expected = fits[1].predict_proba(X)
    np.testing.assert_allclose(fits[1].predict_proba(given), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("container", ["array", "matrix"])
@pytest.mark.parametrize("form", FORMATS)
def test_formats(form: str, container: str) -> None:
    X = table()
    same_everywhere(getattr(sparse, f"{form}_{container}")(X), X)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(dtype: str) -> None:
    X = table(dtype)
    given = sparse.csr_array(X)
    same_everywhere(given, X)
    assert as_csr(given).dtype in (np.uint8, np.float32, np.float64)


def test_float16_comes_as_it_is_only_in_our_own_rows() -> None:
    # scipy.sparse has no float16, but an array of it can be wrapped
    half = sparse.csr_array(table("float32"))
    half.data = half.data.astype(np.float16)
    same_everywhere(half, table("float32"))


@pytest.mark.parametrize("dtype", [np.complex128, np.longdouble])
def test_other_dtypes_are_refused(dtype: Any) -> None:
    with pytest.raises(TypeError, match=r"X has dtype .*, expected bool, an integer"):
        SoftmaxClassifier().fit(sparse.csr_array(table().astype(dtype)), Y)


def test_a_table_of_pandas() -> None:
    X = table()
    for names in ([f"word{j}" for j in range(D)], list(range(D))):
        frame = pd.DataFrame.sparse.from_spmatrix(sparse.csr_matrix(X), columns=names)
        same_everywhere(frame, X)
        fitted = SoftmaxClassifier().fit(frame, Y)
        assert hasattr(fitted, "feature_names_in_") is isinstance(names[0], str)


@pytest.mark.parametrize("index", [np.int32, np.int64, np.uint32, np.int16])
@pytest.mark.parametrize("writeable", [True, False])
def test_unsorted_twice_explicit_zeros_and_read_only(index: Any, writeable: bool) -> None:
    X, random = table(), np.random.default_rng(8)
    data, indices, indptr = [], [], [0]
    for row in X:
        at = np.concatenate([np.flatnonzero(row)] * 2 + [[0, D - 1]])  # halves, and two zeros
        order = random.permutation(len(at))
        values = np.concatenate([row[row != 0] / 2] * 2 + [[0.0, 0.0]])
        data.extend(values[order])
        indices.extend(at[order])
        indptr.append(len(data))
    given = sparse.csr_array(X.shape)
    arrays = np.array(data), np.array(indices, index), np.array(indptr, index)
    before = [array.copy() for array in arrays]
    for array in arrays:
        array.flags.writeable = writeable
    given.data, given.indices, given.indptr = arrays
    same_everywhere(given, X)
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)
        assert array.dtype == copy.dtype
    assert given.data is arrays[0]
    assert given.indices is arrays[1]
    if index in (np.int32, np.int64):
        assert as_csr(given).indices is arrays[1]  # not copied


@pytest.mark.filterwarnings("ignore:.*the rounding of float64 allows no further step")
def test_nothing_but_zeros() -> None:
    X = np.zeros((N, D))
    same_everywhere(sparse.csr_array(X), X)
    fitted = SoftmaxClassifier(l1_ratio=1.0).fit(sparse.csr_array(X), Y)
    assert not fitted.coef_.any()
    np.testing.assert_allclose(fitted.predict_proba(X[:1])[0], np.bincount(Y) / N, atol=1e-4)


def test_no_rows_and_no_columns_are_refused() -> None:
    for shape, message in (((0, D), r"0 sample\(s\)"), ((N, 0), r"0 feature\(s\)")):
        with pytest.raises(ValueError, match=message):
            SoftmaxClassifier().fit(sparse.csr_array(shape), Y[: shape[0]])
    fitted = SoftmaxClassifier().fit(table(), Y)
    with pytest.raises(ValueError, match="X has 11 features, but Soft"):
        fitted.predict(sparse.csr_array((2, 11)))
    with pytest.raises(NotFittedError):
        SoftmaxClassifier().predict(sparse.csr_array(table()))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_named(value: float) -> None:
    X = sparse.csr_array(table())
    X.data[4] = value
    i = int(np.searchsorted(X.indptr, 4, side="right")) - 1
    with pytest.raises(ValueError, match=rf"X\[{i}, {X.indices[4]}\] is {value}, expected finite"):
        SoftmaxClassifier().fit(X, Y)


# ---- hostile -------------------------------------------------------------------------------------


def broken(name: str, at: int, value: int) -> Callable[[], Any]:
    def make() -> Any:
        X = sparse.csr_array(table())
        getattr(X, name)[at] = value
        return X

    return make


def broken_csc() -> Any:
    X = sparse.csc_array(table())
    X.indices[2] = N
    return X


def broken_coo() -> Any:
    X = sparse.coo_array(table())
    X.coords[0][3] = -1
    return X


def broken_bsr() -> Any:
    X = sparse.bsr_array(table(), blocksize=(2, 3))
    X.indices[1] = 4
    return X


def shorter() -> Any:
    X = sparse.csr_array(table())
    X.indices = X.indices[:-1]
    return X


def fewer_rows() -> Any:
    X = sparse.csr_array(table())
    X.indptr = X.indptr[:-1]
    return X


N_ENTRIES = int(np.count_nonzero(table()))
HOSTILE: dict[str, tuple[Callable[[], Any], str]] = {
    "feature": (broken("indices", 5, D), r"indices\[5\] is 12 \(in row \d\), expected a feature 0"),
    "negative": (broken("indices", 5, -1), r"indices\[5\] is -1 \(in row \d\)"),
    "back": (broken("indptr", 4, N_ENTRIES), r"indptr\[4\] is"),
    "below 0": (broken("indptr", 1, -3), r"indptr\[1\] is -3"),
    "begin": (broken("indptr", 0, 1), r"indptr\[0\] is 1"),
    "end": (broken("indptr", N, N_ENTRIES + 1), "indptr"),
    "csc": (broken_csc, r"indices\[2\] is 30 \(in column 0\), expected a row 0\.\.29"),
    "coo": (broken_coo, "entry 3 has the number -1 on axis 0, expected 0..29"),
    "bsr": (broken_bsr, r"indices\[1\] is 4"),
    "lengths": (shorter, "entries but indices has"),
    "rows": (fewer_rows, "indptr has 30 numbers, expected 31"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_matrices_are_refused_with_the_place(name: str) -> None:
    make, says = HOSTILE[name]
    fitted, model = SoftmaxClassifier().fit(table(), Y), cs.SoftmaxRegression(D, K)
    says = rf"X is no sparse matrix of shape \(30, 12\): .*{says}"
    for use in (
        lambda X: SoftmaxClassifier().fit(X, Y),
        lambda X: SoftmaxClassifier(l1_ratio=1.0).fit(X, Y),
        lambda X: SoftmaxClassifier().partial_fit(X, Y, classes=range(K)),
        fitted.predict,
        fitted.predict_proba,
        model.predict,
        lambda X: cs.linear(X, model.W, model.b),
        lambda X: cs.Dataset(X, Y),
        lambda X: cs.DataLoader(X, Y, 4),
        lambda X: cs.evaluate(model, (X, Y)),
        lambda X: cs.train(model, (X, Y), progress=False),
    ):
        with pytest.raises(ValueError, match=says):
            use(make())


def test_rows_of_ours_go_everywhere_too() -> None:
    X = table()
    rows = as_csr(sparse.csr_array(X))
    assert type(rows) is CSR
    same_everywhere(rows, X)
