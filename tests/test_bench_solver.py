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
from csoftmax.bench import goals, measure, memory, processes, sentences, solver, work
from csoftmax.bench.measure import Samples, WrongResultError
from csoftmax.bench.results import OURS, Result, Run
from csoftmax.bench.settings import Settings
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
    monkeypatch.setattr(solver, "LONG_ITERATIONS", 30)
    solver._images.cache_clear()
    yield
    solver._images.cache_clear()


def settings(*names: str, long: bool = False) -> Settings:
    return Settings(list(names), 1, quick=True, solver=True, long=long)


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
    (one, tenth, hundredth) = solver.near(settings())
    data = solver._images(True)
    for result, distance in ((one, 1e-2), (tenth, 1e-3), (hundredth, 1e-4)):
        assert result.facts["objective"] == pytest.approx(data.optimum * (1 + distance))
        assert result.ours is not None
        assert result.ours.min > 0


def test_an_objective_that_was_not_reached_is_an_error() -> None:
    data = solver._images(True)
    with pytest.raises(WrongResultError, match="expected at most"):
        data.seconds_to(0.9 * data.optimum, 1)


def test_as_far_as_scikit_learn() -> None:
    pytest.importorskip("sklearn")
    (result,) = solver.as_far_as(settings("sklearn"))
    assert set(result.sides) == {OURS, "scikit-learn"}
    assert result.facts["% above the optimum"] > -1e-3
    assert result.facts["its iterations"] <= 100


def test_long_runs_of_scikit_learn_only_where_asked() -> None:
    pytest.importorskip("sklearn")
    names = [result.name for result in solver.near(settings("sklearn", long=True))]
    assert names[3:] == [
        "solver/near, scikit-learn after 10",
        "solver/near, scikit-learn after 30",
    ]


def test_defaults_on_every_table(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    monkeypatch.setattr(sentences, "missing", lambda: "")
    monkeypatch.setattr(
        sentences, "embeddings", lambda: (rng.normal(size=(60, 4)), np.arange(60) % 3)
    )
    full = Settings(["sklearn"], 1, quick=False, solver=True)
    names = [name for name, _, _ in solver.tables(full)]
    assert names[-2:] == ["images", "sentences"]
    monkeypatch.setattr(sentences, "missing", lambda: "needs torch")
    assert [name for name, _, _ in solver.tables(full)][-1] == "images"
    assert full.missing == {"sentences": "needs torch"}
    table = ("small", rng.normal(size=(60, 4)), np.arange(60) % 3)
    monkeypatch.setattr(solver, "tables", lambda settings: [table])
    (result,) = solver.defaults(settings("sklearn"))
    assert result.facts["scikit-learn above us"] > -2e-4
    assert result.ours is not None


@pytest.mark.parametrize("long", [False, True])
def test_sweep_and_its_true_distances(long: bool) -> None:
    pytest.importorskip("sklearn")
    (result,) = solver.sweep(settings("sklearn", long=long))
    assert set(result.sides) == {OURS, "one fit", "scikit-learn, a fit each"}
    above = [value for name, value in result.facts.items() if name.startswith("% above at C")]
    assert len(above) == 5
    assert all(-1e-4 < value < 0.15 for value in above)
    assert result.facts["% above the optimum, the worst"] == max(above)
    assert result.facts["% by its own estimate, the worst"] <= 0.1
    assert -1e-4 < result.facts["% above the optimum, one fit"] < 0.15


def test_distances_are_those_of_the_objective() -> None:
    data = solver._images(True)
    values = np.array([0.1, 1.0])
    near = data.minimize(C=values, tol=1e-9)
    far = SimpleNamespace(W=0 * near.W, b=0 * near.b)
    (first, second) = solver.distances(data, far, near, values)
    assert first == pytest.approx(math.log(10) / near.objective[0] - 1, rel=1e-6)
    assert second == pytest.approx(math.log(10) / near.objective[1] - 1, rel=1e-6)


def test_folds_find_the_same_accuracy() -> None:
    pytest.importorskip("sklearn")
    (result,) = solver.folds(settings("sklearn"))
    assert set(result.sides) == {OURS, "csoftmax on float32", "scikit-learn"}
    best = [result.facts[f"best accuracy, {side}"] for side in result.sides]
    assert best[:2] == [pytest.approx(best[2], abs=0.05)] * 2
    scores = {1: np.array([[0.5, 0.7], [0.7, 0.8]])}
    assert solver._best_score(SimpleNamespace(scores_=scores)) == 0.75


def test_without_scikit_learn_only_csoftmax(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solver.peers, "is_installed", lambda name: False)
    nobody = settings("sklearn")
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
    (result,) = solver.many_classes(settings())
    assert result.unit == "B"
    assert result.facts["allowed above the data"] == pytest.approx(2e8 + 1.5 * 180 * 24)
    monkeypatch.setattr(
        solver, "python", lambda *arguments: json.dumps({**measured, "distance": math.nan})
    )
    with pytest.raises(WrongResultError, match="came to nothing"):
        list(solver.many_classes(settings()))


def test_command_line_writes_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.json"
    command = ["bench", "--solver", "--quick", "--rounds", "1", "--peers", "none"]
    main([*command, "--only", "solver/near", "--goals", "--json", str(path)])
    out = capsys.readouterr().out
    assert "solver/near 0.1 %" in out
    assert "epoch/" not in out
    assert [result.name for result in Run.read(path).results] == [
        "solver/near 1 %", "solver/near 0.1 %", "solver/near 0.01 %",
    ]  # fmt: skip


def test_long_needs_solver() -> None:
    with pytest.raises(ValueError, match="long is given but solver is not"):
        bench.Options(long=True)
    with pytest.raises(ValueError, match="expected the start of a name"):
        bench.Options(solver=True, only="epoch")


def test_goals_of_the_solver() -> None:
    def result(name: str, facts: dict[str, float], **sides: float) -> Result:
        samples = {key.replace("_", "-"): Samples([value]) for key, value in sides.items()}
        return Result(name, 2, samples, facts=facts)

    run = Run({"threads": [1, 2]}, [
        result("solver/as far as scikit-learn", {}, csoftmax=0.1, scikit_learn=10),
        result("solver/near 0.1 %", {}, csoftmax=0.5),
        result("solver/defaults iris", {"scikit-learn above us": 1e-5}, csoftmax=1, scikit_learn=2),
        result("solver/defaults wine", {}, csoftmax=1),
        result("solver/folds", {}, csoftmax=1, scikit_learn=10),
        result(
            "solver/sweep 45 C",
            {"times one fit": 10.0, "% above the optimum, the worst": 0.2}, csoftmax=1,
        ),
        Result("solver/classes", 2, {OURS: Samples([1e8])}, "B", facts={
            "allowed above the data": 2e8, "speed by that of the bare pass": 0.5,
        }),
    ])  # fmt: skip
    met = {goal.what: goal.met for goal in goals.goals_of(run)}
    assert met == {
        "x scikit-learn: solver/as far as scikit-learn, 2 threads": True,
        "seconds: solver/near 0.1 %": True,
        "relative objective above us: solver/defaults iris": True,
        "x scikit-learn: solver/defaults iris, 2 threads": True,
        "x scikit-learn: solver/folds, 2 threads": False,
        "times one fit: solver/sweep 45 C": True,
        "% above the optimum, the worst: solver/sweep 45 C": False,
        "bytes: solver/classes": True,
        "speed by that of the bare pass: solver/classes": False,
    }


# ---- sentences ---------------------------------------------------------------------------------


def test_docstrings_are_labelled_by_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("first", "second", "small"):
        (tmp_path / package).mkdir()
        count = 2 if package == "small" else 30
        lines = [
            f'def f{i}():\n    """Does number {i} of {package}. More."""\n' for i in range(count)
        ]
        lines.append('def short():\n    """Too short."""\n')
        (tmp_path / package / "module.py").write_text("\n".join(lines))
    (tmp_path / "first" / "broken.py").write_text("def (")
    monkeypatch.setattr(sentences, "LEAST_OF_A_PACKAGE", 10)
    texts, labels = sentences.labelled(sentences.docstrings(tmp_path), 40)
    assert len(texts) == len(labels) == len(set(texts)) == 40
    names = ("first", "second")
    assert all(names[label] in text for text, label in zip(texts, labels, strict=True))
    assert all("More" not in text for text in texts)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentences, "NEEDED", {"no_such_module": "its-package", "json": "json"})
    assert sentences.missing() == "needs its-package"


