"""Make the bundled sample from the full Fashion-MNIST: ``python -m tools.make_sample``.

The first images of each class, in their order: the same on every machine. The files are the same
byte for byte wherever zlib compresses alike.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.data.dataset import Dataset
from csoftmax.data.readers.idx import write_idx
from csoftmax.data.sets.fashion import FILES, fashion_mnist, sample_folder

TRAIN_PER_CLASS = 600
TEST_PER_CLASS = 100
MAX_BYTES = 3_500_000


def first_of_each_class(dataset: Dataset, n_per_class: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return X and y (uint8) of the first n_per_class samples of each class, in file order.

    Examples
    --------
    >>> from csoftmax.data import fashion_mnist_sample
    >>> X, y = first_of_each_class(fashion_mnist_sample()[1], 5)
    >>> X.shape, sorted(set(y.tolist()))
    ((50, 28, 28), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    """
    per_class = [np.flatnonzero(dataset.y == k)[:n_per_class] for k in range(dataset.n_classes)]
    rows = np.sort(np.concatenate(per_class))
    return dataset.X[rows], dataset.y[rows].astype(np.uint8)


def make_sample(folder: Path, root: Path | None = None) -> int:
    """Write the four files of the sample into a folder; return their total size in bytes."""
    train, test = fashion_mnist(root)
    folder.mkdir(parents=True, exist_ok=True)
    size = 0
    for part, dataset, count in (("train", train, TRAIN_PER_CLASS), ("t10k", test, TEST_PER_CLASS)):
        X, y = first_of_each_class(dataset, count)
        for kind, array in (("images", X), ("labels", y)):
            path = folder / f"{FILES[f'{part}-{kind}'].name}.gz"
            write_idx(path, array)
            size += path.stat().st_size
    return size


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.make_sample", description="Make the bundled sample."
    )
    parser.add_argument("--root", type=Path, help="folder of the full Fashion-MNIST")
    parser.add_argument("--out", type=Path, default=sample_folder(), help="folder to write")
    options = parser.parse_args(arguments)
    size = make_sample(options.out, options.root)
    print(f"{options.out}: {size} bytes")
    return 0 if size <= MAX_BYTES else 1


if __name__ == "__main__":
    raise SystemExit(main())
