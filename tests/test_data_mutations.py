"""Good files with bytes changed, cut or repeated: read or refused by DataError, nothing else."""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from csoftmax.data import DataError, read_csv, read_idx, read_npy, read_npz, write_idx

X = np.arange(60, dtype=np.float32).reshape(20, 3)
Y = np.arange(20) % 2


def make_idx(folder: Path) -> Path:
    write_idx(folder / "x", X)
    return folder / "x"


def make_idx_gz(folder: Path) -> Path:
    write_idx(folder / "x.gz", X)
    return folder / "x.gz"


def make_npy(folder: Path) -> Path:
    np.save(folder / "y.npy", Y)
    np.save(folder / "X.npy", X)
    return folder / "X.npy"


def make_npz(folder: Path) -> Path:
    np.savez(folder / "d.npz", X=X, y=Y)
    return folder / "d.npz"


def make_npz_compressed(folder: Path) -> Path:
    np.savez_compressed(folder / "d.npz", X=X, y=Y)
    return folder / "d.npz"


def make_csv(folder: Path) -> Path:
    text = "a,b,c,label\n" + "".join(f'{a},{b},"{c}",n{c % 2}\n' for a, b, c in X)
    (folder / "t.csv").write_text(text)
    return folder / "t.csv"


def make_csv_gz(folder: Path) -> Path:
    path = make_csv(folder)
    path.write_bytes(gzip.compress(path.read_bytes()))
    return path


def mutate(content: bytes, random: np.random.Generator) -> bytes:
    """Change up to three bytes; sometimes cut the end off, or repeat a part."""
    changed = bytearray(content)
    # headers and directories are at the ends: half of the changes go there
    for _ in range(random.integers(0, 4)):
        limit = min(len(changed), int(random.choice([128, len(changed)])))
        at = int(random.integers(limit)) * int(random.choice([1, -1]))
        changed[at] = int(random.choice([0, 0xFF, ord('"'), ord(","), random.integers(256)]))
    start, end = sorted(random.integers(0, len(changed), 2).tolist())
    if random.random() < 0.2:
        del changed[start:end]
    elif random.random() < 0.2:
        changed[start:start] = changed[start:end]
    return bytes(changed)


@pytest.mark.parametrize(
    ("make", "read"),
    [
        (make_idx, read_idx),
        (make_idx_gz, read_idx),
        (make_npy, read_npy),
        (make_npz, read_npz),
        (make_npz_compressed, read_npz),
        (make_csv, read_csv),
        (make_csv_gz, read_csv),
    ],
)
def test_mutations(
    tmp_path: Path, make: Callable[[Path], Path], read: Callable[[Path], object]
) -> None:
    path = make(tmp_path)
    good = path.read_bytes()
    read(path)
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        path.write_bytes(mutate(good, random))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                read(path)
            except DataError:
                refused += 1
    assert refused > 50
