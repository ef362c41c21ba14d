"""The names that the book's programs import as ``torch``: gathered here, defined elsewhere."""

from __future__ import annotations

from types import SimpleNamespace
from typing import NoReturn

from csoftmax.books import nn as nn
from csoftmax.books import optim as optim
from csoftmax.books.images import ImageLoader
from csoftmax.books.names import missing
from csoftmax.books.tensors import *  # noqa: F403
from csoftmax.books.tensors import __all__ as __all__

utils = SimpleNamespace(data=SimpleNamespace(DataLoader=ImageLoader))


def __getattr__(name: str) -> NoReturn:
    raise missing(__name__, name)


def __dir__() -> list[str]:
    return sorted([*__all__, "nn", "optim", "utils"])
