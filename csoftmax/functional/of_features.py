"""Functions of features: the linear layer, and with the softmax after it in one pass over X."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from csoftmax.autograd import is_recorded, node_of, record, refuse_out, without_derivative
from csoftmax.core.checks import as_linear, check_number, check_out, check_threads
from csoftmax.core.sparse import CSR
from csoftmax.engine import calls
from csoftmax.engine.linear import fill_logits, gradients, matmul
from csoftmax.functional.arguments import LinearArguments, placed, result_array
from csoftmax.rows.base import as_stored

Array = NDArray[Any]


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
    X : array_like (n_samples, n_features), images (n_samples, height, width), or sparse matrix
        Read as stored, without a float copy.
    W : array_like (n_features, n_classes)
        Weights; read without a copy if class-major (``W.T`` C-contiguous), as a `Parameter` is; for
        a sparse X, if C-contiguous.
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
    refuse_out(out, X, W, b)
    result, place = result_array(
        out, (len(features), weights.shape[1]), dtype, features, weights, bias
    )
    rows = calls.StoredRows(as_stored(features, dtype), scale)
    fill_logits(rows, weights, bias, result, threads)

    def backward(dlogits: Array) -> tuple[Array | None, Array, Array]:
        dX = None
        if node_of(X) is not None:
            dX = (scale * matmul(dlogits, weights.T)).reshape(np.shape(X))
        return dX, *gradients(rows, dlogits)

    reads = (X, W) if is_recorded(X) else ()
    logits: Array = record(placed(result, place), "linear", (X, W, b), backward, reads=reads)
    return logits


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
        Loss in nats, summed in float64. Not recorded for backward: `softmax_cross_entropy` of
        `linear` is.

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
    refuse_out(out, X, W, b)
    args = LinearArguments(X, W, b, y, scale, sample_weight, reduction, n_threads)
    losses = None
    if reduction == "none":
        losses, place = result_array(out, args.y.shape, args.dtype, args.X, args.W, args.b)
    elif out is not None:
        raise ValueError('out is given but reduction is not "none": there is no array to return')
    total, _ = args.run(losses=losses)
    loss: float | Array = args.reduced(total) if losses is None else placed(losses, place)
    loss = without_derivative(loss, "linear_cross_entropy", (X, W, b, y, sample_weight))
    return loss


def linear_evaluate(
    X: ArrayLike,
    W: ArrayLike,
    b: ArrayLike | None,
    y: ArrayLike,
    *,
    scale: float = 1.0,
    sample_weight: ArrayLike | None = None,
    n_threads: int | None = None,
) -> tuple[float, float]:
    """Return the mean loss of softmax regression and how many samples it predicts right.

    Both come from one pass over X. Memory: as `linear_cross_entropy`; with `sample_weight`, a
    number per sample more.

    Parameters
    ----------
    X, W, b, y, scale, sample_weight, n_threads
        As in `linear_cross_entropy`.

    Returns
    -------
    loss : float
        In nats, as `linear_cross_entropy`.
    n_correct : float
        The weights of the samples whose largest logit is that of their label, added up; without
        `sample_weight` their number. Of equal logits the first counts; a row with NaN is wrong.

    Raises
    ------
    TypeError, ValueError
        As `linear_cross_entropy`.

    Notes
    -----
    D2L section 3.6, ``accuracy``, which is ``n_correct`` before it is divided.

    Examples
    --------
    >>> import csoftmax as cs
    >>> X, W = [[1.0, 0.0], [0.0, 1.0]], [[4.0, 0.0], [0.0, 4.0]]
    >>> loss, n_correct = cs.linear_evaluate(X, W, None, [0, 0])
    >>> print(round(loss, 4), n_correct)
    2.0181 1
    """
    args = LinearArguments(X, W, b, y, scale, sample_weight, "mean", n_threads)
    if args.weight is None:
        total, n_correct = args.run()
        return args.reduced(total), n_correct
    predictions = np.empty(len(args.y), np.int64)
    total, _ = args.run(predictions=predictions)
    return args.reduced(total), float(args.weight @ (predictions == args.y))


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
    feature_major = isinstance(args.X, CSR)
    if out is not None:
        if not isinstance(out, tuple) or len(out) != 2:
            raise TypeError("out: expected the pair (dW, db)")
        dW_out = check_out(out[0], (n_features, n_classes), args.dtype, "out[0]")
        dW_out = dW_out if feature_major else dW_out.T
        db_out = check_out(out[1], (n_classes,), args.dtype, "out[1]")
    inputs = args.X, args.W, args.b, args.y, args.weight
    shape = (n_features, n_classes) if feature_major else (n_classes, n_features)
    dW, dW_place = result_array(dW_out, shape, args.dtype, *inputs, db_out)
    db, db_place = result_array(db_out, (n_classes,), args.dtype, *inputs)
    losses = np.empty(len(args.y), args.dtype) if reduction == "none" else None
    total, _ = args.run(losses=losses, gradient=(dW, db))
    loss = args.reduced(total) if losses is None else losses
    dW, db = placed(dW, dW_place), placed(db, db_place)
    return (loss, dW if feature_major else dW.T, db) if out is None else (loss, *out)
