"""A pass over shards of each format against a pass over one .npy map of the same rows, hot.

    python -m benchmarks.shards [--rows 400000] [--features 784] [--dtype uint8] [--folder /tmp]

A pass is the loss and the gradient of ten classes, as the solver runs it. Each format is timed in
turn with the one map (A, B, A, B); what counts are the minima. "of one map" is the speed as a share
of that of the one map; "decoding" is how fast blocks come without a pass, where that is work. On a
machine that others use too, `--threads 1 --clock cpu` counts the CPU's seconds of this process.
Files are made in a temporary folder of `--folder` and removed.
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

import csoftmax as cs
from csoftmax.core.cpus import usable_cpus
from csoftmax.data import open_npy
from csoftmax.engine.local_passes import LocalPasses
from csoftmax.engine.shard_passes import ShardPasses
from csoftmax.engine.units import CHUNK_ROWS

Array = NDArray[Any]
N_SHARDS = 5
N_CLASSES = 10


def column(rows: Array, kind: str) -> Any:
    """Return rows as a column of bytes, or of lists."""
    values = pa.array(rows.reshape(-1))
    if kind == "bytes":
        width = rows.shape[1] * rows.itemsize
        buffers = [None, pa.py_buffer(np.ascontiguousarray(rows))]
        return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(rows), buffers)
    if kind == "fixed":
        return pa.FixedSizeListArray.from_arrays(values, rows.shape[1])
    offsets = np.arange(len(rows) + 1, dtype=np.int64) * rows.shape[1]
    return pa.LargeListArray.from_arrays(pa.array(offsets), values)


def write_arrow(path: Path, rows: Array, kind: str, stream: bool, at_once: int, codec: Any) -> None:
    """Write rows as an Arrow file or stream."""
    table = pa.table({"x": column(rows, kind)})
    options = pa.ipc.IpcWriteOptions(compression=codec)
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with new(str(path), table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=at_once)


def write_tar(path: Path, rows: Array, at_once: int) -> None:
    """Write a .tar of .npy members of some rows each, or of one row."""
    with tarfile.open(path, "w") as archive:
        for i in range(0, len(rows), at_once):
            file = io.BytesIO()
            np.save(file, rows[i] if at_once == 1 else rows[i : i + at_once])
            info = tarfile.TarInfo(f"{i:08d}.npy")
            info.size = file.tell()
            file.seek(0)
            archive.addfile(info, file)


def formats(X: Array, folder: Path) -> Iterator[tuple[str, Any]]:
    """Yield the name of each format and its shards, in a folder that is empty each time."""

    def arrow(kind: str, stream: bool, at_once: int, codec: Any = None) -> Callable[..., None]:
        return lambda path, rows: write_arrow(
            path.with_suffix(".arrow"), rows, kind, stream, at_once, codec
        )

    def parquet(kind: str) -> Callable[..., None]:
        def write(path: Path, rows: Array) -> None:
            table = pa.table({"x": column(rows, kind)})
            pq.write_table(table, path.with_suffix(".parquet"), compression="none")

        return write

    writers: dict[str, Callable[..., None]] = {
        "npy shards": lambda path, rows: np.save(path.with_suffix(".npy"), rows),
        "tar of npy, many rows each": lambda p, rows: write_tar(p.with_suffix(".tar"), rows, 16384),
        "tar of npy, a row each": lambda p, rows: write_tar(p.with_suffix(".tar"), rows, 1),
        "Arrow, batches of 65,536": arrow("fixed", False, 65536),
        "Arrow, batches of 10,000": arrow("fixed", False, 10_000),
        "Hugging Face, batches of 1,000": arrow("list", True, 1000),
        "Arrow lz4": arrow("fixed", False, 8192, "lz4"),
        "Arrow zstd": arrow("fixed", False, 8192, "zstd"),
        "Parquet, bytes": parquet("bytes"),
        "Parquet, lists": parquet("list"),
    }
    for name, write in writers.items():
        with tempfile.TemporaryDirectory(dir=folder) as place:
            for s, rows in enumerate(np.array_split(X, N_SHARDS)):
                write(Path(place) / f"part-{s}", rows)
            if name.startswith("Hugging"):
                files = [{"filename": f"part-{s}.arrow"} for s in range(N_SHARDS)]
                (Path(place) / "state.json").write_text(json.dumps({"_data_files": files}))
            yield name, cs.shards(place, dtype=X.dtype)


def run_pass(passes: Any, W: Array) -> None:
    """Sum losses and gradients over all rows."""
    b = np.zeros((1, N_CLASSES), W.dtype)
    passes.evaluate(W, b, np.zeros(1, np.int64), np.empty_like(W), np.empty_like(b))


def seconds(clock: Callable[[], float], work: Callable[..., None], *arguments: Any) -> float:
    """Say how long a call takes."""
    start = clock()
    work(*arguments)
    return clock() - start


def decode(data: Any) -> None:
    """Read all blocks."""
    for _ in data.rows.blocks(CHUNK_ROWS):
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--features", type=int, default=784)
    parser.add_argument("--dtype", default="uint8")
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=usable_cpus())
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    given = parser.parse_args()
    clock = time.process_time if given.clock == "cpu" else time.perf_counter
    random = np.random.default_rng(0)
    X = random.integers(0, 256, (given.rows, given.features)).astype(given.dtype)
    y = random.integers(0, N_CLASSES, given.rows)
    W = random.normal(0, 0.01, (1, N_CLASSES, given.features)).astype(
        np.float64 if X.dtype == np.float64 else np.float32
    )
    with tempfile.TemporaryDirectory(dir=given.folder) as place:
        np.save(Path(place) / "one.npy", X)
        settings: dict[str, Any] = {"scale": 1 / 255, "n_threads": given.threads}
        one = LocalPasses(open_npy(Path(place) / "one.npy"), y, N_CLASSES, **settings)
        print(f"{X.nbytes / 1e9:.2f} GB, {X.shape} {X.dtype}, {given.threads} threads")
        for name, data in formats(X, Path(place)):
            passes = ShardPasses(data.rows, y, N_CLASSES, **settings)
            run_pass(passes, W)  # the first one warms up
            run_pass(one, W)
            times = [
                (seconds(clock, run_pass, one, W), seconds(clock, run_pass, passes, W))
                for _ in range(given.rounds)
            ]
            of_one, of_shards = map(min, zip(*times, strict=True))
            line = f"{name:32} {of_one / of_shards:5.2f} of one map"
            if of_one < 0.9 * of_shards:
                rate = X.nbytes / 1e9 / min(seconds(clock, decode, data) for _ in range(2))
                line += f", decoding {rate:.2f} GB/s"
            print(line, flush=True)


if __name__ == "__main__":
    main()
