"""Approximate inverse Hessians, and what they are worth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from solver_cases import table

from csoftmax.solver import hessians, minimize
from csoftmax.solver.arguments import checked_problem
from csoftmax.solver.penalty import Penalty
from csoftmax.solver.sample import Sample


def test_preconditioners_are_symmetric_and_take_vectors_together(small_sample: None) -> None:
    X, y = table(400, 8, 4)
    X[:, 3] *= 1e-8
    penalty = Penalty(0.0, 1e-9)
    for dtype in (np.float64, np.float32):
        problem = checked_problem(
            X.astype(dtype), y, 4, C=1.0, scale=1.0, sample_weight=None, weight_of_head=None,
            fit_intercept=True, n_threads=2,
        )  # fmt: skip
        rng, tolerance = np.random.default_rng(0), 100 * np.finfo(dtype).eps
        x, _, _ = problem.null_point(0)
        sample = Sample(problem, 0, "full").for_penalty(penalty)
        assert (sample.unit != 1).any() == (dtype == np.float32)  # uneven in single precision
        vectors = rng.normal(size=(5, len(x))).astype(dtype)
        for vector in vectors:  # as gradients: the classes' sum to 0
            for part in problem.parameters(vector):
                part -= part.mean(axis=0)
        step, out = vectors[4], np.empty_like(x)
        sample.expand(step, out)
        for gradient in vectors:  # expand is the transpose of reduce
            size = np.linalg.norm(gradient) * np.linalg.norm(out)
            assert abs(gradient @ out - sample.reduce(gradient) @ step) <= tolerance * size
        x += rng.normal(size=len(x)).astype(dtype)
        curvature = hessians.Curvature(sample, x)
        for P in (hessians.AtNull(sample, penalty), hessians.AtWeights(curvature, penalty)):
            together = P(vectors)
            for v, product in zip(vectors, together, strict=True):
                assert np.abs(product - P(v)).max() <= tolerance * np.abs(product).max()
            products = vectors @ together.T
            assert np.abs(products - products.T).max() <= tolerance * np.abs(products).max()
            assert (np.diagonal(products) > 0).all()


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("preconditioner", ["full", "diagonal", None])
def test_every_preconditioner_ends_at_the_same_optimum(
    preconditioner: str | None, fit_intercept: bool
) -> None:
    X, y = table(300, 6, 3)
    options: dict[str, Any] = {"C": 100.0, "fit_intercept": fit_intercept, "max_iter": 5000}
    best = minimize(X, y, 3, tol=1e-13, **options).objective[0]
    solution = minimize(X, y, 3, tol=1e-9, preconditioner=preconditioner, **options)
    assert solution.iterations[0] > 8  # the preconditioner has been computed anew
    assert solution.objective[0] == pytest.approx(best, rel=1e-7)


def test_preconditioning_pays() -> None:
    X, y = table(500, 30, 4)
    passes = [
        minimize(X, y, 4, tol=1e-3, max_iter=5000, preconditioner=kind).passes[0]
        for kind in ("full", "diagonal", None)
    ]
    assert passes[0] < passes[1] < passes[2]


def test_a_class_of_hardly_any_weight_has_a_direction_of_its_own() -> None:
    X, y = table(200, 4, 4)
    y[y == 3] = 0  # does not occur
    weight = np.where(y == 2, 1e-11, 1.0)
    problem = checked_problem(
        X, y, 4, C=1.0, scale=1.0, sample_weight=weight, weight_of_head=None, fit_intercept=True,
        n_threads=1,
    )  # fmt: skip
    none = Penalty(0.0, 0.0)
    P = hessians.AtNull(Sample(problem, 0, "full").for_penalty(none), none)
    assert P.U.shape == (4, 2)
    assert np.abs(P.U[2]).max() > 0.5
    assert not np.abs(P.U[3]).max() > 1e-12
    assert np.isfinite(P.inverse).all()


@pytest.mark.parametrize("preconditioner", ["full", "diagonal"])
def test_columns_far_from_0_are_not_constant_however_many_rows(preconditioner: str) -> None:
    """Once the bound on what counts as constant grew with the rows, and froze such columns."""
    rng = np.random.default_rng(0)
    z, wide = rng.normal(size=(2, 200_000)).astype(np.float32)
    y = (z + 0.3 * rng.normal(size=200_000) > 0).astype(int)
    X = np.column_stack([z + np.float32(9000), 1e4 * wide]).astype(np.float32)
    centred = np.column_stack([X[:, 0] - np.float32(9000), X[:, 1]])
    best = minimize(centred, y, 2).objective[0]
    solution = minimize(X, y, 2, preconditioner=preconditioner)
    assert solution.objective[0] == pytest.approx(best, rel=1e-3)
