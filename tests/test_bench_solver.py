"""The solver's benchmark: what it measures and checks, on tiny data, however fast that is."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from csoftmax import bench, reference
from csoftmax.bench import measure, memory, processes, solver, work
from csoftmax.bench.measure import WrongResultError
from csoftmax.bench.results import OURS, Run
from csoftmax.bench.session import Session
from csoftmax.cli import main

Array = NDArray[Any]


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A few images instead of Fashion-MNIST, few iterations, small tables."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (300, 12)).astype(np.uint8)
    y = np.argmax(X[:, :10] + rng.gumbel(size=(300, 10)) * 200, axis=1)
    monkeypatch.setattr(solver, "images", lambda quick: (X, y, "random pixels"))
    monkeypatch.setattr(work, "images", lambda quick: (X, y, "random pixels"))
    monkeypatch.setattr(solver, "REST_SECONDS", 0.0)
    monkeypatch.setattr(measure, "REST_SECONDS", 0.0)
    solver.of_images.cache_clear()
    yield
    solver.of_images.cache_clear()


def session(*names: str) -> Session:
    return Session(list(names), 1, quick=True, solver=True)


def test_objective_is_that_of_the_reference() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 256, (5000, 6)).astype(np.uint8), rng.integers(0, 3, 5000)
    W, b = rng.normal(size=(3, 6)), rng.normal(size=3)
    loss = reference.linear_cross_entropy(X.astype(np.float64), W.T, b, y, scale=1 / 255)
    expected = float(loss) + (W**2).sum() / (2 * 0.5 * 5000)
    assert solver.objective(X, y, W, b, 0.5, 1 / 255) == pytest.approx(expected, rel=1e-12)


def test_binary_weights_stand_for_two_rows() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(80, 3)), np.arange(80) % 2
    fitted = linear_model.LogisticRegression(C=0.7).fit(X, y)
    logits = X @ fitted.coef_[0] + fitted.intercept_[0]
    loss = np.log1p(np.exp(np.where(y == 1, -logits, logits))).mean()
    expected = loss + (fitted.coef_**2).sum() / (2 * 0.7 * 80)
    assert solver.fitted_objective(fitted, X, y, 0.7) == pytest.approx(expected, rel=1e-12)


def test_the_optimum_is_below_what_is_reached_on_the_way() -> None:
    (one, tenth, hundredth) = solver.near(session())
    data = solver.of_images(True)
    for result, distance in ((one, 1e-2), (tenth, 1e-3), (hundredth, 1e-4)):
        assert result.facts["objective"] == pytest.approx(data.optimum * (1 + distance))
        assert result.ours is not None
        assert result.ours.min > 0


def test_an_objective_that_was_not_reached_is_an_error() -> None:
    data = solver.of_images(True)
    with pytest.raises(WrongResultError, match="expected at most"):
        data.seconds_to(0.9 * data.optimum, 1)


def test_as_far_as_scikit_learn() -> None:
    pytest.importorskip("sklearn")
    (result,) = solver.as_far_as(session("sklearn"))
    assert set(result.sides) == {OURS, "scikit-learn"}
    assert result.facts["% above the optimum"] > -1e-3
    assert result.facts["its iterations"] <= 100


def test_defaults_on_every_table(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    names = [name for name, _, _ in solver.tables(session())]
    assert names == ["iris", "wine", "breast_cancer", "digits", "ten decades", "images"]
    rng = np.random.default_rng(0)
    table = ("small", rng.normal(size=(60, 4)), np.arange(60) % 3)
    monkeypatch.setattr(solver, "tables", lambda session: [table])
    (result,) = solver.defaults(session("sklearn"))
    assert result.facts["scikit-learn above us"] > -2e-4
    assert result.ours is not None


def test_sweep_and_its_true_distances() -> None:
    pytest.importorskip("sklearn")
    (result,) = solver.sweep(session("sklearn"))
    assert set(result.sides) == {OURS, "one fit", "scikit-learn, a fit each"}
    above = [value for name, value in result.facts.items() if name.startswith("% above at C")]
    assert len(above) == 5
    assert all(-1e-4 < value < 0.15 for value in above)
    assert result.facts["% above the optimum, the worst"] == max(above)
    assert result.facts["% by its own estimate, the worst"] <= 0.1
    assert -1e-4 < result.facts["% above the optimum, one fit"] < 0.15


def test_distances_are_those_of_the_objective() -> None:
    data = solver.of_images(True)
    values = np.array([0.1, 1.0])
    near = data.minimize(C=values, tol=1e-9)
    far = SimpleNamespace(W=0 * near.W, b=0 * near.b)
    (first, second) = solver.distances(data, far, near, values)
    assert first == pytest.approx(math.log(10) / near.objective[0] - 1, rel=1e-6)
    assert second == pytest.approx(math.log(10) / near.objective[1] - 1, rel=1e-6)


def test_folds_find_the_same_accuracy() -> None:
    pytest.importorskip("sklearn")
    (result,) = solver.folds(session("sklearn"))
    assert set(result.sides) == {OURS, "csoftmax on float32", "scikit-learn"}
    best = [result.facts[f"best accuracy, {side}"] for side in result.sides]
    assert best[:2] == [pytest.approx(best[2], abs=0.05)] * 2
    scores = {1: np.array([[0.5, 0.7], [0.7, 0.8]])}
    assert solver._best_score(SimpleNamespace(scores_=scores)) == 0.75


def test_without_scikit_learn_only_csoftmax(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solver.peers, "is_installed", lambda name: False)
    nobody = session("sklearn")
    assert not list(solver.defaults(nobody))
    assert not list(solver.folds(nobody))
    assert not list(solver.as_far_as(nobody))
    (result,) = solver.sweep(nobody)
    assert set(result.sides) == {OURS, "one fit"}
    assert nobody.missing == {"sklearn": "not installed"}


def test_memory_of_a_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = memory.main("csoftmax", "fit300x8x5")
    assert measured["parameters"] == 4 * 5 * 9
    assert measured["data"] == 300 * (2 * 8 + 8)
    assert measured["passes"] > 2
    assert measured["distance"] < 1e-2
    monkeypatch.setattr(solver, "python", lambda *arguments: json.dumps(measured))
    (result,) = solver.many_classes(session())
    assert result.unit == "B"
    assert result.facts["allowed above the data"] == pytest.approx(2e8 + 1.5 * 180 * 24)
    monkeypatch.setattr(
        solver, "python", lambda *arguments: json.dumps({**measured, "distance": math.nan})
    )
    with pytest.raises(WrongResultError, match="came to nothing"):
        list(solver.many_classes(session()))


def test_command_line_writes_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.json"
    command = ["bench", "--solver", "--quick", "--rounds", "1", "--peers", "none"]
    main([*command, "--only", "solver/near", "--json", str(path)])
    out = capsys.readouterr().out
    assert "solver/near 0.1 %" in out
    assert "epoch/" not in out
    assert [result.name for result in Run.read(path).results] == [
        "solver/near 1 %", "solver/near 0.1 %", "solver/near 0.01 %",
    ]  # fmt: skip


def test_names_are_those_of_the_solver() -> None:
    with pytest.raises(ValueError, match="expected the start of a name"):
        bench.Options(solver=True, only="epoch")


def test_a_process_that_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match="failed"):
        processes.python("-m", "csoftmax.bench.memory", "csoftmax", "fit1x1")
