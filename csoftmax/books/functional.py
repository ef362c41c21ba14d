"""``nn.functional``: functions of tensors, as the book's current edition names them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.autograd import Node, record, records, send
from csoftmax.functional import softmax_cross_entropy_grad

__all__ = ["cross_entropy"]

Array = NDArray[Any]


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
    loss, dlogits = softmax_cross_entropy_grad(input, target, reduction=reduction)
    if not records(None, input):
        return np.asarray(loss, dlogits.dtype)[()]

    def backward(dloss: Array) -> None:
        send(input, dlogits * dloss[..., np.newaxis])

    return record(np.asarray(loss, dlogits.dtype), Node("cross_entropy", input, backward))
