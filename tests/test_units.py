"""The rule of sums: the same bits for any threads, units and processes, and rounding that stays."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from csoftmax import _kernels
from csoftmax.engine import chunks
from csoftmax.engine.chunks import Evaluation
from csoftmax.engine.local_passes import LocalPasses
from csoftmax.engine.units import CHUNK_ROWS, SumTree, n_chunks, runs

Array = Any
# features, classes, heads, weighted: partial gradients, and blocks that threads share
SHAPES = {
    "bytes": (np.uint8, 49, 10, 1, False),
    "floats, heads, weights": (np.float32, 5, 3, 2, True),
    "large gradients": (np.float16, 130, 1020, 1, False),
    "doubles": (np.float64, 6, 2, 1, True),
}
N_ROWS = 11 * CHUNK_ROWS + 1234  # 11 chunks, the last one longer


def samples(name: str, n: int) -> tuple[Array, Array, Array, Evaluation]:
    dtype, f, k, n_heads, weighted = SHAPES[name]
    rng = np.random.default_rng(3)
    X = rng.integers(0, 200, (n, f)).astype(dtype)
    y = rng.integers(0, k, n).astype(np.uint16)
    weights = rng.integers(0, 4, (n_heads, n)) / 2 if weighted else None
    t = np.float64 if dtype == np.float64 else np.float32
    W, b = rng.normal(size=(n_heads, k, f)).astype(t) / 99, np.zeros((n_heads, k), t)
    return X, y, weights, Evaluation(W, b, np.arange(n_heads), 0.01, 1)


def summed(
    X: Array, y: Array, weights: Array, here: Evaluation, cuts: list[int], order: Array = None
) -> tuple[Array, Array]:
    """Return all sums, of units between cuts (in chunks) that are computed in any order."""
    spans = list(runs(len(X), 1))
    units = [slice(spans[a].start, spans[e - 1].stop) for a, e in pairwise(cuts)]
    trees: list[SumTree] = [here.tree(n_chunks(len(X))) for _ in units]
    n_correct: Array = 0
    for u in np.arange(len(units)) if order is None else order:
        some = units[u]
        of_unit = None if weights is None else np.ascontiguousarray(weights[:, some])
        scratch = np.empty_like(here.W), np.empty_like(here.b)
        n_correct = n_correct + here.add(trees[u], X[some], y[some], of_unit, scratch)
    whole = here.tree(n_chunks(len(X)))
    for tree in trees:
        for level, node in tree.units():
            whole.add(node, level)
    return whole.total(), n_correct


@pytest.mark.parametrize("name", SHAPES)
def test_threads_do_not_change_the_bits(isa: str, name: str, free_threads: None) -> None:
    is_large = name == "large gradients"
    n = 2 * CHUNK_ROWS + 77 if is_large else N_ROWS
    X, y, weights, here = samples(name, n)
    alone, n_correct = summed(X, y, weights, here, [0, n_chunks(n)])
    for n_threads in (64,) if is_large else (2, 3, 7, 64):
        more = here._replace(n_threads=n_threads)
        sums = summed(X, y, weights, more, [0, n_chunks(n)])
        assert_array_equal(sums[0], alone)
        assert_array_equal(sums[1], n_correct)
    passes = LocalPasses(X, y, here.b.shape[1], weights=weights, scale=0.01, n_threads=2)
    dW, db = np.empty_like(here.W), np.empty_like(here.b)
    got = passes.evaluate(here.W, here.b, here.weight_of_head, dW, db)
    rounded = np.concatenate([dW.reshape(-1), db.reshape(-1)])
    assert_array_equal(rounded, alone[: rounded.size].astype(dW.dtype))
    assert got.losses == alone[rounded.size :].tolist()
    assert got.n_correct == n_correct.tolist()


@pytest.mark.parametrize("name", [name for name in SHAPES if name != "large gradients"])
def test_units_in_any_order_have_the_bits_of_one_pass(name: str) -> None:
    X, y, weights, here = samples(name, N_ROWS)
    whole = summed(X, y, weights, here, [0, 11])
    for level in range(4):
        cuts = [*range(0, 11, 1 << level), 11]
        order = np.random.default_rng(level).permutation(len(cuts) - 1)
        sums = summed(X, y, weights, here, cuts, order)
        assert_array_equal(sums[0], whole[0])
        assert_array_equal(sums[1], whole[1])


def test_large_gradients_in_units_have_the_bits_of_one_pass() -> None:
    X, y, weights, here = samples("large gradients", 2 * CHUNK_ROWS + 77)
    whole, _ = summed(X, y, weights, here, [0, 2])
    assert_array_equal(summed(X, y, weights, here, [0, 1, 2], np.array([1, 0]))[0], whole)


def test_calls_of_a_few_chunks_have_the_bits_of_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y, weights, here = samples("floats, heads, weights", N_ROWS)
    whole, _ = summed(X, y, weights, here, [0, 11])
    monkeypatch.setattr(chunks, "AT_ONCE", 3)
    assert_array_equal(summed(X, y, weights, here, [0, 11])[0], whole)


def test_a_run_that_is_no_unit_is_refused() -> None:
    tree = SumTree(4, 1)
    tree.add(np.ones(1))
    with pytest.raises(ValueError, match="2 chunks after 1 are no unit"):
        tree.add(np.ones(1), level=1)


@pytest.mark.parametrize("n", [1, 5000, 2 * CHUNK_ROWS - 1])
def test_rows_of_one_chunk_are_passed_over_as_ever(n: int) -> None:
    X, y, weights, here = samples("floats, heads, weights", n)
    dW, db = np.empty_like(here.W), np.empty_like(here.b)
    losses, n_correct = _kernels.row_pass(
        X, here.W, here.b.reshape(-1), 0.01, y=y, heads=2, gradient=(dW, db),
        sample_weight=weights, weight_of_head=here.weight_of_head,
    )  # fmt: skip
    sums, of_chunk = summed(X, y, weights, here, [0, 1])
    expected = np.concatenate([dW.reshape(-1), db.reshape(-1), losses])
    assert_array_equal(sums.astype(np.float32), expected.astype(np.float32))
    assert of_chunk.tolist() == n_correct


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.uint32])
def test_labels_of_small_types_are_those_of_int64(kind: Any) -> None:
    X, y, _, here = samples("floats, heads, weights", 3000)
    dW, db = np.empty_like(here.W), np.empty_like(here.b)
    found = []
    for labels in (y.astype(np.int64), y.astype(kind)):
        sums = _kernels.row_pass(
            X, here.W, here.b.reshape(-1), 1.0, y=labels, heads=2, gradient=(dW, db)
        )
        found.append((sums, dW.tobytes()))
    assert found[0] == found[1]


def test_rounding_does_not_grow_with_the_rows() -> None:
    n = 1 << 20
    rng = np.random.default_rng(0)
    X, y = rng.normal(1, 1, (n, 3)).astype(np.float32), rng.integers(0, 2, n)
    W, b = rng.normal(size=(1, 2, 3)).astype(np.float32) * 0.3, np.zeros((1, 2), np.float32)
    dW, db = np.empty_like(W), np.empty_like(b)
    sums, _ = summed(
        X, y, None, Evaluation(W, b, np.zeros(1, np.int64), 1.0, 1), [0, n // CHUNK_ROWS]
    )
    logits = X.astype(np.float64) @ np.float64(W[0].T)
    p = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
    expected = (p - y) @ X.astype(np.float64)
    size = np.abs(p - y) @ np.abs(X)  # of what is summed
    assert (np.abs(sums[3:6] - expected) < 1e-8 * size).all()
    _kernels.row_pass(X, W, b.reshape(-1), 1.0, y=y, heads=1, gradient=(dW, db))
    assert (np.abs(dW[0, 1] - expected) > 3e-8 * size).any()  # as one sum in float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"leaf_rows": 0}, "leaf_rows is 0, expected a multiple of 2048"),
        ({"leaf_rows": 3000}, "leaf_rows is 3000, expected a multiple of 2048"),
        ({"first_leaf": -1}, "tree: expected rows"),
        ({"first_leaf": 2}, "tree has 2 levels, too few for 4 leaves"),
        ({"first_leaf": 2**62}, "tree has 2 levels, too few"),
        ({"gradient": None}, "tree: expected rows, a gradient that is stored"),
        ({"tree": np.empty((2, 18))}, "tree: expected 38 contiguous items"),
        ({"tree": np.empty(38)}, "tree: expected rows, a gradient"),
        ({"tree": np.empty((2, 19), np.float32)}, "tree: expected 38 contiguous items of kind d"),
    ],
)
def test_kernels_refuse_trees_that_do_not_fit(change: dict[str, Any], message: str) -> None:
    X, y, _, here = samples("floats, heads, weights", 2 * CHUNK_ROWS)
    here = here._replace(W=here.W[:1], b=here.b[:1])
    options: dict[str, Any] = {
        "heads": 1, "gradient": (np.empty_like(here.W), np.empty_like(here.b)),
        "tree": np.empty((2, 19)), "leaf_rows": CHUNK_ROWS,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        _kernels.row_pass(X, here.W, here.b.reshape(-1), 1.0, y=y, **{**options, **change})


# ---- processes ---------------------------------------------------------------------------------


def unit_in_a_process(first: int, end: int, dies: str) -> list[tuple[int, Array]]:
    if dies and not Path(dies).exists():
        Path(dies).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    X, y, weights, here = samples("bytes", N_ROWS)
    spans = list(runs(N_ROWS, 1))
    some = slice(spans[first].start, spans[end - 1].stop)
    tree = here.tree(end - first)
    here.add(tree, X[some], y[some], weights, (np.empty_like(here.W), np.empty_like(here.b)))
    return list(tree.units())


@pytest.mark.slow  # starts eight processes
def test_processes_that_die_and_others_have_the_same_bits(tmp_path: Path) -> None:
    X, y, weights, here = samples("bytes", N_ROWS)
    expected, _ = summed(X, y, weights, here, [0, 11])
    units = [(0, 4), (4, 8), (8, 10), (10, 11)]
    for n_processes, mark in ((1, ""), (2, str(tmp_path / "died")), (4, "")):
        done: dict[int, Any] = {}
        while len(done) < len(units):
            with ProcessPoolExecutor(n_processes, get_context("spawn")) as pool:
                futures = {
                    u: pool.submit(unit_in_a_process, *units[u], mark if u == 2 else "")
                    for u in range(len(units))
                    if u not in done
                }
                for u, future in futures.items():
                    with suppress(BrokenProcessPool):  # again, in new processes
                        done[u] = future.result(timeout=60)
        tree = here.tree(11)
        for u in range(len(units)):
            for level, node in done[u]:
                tree.add(node, level)
        assert_array_equal(tree.total(), expected)
    assert (tmp_path / "died").exists()
