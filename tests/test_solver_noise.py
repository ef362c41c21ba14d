"""``tol="sampling"``: heads stop where what is left to gain is less than the chance in the rows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse
from solver_cases import optimum, same_bits, table

from csoftmax.solver import minimize, newton
from csoftmax.solver.stopping import SHARE_OF_NOISE

Array = NDArray[Any]
ROWS = 4000


def noise_of(X: Array, y: Array, W: Array, b: Array, weight: Array | None = None) -> float:
    """``tr(H^-1 G) / 2`` without a penalty, written down: G is the covariance of the gradient.

    The coordinates are those of a model whose first class has no parameters.
    """
    logits = X @ W.T + b
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    s = np.ones(len(X)) if weight is None else weight
    Z = np.append(X, np.ones((len(X), 1)), axis=1)
    rest = (p - np.eye(len(b))[y])[:, 1:]
    gradients = (rest[:, :, None] * Z[:, None, :]).reshape(len(X), -1) * (s / s.sum())[:, None]
    curvature = p[:, 1:, None] * (np.eye(len(b) - 1) - p[:, None, 1:])
    H = np.einsum("i,ikl,ia,ib->kalb", s / s.sum(), curvature, Z, Z, optimize=True)
    G = gradients.T @ gradients - np.outer(gradients.sum(axis=0), gradients.sum(axis=0)) / len(X)
    return 0.5 * float(np.trace(np.linalg.solve(H.reshape(len(G), -1), G)))


@pytest.fixture(scope="module")
def rows() -> tuple[Array, Array]:
    return table(ROWS, 8, 4, noise=2.0)


@pytest.mark.parametrize("way", ["newton", "lbfgs", "sample", "sparse"])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_noise_is_what_the_formula_says(
    rows: tuple[Array, Array], way: str, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = rows
    weight = np.random.default_rng(1).integers(0, 4, ROWS) / 8.0 if weighted else None
    options: dict[str, Any] = {"C": math.inf, "sample_weight": weight, "tol": "sampling"}
    if way == "sample":
        options["sample_rows"] = 2000
    if way == "sparse":
        monkeypatch.setattr("csoftmax.solver.arguments.is_dense_enough", lambda X, n: False)
    if way == "lbfgs":
        monkeypatch.setattr(newton, "suits", lambda *sizes: False)
    given = sparse.csr_array(X) if way == "sparse" else X
    found = minimize(given, y, 4, **options)
    assert found.converged.all()
    best = minimize(X, y, 4, C=math.inf, sample_weight=weight, tol=1e-12)
    expected = noise_of(X, y, best.W[0], best.b[0], weight)
    assert found.noise[0] == pytest.approx(expected, rel=0.15)
    above = found.objective[0] - best.objective[0]
    # the estimates of L-BFGS may be too low at a rough stop, those of sparse rows more so
    miss = {"lbfgs": 2.0, "sparse": 5.0}.get(way, 1.0)
    assert 0 < above <= miss * SHARE_OF_NOISE * found.noise[0]
    assert found.n_passes < minimize(given, y, 4, **{**options, "tol": 1e-9}).n_passes


def test_the_expected_size(rows: tuple[Array, Array]) -> None:
    """Labels drawn from the model itself: G is H, and the noise n_parameters / (2 n)."""
    X, y = rows
    found = minimize(X, y, 4, C=math.inf, tol="sampling")
    assert found.noise[0] == pytest.approx(3 * 9 / (2 * ROWS), rel=0.2)


def test_multiples_of_the_weights_make_no_difference(rows: tuple[Array, Array]) -> None:
    X, y = rows
    weight = np.random.default_rng(2).random(ROWS)
    one = minimize(X, y, 4, sample_weight=weight, tol="sampling")
    other = minimize(X, y, 4, C=0.25, sample_weight=weight * 4, tol="sampling")
    assert other.noise[0] == pytest.approx(one.noise[0], rel=1e-9)
    assert other.n_passes == one.n_passes


def test_sorted_rows_have_the_noise_of_shuffled_ones(rows: tuple[Array, Array]) -> None:
    X, y = rows
    order = np.argsort(y, kind="stable")
    one, other = (minimize(X[o], y[o], 4, tol="sampling") for o in (slice(None), order))
    assert other.noise[0] == pytest.approx(one.noise[0], rel=0.1)


def test_every_head_has_its_own(rows: tuple[Array, Array]) -> None:
    X, y = rows
    weights = np.ones((2, ROWS))
    weights[1, ROWS // 4 :] = 0
    found = minimize(X, y, 4, C=[1.0, 4.0], sample_weight=weights, tol="sampling", path=True)
    assert found.converged.all()
    assert found.noise[1] == pytest.approx(4 * found.noise[0], rel=0.4)
    plain = minimize(X, y, 4)
    assert np.isnan(plain.noise).all()


def test_absent_classes_soft_labels_and_pixels() -> None:
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (3000, 30)).astype(np.uint8)
    y = (X.astype(float) @ rng.normal(size=(30, 4)) + 300 * rng.gumbel(size=(3000, 4))).argmax(1)
    y[y == 3] = 0
    soft = 0.9 * np.eye(5)[y] + 0.02
    for target, n_classes in ((y, 5), (soft, 5)):
        best = minimize(X, target, n_classes, C=0.01, scale=1 / 255, tol=1e-7)
        found = minimize(X, target, n_classes, C=0.01, scale=1 / 255, tol="sampling")
        assert found.converged.all()
        assert found.objective[0] - best.objective[0] <= SHARE_OF_NOISE * found.noise[0]


def test_few_rows_do_not_stop_at_once() -> None:
    """Nearly as many parameters as rows: the noise is large, but most of the gain is made."""
    X, y = table(40, 8, 4)
    found = minimize(X, y, 4, tol="sampling")
    best = optimum(X, y, 4, 1.0)
    null = minimize(X, y, 4, max_iter=0, warns=False).objective[0]
    assert found.noise[0] > 0.03
    assert found.objective[0] - best.objective[0] <= 0.02 * (null - best.objective[0])
    for n in (1, 2):
        assert minimize(X[:n], y[:n], 4, tol="sampling", warns=False).status[0] in (
            "converged", "stalled",
        )  # fmt: skip


def test_resumed_and_on_threads_to_the_same_bits(
    rows: tuple[Array, Array], tmp_path: Path, free_threads: None
) -> None:
    X, y = rows[0].astype(np.float32), rows[1]
    whole = minimize(X, y, 4, tol="sampling", preconditioner="full", n_threads=1)
    assert same_bits(whole, minimize(X, y, 4, tol="sampling", preconditioner="full", n_threads=4))
    file = tmp_path / "state.safetensors"
    options: dict[str, Any] = {"tol": "sampling", "preconditioner": "full", "checkpoint": file}
    for _ in range(3):
        minimize(X, y, 4, callback=lambda progress: progress.n_passes >= 4, **options)
        resumed = minimize(X, y, 4, **options)
        assert same_bits(resumed, whole)
        assert resumed.noise[0] == whole.noise[0]


def test_refusals(rows: tuple[Array, Array]) -> None:
    X, y = rows
    for options, message in (
        ({"tol": "sampling", "preconditioner": None}, "expected a number where preconditioner"),
        ({"tol": "sampling", "l1_ratio": 0.5}, "expected a number where l1_ratio > 0"),
    ):
        with pytest.raises(ValueError, match=message):
            minimize(X, y, 4, **options)  # type: ignore[arg-type]
