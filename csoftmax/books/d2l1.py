"""The names of *Dive into Deep Learning*, current edition (1.x), softmax regression."""

from __future__ import annotations

from csoftmax.books import functional, nn
from csoftmax.books.board import ProgressBoard
from csoftmax.books.modules import SGD, Classifier, DataModule, Module, SoftmaxRegression
from csoftmax.books.objects import HyperParameters, add_to_class
from csoftmax.books.trainer import Trainer

F = functional
nn_Module = nn.Module

__all__ = [
    "SGD",
    "Classifier",
    "DataModule",
    "F",
    "HyperParameters",
    "Module",
    "ProgressBoard",
    "SoftmaxRegression",
    "Trainer",
    "add_to_class",
    "nn",
    "nn_Module",
]
