"""Passes over sparse shards beside one in memory: ``python -m benchmarks.sparse_shards``.

The table is synthetic: rows of about 80 words of a vocabulary, common and rare ones as in texts.
The shards are maps of files that are in memory. "columns" is what a pass would take that makes its
copy by columns window after window, and sums over that.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import csoftmax as cs
from csoftmax.bench.measure import Side, alternate, check
from csoftmax.core.sparse import CSR
from csoftmax.engine.local_passes import LocalPasses
from csoftmax.engine.sparse_shard_passes import SparseShardPasses
from csoftmax.engine.units import CHUNK_ROWS

Array = NDArray[Any]
WORDS, N_SHARDS = 80, 4


def table(n_rows: int, n_features: int) -> CSR:
    """Return the synthetic rows: the chance of a feature falls with its rank as 1 / rank."""
    random = np.random.default_rng(0)
    lengths = random.poisson(WORDS, n_rows)
    ranks = n_features ** random.random(int(lengths.sum()))
    features = random.permutation(n_features).astype(np.int32)[ranks.astype(np.int64) - 1]
    by_row = np.lexsort((features, np.repeat(np.arange(n_rows), lengths)))
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    values = random.random(len(features), dtype=np.float32)
    return CSR(values, features[by_row], indptr, n_features)


def write(folder: Path, X: CSR) -> cs.data.Shards:
    """Return the rows as maps of files."""
    ends = np.linspace(0, len(X), N_SHARDS + 1).astype(int).tolist()
    for s in range(N_SHARDS):
        part = X[ends[s] : ends[s + 1]]
        (folder / f"part-{s}").mkdir()
        arrays = {
            "data": part.data, "indices": part.indices, "indptr": part.indptr,
            "shape": np.array(part.shape),
        }  # fmt: skip
        for name, array in arrays.items():
            np.save(folder / f"part-{s}" / f"{name}.npy", array)
    return cs.shards(f"{folder}/part-*")


def a_pass(passes: Any) -> Array:
    """Return the gradient at weights as a fit has them."""
    random, size = np.random.default_rng(1), passes.n_features * passes.n_classes
    W = random.normal(0, 0.1, (1, size)).astype(passes.dtype)
    b = np.zeros((1, passes.n_classes), passes.dtype)
    dW, of_head = np.empty_like(W), np.zeros(1, np.int64)
    passes.evaluate(W, b, of_head, dW, np.empty_like(b))
    return dW


def by_columns(X: CSR, y: Array, n_classes: int, n_threads: int) -> Array:
    """Return the same, with a copy by columns of each of some windows."""
    total = np.zeros((1, X.shape[1] * n_classes))
    for start in range(0, len(X), 4 * CHUNK_ROWS):
        some = slice(start, start + 4 * CHUNK_ROWS)
        total += a_pass(LocalPasses(X[some], y[some], n_classes, n_threads=n_threads))
    return total


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sparse_shards")
    parser.add_argument("--rows", type=int, default=8 * CHUNK_ROWS)
    parser.add_argument("--features", type=int, default=30_000)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args(arguments)
    X = table(given.rows, given.features)
    y = np.random.default_rng(2).integers(0, given.classes, len(X))
    with tempfile.TemporaryDirectory() as place:
        shards = write(Path(place), X)
        settings: dict[str, Any] = {"n_threads": given.threads}
        local = LocalPasses(X, y, given.classes, **settings)
        over = SparseShardPasses(shards.rows, y, given.classes, **settings)
        sides = [
            Side("memory", functools.partial(a_pass, local)),
            Side("shards", functools.partial(a_pass, over)),
            Side("columns", functools.partial(by_columns, X, y, given.classes, given.threads)),
        ]
        for side in sides:
            check(side, a_pass(local), given.threads)
        samples = alternate(sides, given.rounds, given.threads)
    of_memory = samples["memory"].min
    print(f"{X} of {given.classes} classes, {given.threads} threads: in memory "
          f"{1e9 * of_memory / X.rows.n_entries:.2f} ns an entry; shards take "
          f"{samples['shards'].min / of_memory:.2f} x, copies by columns "
          f"{samples['columns'].min / of_memory:.2f} x")  # fmt: skip


if __name__ == "__main__":
    main()