def test_the_model_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of the same layout with random weights: padding changes nothing, norms are 1."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    shapes = {"word": (9, 24), "token_type": (2, 24), "position": (16, 24)}
    weights = {f"embeddings.{name}_embeddings.weight": shape for name, shape in shapes.items()}
    dense = {
        "attention.self.query": (24, 24), "attention.self.key": (24, 24),
        "attention.self.value": (24, 24), "attention.output.dense": (24, 24),
        "intermediate.dense": (48, 24), "output.dense": (24, 48),
    }  # fmt: skip
    for name, shape in dense.items():
        weights[f"encoder.layer.0.{name}.weight"] = shape
        weights[f"encoder.layer.0.{name}.bias"] = shape[:1]
    for name in ("embeddings", "encoder.layer.0.attention.output", "encoder.layer.0.output"):
        weights[f"{name}.LayerNorm.weight"] = weights[f"{name}.LayerNorm.bias"] = (24,)
    random = {name: rng.normal(size=s).astype(np.float32) for name, s in weights.items()}

    class Tokenizer:
        from_str = staticmethod(lambda text: Tokenizer())
        enable_truncation = enable_padding = lambda self, *arguments: None

        def encode_batch(self, texts: list[str]) -> list[Any]:
            longest = max(map(len, texts))
            return [
                SimpleNamespace(
                    ids=[int(c) for c in text] + [0] * (longest - len(text)),
                    attention_mask=[1] * len(text) + [0] * (longest - len(text)),
                )
                for text in texts
            ]

    monkeypatch.setattr(sentences, "_read_model", lambda: (random, ""))
    monkeypatch.setattr(
        sentences, "import_module",
        lambda name: torch if name == "torch" else SimpleNamespace(Tokenizer=Tokenizer),
    )  # fmt: skip
    for name, value in {"LAYERS": 1, "HEADS": 2, "FEATURES": 24}.items():
        monkeypatch.setattr(sentences, name, value)
    together = sentences.embed(["123", "45678"])
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    assert np.allclose(together[0], sentences.embed(["123"])[0], atol=1e-5)
    assert not np.allclose(together[0], together[1], atol=1e-2)


def test_a_process_that_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match="failed"):
        processes.python("-m", "csoftmax.bench.memory", "csoftmax", "fit1x1")
