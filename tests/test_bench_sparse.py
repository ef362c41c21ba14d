"""The benchmark of sparse rows, on a table that is made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from csoftmax.bench import Options, measure, sparse
from csoftmax.bench.measure import WrongResultError
from csoftmax.bench.run import describe, names_of
from csoftmax.bench.session import Session

scipy_sparse = pytest.importorskip("scipy.sparse")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> Any:
    table = sparse.made_up(300, 200, 4)
    monkeypatch.setattr(sparse, "made_up", lambda *sizes: table)
    for module in (sparse, measure):
        monkeypatch.setattr(module, "REST_SECONDS", 0.0)
    sparse.table_of.cache_clear()
    sparse.optimum.cache_clear()
    yield
    sparse.table_of.cache_clear()
    sparse.optimum.cache_clear()


def session(*peers: str) -> Session:
    return Session(list(peers), 1, sparse=True)


def test_sparse_measures_sparse_rows_and_nothing_else(tmp_path: Path) -> None:
    made_up = list(names_of(Options(sparse=True, peers="none").session))
    real = list(names_of(Options(sparse=True, peers="none", data=tmp_path).session))
    assert all(name.startswith("sparse/") for name in made_up + real)
    assert all("made-up" in name or "memory" in name for name in made_up)
    assert {name.split()[1] for name in real if "pass" in name} == set(sparse.NAMES)
    told = describe(Options(sparse=True, peers="none").session).machine["dataset"]
    assert told == "a small sparse table, made up"
    with pytest.raises(FileNotFoundError, match="expected the folder of the tables"):
        Options(sparse=True, data=tmp_path / "nowhere")


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    X = scipy_sparse.random(20, 7, 0.3, format="csr", dtype=np.float32, random_state=0)
    y = np.arange(20) % 3
    np.savez(
        tmp_path / "words.npz", data=X.data, indices=X.indices, indptr=X.indptr, shape=X.shape,
        y=y, class_names=np.array(["a", "b", "c"]),
    )  # fmt: skip
    table = sparse.table_of("words", tmp_path)
    assert (table.X != X).nnz == 0
    assert table.n_classes == 3
    np.testing.assert_array_equal(table.y, y)


def test_loss_and_gradient_are_those_of_scikit_learn() -> None:
    pytest.importorskip("sklearn")
    for dtype in ("float32", "float64"):
        for result in sparse.a_pass(session("sklearn"), sparse.MADE_UP, dtype):
            assert set(result.sides) == {"csoftmax", "scikit-learn"}


def test_a_wrong_gradient_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    without_bias = sparse._without_bias

    def wrong(run: Any) -> tuple[Any, ...]:
        loss, dW = without_bias(run)
        return loss, 1.01 * dW

    monkeypatch.setattr(sparse, "_without_bias", wrong)
    with pytest.raises(WrongResultError, match="csoftmax: off by"):
        list(sparse.a_pass(session(), sparse.MADE_UP, "float32"))


def test_fits_of_both_kinds_come_as_near_as_the_peers() -> None:
    pytest.importorskip("sklearn")
    (ridge,) = sparse.ridge(session("sklearn"), sparse.MADE_UP)
    (lasso,) = sparse.lasso(session("sklearn"), sparse.MADE_UP, 1.0)
    for result in (ridge, lasso):
        assert result.facts["saga above"] <= 0
    assert ridge.facts["lbfgs above"] <= 1e-5
    assert 0 < lasso.facts["weights not 0"] < 4 * 200


def test_the_objective_is_that_of_a_dense_table() -> None:
    table = sparse.made_up()
    random = np.random.default_rng(0)
    W, b = random.normal(size=(4, 200)), random.normal(size=4)
    logits = table.X.toarray().astype(np.float64) @ W.T + b
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(300), table.y]
    expected = losses.mean() + (0.3 * np.abs(W).sum() + 0.35 * (W**2).sum()) / (2.0 * 300)
    assert sparse.objective(table, W, b, 2.0, 0.3) == pytest.approx(expected, rel=1e-12)
