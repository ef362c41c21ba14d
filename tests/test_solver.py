"""The solver against float64 NumPy, scikit-learn where it is installed, and its own promises."""

from __future__ import annotations

import contextlib
import itertools
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import csoftmax as cs
from csoftmax import _kernels, _precondition, _problem
from csoftmax._lbfgs import NEXT, History, Lbfgs, Point, Search
from csoftmax.data import DataError
from csoftmax.solver import ABSENT_BIAS, ConvergenceWarning, Solution, minimize

Array = NDArray[Any]


def table(
    n: int = 200, f: int = 6, k: int = 3, seed: int = 0, noise: float = 1.0
) -> tuple[Array, Array]:
    """Rows of features of different scales and means, labels from a noisy linear model."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, f)) @ rng.normal(size=(f, f))
    y = np.argmax(X @ rng.normal(size=(f, k)) + noise * rng.gumbel(size=(n, k)), axis=1)
    return X * np.logspace(-1, 1, f) + rng.normal(size=f), y


def objective(
    X: Array, y: Array, W: Array, b: Array, C: float = 1.0, weight: Array | None = None
) -> float:
    """scikit-learn's objective, written down in float64."""
    s = np.ones(len(y)) if weight is None else weight
    logits = X.astype(np.float64) @ W.T.astype(np.float64) + b
    logits -= logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(y)), y]
    penalty = 0.0 if math.isinf(C) else (W.astype(np.float64) ** 2).sum() / (2 * C * s.sum())
    return float((s * losses).sum() / s.sum() + penalty)


def optimum(X: Array, y: Array, k: int, C: float, weight: Array | None = None) -> Solution:
    return minimize(X.astype(np.float64), y, k, C=C, sample_weight=weight, tol=1e-13, max_iter=3000)


def same_bits(a: Solution, b: Solution) -> bool:
    fields = ("W", "b", "objective", "loss", "bound", "estimate", "gradient_max", "iterations")
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in fields)


