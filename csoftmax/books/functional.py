"""``nn.functional``: functions of tensors, as the book's current edition names them."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from csoftmax.autograd import Tensor
from csoftmax.books.names import missing
from csoftmax.books.tensors import log_softmax, relu, softmax
from csoftmax.core.checks import compute_dtype
from csoftmax.functional import softmax_cross_entropy

__all__ = ["cross_entropy", "log_softmax", "relu", "softmax"]


def cross_entropy(input: Any, target: Any, reduction: str = "mean") -> Any:
    """Return the cross-entropy of the softmax of logits, stable at any magnitude, recorded.

    Parameters
    ----------
    input : array (n_samples, n_classes)
        Logits. (The names are the tensor library's.)
    target : array (n_samples,)
        Integer labels 0..n_classes-1.
    reduction : "mean", "sum" or "none"
        What to return: one number for the batch, or one for each sample.

    Raises
    ------
    TypeError, ValueError
        As `csoftmax.softmax_cross_entropy`, which computes it.

    Examples
    --------
    >>> import numpy as np
    >>> from csoftmax.d2l1 import F
    >>> print(F.cross_entropy(np.zeros((2, 10)), np.array([3, 9])).round(4))  # log(10)
    2.3026

    Notes
    -----
    D2L current edition section 4.5.
    """
    loss = softmax_cross_entropy(input, target, reduction=reduction)
    return loss if isinstance(loss, Tensor) else Tensor(loss, compute_dtype(np.asarray(input)))


def __getattr__(name: str) -> NoReturn:
    raise missing(__name__, name)
