"""Small tables that the tests of the readers share."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from csoftmax.data import Dataset, read_csv

IRIS = "length,width,species\n5.1,3.5,setosa\n6.2,2.9,virginica\n4.9,3.0,setosa\n"
IRIS_X = np.float32([[5.1, 3.5], [6.2, 2.9], [4.9, 3.0]])


def table(folder: Path, text: str | bytes, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def quietly(path: Path, **options: Any) -> Dataset:
    """Read a table, with no warning allowed."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_csv(path, **options)
