"""The names of *Dive into Deep Learning*, current edition (1.x), softmax regression."""

from __future__ import annotations

from csoftmax.books import functional, nn

F = functional

__all__ = ["F", "nn"]
