"""Data sets: readers for files of many kinds, Fashion-MNIST, and minibatches.

``read`` is the front door for one's own files; ``fashion_mnist`` and ``fashion_mnist_sample`` need
no path. All return ``Dataset`` objects, and ``DataLoader`` makes minibatches of them.
"""

from __future__ import annotations

from .arrays import open_npy, read_npy, read_npz
from .dataset import DataError, DataNotFoundError, Dataset, split_dataset
from .fashion import (
    CLASS_NAMES,
    DatasetLocation,
    dataset_locations,
    fashion_mnist,
    fashion_mnist_sample,
    sample_folder,
)
from .files import write_atomically
from .front import read, read_features, read_parts
from .idx import read_idx, read_idx_folder, write_idx
from .loader import DataLoader
from .tables import read_csv

__all__ = [
    "CLASS_NAMES",
    "DataError",
    "DataLoader",
    "DataNotFoundError",
    "Dataset",
    "DatasetLocation",
    "dataset_locations",
    "fashion_mnist",
    "fashion_mnist_sample",
    "open_npy",
    "read",
    "read_csv",
    "read_features",
    "read_idx",
    "read_idx_folder",
    "read_npy",
    "read_npz",
    "read_parts",
    "sample_folder",
    "split_dataset",
    "write_atomically",
    "write_idx",
]
