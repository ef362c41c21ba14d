"""Data sets: readers for files of many kinds, Fashion-MNIST, and minibatches.

``read`` is the front door for one's own files; ``fashion_mnist`` and ``fashion_mnist_sample`` need
no path. All return ``Dataset`` objects, and ``DataLoader`` makes minibatches of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from csoftmax.core.errors import DataError, DataNotFoundError
from csoftmax.core.files import write_atomically
from csoftmax.data.dataset import Dataset
from csoftmax.data.loader import DataLoader
from csoftmax.data.pictures import PictureRecipe, PreparedPicture, prepare_picture, shrink_picture
from csoftmax.data.split import split_dataset

__all__ = [
    "CLASS_NAMES",
    "DataError",
    "DataLoader",
    "DataNotFoundError",
    "Dataset",
    "DatasetLocation",
    "PictureRecipe",
    "PreparedPicture",
    "Shards",
    "dataset_locations",
    "fashion_mnist",
    "fashion_mnist_sample",
    "open_npy",
    "prepare_picture",
    "read",
    "read_csv",
    "read_features",
    "read_idx",
    "read_idx_folder",
    "read_npy",
    "read_npz",
    "read_parts",
    "read_svmlight",
    "sample_folder",
    "shrink_picture",
    "split_dataset",
    "write_atomically",
    "write_idx",
]

# The readers are imported when one is asked for: `import csoftmax` stays light.
_LAZY = {
    "readers.csv": ("read_csv",),
    "readers.front": ("read", "read_features", "read_parts"),
    "readers.idx": ("read_idx", "read_idx_folder", "write_idx"),
    "readers.npy": ("open_npy", "read_npy"),
    "readers.npz": ("read_npz",),
    "readers.svmlight": ("read_svmlight",),
    "sets.fashion": (
        "CLASS_NAMES",
        "DatasetLocation",
        "dataset_locations",
        "fashion_mnist",
        "fashion_mnist_sample",
        "sample_folder",
    ),
    "shards": ("Shards",),
}

if TYPE_CHECKING:
    from csoftmax.data.readers.csv import read_csv
    from csoftmax.data.readers.front import read, read_features, read_parts
    from csoftmax.data.readers.idx import read_idx, read_idx_folder, write_idx
    from csoftmax.data.readers.npy import open_npy, read_npy
    from csoftmax.data.readers.npz import read_npz
    from csoftmax.data.readers.svmlight import read_svmlight
    from csoftmax.data.sets.fashion import (
        CLASS_NAMES,
        DatasetLocation,
        dataset_locations,
        fashion_mnist,
        fashion_mnist_sample,
        sample_folder,
    )
    from csoftmax.data.shards import Shards
else:

    def __getattr__(name: str) -> Any:
        for module, names in _LAZY.items():
            if name in names:
                return getattr(importlib.import_module(f"{__name__}.{module}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