@pytest.fixture
def small_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows in the sample, so that small problems take the way of large ones."""
    monkeypatch.setattr(_precondition, "SAMPLED_ROWS", 64)
    monkeypatch.setattr(_precondition, "LEAST_ROWS", 64)


# ---- what is minimised -------------------------------------------------------------------------


@pytest.mark.parametrize("C", [0.01, 1.0, 100.0, math.inf])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_gradient_vanishes_and_the_objective_is_that_of_float64(
    C: float, fit_intercept: bool
) -> None:
    X, y = table()
    solution = minimize(X, y, 3, C=C, fit_intercept=fit_intercept, tol=1e-12)
    W, b = solution.W[0], solution.b[0]
    best = objective(X, y, W, b, C)
    assert solution.converged.all()
    assert solution.objective[0] == pytest.approx(best, rel=1e-12)
    assert solution.loss[0] == pytest.approx(objective(X, y, W, b, math.inf), rel=1e-12)
    if not fit_intercept:
        assert not b.any()
    step = 1e-4
    for array in (W, b) if fit_intercept else (W,):
        for index in np.ndindex(array.shape):
            before = array[index]
            values = []
            for change in (step, -step):
                array[index] = before + change
                values.append(objective(X, y, W, b, C))
            array[index] = before
            assert abs(values[0] - values[1]) / (2 * step) < 1e-5
            assert min(values) >= best - 1e-12


def test_gradient_of_the_problem_is_that_of_finite_differences() -> None:
    X, y = table(40, 3, 3)
    weight = np.random.default_rng(1).uniform(0.5, 2, 40)
    problem = _problem.checked_problem(
        X, y, 3, C=0.5, scale=2.0, sample_weight=weight, weight_of_head=None, fit_intercept=True,
        n_threads=1,
    )  # fmt: skip
    x, g = np.random.default_rng(2).normal(size=(2, 12))
    (value,) = problem.evaluate([0], [x], [g])
    W, b = problem.parameters(x)
    assert value == pytest.approx(objective(2 * X, y, W, b, 0.5, weight), rel=1e-12)
    for i in range(12):
        difference = 0.0
        for sign in (1, -1):
            moved = x.copy()
            moved[i] += sign * 1e-6
            difference += sign * problem.evaluate([0], [moved], [np.empty(12)])[0]
        assert g[i] == pytest.approx(difference / 2e-6, abs=1e-7)


@pytest.mark.parametrize("C", [0.1, 1.0, 30.0])
def test_never_above_scikit_learn(C: float) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    X, y = table(300, 8, 4)
    theirs = linear_model.LogisticRegression(C=C, tol=1e-10, max_iter=10_000).fit(X, y)
    ours = minimize(X, y, 4, C=C, tol=1e-10)
    reached = objective(X, y, theirs.coef_, theirs.intercept_, C)
    assert ours.objective[0] <= reached * (1 + 1e-9)
    assert np.allclose(ours.W[0], theirs.coef_, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
def test_every_dtype_reaches_the_optimum_of_float64(dtype: type) -> None:
    rng = np.random.default_rng(3)
    X = rng.integers(0, 200, (400, 7)).astype(dtype)
    y = np.argmax(X[:, :3] + rng.gumbel(size=(400, 3)) * 60, axis=1)
    C = 1e-3
    solution = minimize(X, y, 3, C=C, tol=1e-6)
    best = optimum(X, y, 3, C).objective[0]
    assert solution.W.dtype == (np.float64 if dtype is np.float64 else np.float32)
    assert (
        best * (1 - 1e-6) <= objective(X, y, solution.W[0], solution.b[0], C) <= best * (1 + 1e-5)
    )


def test_pixels_need_no_scaling() -> None:
    train, _ = cs.fashion_mnist_sample()
    X = train.X.reshape(len(train), -1)
    raw = minimize(X, train.y, 10, C=1 / 255**2, tol=1e-4)
    scaled = minimize(X, train.y, 10, scale=1 / 255, tol=1e-4)
    assert raw.objective[0] == pytest.approx(scaled.objective[0], rel=2e-4)
    assert raw.iterations[0] <= scaled.iterations[0] * 1.1 + 5
    assert np.allclose(255 * raw.W, scaled.W, atol=0.05)


def test_scale_multiplies_X() -> None:
    X, y = table()
    a = minimize(X, y, 3, scale=0.25, tol=1e-12)
    b = minimize(0.25 * X, y, 3, tol=1e-12)
    assert a.objective[0] == pytest.approx(b.objective[0], rel=1e-12)
    assert np.allclose(a.W, b.W, rtol=1e-4, atol=1e-6)


# ---- weights -----------------------------------------------------------------------------------


def test_integer_weights_equal_repeated_rows() -> None:
    X, y = table()
    weight = np.random.default_rng(1).integers(0, 4, len(y))
    weighted = minimize(X, y, 3, sample_weight=weight, tol=1e-12)
    repeated = minimize(X.repeat(weight, axis=0), y.repeat(weight), 3, tol=1e-12)
    assert weighted.objective[0] == pytest.approx(repeated.objective[0], rel=1e-11)
    assert np.allclose(weighted.W, repeated.W, rtol=1e-4, atol=1e-6)


def test_only_the_ratios_of_weights_and_C_times_their_sum_matter() -> None:
    X, y = table()
    weight = np.random.default_rng(1).uniform(0.1, 3, len(y))
    a = minimize(X, y, 3, C=1.0, sample_weight=weight, tol=1e-12)
    b = minimize(X, y, 3, C=0.25, sample_weight=4 * weight, tol=1e-12)
    assert a.objective[0] == pytest.approx(b.objective[0], rel=1e-12)
    assert a.objective[0] == pytest.approx(objective(X, y, a.W[0], a.b[0], 1.0, weight), rel=1e-12)


def test_rows_of_weight_0_may_hold_anything() -> None:
    X, y = table()
    weight = np.ones(len(y))
    weight[50:60] = 0
    clean = minimize(X, y, 3, sample_weight=weight)
    X[50:60] = math.nan
    assert same_bits(minimize(X, y, 3, sample_weight=weight), clean)


def test_a_class_missing_in_a_fold_gets_probability_0() -> None:
    X, y = table(300, 5, 4)
    weights = np.ones((2, 300))
    weights[1, y == 2] = 0
    solution = minimize(X, y, 4, sample_weight=weights, tol=1e-10)
    kept = y != 2
    labels = np.array([0, 1, -1, 2])[y[kept]]
    three = minimize(X[kept], labels, 3, tol=1e-10)
    assert solution.b[1, 2] == ABSENT_BIAS
    assert not solution.W[1, 2].any()
    assert solution.objective[1] == pytest.approx(three.objective[0], rel=1e-9)
    assert np.isfinite(solution.bound).all()
    assert (solution.bound < 1e-3).all()


# ---- heads -------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("path", [False, True])
def test_heads_have_the_bits_they_have_alone(
    path: bool, sampled: bool, request: pytest.FixtureRequest
) -> None:
    if sampled:
        request.getfixturevalue("small_sample")
    X, y = table(400, 6, 3)
    folds = np.arange(400) % 3
    weights = np.stack([(folds != fold).astype(float) for fold in range(3)])
    Cs = [0.1, 10.0]
    together = minimize(
        X.astype(np.float32), y, 3, C=np.tile(Cs, 3), sample_weight=weights,
        weight_of_head=np.repeat(np.arange(3), 2), path=path,
    )  # fmt: skip
    assert together.converged.all()
    assert together.n_passes < together.passes.sum() + 2
    for fold in range(3):
        heads = slice(2 * fold, 2 * fold + 2)
        if path:
            alone = minimize(
                X.astype(np.float32), y, 3, C=Cs, sample_weight=weights[fold], path=True
            )
            assert np.array_equal(alone.W, together.W[heads])
            assert np.array_equal(alone.b, together.b[heads])
            continue
        for head in range(heads.start, heads.stop):
            alone = minimize(
                X.astype(np.float32), y, 3, C=Cs[head - heads.start], sample_weight=weights[fold]
            )
            assert np.array_equal(alone.W[0], together.W[head])
            assert alone.iterations[0] == together.iterations[head]


def test_a_path_ends_where_separate_fits_do() -> None:
    X, y = table(300, 6, 3)
    Cs = np.logspace(-3, 3, 7)[::-1]  # any order
    path = minimize(X, y, 3, C=Cs, path=True, tol=1e-9)
    apart = minimize(X, y, 3, C=Cs, tol=1e-9)
    assert np.allclose(path.objective, apart.objective, rtol=1e-7)
    assert (np.diff(path.loss) > 0).all()
    assert path.passes.sum() < apart.passes.sum()
    rough = minimize(X, y, 3, C=np.sort(Cs), path=True, tol=1e-2)
    assert (np.diff(rough.objective) <= 0).all()  # never worse than the weights of the C before


def test_a_path_may_have_equal_and_infinite_C() -> None:
    X, y = table(300, 4, 3, noise=4.0)
    Cs = [1.0, math.inf, 1.0, 10.0, math.inf]
    path = minimize(X, y, 3, C=Cs, path=True, tol=1e-9)
    assert path.converged.all()
    assert np.allclose(path.objective, minimize(X, y, 3, C=Cs, tol=1e-9).objective, rtol=1e-8)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_same_bits_for_any_number_of_threads(dtype: type) -> None:
    rng = np.random.default_rng(0)
    X = rng.integers(0, 255, (3000, 40)).astype(dtype)
    y = np.argmax(X[:, :8] + rng.gumbel(size=(3000, 8)) * 80, axis=1)
    options: dict[str, Any] = {"C": [1e-4, 1e-3], "tol": 1e-5}
    first = minimize(X, y, 8, n_threads=1, **options)
    for n_threads in (2, 3, 8):
        assert same_bits(minimize(X, y, 8, n_threads=n_threads, **options), first)


# ---- how far it is -----------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::csoftmax.solver.ConvergenceWarning")  # 1e-12 is rounding
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_bound_is_never_below_the_distance(seed: int, fit_intercept: bool) -> None:
    """At the start, on the way, at random points and at the optimum; imbalanced classes too."""
    rng = np.random.default_rng(seed)
    X, y = table(150, 5, 4, seed, noise=0.3 + seed)
    weight = rng.uniform(0, 2, 150) * np.where(y == 1, 0.02, 1.0)
    for C in (1e-3, 0.1, 1.0, 100.0):
        best = minimize(
            X, y, 4, C=C, sample_weight=weight, fit_intercept=fit_intercept, tol=1e-12,
            max_iter=3000,
        )  # fmt: skip
        assert best.estimate[0] <= 1e-11 * best.objective[0]
        problem = _problem.checked_problem(
            X, y, 4, C=C, scale=1.0, sample_weight=weight, weight_of_head=None,
            fit_intercept=fit_intercept, n_threads=1,
        )  # fmt: skip
        null, _, _ = problem.null_point(0)
        x_best = np.concatenate([best.W[0].reshape(-1), best.b[0]])
        lower = []
        for mix in (0.0, 0.1, 0.5, 0.9, 0.99, 1.0):
            for disturbance in (0.0, 1e-3, 0.3):
                x = (1 - mix) * null + mix * x_best
                x += disturbance * rng.normal(size=len(x))
                if not fit_intercept:
                    x[problem.split :] = 0
                g = np.empty_like(x)
                (value,) = problem.evaluate([0], [x], [g])
                lower.append(problem.lower_bound(0, x, value, g))
                assert lower[-1] <= best.objective[0] * (1 + 1e-12)
        assert best.bound[0] <= 1e-5 * best.objective[0]
        assert max(lower) >= best.objective[0] - 1e-3  # and it says something


def test_bound_holds_in_float32_up_to_rounding() -> None:
    X, y = table(500, 6, 3)
    X = X.astype(np.float32)
    for C in (0.01, 1.0, 100.0):
        best = optimum(X, y, 3, C).objective[0]
        for tol in (1e-1, 1e-3, 1e-5):
            solution = minimize(X, y, 3, C=C, tol=tol)
            assert solution.objective[0] - solution.bound[0] <= best * (1 + 1e-6)


def test_bound_without_penalty_is_infinite() -> None:
    X, y = table(noise=3.0)
    assert minimize(X, y, 3, C=math.inf).bound[0] == math.inf


@pytest.mark.parametrize("seed", range(4))
def test_estimate_tells_the_distance(seed: int) -> None:
    X, y = table(500, 10, 4, seed)
    best = optimum(X, y, 4, 1.0).objective[0]
    for tol in (1e-2, 1e-4, 1e-6):
        solution = minimize(X, y, 4, tol=tol)
        assert solution.converged.all()
        assert solution.objective[0] / best - 1 <= 3 * tol


@pytest.mark.parametrize("path", [False, True])
def test_estimate_tells_the_distance_where_it_is_hard_to_come_by(path: bool) -> None:
    """Features over decades that tell little each, weak penalties: the decrease crawls."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(600, 60)) * np.logspace(0, -2, 60) @ rng.normal(size=(60, 60))
    y = np.argmax(X @ rng.normal(size=(60, 5)) + 0.3 * rng.gumbel(size=(600, 5)), axis=1)
    C = np.logspace(-2, 4, 13)
    best = minimize(X, y, 5, C=C, path=True, tol=1e-10, max_iter=5000).objective
    for preconditioner in ("full", None):
        for tol in (1e-2, 1e-3):
            solution = minimize(
                X, y, 5, C=C, path=path, tol=tol, max_iter=5000, preconditioner=preconditioner
            )
            distance = solution.objective / best - 1
            assert solution.converged.all()
            assert (distance <= 1.5 * tol).mean() >= 0.9
            assert distance.max() <= 4 * tol


