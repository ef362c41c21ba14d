"""L-BFGS alone: its compact form and its line search."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest
from solver_cases import Array

from csoftmax.solver.descent import NEXT, Point, Search
from csoftmax.solver.lbfgs import Lbfgs, Pairs
from csoftmax.solver.penalty import Penalty


class Plain:
    """A preconditioner in the coordinates of x."""

    def __init__(self, matrix: Array) -> None:
        self.matrix = matrix

    def reduce(self, gradient: Array) -> Array:
        return gradient.copy()

    def expand(self, step: Array, out: Array) -> None:
        out[:] = step

    def __call__(self, g: Array) -> Array:
        return np.asarray(g @ self.matrix)

    def point(self, g: Array) -> Point:
        return Point(np.zeros_like(g), 0.0, g, g, self(g))


def test_compact_form_is_that_of_the_two_loop_recursion() -> None:
    rng = np.random.default_rng(0)
    n, size = 12, 4
    A = rng.normal(size=(n, n))
    A = A @ A.T + np.eye(n)
    P = Plain(np.diag(rng.uniform(0.5, 2, n)))
    history = Pairs(size, n, np.dtype(np.float64))
    pairs: list[tuple[Array, Array]] = []

    def agrees(g: Array) -> bool:
        q, alphas = g.copy(), []
        for s, y in reversed(pairs):
            alphas.append(s @ q / (s @ y))
            q -= alphas[-1] * y
        s, y = pairs[-1]
        q = s @ y / (y @ P(y)) * P(q)
        for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
            q += (alpha - y @ q / (s @ y)) * s
        return np.allclose(-history.direction(P.point(g), P), q)

    old = P.point(rng.normal(size=n))
    history.meet(old)
    for _ in range(2 * size):
        s = rng.normal(size=n)
        new = P.point(old.gradient + A @ s)
        history.add(s, old, new)
        pairs, old = [*pairs, (s, A @ s)][-size:], new
        assert agrees(new.gradient)
    history.add(s, old, P.point(old.gradient - A @ s))  # no curvature
    assert history.count == size
    assert agrees(old.gradient - A @ s)
    P.matrix = np.diag(rng.uniform(0.5, 2, n))
    history.precondition(P)
    history.meet(P.point(old.gradient))
    assert agrees(old.gradient)
    split = 7  # a penalty on the first 7 parameters
    pairs = [(s, y + 0.3 * np.where(np.arange(n) < split, s, 0)) for s, y in pairs]
    history.penalize(Penalty(0.0, 0.3), split, P)
    history.meet(P.point(old.gradient))
    assert agrees(old.gradient)
    history.penalize(Penalty(0.0, -1e6), n, P)
    assert history.count == 0


@pytest.mark.parametrize("curve", ["quadratic", "quartic", "far", "near", "wall"])
def test_line_search_ends_at_a_wolfe_point(curve: str) -> None:
    functions = {
        "quadratic": (lambda t: (t - 3) ** 2, lambda t: 2 * (t - 3)),
        "quartic": (lambda t: (t - 0.01) ** 4, lambda t: 4 * (t - 0.01) ** 3),
        "far": (lambda t: math.hypot(1, t - 500), lambda t: (t - 500) / math.hypot(1, t - 500)),
        "near": (lambda t: 1e6 * (t - 1e-4) ** 2, lambda t: 2e6 * (t - 1e-4)),
        "wall": (
            lambda t: -t if t < 0.2 else math.nan,
            lambda t: -1.0 if t < 0.1 else (0.5 if t < 0.2 else math.nan),
        ),
    }  # fmt: skip
    f, slope = functions[curve]
    search, t = Search(f(0.0), slope(0.0), 1e-16, 0.9), 1.0
    for _ in range(25):
        if search.accepts(t, f(t), slope(t)):
            break
        t = search.next(t, f(t), slope(t))
    else:
        pytest.fail("no step was accepted")
    assert f(t) < f(0.0)
    assert abs(slope(t)) <= 0.9 * abs(slope(0.0))


def test_a_function_that_misleads_is_given_up() -> None:
    """The gradient points uphill: neither with a history nor without does a step help."""
    state = Lbfgs(np.ones(3), 3, Plain(np.eye(3)))

    def f(x: Array, g: Array) -> float:
        g[:] = -2 * x
        return float(x @ x)

    state.start(f(state.trial, state.trial_gradient))
    steps = state.steps()
    assert next(steps) is not NEXT
    trials = 0
    while not state.stalled:
        trials += 1
        with contextlib.suppress(StopIteration):
            steps.send(f(state.trial, state.trial_gradient))
    assert trials < 100
    assert state.point is not None
    assert np.array_equal(state.point.x, np.ones(3))
