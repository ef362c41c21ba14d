"""The names that the book's programs import as ``torch``: gathered here, defined elsewhere."""

from __future__ import annotations

from types import SimpleNamespace
from typing import NoReturn

from csoftmax.books import nn as nn
from csoftmax.books import optim as optim
from csoftmax.books.images import ImageLoader
from csoftmax.books.tensors import *  # noqa: F403

utils = SimpleNamespace(data=SimpleNamespace(DataLoader=ImageLoader))


def __getattr__(name: str) -> NoReturn:
    raise AttributeError(
        f"csoftmax's torch has no {name}: it has what softmax regression in the book takes, as "
        "dir(torch) lists it; NumPy's functions take tensors too"
    )
