"""The arrays to be learned."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from csoftmax.autograd.tape import Leaf
from csoftmax.autograd.tensor import Tensor, plain
from csoftmax.core.checks import as_array


class Parameter(Tensor):
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
    grad : Tensor or None
        Gradient of the same shape and dtype; None until the first ``backward``. It adds up until
        it is set to 0 or None.

    Raises
    ------
    TypeError
        Another dtype, data that are no real numbers.

    Examples
    --------
    >>> import numpy as np, csoftmax as cs
    >>> W, b = cs.Parameter(np.zeros((4, 3))), cs.Parameter(np.zeros(3))
    >>> y_hat = cs.softmax(np.ones((2, 4)) @ W + b)
    >>> cs.cross_entropy(y_hat, [0, 2]).sum().backward()
    >>> print(b.grad.round(4))
    [-0.3333  0.6667 -0.3333]

    Notes
    -----
    D2L section 3.6 makes such arrays with ``requires_grad=True``. An update in place, such as
    ``W -= 0.1 * W.grad``, changes the numbers and is not recorded.
    """

    def __new__(cls, data: ArrayLike, dtype: DTypeLike = np.float32) -> Parameter:
        chosen = np.dtype(dtype)
        if chosen not in (np.float32, np.float64):
            raise TypeError(f"dtype is {chosen}, expected float32 or float64")
        parameter = np.array(as_array(data, "data"), dtype=chosen, order="F").view(cls)
        parameter._node = Leaf()
        return parameter

    def __reduce__(self) -> Any:
        return Parameter, (plain(self), self.dtype)

    def __copy__(self) -> Parameter:
        return Parameter(self, self.dtype)

    def __deepcopy__(self, memo: Any) -> Parameter:
        return Parameter(self, self.dtype)

    @property
    def grad(self) -> Any:
        """The sum of the gradients so far, or None."""
        return self._node.grad if isinstance(self._node, Leaf) else None

    @grad.setter
    def grad(self, value: ArrayLike | None) -> None:
        if not isinstance(self._node, Leaf):
            raise AttributeError("grad can be set of a Parameter, not of what is computed from one")
        if value is None:
            self._node.grad = None
            return
        gradient = np.array(as_array(value, "grad"), self.dtype)
        if gradient.ndim == 0:
            gradient = np.full_like(plain(self), gradient)
        if gradient.shape != self.shape:
            raise ValueError(f"grad has shape {gradient.shape}, expected {self.shape}")
        self._node.grad = gradient.view(Tensor)
