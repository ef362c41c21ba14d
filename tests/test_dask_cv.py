"""`csoftmax.dask`: validation and cross-validation on workers, with the bits of one machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import csoftmax as cs
from csoftmax.core.errors import DataError
from csoftmax.engine.units import CHUNK_ROWS
from tests.dask_cases import cluster, same, table

pytest.importorskip("distributed", reason="needs the extra dask")
da = pytest.importorskip("dask.array", reason="needs the extra dask")

from csoftmax.dask import SoftmaxClassifier  # noqa: E402

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
