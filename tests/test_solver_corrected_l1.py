"""L1 by few passes over all rows: steps to the optima of a sample that agrees with all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from l1_cases import judged, l1_table, violation
from scipy import sparse
from solver_cases import same_bits

import csoftmax as cs
from csoftmax.core.errors import DataError
from csoftmax.engine.local_passes import LocalPasses
from csoftmax.solver import ConvergenceWarning, Solution, corrected_l1, l1_memory, minimize
from csoftmax.solver.l1 import minimize_l1

Array = Any
ROWS, FEATURES, SAMPLE = 6000, 8, 600
TOL = 1e-5


@pytest.fixture(scope="module")
def rows() -> tuple[Any, Any]:
    return l1_table(ROWS, FEATURES, 3)


def best_of(X: Array, y: Array, k: int, **options: Any) -> Solution:
    """Return the optimum, by the solver that has all rows in memory."""
    return minimize_l1(X.astype(np.float64), y, k, tol=1e-9, max_iter=3000, warns=False, **options)


def check(found: Solution, best: Solution, tol: float = TOL) -> None:
    """Compare each head with its optimum: how far it is, what is proved, what was estimated."""
    assert found.converged.all()
    for h, optimum in enumerate(best.objective):
        above = (found.objective[h] - optimum) / optimum
        assert -1e-6 <= above <= tol
        assert above * optimum <= found.bound[h] + 1e-7
        history = found.history[h]
        for objective, estimate in zip(history["objective"], history["estimate"], strict=True):
            assert objective - optimum <= 2 * estimate + 2e-7


@pytest.mark.parametrize("dtype", ["float64", "float32", "uint8"])
@pytest.mark.parametrize("l1_ratio", [1.0, 0.5])
@pytest.mark.parametrize("C", [0.002, 0.1])
def test_few_passes_to_the_optimum(
    rows: tuple[Any, Any], dtype: str, l1_ratio: float, C: float
) -> None:
    X, y = rows
    if dtype == "uint8":
        X = np.round((X - X.min(axis=0)) * 255 / np.ptp(X, axis=0))
    X, options = X.astype(dtype), {"C": C, "l1_ratio": l1_ratio}
    scale = 1 / 64 if dtype == "uint8" else 1.0
    best = best_of(X, y, 3, scale=scale, **options)
    found = minimize(X, y, 3, sample_rows=SAMPLE, tol=TOL, scale=scale, **options)
    check(found, best)
    assert found.n_passes <= 7
    assert found.n_passes == 1 + found.passes[0]  # and the statistics
    selected, optimal = (W != 0 for W in (found.W[0], best.W[0]))
    assert (selected != optimal).sum() <= 1
    l1, l2 = (share / (C * ROWS) for share in (l1_ratio, 1 - l1_ratio))
    at = judged(X * scale, y, found.W[0].T.astype(float), found.b[0].astype(float), l1, l2)
    assert at.objective == pytest.approx(found.objective[0], rel=1e-6)
    assert violation(at, l1, l2) == pytest.approx(found.gradient_max[0], abs=3e-7)
    assert found.loss[0] + at.objective - found.objective[0] == pytest.approx(
        judged(X * scale, y, at.W, at.b, 0.0, 0.0).objective, rel=1e-6
    )


def test_without_intercepts_and_with_one_row(rows: tuple[Any, Any]) -> None:
    X, y = rows
    for k, options in (
        (3, {"fit_intercept": False}),
        (2, {"one_row": True}),
        (2, {"one_row": True, "fit_intercept": False}),
    ):
        target = np.minimum(y, k - 1)
        best = best_of(X, target, k, C=0.05, **options)
        found = minimize_l1(X, target, k, C=0.05, sample_rows=SAMPLE, tol=TOL, **options)
        check(found, best)
        np.testing.assert_allclose(found.W, best.W, atol=0.02)
        np.testing.assert_allclose(found.b, best.b, atol=0.02)
        if k == 2:
            assert not found.W[:, 0].any()
            assert not found.b[:, 0].any()


def test_weights_and_soft_labels(rows: tuple[Any, Any]) -> None:
    X, y = rows
    rng = np.random.default_rng(3)
    weights = rng.integers(0, 4, (2, ROWS)) / 2.0
    target = rng.dirichlet(np.ones(3), ROWS) + 3 * np.eye(3)[y]
    target /= target.sum(axis=1, keepdims=True)
    for labels in (y, target):
        options: dict[str, Any] = {"C": 0.1, "sample_weight": weights * 2.0**40}
        options["C"] = 0.1 / 2.0**40
        found = minimize_l1(X, labels, 3, sample_rows=1500, tol=TOL, **options)
        check(found, best_of(X, labels, 3, **options))
        assert found.n_passes < found.passes.sum()


@pytest.mark.parametrize("path", [False, True])
def test_heads_share_the_passes(rows: tuple[Any, Any], path: bool) -> None:
    X, y = rows
    weights = np.ones((2, ROWS))
    weights[0, ::5], weights[1, 1::5] = 0, 0
    options: dict[str, Any] = {
        "C": [1e-3, 1e-2, 1e-1] * 2, "sample_weight": weights,
        "weight_of_head": np.repeat([0, 1], 3),
    }  # fmt: skip
    found = minimize_l1(X, y, 3, sample_rows=1000, tol=TOL, path=path, **options)
    check(found, best_of(X, y, 3, **options))
    assert found.n_passes == 1 + found.passes.max()


def test_classes_that_no_row_has_or_no_row_of_the_sample() -> None:
    X, y = l1_table(ROWS, FEATURES, 5)
    y[y == 4] = 0  # absent
    y[y == 3] = 1
    y[[10, 2000, 5999]] = 3  # three rows, of which the sample is likely to have none
    found = minimize_l1(X, y, 5, C=0.05, sample_rows=SAMPLE, tol=TOL)
    best = best_of(X, y, 5, C=0.05)
    check(found, best)
    assert found.b[0, 4] < -1000 < found.b[0, 3]
    assert not found.W[0, 4].any()
    np.testing.assert_allclose(found.b, best.b, atol=0.1)


def test_the_null_model_may_be_the_optimum(rows: tuple[Any, Any]) -> None:
    X, y = rows
    found = minimize_l1(X, y, 3, C=1e-5, sample_rows=SAMPLE)
    assert found.converged.all()
    assert found.n_passes == 1  # the statistics prove it
    assert not found.W.any()
    assert found.objective[0] == pytest.approx(best_of(X, y, 3, C=1e-5).objective[0], rel=1e-9)
    assert found.bound[0] <= 1e-9


def test_a_sample_that_is_too_small_is_told_of(
    rows: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its steps rise: then it counts more, and steps are shorter."""
    X, y = rows
    with pytest.raises(ValueError, match=r"sample_rows is 134, expected 0 or at least 135: 15 for"):
        minimize_l1(X, y, 3, sample_rows=134)
    monkeypatch.setattr(l1_memory, "LEAST", 2)
    best = best_of(X, y, 3, C=1.0)
    found = minimize_l1(X, y, 3, C=1.0, sample_rows=24, tol=1e-3, max_iter=300)
    assert found.converged.all()
    assert found.iterations[0] > 5
    assert found.objective[0] - best.objective[0] <= 2e-3 * best.objective[0]
    with pytest.warns(ConvergenceWarning, match=r"after 6 passes; the sample of 24 rows is small"):
        short = minimize_l1(X, y, 3, C=1.0, sample_rows=24, max_iter=6)
    assert short.status == ("limit",)
    assert short.objective[0] - best.objective[0] <= short.bound[0]


