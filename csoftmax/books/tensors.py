"""What stands for the tensor library's functions in the book's programs: ``torch.zeros`` and so on.

A tensor here is a `csoftmax.Tensor`, a NumPy array that remembers how it was computed, or a
`csoftmax.Parameter` where ``requires_grad=True``. Numbers without a dtype of their own are float32
or int64, as in the book. Random numbers come from NumPy's global generator, which `manual_seed`
sets.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax import functional
from csoftmax.autograd import Parameter, Tensor, no_grad

__all__ = [
    "Tensor",
    "abs",
    "amax",
    "arange",
    "argmax",
    "astype",
    "clamp",
    "cpu",
    "exp",
    "eye",
    "float32",
    "float64",
    "from_numpy",
    "int32",
    "int64",
    "is_tensor",
    "isinf",
    "isnan",
    "log",
    "log_softmax",
    "logsumexp",
    "manual_seed",
    "matmul",
    "max",
    "maximum",
    "mean",
    "no_grad",
    "normal",
    "numpy",
    "ones",
    "ones_like",
    "rand",
    "randn",
    "reduce_mean",
    "reduce_sum",
    "relu",
    "reshape",
    "size",
    "softmax",
    "sum",
    "tensor",
    "to",
    "transpose",
    "zeros",
    "zeros_like",
]

float32, float64 = np.dtype(np.float32), np.dtype(np.float64)
int32, int64 = np.dtype(np.int32), np.dtype(np.int64)


# ---------------------------------------------------------------- new tensors


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False) -> Any:
    """Return a tensor with a copy of the data.

    Parameters
    ----------
    data : array_like
        Numbers.
    dtype : dtype, optional
        Without it an array keeps its own, and Python's numbers become int64 or float32.
    requires_grad : bool
        Whether it is to be learned: a `csoftmax.Parameter`, float32 or float64.

    Examples
    --------
    >>> from csoftmax.d2l import torch
    >>> torch.tensor([[1.0, 2.0], [3.0, 4.0]]).dtype, torch.tensor([0, 2]).dtype
    (dtype('float32'), dtype('int64'))
    """
    values = np.array(data)
    if dtype is None and not isinstance(data, (np.ndarray, np.generic)):
        dtype = _dtype_of_numbers(values)
    return _learned_or_not(values, dtype, requires_grad)


def zeros(*shape: Any, dtype: Any = float32, requires_grad: bool = False) -> Any:
    """Return a tensor of zeros, of a shape given as numbers or as one tuple.

    Examples
    --------
    >>> from csoftmax.d2l import torch
    >>> torch.zeros(10, requires_grad=True).shape, torch.zeros((2, 3)).shape
    ((10,), (2, 3))
    """
    return _learned_or_not(np.zeros(_shape_of(shape)), dtype, requires_grad)


def ones(*shape: Any, dtype: Any = float32, requires_grad: bool = False) -> Any:
    """Return a tensor of ones, of a shape given as numbers or as one tuple.

    Examples
    --------
    >>> from csoftmax.d2l import torch
    >>> print(torch.ones(2, 3))
    [[1. 1. 1.]
     [1. 1. 1.]]
    """
    return _learned_or_not(np.ones(_shape_of(shape)), dtype, requires_grad)


def eye(n: int, m: int | None = None, dtype: Any = float32, requires_grad: bool = False) -> Any:
    """Return a tensor with ones on the diagonal: row k is the one-hot code of class k."""
    return _learned_or_not(np.eye(n, m), dtype, requires_grad)


def arange(*bounds: float, dtype: Any = None, requires_grad: bool = False) -> Any:
    """Return the numbers ``start, start + step, ...`` before `end`: ``arange(start, end, step)``.

    Examples
    --------
    >>> from csoftmax.d2l import torch
    >>> print(torch.arange(3), torch.arange(0.0, 1.0, 0.5))
    [0 1 2] [0.  0.5]
    """
    values = np.arange(*bounds)
    return _learned_or_not(values, dtype or _dtype_of_numbers(values), requires_grad)


def normal(
    mean: Any, std: Any, size: Any = None, dtype: Any = float32,
    requires_grad: bool = False,
) -> Any:  # fmt: skip
    """Return numbers drawn from the normal distribution N(mean, std^2).

    Examples
    --------
    >>> from csoftmax.d2l import torch
    >>> W = torch.normal(0, 0.01, size=(784, 10), requires_grad=True)
    >>> W.shape, W.dtype, type(W).__name__
    ((784, 10), dtype('float32'), 'Parameter')
    """
    shape = None if size is None else _shape_of((size,))
    return _learned_or_not(np.random.normal(mean, std, shape), dtype, requires_grad)


def randn(*shape: Any, dtype: Any = float32, requires_grad: bool = False) -> Any:
    """Return numbers drawn from the normal distribution N(0, 1)."""
    return _learned_or_not(np.random.normal(size=_shape_of(shape)), dtype, requires_grad)


def rand(*shape: Any, dtype: Any = float32, requires_grad: bool = False) -> Any:
    """Return numbers drawn uniformly from [0, 1)."""
    return _learned_or_not(np.random.uniform(size=_shape_of(shape)), dtype, requires_grad)


def from_numpy(array: NDArray[Any]) -> Any:
    """Return a tensor in the same memory as an array."""
    return np.asarray(array).view(Tensor)


def manual_seed(seed: int) -> None:
    """Start all random numbers anew: those of tensors, of layers, and the orders of loaders.

    Examples
    --------
    >>> from csoftmax.d2l import torch
    >>> torch.manual_seed(0)
    >>> first = torch.rand(2)
    >>> torch.manual_seed(0)
    >>> bool((torch.rand(2) == first).all())
    True
    """
    np.random.seed(operator.index(seed) % 2**32)


def _shape_of(shape: tuple[Any, ...]) -> tuple[int, ...]:
    """Return the shape that was given as numbers, as a number or as one tuple of them."""
    sizes = shape[0] if len(shape) == 1 and np.ndim(shape[0]) else shape
    return tuple(operator.index(size) for size in sizes)


def _dtype_of_numbers(values: NDArray[Any]) -> np.dtype[Any]:
    if values.dtype.kind not in "fi":
        return values.dtype
    return float32 if values.dtype.kind == "f" else int64


def _learned_or_not(values: NDArray[Any], dtype: Any, requires_grad: bool) -> Any:
    if requires_grad:
        return Parameter(values, values.dtype if dtype is None else dtype)
    return values.astype(values.dtype if dtype is None else dtype, copy=False).view(Tensor)


# ---------------------------------------------------------------- functions of tensors


def is_tensor(obj: object) -> bool:
    """Is this a tensor? A NumPy array is none, nor is a picture."""
    return isinstance(obj, Tensor)


def as_tensor(x: Any) -> Any:
    """Return `x` itself if it is a tensor, or else the same numbers as one."""
    return x if isinstance(x, Tensor) else tensor(x)


def exp(x: Any) -> Any:
    """Return the exponential of each entry: inf above 88.7 in float32, as exercise 1 of 3.6 shows.

    Examples
    --------
    >>> from csoftmax.d2l import torch
    >>> print(torch.exp(torch.tensor([0.0, 50.0, 100.0])))
    [1.0000000e+00 5.1847055e+21           inf]
    """
    return np.exp(as_tensor(x))


def log(x: Any) -> Any:
    """Return the natural logarithm of each entry: -inf for 0, NaN below.

    Examples
    --------
    >>> from csoftmax.d2l import torch
    >>> print(torch.log(torch.tensor([1.0, 0.0])))
    [  0. -inf]
    """
    return np.log(as_tensor(x))


def abs(x: Any) -> Any:
    """Return the absolute value of each entry."""
    return np.absolute(as_tensor(x))


def maximum(x: Any, other: Any) -> Any:
    """Return the larger of each two entries."""
    return np.maximum(as_tensor(x), other)


def relu(x: Any) -> Any:
    """Return the entries above 0, and 0 for the others; its derivative at 0 is 0."""
    return as_tensor(x).relu()


def softmax(x: Any, dim: int = -1) -> Any:
    """Return the probabilities along an axis, stable at any magnitude: `csoftmax.softmax`."""
    return functional.softmax(as_tensor(x), dim)


def log_softmax(x: Any, dim: int = -1) -> Any:
    """Return the logarithms of `softmax`: `csoftmax.log_softmax`."""
    return functional.log_softmax(as_tensor(x), dim)


def zeros_like(x: Any) -> Any:
    """Return zeros of the shape of x."""
    return np.zeros_like(as_tensor(x))


def ones_like(x: Any) -> Any:
    """Return ones of the shape of x."""
    return np.ones_like(as_tensor(x))


def isnan(x: Any) -> Any:
    """Return which entries are NaN."""
    return np.isnan(as_tensor(x))


def isinf(x: Any) -> Any:
    """Return which entries are infinite."""
    return np.isinf(as_tensor(x))


def clamp(x: Any, min: Any = None, max: Any = None) -> Any:
    """Return the entries limited to [min, max]."""
    return as_tensor(x).clip(min, max)


def matmul(x: Any, other: Any) -> Any:
    """Return the matrix product ``x @ other``."""
    return np.matmul(as_tensor(x), as_tensor(other))


def sum(x: Any, *axis: Any, **options: Any) -> Any:
    """Return the sum, of all entries or along ``dim``, one axis or a list of them.

    ``keepdim=True`` keeps the axes.

    Examples
    --------
    >>> from csoftmax.d2l import torch
    >>> X = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    >>> print(torch.sum(X, 0, keepdim=True), torch.sum(X, dim=1))
    [[5. 7. 9.]] [ 6. 15.]
    """
    return as_tensor(x).sum(*_axes(axis, options), **options)


def mean(x: Any, *axis: Any, **options: Any) -> Any:
    """Return the mean, as `sum`."""
    return as_tensor(x).mean(*_axes(axis, options), **options)


def max(x: Any, *dim: Any, **options: Any) -> Any:
    """Return the maximum; along an axis the pair (values, indices); of two tensors `maximum`.

    Examples
    --------
    >>> from csoftmax.d2l import torch
    >>> X = torch.tensor([[1.0, 3.0], [5.0, 2.0]])
    >>> print(torch.max(X), torch.max(X, 1).values, torch.max(X, torch.zeros(2))[0])
    5.0 [3. 5.] [1. 3.]
    """
    if dim and not isinstance(dim[0], (int, np.integer)):
        return maximum(x, *dim, **options)
    names = dict(zip(("dim", "keepdim"), dim, strict=False)) | options
    spelled = {"axis": "dim", "keepdims": "keepdim"}
    return as_tensor(x).max(**{spelled.get(name, name): value for name, value in names.items()})


def amax(x: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """Return the maximum along axes: the values alone."""
    return as_tensor(x).amax(axis=_as_numpys(dim), keepdims=keepdim)


def argmax(x: Any, axis: int | None = None, **options: Any) -> Any:
    """Return where the maximum is, along an axis: the predicted classes for ``axis=1``."""
    return as_tensor(x).argmax(axis, **options)


def logsumexp(x: Any, dim: Any, keepdim: bool = False) -> Any:
    """Return ``log(sum(exp(x)))`` along an axis or several, computed without overflow.

    Examples
    --------
    >>> from csoftmax.d2l import torch
    >>> print(torch.logsumexp(torch.tensor([[1000.0, 1000.0]]), 1).round(2))
    [1000.69]
    """
    x, dim = as_tensor(x), _as_numpys(dim)
    largest = np.asarray(x).max(axis=dim, keepdims=True)
    largest[~np.isfinite(largest)] = 0  # where all is -inf, or something inf or NaN
    with np.errstate(all="ignore"):  # inf and NaN are results here
        result = log(exp(x - largest).sum(axis=dim, keepdims=True)) + largest
    return result if keepdim else result.squeeze(dim)


def _axes(axis: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, ...]:
    """Return the positional axis of a sum; ``sum(X, 1, True)`` names keepdim by its place."""
    if len(axis) > 1:
        (options["keepdim"],) = axis[1:]
    for name in options.keys() & {"axis", "dim"}:
        options[name] = _as_numpys(options[name])
    return tuple(map(_as_numpys, axis[:1]))


def _as_numpys(dim: Any) -> Any:
    """Return one axis or several as NumPy takes them; an empty list means all axes."""
    return (tuple(dim) or None) if isinstance(dim, (list, tuple)) else dim


# ---------------------------------------------------------------- the book's names for methods


def reduce_sum(x: Any, *axis: Any, **options: Any) -> Any:
    """Return the sum, as `sum`."""
    return sum(x, *axis, **options)


def reduce_mean(x: Any, *axis: Any, **options: Any) -> Any:
    """Return the mean, as `sum`."""
    return mean(x, *axis, **options)


def reshape(x: Any, *shape: Any) -> Any:
    """Return the same entries in another shape."""
    return as_tensor(x).reshape(*shape)


def transpose(x: Any) -> Any:
    """Return a matrix with rows and columns exchanged."""
    return as_tensor(x).T


def astype(x: Any, dtype: Any) -> Any:
    """Return the entries as numbers of another type."""
    return as_tensor(x).astype(dtype)


def size(x: Any) -> int:
    """Return the number of entries."""
    return int(np.size(x))


def numpy(x: Any) -> NDArray[Any]:
    """Return the numbers as an ordinary NumPy array, off the tape."""
    return np.asarray(x)


def cpu() -> str:
    """Return the name of the one device that there is."""
    return "cpu"


def to(x: Any, device: Any) -> Any:
    """Return the tensor on a device, which is the CPU; or of another dtype."""
    return as_tensor(x).to(device)
