"""The tape behind the book's ``l.sum().backward()``.

Three operations are recorded: linear, softmax and cross_entropy (csoftmax.functional says how each
is differentiated). That is all of softmax regression; the result of any other operation is an
ordinary array, and ``backward`` on one says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from csoftmax.core.checks import as_array

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Node:
    """One recorded operation: its name, its input, and what sends a gradient on to its inputs."""

    name: str
    source: Array
    backward: Callable[[Array], None]


class Parameter(np.ndarray[Any, Any]):
    """An array to be learned: it has a ``.grad``, which ``backward`` adds to.

    Parameters
    ----------
    data : array_like
        Copied. A matrix ``(n_features, n_classes)`` is stored class-major (Fortran order), as the
        kernels read it.
    dtype : dtype, optional
        float32 unless told otherwise.

    Attributes
    ----------
    grad : ndarray or None
        Gradient of the same shape and dtype; None until the first ``backward``.

    Raises
    ------
    TypeError
        Another dtype, data that are no real numbers.

    Examples
    --------
    >>> import numpy as np, csoftmax as cs
    >>> W, b = cs.Parameter(np.zeros((4, 3))), cs.Parameter(np.zeros(3))
    >>> y_hat = cs.softmax(cs.linear(np.ones((2, 4)), W, b))
    >>> cs.cross_entropy(y_hat, [0, 2]).sum().backward()
    >>> print(b.grad.round(4))
    [-0.3333  0.6667 -0.3333]

    Notes
    -----
    D2L section 3.6 makes such arrays with ``requires_grad=True``.
    """

    grad: Array | None
    _is_leaf: bool

    def __new__(cls, data: ArrayLike, dtype: DTypeLike = np.float32) -> Parameter:
        chosen = np.dtype(dtype)
        if chosen not in (np.float32, np.float64):
            raise TypeError(f"dtype is {chosen}, expected float32 or float64")
        parameter = np.array(as_array(data, "data"), dtype=chosen, order="F").view(cls)
        parameter._is_leaf = True
        return parameter

    def __array_finalize__(self, source: Array | None) -> None:
        # Views and results of arithmetic are of this class too, but nothing to be learned.
        self.grad = None
        self._is_leaf = False

    def add_gradient(self, gradient: Array) -> None:
        """Add to ``.grad``, which starts at zero."""
        if not self._is_leaf:
            raise RuntimeError(
                "a gradient reached an array that was computed from a Parameter, such as W.T or "
                "2 * W: the tape does not go through that, so pass the Parameter itself"
            )
        gradient = np.array(gradient, dtype=self.dtype)
        self.grad = gradient if self.grad is None else self.grad + gradient


class Recorded(np.ndarray[Any, Any]):
    """An array that remembers which recorded operation made it, if one did."""

    _node: Node | None

    def __array_finalize__(self, source: Array | None) -> None:
        self._node = None

    def sum(self, *args: Any, **kwargs: Any) -> Any:
        """Sum, as ndarray.sum; of a whole recorded array: recorded."""
        return self._reduced("sum", 1.0, args, kwargs)

    def mean(self, *args: Any, **kwargs: Any) -> Any:
        """Mean, as ndarray.mean; of a whole recorded array: recorded."""
        return self._reduced("mean", 1.0 / max(self.size, 1), args, kwargs)

    def _reduced(self, name: str, share: float, args: Any, kwargs: Any) -> Any:
        reduced = getattr(self.view(np.ndarray), name)(*args, **kwargs)
        result = np.asarray(reduced).view(Recorded)
        node, shape, dtype = self._node, self.shape, self.dtype
        # numpy.sum(l) comes here with axis=None and out=None
        if node is None or any(option is not None for option in (*args, *kwargs.values())):
            return result

        def backward(dresult: Array) -> None:
            node.backward(np.full(shape, float(dresult) * share, dtype))

        return record(result, Node(name, self, backward))

    def backward(self) -> None:
        """Fill the gradients of the Parameters that this number was computed from.

        Raises
        ------
        RuntimeError
            If this is not a single number, or the tape did not record what made it.
        """
        if self._node is None:
            raise RuntimeError(
                "backward() on an ordinary array: it was not made from a Parameter by linear, "
                "softmax, cross_entropy and a final .sum() or .mean() alone, which are recorded"
            )
        if self.ndim != 0:
            raise RuntimeError(
                f"backward() needs a single number, this has shape {self.shape}: "
                "call .sum().backward() or .mean().backward()"
            )
        self._node.backward(np.ones((), self.dtype))


def is_recorded(array: object) -> bool:
    """Does a gradient that arrives here have anywhere to go?"""
    return isinstance(array, Parameter) or (isinstance(array, Recorded) and array._node is not None)


def records(out: Array | None, *inputs: object) -> bool:
    """Is this operation recorded? Then its result is kept for backward, and `out` has no place."""
    recorded = any(map(is_recorded, inputs))
    if recorded and out is not None:
        raise ValueError(
            "out is given but the operation is recorded for backward, which keeps its own result"
        )
    return recorded


def node_of(array: object) -> Node | None:
    """Return the operation that made `array`, if it was recorded."""
    return array._node if isinstance(array, Recorded) else None


def record(result: Array, node: Node) -> Recorded:
    """Return `result`, read-only, with the operation that made it.

    An update in place, such as ``l *= 2``, would be an operation that backward does not know of.
    """
    recorded = result.view(Recorded)
    recorded._node = node
    recorded.flags.writeable = False
    return recorded


def send(array: object, gradient: Array) -> None:
    """Hand a gradient on to a Parameter or to the operation that made `array`; else drop it."""
    if isinstance(array, Parameter):
        array.add_gradient(gradient)
    elif isinstance(array, Recorded) and array._node is not None:
        array._node.backward(gradient)
