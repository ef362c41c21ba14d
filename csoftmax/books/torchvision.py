"""The names that the book's programs import as ``torchvision``: gathered, defined elsewhere."""

from __future__ import annotations

from types import SimpleNamespace

from csoftmax.books import transforms as transforms
from csoftmax.books.images import KMNIST, MNIST, FashionMNIST

datasets = SimpleNamespace(FashionMNIST=FashionMNIST, MNIST=MNIST, KMNIST=KMNIST)
