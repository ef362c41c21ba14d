"""The arrays of the tape: NumPy arrays that remember what made them, and those to be learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from csoftmax.autograd.arguments import along, each, numpys_names
from csoftmax.autograd.derivatives import (
    OVERFLOW,
    READ_NO_INPUT,
    READ_THE_OTHER,
    clipped,
    derivatives_of,
    picked,
    reduced,
    transposed,
    unbroadcast,
)
from csoftmax.autograd.spellings import Spellings
from csoftmax.autograd.tape import (
    Leaf,
    Node,
    at_the_readers_line,
    go_back,
    is_recording,
    node_of,
    unrecorded,
)
from csoftmax.engine.linear import matmul

Array = NDArray[Any]


class Extreme(NamedTuple):
    """What ``max(dim=...)`` returns: the values, and where along the axis they stand."""

    values: Tensor
    indices: Tensor


class Tensor(Spellings, np.ndarray[Any, Any]):
    """A NumPy array that remembers, where a `Parameter` went into it, how it was computed.

    Everything that NumPy does with arrays works; methods also take the names of the book's tensor
    library (``keepdim`` for ``keepdims``, ``dim`` for ``axis``). ``csoftmax.autograd`` says what is
    recorded. A recorded array is read-only: an update in place, such as ``l *= 2``, would be one
    that ``backward`` does not know of. ``numpy.asarray`` and ``float`` take numbers off the tape.

    Parameters
    ----------
    data : array_like
        Copied.
    dtype : dtype, optional
        That of the data unless told otherwise.

    Examples
    --------
    >>> import csoftmax as cs
    >>> x = cs.Parameter([1.0, 2.0, 4.0])
    >>> (x.exp() / x.exp().sum()).log()[2].backward()
    >>> print(x.grad.round(3))
    [-0.042 -0.114  0.156]

    Notes
    -----
    D2L sections 2.1, 2.5 and 3.6.
    """

    _node: Node | Leaf | None

    def __new__(cls, data: ArrayLike, dtype: DTypeLike | None = None) -> Tensor:
        return np.array(data, dtype).view(cls)

    def __array_finalize__(self, source: Array | None) -> None:
        # Here arrive the results of methods that are not defined below, such as cumsum.
        made_of = node_of(source)
        self._node = None
        if made_of is not None and self.dtype.kind == "f" and is_recording():
            self._node = unrecorded("an array method")

    # ------------------------------------------------------------ NumPy's functions and operators

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **kwargs: Any
    ) -> Any:
        arrays = [plain(x) for x in inputs]
        if out is not None or method == "at":
            return _updated(ufunc, method, inputs, arrays, out, kwargs)
        if ufunc is np.matmul and not kwargs:
            result = matmul(*map(np.asarray, arrays))
        elif ufunc in OVERFLOW:
            with at_the_readers_line(ufunc.__name__):
                result = getattr(ufunc, method)(*arrays, **kwargs)
        else:
            result = getattr(ufunc, method)(*arrays, **kwargs)
        if not isinstance(result, (np.ndarray, np.generic)):
            return result if result is NotImplemented else _spread(result, ufunc.__name__, inputs)
        formulas = derivatives_of(ufunc) if method == "__call__" and not kwargs else None
        if formulas is None:
            name = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
            return without_derivative(result, f"numpy.{name}", inputs)

        z = np.asarray(result)

        def backward(d: Array) -> list[Array | None]:
            return [
                unbroadcast(formula(d, z, *arrays), array) if node_of(x) is not None else None
                for formula, x, array in zip(formulas, inputs, arrays, strict=True)
            ]

        alone = sum(map(is_recorded, inputs)) == 1
        no_input = ufunc in READ_NO_INPUT or (ufunc in READ_THE_OTHER and alone)
        reads = () if no_input else inputs
        return record(z, ufunc.__name__, inputs, backward, reads=reads)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        same = _METHODS.get(func)
        if same is not None and args and isinstance(args[0], Tensor) and "out" not in kwargs:
            if same in ("max", "min", "amax"):
                kwargs = {**dict(zip(("axis",), args[1:], strict=False)), **kwargs}
                args = args[:1]
            return getattr(args[0], same)(*args[1:], **kwargs)
        result = func(*each(plain, args), **each(plain, kwargs))
        inputs: list[Any] = []
        each(inputs.append, (args, kwargs))
        if func in (np.zeros_like, np.ones_like, np.empty_like, np.full_like):
            return result.view(Tensor)
        return _spread(result, f"numpy.{func.__name__}", inputs)

    def __repr__(self) -> str:
        # by NumPy's own, entries would be printed as if they were float64: they are Tensors
        array, name = plain(self), type(self).__name__
        entries = np.array2string(array, separator=", ", prefix=f"{name}(")
        usual = array.dtype in (np.float64, np.int64, np.bool_)
        return f"{name}({entries})" if usual else f"{name}({entries}, dtype={array.dtype})"

    def __str__(self) -> str:
        return str(plain(self))

    def __pow__(self, exponent: Any, modulo: None = None) -> Any:
        return np.power(self, exponent)  # NumPy's own takes another ufunc for some exponents

    def __setitem__(self, index: Any, value: Any) -> None:
        _check_update(self)
        super().__setitem__(each(plain, index), plain(value))

    def __getitem__(self, index: Any) -> Any:
        return self._made("indexing", *picked(plain(self), each(plain, index)))

    # ------------------------------------------------------------ methods

    def _made(
        self, name: str, result: Any, backward: Callable[[Array], Array], reads: Sequence[Any] = ()
    ) -> Any:
        """Return the result of an operation on this array alone."""
        return record(np.asarray(result), name, (self,), lambda d: (backward(d),), reads=reads)

    def sum(self, *args: Any, **kwargs: Any) -> Any:
        """Sum, as ndarray.sum, recorded."""
        return self._reduced("sum", args, kwargs)

    def mean(self, *args: Any, **kwargs: Any) -> Any:
        """Mean, as ndarray.mean, recorded."""
        return self._reduced("mean", args, kwargs)

    def max(self, *args: Any, **kwargs: Any) -> Any:
        """Maximum, as ndarray.max, recorded; ``max(dim=1)`` gives the values and the indices."""
        return self._extreme("max", args, kwargs)

    def min(self, *args: Any, **kwargs: Any) -> Any:
        """Minimum, as `max`."""
        return self._extreme("min", args, kwargs)

    def amax(self, *args: Any, **kwargs: Any) -> Any:
        """Maximum, the values alone: the book's tensor library has this name for it."""
        return self._reduced("max", args, kwargs)

    def _extreme(self, name: str, args: Any, kwargs: Any) -> Any:
        if args and isinstance(args[0], (int, np.integer)) and "keepdim" not in kwargs:
            raise TypeError(
                f"{name}({args[0]}) has two meanings: {name}(axis={args[0]}) gives the values, as "
                f"in NumPy, and {name}(dim={args[0]}) the values and the indices"
            )
        # the tensor library's names ask for its pair, also for max(1, keepdim=True)
        names = numpys_names({**dict(zip(("dim",), args, strict=False)), **kwargs})
        if not kwargs.keys() & {"dim", "keepdim"} or names.get("axis") is None:
            return self._reduced(name, args, kwargs)
        axis, keep = names["axis"], names.get("keepdims", False)
        indices = getattr(plain(self), "arg" + name)(axis=axis, keepdims=True)
        values = self[tuple(along(indices, axis))]
        if not keep:
            values, indices = values.squeeze(axis), indices.squeeze(axis)
        return Extreme(values, indices.view(Tensor))

    def _reduced(self, name: str, args: Any, kwargs: Any) -> Any:
        kwargs = numpys_names(kwargs)
        if len(args) == 2 and isinstance(args[1], bool):  # sum(1, True)
            args, kwargs = args[:1], {**kwargs, "keepdims": args[1]}
        if len(args) > 1 or not kwargs.keys() <= {"axis", "keepdims"}:
            result = np.asarray(getattr(plain(self), name)(*args, **kwargs))
            return without_derivative(result, f"{name} with dtype, out or where", (self,))
        axis = args[0] if args else kwargs.get("axis")
        made = reduced(name, plain(self), axis, bool(kwargs.get("keepdims")))
        return self._made(name, *made, reads=(self,) if name in ("max", "min") else ())

    def argmax(self, axis: Any = None, **kwargs: Any) -> Any:  # type: ignore[override]
        """Index of the maximum, as ndarray.argmax; not recorded: it has no gradient."""
        kwargs = numpys_names({"axis": axis, **kwargs} if axis is not None else kwargs)
        return np.asarray(plain(self).argmax(**kwargs)).view(Tensor)

    def reshape(self, *shape: Any, **kwargs: Any) -> Any:
        """Reshape, as ndarray.reshape, recorded."""
        result = plain(self).reshape(*shape, **kwargs)
        return self._made("reshape", result, lambda d: d.reshape(self.shape, **kwargs))

    def ravel(self, order: Any = "C") -> Any:
        """Reshape to one axis, recorded."""
        return self.reshape(-1, order=order)

    def flatten(self, order: Any = "C") -> Any:
        """Reshape to one axis, as `ravel`."""
        return self.reshape(-1, order=order)

    def squeeze(self, *axis: Any, **kwargs: Any) -> Any:
        """Drop axes of one entry, as ndarray.squeeze, recorded."""
        result = plain(self).squeeze(*axis, **numpys_names(kwargs))
        return self._made("squeeze", result, lambda d: d.reshape(self.shape))

    def transpose(self, *axes: Any) -> Any:
        """Permute the axes, as ndarray.transpose, recorded."""
        return self._made("transpose", *transposed(plain(self), axes))

    @property
    def T(self) -> Any:
        """The array with its axes reversed, recorded."""
        return self.transpose()

    def astype(  # type: ignore[override]
        self, dtype: DTypeLike, *args: Any, **kwargs: Any
    ) -> Any:
        """Convert, as ndarray.astype; among floats recorded."""
        result = plain(self).astype(dtype, *args, **kwargs)
        if result.dtype.kind != "f":
            return result.view(Tensor)
        return self._made("astype", result, lambda d: d.astype(self.dtype))

    def copy(self, order: Any = "C") -> Any:
        """Copy, recorded."""
        return self._made("copy", plain(self).copy(order), lambda d: d)

    def clip(self, min: Any = None, max: Any = None, **kwargs: Any) -> Any:  # type: ignore[override]
        """Limit to [min, max], as ndarray.clip; recorded: no gradient where it is beyond."""
        if kwargs or is_recorded(min) or is_recorded(max):
            result = plain(self).clip(plain(min), plain(max), **kwargs)
            return without_derivative(result, "clip with such limits", (self, min, max))
        return self._made("clip", *clipped(plain(self), plain(min), plain(max)), reads=(self,))

    clamp = clip

    def dot(self, other: Any) -> Any:  # type: ignore[override]
        """Product of vectors and matrices, as ``@``."""
        return np.matmul(self, other)

    # ------------------------------------------------------------ the book's tensor library

    @property
    def requires_grad(self) -> bool:
        """Would a gradient that arrives here have anywhere to go?"""
        return self._node is not None

    @property
    def grad(self) -> Tensor | None:
        """The gradient of a `Parameter`; other arrays keep none."""
        return None

    @property
    def data(self) -> Any:
        """The same numbers off the tape, as `detach`; assigned to, it changes a Parameter."""
        return self.detach()

    @data.setter
    def data(self, value: Any) -> None:
        _check_update(self)
        np.copyto(plain(self), plain(value))

    def detach(self) -> Tensor:
        """Return the same numbers, off the tape, in the same memory."""
        detached: Tensor = plain(self).view(Tensor)
        return detached

    def numpy(self) -> Array:
        """Return the same numbers as an ordinary NumPy array, in the same memory."""
        array: Array = plain(self)
        return array

    def backward(self, *, retain_graph: bool = True) -> None:
        """Add the gradients of this number to ``.grad`` of the Parameters that it came from.

        What was recorded is kept as long as the number is, whatever `retain_graph` says.

        Raises
        ------
        RuntimeError
            If this is not a single number, if no Parameter went into it, or if an operation on the
            way is not recorded; then no gradient has changed.
        """
        if self._node is None:
            raise RuntimeError(
                "backward() on an array that no Parameter went into: make W and b with "
                "requires_grad=True (or csoftmax.Parameter), change them in place (W -= ...), and "
                "compute the loss from them outside no_grad()"
            )
        if self.size != 1:
            raise RuntimeError(
                f"backward() needs a single number, this has shape {self.shape}: "
                "call .sum().backward() or .mean().backward()"
            )
        for leaf, gradient in go_back(self._node, np.ones(self.shape, self.dtype)).items():
            # a new array: other leaves may have been sent the same one
            total = np.array(gradient) if leaf.grad is None else plain(leaf.grad) + gradient
            leaf.grad = total.view(Tensor)


