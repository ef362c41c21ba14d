"""One epoch of minibatch stochastic gradient descent."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from csoftmax.core.checks import (
    as_labels,
    as_linear,
    as_weights,
    check_learning_rate,
    check_not_negative,
    check_number,
    check_out,
    check_positive,
)
from csoftmax.reference.formulas import dense, label_dlogits, label_losses, quiet, sum_of, weighted
from csoftmax.reference.of_features import logits_of

Array = NDArray[Any]


@quiet
def sgd_epoch(
    X: ArrayLike,
    y: ArrayLike,
    W: Array,
    b: Array,
    order: ArrayLike | None,
    batch_size: int,
    lr: float,
    *,
    scale: float = 1.0,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    bias_lr: float | None = None,
    l1: float = 0.0,
    sample_weight: ArrayLike | None = None,
    velocity: tuple[Array, Array] | None = None,
) -> tuple[float, float]:
    """Train one epoch of minibatch stochastic gradient descent; W and b change in place.

    For each batch, with g the gradient of its mean loss (plus ``weight_decay * W`` for W, not b):

        v = momentum * v + g
        W = W - lr * (g + momentum * v if nesterov else v)

    and b likewise at the rate `bias_lr`; where that is 0, b and its velocity are left alone. Then
    each weight moves ``lr * l1`` toward 0 and stops there.

    Source: D2L, sections "Softmax Regression Implementation from Scratch" and "Minibatch Stochastic
    Gradient Descent". Momentum as in Sutskever et al. 2013, with v in units of the gradient.

    Parameters
    ----------
    X, y, scale
        As in `linear_cross_entropy`.
    W : float32 or float64 array (n_features, n_classes)
        Weights, updated in place; they set the dtype of the computation.
    b : array (n_classes,) of the dtype of W
        Bias, updated in place.
    order : integer array, or None
        Samples in the order of the epoch; None for the order of X.
    batch_size : int
        Samples per batch; the last batch may be short.
    lr, momentum, nesterov, weight_decay
        Step size and the rule above.
    bias_lr : float, optional
        Step size of b, at least 0; `lr` if None.
    l1 : float
        Factor of ``sum |W|``, at least 0.
    sample_weight : array_like (n_samples,), optional
        Factors of the samples' losses; a batch still divides by its number of samples.
    velocity : pair of arrays like (W, b), optional
        v from the epoch before, updated in place; zeros if none are given.

    Returns
    -------
    loss : float
        Mean loss in nats over the samples, each taken before the update of its batch.
    accuracy : float
        Share of samples whose largest logit, likewise before the update, is that of their label.

    Raises
    ------
    TypeError, ValueError
        As in `linear_cross_entropy`; W and b are then unchanged.

    Examples
    --------
    >>> import numpy as np
    >>> from csoftmax import reference
    >>> X, y, W, b = np.eye(2), np.array([0, 1]), np.zeros((2, 2)), np.zeros(2)
    >>> loss, accuracy = reference.sgd_epoch(X, y, W, b, [0, 1], batch_size=1, lr=1.0)
    >>> W.round(3), b.round(3)
    (array([[ 0.5  , -0.5  ],
           [-0.731,  0.731]]), array([-0.231,  0.231]))
    """
    rows, _, _, _ = as_linear(X, W, b)
    vW, vb = (np.zeros_like(W), np.zeros_like(b)) if velocity is None else velocity
    _check_parameters(W, b, vW, vb)
    y = as_labels(y, len(rows), W.shape[1])
    order = np.arange(len(rows)) if order is None else order
    order = as_labels(order, np.size(order), len(rows), name="order")
    batch_size, scale = check_positive(batch_size, "batch_size"), check_number(scale, "scale")
    lr, momentum = check_learning_rate(lr), check_number(momentum, "momentum")
    weight_decay = check_number(weight_decay, "weight_decay")
    bias_lr = lr if bias_lr is None else check_not_negative(bias_lr, "bias_lr")
    l1 = check_not_negative(l1, "l1")
    if sample_weight is not None:
        sample_weight = as_weights(sample_weight, len(rows), "sample_weight", W.dtype)
    loss, correct = 0.0, 0
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        X_batch, y_batch = dense(rows[batch], W.dtype), y[batch]
        logits = logits_of(X_batch, W, b, scale)
        losses, p, total = label_losses(logits, y_batch)
        correct += int(np.count_nonzero(logits.argmax(axis=1) == y_batch))
        dlogits = label_dlogits(p, total, y_batch)
        if sample_weight is not None:
            s = sample_weight[batch]
            losses, dlogits = weighted(losses, s), weighted(dlogits, s[:, np.newaxis])
            X_batch = np.where(s[:, np.newaxis] > 0, X_batch, 0)
        loss += sum_of(losses)
        dlogits /= len(batch)
        dW = X_batch.T @ dlogits
        dW *= scale
        if weight_decay:
            dW += weight_decay * W
        steps = [(W, dW, vW, lr)]
        if bias_lr:
            steps.append((b, dlogits.sum(axis=0), vb, bias_lr))
        for parameter, g, v, rate in steps:
            if momentum:
                v *= momentum
                v += g
                g = g + momentum * v if nesterov else v
            parameter -= rate * g
        if l1:
            W[...] = np.sign(W) * np.maximum(np.abs(W) - lr * l1, 0)
    if len(order) == 0:
        return math.nan, math.nan
    return loss / len(order), correct / len(order)


def _check_parameters(W: Array, b: Array, vW: Array, vb: Array) -> None:
    """Check that an epoch can update W (n_features, n_classes), b and their velocities in place."""
    if not isinstance(W, np.ndarray) or W.dtype not in (np.float32, np.float64):
        raise TypeError(f"W is {np.asarray(W).dtype}, expected a float32 or float64 array")
    for array, shape, name in (
        (W, W.shape, "W"),
        (b, W.shape[1:], "b"),
        (vW, W.shape, "velocity[0]"),
        (vb, W.shape[1:], "velocity[1]"),
    ):
        check_out(array, shape, W.dtype, name)
