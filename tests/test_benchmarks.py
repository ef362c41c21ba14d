"""What tells a run of the benchmark to this repository: goals, the README's table, long runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from bench_cases import result, run_of

from benchmarks import goals, long, readme, sentences
from csoftmax import _kernels
from csoftmax.bench import run as runs
from csoftmax.bench import solver
from csoftmax.bench.measure import Samples
from csoftmax.bench.results import OURS, Result, Run
from csoftmax.bench.session import Session
from csoftmax.data import DataError

# ---- goals -------------------------------------------------------------------------------------


def test_goals_are_met_or_missed() -> None:
    run = run_of(
        result("epoch/uint8/batch 256", 2, csoftmax=1.0, NumPy=9.0, JAX=6.0),
        result("predict/one image", csoftmax=4e-6),
        result("process/import", csoftmax=0.2, import_numpy=0.1),
    )
    found = {goal.what: goal for goal in goals.goals_of(run)}
    assert found["x NumPy: epoch/uint8/batch 256, 2 threads"].met
    assert not found["x JAX: epoch/uint8/batch 256, 2 threads"].met
    assert found["microseconds: predict/one image"].measured == pytest.approx(4)
    assert not found["times import numpy: process/import"].met
    assert str(found["times import numpy: process/import"]).split()[:4] == [
        "MISSED",
        "2",
        "<=",
        "1.3",
    ]
    assert len(found) == 4


def test_every_goal_can_be_measured() -> None:
    """A result that is there for each goal yields it: no goal waits for a name that no work has."""
    names = list(runs.names_of(Session([], 1)))
    sides = {OURS, "NumPy", "JAX", "PyTorch", "scikit-learn", goals.LBFGS, goals.INTEL_LBFGS}
    sides |= {goals.BOOK, "csoftmax on avx2", "csoftmax on avx512"}
    sides |= {"csoftmax on float32", "import numpy"}
    facts = dict.fromkeys(
        ["worst round", "worst epoch", "seconds above the import", "data", "largest deviation"], 1.0
    )
    run = run_of()
    for name in names:
        for threads in (1, 2):
            samples = {side: Samples([1.0]) for side in sides}
            one = Result(
                name, threads, samples, n_bytes=10**9, limit=1.0, bound="FLOP", facts=facts
            )
            run.results.append(one)
    told = goals.goals_of(run)
    assert len(told) > 50
    parts = ["contention", "process/train", "memory/epoch", "memory/classes", "growth/n_classes"]
    parts += ["float16", "function/softmax", "powers", "of the limit", "L-BFGS", "the book's"]
    if len(_kernels.available()) > 2:
        parts.append("isa/epoch")
    for part in parts:
        assert any(part in goal.what for goal in told), part


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


# ---- the README's table ------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "title"), [("README.md", "work"), ("README.zh-CN.md", "任务")])
def test_the_readme_table_is_rewritten(tmp_path: Path, name: str, title: str) -> None:
    run = run_of(result("epoch/uint8/batch 256", 2, csoftmax=0.016, NumPy=0.128))
    path, source = tmp_path / name, tmp_path / "bench.json"
    path.write_text(f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n", encoding="utf-8")
    run.write(source)
    readme.main([str(source), str(path)])
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{readme.BEGIN}\n| {title} | csoftmax |")
    assert text.endswith(f"{readme.END}\nafter\n")
    assert "old" not in text
    assert "| 16 ms |  | 8× |" in text
    assert "A processor" in text
    readme.rewrite_readme(path, run)
    assert path.read_text(encoding="utf-8") == text


def test_a_readme_without_markers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(f"{readme.END}\n{readme.BEGIN}\n")
    with pytest.raises(DataError, match=r"README\.md: expected one line <!-- bench:begin"):
        readme.rewrite_readme(path, run_of())


def test_a_run_without_the_tables_work_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(f"{readme.BEGIN}\n{readme.END}\n")
    with pytest.raises(DataError, match=r"no result of the README's table"):
        readme.rewrite_readme(path, run_of())


# ---- long runs, sentences ----------------------------------------------------------------------


@pytest.fixture
def few_images(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Random pixels instead of Fashion-MNIST."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (300, 12)).astype(np.uint8)
    y = np.argmax(X[:, :10] + rng.gumbel(size=(300, 10)) * 200, axis=1)
    monkeypatch.setattr(solver, "images", lambda quick: (X, y, "random pixels"))
    monkeypatch.setattr(solver, "REST_SECONDS", 0.0)
    solver.of_images.cache_clear()
    yield
    solver.of_images.cache_clear()


@pytest.mark.usefixtures("few_images")
def test_long_runs_are_added_to_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.setattr(long, "ITERATIONS", 30)
    monkeypatch.setattr(long, "ROUNDS", 1)
    monkeypatch.setattr(long, "chosen", lambda peers: ["sklearn"])
    monkeypatch.setattr(long, "sweep", lambda session, max_iter: [result("solver/sweep 45 C")])
    path = tmp_path / "run.json"
    run_of(result("pass", csoftmax=1.0), result("solver/sweep 45 C", csoftmax=1.0)).write(path)
    long.main([str(path)])
    run = Run.read(path)
    names = ["pass", *(f"solver/near, scikit-learn after {n}" for n in (10, 30))]
    assert [found.name for found in run.results] == [*names, "solver/sweep 45 C"]
    assert set(run.results[1].sides) == {OURS, "scikit-learn"}
    assert run.results[-1].ours is None  # the new one
    assert names[-1] in capsys.readouterr().out


def test_fits_of_sentences_are_added_to_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sklearn")
    X, y = np.random.default_rng(0).normal(size=(60, 4)), np.arange(60) % 3
    monkeypatch.setattr(sentences, "embeddings", lambda: (X, y))
    monkeypatch.setattr(sentences, "missing", lambda: "")
    monkeypatch.setattr(sentences, "ROUNDS", 1)
    monkeypatch.setattr(sentences, "chosen", lambda peers: ["sklearn"])
    monkeypatch.setattr(solver, "REST_SECONDS", 0.0)
    path = tmp_path / "run.json"
    run_of().write(path)
    assert sentences.main([str(path)]) is None
    (found,) = Run.read(path).results
    assert found.name == "solver/defaults sentences"
    assert found.facts["scikit-learn above us"] > -2e-4
    monkeypatch.setattr(sentences, "missing", lambda: "needs torch")
    assert sentences.main([str(path)]) == "needs torch"


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
