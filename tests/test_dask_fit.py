"""`csoftmax.dask`: the bits of one machine from arrays, tables and shards; clear refusals."""

from __future__ import annotations

import gc
import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import sparse
from sklearn.base import clone

import csoftmax as cs
from csoftmax import _kernels
from csoftmax.core.errors import DataError
from csoftmax.engine.units import CHUNK_ROWS
from csoftmax.estimators.fit import plan_memory
from csoftmax.solver import corrected, l1_memory, minimize
from tests.dask_cases import ROWS, cluster, same, table
from tests.solver_cases import same_bits

pytest.importorskip("distributed", reason="needs the extra dask")
da = pytest.importorskip("dask.array", reason="needs the extra dask")

from csoftmax.dask import SoftmaxClassifier  # noqa: E402
from csoftmax.engine import dask as engine  # noqa: E402

Array = Any
pytestmark = pytest.mark.xdist_group("dask")


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    # workers that would use another instruction set by themselves
    with cluster(2, env={"CSOFTMAX_ISA": _kernels.available()[-1]}) as (_, made):
        yield made


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


def test_nothing_is_left_on_the_workers(client: Any) -> None:
    X, y = table()
    dX, before = da.from_array(X, chunks=(9999, -1)), set(client.futures)
    gc.disable()
    try:
        SoftmaxClassifier(client=client).fit(dX, da.from_array(y))
        until = time.monotonic() + 10
        while not set(client.futures) <= before:  # another thread sends that they are not needed
            assert time.monotonic() < until
            time.sleep(0.01)
    finally:
        gc.enable()


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
    two = SoftmaxClassifier(client=client).fit(da.from_array(X), y == 1)
    data = written(tmp_path, X, y == 1)
    assert two.score(data) == two.to_local().score(X, y == 1)


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


