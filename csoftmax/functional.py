"""The compiled functions: validate, allocate, call.

NumPy arrays in, NumPy arrays out. Each has its readable twin in `csoftmax.reference`, which gives
the formulas line by line; here they run on blocks of rows in compiled code, on `n_threads` threads
(None: all CPUs that this process may use) with bitwise the same result for any number of them.

`X` is read as it is stored (bool, uint8, float16, float32, float64, any strides and byte order); no
float copy of it is made. The compute type is float32, or float64 where any argument needs it.
Given a `Parameter`, linear, softmax and cross_entropy are recorded for ``backward``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from csoftmax import _kernels
from csoftmax.autograd import Node, is_recorded, node_of, record, records, send
from csoftmax.core.checks import (
    as_array,
    as_labels,
    as_linear,
    as_logits,
    check_number,
    check_out,
    check_threads,
    compute_dtype,
)
from csoftmax.engine.calls import (
    LinearArguments,
    as_stored,
    class_major,
    contiguous_bias,
    cross_entropy_pass,
    placed,
    result_array,
    softmax_along_axis,
)

Array = NDArray[Any]

__all__ = [
    "cross_entropy",
    "linear",
    "linear_cross_entropy",
    "linear_cross_entropy_grad",
    "log_softmax",
    "softmax",
    "softmax_cross_entropy",
    "softmax_cross_entropy_grad",
]

CLASSES = 512  # at once: so that the logits of some rows stay in the second-level cache


def linear(
    X: ArrayLike,
    W: ArrayLike,
    b: ArrayLike | None = None,
    *,
    scale: float = 1.0,
    out: Array | None = None,
    n_threads: int | None = None,
) -> Array:
    """Return the logits ``scale * X @ W + b``.

    Parameters
    ----------
    X : array_like (n_samples, n_features), or images (n_samples, height, width)
        Read as stored, without a float copy.
    W : array_like (n_features, n_classes)
        Weights; read without a copy if class-major (``W.T`` C-contiguous), as a `Parameter` is.
    b : array_like (n_classes,), optional
        Bias; None is zero.
    scale : float
        Multiplies X; 1/255 turns pixels into numbers from 0 to 1.
    out : ndarray (n_samples, n_classes), optional
        Where the result goes, of the result's dtype.
    n_threads : int, optional
        At most so many threads.

    Returns
    -------
    ndarray (n_samples, n_classes)
        float32 or float64.

    Raises
    ------
    TypeError
        Unsupported dtype.
    ValueError
        Shapes that do not fit together.

    Notes
    -----
    D2L section 3.6, ``torch.matmul(X.reshape((-1, W.shape[0])), W) + b``.

    Examples
    --------
    >>> import numpy as np, csoftmax as cs
    >>> pixels = np.array([[0, 255], [255, 0]], dtype=np.uint8)
    >>> cs.linear(pixels, [[1.0, 2.0], [3.0, 4.0]], [0.0, 10.0], scale=1 / 255).round(6)
    array([[ 3., 14.],
           [ 1., 12.]])
    """
    features, weights, bias, dtype = as_linear(X, W, b)
    scale = check_number(scale, "scale")
    threads = check_threads(n_threads)
    recorded = records(out, X, W, b)
    result, place = result_array(
        out, (len(features), weights.shape[1]), dtype, features, weights, bias
    )
    stored = as_stored(features, dtype)
    biases = contiguous_bias(bias, weights, dtype)
    for first in range(0, weights.shape[1], CLASSES):
        some = slice(first, first + CLASSES)
        _kernels.row_pass(
            stored, class_major(weights[:, some], dtype), biases[some], scale,
            logits=result, first_class=first, n_threads=threads,
        )  # fmt: skip
    result = placed(result, place)
    if not recorded:
        return result

    def backward(dlogits: Array) -> None:
        # Class-major, the layout of the gradient kernel; dW.T and W.T are then contiguous.
        dW, db = np.empty(weights.shape[::-1], dtype), np.empty(weights.shape[1], dtype)
        rows = np.require(stored, stored.dtype.newbyteorder("="), ["C", "A"])
        _kernels.linear_gradient(rows, np.array(dlogits.T, dtype, order="C"), scale, dW, db)
        send(W, dW.T)
        send(b, db)
        if is_recorded(X):  # X was itself computed from Parameters, or is one
            send(X, (scale * dlogits @ weights.T).reshape(np.shape(X)))

    return record(result, Node("linear", features, backward))


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
    recorded = records(out, x)
    probs = softmax_along_axis("softmax", logits, axis, out, n_threads)
    if not recorded:
        return probs

    def backward(dprobs: Array) -> None:
        send(x, probs * (dprobs - (probs * dprobs).sum(axis=axis, keepdims=True)))

    name = "softmax" if axis == logits.ndim - 1 == 1 else "softmax along another axis"
    return record(probs, Node(name, x, backward))  # type: ignore[arg-type]


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
    return softmax_along_axis("log_softmax", logits, axis, out, n_threads)


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
    records(out, probs)
    node = node_of(probs)
    if node is None or node.name != "softmax":
        with np.errstate(divide="ignore", invalid="ignore"):  # inf and NaN are results here
            losses = 0 - np.log(p[np.arange(len(p)), labels].astype(dtype))
    else:
        losses = softmax_cross_entropy(node.source, labels, reduction="none", ignore_index=-1)
    losses = placed(losses, out)
    if node is None:
        return losses
    softmax_node = node

    def backward(dlosses: Array) -> None:
        if softmax_node.name == "softmax":
            dlogits = p.copy()
            dlogits[np.arange(len(p)), labels] -= 1
            send(softmax_node.source, dlogits * dlosses[:, np.newaxis])
        else:
            dprobs = np.zeros_like(p)
            dprobs[np.arange(len(p)), labels] = -dlosses / p[np.arange(len(p)), labels]
            softmax_node.backward(dprobs)

    return record(losses, Node("cross_entropy", p, backward))


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
    loss, _ = cross_entropy_pass(
        logits, y, weight, ignore_index, label_smoothing, reduction, axis, n_threads,
        out, None, False,
    )  # fmt: skip
    return loss


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


def linear_cross_entropy(
    X: ArrayLike,
    W: ArrayLike,
    b: ArrayLike | None,
    y: ArrayLike,
    *,
    scale: float = 1.0,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
    out: Array | None = None,
    n_threads: int | None = None,
) -> float | Array:
    """Return the loss of softmax regression, `softmax_cross_entropy` of `linear`, in one pass.

    Memory: a block of rows, never an array of n_samples x n_classes.

    Parameters
    ----------
    X, W, b, scale, n_threads
        As in `linear`.
    y : array_like (n_samples,)
        Integer labels 0..n_classes-1.
    sample_weight : array_like (n_samples,), optional
        Weights >= 0 of the samples; one of weight 0 is left out, whatever it holds.
    reduction : "mean", "sum" or "none"
        "mean" is ``sum_i s_i loss_i / sum_i s_i``, NaN where that is 0 / 0; "none" returns
        ``s_i loss_i``.
    out : ndarray (n_samples,), optional
        Where the losses go if `reduction` is "none", of the result's dtype.

    Returns
    -------
    float, or ndarray (n_samples,)
        Loss in nats, summed in float64.

    Raises
    ------
    TypeError, ValueError
        As `linear`; labels that are no integers or out of range, bad weights.

    Notes
    -----
    D2L section 3.4.

    Examples
    --------
    >>> import numpy as np, csoftmax as cs
    >>> X = np.eye(3, dtype=np.float32)
    >>> round(cs.linear_cross_entropy(X, 10 * np.eye(3), None, [0, 1, 2]), 6)
    9.1e-05
    """
    args = LinearArguments(X, W, b, y, scale, sample_weight, reduction, n_threads)
    losses = None
    if reduction == "none":
        losses, place = result_array(out, args.y.shape, args.dtype, args.X, args.W, args.b)
    elif out is not None:
        raise ValueError('out is given but reduction is not "none": there is no array to return')
    total, _ = args.run(losses=losses)
    return args.reduced(total) if losses is None else placed(losses, place)


def linear_cross_entropy_grad(
    X: ArrayLike,
    W: ArrayLike,
    b: ArrayLike | None,
    y: ArrayLike,
    *,
    scale: float = 1.0,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
    out: tuple[Array, Array] | None = None,
    n_threads: int | None = None,
) -> tuple[float | Array, Array, Array]:
    """Return `linear_cross_entropy` and its gradients by W and b, in one pass over X.

    ``dW = scale * X.T @ dlogits``, ``db = sum_i dlogits[i]``, ``dlogits = s (p - onehot(y))``.

    Parameters
    ----------
    X, W, b, y, scale, sample_weight, reduction, n_threads
        As in `linear_cross_entropy`.
    out : (dW, db), optional
        Where the gradients go, of their dtype.

    Returns
    -------
    loss : float, or ndarray (n_samples,)
        In nats.
    dW : ndarray (n_features, n_classes)
        Gradient of the loss by W; for reduction "none", of the sum of the losses. ``dW.T`` is
        C-contiguous.
    db : ndarray (n_classes,)
        Gradient by b, also where b is None.

    Raises
    ------
    TypeError, ValueError
        As `linear_cross_entropy`.

    Notes
    -----
    D2L section 3.4.

    Examples
    --------
    >>> import numpy as np, csoftmax as cs
    >>> loss, dW, db = cs.linear_cross_entropy_grad(np.eye(2), np.zeros((2, 2)), None, [0, 1])
    >>> print(round(loss, 4), dW, db)
    0.6931 [[-0.25  0.25]
     [ 0.25 -0.25]] [0. 0.]
    """
    args = LinearArguments(X, W, b, y, scale, sample_weight, reduction, n_threads)
    n_features, n_classes = args.W.shape
    dW_out, db_out = None, None
    if out is not None:
        if not isinstance(out, tuple) or len(out) != 2:
            raise TypeError("out: expected the pair (dW, db)")
        dW_out = check_out(out[0], (n_features, n_classes), args.dtype, "out[0]").T
        db_out = check_out(out[1], (n_classes,), args.dtype, "out[1]")
    inputs = args.X, args.W, args.b, args.y, args.weight
    dW, dW_place = result_array(dW_out, (n_classes, n_features), args.dtype, *inputs, db_out)
    db, db_place = result_array(db_out, (n_classes,), args.dtype, *inputs)
    losses = np.empty(len(args.y), args.dtype) if reduction == "none" else None
    total, _ = args.run(losses=losses, gradient=(dW, db))
    loss = args.reduced(total) if losses is None else losses
    dW, db = placed(dW, dW_place), placed(db, db_place)
    return (loss, dW.T, db) if out is None else (loss, *out)
