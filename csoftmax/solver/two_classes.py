"""Two forms of the same model: the softmax's, and the one that scikit-learn shows.

They differ for two classes only. The softmax has a row of weights for each class, of which the
probabilities know nothing but the difference ``w = W_1 - W_0``; scikit-learn shows that one row and
penalises ``||w||^2 / (2 C)``. Of all W with that difference the penalty ``||W||^2 / (2 C')``
prefers ``W_0 = -w / 2, W_1 = w / 2``, where it is ``||w||^2 / (4 C')``. So C' is half of C.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def softmax_form(coef: Array, intercept: Array) -> tuple[Array, Array]:
    """Return W (n_classes, n_features) and b: two classes share the difference, half each."""
    if len(intercept) > 1:
        return coef, np.array(intercept)
    halves = np.array([-0.5, 0.5], coef.dtype)
    return halves[:, None] * coef, halves * intercept


def estimator_form(W: Array, b: Array) -> tuple[Array, Array]:
    """Return coef_ and intercept_: for two classes one row, the logit of the second class.

    Axes before those of W (n_classes, n_features) and b (n_classes,) stay.
    """
    if b.shape[-1] > 2:
        return W, b
    return W[..., 1:, :] - W[..., :1, :], b[..., 1:] - b[..., :1]


def softmax_C(C: Any, n_classes: int) -> Any:
    """Return the C of the softmax form, a number or an array, that penalises as `C` does."""
    return C / 2 if n_classes == 2 else C


def estimator_C(C: float, n_classes: int) -> float:
    """Return the C of the form that is shown: the inverse of `softmax_C`."""
    return 2 * C if n_classes == 2 else C
