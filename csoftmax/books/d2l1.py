"""The names of *Dive into Deep Learning*, current edition (1.x), softmax regression.

Its sections 4.2 to 4.5, and what they build on of 3.2 and 3.4, run with their imports alone
changed: ``from csoftmax import d2l1 as d2l``, and ``from csoftmax.d2l1 import torch, torchvision,
nn, transforms, F`` for those of the same names. Where no step is replaced, `Trainer.fit` trains in
compiled code; its board says which path ran.

``d2l.plt`` is matplotlib.pyplot, where it is asked for. The second edition is `csoftmax.d2l`.
"""

from __future__ import annotations

from typing import Any

from csoftmax.books import functional, nn, torch, torchvision, transforms
from csoftmax.books.board import ProgressBoard
from csoftmax.books.datamodules import DataModule, FashionMNIST
from csoftmax.books.modules import SGD, Classifier, Module, SoftmaxRegression
from csoftmax.books.names import missing
from csoftmax.books.objects import HyperParameters, add_to_class
from csoftmax.books.tensors import (
    abs,
    arange,
    argmax,
    astype,
    cpu,
    exp,
    eye,
    float32,
    int32,
    int64,
    log,
    matmul,
    normal,
    numpy,
    ones,
    rand,
    randn,
    reduce_mean,
    reduce_sum,
    reshape,
    size,
    tensor,
    to,
    transpose,
    zeros,
)
from csoftmax.books.trainer import Trainer
from csoftmax.draw import show_images
from csoftmax.draw.axes import set_axes, use_svg_display
from csoftmax.draw.figure import pyplot

F = functional
nn_Module = nn.Module

__all__ = [
    "SGD",
    "Classifier",
    "DataModule",
    "F",
    "FashionMNIST",
    "HyperParameters",
    "Module",
    "ProgressBoard",
    "SoftmaxRegression",
    "Trainer",
    "abs",
    "add_to_class",
    "arange",
    "argmax",
    "astype",
    "cpu",
    "exp",
    "eye",
    "float32",
    "int32",
    "int64",
    "log",
    "matmul",
    "nn",
    "nn_Module",
    "normal",
    "numpy",
    "ones",
    "rand",
    "randn",
    "reduce_mean",
    "reduce_sum",
    "reshape",
    "set_axes",
    "show_images",
    "size",
    "tensor",
    "to",
    "torch",
    "torchvision",
    "transforms",
    "transpose",
    "use_svg_display",
    "zeros",
]


def __getattr__(name: str) -> Any:
    """Import what draws when it is first asked for."""
    if name == "plt":
        return pyplot()
    raise missing(__name__, name)