def test_l1_goes_by_a_sample_where_rows_are_not_few(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = table()
    data, dX = written(tmp_path, X, y), da.from_array(X)
    settings: dict[str, Any] = {"C": 0.01, "l1_ratio": 0.5, "tol": 1e-4}
    in_memory = cs.SoftmaxClassifier(**settings).fit(X, y)
    assert 0 < (in_memory.coef_ == 0).mean() < 1
    for given in ((data,), (dX, y)):
        assert same(SoftmaxClassifier(client=client, **settings).fit(*given), in_memory)
    monkeypatch.setattr(l1_memory, "IN_MEMORY_BYTES", 1 << 21)  # fewer bytes than all rows take
    local = cs.SoftmaxClassifier(**settings).fit(data)
    assert not same(local, in_memory)
    monkeypatch.setattr(engine.DaskRows, "take", None)  # all rows would come here
    for given in ((data,), (dX, y)):
        remote = SoftmaxClassifier(client=client, **settings).fit(*given)
        assert same(remote, local)
        assert remote.gap_ == local.gap_
    monkeypatch.setattr(l1_memory, "IN_MEMORY_BYTES", 0)
    with pytest.raises(ValueError, match="rows on a cluster, too few for a sample of 15 for each"):
        remote.fit(data)


def test_labels_of_files_are_read_by_the_workers(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = table()
    weight = 1.0 + np.arange(len(y)) % 2
    for i, names in enumerate((np.array([5, 70_000, -3]), np.array(["a", "bb", "c"]))):
        (tmp_path / str(i)).mkdir()
        data = written(tmp_path / str(i), X, names[y], (1, 1, 4, 99))
        remote = SoftmaxClassifier(client=client, C=0.1)
        with monkeypatch.context() as patch:
            patch.setattr("csoftmax.data.shards.encoded", lambda *_: pytest.fail("read here"))
            remote.fit(data, validation=data[2:])
            accuracy = remote.score(data)
        assert accuracy == remote.to_local().score(data)
        assert accuracy > remote.history_["validation_accuracy"][0]
        local = cs.SoftmaxClassifier(C=0.1).fit(data, validation=data[2:])
        assert same(remote, local)
        assert remote.history_["validation_loss"] == local.history_["validation_loss"]
        assert remote.classes_.tolist() == sorted(names.tolist())
    remote.set_params(class_weight="balanced").fit(data)  # they are read here
    assert same(remote, cs.SoftmaxClassifier(C=0.1, class_weight="balanced").fit(data))
    in_memory = cs.shards(f"{tmp_path}/0/x*.npy", labels=y, weights=weight)
    remote = SoftmaxClassifier(client=client).fit(in_memory)
    assert same(remote, cs.SoftmaxClassifier().fit(X, y, weight))
    assert remote.score(in_memory) == pytest.approx(remote.to_local().score(X, y, weight))


def test_what_a_fit_takes_here_does_not_grow_with_labels_that_workers_have(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = table()
    planned = []

    def watched(*args: Any, **options: Any) -> Any:
        planned.append(plan_memory(*args, **options))
        return planned[-1]

    monkeypatch.setattr("csoftmax.estimators.full_shards.plan_memory", watched)
    data = written(tmp_path, X, y)
    SoftmaxClassifier(client=client).fit(data)
    cs.SoftmaxClassifier().fit(data)
    assert planned[1].n_bytes - planned[0].n_bytes == len(y)


def test_labels_that_workers_refuse(client: Any, tmp_path: Path) -> None:
    X, y = table()
    labels = y.astype(np.float32)
    labels[5 * CHUNK_ROWS + 100] = 0.5
    data = written(tmp_path, X, labels)
    where = rf"shard 2 \(x2.npy\): row 100 \(row {5 * CHUNK_ROWS + 100} of all\): expected a label"
    with pytest.raises(DataError, match=where):
        SoftmaxClassifier(client=client).fit(data)
    fitted = SoftmaxClassifier(client=client).fit(da.from_array(X), y)
    with pytest.raises(DataError, match=where):
        fitted.score(data)
    with pytest.raises(DataError, match=r"shard 0 .*label 0 is not one of the 3 classes"):
        SoftmaxClassifier(client=client).fit(da.from_array(X), y + 1).score(data[:2])
    np.save(tmp_path / "y2.npy", np.full(len(y) - 5 * CHUNK_ROWS, "b"))
    data = cs.shards(f"{tmp_path}/x*.npy", labels=f"{tmp_path}/y*.npy")
    with pytest.raises(DataError, match=r"shard 2 .*expected labels that are numbers"):
        SoftmaxClassifier(client=client).fit(data)


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


def test_lazy_predictions_write_no_file(client: Any, tmp_path: Path) -> None:
    X, y = table(n=1000)
    dX = da.from_array(X, chunks=(300, -1))
    remote = SoftmaxClassifier(client=client).fit(dX, y)
    for method in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        with pytest.raises(ValueError, match=r"out is .*: of a Dask collection the result"):
            getattr(remote, method)(dX, out=tmp_path / "p.npy")
        assert not (tmp_path / "p.npy").exists()


def test_refusals(client: Any, tmp_path: Path) -> None:
    X, y = table(n=1000)
    dX = da.from_array(X, chunks=(300, -1))
    fit = SoftmaxClassifier(client=client).fit
    with pytest.raises(ValueError, match=r"X\.rechunk\({1: -1}\)"):
        fit(dX.rechunk((500, 3)), y)
    with pytest.raises(TypeError, match="X has blocks of csr_array, expected NumPy arrays"):
        fit(dX.map_blocks(sparse.csr_array, meta=sparse.csr_array((0, 7), dtype=X.dtype)), y)
    sparse.save_npz(tmp_path / "x.npz", sparse.csr_array(X))
    with pytest.raises(ValueError, match=r"sparse shards.*csoftmax\.SoftmaxClassifier fits them"):
        fit(cs.shards(str(tmp_path / "x.npz"), labels=y))
    with pytest.raises(ValueError, match="y has 999 labels but X has 1000 rows"):
        fit(dX, y[:-1])
    with pytest.raises(TypeError, match=r"numpy\.ndarray.*csoftmax\.SoftmaxClassifier"):
        fit(X, y)
    with pytest.raises(ValueError, match="y is None"):
        fit(dX)
    with pytest.raises(ValueError, match="only one class"):
        fit(dX, np.zeros(1000))
    with pytest.raises(ValueError, match=r'"sgd", which does not run on a cluster: solver="auto"'):
        SoftmaxClassifier(client=client, solver="sgd").fit(dX, y)
    for here in (cs.SoftmaxClassifier(), cs.SoftmaxClassifierCV()):
        here.fit(X, y)
        for method in (here.fit, here.score):
            with pytest.raises(TypeError, match=r"estimators of csoftmax\.dask fit and predict"):
                method(dX, y)
        with pytest.raises(TypeError, match="fit and predict where it is"):
            here.predict_proba(dX)


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