@pytest.mark.parametrize("seed", [7, 11, 15])
def test_a_sample_that_counts_more_often_is_not_believed_at_once(seed: int) -> None:
    """What it promises is less for that: rows that are nearly separable once converged too soon."""
    rng = np.random.default_rng(seed)
    X = l1_table(2000, 8, 2, seed)[0].astype(np.float32)
    y = np.argmax(X @ (5 * rng.normal(size=(8, 2))) + 0.1 * rng.gumbel(size=(2000, 2)), axis=1)
    best = best_of(X, y, 2, C=10.0)
    for n in (140, 300):
        found = minimize_l1(X, y, 2, C=10.0, tol=TOL, sample_rows=n, warns=False)
        assert found.objective[0] - best.objective[0] <= 3 * found.estimate[0]


def test_a_step_that_is_no_good_is_not_taken(
    rows: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = rows
    best = best_of(X, y, 3, C=0.1)
    end_of, calls = corrected_l1.SampledHeads._end_of, []

    def spoilt(self: Any, newton: Any) -> Any:
        W, b = end_of(self, newton)
        calls.append(1)
        return (W + 5, b) if len(calls) == 2 else (W, b)

    monkeypatch.setattr(corrected_l1.SampledHeads, "_end_of", spoilt)
    found = minimize_l1(X, y, 3, C=0.1, sample_rows=SAMPLE, tol=TOL)
    check(found, best)
    objectives = found.history[0]["objective"]
    assert objectives[1] == objectives[2]  # entries: of the null model, then one for each pass
    assert (np.diff(objectives) <= 0).all()


def test_the_same_bits_for_any_number_of_threads(rows: tuple[Any, Any], free_threads: None) -> None:
    X, y = rows
    one, many = (
        minimize_l1(X.astype(np.float32), y, 3, C=0.1, sample_rows=SAMPLE, n_threads=n)
        for n in (1, 4)
    )
    assert same_bits(one, many)


def test_a_start_that_is_given(rows: tuple[Any, Any]) -> None:
    X, y = rows
    near = best_of(X, y, 3, C=0.1)
    start: dict[str, Any] = {"W": near.W, "b": near.b, "C": 0.1, "sample_rows": SAMPLE}
    still = minimize_l1(X, y, 3, max_iter=0, warns=False, **start)
    assert still.objective[0] == pytest.approx(near.objective[0], rel=1e-12)
    np.testing.assert_allclose(still.W, near.W, rtol=1e-12)
    np.testing.assert_allclose(still.b, near.b, rtol=1e-9)
    assert still.bound[0] <= 1e-3 * near.objective[0]
    assert (still.iterations[0], still.n_passes) == (0, 2)
    found = minimize_l1(X, y, 3, tol=TOL, **start)
    check(found, near)
    assert found.n_passes <= 4
    far = {**start, "W": near.W + 5}
    check(minimize_l1(X, y, 3, tol=TOL, **far), near)


class InterruptedPasses:
    """Passes over all rows; Ctrl-C hits in one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, n: int) -> None:
        self.left, evaluate = n, LocalPasses.evaluate

        def counted(passes: Any, *arguments: Any) -> Any:
            if passes.n_rows == ROWS:
                self.left -= 1
                if self.left == 0:
                    raise KeyboardInterrupt
            return evaluate(passes, *arguments)

        monkeypatch.setattr(LocalPasses, "evaluate", counted)


@pytest.mark.parametrize("l1_ratio", [1.0, 0.5])
def test_resumed_to_the_same_bits(
    rows: tuple[Any, Any], l1_ratio: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = rows
    file = tmp_path / "state.safetensors"
    options: dict[str, Any] = {
        "C": [1e-2, 1e-1], "l1_ratio": l1_ratio, "tol": 1e-7, "sample_rows": SAMPLE,
    }  # fmt: skip
    whole = minimize(X, y, 3, **options)
    assert whole.converged.all()
    for n in range(2, whole.n_passes - 1):
        file.unlink(missing_ok=True)
        with monkeypatch.context() as patch:
            InterruptedPasses(patch, n)
            with pytest.warns(ConvergenceWarning, match="interrupted: this is the best so far"):
                stopped = minimize(X, y, 3, checkpoint=file, checkpoint_every=0, **options)
        assert (stopped.objective >= whole.objective - 1e-9).all()
        resumed = minimize(X, y, 3, checkpoint=file, **options)
        assert same_bits(resumed, whole)
        assert np.array_equal(resumed.passes, whole.passes)
    with pytest.raises(DataError, match="of another problem"):
        minimize(X, y, 3, checkpoint=file, **{**options, "sample_rows": SAMPLE + 60})
    more = minimize(X, y, 3, checkpoint=file, **{**options, "tol": 1e-9})
    assert more.n_passes > whole.n_passes
    assert (more.estimate <= 1e-9 * more.objective).all()


def test_interrupted_before_the_first_pass(
    rows: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    X, y = rows
    InterruptedPasses(monkeypatch, 1)
    file = tmp_path / "state.safetensors"
    with pytest.warns(ConvergenceWarning, match="interrupted"):
        found = minimize_l1(X, y, 3, C=0.1, sample_rows=SAMPLE, checkpoint=file)
    assert found.status == ("interrupted",)
    assert not found.W.any()
    assert found.objective[0] <= np.log(3)


def test_what_is_told(rows: tuple[Any, Any], capsys: pytest.CaptureFixture[str]) -> None:
    X, y = rows
    told: list[tuple[int, float]] = []

    def callback(progress: Any) -> bool:
        W, _ = progress.parameters(0)
        told.append((progress.n_passes, float(progress.objective[0])))
        assert W.shape == (3, FEATURES)
        return len(told) == 3

    found = minimize_l1(X, y, 3, C=0.1, sample_rows=SAMPLE, callback=callback, verbose=1)
    assert found.status == ("callback",)
    assert [n for n, _ in told] == [1, 2, 3]
    assert found.objective[0] == told[-1][1]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("pass 1: 1 of 1 heads running, objective ")
    assert "weights selected, about" in lines[0]


def test_files_are_read_whole_or_by_a_sample(
    rows: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = rows
    in_memory = minimize_l1(X, y, 3, C=0.1)
    halves = [(X[:4096], y[:4096]), (X[4096:], y[4096:])]
    shards = cs.shards([
        (len(part), lambda start, stop, part=part, of=of: (part[start:stop], of[start:stop]))
        for part, of in halves
    ])  # fmt: skip
    assert same_bits(minimize(shards, None, 3, C=0.1, l1_ratio=1.0), in_memory)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert same_bits(minimize_l1(mapped, y, 3, C=0.1), in_memory)
    monkeypatch.setattr(l1_memory, "IN_MEMORY_BYTES", 1 << 19)
    rest = minimize(shards, None, 3, C=0.1, l1_ratio=1.0, tol=TOL)
    assert rest.n_passes == 1 + rest.passes[0]
    check(rest, best_of(X, y, 3, C=0.1))
    sampled = minimize_l1(mapped, y, 3, C=0.1, tol=TOL)
    assert sampled.n_passes == rest.n_passes
    np.testing.assert_allclose(sampled.W, rest.W, atol=1e-6)
    monkeypatch.setattr(l1_memory, "IN_MEMORY_BYTES", 1 << 12)  # too little for a sample
    assert same_bits(minimize_l1(mapped, y, 3, C=0.1), in_memory)


def test_sparse_shards(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X = sparse.random_array((ROWS, 40), density=0.15, format="csr", rng=rng)
    y = np.argmax(X @ (3 * rng.normal(size=(40, 3))) + rng.gumbel(size=(ROWS, 3)), axis=1)
    for s, some in enumerate((slice(0, 4096), slice(4096, ROWS))):
        part = X[some]
        arrays = {"data": part.data, "indices": part.indices, "indptr": part.indptr}
        np.savez(tmp_path / f"{s}.npz", format=b"csr", shape=part.shape, y=y[some], **arrays)
    shards = cs.shards(f"{tmp_path}/*.npz")
    best = minimize_l1(X, y, 3, C=0.1, tol=1e-9, warns=False)
    whole = minimize(shards, None, 3, C=0.1, l1_ratio=1.0, tol=1e-9, warns=False)
    assert np.array_equal(whole.W, best.W)
    for scale in (1.0, 1e9):  # that is so far from 1 that rows are multiplied as they are read
        options: dict[str, Any] = {"C": 0.1 / scale, "scale": scale, "sample_rows": 1500}
        found = minimize(shards, None, 3, l1_ratio=1.0, tol=TOL, **options)
        check(found, best)
        np.testing.assert_allclose(found.W * scale, best.W, atol=0.1)


def test_refusals(rows: tuple[Any, Any]) -> None:
    X, y = rows
    with pytest.raises(ValueError, match="sample_rows is 600, expected 0 or None for sparse X"):
        minimize_l1(sparse.random(ROWS, 30, format="csr"), y, 3, sample_rows=600)
    for name, value in (("sample_rows", -1), ("sample_rows", 2.5)):
        with pytest.raises((TypeError, ValueError), match="sample_rows is"):
            minimize_l1(X, y, 3, **{name: value})
    bad = X.copy()
    bad[17, 3] = np.nan
    with pytest.raises(ValueError, match=r"X\[17, 3\] is nan, expected finite numbers"):
        minimize_l1(bad, y, 3, sample_rows=600)
    with pytest.raises(ValueError, match="C has inf, expected finite numbers"):
        minimize_l1(X, y, 3, C=[1.0, np.inf], sample_rows=600)
    with pytest.raises(ValueError, match="one_row is True for 3 classes, expected 2"):
        minimize_l1(X, y, 3, one_row=True, sample_rows=600)
