"""A fit with L1 that is interrupted and taken up again ends with the same bits."""

from __future__ import annotations

import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from l1_cases import judged, l1_table
from safetensors import safe_open
from solver_cases import same_bits

from csoftmax.data import DataError
from csoftmax.engine.class_rows import ClassRows
from csoftmax.solver import ConvergenceWarning, Progress, minimize
from csoftmax.solver.l1 import minimize_l1


class Interrupted:
    """A method of `ClassRows`; Ctrl-C hits the n-th call, or none."""

    def __init__(self, patch: pytest.MonkeyPatch, name: str, n: int = 0) -> None:
        method, self.n_calls = getattr(ClassRows, name), 0

        def call(*arguments: Any) -> Any:
            self.n_calls += 1
            if self.n_calls == n:
                raise KeyboardInterrupt
            return method(*arguments)

        patch.setattr(ClassRows, name, call)


def settings(n_heads: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    weights = rng.integers(0, 3, (2, 200)).astype(float) if n_heads == 4 else None
    of_head = None if weights is None else [0, 1, 0, 1]
    Cs = [0.1, 1.0, 10.0, 2.0][:n_heads]
    return {"C": Cs, "sample_weight": weights, "weight_of_head": of_head, "tol": 1e-7}


@pytest.mark.parametrize("path", [False, True])
@pytest.mark.parametrize("n_heads", [1, 3, 4])
@pytest.mark.parametrize("form", [np.asarray, sp.csr_array])
def test_resumed_to_the_same_bits(form: Any, n_heads: int, path: bool, tmp_path: Path) -> None:
    X, y = l1_table(200, 12, 4)
    options = {**settings(n_heads), "path": path}
    target = np.eye(4)[y] * 0.9 + 0.025 if n_heads == 1 else y
    given, file = form(X.astype(np.float32)), tmp_path / "state.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        of = {name: Interrupted(patch, name) for name in ("sweep", "accept", "gradient", "step")}
        whole = minimize_l1(given, target, 4, **options)
    n_saved = 0
    for name, at, parts in (
        ("sweep", 0.6, True), ("sweep", 0.6, False), ("sweep", 1.0, True), ("accept", 0.7, True),
        ("accept", 0.7, False), ("gradient", 0.8, True), ("step", 0.5, True), ("step", 0.9, True),
    ):  # fmt: skip
        file.unlink(missing_ok=True)
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            Interrupted(patch, name, int(at * of[name].n_calls))
            with suppress(KeyboardInterrupt):  # of what comes after a head, or before it
                minimize_l1(
                    given, target, 4, checkpoint=file, checkpoint_every=0 if parts else 60,
                    **options,
                )  # fmt: skip
        n_saved += file.exists()
        again = minimize_l1(given, target, 4, checkpoint=file, **options)
        assert same_bits(again, whole)
        for ours, theirs in zip(again.history, whole.history, strict=True):
            for column in ("objective", "bound", "estimate", "selected"):
                assert ours[column] == theirs[column]
            assert ours["seconds"] == sorted(ours["seconds"])
    assert n_saved >= 6


def test_heads_that_have_ended_are_kept(tmp_path: Path) -> None:
    X, y = l1_table(200, 12, 4)
    file, options = tmp_path / "state.safetensors", settings(3)
    seen: list[int] = []

    def stop(progress: Progress) -> bool:
        seen.append(int(progress.running.argmax()))
        return len(set(seen)) == 3 and seen.count(seen[-1]) == 2

    stopped = minimize_l1(X, y, 4, checkpoint=file, callback=stop, path=True, **options)
    assert stopped.status == ("converged", "converged", "callback")
    with safe_open(file, "numpy") as saved:
        n_logits = sum("Z" in name for name in saved.keys())  # noqa: SIM118
    assert n_logits == 1  # of the head on its way alone
    rest: list[int] = []
    whole = minimize_l1(
        X, y, 4, checkpoint=file, path=True, callback=lambda p: rest.append(p.running.argmax()),
        **options,
    )  # fmt: skip
    assert set(rest) == {2}
    assert same_bits(whole, minimize_l1(X, y, 4, path=True, **options))


def test_a_finished_checkpoint_is_taken_further(tmp_path: Path) -> None:
    X, y = l1_table()
    file = tmp_path / "state.safetensors"
    rough = minimize(X, y, 3, l1_ratio=0.9, tol=1e-2, checkpoint=file)
    assert same_bits(rough, minimize(X, y, 3, l1_ratio=0.9, tol=1e-2, checkpoint=file))
    further = minimize(X, y, 3, l1_ratio=0.9, tol=1e-9, checkpoint=file)
    assert further.iterations[0] > rough.iterations[0]
    assert same_bits(further, minimize(X, y, 3, l1_ratio=0.9, tol=1e-9))
    assert same_bits(further, minimize(X, y, 3, l1_ratio=0.9, tol=1e-9, checkpoint=file))


@pytest.mark.parametrize("rough", [{"tol": 1e-2}, {"tol": 1e-9, "max_iter": 1, "warns": False}])
def test_heads_that_had_ended_too_early_go_on(rough: dict[str, Any], tmp_path: Path) -> None:
    X, y = l1_table()
    file, C = tmp_path / "state.safetensors", [0.5, 5.0, 50.0]
    minimize_l1(X, y, 3, C=C, path=True, checkpoint=file, **rough)
    further = minimize_l1(X, y, 3, C=C, path=True, checkpoint=file, tol=1e-9)
    alone = minimize_l1(X, y, 3, C=C, path=True, tol=1e-9)
    assert further.converged.all()
    np.testing.assert_allclose(further.objective, alone.objective, rtol=2e-9)
    for h, c in enumerate(C):
        at = judged(X, y, further.W[h].T, further.b[h], 1 / (c * len(y)), 0)
        assert at.objective == pytest.approx(further.objective[h], rel=1e-12)
    assert same_bits(further, minimize_l1(X, y, 3, C=C, path=True, checkpoint=file, tol=1e-9))


def test_a_checkpoint_of_another_problem_is_refused(tmp_path: Path) -> None:
    X, y = l1_table()
    file = tmp_path / "state.safetensors"
    minimize(X, y, 3, l1_ratio=0.5, checkpoint=file)
    content = file.read_bytes()
    other = X.copy()
    other[-1, -1] += 1e-9
    for arguments, options in (
        ((other, y), {}),
        ((X, (y + 1) % 3), {}),
        ((X, np.eye(3)[y]), {}),
        ((sp.csr_array(X), y), {}),
        ((X, y), {"C": 2.0}),
        ((X, y), {"scale": 2.0}),
        ((X, y), {"l1_ratio": 0.4}),
        ((X, y), {"l1_ratio": 0.0}),
        ((X, y), {"fit_intercept": False}),
        ((X, y), {"sample_weight": np.ones(len(y))}),
        ((X, y), {"path": True}),
        ((X, y), {"W": np.ones((1, 3, 8))}),
    ):
        with pytest.raises(DataError, match="of another problem"):
            minimize(*arguments, 3, checkpoint=file, **{"l1_ratio": 0.5, **options})  # type: ignore[arg-type]
        assert file.read_bytes() == content
    file.write_bytes(b"something else")
    with pytest.raises(DataError, match="expected a checkpoint"):
        minimize(X, y, 3, l1_ratio=0.5, checkpoint=file)
