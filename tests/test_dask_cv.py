"""`csoftmax.dask`: validation and cross-validation on workers, with the bits of one machine."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import KFold

import csoftmax as cs
from csoftmax.core.errors import DataError
from csoftmax.engine.dask_parts import Held
from csoftmax.engine.row_weights import FoldWeights
from csoftmax.engine.units import CHUNK_ROWS
from tests.dask_cases import cluster, same, table

pytest.importorskip("distributed", reason="needs the extra dask")
da = pytest.importorskip("dask.array", reason="needs the extra dask")

from csoftmax.dask import SoftmaxClassifier, SoftmaxClassifierCV  # noqa: E402
from csoftmax.engine import dask as engine  # noqa: E402

Array = Any
pytestmark = pytest.mark.xdist_group("dask")
LENGTHS = (CHUNK_ROWS, 2 * CHUNK_ROWS, CHUNK_ROWS + 55)


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with cluster(2) as (_, made):
        yield made


def in_shards(folder: Path, X: Array, y: Array, weights: Array | None = None) -> Any:
    ends = np.cumsum(LENGTHS)[:-1]
    for s, (rows, labels) in enumerate(zip(np.split(X, ends), np.split(y, ends), strict=True)):
        np.save(folder / f"x{s}.npy", rows)
        np.save(folder / f"y{s}.npy", labels)
    return cs.shards(f"{folder}/x*.npy", labels=f"{folder}/y*.npy", weights=weights)


# ---- validation --------------------------------------------------------------------------------


@pytest.mark.parametrize("class_weight", [None, {"a": 2.0}])
def test_validation_on_workers(client: Any, tmp_path: Path, class_weight: Any) -> None:
    X, y = table()
    names = np.array(["a", "b", "c"])
    own_X, own_y = table(n=sum(LENGTHS))
    own_y = names[np.minimum(own_y, 1)]  # it need not have all classes
    weight = np.arange(len(own_y)) % 3 / 2
    own = in_shards(tmp_path, own_X, own_y, weight)
    options = {"early_stopping": True, "class_weight": class_weight, "n_iter_no_change": 2}
    local = cs.SoftmaxClassifier(**options).fit(X, names[y], validation=own)
    dX = da.from_array(X, chunks=(9000, -1))
    in_cluster = (da.from_array(own_X), da.from_array(own_y), weight)
    for validation in (own, in_cluster):
        remote = SoftmaxClassifier(client=client, **options)
        remote.fit(dX, names[y], validation=validation)
        assert same(local, remote)
        for name in ("validation_loss", "validation_accuracy"):
            assert remote.history_[name] == local.history_[name]
    here = SoftmaxClassifier(client=client, **options)
    here.fit(dX, names[y], validation=(own_X, own_y, weight))  # in this process
    assert same(local, here)
    assert_allclose(here.history_["validation_loss"], local.history_["validation_loss"])


def test_labels_that_training_does_not_have(client: Any, tmp_path: Path) -> None:
    X, y = table(n=sum(LENGTHS))
    dX, fit = da.from_array(X), SoftmaxClassifier(client=client).fit
    other = np.where(np.arange(len(y)) == CHUNK_ROWS + 3, 7, y)
    with pytest.raises(DataError, match=r"validation: shard 1 .*: row 3 .*the label 7 is not one"):
        fit(dX, y, validation=in_shards(tmp_path, X, other))
    with pytest.raises(ValueError, match="validation: y has the label 7, expected one of"):
        fit(dX, y, validation=(dX, da.from_array(other)))
    X = np.where(np.arange(len(y))[:, None] == CHUNK_ROWS + 3, np.nan, X)
    with pytest.raises(DataError, match=r"shard 1 .*: row 3 .*: feature 0 is nan"):
        fit(dX, y, validation=in_shards(tmp_path, X, y))


# ---- cross-validation ----------------------------------------------------------------------------


def same_choice(one: Any, other: Any) -> bool:
    names = ("C_", "scores_", "coefs_paths_", "coef_", "intercept_", "n_iter_", "classes_")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


@pytest.mark.parametrize(
    ("chunks", "settings"),
    [
        (60_000, {"cv": 3, "class_weight": "balanced"}),
        (9000, {"cv": KFold(2, shuffle=True, random_state=1), "refit": False}),
        (9000, {"cv": 2, "l1_ratios": [0.0, 1.0]}),
    ],
    ids=["refit", "average", "l1"],
)
def test_the_choice_has_the_bits_of_one_machine(
    client: Any, chunks: int, settings: dict[str, Any]
) -> None:
    X, y = table()
    names, weight = np.array(["a", "b", "c"])[y], np.random.default_rng(2).integers(0, 3, len(y))
    settings = {"Cs": [1e-3, 0.1], **settings}
    local = cs.SoftmaxClassifierCV(**settings).fit(X, names, weight)
    dX, dy, dw = (da.from_array(a, chunks=(chunks, -1)[: a.ndim]) for a in (X, names, weight))
    remote = SoftmaxClassifierCV(client=client, **settings).fit(dX, dy, dw)
    assert same_choice(local, remote)
    assert remote.score(dX, dy, dw) == pytest.approx(local.score(X, names, weight))
    home = remote.to_local()
    assert type(home) is cs.SoftmaxClassifierCV
    assert same_choice(home, local)
    assert_array_equal(home.best().predict(X), remote.predict(dX).compute())


def test_shards_that_workers_open(client: Any, tmp_path: Path) -> None:
    X, y = table(n=sum(LENGTHS), dtype=np.uint8)
    data = in_shards(tmp_path, X, y)
    for settings in ({"cv": 3, "scoring": "neg_log_loss"}, {"cv": cs.ShardKFold(3)}):
        local = cs.SoftmaxClassifierCV(Cs=[1e-5, 1e-4], **settings).fit(data)
        remote = SoftmaxClassifierCV(Cs=[1e-5, 1e-4], client=client, **settings).fit(data)
        assert same_choice(local, remote)
        assert remote.score(data) == local.score(X, y)
        assert remote.score(da.from_array(X), y) == pytest.approx(local.score(X, y))


def test_rows_and_arrays_of_weights_stay_where_they_are(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = table()
    held: list[Any] = []
    given = engine._given

    def watched(client: Any, content: Any, key: str) -> Any:
        held.append(content)
        return given(client, content, key)

    monkeypatch.setattr(engine, "_given", watched)
    monkeypatch.setattr(engine.DaskPasses, "windows", None)
    SoftmaxClassifierCV(Cs=2, cv=5, client=client).fit(da.from_array(X), y)
    weights = [h.weights for h in held if isinstance(h, Held) and h.weights is not None]
    assert {type(w) for w in weights} == {FoldWeights}
    assert sum(w.code.nbytes for w in weights) == 2 * len(y)  # to train, and to test


def test_a_worker_that_dies_while_c_is_chosen() -> None:
    X, y = table()
    local = cs.SoftmaxClassifierCV(Cs=[1e-3, 0.1], cv=3).fit(X, y)
    with cluster(2) as (made, client):
        dX = da.from_array(X, chunks=(9000, -1))
        victims = iter([worker.process.pid for worker in list(made.workers.values())[:1]])
        measure = engine.DaskPasses.measure

        def killing(self: Any, *heads: Any) -> Any:
            for pid in victims:
                os.kill(pid, signal.SIGKILL)
            return measure(self, *heads)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine.DaskPasses, "measure", killing)
            remote = SoftmaxClassifierCV(Cs=[1e-3, 0.1], cv=3, client=client).fit(dX, y)
        assert same_choice(local, remote)
        assert next(victims, None) is None


def test_it_is_an_estimator_and_refuses(client: Any) -> None:
    remote = SoftmaxClassifierCV(Cs=3, cv=4, client=client)
    assert clone(remote).get_params() == remote.get_params()
    assert pickle.loads(pickle.dumps(remote)).client is None
    X, y = table(n=500)
    with pytest.raises(ValueError, match=r"cv is ShardKFold\(2\), which holds shards out, but X"):
        remote.set_params(cv=cs.ShardKFold(2)).fit(da.from_array(X), y)
    with pytest.raises(TypeError, match=r"csoftmax\.SoftmaxClassifier fits what is in memory"):
        remote.fit(X, y)
    with pytest.raises(ValueError, match="y is None"):
        remote.fit(da.from_array(X))
    with pytest.raises(ValueError, match="fit got groups, which go to the splitter"):
        remote.fit(da.from_array(X), y, groups=y)
    assert not hasattr(remote, "coef_")
