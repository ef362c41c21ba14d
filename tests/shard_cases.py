"""Folders of shards for tests: the same rows in any format."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import csoftmax as cs

Array = NDArray[Any]
LENGTHS = (5, 0, 7, 3)  # the second shard is empty


def table(dtype: Any = np.float32, n_features: int = 4) -> tuple[Array, Array]:
    """Return rows and labels whose numbers tell where they are."""
    n = sum(LENGTHS)
    X = (np.arange(n * n_features).reshape(n, n_features) % 251).astype(dtype)
    return X, (np.arange(n) * 7 % 3).astype(np.int16)


def cut(array: Array) -> list[Array]:
    """Cut an array into shards of `LENGTHS`."""
    return np.split(array, np.cumsum(LENGTHS)[:-1])


def write_npy(folder: Path, X: Array, y: Array) -> tuple[str, str]:
    """Write rows and labels as .npy shards; return their patterns."""
    for s, (rows, labels) in enumerate(zip(cut(X), cut(y), strict=True)):
        np.save(folder / f"x-{s + 8}.npy", rows)  # x-8, x-9, x-10: not in the order of the letters
        np.save(folder / f"y-{s + 8}.npy", labels)
    return f"{folder}/x-*.npy", f"{folder}/y-*.npy"


# ---- Arrow and Parquet -------------------------------------------------------------------------


def arrow_column(rows: Array, kind: str) -> Any:
    """Return rows as a column: of lists of one size, lists, lists of lists, or bytes."""
    pa = pytest.importorskip("pyarrow")
    n, width = rows.shape
    values = pa.array(np.ascontiguousarray(rows).reshape(-1))
    if kind == "fixed":
        return pa.FixedSizeListArray.from_arrays(values, width)
    if kind in ("list", "large"):
        cls, dtype = (pa.LargeListArray, np.int64) if kind == "large" else (pa.ListArray, np.int32)
        return cls.from_arrays(pa.array(np.arange(n + 1, dtype=dtype) * width), values)
    if kind == "nested":
        pairs = pa.FixedSizeListArray.from_arrays(values, 2)
        return pa.FixedSizeListArray.from_arrays(pairs, width // 2)
    texts = [row.tobytes() for row in rows]
    fixed = pa.binary(width * rows.itemsize)
    return pa.array(texts, fixed if kind == "bytes" else pa.binary())


def arrow_table(rows: Array, labels: Array, kind: str) -> Any:
    """Return a table with the columns x (or x0, x1, ...), y, and w, which is y + 1."""
    pa = pytest.importorskip("pyarrow")
    if kind == "wide":
        columns = {f"x{j}": pa.array(column) for j, column in enumerate(rows.T)}
    else:
        columns = {"x": arrow_column(rows, kind)}
    return pa.table({"y": pa.array(labels), **columns, "w": pa.array(labels + 1.0)})


def write_arrow(path: Path, table: Any, how: str, at_once: int = 2) -> None:
    """Write a table as an Arrow file or stream: how is "file", "stream", "file lz4", ..."""
    import pyarrow as pa

    kind, _, compression = how.partition(" ")
    options = pa.ipc.IpcWriteOptions(compression=compression or None)
    new = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
    with new(str(path), table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=at_once)


def write_parquet(path: Path, table: Any, compression: str = "none", group: int = 3) -> None:
    """Write a table as a Parquet file of row groups of a few rows."""
    import pyarrow.parquet as pq

    pq.write_table(table, path, compression=compression, row_group_size=group)


# ---- tar ---------------------------------------------------------------------------------------


def npy_bytes(array: Any) -> bytes:
    """Return an array as a .npy file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    """Write members as a .tar file."""
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def sample_members(rows: Array, labels: Array, apart: bool = False) -> dict[str, bytes]:
    """Return a member for each row and one for its label; `apart`, at uneven distances."""
    members = {}
    for i, (row, label) in enumerate(zip(rows, labels, strict=True)):
        if apart and i % 3 == 1:
            members[f"notes/{i}.txt"] = b"." * 700
        members[f"s/{i:03d}.npy"] = npy_bytes(row)
        members[f"s/{i:03d}.cls"] = str(label).encode()
    return members or {"readme.txt": b"no samples", "s.npy": npy_bytes(rows[:0])}


# ---- the same rows in each format --------------------------------------------------------------


def _npy(folder: Path, X: Array, y: Array) -> Any:
    names, label_names = write_npy(folder, X, y)
    return cs.shards(names, labels=label_names)


def _npz(folder: Path, X: Array, y: Array) -> Any:
    for s, (rows, labels) in enumerate(zip(cut(X), cut(y), strict=True)):
        np.savez(folder / f"{s}.npz", X=rows, y=labels)
    return cs.shards(f"{folder}/*.npz")


