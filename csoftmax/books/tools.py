"""The book's small tools, as `csoftmax.d2l` has them: a timer, sums, a count, a step of descent."""

from __future__ import annotations

import time
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from csoftmax.autograd import Parameter
from csoftmax.books.optim import check_gradients, checked
from csoftmax.core.checks import check_learning_rate, check_positive


class Timer:
    """Record several running times, in seconds.

    Examples
    --------
    >>> from csoftmax import d2l
    >>> timer = d2l.Timer()
    >>> timer.stop() == timer.sum() == timer.avg() == timer.cumsum()[-1]
    True
    """

    def __init__(self) -> None:
        self.times: list[float] = []
        self.start()

    def start(self) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def stop(self) -> float:
        """Stop the clock and return the time it ran."""
        self.times.append(time.perf_counter() - self._started)
        return self.times[-1]

    def avg(self) -> float:
        """Return the mean of the times."""
        return sum(self.times) / len(self.times)

    def sum(self) -> float:
        """Return the sum of the times."""
        return sum(self.times)

    def cumsum(self) -> list[float]:
        """Return the running sums of the times."""
        return [float(total) for total in np.cumsum(self.times)]


class Accumulator:
    """Sums over `n` variables.

    Examples
    --------
    >>> from csoftmax import d2l
    >>> metric = d2l.Accumulator(2)
    >>> metric.add(1, 2.5)
    >>> metric.add(1, 0.5)
    >>> metric[0], metric[1]
    (2.0, 3.0)
    """

    def __init__(self, n: int) -> None:
        self.data = [0.0] * n

    def add(self, *args: float) -> None:
        """Add one number to each sum."""
        if len(args) != len(self.data):
            raise ValueError(f"got {len(args)} numbers, expected {len(self.data)}")
        self.data = [total + float(value) for total, value in zip(self.data, args, strict=True)]

    def reset(self) -> None:
        """Set every sum to 0."""
        self.data = [0.0] * len(self.data)

    def __getitem__(self, index: int) -> float:
        return self.data[index]


def accuracy(y_hat: ArrayLike, y: ArrayLike) -> float:
    """Return the number of correct predictions (a count, as in the book).

    Parameters
    ----------
    y_hat : array_like (n_samples, n_classes) or (n_samples,)
        Scores, of which the largest is the prediction; or predicted labels.
    y : array_like (n_samples,)
        True labels.

    Examples
    --------
    >>> from csoftmax import d2l
    >>> d2l.accuracy([[0.1, 0.3, 0.6], [0.3, 0.2, 0.5]], [0, 2])
    1.0
    """
    predicted, labels = np.asarray(y_hat), np.asarray(y)
    if predicted.ndim > 1 and predicted.shape[1] > 1:
        predicted = predicted.argmax(axis=1)
    if predicted.shape != labels.shape:
        raise ValueError(f"y_hat predicts {predicted.shape} labels but y has {labels.shape}")
    return float(np.count_nonzero(predicted.astype(labels.dtype) == labels))


def sgd(params: Iterable[Parameter], lr: float, batch_size: int) -> None:
    """Step against the gradients of a batch's summed loss, and set them to 0.

    ``param -= lr * param.grad / batch_size``.

    Parameters
    ----------
    params : iterable of Parameter
        Updated in place.
    lr : float
        Learning rate, > 0.
    batch_size : int
        Samples in the batch.

    Raises
    ------
    TypeError, RuntimeError
        Something that is no Parameter, or has no gradient: before any ``backward``, or because the
        loss does not depend on it; then nothing is updated.
    ValueError
        A learning rate or a batch size that is not above 0.

    Examples
    --------
    >>> import numpy as np, csoftmax as cs
    >>> from csoftmax import d2l
    >>> b = cs.Parameter([0.0, 0.0])
    >>> b.grad = np.float32([2, -2])
    >>> d2l.sgd([b], lr=0.1, batch_size=2)
    >>> print(b, b.grad)
    [-0.1  0.1] [0. 0.]
    """
    step = check_learning_rate(lr) / check_positive(batch_size, "batch_size")
    listed = checked(params)
    check_gradients(listed)
    for param in listed:
        grad = param.grad
        param -= np.asarray(step * grad, param.dtype)
        grad[...] = 0