def plain(x: Any) -> Any:
    """Return a Tensor as an ordinary array in the same memory, and anything else as it is."""
    return np.ndarray.view(x, np.ndarray) if isinstance(x, Tensor) else x


def is_recorded(array: object) -> bool:
    """Does a gradient that arrives here have anywhere to go, and is it wanted?"""
    return node_of(array) is not None and is_recording()


def record(
    result: Any,
    name: str,
    inputs: Sequence[Any],
    backward: Callable[[Array], Sequence[Array | None]] | None,
    *,
    reads: Sequence[Any] = (),
    problem: Node | None = None,
) -> Any:
    """Return `result` with the operation that made it, if a gradient may go back through it.

    Otherwise it is a Tensor if one of the inputs is, and `result` itself if none is. `reads` are
    the inputs whose values `backward` reads.
    """
    if not any(isinstance(x, Tensor) for x in inputs):
        return result
    tensor = np.asarray(result).view(Tensor)
    if tensor.dtype.kind == "f" and any(map(is_recorded, inputs)):
        nodes = [node_of(x) for x in reads]
        updates = tuple((node, node.updates) for node in nodes if isinstance(node, Leaf))
        tensor._node = problem or Node(name, tuple(inputs), backward, updates)
        tensor.flags.writeable = problem is not None  # through that one, no gradient goes anyway
    return tensor


