"""Few passes over all rows: steps to the optimum of a sample, corrected by the whole gradient."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from solver_cases import InterruptedPass, objective, optimum, same_bits, table

import csoftmax as cs
from csoftmax.data import DataError
from csoftmax.engine.units import CHUNK_ROWS
from csoftmax.solver import ConvergenceWarning, corrected, minimize
from csoftmax.solver.sampled_walk import SampledWalk

ROWS, SAMPLE = 6000, 600


@pytest.fixture(scope="module")
def rows() -> tuple[Any, Any]:
    return table(ROWS, 6, 3)


@pytest.mark.parametrize("dtype", ["float64", "float32", "uint8"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_few_passes_to_the_optimum(rows: tuple[Any, Any], dtype: str, fit_intercept: bool) -> None:
    X, y = rows
    if dtype == "uint8":
        X = (X - X.min(axis=0)) * 255 / np.ptp(X, axis=0)
    X, options = X.astype(dtype), {"C": 0.01, "fit_intercept": fit_intercept}
    best = minimize(X.astype(np.float64), y, 3, tol=1e-13, max_iter=3000, **options)
    by_sample = minimize(X, y, 3, sample_rows=SAMPLE, tol=1e-5, **options)
    assert by_sample.converged.all()
    assert by_sample.n_passes <= 6
    W, b = by_sample.W[0], by_sample.b[0]
    value = objective(X, y, W, b, 0.01)
    assert value == pytest.approx(by_sample.objective[0], rel=1e-6)
    above = value - best.objective[0]
    assert above <= 1e-5 * value
    assert above <= by_sample.bound[0] + 1e-7


def test_the_estimates_are_those_of_all_rows(rows: tuple[Any, Any]) -> None:
    X, y = rows
    best = optimum(X, y, 3, 0.01).objective[0]
    found = minimize(X, y, 3, C=0.01, sample_rows=SAMPLE, tol=1e-9)
    above = np.array(found.history[0]["objective"]) - best
    told = np.array(found.history[0]["estimate"])
    assert (np.diff(above) < 0).all()
    assert len(told) >= 4
    assert (told >= 0.8 * above).all()
    assert (told <= 10 * above).all()


def test_a_sample_of_all_rows_needs_one_step(rows: tuple[Any, Any]) -> None:
    X, y = rows
    found = minimize(X, y, 3, C=0.01, sample_rows=ROWS, tol=1e-6)
    assert found.converged.all()
    assert found.n_passes == 3  # statistics, the optimum of the sample, and a step


def test_weights_and_soft_labels(rows: tuple[Any, Any]) -> None:
    X, y = rows
    rng = np.random.default_rng(3)
    weights = rng.integers(0, 4, (2, ROWS)) / 2.0
    target = rng.dirichlet(np.ones(3), ROWS) + 3 * np.eye(3)[y]
    target /= target.sum(axis=1, keepdims=True)
    for labels in (y, target):
        options: dict[str, Any] = {"C": 0.1, "sample_weight": weights}
        best = minimize(X, labels, 3, tol=1e-12, **options)
        found = minimize(X, labels, 3, sample_rows=2000, tol=1e-6, **options)
        assert found.converged.all()
        assert (found.passes <= 7).all()
        assert (found.objective - best.objective <= 1e-6 * best.objective).all()


@pytest.mark.parametrize("path", [False, True])
def test_many_heads(rows: tuple[Any, Any], path: bool) -> None:
    X, y = rows
    Cs, weights = [1e-4, 1e-3, 1e-2], np.ones((2, ROWS))
    weights[0, ::5], weights[1, 1::5] = 0, 0
    options: dict[str, Any] = {"sample_rows": SAMPLE, "tol": 1e-6}
    of_head = np.repeat([0, 1], 3)
    together = minimize(
        X, y, 3, C=Cs * 2, sample_weight=weights, weight_of_head=of_head, path=path, **options
    )
    assert together.converged.all()
    assert together.n_passes < together.passes.sum() / 2
    for h, (C, r) in enumerate(zip(Cs * 2, of_head, strict=True)):
        best = minimize(X, y, 3, C=C, sample_weight=weights[r], tol=1e-12).objective[0]
        assert together.objective[h] - best <= 1e-6 * best
        if not path:
            alone = minimize(X, y, 3, C=C, sample_weight=weights[r], **options)
            assert np.array_equal(alone.W[0], together.W[h])
    plain = minimize(
        X, y, 3, C=Cs * 2, sample_weight=weights, weight_of_head=of_head, path=path, tol=1e-6,
        sample_rows=0, preconditioner="full",
    )  # fmt: skip
    assert together.n_passes < plain.n_passes


def test_weights_that_count_too_few_rows_of_the_sample_go_by_lbfgs(rows: tuple[Any, Any]) -> None:
    X, y = rows
    weights = np.ones((2, ROWS))
    weights[1, 300:] = 0
    found = minimize(X, y, 3, C=0.01, sample_weight=weights, sample_rows=SAMPLE, tol=1e-6)
    assert found.converged.all()
    best = minimize(X, y, 3, C=0.01, sample_weight=weights, tol=1e-12)
    assert (found.objective - best.objective <= 1e-6 * best.objective).all()


@pytest.mark.parametrize("C", [1e4, math.inf])
def test_separable_data(C: float) -> None:
    """The sample is separable too: without a penalty its optimum is nowhere."""
    X, y = table(ROWS, 6, 3, noise=0.0)
    with np.errstate(all="raise", under="ignore"):
        found = minimize(X, y, 3, C=C, sample_rows=SAMPLE, least_nats=100.0)
    assert found.converged.all()
    best = 0.0 if math.isinf(C) else optimum(X, y, 3, C).objective[0]
    # the estimate of L-BFGS, which has to go on, is known to be too low here
    assert found.objective[0] - best <= 1e-3 * 100.0 / ROWS
    assert found.objective[0] - best <= found.bound[0]


def test_classes_that_no_row_has_or_no_row_of_the_sample() -> None:
    X, y = table(ROWS, 6, 5)
    y[y == 4] = 0  # absent
    y[y == 3] = 1
    y[[10, 2000, 5999]] = 3  # three rows, of which the sample is likely to have none
    found = minimize(X, y, 5, C=0.01, sample_rows=1000, tol=1e-6)
    assert found.converged.all()
    best = optimum(X, y, 5, 0.01)
    assert found.objective[0] - best.objective[0] <= 1e-6 * best.objective[0]
    assert found.b[0, 4] < -1000 < found.b[0, 3]


def test_lbfgs_goes_on_where_the_sample_is_no_good(
    rows: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = rows
    best = optimum(X, y, 3, 0.01).objective[0]
    step = SampledWalk._step
    for spoil in (
        lambda x, gain: (x + 10, gain),  # it rises
        lambda x, gain: (x, gain),  # it stays
        lambda x, gain: (x * math.nan, gain),
        lambda x, gain: (x, math.inf),  # it promises more than there is
        lambda x, gain: (x, -gain),
    ):

        def spoilt(*arguments: Any, spoil: Any = spoil) -> Any:
            point = step(*arguments)
            following, estimate = spoil(point.following, point.estimate)
            return point._replace(following=following, estimate=estimate)

        monkeypatch.setattr(SampledWalk, "_step", spoilt)
        found = minimize(X, y, 3, C=0.01, sample_rows=SAMPLE, tol=1e-7)
        assert found.converged.all()
        assert found.objective[0] - best <= 1e-7 * best
    monkeypatch.setattr(SampledWalk, "_step", step)
    monkeypatch.setattr(corrected, "MOST_LEFT", 0.0)  # too slow
    found = minimize(X, y, 3, C=0.01, sample_rows=SAMPLE, tol=1e-7)
    assert found.converged.all()
    assert found.objective[0] - best <= 1e-7 * best


def test_the_same_bits_for_any_number_of_threads(rows: tuple[Any, Any], free_threads: None) -> None:
    X, y = rows
    one, many = (
        minimize(X.astype(np.float32), y, 3, sample_rows=SAMPLE, n_threads=n) for n in (1, 4)
    )
    assert same_bits(one, many)


@pytest.mark.parametrize("path", [False, True])
@pytest.mark.parametrize("most_left", [corrected.MOST_LEFT, 0.0])
def test_resumed_to_the_same_bits(
    rows: tuple[Any, Any], path: bool, most_left: float, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    X, y = rows
    monkeypatch.setattr(corrected, "MOST_LEFT", most_left)
    file = tmp_path / "state.safetensors"
    options: dict[str, Any] = {
        "C": [1e-3, 1e-2], "path": path, "tol": 1e-8, "sample_rows": SAMPLE,
    }  # fmt: skip
    with monkeypatch.context() as patch:
        counter = InterruptedPass(patch, 1 << 30)
        whole = minimize(X, y, 3, **options)
    n_all = (1 << 30) - counter.left
    assert n_all > 3 * whole.n_passes  # most are passes over the sample
    for n in (2, n_all // 3, n_all // 2, n_all - 1):
        file.unlink(missing_ok=True)
        with monkeypatch.context() as patch:
            InterruptedPass(patch, n)
            with pytest.warns(ConvergenceWarning, match="interrupted"):
                minimize(X, y, 3, checkpoint=file, checkpoint_every=0, **options)
        resumed = minimize(X, y, 3, checkpoint=file, **options)
        assert same_bits(resumed, whole)
        assert np.array_equal(resumed.passes, whole.passes)


def test_a_checkpoint_of_another_sample_is_refused(rows: tuple[Any, Any], tmp_path: Path) -> None:
    X, y = rows
    file = tmp_path / "state.safetensors"
    minimize(X, y, 3, sample_rows=SAMPLE, checkpoint=file)
    for sample_rows in (0, SAMPLE + 60):
        with pytest.raises(DataError, match="of another problem"):
            minimize(X, y, 3, sample_rows=sample_rows, checkpoint=file)


def test_a_start_that_is_given(rows: tuple[Any, Any]) -> None:
    X, y = rows
    near = minimize(X, y, 3, C=0.01, tol=1e-4)
    found = minimize(X, y, 3, C=0.01, W=near.W, b=near.b, sample_rows=SAMPLE, tol=1e-8)
    assert found.converged.all()
    assert found.history[0]["objective"][0] == pytest.approx(near.objective[0], rel=1e-12)
    still = minimize(
        X, y, 3, C=0.01, W=near.W, b=near.b, sample_rows=SAMPLE, max_iter=0, warns=False
    )
    np.testing.assert_allclose(still.W, near.W, rtol=1e-12)


def test_refusals(rows: tuple[Any, Any]) -> None:
    X, y = rows
    with pytest.raises(ValueError, match=r"sample_rows is 100, expected 0 or at least 210: 15 for"):
        minimize(X, y, 3, sample_rows=100)
    with pytest.raises(ValueError, match="sample_rows is -1"):
        minimize(X, y, 3, sample_rows=-1)
    with pytest.raises(ValueError, match="expected 0 or None for sparse X"):
        minimize(
            sparse.random_array((500, 300), density=0.1, format="csr"), y[:500], 3, sample_rows=400
        )


def test_mapped_files_have_a_sample_by_themselves(
    rows: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = rows
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert corrected.usual_rows(mapped, 3) == 0  # it is small
    monkeypatch.setattr(corrected, "COSTLY_BYTES", 0)
    assert corrected.usual_rows(X, 3) == 0  # it is in memory
    assert corrected.usual_rows(mapped, 3) == ROWS // 8
    assert corrected.usual_rows(mapped[: 8 * 15 * 14 - 1], 3) == 0  # no room for 15 rows of each
    found = minimize(mapped, y, 3, C=0.01)
    assert same_bits(found, minimize(X, y, 3, C=0.01, sample_rows=ROWS // 8))
    assert same_bits(minimize(mapped, y, 3, sample_rows=0), minimize(X, y, 3))
    monkeypatch.setattr(corrected, "SAMPLE_BYTES", 300 * 48)
    assert corrected.usual_rows(mapped, 3) == 300


def test_shards_have_the_bits_of_one_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = table(3 * CHUNK_ROWS, 6, 3)
    X = X.astype(np.float32)
    for i, part in enumerate(np.split(np.arange(len(y)), [CHUNK_ROWS])):
        np.save(tmp_path / f"x-{i}.npy", X[part])
        np.save(tmp_path / f"y-{i}.npy", y[part])
    shards = cs.shards(str(tmp_path / "x-*.npy"), labels=str(tmp_path / "y-*.npy"))
    whole = minimize(X, y, 3, C=0.01, sample_rows=SAMPLE, tol=1e-6)
    assert whole.n_passes <= 6
    assert same_bits(minimize(shards, None, 3, C=0.01, sample_rows=SAMPLE, tol=1e-6), whole)
    assert corrected.usual_rows(shards.rows, 3) == 0
    monkeypatch.setattr(corrected, "COSTLY_BYTES", 0)
    assert corrected.usual_rows(shards.rows, 3) == len(y) // 8
    few = cs.SoftmaxClassifier(C=0.01).fit(shards)
    assert few.history_["passes"][0] == 2
