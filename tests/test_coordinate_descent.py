"""The kernels of the proximal Newton method against NumPy, on every instruction set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from csoftmax import _kernels
from csoftmax.core.sparse import as_csr
from csoftmax.engine.class_rows import Array

TYPES = [(np.float32, 2e-5), (np.float64, 1e-12)]


class Case:
    """Rows of 5 classes, padded; the last 3 of 300 rows end a block that is not full."""

    def __init__(self, dtype: Any, weighted: bool = False) -> None:
        rng = np.random.default_rng(0)
        self.n, self.K, self.d, self.ld = 300, 5, 9, 384
        self.dtype = np.dtype(dtype)
        self.Z, self.delta, self.P = (np.zeros((self.K, self.ld), dtype) for _ in range(3))
        self.Z[:, : self.n] = 2 * rng.normal(size=(self.K, self.n))
        self.delta[:, : self.n] = rng.normal(size=(self.K, self.n))
        self.R = np.empty((self.n, 16), dtype)
        self.y = rng.integers(0, self.K, self.n)
        self.weight = rng.exponential(size=self.n) if weighted else None
        self.rows = _kernels.LogitRows(self.Z, self.delta, self.P, self.R, self.y, self.weight)
        self.X = rng.normal(size=(self.n, self.d)) * (rng.random((self.n, self.d)) < 0.4)
        self.X = self.X.astype(dtype)
        s = np.ones(self.n) if self.weight is None else self.weight
        self.share = np.zeros(self.ld, dtype)
        self.share[: self.n] = s / s.sum()
        self.s = np.zeros(self.ld, dtype)
        # every feature for class 0, some for the others
        wanted = [np.arange(self.d), *(np.arange(k, self.d, 2) for k in range(1, self.K))]
        self.line_of = np.concatenate(wanted).astype(np.int32)
        self.starts = np.cumsum([0, *map(len, wanted)]).astype(np.int64)

    def probabilities(self, t: float) -> Array:
        logits = (self.Z + t * self.delta).astype(float)[:, : self.n]
        p: Array = np.exp(logits - logits.max(axis=0))
        return p / p.sum(axis=0)

    def columns(self, form: str) -> Any:
        if form == "sparse":
            return as_csr(sp.csr_array(self.X)).columns(self.dtype)
        dense = np.zeros((self.d, self.ld), self.dtype)
        dense[:, : self.n] = self.X.T
        return dense


@pytest.mark.parametrize(("dtype", "close"), TYPES)
@pytest.mark.parametrize("weighted", [False, True])
def test_a_step_and_entropies(isa: str, dtype: Any, close: float, weighted: bool) -> None:
    case = Case(dtype, weighted)
    s = np.ones(case.n) if case.weight is None else case.weight
    onehot = np.eye(case.K)[case.y].T
    for t in (0.0, 0.5):
        p = case.probabilities(t)
        loss = case.rows.step(t)
        assert loss == pytest.approx(-(s * np.log(p[case.y, range(case.n)])).sum(), rel=close)
        np.testing.assert_allclose(case.P[:, : case.n], p, atol=close)
        np.testing.assert_allclose(case.R[:, : case.K], (s * (p - onehot)).T, atol=10 * close)
    v = np.array([0.1, 0.2, 0.3, 0.4, 0.0])
    for factor, mix in ((1.0, 0.0), (0.7, 0.0), (0.7, 0.2), (0.0, 0.0)):
        q = factor * ((1 - mix) * p + mix * v[:, None]) + (1 - factor) * onehot
        expected = -(s * np.where(q > 0, q * np.log(np.where(q > 0, q, 1)), 0)).sum()
        assert case.rows.entropy(factor, mix, v) == pytest.approx(expected, rel=close, abs=close)


@pytest.mark.parametrize(("dtype", "close"), TYPES)
@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_products_with_the_hessian(isa: str, form: str, dtype: Any, close: float) -> None:
    case = Case(dtype)
    case.rows.step(0.0)
    p, rng = case.probabilities(0.0), np.random.default_rng(1)
    u, bias = rng.normal(size=len(case.line_of)).astype(dtype), rng.normal(size=case.K)
    step = np.zeros((case.d, case.K))
    for k in range(case.K):
        own = slice(case.starts[k], case.starts[k + 1])
        step[case.line_of[own], k] = u[own]
    D, s = np.zeros_like(case.delta), np.zeros_like(case.s)
    arguments = (case.rows, case.columns(form), case.starts, case.line_of)
    _kernels.model_product("follow", *arguments, u, bias, D, s, case.share)
    moved = (case.X @ step + bias).T
    np.testing.assert_allclose(D[:, : case.n], moved, atol=100 * close)
    coupled = (p * moved).sum(axis=0)
    np.testing.assert_allclose(s[: case.n], coupled, atol=100 * close)
    slopes = p * (moved - coupled) / case.n
    _kernels.model_product("slopes", *arguments, u, bias, D, s, case.share)
    np.testing.assert_allclose(bias, slopes.sum(axis=1), atol=10 * close)
    expected = slopes @ case.X
    for k in range(case.K):
        own = slice(case.starts[k], case.starts[k + 1])
        np.testing.assert_allclose(u[own], expected[k, case.line_of[own]], atol=10 * close)


def plain_sweep(case: Case, gradient: Array, bias_gradient: Array, l1: float, l2: float) -> Any:
    """One round over the classes, one after the other, by the definition."""
    p = case.probabilities(0.0)
    u, moved, delta = np.zeros(len(case.line_of)), np.zeros(case.K), np.zeros((case.K, case.n))
    for k in range(case.K):
        v = p[k] * (1 - p[k]) / case.n
        coupled = (p * delta).sum(axis=0)
        q = p[k] * (delta[k] - coupled) / case.n
        by = -(bias_gradient[k] + q.sum()) / v.sum()
        moved[k] = by
        q += by * v
        delta[k] += by
        for e in range(case.starts[k], case.starts[k + 1]):
            x = case.X[:, case.line_of[e]].astype(float)
            h = v @ x**2 + l2
            w = u[e] - (gradient[e] + q @ x + l2 * u[e]) / h
            to = np.sign(w) * max(abs(w) - l1 / h, 0)
            q += (to - u[e]) * x * v
            delta[k] += (to - u[e]) * x
            u[e] = to
    return u, moved, delta


@pytest.mark.parametrize(("dtype", "close"), TYPES)
@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_a_sweep_of_one_class_after_the_other(
    isa: str, form: str, dtype: Any, close: float
) -> None:
    case = Case(dtype)
    case.rows.step(0.0)
    case.delta[:] = 0
    rng = np.random.default_rng(2)
    gradient = (0.05 * rng.normal(size=len(case.line_of))).astype(dtype)
    bias_gradient, moved, l1, l2 = 0.05 * rng.normal(size=case.K), np.zeros(case.K), 0.02, 0.01
    u, start = np.zeros_like(gradient), np.zeros_like(gradient)
    room, curvature = np.full_like(u, 100), np.full_like(u, -1)
    classes = np.arange(case.K)
    coordinates = (case.starts, case.line_of, u, start, gradient, room, curvature)
    gain = _kernels.sweep(
        case.rows, case.columns(form), coordinates, classes, 1, case.P.copy(), case.share, case.s,
        (l1, l2), bias=(moved, bias_gradient, 100.0),
    )  # fmt: skip
    expected = plain_sweep(case, gradient, bias_gradient, l1, l2)
    np.testing.assert_allclose(u, expected[0], atol=1000 * close)
    assert ((u == 0) == (expected[0] == 0)).all()
    assert (u == 0).any()
    np.testing.assert_allclose(moved, expected[1], atol=1000 * close)
    np.testing.assert_allclose(case.delta[:, : case.n], expected[2], atol=1000 * close)
    p = case.probabilities(0.0)
    np.testing.assert_allclose(case.s[: case.n], (p * expected[2]).sum(axis=0), atol=1000 * close)
    assert gain > 0


def test_classes_that_move_side_by_side_gain_what_they_say() -> None:
    case = Case(np.float64)
    case.rows.step(0.0)
    case.delta[:] = 0
    rng = np.random.default_rng(3)
    gradient = 0.05 * rng.normal(size=len(case.line_of))
    u, curvature = np.zeros_like(gradient), np.full_like(gradient, -1)
    coordinates = (
        case.starts, case.line_of, u, u.copy(), gradient, np.full_like(u, 0.3), curvature
    )  # fmt: skip
    mass = np.add.reduce(case.P, axis=0, keepdims=True)
    gain = _kernels.sweep(
        case.rows, case.columns("dense"), coordinates, np.arange(case.K), case.K, mass, case.share,
        case.s, (0.01, 0.0),
    )  # fmt: skip
    p, delta = case.P[:, : case.n], case.delta[:, : case.n]
    square = (p * delta**2).sum() - (case.s[: case.n] ** 2).sum()
    value = gradient @ u + square / (2 * case.n) + 0.01 * np.abs(u).sum()
    assert 0 < gain <= -value + 1e-12
    assert np.abs(u).max() <= 0.3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_largest_slopes(isa: str, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    G, null = rng.normal(size=(2, 40, 19)).astype(dtype)
    counts, c = np.ones(19, dtype), rng.normal(size=19).astype(dtype)
    counts[3] = 0
    left = rng.normal(size=40).astype(dtype)
    most, most_dual = _kernels.largest_slopes(G, counts, (null, left, c, 0.25))
    np.testing.assert_array_equal(most, np.abs(G * counts).max(axis=1))
    R = 0.75 * (G - np.outer(left, c)) + 0.25 * null
    np.testing.assert_allclose(most_dual, np.abs(R * counts).max(axis=1), rtol=1e-6)
    assert (_kernels.largest_slopes(G, counts, None)[1] == most).all()


def test_what_would_lead_out_of_bounds_is_refused() -> None:
    case = Case(np.float64)
    columns, D = case.columns("sparse"), np.zeros_like(case.delta)
    u = np.zeros(len(case.line_of))
    good = [case.rows, columns, case.starts, case.line_of, u, None, D, case.s, case.share]

    def refused(place: int, value: Any, error: type[Exception], match: str) -> None:
        bad = list(good)
        bad[place] = value
        with pytest.raises(error, match=match):
            _kernels.model_product("follow", *bad)

    refused(3, case.line_of + 5, ValueError, "line_of.* is 9, expected 0..8")
    refused(3, case.line_of - 1, ValueError, r"line_of\[0\] is -1")
    refused(2, case.starts[::-1].copy(), ValueError, "starts")
    refused(2, case.starts + 1, ValueError, "starts")
    refused(4, u[1:].copy(), ValueError, "u: expected")
    refused(6, D[:, 1:].copy(), ValueError, "delta: expected")
    refused(1, Case(np.float32).columns("sparse"), ValueError, "columns: expected")
    with pytest.raises(ValueError, match="Z: expected"):
        _kernels.LogitRows(case.Z[:, :300].copy(), D, case.P, case.R, case.y, None)
    with pytest.raises(ValueError, match=r'name is "x"|name is \'x\''):
        _kernels.model_product("x", *good)
