"""A pass over shards of each format beside one over a map of the same rows, all in memory."""

from __future__ import annotations

import functools
import io
import json
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import csoftmax as cs
from csoftmax.bench import peers
from csoftmax.bench.measure import Side, alternate, check, seconds_of
from csoftmax.bench.results import OURS, Result
from csoftmax.bench.session import Session
from csoftmax.data import open_npy
from csoftmax.engine.local_passes import LocalPasses
from csoftmax.engine.shard_passes import ShardPasses
from csoftmax.engine.units import CHUNK_ROWS

Array = NDArray[Any]
Write = Callable[[Path, Array], None]

N_FEATURES, N_CLASSES, N_SHARDS = 784, 10, 5
N_ROWS, QUICK_ROWS = 400_000, 20_000
ONE_MAP = "one map"


def all_formats(session: Session) -> Iterator[tuple[str, Callable[[], Iterator[Result]]]]:
    """Yield the name of each measurement and what runs it."""
    for name in WRITERS:
        yield f"scale/shards {name}", functools.partial(hot_pass, session, name)


def hot_pass(session: Session, name: str) -> Iterator[Result]:
    """Time a pass over shards of a format, and over one map; tell how fast what is slow decodes."""
    if not name.startswith(("npy", "tar")) and not peers.is_installed("pyarrow"):
        session.missing["pyarrow"] = "not installed: Arrow and Parquet are left out"
        return
    n_rows = QUICK_ROWS if session.quick else N_ROWS
    random = np.random.default_rng(0)
    X = random.integers(0, 256, (n_rows, N_FEATURES), np.uint8)
    y = random.integers(0, N_CLASSES, n_rows)
    with tempfile.TemporaryDirectory(prefix="scale-", dir=session.folder) as place:
        folder = Path(place)
        np.save(folder / "one.npy", X)
        (folder / "shards").mkdir()
        for s, rows in enumerate(np.array_split(X, N_SHARDS)):
            WRITERS[name](folder / "shards" / f"part-{s}", rows)
        if name.startswith("Hugging"):
            files = [{"filename": f"part-{s}.arrow"} for s in range(N_SHARDS)]
            (folder / "shards" / "state.json").write_text(json.dumps({"_data_files": files}))
        data = cs.shards(folder / "shards", dtype=np.uint8)
        for threads in session.threads:
            settings: dict[str, Any] = {"scale": 1 / 255, "n_threads": threads}
            passes = ShardPasses(data.rows, y, N_CLASSES, **settings)
            one = LocalPasses(open_npy(folder / "one.npy"), y, N_CLASSES, **settings)
            sides = [
                Side(who, functools.partial(a_pass, over))
                for who, over in ((OURS, passes), (ONE_MAP, one))
            ]
            expected = a_pass(one)
            for side in sides:
                check(side, expected, threads)
            samples = alternate(sides, session.rounds, threads)
            facts = {"of the speed of one map": samples[ONE_MAP].min / samples[OURS].min}
            if data.is_slow:
                facts["GB/s decoded"] = X.nbytes / 1e9 / seconds_of(lambda: _decode(data), 1)
            yield Result(f"scale/shards {name}", threads, samples, facts=facts)


def a_pass(passes: LocalPasses | ShardPasses) -> tuple[Array, Array]:
    """Return the sum of losses and its gradient at weights as a fit has them."""
    random = np.random.default_rng(1)
    W = random.normal(0, 0.01, (1, passes.n_classes, passes.n_features)).astype(passes.dtype)
    b = np.zeros((1, passes.n_classes), passes.dtype)
    dW, of_head = np.empty_like(W), np.zeros(1, np.int64)
    sums = passes.evaluate(W, b, of_head, dW, np.empty_like(b))
    return np.array(sums.losses), dW


def _decode(data: Any) -> None:
    """Read all blocks."""
    for _ in data.rows.blocks(CHUNK_ROWS):
        pass


# ---- the formats -------------------------------------------------------------------------------


def _column(rows: Array, kind: str) -> Any:
    """Return rows as a column of bytes, or of lists."""
    pa = import_module("pyarrow")
    values = pa.array(rows.reshape(-1))
    if kind == "bytes":
        width = rows.shape[1] * rows.itemsize
        buffers = [None, pa.py_buffer(np.ascontiguousarray(rows))]
        return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(rows), buffers)
    if kind == "fixed":
        return pa.FixedSizeListArray.from_arrays(values, rows.shape[1])
    offsets = np.arange(len(rows) + 1, dtype=np.int64) * rows.shape[1]
    return pa.LargeListArray.from_arrays(pa.array(offsets), values)


def _arrow(kind: str, at_once: int, stream: bool = False, codec: str | None = None) -> Write:
    """Return what writes rows as an Arrow file or stream."""

    def write(path: Path, rows: Array) -> None:
        pa = import_module("pyarrow")
        ipc = import_module("pyarrow.ipc")
        table = pa.table({"x": _column(rows, kind)})
        new = ipc.new_stream if stream else ipc.new_file
        options = ipc.IpcWriteOptions(compression=codec)
        with new(str(path.with_suffix(".arrow")), table.schema, options=options) as writer:
            writer.write_table(table, max_chunksize=at_once)

    return write


def _parquet(kind: str) -> Write:
    def write(path: Path, rows: Array) -> None:
        table = import_module("pyarrow").table({"x": _column(rows, kind)})
        write_table = import_module("pyarrow.parquet").write_table
        write_table(table, path.with_suffix(".parquet"), compression="none")

    return write


def _tar(at_once: int) -> Write:
    """Return what writes a .tar of .npy members of some rows each, or of one row."""

    def write(path: Path, rows: Array) -> None:
        with tarfile.open(path.with_suffix(".tar"), "w") as archive:
            for i in range(0, len(rows), at_once):
                file = io.BytesIO()
                np.save(file, rows[i] if at_once == 1 else rows[i : i + at_once])
                info = tarfile.TarInfo(f"{i:08d}.npy")
                info.size = file.tell()
                file.seek(0)
                archive.addfile(info, file)

    return write


WRITERS: dict[str, Write] = {
    "npy": lambda path, rows: np.save(path.with_suffix(".npy"), rows),
    "tar of many rows a member": _tar(2 * CHUNK_ROWS),
    "tar of a row a member": _tar(1),
    "Arrow batches of 65536": _arrow("fixed", 65536),
    "Arrow batches of 10000": _arrow("fixed", 10_000),
    "Hugging Face batches of 1000": _arrow("list", 1000, stream=True),
    "Arrow lz4": _arrow("fixed", 8192, codec="lz4"),
    "Arrow zstd": _arrow("fixed", 8192, codec="zstd"),
    "Parquet bytes": _parquet("bytes"),
    "Parquet lists": _parquet("list"),
}
