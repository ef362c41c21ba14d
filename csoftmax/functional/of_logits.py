"""Functions of logits and probabilities: softmax, and the cross-entropies after it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from csoftmax.autograd import Node, is_recorded, node_of, record, refuse_out, without_derivative
from csoftmax.core.checks import as_array, as_labels, as_logits, check_out, compute_dtype
from csoftmax.functional.arguments import cross_entropy_pass, placed, softmax_along_axis

Array = NDArray[Any]

# what the tape calls it, so that the cross-entropy of it is computed from the logits
SOFTMAX_OF_ROWS = "softmax of rows"


def softmax(
    x: ArrayLike, axis: int = -1, *, out: Array | None = None, n_threads: int | None = None
) -> Array:
    """Return ``exp(x) / sum exp(x)`` along `axis`, stable at any magnitude.

    Parameters
    ----------
    x : array_like, any number of dimensions
        Logits.
    axis : int
        The class axis.
    out : ndarray of x's shape, optional
        Where the result goes, of the result's dtype; may be x itself.
    n_threads : int, optional
        At most so many threads.

    Returns
    -------
    ndarray of x's shape
        Probabilities, float32 or float64. A row with NaN or +inf is NaN; -inf has probability 0; a
        row of nothing but -inf is NaN.

    Raises
    ------
    TypeError
        Unsupported dtype.
    ValueError
        No such axis, or no class on it.

    Notes
    -----
    D2L section 3.6, ``softmax``; 3.7 for why the maximum is subtracted first.

    Examples
    --------
    >>> import csoftmax as cs
    >>> print(cs.softmax([1000.0, 1000.0, -1000.0]))
    [0.5 0.5 0. ]
    """
    logits, axis = as_logits(x, axis, "x")
    refuse_out(out, x)
    probs = softmax_along_axis("softmax", logits, axis, out, n_threads)

    def backward(dprobs: Array) -> tuple[Array]:
        return (probs * (dprobs - (probs * dprobs).sum(axis=axis, keepdims=True)),)

    name = SOFTMAX_OF_ROWS if axis == logits.ndim - 1 == 1 else "softmax"
    return record(probs, name, (x,), backward, reads=(x,))  # type: ignore[no-any-return]


def log_softmax(
    x: ArrayLike, axis: int = -1, *, out: Array | None = None, n_threads: int | None = None
) -> Array:
    """Return ``x - max - log(sum exp(x - max))`` along `axis`, the logarithm of `softmax`.

    Parameters
    ----------
    x, axis, out, n_threads
        As in `softmax`.

    Returns
    -------
    ndarray of x's shape
        Log-probabilities in nats, all <= 0, float32 or float64; exact also where the probability
        rounds to 0. A row with NaN or +inf is NaN; -inf stays -inf.

    Raises
    ------
    TypeError, ValueError
        As `softmax`.

    Notes
    -----
    D2L section 3.7, "Softmax Implementation Revisited".

    Examples
    --------
    >>> import csoftmax as cs
    >>> print(cs.log_softmax([0.0, -1000.0]))
    [    0. -1000.]
    """
    logits, axis = as_logits(x, axis, "x")
    refuse_out(out, x)
    log_probs = softmax_along_axis("log_softmax", logits, axis, out, n_threads)

    def backward(d: Array) -> tuple[Array]:
        return (d - np.exp(log_probs) * d.sum(axis=axis, keepdims=True),)

    return record(log_probs, "log_softmax", (x,), backward)  # type: ignore[no-any-return]


def cross_entropy(probs: ArrayLike, y: ArrayLike, *, out: Array | None = None) -> Array:
    """Return the book's ``-log(probs[i, y[i]])`` for each sample.

    Parameters
    ----------
    probs : array_like (n_samples, n_classes)
        Probabilities, taken as they are.
    y : array_like (n_samples,)
        Integer labels 0..n_classes-1.
    out : ndarray (n_samples,), optional
        Where the result goes, of the result's dtype.

    Returns
    -------
    ndarray (n_samples,)
        Losses in nats, float32 or float64; inf where the probability is 0. If probs is the recorded
        output of `softmax`, the losses are computed stably from its logits.

    Raises
    ------
    TypeError
        Unsupported dtype, labels that are not integers.
    ValueError
        Shapes that do not fit together, a label out of range.

    Notes
    -----
    D2L section 3.6, ``cross_entropy``. From logits, use `softmax_cross_entropy`.

    Examples
    --------
    >>> import csoftmax as cs
    >>> print(cs.cross_entropy([[0.1, 0.3, 0.6], [0.3, 0.2, 0.5]], [0, 2]).round(3))
    [2.303 0.693]
    """
    p = as_array(probs, "probs")
    if p.ndim != 2:
        raise ValueError(f"probs has shape {p.shape}, expected (n_samples, n_classes)")
    if p.shape[1] == 0:
        raise ValueError("probs has 0 columns, expected at least one class")
    labels = as_labels(y, *p.shape)
    dtype = compute_dtype(p)
    if out is not None:
        check_out(out, labels.shape, dtype)
    refuse_out(out, probs)
    rows = np.arange(len(p))
    node = node_of(probs)
    # its logits say the same as long as nobody has changed them
    if (
        isinstance(node, Node)
        and node.name == SOFTMAX_OF_ROWS
        and all(leaf.updates == updates for leaf, updates in node.reads)
    ):
        logits = node.inputs[0]
        losses = softmax_cross_entropy(
            np.asarray(logits), labels, reduction="none", ignore_index=-1, out=out
        )

        def backward_to_logits(dlosses: Array) -> tuple[Array]:
            dlogits = p.copy()
            dlogits[rows, labels] -= 1
            return (dlogits * dlosses[:, np.newaxis],)

        return record(losses, "cross_entropy", (logits,), backward_to_logits)  # type: ignore[no-any-return]

    with np.errstate(divide="ignore", invalid="ignore"):  # inf and NaN are results here
        losses = placed(0 - np.log(p[rows, labels].astype(dtype)), out)

    def backward(dlosses: Array) -> tuple[Array]:
        dprobs = np.zeros_like(p)
        dprobs[rows, labels] = -dlosses / p[rows, labels]
        return (dprobs,)

    return record(losses, "cross_entropy", (probs,), backward, reads=(probs,))  # type: ignore[no-any-return]


def softmax_cross_entropy(
    logits: ArrayLike,
    y: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    axis: int = -1,
    out: Array | None = None,
    n_threads: int | None = None,
) -> float | Array:
    """Return the cross-entropy of `softmax` of the logits, ``-sum_k weight[k] target[k] log p[k]``.

    The semantics are those of PyTorch's ``cross_entropy``.

    Parameters
    ----------
    logits : array_like, any number of dimensions
        Logits, stable at any magnitude: ``log(sum exp(x - max)) - (x[y] - max)``.
    y : array_like
        Integer labels of the logits' shape without the class axis, or class probabilities of the
        logits' shape, finite and >= 0.
    weight : array_like (n_classes,), optional
        Class weights >= 0.
    ignore_index : int
        A label that counts for nothing: loss 0, gradient 0.
    label_smoothing : float in [0, 1]
        The target becomes ``(1 - label_smoothing) * target + label_smoothing / n_classes``.
    reduction : "mean", "sum" or "none"
        "mean" divides by the number of labels that count, each times its class's weight; with class
        probabilities, by the number of rows. It is NaN where that is 0.
    axis : int
        The class axis.
    out : ndarray, optional
        Where the losses go if `reduction` is "none", of the result's dtype.
    n_threads : int, optional
        At most so many threads.

    Returns
    -------
    float, or ndarray of y's shape
        Loss in nats, summed in float64; per row in the compute type if `reduction` is "none".

    Raises
    ------
    TypeError
        Unsupported dtype, floating labels.
    ValueError
        A label out of range, shapes that do not fit, a bad weight or smoothing.

    Notes
    -----
    D2L sections 3.4 (the loss) and 3.7 (its stable form); smoothing: Szegedy et al. 2016.

    Examples
    --------
    >>> import csoftmax as cs
    >>> round(cs.softmax_cross_entropy([[0.0, 0.0], [1000.0, 0.0]], [0, 0]), 4)
    0.3466
    """
    refuse_out(out, logits)
    recorded = is_recorded(logits)  # then the same pass fills the gradient
    loss, dlogits = cross_entropy_pass(
        logits, y, weight, ignore_index, label_smoothing, reduction, axis, n_threads,
        out, None, recorded,
    )  # fmt: skip

    if is_recorded(y) or is_recorded(weight):
        name = "softmax_cross_entropy by y or weight"
        return without_derivative(loss, name, (logits, y, weight))  # type: ignore[no-any-return]
    if not recorded:
        return record(loss, "softmax_cross_entropy", (logits,), None)  # type: ignore[no-any-return]

    def backward(dloss: Array) -> tuple[Array]:
        return (dlogits * (np.expand_dims(dloss, axis) if reduction == "none" else dloss),)

    loss = np.asarray(loss, dlogits.dtype)

    return record(loss, "softmax_cross_entropy", (logits,), backward)  # type: ignore[no-any-return]


def softmax_cross_entropy_grad(
    logits: ArrayLike,
    y: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    axis: int = -1,
    out: Array | None = None,
    n_threads: int | None = None,
) -> tuple[float | Array, Array]:
    """Return `softmax_cross_entropy` and its gradient ``p - target`` by the logits, in one pass.

    Parameters
    ----------
    logits, y, weight, ignore_index, label_smoothing, reduction, axis, n_threads
        As in `softmax_cross_entropy`.
    out : ndarray of the logits' shape, optional
        Where the gradient goes, of its dtype; may be `logits` itself.

    Returns
    -------
    loss : float, or ndarray of y's shape
        In nats.
    dlogits : ndarray of the logits' shape
        Gradient of the loss; for reduction "none", of the sum of the losses.

    Raises
    ------
    TypeError, ValueError
        As `softmax_cross_entropy`.

    Notes
    -----
    D2L section 3.4, the derivative of the softmax cross-entropy.

    Examples
    --------
    >>> import csoftmax as cs
    >>> loss, dlogits = cs.softmax_cross_entropy_grad([[0.0, 0.0]], [1])
    >>> print(round(loss, 4), dlogits)
    0.6931 [[ 0.5 -0.5]]
    """
    loss, dlogits = cross_entropy_pass(
        logits, y, weight, ignore_index, label_smoothing, reduction, axis, n_threads,
        None, out, True,
    )  # fmt: skip
    return loss, dlogits