def test_preconditioners_are_symmetric_and_take_vectors_together(small_sample: None) -> None:
    X, y = table(400, 8, 4)
    X[:, 3] *= 1e-8
    lam = 1e-9
    for dtype in (np.float64, np.float32):
        problem = _problem.checked_problem(
            X.astype(dtype), y, 4, C=1.0, scale=1.0, sample_weight=None, weight_of_head=None,
            fit_intercept=True, n_threads=2,
        )  # fmt: skip
        rng, tolerance = np.random.default_rng(0), 100 * np.finfo(dtype).eps
        x, _, _ = problem.null_point(0)
        sample = _precondition.Sample(problem, 0, "full").for_penalty(lam)
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
        curvature = _precondition.Curvature(sample, x)
        for P in (_precondition.AtNull(sample, lam), _precondition.AtWeights(curvature, lam)):
            together = P(vectors)
            for v, product in zip(vectors, together, strict=True):
                assert np.abs(product - P(v)).max() <= tolerance * np.abs(product).max()
            products = vectors @ together.T
            assert np.abs(products - products.T).max() <= tolerance * np.abs(products).max()
            assert (np.diagonal(products) > 0).all()


def test_history_has_an_entry_for_each_iteration() -> None:
    X, y = table()
    solution = minimize(X, y, 3)
    (history,) = solution.history
    assert {len(values) for values in history.values()} == {int(solution.iterations[0]) + 1}
    assert history["objective"][-1] == solution.objective[0]
    assert history["passes"][-1] == solution.passes[0]
    assert history["gradient_max"][-1] == pytest.approx(solution.gradient_max[0])
    assert np.diff(history["objective"]).max() <= 1e-12
    assert np.diff(history["seconds"]).min() >= 0


