"""The names of *Dive into Deep Learning*, second edition, softmax regression: as in the book.

Its sections 3.5 to 3.7 run with their imports alone changed: ``from csoftmax import d2l``, and
``from csoftmax.d2l import torch, torchvision, nn, transforms, data`` for those of the same names.
`train_ch3` trains what the book's does, a function with an updater or a net with an optimizer; and
given a `SoftmaxRegression` and an `SGD`, it trains in compiled code.

``d2l.plt`` is matplotlib.pyplot, and ``d2l.display`` IPython's, where they are asked for.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from csoftmax.books import nn, torch, torchvision, transforms
from csoftmax.books.chapter3 import (
    evaluate_accuracy,
    evaluate_loss,
    predict_ch3,
    train_ch3,
    train_epoch_ch3,
)
from csoftmax.books.fashion import (
    get_dataloader_workers,
    get_fashion_mnist_labels,
    load_data_fashion_mnist,
)
from csoftmax.books.names import missing
from csoftmax.books.nn import CrossEntropyLoss
from csoftmax.books.tensors import (
    abs,
    arange,
    argmax,
    astype,
    exp,
    eye,
    float32,
    int32,
    log,
    matmul,
    normal,
    numpy,
    ones,
    rand,
    reduce_sum,
    reshape,
    size,
    tensor,
    transpose,
    zeros,
)
from csoftmax.books.tools import Accumulator, Timer, accuracy, sgd
from csoftmax.draw import Animator, show_images
from csoftmax.draw.axes import set_axes, use_svg_display
from csoftmax.draw.figure import pyplot
from csoftmax.functional import cross_entropy

__all__ = [
    "Accumulator",
    "Animator",
    "CrossEntropyLoss",
    "Timer",
    "abs",
    "accuracy",
    "arange",
    "argmax",
    "astype",
    "cross_entropy",
    "data",
    "evaluate_accuracy",
    "evaluate_loss",
    "exp",
    "eye",
    "float32",
    "get_dataloader_workers",
    "get_fashion_mnist_labels",
    "int32",
    "load_data_fashion_mnist",
    "log",
    "matmul",
    "nn",
    "normal",
    "numpy",
    "ones",
    "predict_ch3",
    "rand",
    "reduce_sum",
    "reshape",
    "set_axes",
    "sgd",
    "show_images",
    "size",
    "tensor",
    "torch",
    "torchvision",
    "train_ch3",
    "train_epoch_ch3",
    "transforms",
    "transpose",
    "use_svg_display",
    "zeros",
]

data = torch.utils.data


def __getattr__(name: str) -> Any:
    """Import what draws when it is first asked for."""
    if name == "plt":
        return pyplot()
    if name == "display":
        try:
            from IPython import display
        except ImportError:  # a script: there is nothing to show a picture in
            return SimpleNamespace(display=_do_nothing, clear_output=_do_nothing)
        return display
    raise missing(__name__, name)


def _do_nothing(*objects: object, **options: object) -> None:
    pass