def refuse_out(out: Array | None, *inputs: object) -> None:
    """Refuse `out` where the operation is recorded, because backward needs a result of its own."""
    if out is not None and any(map(is_recorded, inputs)):
        raise ValueError(
            "out is given but the operation is recorded for backward, which keeps its own result: "
            "leave out away, or compute inside no_grad()"
        )


def without_derivative(result: Any, name: str, inputs: Sequence[Any]) -> Any:
    """Return the result of an operation that has no derivative here, so that backward says so."""
    if not any(map(is_recorded, inputs)):
        return record(result, name, inputs, None)
    return record(result, name, inputs, None, problem=unrecorded(name))


def _spread(result: Any, name: str, inputs: Sequence[Any]) -> Any:
    """Return what an unrecorded function returned, its arrays without derivatives."""
    if isinstance(result, (np.ndarray, np.floating)):
        return without_derivative(np.asarray(result), name, inputs)
    if isinstance(result, (list, tuple)) and type(result) in (list, tuple):
        return type(result)(_spread(item, name, inputs) for item in result)
    return result


def _updated(ufunc: np.ufunc, method: str, inputs: Any, arrays: Any, out: Any, kwargs: Any) -> Any:
    """Run an operation in place or into `out`: of a Parameter, or of what is not recorded."""
    targets = inputs[:1] if method == "at" else out
    for target in targets:
        _check_update(target)
        if node_of(target) is None:
            refuse_out(target, *inputs)
    if method == "at":
        return ufunc.at(*arrays, **kwargs)
    getattr(ufunc, method)(*arrays, out=tuple(map(plain, out)), **kwargs)
    return out[0] if len(out) == 1 else out


def _check_update(target: Any) -> None:
    """Refuse an update of a recorded array; count that of a Parameter."""
    node = node_of(target)
    if isinstance(node, Leaf):
        node.updates += 1
    elif node is not None and not node.problem:
        raise ValueError(
            "this array was computed from a Parameter and is read-only, because backward() would "
            "not know of the update: write x = x * 2 for x *= 2, change a copy off the tape, "
            "x.detach().copy(), or, to update a part of a Parameter, do it inside no_grad()"
        )


def _method_without_derivative(name: str) -> Callable[..., Any]:
    def method(self: Tensor, *args: Any, **kwargs: Any) -> Any:
        result = getattr(plain(self), name)(*args, **kwargs)
        return _spread(result, name, (self, args, kwargs))

    return method


for _name in ("cumprod", "cumsum", "diagonal", "prod", "repeat", "round", "std", "swapaxes", "take",
              "trace", "var"):  # fmt: skip
    setattr(Tensor, _name, _method_without_derivative(_name))

# NumPy's function -> the method that does the same
_METHODS = {
    getattr(np, name): name
    for name in ("sum", "mean", "max", "min", "amax", "reshape", "ravel", "squeeze", "transpose",
                 "clip", "copy", "argmax", "dot")
}  # fmt: skip