# ---- stops -------------------------------------------------------------------------------------


def test_stopping_early_says_how_far_and_how_long() -> None:
    X, y = table(500, 12, 5)
    with pytest.warns(
        ConvergenceWarning,
        match=r"% above the optimum by estimate after \d+ passes; about \d+ more to reach 1e-08 %",
    ):
        solution = minimize(X, y, 5, tol=1e-10, max_iter=12)
    assert not solution.converged[0]
    assert solution.iterations[0] == 12
    with pytest.warns(ConvergenceWarning, match="1 of 2 heads have not converged, the worst is"):
        minimize(X, y, 5, C=[1e-6, 1.0], tol=1e-6, max_iter=3)


def test_separable_data_without_penalty_ends_with_a_warning() -> None:
    X = np.array([[-2.0, 1.0], [-1.0, 0.0], [1.0, 0.5], [2.0, -1.0]])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        solution = minimize(X, [0, 0, 1, 1], 2, C=math.inf, max_iter=60)
    assert solution.objective[0] < 1e-3
    assert np.isfinite(solution.W).all()
    warned = any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
    assert warned or solution.objective[0] < 1e-300


def test_what_float32_cannot_tell_apart_is_left() -> None:
    X, y = table(300, 6, 3)
    X = X.astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        solution = minimize(X, y, 3, tol=0.0)
    best = optimum(X, y, 3, 1.0).objective[0]
    assert solution.objective[0] == pytest.approx(best, rel=1e-6)


