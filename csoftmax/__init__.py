"""Softmax regression at the speed of the hardware.

>>> import csoftmax as cs
>>> train, test = cs.fashion_mnist_sample()
>>> model = cs.SoftmaxRegression(784, 10, seed=0)
>>> loader = cs.DataLoader.from_dataset(train, 256, shuffle=True, seed=0)
>>> history = cs.train(model, loader, validation=test, epochs=5)
>>> cs.evaluate(model, test).accuracy > 0.7
True

`csoftmax.SoftmaxClassifier` and `csoftmax.SoftmaxClassifierCV` are scikit-learn estimators
(``pip install 'csoftmax[sklearn]'``). The functions are in `csoftmax.functional` (compiled) and
`csoftmax.reference` (the same in plain NumPy, the page to read first); the program of *Dive into
Deep Learning* runs on `csoftmax.d2l`. `csoftmax.app` is a page to see it all
(``pip install 'csoftmax[app]'``, ``python -m csoftmax app``).
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from csoftmax import _kernels
from csoftmax.autograd import Parameter, Tensor, no_grad
from csoftmax.core.errors import DataError, DataNotFoundError
from csoftmax.core.version import __version__ as __version__
from csoftmax.data import DataLoader, Dataset
from csoftmax.evaluation import evaluate
from csoftmax.functional import (
    cross_entropy,
    linear,
    linear_cross_entropy,
    linear_cross_entropy_grad,
    linear_evaluate,
    log_softmax,
    softmax,
    softmax_cross_entropy,
    softmax_cross_entropy_grad,
)
from csoftmax.model import SoftmaxRegression
from csoftmax.results import History, Metrics
from csoftmax.slices import train_slices
from csoftmax.training import SGD, train

__all__ = [
    "SGD",
    "DataError",
    "DataLoader",
    "DataNotFoundError",
    "Dataset",
    "History",
    "Metrics",
    "Parameter",
    "SoftmaxRegression",
    "Tensor",
    "cross_entropy",
    "dataset_locations",
    "evaluate",
    "fashion_mnist",
    "fashion_mnist_sample",
    "info",
    "linear",
    "linear_cross_entropy",
    "linear_cross_entropy_grad",
    "linear_evaluate",
    "log_softmax",
    "no_grad",
    "read",
    "shards",
    "softmax",
    "softmax_cross_entropy",
    "softmax_cross_entropy_grad",
    "train",
    "train_slices",
]


def _is_command_line() -> bool:
    """Is this import the start of `csoftmax` or `python -m csoftmax`, before any of their code?"""
    name, *words = getattr(sys, "argv", None) or [""]
    if name == "-m":  # of a module that is being looked for: the word before the arguments
        name = sys.orig_argv[-1 - len(words)].removeprefix("-m").partition(".")[0]
    return os.path.basename(str(name)) in ("csoftmax", "csoftmax.exe")


if os.environ.get("CSOFTMAX_ISA"):
    try:
        _kernels.use(os.environ["CSOFTMAX_ISA"])
    except ImportError as error:
        problem = f"environment variable CSOFTMAX_ISA: {error}"
        if _is_command_line():
            print(f"csoftmax: error: {problem}", file=sys.stderr)
            raise SystemExit(2) from None
        raise ImportError(problem) from None


# Imported on first use: the readers of files, and what needs scikit-learn.
_LAZY = {
    "dataset_locations": "csoftmax.data",
    "fashion_mnist": "csoftmax.data",
    "fashion_mnist_sample": "csoftmax.data",
    "read": "csoftmax.data",
    "shards": "csoftmax.data.shards",
    "ShardKFold": "csoftmax.estimators",
    "SoftmaxClassifier": "csoftmax.estimators",
    "SoftmaxClassifierCV": "csoftmax.estimators",
}

if TYPE_CHECKING:
    from csoftmax.data import dataset_locations, fashion_mnist, fashion_mnist_sample, read
    from csoftmax.data.shards import shards
    from csoftmax.estimators import ShardKFold as ShardKFold
    from csoftmax.estimators import SoftmaxClassifier as SoftmaxClassifier
    from csoftmax.estimators import SoftmaxClassifierCV as SoftmaxClassifierCV
else:

    def __getattr__(name: str) -> Any:
        if name == "app":  # the page, with the libraries that it is served by
            return importlib.import_module("csoftmax.app")
        if name not in _LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            return getattr(importlib.import_module(_LAZY[name]), name)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in ("sklearn", "scipy", "joblib"):
                raise
            raise ImportError(
                f"csoftmax.{name} needs scikit-learn: pip install 'csoftmax[sklearn]'"
            ) from error


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, "app"})


def info() -> dict[str, Any]:
    """Return what this installation runs on: versions, instruction sets, CPUs, data found.

    Examples
    --------
    >>> import csoftmax as cs
    >>> cs.info()["instruction set"] in cs.info()["instruction sets available"]
    True
    """
    import numpy as np

    from csoftmax.core.cpus import usable_cpus
    from csoftmax.data import dataset_locations

    return {
        "csoftmax": __version__,
        "instruction set": _kernels.active(),
        "instruction sets available": list(_kernels.available()),
        "usable CPUs": usable_cpus(),
        "NumPy": np.__version__,
        "dataset locations": [
            {"where": place.where, "found": place.found, "detail": place.detail}
            for place in dataset_locations()
        ],
    }
