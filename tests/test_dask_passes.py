"""Passes over rows on a cluster: the sums, statistics and samples of one machine, bit for bit."""

from __future__ import annotations

import time
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import csoftmax as cs
from csoftmax import _kernels
from csoftmax.engine.local_passes import LocalPasses
from csoftmax.engine.statistics import statistics
from csoftmax.engine.units import CHUNK_ROWS
from csoftmax.rows.shards import Shard
from tests.dask_cases import cluster, same, table

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


def test_units_are_pieces_of_shards_with_their_labels_and_arrays() -> None:
    numbers = np.arange(5 * CHUNK_ROWS + 10)
    shards = [
        Shard("a", len(numbers), lambda i, j: numbers[i:j, None], lambda i, j: numbers[i:j],
              pieces=lambda i, j: [numbers[i : i + 1, None], numbers[i + 1 : j, None]]),
        Shard("b", 7, lambda i, j: -numbers[i:j, None]),
    ]  # fmt: skip
    units = parts.pieces(shards, 2)
    rows = [[shard.n_rows for shard in unit] for unit in units]
    assert rows == [[2 * CHUNK_ROWS], [2 * CHUNK_ROWS], [CHUNK_ROWS + 10, 7]]
    second = units[1][0]
    assert second.pieces is not None
    assert [a.tolist() for a in second.pieces(3, 5)] == [[[2 * CHUNK_ROWS + i]] for i in (3, 4)]
    assert units[2][1].pieces is None
    assert second.read(3, 5).tolist() == [[2 * CHUNK_ROWS + 3], [2 * CHUNK_ROWS + 4]]
    assert second.labels is not None
    assert second.labels(0, 1).tolist() == [2 * CHUNK_ROWS]


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


def test_a_cluster_without_workers_is_told(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "WORKERS_SECONDS", 0.0)
    X, y = table(n=100)
    passes = engine.DaskRows(client, da.from_array(X)).passes(y.astype(np.uint8), 3)
    monkeypatch.setattr(client, "nthreads", dict)
    with pytest.raises(ConnectionError, match="no workers for 0 s"):
        passes.run(_sleepy, None)


def _sleepy(*_: Any) -> None:
    time.sleep(2)


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
