"""Passes over rows that the workers of a Dask cluster hold or read: the bits of one machine.

Rows are cut into units of work (`csoftmax.engine.units`), a few for each thread of the cluster.
A worker holds what a unit needs: the places of its shards or a block of a Dask array, its labels
and weights. All of these are tasks, which are computed anew where a worker is lost; data that are
scattered die with their worker. No task is tied to a worker: one whose worker died would wait for
ever. The results of a pass are added along the fixed tree, so that it does not matter who computed
them, in what order, or how often.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, wait
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax import _kernels
from csoftmax.core.errors import DataError
from csoftmax.engine import dask_parts as parts
from csoftmax.engine.chunks import Evaluation
from csoftmax.engine.local_passes import LocalPasses
from csoftmax.engine.measures import Heads, Measures
from csoftmax.engine.passes import ClassSums, NullSums, Sums, raise_overflow
from csoftmax.engine.row_weights import FoldWeights
from csoftmax.engine.shard_passes import ShardPasses
from csoftmax.engine.targets import drawn
from csoftmax.engine.units import SumTree, n_chunks
from csoftmax.rows.base import Stored
from csoftmax.rows.shards import Shard, ShardRows

Array = NDArray[Any]

# Units are at most so many for each thread, or the root of what the bytes of X are to those that
# are read in the time that a unit costs: then that and the wait for the last units are alike. They
# are half as many at least, where there are rows for them.
UNITS_PER_THREAD, UNIT_COST_BYTES = 4, 1 << 22
LARGE_BYTES = 1 << 20  # one task has parameters of more bytes, and others take them from it
# Gradients of all units of more bytes are added on the workers, so many (a power of two) in a task.
LARGE_PASS_BYTES, JOINED_UNITS = 1 << 25, 8
LOST_SECONDS = 10.0  # for so long results may be under way before workers are counted
POLL_SECONDS = 0.5  # between two looks at whether there still is a cluster
WORKERS_SECONDS = 600.0  # for so long a pass waits for workers where there are none
MOST_TRIES = 20
FINGERPRINT_ROWS = 64


class KeptArray:
    """A Dask array whose blocks the workers keep in memory: as long as this object lives."""

    def __init__(self, client: Any, source: Any) -> None:
        self.client, self.lazy, self.kept = client, source, source

    def cut(self, lengths: tuple[int, ...]) -> None:
        """Let blocks have so many rows, in C order as passes read them, and keep them."""
        self.lazy = self.lazy.rechunk((lengths, -1)).map_blocks(
            np.ascontiguousarray, dtype=self.lazy.dtype, meta=np.empty((0, 0), self.lazy.dtype)
        )
        self.keep()

    def keep(self) -> None:
        """Compute the blocks that no worker has."""
        self.kept = self.client.persist(self.lazy)

    def blocks(self) -> list[Any]:
        """Return the blocks as they are known to the scheduler."""
        import distributed

        by_key = {future.key: future for future in distributed.futures_of(self.kept)}
        return [by_key[key] for (key,) in self.kept.__dask_keys__()]

    def read(self, start: int, stop: int) -> Array:
        return self.take(slice(start, stop))

    def take(self, rows: Any) -> Array:
        return np.asarray(self.kept[rows].compute(scheduler=self.client))


class DaskRows(ShardRows):
    """Rows of a Dask array, or of shards that workers open by themselves.

    Parameters
    ----------
    client : distributed.Client
    source : dask.array.Array (n_rows, n_features) or ShardRows
        An array has known chunk sizes, and is kept in the memory of the workers.
    """

    def __init__(self, client: Any, source: Any) -> None:
        self.client, self.in_memory = client, not isinstance(source, ShardRows)
        self.array = KeptArray(client, source) if self.in_memory else None
        (n_rows, n_features), dtype = source.shape, source.dtype
        shards = source.shards if self.array is None else (Shard("X", n_rows, self.array.read),)
        chunks = sum(n_chunks(shard.n_rows) for shard in shards)
        threads = max(1, sum(client.nthreads().values()))
        n_bytes = n_rows * n_features * dtype.itemsize
        most = max(UNITS_PER_THREAD * threads, int((n_bytes / UNIT_COST_BYTES) ** 0.5))
        self.chunks_at_once = 1
        while chunks > most * self.chunks_at_once:
            self.chunks_at_once *= 2
        super().__init__(shards, n_features, dtype)
        self.units = parts.pieces(self.shards, self.chunks_at_once)
        if self.array is not None:
            self.array.cut(tuple(sum(shard.n_rows for shard in unit) for unit in self.units))

    def place(self, row: int) -> str:
        """Return where a row is, for messages."""
        return f"row {row} of X" if self.array is not None else super().place(row)

    def take(self, rows: slice | Array) -> Stored:
        """Return a copy of some rows: see `ShardRows.take`."""
        return super().take(rows) if self.array is None else self.array.take(rows)

    def fingerprint(self) -> bytes:
        """Return a digest of the shards, or of some rows of an array, and its shape."""
        if self.array is None:
            return super().fingerprint()
        some = np.unique(np.linspace(0, self.n_rows - 1, FINGERPRINT_ROWS).astype(np.int64))
        labels = np.zeros(len(some), np.int64)
        return LocalPasses(self.array.take(some), labels, 2).fingerprint()

    def passes(self, target: Array, n_classes: int, **options: Any) -> DaskPasses:
        """Return the passes over these rows: see `csoftmax.engine.shard_passes.ShardPasses`."""
        return DaskPasses(self, target, n_classes, **options)


class DaskPasses(ShardPasses):
    """Passes on the workers of a cluster, for heads that share X and the labels.

    It has the methods of `csoftmax.engine.shard_passes.ShardPasses`, and its parameters. Weights
    are here, and labels too if they are no `csoftmax.engine.targets.CountedLabels`. Each worker
    holds those of its units.

    Attributes
    ----------
    isa : str
        The instruction set that all workers have and use: bits depend on it.
    n_repeated : int
        How often a pass was begun again because workers were lost; what Dask itself computes anew
        is not counted.
    """

    rows: DaskRows

    def __init__(self, rows: DaskRows, target: Array, n_classes: int, **options: Any) -> None:
        super().__init__(rows, target, n_classes, **options)
        self.client, self.isa, self.n_repeated = rows.client, _kernels.active(), 0
        lengths = [sum(shard.n_rows for shard in unit) for unit in rows.units]
        self.unit_starts = np.cumsum([0, *lengths])
        self._held: list[Any] = []
        self._blocks: list[Any] = []

    def _hold(self) -> None:
        """Give each unit what it needs, as tasks that can be computed anew."""
        name, rows = f"csoftmax_hold-{uuid.uuid4().hex}", self.rows
        held: list[Any] = []
        self._blocks = [None] * len(rows.units) if rows.array is None else rows.array.blocks()
        for u, unit in enumerate(rows.units):
            some = slice(*self.unit_starts[u : u + 2].tolist())
            what = parts.Held(
                None if rows.array is not None else tuple(unit), self.n_features, rows.dtype,
                self._labels_of(some), self.n_classes, self._held_weights(some), self.scale,
                self.isa,
            )  # fmt: skip
            held.append(_given(self.client, what, f"{name}-{u}"))
        self._held = held

    def _held_weights(self, some: slice) -> Any:
        if isinstance(self.weights, FoldWeights):
            return self.weights.part(some)
        return self._weights_of(some)

    def _labels_of(self, some: slice) -> Any:
        return self.target[some] if isinstance(self.target, np.ndarray) else self.target

    def run(
        self,
        function: Callable[..., Any],
        common: Any,
        each: Sequence[Any] | None = None,
        join: bool = False,
    ) -> list[Any]:
        """Return what a function gives for each unit, in order, whatever becomes of workers."""
        from distributed import KilledWorker
        from distributed.comm import CommClosedError

        for _ in range(MOST_TRIES):
            futures: list[Any] = []
            try:
                if not self._held:
                    self._hold()
                futures = self._submit(function, common, each, join)
                self._wait(futures)
                return self._gathered(futures)
            except (KilledWorker, CancelledError, CommClosedError, TimeoutError) as error:
                self._check_cluster()
                self.n_repeated += 1
                self._held, self._blocks = [], []
                if self.rows.array is not None:
                    self.rows.array.keep()
                reason = error
            finally:
                del futures  # what is still under way is cancelled
        raise RuntimeError(
            f"a pass failed {MOST_TRIES} times because workers were lost, the last time: {reason!r}"
        ) from reason

    def _gathered(self, futures: list[Any]) -> list[Any]:
        """Return the results; TimeoutError where a worker is lost meanwhile: it may have had some.

        Dask itself may wait for such a worker for ever.
        """
        client, workers = self.client, set(self.client.nthreads())
        pending = asyncio.run_coroutine_threadsafe(
            client.gather(futures, asynchronous=True), client.loop.asyncio_loop
        )
        try:
            while not wait([pending], LOST_SECONDS).done:
                self._check_cluster()
                if not workers <= set(client.nthreads()):
                    raise TimeoutError("workers were lost before they had sent their results")
            results: list[Any] = pending.result()
            return results
        finally:
            pending.cancel()

    def _submit(
        self, function: Callable[..., Any], common: Any, each: Sequence[Any] | None, join: bool
    ) -> list[Any]:
        # the scheduler knows by the first word of a name how long tasks take
        number, n = uuid.uuid4().hex, len(self._held)
        if common is not None and sum(getattr(a, "nbytes", 0) for a in common) > LARGE_BYTES:
            common = _given(self.client, common, f"csoftmax_parameters-{number}")
        each = [None] * n if each is None else each
        with _large_graphs():  # one graph of all tasks takes 3/4 of the time that one of each does
            futures: list[Any] = self.client.map(
                function, self._held, self._blocks, [common] * n, each,
                key=[f"csoftmax_{function.__name__}-{number}-{u}" for u in range(n)], pure=False,
            )  # fmt: skip
        for level in range(n.bit_length() if join else 0):
            if len(futures) <= JOINED_UNITS:
                break
            groups = [futures[i : i + JOINED_UNITS] for i in range(0, len(futures), JOINED_UNITS)]
            futures = [
                self.client.submit(
                    parts.joined, *group, key=f"csoftmax_joined-{number}-{level}-{g}", pure=False
                )
                for g, group in enumerate(groups)
            ]
        return futures

    def _wait(self, futures: list[Any]) -> None:
        """Wait for tasks; ConnectionError where the scheduler is gone, or all workers for long."""
        from distributed import wait as wait_for_tasks

        had_workers = time.monotonic()
        while True:
            with suppress(TimeoutError):
                wait_for_tasks(futures, timeout=POLL_SECONDS)
                return
            self._check_cluster()
            if self.client.nthreads():
                had_workers = time.monotonic()
            elif time.monotonic() - had_workers > WORKERS_SECONDS:
                raise ConnectionError(
                    f"the cluster has had no workers for {WORKERS_SECONDS:.0f} s: a cluster with "
                    "workers goes on from checkpoint=, to the same bits"
                )

    def _check_cluster(self) -> None:
        for _ in range(4):
            if self.client.status == "running":
                return
            time.sleep(POLL_SECONDS)
        raise ConnectionError(
            f"the scheduler of the cluster is gone (the client is {self.client.status}): a new "
            "cluster goes on from checkpoint=, to the same bits"
        )

    # ---- passes --------------------------------------------------------------------------------

    def evaluate(
        self, W: Any, b: Array, weight_of_head: NDArray[np.int64], dW: Any, db: Array
    ) -> Sums:
        """Return the sums of heads at W and b, and set dW and db to the gradients of the losses.

        See `csoftmax.engine.passes.Passes.evaluate`.
        """
        here = Evaluation(np.asarray(W), b, weight_of_head, self.scale, 1)
        tree, n_correct = here.tree(self.n_chunks), np.zeros(len(b), np.int64)
        is_large = 8 * tree.nodes.shape[1] * len(self.rows.units) > LARGE_PASS_BYTES
        found = self.run(parts.evaluate_unit, tuple(here[:3]), join=is_large)
        for part in found:
            n_correct += part.n_correct
            for level, node in part.nodes:
                tree.add(node, level)
        return Sums(here.finish(tree, dW, db), n_correct.tolist())

    def null_sums(self, b: Array, of_features: bool) -> NullSums:
        """Return the sums at W = 0, a head for each row of weights, and those of the features.

        All in one pass, which also draws the sample. ValueError with what is not finite.
        """
        n, f = self.n_weights, self.n_features
        dW, db = np.empty((n, self.n_classes, f), self.dtype), np.empty_like(b)
        here = Evaluation(dW, b, np.arange(n), self.scale, 1)
        tree, features = here.tree(self.n_chunks), SumTree(self.n_chunks, n * f)
        sampled = [drawn(self.n_rows, self.weight(r), self.n_sampled, 0) for r in range(n)]
        each = list(zip(*map(self._by_unit, sampled), strict=True))
        found = self.run(parts.null_of_unit, (b, of_features), each)
        for part in found:
            for total, nodes in ((tree, part.nodes), (features, part.features)):
                for level, node in nodes:
                    total.add(node, level)
        losses = here.finish(tree, dW, db)
        sums = features.total().reshape(n, f)
        if not all(np.isfinite(array).all() for array in (losses, dW, sums)):
            self.raise_bad_value()
        for r, numbers in enumerate(sampled):
            X, labels = _joined(part.sampled[r] for part in found)
            self._samples[r] = self._local(X, labels, numbers, r)
        return NullSums(sums, losses, dW, db, 1)

    def class_sums(self, share: float, seed: int) -> ClassSums:
        """Return the sums by class, and rows that are drawn, which come here: see `Passes`."""
        found = self.run(parts.classes_of_unit, (share, seed), self.unit_starts.tolist())
        tree = SumTree(self.n_chunks, self.n_weights * self.n_classes * self.n_features)
        for part in found:
            for level, node in part.nodes:
                tree.add(node, level)
        numbers, X, labels = _joined(part[1:] for part in found)
        return ClassSums(tree, numbers, X, labels)

    def measure(self, W: Array, b: Array, weight_of_head: NDArray[np.int64]) -> Measures:
        """Return losses of heads, and rows predicted right: see `ShardPasses.measure`."""
        heads = Heads(W, b, weight_of_head, self.scale, 1)
        tree = heads.tree(self.n_chunks)
        for nodes in self.run(parts.measure_unit, tuple(heads[:3])):
            for level, node in nodes:
                tree.add(node, level)
        return heads.measures(tree)

    def outputs(self, r: int, W: Array, b: Array, labels: bool) -> Array:
        """Return predictions or logits, which come here: see `ShardPasses.outputs`."""
        return np.concatenate(self.run(parts.outputs_of_unit, (r, W, b, labels)))

    def _by_unit(self, numbers: slice | NDArray[np.int64]) -> list[Any]:
        """Cut sorted numbers of rows, or a slice of all, into those of each unit."""
        if isinstance(numbers, slice):
            return [numbers] * len(self.rows.units)
        at = np.searchsorted(numbers, self.unit_starts)
        return [
            numbers[at[u] : at[u + 1]] - self.unit_starts[u] for u in range(len(self.rows.units))
        ]

    def sample(self, weight_row: int, n: int, seed: int) -> LocalPasses:
        """Return at most n of the rows that a row of weights counts, drawn at random, in order."""
        kept = self._samples.get(weight_row)
        if kept is not None and seed == 0 and (n == self.n_sampled or kept.n_rows < self.n_sampled):
            return kept
        rows = drawn(self.n_rows, self.weight(weight_row), n, seed)
        found = self.run(parts.take_of_unit, None, self._by_unit(rows))
        X, labels = _joined(found)
        return self._local(X, labels, rows, weight_row)

    def raise_bad_value(self) -> None:
        """Raise an error with what of X spoils sums: NaN, infinity, or the largest column."""
        found = self.run(parts.bad_of_unit, None)
        for start, part in zip(self.unit_starts.tolist(), found, strict=False):
            if part.at is not None:
                i, j, value = part.at
                raise DataError(f"{self.rows.place(start + i)}: feature {j} is {value}, expected "
                                "a finite number")  # fmt: skip
        raise_overflow(self.dtype, np.max([part.largest for part in found], axis=0))


def _joined(found: Iterable[Sequence[Array]]) -> list[Array]:
    """Return arrays of all units, of what each has of them."""
    return [np.concatenate(of_units) for of_units in zip(*found, strict=True)]


def common_isa(client: Any) -> str:
    """Return the best instruction set that all workers have; it is no better than the one here."""
    here = _kernels.available()
    wanted = here[here.index(_kernels.active()) :]
    by_worker = client.run(_kernels.available)
    if not by_worker:
        raise ConnectionError("the cluster has no workers, expected at least one")
    for isa in wanted:
        if all(isa in there for there in by_worker.values()):
            return isa
    raise RuntimeError(f"no instruction set is on all workers: {by_worker}")


def _given(client: Any, content: Any, key: str) -> Any:
    """Return a task that gives something: unlike what is scattered, it survives its worker."""
    with _large_graphs():
        return client.submit(parts.hold, parts.Packed(content), key=key, pure=False)


def _large_graphs() -> Any:
    """Let Dask not warn of large tasks: it means data that workers had better read."""
    import dask

    return dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"})


@contextmanager
def pinned(client: Any) -> Iterator[str]:
    """Use, here too, the best instruction set that all workers have; yield its name.

    ConnectionError where there are no workers.
    """
    before, isa = _kernels.active(), common_isa(client)
    _kernels.use(isa)
    try:
        yield isa
    finally:
        _kernels.use(before)