def test_a_step_that_rounding_forbids_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Search, "accepts", lambda self, t, objective, slope: False)
    X, y = table()
    with pytest.warns(ConvergenceWarning, match="the rounding of float64 allows no further step"):
        solution = minimize(X, y, 3)
    assert not solution.converged[0]
    assert solution.iterations[0] == 0


def test_callback_stops_and_is_told() -> None:
    X, y = table()
    seen = []

    def callback(progress: Any) -> bool:
        W, b = progress.parameters(0)
        seen.append((progress.n_passes, progress.objective[0], W.shape, b.shape))
        return len(seen) == 4

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solution = minimize(X, y, 3, tol=1e-12, callback=callback)
    assert len(seen) == 4
    assert seen[-1][2:] == ((3, 6), (3,))
    assert solution.objective[0] == seen[-1][1]
    assert not solution.converged[0]


def test_verbose_prints_a_line_per_pass(capsys: pytest.CaptureFixture[str]) -> None:
    X, y = table()
    minimize(X, y, 3, verbose=1)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("pass ")
    assert "0 of 1 heads running" in lines[-1]


class InterruptedPass:
    """Row passes; Ctrl-C hits after so many of those with a gradient."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, n: int) -> None:
        self.left, self.row_pass = n, _kernels.row_pass
        monkeypatch.setattr(_problem._kernels, "row_pass", self)

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.left -= options.get("gradient") is not None
        if self.left == 0:
            raise KeyboardInterrupt
        return self.row_pass(*args, **options)


def test_steep_gradients_go_on_up_to_a_hundredth_of_tol() -> None:
    X, y = table()
    loose = minimize(X, y, 3, tol=1e-2)
    flat = minimize(X, y, 3, tol=1e-2, gradient_tol=1e-3 * loose.gradient_max[0])
    assert loose.converged[0]
    assert flat.converged[0]
    assert flat.iterations[0] > loose.iterations[0]
    assert flat.gradient_max[0] <= 1e-3 * loose.gradient_max[0] or flat.estimate[0] <= 1e-4
    scaled = minimize(1e6 * X, y, 3, tol=1e-2, gradient_tol=1e-2)  # and so is its gradient
    assert scaled.converged[0]
    assert scaled.gradient_max[0] > 1e-2
    assert scaled.estimate[0] <= 1e-4 * scaled.objective[0]
    with pytest.warns(ConvergenceWarning, match=r"more to reach 0.01 %"):
        minimize(X, y, 3, tol=1e-2, gradient_tol=0, max_iter=int(loose.iterations[0]) + 1)


@pytest.mark.parametrize("n", [3, 4, 9])
def test_interruption_returns_the_best_so_far(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = table()
    null = minimize(X, y, 3, callback=lambda progress: True)
    InterruptedPass(monkeypatch, n)
    with pytest.warns(ConvergenceWarning, match="interrupted after"):
        solution = minimize(X, y, 3, tol=1e-12)
    W, b = solution.W[0], solution.b[0]
    assert solution.objective[0] == pytest.approx(objective(X, y, W, b), rel=1e-12)
    assert solution.objective[0] <= null.objective[0]
    assert not solution.converged[0]


# ---- checkpoints -------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [False, True])
@pytest.mark.parametrize("sampled", [False, True])
def test_resumed_to_the_same_bits(
    path: bool, sampled: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if sampled:
        request.getfixturevalue("small_sample")
    X, y = table(400, 8, 4)
    X = X.astype(np.float32)
    options: dict[str, Any] = {"C": [0.1, 1.0, 10.0], "path": path, "tol": 1e-6}
    whole = minimize(X, y, 4, **options)
    file = tmp_path / "state.safetensors"
    for n, parts in itertools.product((4, 11, 14), (False, True)):
        file.unlink(missing_ok=True)
        with pytest.MonkeyPatch.context() as patch:
            InterruptedPass(patch, n + 4 * sampled)
            with pytest.warns(ConvergenceWarning, match="interrupted"):
                minimize(X, y, 4, checkpoint=file, checkpoint_every=0 if parts else 60, **options)
        if n == 4:  # a pass over all rows
            assert file.exists() or sampled
        resumed = minimize(X, y, 4, checkpoint=file, **options)
        assert same_bits(resumed, whole)
        assert np.array_equal(resumed.passes, whole.passes)
        for ours, theirs in zip(resumed.history, whole.history, strict=True):
            assert ours["objective"] == theirs["objective"]


def test_resumed_to_the_same_bits_where_blas_would_use_its_threads(tmp_path: Path) -> None:
    """In float64, with a decomposition large enough for several: float32 would hide the rounding."""
    X, y = table(2000, 300, 10)
    options: dict[str, Any] = {"tol": 1e-8, "preconditioner": "full"}
    whole = minimize(X, y, 10, **options)
    file = tmp_path / "state.safetensors"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        minimize(X, y, 10, checkpoint=file, **{**options, "max_iter": 5})
    assert same_bits(minimize(X, y, 10, checkpoint=file, **options), whole)


def test_a_finished_checkpoint_is_taken_further(tmp_path: Path) -> None:
    X, y = table()
    file = tmp_path / "state.safetensors"
    minimize(X, y, 3, tol=1e-2, checkpoint=file)
    further = minimize(X, y, 3, tol=1e-8, checkpoint=file)
    assert same_bits(further, minimize(X, y, 3, tol=1e-8))
    assert same_bits(further, minimize(X, y, 3, tol=1e-8, checkpoint=file))


def test_a_checkpoint_of_another_problem_is_refused(tmp_path: Path) -> None:
    X, y = table()
    file = tmp_path / "state.safetensors"
    minimize(X, y, 3, checkpoint=file)
    content = file.read_bytes()
    other = X.copy()
    other[-1, -1] += 1e-9
    for arguments, options in (
        ((other, y), {}),
        ((X, (y + 1) % 3), {}),
        ((X, y), {"C": 2.0}),
        ((X, y), {"sample_weight": np.ones(len(y))}),
        ((X, y), {"history_size": 4}),
        ((X, y), {"W": np.ones((1, 3, 6))}),
    ):
        with pytest.raises(DataError, match="of another problem"):
            minimize(*arguments, 3, checkpoint=file, **options)  # type: ignore[arg-type]
        assert file.read_bytes() == content
    file.write_bytes(b"something else")
    with pytest.raises(DataError, match="expected a checkpoint"):
        minimize(X, y, 3, checkpoint=file)
    cs.SoftmaxRegression(3, 2).save(file)
    with pytest.raises(DataError, match="expected a checkpoint of the solver"):
        minimize(X, y, 3, checkpoint=file)


# ---- hard problems -----------------------------------------------------------------------------


def test_constant_duplicated_and_single_features() -> None:
    X, y = table()
    best = optimum(X, y, 3, 1.0)
    odd = np.concatenate([X, np.full((len(X), 1), 7.0), np.zeros((len(X), 1))], axis=1)
    solution = minimize(odd, y, 3, tol=1e-10)
    assert solution.objective[0] == pytest.approx(best.objective[0], rel=1e-8)
    assert np.abs(solution.W[0, :, 6:]).max() < 1e-6
    twice = minimize(np.concatenate([X, X], axis=1), y, 3, C=0.5, tol=1e-11)
    assert twice.objective[0] == pytest.approx(best.objective[0], rel=1e-8)
    assert np.allclose(twice.W[0, :, :6], twice.W[0, :, 6:])
    free = minimize(np.concatenate([odd, X], axis=1), y, 3, C=math.inf, tol=1e-10)
    unpenalised = optimum(X, y, 3, math.inf).objective[0]
    assert free.objective[0] == pytest.approx(unpenalised, rel=1e-7)
    single = minimize(X[:, :1], y, 3, tol=1e-10)
    assert single.converged.all()


def test_features_over_ten_decades() -> None:
    X, y = table(600, 10, 3)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    scales = np.logspace(-5, 5, 10)
    best = minimize(X, y, 3, C=math.inf, tol=1e-10).objective[0]
    solution = minimize(X * scales, y, 3, C=1e16, tol=1e-6)
    assert solution.iterations[0] < 100
    assert best <= solution.objective[0] <= best * (1 + 1e-3)


def test_two_classes_and_one() -> None:
    X, y = table(200, 4, 2)
    solution = minimize(X, y, 2, tol=1e-10)
    assert np.allclose(solution.W[0, 0], -solution.W[0, 1])
    one = minimize(X, np.zeros(200, int), 1)
    assert one.objective[0] == 0
    assert one.converged.all()
    assert not one.W.any()


def test_a_thousand_classes() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(1000, 16)) * 2
    y = np.arange(4000) % 1000
    X = (centres[y] + rng.normal(size=(4000, 16))).astype(np.float32)
    solution = minimize(X, y, 1000, C=0.1, tol=1e-3)
    assert solution.converged.all()
    assert solution.bound[0] < 0.5 * solution.objective[0]
    best = minimize(X, y, 1000, C=0.1, tol=1e-6).objective[0]
    assert solution.objective[0] <= best * (1 + 3e-3)


def test_imbalanced_classes_in_a_sample_that_misses_some(small_sample: None) -> None:
    rng = np.random.default_rng(0)
    y = np.zeros(2000, np.int64)
    y[:4], y[4:30] = 2, 1
    X = rng.normal(size=(2000, 5)) + y[:, None]
    solution = minimize(X, y, 3, tol=1e-9)
    assert solution.converged.all()
    assert solution.objective[0] == pytest.approx(optimum(X, y, 3, 1.0).objective[0], rel=1e-8)


def test_more_features_than_rows_and_many_features() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 400)), np.arange(30) % 3
    full = minimize(X, y, 3, tol=1e-8, preconditioner="full")
    diagonal = minimize(X, y, 3, tol=1e-8)  # "auto": not worth 400^3
    assert full.objective[0] == pytest.approx(diagonal.objective[0], rel=1e-7)


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


def test_large_values_start_and_finish() -> None:
    X, y = table()
    solution = minimize(1e8 * X, y, 3, tol=1e-8)
    assert solution.converged.all()
    assert solution.objective[0] < minimize(X, y, 3).objective[0] * (1 + 1e-6)


def test_memory_map_strides_and_byte_order(tmp_path: Path) -> None:
    X, y = table(300, 6, 3)
    X = X.astype(np.float32)
    expected = minimize(X, y, 3)
    mapped = np.memmap(tmp_path / "X", np.float32, "w+", shape=X.shape)
    mapped[:] = X
    wide = np.zeros((300, 12), np.float32)
    wide[:, ::2] = X
    for view in (mapped, wide[:, ::2], X.astype(">f4"), np.asfortranarray(X)):
        assert same_bits(minimize(view, y, 3), expected)


def test_warm_start_begins_where_it_is_told() -> None:
    X, y = table()
    first = minimize(X, y, 3, tol=1e-9)
    shifted = first.W + np.random.default_rng(0).normal(size=6)  # the same for all classes
    again = minimize(X, y, 3, tol=1e-6, W=shifted, b=first.b + 3)
    assert again.iterations[0] <= 1
    assert again.objective[0] == pytest.approx(first.objective[0], rel=1e-8)
    assert np.allclose(again.W, first.W, atol=1e-6)


# ---- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_bad_values_are_named(value: float, dtype: type) -> None:
    X, y = table()
    X = X.astype(dtype)
    X[17, 3] = value
    with pytest.raises(ValueError, match=rf"X\[17, 3\] is {value}, expected finite"):
        minimize(X, y, 3)


def test_overflow_is_not_blamed_on_a_value() -> None:
    X = np.full((100, 2), 3e38, np.float32)
    with pytest.raises(ValueError, match="overflow"):
        minimize(X, np.arange(100) % 2, 2, scale=1e30)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"C": 0.0}, ValueError, "C is 0.0, expected a number > 0"),
        ({"C": [1.0, math.nan]}, ValueError, "C is nan"),
        ({"C": [[1.0]]}, ValueError, r"C has shape \(1, 1\)"),
        ({"C": "1"}, TypeError, "C has dtype"),
        ({"tol": "small"}, TypeError, "tol is a str"),
        ({"tol": math.nan}, ValueError, "tol is nan"),
        ({"tol": -1e-3}, ValueError, "tol is -0.001, expected a number >= 0"),
        ({"gradient_tol": -1}, ValueError, "gradient_tol is -1, expected a number >= 0"),
        ({"max_iter": 0}, ValueError, "max_iter is 0"),
        ({"history_size": 0}, ValueError, "history_size is 0"),
        ({"preconditioner": "best"}, ValueError, "preconditioner is 'best'"),
        ({"n_threads": 0}, ValueError, "n_threads is 0"),
        ({"scale": math.inf}, ValueError, "scale is inf"),
        ({"sample_weight": np.ones(3)}, ValueError, r"sample_weight has shape \(3,\)"),
        ({"sample_weight": -np.ones(200)}, ValueError, r"sample_weight\[0\] is -1.0"),
        ({"sample_weight": np.zeros(200)}, ValueError, "sums to 0"),
        ({"weight_of_head": [0, 1]}, ValueError, r"weight_of_head\[1\] is 1"),
        (
            {"sample_weight": np.ones((2, 200)), "C": [1.0, 2.0, 3.0]},
            ValueError,
            "C has 3 values for 2 heads",
        ),
        ({"W": np.zeros((3, 6))}, ValueError, r"W has shape \(3, 6\), expected \(1, 3, 6\)"),
        ({"b": np.full((1, 3), math.nan)}, ValueError, "b has a NaN"),
        ({"callback": 3}, TypeError, "callback is a int"),
        ({"checkpoint_every": "1"}, TypeError, "checkpoint_every is a str"),
    ],
)
def test_bad_arguments_are_named(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    X, y = table()
    with pytest.raises(error, match=message):
        minimize(X, y, 3, **options)


def test_bad_data_is_named() -> None:
    X, y = table()
    with pytest.raises(ValueError, match=r"y\[0\] is 5"):
        minimize(X, np.full(200, 5), 3)
    with pytest.raises(ValueError, match="y has 100 labels but there are 200 samples"):
        minimize(X, y[:100], 3)
    with pytest.raises(ValueError, match="X has 0 rows"):
        minimize(X[:0], y[:0], 3)
    with pytest.raises(ValueError, match="n_classes is 0"):
        minimize(X, y, 0)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        minimize(X, y, 3, checkpoint="/no/such/folder/file")


# ---- the parts ---------------------------------------------------------------------------------


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
    history = History(size, n, np.dtype(np.float64))
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
    history.penalize(0.3, split, P)
    history.meet(P.point(old.gradient))
    assert agrees(old.gradient)
    history.penalize(-1e6, n, P)
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
    search, t = Search(f(0.0), slope(0.0), 1e-16), 1.0
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
