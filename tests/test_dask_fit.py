"""`csoftmax.dask`: the bits of one machine from arrays, tables and shards; clear refusals."""

from __future__ import annotations

import pickle
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone

import csoftmax as cs
from csoftmax import _kernels
from csoftmax.core.errors import DataError
from csoftmax.engine.local_passes import LocalPasses
from csoftmax.engine.statistics import statistics
from csoftmax.engine.units import CHUNK_ROWS
from csoftmax.solver import corrected, minimize
from tests.dask_cases import ROWS, cluster, same, table
from tests.solver_cases import same_bits

pytest.importorskip("distributed", reason="needs the extra dask")
da = pytest.importorskip("dask.array", reason="needs the extra dask")

from csoftmax.dask import SoftmaxClassifier  # noqa: E402
from csoftmax.engine import dask as engine  # noqa: E402
from csoftmax.engine import dask_parts as parts  # noqa: E402

Array = Any
pytestmark = pytest.mark.xdist_group("dask")


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    # workers that would use another instruction set by themselves
    with cluster(2, env={"CSOFTMAX_ISA": _kernels.available()[-1]}) as (_, made):
        yield made


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_passes_have_the_bits_of_one_array(client: Any, dtype: Any, weighted: bool) -> None:
    X, y = table(dtype=dtype)
    weights = np.random.default_rng(0).integers(0, 3, (2, len(y))) / 2 if weighted else None
    options: dict[str, Any] = {"weights": weights, "scale": 0.5}
    local = LocalPasses(X, y, 3, **options)
    rows = engine.DaskRows(client, da.from_array(X, chunks=(10_007, -1)))
    remote = rows.passes(y.astype(np.uint8), 3, n_sampled=1000, **options)
    rng = np.random.default_rng(1)
    W = rng.normal(size=(2, 3, 7)).astype(local.dtype) / 9
    b, heads = rng.normal(size=(2, 3)).astype(local.dtype), np.arange(2) % local.n_weights
    found = []
    for passes in (local, remote):
        dW, db = np.empty_like(W), np.empty_like(b)
        found.append((passes.evaluate(W, b, heads, dW, db), dW, db))
    assert found[0][0] == found[1][0]
    for one, other in zip(found[0][1:], found[1][1:], strict=True):
        assert_array_equal(one, other)
    null = np.zeros((local.n_weights, 3), local.dtype)
    sums = local.null_sums(null, True), remote.null_sums(null, True)
    for one, other in zip(sums[0][:4], sums[1][:4], strict=True):
        assert_array_equal(np.ravel(one), np.ravel(other))
    ours, theirs = statistics(remote, 500, 1), statistics(local, 500, 1)
    assert_array_equal(ours.class_sums, theirs.class_sums)
    for of in ("target", "weights", "scale"):
        assert_array_equal(getattr(ours.sample, of), getattr(theirs.sample, of))
    assert_array_equal(ours.sample.rows.X, theirs.sample.rows.X)
    for n, seed in ((1000, 0), (50, 3)):
        ours, theirs = remote.sample(0, n, seed), local.sample(0, n, seed)
        assert_array_equal(ours.rows.X, theirs.rows.X)
        assert_array_equal(ours.target, theirs.target)


def moved(array: Array) -> Array:
    """Return a copy that lies at an odd address."""
    memory = np.empty(array.nbytes + 17, np.uint8)
    first = 1 - memory.ctypes.data % 2
    there = memory[first : first + array.nbytes].view(array.dtype).reshape(array.shape)
    there[...] = array
    return there


def test_what_comes_over_a_network_may_lie_anywhere() -> None:
    X, y = table()
    weights = np.random.default_rng(0).random((1, len(y)))
    W, b, heads = np.full((1, 3, 7), 0.1, np.float32), np.zeros((1, 3), np.float32), np.arange(1)
    found = []
    for copy in (np.array, moved):
        held = parts.Held(
            None, 7, X.dtype, copy(y.astype(np.uint16)), 3, copy(weights), 1.0, _kernels.active()
        )
        unit = parts.evaluate_unit(held, copy(X), (copy(W), copy(b), copy(heads)), None)
        found.append(np.concatenate([node for _, node in unit.nodes]))
    assert_array_equal(*found)


