"""Clusters of real processes on loopback, and data, for the tests of `csoftmax.dask`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from csoftmax.engine.units import CHUNK_ROWS

Array = Any
ROWS = 6 * CHUNK_ROWS + 1234


def table(n: int = ROWS, f: int = 7, k: int = 3, dtype: Any = np.float32) -> tuple[Array, Array]:
    rng = np.random.default_rng(n)
    y = rng.integers(0, k, n)
    X = rng.normal(size=(n, f)) + 0.7 * rng.normal(size=(k, f))[y]
    X = X * 20 + 100 if dtype == np.uint8 else X
    return X.clip(0, 255).astype(dtype) if dtype == np.uint8 else X.astype(dtype), y


@contextmanager
def cluster(n_workers: int = 2, **options: Any) -> Iterator[tuple[Any, Any]]:
    """Yield a cluster of worker processes and its client; neither is left behind."""
    from distributed import Client, LocalCluster

    with (
        TemporaryDirectory() as folder,  # killed workers leave files behind
        LocalCluster(
            n_workers=n_workers, threads_per_worker=1, processes=True, host="127.0.0.1",
            dashboard_address=":0", silence_logs=50, memory_limit=0, local_directory=folder,
            **options,
        ) as made,
        Client(made) as client,
    ):  # fmt: skip
        yield made, client


def same(one: Any, other: Any) -> bool:
    """Have two fitted estimators the same bits?"""
    names = ("coef_", "intercept_", "classes_", "n_iter_")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)
