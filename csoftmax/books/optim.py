"""Optimizers, as the book's concise programs name them (``torch.optim``)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from csoftmax.autograd import Leaf, Parameter, node_of
from csoftmax.books.names import missing
from csoftmax.core.checks import check_learning_rate, check_not_negative

__all__ = ["SGD", "Optimizer"]


def checked(params: Iterable[Parameter]) -> list[Parameter]:
    """Return Parameters in a list; refuse what has no gradient of its own."""
    if isinstance(params, Parameter):
        raise TypeError("params is a Parameter, expected a list of them: [W, b]")
    listed = list(params)
    for i, param in enumerate(listed):
        if not isinstance(param, Parameter):
            raise TypeError(
                f"params[{i}] is a {type(param).__name__}, expected a csoftmax.Parameter"
            )
        if not isinstance(node_of(param), Leaf):
            raise TypeError(
                f"params[{i}] is a copy or a view of a Parameter, which gets no gradient: expected "
                "the Parameter itself, or a new one, as copy.deepcopy makes it"
            )
    return listed


def check_gradients(params: list[Parameter]) -> None:
    """Refuse to move some parameters where a loss does not reach them all."""
    without = [i for i, param in enumerate(params) if param.grad is None]
    if not without:
        return
    if len(without) == len(params):
        raise RuntimeError("no parameter has a gradient: call backward() on the loss first")
    i = without[0]
    raise RuntimeError(
        f"params[{i}] of shape {params[i].shape} has no gradient, though others have: no recorded "
        "operation leads from it to the loss"
    )


class Optimizer:
    """What holds parameters and moves them by their gradients: ``zero_grad()``, ``step()``.

    Parameters
    ----------
    params : iterable of Parameter
        Updated in place.

    Raises
    ------
    TypeError
        Something else than Parameters, or a copy or a view of one, which gets no gradient.
    ValueError
        No parameters at all.
    """

    def __init__(self, params: Iterable[Parameter]) -> None:
        self.params = checked(params)
        if not self.params:
            raise ValueError("params is empty, expected at least one Parameter")

    def zero_grad(self) -> None:
        """Forget the gradients: the next ``backward`` starts anew."""
        for param in self.params:
            param.grad = None

    def step(self) -> None:
        """Move the parameters by their gradients; a subclass says how."""
        raise NotImplementedError(f"{type(self).__name__} has no step(self): define one")


class SGD(Optimizer):
    """Minibatch stochastic gradient descent: ``param -= lr * v``, ``v = momentum * v + g``.

    ``g`` is ``param.grad + weight_decay * param``; v starts as the first ``g``.

    Parameters
    ----------
    params : iterable of Parameter
        Updated in place.
    lr : float
        Learning rate, > 0.
    momentum : float
        In [0, 1).
    weight_decay : float
        >= 0.

    Raises
    ------
    TypeError, ValueError
        For anything else.
    RuntimeError
        `step` before any ``backward``, or where the loss does not depend on each parameter; then
        nothing is moved.

    Examples
    --------
    >>> import numpy as np, csoftmax as cs
    >>> from csoftmax.books import optim
    >>> b = cs.Parameter(np.zeros(2))
    >>> trainer = optim.SGD([b], lr=0.1)
    >>> cs.cross_entropy(cs.softmax(cs.linear(np.zeros((1, 1)), [[0, 0]], b)), [0]).sum().backward()
    >>> trainer.step()
    >>> print(b)
    [ 0.05 -0.05]

    Notes
    -----
    D2L second edition section 3.7, current edition section 4.3.
    """

    def __init__(
        self,
        params: Iterable[Parameter],
        lr: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params)
        self.lr = check_learning_rate(lr)
        self.momentum = check_not_negative(momentum, "momentum")
        self.weight_decay = check_not_negative(weight_decay, "weight_decay")
        if self.momentum >= 1:
            raise ValueError(f"momentum is {self.momentum}, expected a number in [0, 1)")
        self._velocities: dict[int, NDArray[Any]] = {}

    def step(self) -> None:
        """Move each parameter."""
        check_gradients(self.params)
        for i, param in enumerate(self.params):
            values, step = np.asarray(param), np.asarray(param.grad)
            if self.weight_decay:
                step = step + values.dtype.type(self.weight_decay) * values
            if self.momentum:
                if i in self._velocities:
                    step = values.dtype.type(self.momentum) * self._velocities[i] + step
                self._velocities[i] = step = np.array(step)
            param -= values.dtype.type(self.lr) * step


def __getattr__(name: str) -> NoReturn:
    raise missing(__name__, name)