def test_large_parameters_and_gradients_go_through_workers(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = table()
    W, b, heads = np.full((1, 3, 7), 0.1, np.float32), np.zeros((1, 3), np.float32), np.arange(1)
    expected, dW, db = np.empty_like(W), np.empty_like(W), np.empty_like(b)
    LocalPasses(X, y, 3).evaluate(W, b, heads, expected, db)
    for name, value in (("LARGE_BYTES", 1), ("LARGE_PASS_BYTES", 1), ("JOINED_UNITS", 2)):
        monkeypatch.setattr(engine, name, value)
    rows = engine.DaskRows(client, da.from_array(X, chunks=(CHUNK_ROWS, -1)))
    assert len(rows.units) > 2  # so that some are joined
    rows.passes(y.astype(np.uint8), 3).evaluate(W, b, heads, dW, db)
    assert_array_equal(dW, expected)


@pytest.mark.parametrize("chunks", [ROWS, 2 * CHUNK_ROWS, 9999])
def test_a_fit_has_the_bits_of_one_machine(client: Any, chunks: int) -> None:
    X, y = table()
    labels, weight = np.array(["a", "b", "c"])[y], np.random.default_rng(2).random(len(y))
    local = cs.SoftmaxClassifier(C=0.3, class_weight="balanced").fit(X, labels, weight)
    dX, dy, dw = (da.from_array(a, chunks=(chunks, -1)[: a.ndim]) for a in (X, labels, weight))
    remote = SoftmaxClassifier(C=0.3, class_weight="balanced", client=client).fit(dX, dy, dw)
    assert same(local, remote)
    assert remote.gap_ == local.gap_
    assert remote.history_["objective"] == local.history_["objective"]
    assert same(remote.to_local(), local)
    assert type(remote.to_local()) is cs.SoftmaxClassifier


def test_two_classes_of_bytes_without_a_client(client: Any) -> None:
    X, y = table(k=2, dtype=np.uint8)
    remote = SoftmaxClassifier().fit(da.from_array(X, chunks=(30_000, -1)), y)
    assert same(remote, cs.SoftmaxClassifier().fit(X, y))
    assert remote.coef_.shape == (1, 7)


def test_unknown_lengths_are_counted(client: Any) -> None:
    X, y = table()
    keep = X[:, 0] > 0
    dX, dy = (da.from_array(a, chunks=(9000, -1)[: a.ndim]) for a in (X, y))
    dX, dy = dX[dX[:, 0] > 0], dy[dX[:, 0] > 0]
    remote = SoftmaxClassifier(client=client).fit(dX, dy)
    assert same(remote, cs.SoftmaxClassifier().fit(X[keep], y[keep]))
    assert np.isnan(dX.chunks[0]).all()  # the caller's array is as it was


def test_tables(client: Any) -> None:
    dd = pytest.importorskip("dask.dataframe")
    import pandas as pd

    X, y = table(n=20_000)
    frame = pd.DataFrame(X, columns=list("abcdefg"))
    labels = pd.Series(np.array(["x", "y", "z"])[y])
    dX, dy = dd.from_pandas(frame, npartitions=3), dd.from_pandas(labels, npartitions=3)
    local = cs.SoftmaxClassifier().fit(frame, labels)
    remote = SoftmaxClassifier(client=client).fit(dX, dy)
    assert_array_equal(local.coef_, remote.coef_)
    assert list(remote.classes_) == ["x", "y", "z"]
    assert list(remote.feature_names_in_) == list("abcdefg")
    assert_array_equal(remote.predict(dX).compute(), local.predict(frame))
    assert remote.score(dX, dy) == local.score(frame, labels)
    with pytest.raises(ValueError, match="feature names"):
        remote.predict(dX[list("gfedcba")])


def written(folder: Path, X: Array, y: Array, ends: tuple[int, ...] = (2, 5, 99)) -> cs.data.Shards:
    """Return rows as shards that end after so many chunks."""
    for i, start in enumerate((0, *ends[:-1])):
        some = slice(start * CHUNK_ROWS, ends[i] * CHUNK_ROWS)
        np.save(folder / f"x{i}.npy", X[some])
        np.save(folder / f"y{i}.npy", y[some])
    return cs.shards(f"{folder}/x*.npy", labels=f"{folder}/y*.npy")


def test_shards_that_workers_open(client: Any, tmp_path: Path) -> None:
    X, y = table(dtype=np.uint8)
    data = written(tmp_path, X, y)
    remote = SoftmaxClassifier(client=client, C=0.1).fit(data)
    assert same(remote, cs.SoftmaxClassifier(C=0.1).fit(X, y))
    assert same(remote, cs.SoftmaxClassifier(C=0.1).fit(data))
    assert remote.score(data) == remote.to_local().score(X, y)


@pytest.mark.parametrize("settings", [{}, {"tol": "sampling"}])
@pytest.mark.parametrize("of_shards", [False, True])
def test_rows_are_never_read_by_the_client(
    client: Any, settings: dict[str, Any], of_shards: bool, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    X, y = table()
    data: Any = (written(tmp_path, X, y),) if of_shards else (X, y)
    monkeypatch.setattr(corrected, "COSTLY_BYTES", 1)  # of shards a sample is corrected
    local = cs.SoftmaxClassifier(**settings).fit(*data)
    monkeypatch.setattr(engine.DaskPasses, "windows", None)
    remote = SoftmaxClassifier(client=client, **settings)
    remote.fit(*(data if of_shards else (da.from_array(X), y)))
    assert same(remote, local)
    assert (remote.gap_, remote.history_["objective"]) == (local.gap_, local.history_["objective"])
    in_memory = cs.SoftmaxClassifier(**settings).fit(X, y)
    assert same(remote, in_memory) != of_shards  # others are the steps by a sample


def test_so_many_rows_are_sampled_on_a_cluster(client: Any, tmp_path: Path) -> None:
    X, y = table()
    weight = np.random.default_rng(3).integers(0, 3, (2, len(y))) / 2
    data = written(tmp_path, X, y, (1, 1, 4, 99)).rows
    options: dict[str, Any] = {
        "C": 0.01, "sample_weight": weight, "tol": 1e-7, "sample_rows": 1000,
    }  # fmt: skip
    local = minimize(data, y, 3, **options)
    remote = minimize(engine.DaskRows(client, data), y, 3, **options)
    assert same_bits(remote, local)
    assert (
        remote.n_passes
        == local.n_passes
        < minimize(X, y, 3, **(options | {"sample_rows": 0})).n_passes
    )


def test_predictions_are_lazy(client: Any) -> None:
    X, y = table()
    dX = da.from_array(X, chunks=(7000, -1))
    remote = SoftmaxClassifier(client=client).fit(dX, y)
    local = remote.to_local()
    for method in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        lazy = getattr(remote, method)(dX)
        expected = getattr(local, method)(X)
        assert isinstance(lazy, da.Array)
        assert (lazy.shape, lazy.dtype) == (expected.shape, expected.dtype)
        assert_array_equal(lazy.compute(), expected)
    weight = np.arange(len(y)) % 3
    assert remote.score(dX, da.from_array(y), weight) == pytest.approx(local.score(X, y, weight))
    assert_array_equal(remote.predict(X), local.predict(X))  # in memory, as ever


def test_a_cluster_without_workers_is_told(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "WORKERS_SECONDS", 0.0)
    X, y = table(n=100)
    passes = engine.DaskRows(client, da.from_array(X)).passes(y.astype(np.uint8), 3)
    monkeypatch.setattr(client, "nthreads", dict)
    with pytest.raises(ConnectionError, match="no workers for 0 s"):
        passes.run(_sleepy, None)


def _sleepy(*_: Any) -> None:
    time.sleep(2)


def test_it_is_an_estimator(client: Any) -> None:
    remote = SoftmaxClassifier(C=2.0, tol=1e-3, checkpoint="x")
    assert clone(remote).get_params() == remote.get_params()
    assert remote.get_params()["tol"] == 1e-3
    with pytest.raises(TypeError):
        SoftmaxClassifier(colour=1)
    X, y = table(n=100)
    remote = SoftmaxClassifier(client=client).fit(da.from_array(X), y)
    again = pickle.loads(pickle.dumps(remote))
    assert again.client is None
    assert same(again, remote)


def test_refusals(client: Any) -> None:
    X, y = table(n=1000)
    dX = da.from_array(X, chunks=(300, -1))
    fit = SoftmaxClassifier(client=client).fit
    with pytest.raises(ValueError, match=r"X\.rechunk\({1: -1}\)"):
        fit(dX.rechunk((500, 3)), y)
    with pytest.raises(ValueError, match="y has 999 labels but X has 1000 rows"):
        fit(dX, y[:-1])
    with pytest.raises(TypeError, match=r"numpy\.ndarray.*csoftmax\.SoftmaxClassifier"):
        fit(X, y)
    with pytest.raises(ValueError, match="y is None"):
        fit(dX)
    with pytest.raises(ValueError, match="only one class"):
        fit(dX, np.zeros(1000))
    with pytest.raises(ValueError, match="l1_ratio is above 0"):
        SoftmaxClassifier(client=client, l1_ratio=0.5).fit(dX, y)
    for method in (cs.SoftmaxClassifier().fit, cs.SoftmaxClassifierCV().fit):
        with pytest.raises(TypeError, match=r"csoftmax\.dask\.SoftmaxClassifier"):
            method(dX, y)


def test_a_bad_value_is_named(client: Any) -> None:
    X, y = table()
    X[40_000, 3] = np.nan
    dX = da.from_array(X.copy(), chunks=(9000, -1))
    remote = SoftmaxClassifier(client=client)
    with pytest.raises(DataError, match="row 40000 of X: feature 3 is nan"):
        remote.fit(dX, y)
    assert not hasattr(remote, "coef_")
    weight = np.ones(len(y))
    weight[40_000] = 0  # rows that do not count may hold anything
    X[40_000] = 0
    assert same(remote.fit(dX, y, weight), cs.SoftmaxClassifier().fit(X, y, weight))


def test_the_instruction_set_is_one_that_all_workers_have(client: Any) -> None:
    class Old:
        def run(self, function: Any) -> dict[str, tuple[str, ...]]:
            return {"new": function(), "old": function()[-1:]}

    with pytest.raises(ConnectionError, match="no workers"):
        engine.common_isa(types.SimpleNamespace(run=lambda function: {}))
    before = _kernels.active()
    with engine.pinned(Old()) as isa:
        assert isa == _kernels.active() == _kernels.available()[-1]
    assert _kernels.active() == before
    X, y = table()
    fitted = []
    for name in dict.fromkeys((before, _kernels.available()[-1])):
        _kernels.use(name)
        try:
            local = cs.SoftmaxClassifier().fit(X, y)
            fitted.append(SoftmaxClassifier(client=client).fit(da.from_array(X), y))
        finally:
            _kernels.use(before)
        assert same(local, fitted[-1])
