"""Arithmetic of long vectors of lines, against NumPy in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from csoftmax import _kernels
from csoftmax.engine.lines import Lines

Array = Any
SHAPES = [(0, 3), (1, 1), (5, 2), (40, 17), (3000, 3), (2100, 49), (20, 900)]
EPS = {np.float32: 1e-6, np.float64: 2e-15}


def vectors(f: int, k: int, dtype: Any, n: int) -> Array:
    """Vectors whose lines are followed by k numbers of the intercept."""
    return np.random.default_rng(f + k).normal(size=(n, f * k + k)).astype(dtype)


def solved(v: Array, diagonal: Array, l2: float) -> Array:
    """The V of lines of sum 0 that minimises ``sum (diagonal + l2) V^2 / 2 - v V``, by its KKT."""
    out = np.zeros_like(v)
    for j in range(len(v)):
        some = np.isfinite(diagonal[j])
        n = np.count_nonzero(some)
        matrix = np.ones((n + 1, n + 1))
        matrix[:n, :n], matrix[n, n] = np.diag(diagonal[j, some] + l2), 0
        if n:
            out[j, some] = np.linalg.solve(matrix, np.append(v[j, some], 0))[:n]
    return out


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_products_steps_and_sums(
    isa: str, dtype: Any, shape: tuple[int, int], free_threads: None
) -> None:
    (f, k), eps = shape, EPS[dtype]
    x, y, z = vectors(f, k, dtype, 3)
    wide = [v.astype(np.float64) for v in (x, y, z)]
    mean, bias = vectors(f, 1, dtype, 1)[0, :f], vectors(k, 1, dtype, 1)[0, :k]
    bits = []
    for n_threads in (1, 3):
        lines = Lines(f, k, n_threads)
        pairs = [(0, 1), (2, 2), (1, 2)]
        sums = lines.products([x, y, z], pairs)
        assert_allclose(
            sums,
            [wide[i] @ wide[j] for i, j in pairs],
            rtol=0,
            atol=eps * max(np.abs(wide[i] * wide[j]).sum() for i, j in pairs),
        )
        of_W = lines.products([x, y, z], pairs, whole=False)
        assert_allclose(of_W, [wide[i][: f * k] @ wide[j][: f * k] for i, j in pairs],
                        rtol=0, atol=eps * (f * k + 1) * 4)  # fmt: skip
        moved = np.empty_like(x)
        lines.step(x, y, -0.3, moved)
        assert_allclose(moved, wide[0] - 0.3 * wide[1], rtol=0, atol=4 * eps)
        again = x.copy()
        lines.step(again, y, -0.3, again)
        assert_array_equal(again, moved)
        W, g = wide[0][: f * k].reshape(f, k), wide[1][: f * k].reshape(f, k)
        shift = lines.shift(x, mean)
        assert_allclose(shift, mean.astype(np.float64) @ W, rtol=0, atol=eps * (f + 1) * 4)
        largest = [lines.largest(y, m, bias) for m in (mean, None)]
        moments = [g + np.outer(mean, bias), g]
        assert_allclose(largest, [np.abs(m).max(initial=0) for m in moments], rtol=4 * eps)
        finished = y.copy()
        square = lines.finish(finished, x, 0.25, mean, bias, 0.7)
        plain = y.copy()
        lines.finish(plain, x, 0.25, None, bias, 0.7)
        assert square == pytest.approx(float((W * W).sum()), rel=4 * eps)
        for got, m in ((finished, mean[:, None] * bias.astype(np.float64)), (plain, 0)):
            assert_allclose(
                got[: f * k].reshape(f, k), 0.25 * (g - m) + 0.7 * W, rtol=0, atol=10 * eps
            )
            assert_array_equal(got[f * k :], y[f * k :])
        bits.append((sums, of_W, moved, shift, largest, finished, square))
    for mine, theirs in zip(*bits, strict=True):
        assert_array_equal(mine, theirs)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1), (5, 2), (40, 17), (350, 49)])
def test_what_quasi_newton_pairs_need(
    isa: str, dtype: Any, shape: tuple[int, int], free_threads: None
) -> None:
    (f, k), eps, l2 = shape, 20 * EPS[dtype], 0.05
    S, Y = (vectors(f, k, dtype, 4) + np.arange(4)[:, None].astype(dtype) for _ in range(2))
    g, old, step = vectors(f + 1, k, dtype, 3)[:, : f * k + k].copy()
    diagonal = np.random.default_rng(5).uniform(0.1, 3, (f, k)).astype(dtype)
    if k > 2:
        diagonal[:, 1] = np.inf  # a class that is not there
    slots, of_S, of_Y = np.array([2, 0, 3]), np.array([0.5, -1.0, 2.0]), np.array([1.0, 0.3, -2.0])
    wide = [v[..., : f * k].astype(np.float64).reshape(*v.shape[:-1], f, k) for v in (S, Y, g, old)]
    d = diagonal.astype(np.float64)
    Pg = solved(wide[2], d, l2)
    bits = []
    for n_threads in (1, 3):
        lines = Lines(f, k, n_threads)
        out = np.zeros_like(g)
        slope = lines.direction(S, Y, slots, of_S, of_Y, 0.8, g, diagonal, l2, out)
        want = np.tensordot(of_S, wide[0][slots], 1) + solved(
            np.tensordot(of_Y, wide[1][slots], 1) - 0.8 * wide[2], d, l2
        )
        size = float(np.abs(want).sum()) + 1
        assert_allclose(out[: f * k].reshape(f, k), want, rtol=0, atol=40 * eps)
        assert not out[f * k :].any()
        assert slope == pytest.approx((want * wide[2]).sum(), abs=10 * eps * size)
        sums = lines.meet(S, Y, slots, g, diagonal, l2)
        products = [
            (wide[2] * Pg).sum(),
            *((wide[0][slots] * wide[2]).sum(axis=(1, 2))),
            *((wide[1][slots] * Pg).sum(axis=(1, 2))),
        ]
        assert_allclose(sums, products, rtol=0, atol=100 * eps * f * k)
        written, changed = S.copy(), Y.copy()
        with_pair = lines.meet(
            written, changed, slots, g, diagonal, l2, slot=1, old=old, direction=step, step=0.5
        )
        s = 0.5 * step[: f * k].astype(np.float64).reshape(f, k)
        y = wide[2] - wide[3]
        Py = solved(y, d, l2)
        assert with_pair[:7] == sums
        assert_allclose(
            with_pair[7:],
            [(a * b).sum() for a, b in ((s, y), (y, Py), (s, s), (s, wide[2]), (y, Pg))],
            rtol=0,
            atol=100 * eps * f * k,
        )
        assert_allclose(written[1, : f * k].reshape(f, k), s, rtol=eps, atol=eps)
        assert_allclose(changed[1, : f * k].reshape(f, k), y, rtol=eps, atol=eps)
        for before, after in ((S, written), (Y, changed)):
            assert_array_equal(before[[0, 2, 3]], after[[0, 2, 3]])
        gram = lines.gram(S, Y, slots, diagonal, l2)
        of_P = [solved(wide[1][slot], d, l2) for slot in slots]
        assert_allclose(
            gram,
            [[(wide[1][i] * p).sum() for p in of_P] for i in slots],
            rtol=0,
            atol=400 * eps * f * k,
        )
        bits.append((out, slope, with_pair, gram, written, changed))
    for mine, theirs in zip(*bits, strict=True):
        assert_array_equal(mine, theirs)


def test_what_does_not_fit_is_refused() -> None:
    x, short, wrong = np.zeros(15), np.zeros(11), np.zeros(15, np.float32)
    S, d, slots = np.zeros((2, 15)), np.ones((4, 3)), np.array([0])
    one = np.ones(1)
    for bad, message in (
        (lambda: _kernels.line_products(4, 3, [x, short], [(0, 1)], 1), "vector of 4 x 3 numbers"),
        (lambda: _kernels.line_products(4, 3, [x, wrong], [(0, 1)], 1), "numbers of 64 bits"),
        (lambda: _kernels.line_products(4, 3, [x], [(0, 1)], 1), r"pairs\[0\] is \(0, 1\)"),
        (lambda: _kernels.line_products(4, 3, [x] * 9, [(0, 1)], 1), "at most 8 vectors"),
        (lambda: _kernels.line_products(4, 0, [x], [(0, 0)], 1), "at least one number"),
        (lambda: _kernels.line_products(4, 3, [x.astype(int)], [(0, 0)], 1), "float32 or float64"),
        (lambda: _kernels.line_step(4, 3, x, short, 1.0, x, 1), "vector of 4 x 3 numbers"),
        (lambda: _kernels.line_shift(4, 3, x, np.zeros(5), 1), "mean: expected 4"),
        (lambda: _kernels.line_finish(4, 3, x, x, 1.0, None, one, 1.0, 1), "bias: expected 3"),
        (lambda: _kernels.line_gram(4, 3, S, S, [2], d, 1.0, 1), r"slots\[0\] is 2, expected 0..1"),
        (lambda: _kernels.line_gram(4, 3, S, S[:, :9].copy(), [0], d, 1.0, 1), "S and Y: expected"),
        (lambda: _kernels.line_gram(4, 3, S, S[:1], [0], d, 1.0, 1), "as many of each"),
        (
            lambda: _kernels.line_direction(4, 3, S, S, slots, x, one, 1.0, x, d, 1.0, x, 1),
            "of_S: expected 1",
        ),
        (
            lambda: _kernels.line_meet(4, 3, S, S, slots, x, d, 1.0, 1, slot=2, old=x, direction=x),
            "slot is 2, expected 0..1",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            bad()
    assert _kernels.line_products(4, 3, [x], [], 1) == []