def _sparse_npz(folder: Path, X: Array, y: Array) -> Any:
    sparse = pytest.importorskip("scipy.sparse")
    for s, (rows, labels) in enumerate(zip(cut(X), cut(y), strict=True)):
        csr = sparse.csr_array(rows)
        arrays = {"data": csr.data, "indices": csr.indices, "indptr": csr.indptr}
        np.savez(folder / f"{s}.npz", format=b"csr", shape=csr.shape, y=labels, **arrays)
    return cs.shards(f"{folder}/*.npz")


def _svmlight(folder: Path, X: Array, y: Array) -> Any:
    for s, (rows, labels) in enumerate(zip(cut(X), cut(y), strict=True)):
        lines = [
            " ".join([str(label), *(f"{j + 1}:{x!r}" for j, x in enumerate(row.tolist()) if x)])
            for row, label in zip(rows, labels, strict=True)
        ]
        (folder / f"{s}.svm").write_text("\n".join(lines) + "\n")
    return cs.shards(f"{folder}/*.svm")


def _arrow(kind: str, how: str) -> Callable[[Path, Array, Array], Any]:
    def make(folder: Path, X: Array, y: Array) -> Any:
        for s, (rows, labels) in enumerate(zip(cut(X), cut(y), strict=True)):
            write_arrow(folder / f"{s}.arrow", arrow_table(rows, labels, kind), how)
        dtype = X.dtype if "b" in kind else None
        return cs.shards(folder, y="y", weight="w", dtype=dtype)

    return make


def _parquet(kind: str, compression: str) -> Callable[[Path, Array, Array], Any]:
    def make(folder: Path, X: Array, y: Array) -> Any:
        for s, (rows, labels) in enumerate(zip(cut(X), cut(y), strict=True)):
            write_parquet(folder / f"{s}.parquet", arrow_table(rows, labels, kind), compression)
        dtype = X.dtype if "b" in kind else None
        return cs.shards(f"{folder}/*.parquet", y="y", weight="w", dtype=dtype)

    return make


def _hugging_face(folder: Path, X: Array, y: Array) -> Any:
    names = [f"data-{s:05d}-of-00004.arrow" for s in range(len(LENGTHS))]
    for name, rows, labels in zip(names, cut(X), cut(y), strict=True):
        write_arrow(folder / name, arrow_table(rows, labels, "list"), "stream")
    state = {"_data_files": [{"filename": name} for name in names]}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")
    return cs.shards(folder, X="x", y="y", weight="w")


def _tar(apart: bool) -> Callable[[Path, Array, Array], Any]:
    def make(folder: Path, X: Array, y: Array) -> Any:
        rows, labels = cut(X), cut(y)
        for s in (0, 2, 3):  # a tar without samples has no rows
            write_tar(folder / f"{s}.tar", sample_members(rows[s], labels[s], apart))
        return cs.shards(folder)

    return make


def _tar_of_blocks(folder: Path, X: Array, y: Array) -> Any:
    members = {}
    for s, (rows, labels) in enumerate(zip(cut(X), cut(y), strict=True)):
        members[f"{s}.npy"], members[f"{s}.y.npy"] = npy_bytes(rows), npy_bytes(labels)
    write_tar(folder / "all.tar", members)
    return cs.shards(folder / "all.tar")


def _functions(folder: Path, X: Array, y: Array) -> Any:
    def function(rows: Array, labels: Array) -> Any:
        return lambda start, stop: (rows[start:stop], labels[start:stop])

    return cs.shards([
        (len(rows), function(rows, labels)) for rows, labels in zip(cut(X), cut(y), strict=True)
    ])  # fmt: skip


FORMATS: dict[str, Callable[[Path, Array, Array], Any]] = {
    "npy": _npy,
    "npz": _npz,
    "sparse npz": _sparse_npz,
    "svmlight": _svmlight,
    "tar": _tar(False),
    "tar, uneven": _tar(True),
    "tar of blocks": _tar_of_blocks,
    "functions": _functions,
    "Hugging Face": _hugging_face,
    **{
        f"arrow {kind} {how}": _arrow(kind, how)
        for kind, how in [
            ("fixed", "file"), ("list", "stream"), ("large", "file"), ("nested", "stream"),
            ("bytes", "file"), ("bin", "stream"), ("wide", "file"), ("fixed", "file lz4"),
            ("list", "stream zstd"), ("bytes", "stream lz4"), ("wide", "file zstd"),
        ]
    },
    **{
        f"parquet {kind} {compression}": _parquet(kind, compression)
        for kind, compression in [
            ("fixed", "none"), ("list", "zstd"), ("large", "none"), ("nested", "none"),
            ("bytes", "none"), ("bin", "snappy"), ("wide", "snappy"),
        ]
    },
}  # fmt: skip
