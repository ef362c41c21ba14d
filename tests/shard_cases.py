"""Folders of shards for tests: the same rows in any format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LENGTHS = (5, 0, 7, 3)  # the second shard is empty


def table(dtype: Any = np.float32, n_features: int = 4) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return rows and labels whose numbers tell where they are."""
    n = sum(LENGTHS)
    X = (np.arange(n * n_features).reshape(n, n_features) % 251).astype(dtype)
    return X, (np.arange(n) * 7 % 3).astype(np.int16)


def cut(array: NDArray[Any]) -> list[NDArray[Any]]:
    """Cut an array into shards of `LENGTHS`."""
    return np.split(array, np.cumsum(LENGTHS)[:-1])


def write_npy(folder: Path, X: NDArray[Any], y: NDArray[Any]) -> tuple[str, str]:
    """Write rows and labels as .npy shards; return their patterns."""
    for s, (rows, labels) in enumerate(zip(cut(X), cut(y), strict=True)):
        np.save(folder / f"x-{s + 8}.npy", rows)  # x-8, x-9, x-10: not in the order of the letters
        np.save(folder / f"y-{s + 8}.npy", labels)
    return f"{folder}/x-*.npy", f"{folder}/y-*.npy"
