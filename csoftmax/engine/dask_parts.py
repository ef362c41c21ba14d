"""What a worker of a cluster does for one unit of work: sums by the rule of `engine.units`.

The functions get what a worker holds (`Held`) and, where the rows are in the cluster's memory, the
rows. Nothing here imports Dask.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from csoftmax import _kernels
from csoftmax.engine.chunks import Evaluation, add_feature_sums
from csoftmax.engine.class_sums import class_sums
from csoftmax.engine.measures import Heads
from csoftmax.engine.row_weights import FoldWeights, Weights
from csoftmax.engine.shard_passes import ShardPasses, rows_in
from csoftmax.engine.targets import CountedLabels
from csoftmax.engine.units import CHUNK_ROWS, SumTree, n_chunks
from csoftmax.rows.shards import Shard, ShardRows

Array = NDArray[Any]
Node = tuple[int, Array]  # the level of a unit in the tree, and its sum


class Packed:
    """Something that Dask is not to look into for tasks."""

    def __init__(self, content: Any) -> None:
        self.content = content


class Held(NamedTuple):
    """What the passes of one unit need besides the parameters: a worker holds it."""

    shards: tuple[Shard, ...] | None  # None: the rows come with the task
    n_features: int
    dtype: np.dtype[Any]
    target: Array | CountedLabels
    n_classes: int
    weights: Weights | None
    scale: float
    isa: str

    def labels(self) -> Array:
        assert not isinstance(self.target, CountedLabels)  # `hold` has read them
        return self.target


class Evaluated(NamedTuple):
    """What a unit adds to a pass."""

    nodes: list[Node]
    n_correct: Array


class Taken(NamedTuple):
    """Some rows of a unit."""

    X: Array
    target: Array


class NullPart(NamedTuple):
    """What a unit adds to the pass for the statistics."""

    nodes: list[Node]
    features: list[Node]
    sampled: list[Taken]  # for each row of weights


class ClassPart(NamedTuple):
    """What a unit adds to the sums by class, and to the sample of all rows."""

    nodes: list[Node]
    numbers: NDArray[np.int64]
    X: Array
    target: Array


class Bad(NamedTuple):
    """The first value of a unit that is not finite, or its largest values."""

    at: tuple[int, int, float] | None  # row of the unit, feature, value
    largest: Array


def pieces(shards: Sequence[Shard], chunks_at_once: int) -> list[list[Shard]]:
    """Cut shards into units of so many chunks, counted over all shards; the last may have fewer."""
    units: list[list[Shard]] = []
    n = 0
    for shard in shards:
        first, end = 0, n_chunks(shard.n_rows)
        while first < end:
            if n % chunks_at_once == 0:
                units.append([])
            stop = min(end, first + chunks_at_once - n % chunks_at_once)
            start_row = first * CHUNK_ROWS
            stop_row = shard.n_rows if stop == end else stop * CHUNK_ROWS
            units[-1].append(_piece(shard, start_row, stop_row))
            n += stop - first
            first = stop
    return units


def _piece(shard: Shard, start: int, stop: int) -> Shard:
    if (start, stop) == (0, shard.n_rows):
        return replace(shard, weights=None)  # they come from elsewhere
    read = partial(_read_later, shard.read, start)
    labels = None if shard.labels is None else partial(_read_later, shard.labels, start)
    pieces = None if shard.pieces is None else partial(_read_later, shard.pieces, start)
    return Shard(shard.name, stop - start, read, labels, None, shard.stamp, pieces)


def _read_later(read: Callable[[int, int], Any], shift: int, start: int, stop: int) -> Any:
    return read(shift + start, shift + stop)


def _read_of(X: Array, start: int, stop: int) -> Array:
    return X[start:stop]


def _aligned(array: Array) -> Array:
    """Return an array, or its copy: what comes over a network may lie anywhere in memory."""
    return np.require(array, requirements="A")


def rows_of(held: Held, X: Array | None) -> ShardRows:
    """Return the rows of a unit."""
    shards = held.shards
    if shards is None:
        assert X is not None
        X = _aligned(X.astype(held.dtype, copy=False))
        shards = (Shard("X", len(X), partial(_read_of, X)),)
    return ShardRows(shards, held.n_features, held.dtype)


def _use(isa: str) -> None:
    """Use an instruction set, which a worker that joined late may not have."""
    if _kernels.active() == isa:
        return
    if isa not in _kernels.available():
        raise RuntimeError(
            f"the worker on {socket.gethostname()}, process {os.getpid()}, has no {isa}, which the "
            "workers had at the start of this fit and which its bits depend on: without that "
            "worker, checkpoint= goes on to the same bits; a fit anew uses what all workers have"
        )
    _kernels.use(isa)


class UnitPasses(ShardPasses):
    """Passes over one unit, on one thread: workers have a thread for each task."""

    def __init__(self, held: Held, X: Array | None) -> None:
        _use(held.isa)
        weights = held.weights
        if weights is not None and not isinstance(weights, FoldWeights):
            weights = _aligned(weights)
        super().__init__(
            rows_of(held, X), _aligned(held.labels()), held.n_classes, weights=weights,
            scale=held.scale,
        )  # fmt: skip

    def evaluated(self, W: Array, b: Array, weight_of_head: NDArray[np.int64]) -> Evaluated:
        """Return the sums at W and b: those of one subtree, or the few of the last unit."""
        here, scratch, tree = self._start(W, b, weight_of_head)
        n_correct = np.zeros(len(b), np.int64)
        for some, X in self._windows(in_pieces=True):
            n_correct += here.add(tree, X, self.target[some], self._weights_of(some), scratch)
        return Evaluated(_nodes(tree), n_correct)

    def null_part(self, b: Array, of_features: bool, numbers: Sequence[Any]) -> NullPart:
        """Return the sums at W = 0, those of the features, and numbered rows: all in one pass."""
        n, f = self.n_weights, self.n_features
        W = np.zeros((n, self.n_classes, f), self.dtype)
        here, scratch, tree = self._start(W, b, np.arange(n))
        features = SumTree(self.n_chunks, n * f)
        sampled: list[list[Array]] = [[] for _ in numbers]
        for some, X in self.windows():
            weights = self._weights_of(some)
            here.add(tree, X, self.target[some], weights, scratch)
            if of_features:
                add_feature_sums(features, X, weights, self.scale, self.dtype, map)
            for each, part in zip(numbers, sampled, strict=True):
                part.append(rows_in(each, some, X))
        taken = [
            Taken(np.concatenate(X), self.target[some])
            for some, X in zip(numbers, sampled, strict=True)
        ]
        return NullPart(_nodes(tree), _nodes(features), taken)

    def class_part(self, share: float, seed: int, first: int) -> ClassPart:
        """Return the sums by class, and the rows that are drawn of those from `first` on."""
        found = class_sums(self, self.windows(), self.n_chunks, share, seed, first)
        return ClassPart(_nodes(found.tree), *found[1:])

    def measured(self, W: Array, b: Array, weight_of_head: NDArray[np.int64]) -> list[Node]:
        """Return the sums of `measure`."""
        heads = Heads(_aligned(W), _aligned(b), weight_of_head, self.scale, self.n_threads)
        tree = heads.tree(self.n_chunks)
        for some, X in self.windows():
            heads.add(tree, X, self.target[some], self._weights_of(some))
        return _nodes(tree)

    def _start(
        self, W: Array, b: Array, weight_of_head: NDArray[np.int64]
    ) -> tuple[Evaluation, tuple[Array, Array], SumTree]:
        # copies, as what comes over a network may be read-only and lie anywhere
        here = Evaluation(
            np.array(W, self.dtype), np.array(b, self.dtype),
            np.array(weight_of_head, np.int64), self.scale, self.n_threads,
        )  # fmt: skip
        scratch = np.empty_like(here.W), np.empty_like(here.b)
        return here, scratch, here.tree(self.n_chunks)

    def bad(self) -> Bad:
        """Return the first value that is not finite in a row that counts, and the largest ones."""
        largest = np.zeros(self.n_features)
        for some, block in self.rows.blocks(CHUNK_ROWS):
            values, weights = np.asarray(block), self._weights_of(some)
            if weights is not None:
                counts = weights.max(axis=0)[:, None] > 0
                values = np.where(counts, values, 0).astype(self.rows.dtype)
            finite = np.isfinite(values)
            if not finite.all():
                i, j = map(int, np.argwhere(~finite)[0])
                return Bad((some.start + i, j, float(values[i, j])), largest)
            np.maximum(largest, np.abs(values).max(axis=0, initial=0), out=largest)
        return Bad(None, largest)


def _nodes(tree: SumTree) -> list[Node]:
    return [(level, node.copy()) for level, node in tree.units()]


# ---- tasks -------------------------------------------------------------------------------------


def hold(packed: Packed) -> Any:
    """Return what is to be held by a worker, which reads labels that are not there yet."""
    held = packed.content
    if isinstance(held, Held) and isinstance(held.target, CountedLabels):
        return held._replace(target=held.target.read(rows_of(held, None)))
    return held


def evaluate_unit(held: Held, X: Array | None, parameters: tuple[Any, ...], _: None) -> Evaluated:
    return UnitPasses(held, X).evaluated(*parameters)


def nothing_of_unit(held: Held, X: Array | None, parameters: Any, _: None) -> Evaluated:
    """Return sums of zeros without a look at the rows: for a benchmark of what passes take else."""
    W, b, _ = parameters
    return Evaluated([(0, np.zeros(W.size + b.size + len(b)))], np.zeros(len(b), np.int64))


def null_of_unit(held: Held, X: Array | None, common: Any, numbers: Sequence[Any]) -> NullPart:
    b, of_features = common
    return UnitPasses(held, X).null_part(b, of_features, numbers)


def classes_of_unit(held: Held, X: Array | None, common: Any, first: int) -> ClassPart:
    share, seed = common
    return UnitPasses(held, X).class_part(share, seed, first)


def measure_unit(held: Held, X: Array | None, heads: tuple[Any, ...], _: None) -> list[Node]:
    return UnitPasses(held, X).measured(*heads)


def outputs_of_unit(held: Held, X: Array | None, common: tuple[Any, ...], _: None) -> Array:
    r, W, b, labels = common
    return UnitPasses(held, X).outputs(r, _aligned(W), _aligned(b), labels)


def bad_of_unit(held: Held, X: Array | None, _: None, __: None) -> Bad:
    return UnitPasses(held, X).bad()


def take_of_unit(held: Held, X: Array | None, _: None, numbers: Any) -> Taken:
    return Taken(np.asarray(rows_of(held, X).take(numbers)), held.labels()[numbers])


def joined(*parts: Evaluated) -> Evaluated:
    """Add up what neighbouring units have summed: those of an aligned run are one subtree."""
    tree: SumTree | None = None
    for part in parts:
        for level, node in part.nodes:
            if tree is None:
                tree = SumTree(sum(1 << at for each in parts for at, _ in each.nodes), node.size)
            tree.add(node, level)
    assert tree is not None
    n_correct: Array = np.sum([part.n_correct for part in parts], axis=0)
    return Evaluated(_nodes(tree), n_correct)
