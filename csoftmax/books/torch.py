"""The names that the book's programs import as ``torch``: gathered here, defined elsewhere."""

from __future__ import annotations

from types import SimpleNamespace

from csoftmax.books import nn as nn
from csoftmax.books import optim as optim
from csoftmax.books.images import ImageLoader
from csoftmax.books.tensors import *  # noqa: F403

utils = SimpleNamespace(data=SimpleNamespace(DataLoader=ImageLoader))
