"""The arrays of the tape: NumPy arrays that remember what made them, and those to be learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from csoftmax.autograd.arguments import Extreme, along, as_method, each, items_of, numpys_names
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
    is_recorded,
    is_recording,
    leaf_of,
    node_of,
    unrecorded,
)
from csoftmax.autograd.updates import check_update, refuse_out
from csoftmax.engine.linear import matmul

Array = NDArray[Any]

MAY_MOVE = "fcO"  # kinds of results that may depend on a Parameter smoothly
CHANGE_THE_FIRST = {np.copyto, np.fill_diagonal, np.place, np.put, np.put_along_axis, np.putmask}
_one_at_a_time = Lock()  # threads that add to the same gradients


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
    __array_priority__ = 10.0  # so that an ordinary array's X.dot(W) returns a Tensor

    def __new__(cls, data: ArrayLike, dtype: DTypeLike | None = None) -> Tensor:
        return np.array(data, dtype).view(cls)

    def __array_finalize__(self, source: Array | None) -> None:
        # Here arrive the results of methods that are not defined below, such as cumsum.
        made_of = node_of(source)
        self._node = None
        if made_of is not None and self.dtype.kind in MAY_MOVE and is_recording():
            self._node = unrecorded("an array method")

    # ------------------------------------------------------------ NumPy's functions and operators

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **kwargs: Any
    ) -> Any:
        kwargs = each(plain, kwargs)
        lists = [x for x in inputs if isinstance(x, (list, tuple))]
        if lists:
            if any(map(is_recorded, items_of(*lists))):
                arrays = [np.asarray(each(plain, x)) for x in inputs]
                result = getattr(ufunc, method)(*arrays, **kwargs)
                return spread(result, f"numpy.{ufunc.__name__} of a list", items_of(*inputs))
            inputs = tuple(np.asarray(x) if isinstance(x, (list, tuple)) else x for x in inputs)
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
            return result if result is NotImplemented else spread(result, ufunc.__name__, inputs)
        formulas = derivatives_of(ufunc) if method == "__call__" and not kwargs else None
        if formulas is None or result.dtype.kind in "cO":
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
        method = as_method(func, args, kwargs)
        if method is not None and isinstance(args[0], Tensor):
            name, positional, named = method
            return getattr(args[0], name)(*positional, **named)
        inputs = items_of(args, kwargs)
        if func in CHANGE_THE_FIRST:
            check_update(args[0], *items_of(args[1:], kwargs))
        elif kwargs.get("out") is not None:
            check_update(kwargs["out"], *inputs)
        result = super().__array_function__(func, types, each(plain, args), each(plain, kwargs))
        if func in (np.zeros_like, np.ones_like, np.empty_like, np.full_like):
            return result.view(Tensor)
        return spread(result, f"numpy.{func.__name__}", inputs)

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

    def __round__(self, digits: int | None = None) -> Any:
        return round(self.item(), digits)

    def __hash__(self) -> int:  # type: ignore[override]
        if self.ndim:
            raise TypeError("a Tensor of one axis or more has no hash, as NumPy's arrays have none")
        return hash(self.item())

    def __setitem__(self, index: Any, value: Any) -> None:
        check_update(self, *items_of(value))
        plain(self)[each(plain, index)] = each(plain, value)

    def __getitem__(self, index: Any) -> Any:
        return self._made("indexing", *picked(plain(self), each(plain, index)))

    # ------------------------------------------------------------ methods

    def _made(
        self, name: str, result: Any, backward: Callable[[Array], Array], reads: Sequence[Any] = ()
    ) -> Any:
        """Return the result of an operation on this array alone."""
        result, leaf = np.asarray(result), leaf_of(self)
        memory = leaf if leaf is not None and np.may_share_memory(result, self) else None
        return record(result, name, (self,), lambda d: (backward(d),), reads=reads, memory=memory)

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
            refuse_out(kwargs.get("out"), self)
            result = np.asarray(getattr(plain(self), name)(*args, **each(plain, kwargs)))
            return without_derivative(result, f"{name} with dtype, out or where", (self,))
        axis = args[0] if args else kwargs.get("axis")
        axis = tuple(axis) if isinstance(axis, list) else axis
        made = reduced(name, plain(self), axis, bool(kwargs.get("keepdims")))
        return self._made(name, *made, reads=(self,) if name in ("max", "min") else ())

    def argmax(self, axis: Any = None, **kwargs: Any) -> Any:  # type: ignore[override]
        """Index of the maximum, as ndarray.argmax; not recorded: it has no gradient."""
        kwargs = numpys_names({"axis": axis, **kwargs} if axis is not None else kwargs)
        return np.asarray(plain(self).argmax(**kwargs)).view(Tensor)

    def reshape(self, *shape: Any, order: Any = "C", **kwargs: Any) -> Any:
        """Reshape, as ndarray.reshape, recorded."""
        array = plain(self)
        if order in ("A", "K"):  # as it lies in memory
            order = "F" if array.flags.fnc else "C"
        result = array.reshape(*shape, order=order, **kwargs)
        return self._made("reshape", result, lambda d: d.reshape(array.shape, order=order))

    def ravel(self, order: Any = "C") -> Any:
        """Reshape to one axis, recorded."""
        return self.reshape(-1, order=order)

    flatten = ravel

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
            return without_derivative(result, f"astype({result.dtype})", (self,))
        return self._made("astype", result, lambda d: d.astype(self.dtype))

    def copy(self, order: Any = "C") -> Any:
        """Copy, recorded."""
        return self._made("copy", plain(self).copy(order), lambda d: d)

    def clip(self, min: Any = None, max: Any = None, **kwargs: Any) -> Any:  # type: ignore[override]
        """Limit to [min, max], as ndarray.clip; recorded: no gradient where it is beyond."""
        if kwargs or any(map(is_recorded, items_of(min, max))):
            refuse_out(kwargs.get("out"), self, min, max)
            result = plain(self).clip(plain(min), plain(max), **each(plain, kwargs))
            return without_derivative(result, "clip with such limits", (self, *items_of(min, max)))
        return self._made("clip", *clipped(plain(self), plain(min), plain(max)), reads=(self,))

    clamp = clip

    amin = min

    def dot(self, other: Any, out: Any = None) -> Any:
        """Product of vectors and matrices, as ``@``."""
        refuse_out(out, self, other)
        if out is None and self.ndim and 1 <= np.ndim(other) <= 2:
            return np.matmul(self, other)
        if out is None and not (self.ndim and np.ndim(other)):
            return np.multiply(self, other)
        return without_derivative(
            np.dot(plain(self), plain(other), plain(out)), "dot of more axes", (self, other)
        )

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
        check_update(self, value)
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
        gradients = go_back(self._node, np.ones(self.shape, self.dtype))
        with _one_at_a_time:
            for leaf, gradient in gradients.items():
                # a new array: other leaves may have been sent the same one
                total = np.array(gradient) if leaf.grad is None else plain(leaf.grad) + gradient
                leaf.grad = total.view(Tensor)


def plain(x: Any) -> Any:
    """Return a Tensor as an ordinary array in the same memory, and anything else as it is."""
    return np.ndarray.view(x, np.ndarray) if isinstance(x, Tensor) else x


def record(
    result: Any,
    name: str,
    inputs: Sequence[Any],
    backward: Callable[[Array], Sequence[Array | None]] | None,
    *,
    reads: Sequence[Any] = (),
    problem: Node | None = None,
    memory: Leaf | None = None,
) -> Any:
    """Return `result` with the operation that made it, if a gradient may go back through it.

    Otherwise it is a Tensor if one of the inputs is, and `result` itself if none is. `reads` are
    the inputs whose values `backward` reads.
    """
    if not any(isinstance(x, Tensor) for x in inputs):
        return result
    array = np.asarray(result)
    recorded = array.dtype.kind in MAY_MOVE and any(map(is_recorded, inputs))
    if array.dtype.kind == "O" and not recorded:
        return result
    tensor = array.view(Tensor)
    if recorded:
        leaves = (leaf_of(x) for x in reads)
        updates = tuple((leaf, leaf.updates) for leaf in leaves if leaf is not None)
        tensor._node = problem or Node(name, tuple(inputs), backward, updates, memory=memory)
        if problem is None:  # through a problem no gradient goes anyway
            tensor.flags.writeable = False
    return tensor


def without_derivative(result: Any, name: str, inputs: Sequence[Any]) -> Any:
    """Return the result of an operation that has no derivative here, so that backward says so."""
    if not any(map(is_recorded, inputs)):
        return record(result, name, inputs, None)
    return record(result, name, inputs, None, problem=unrecorded(name))


def spread(result: Any, name: str, inputs: Sequence[Any]) -> Any:
    """Return what an unrecorded function returned, its arrays without derivatives."""
    if isinstance(result, (np.ndarray, np.inexact)):
        return without_derivative(result, name, inputs)
    if isinstance(result, (list, tuple)):
        items = (spread(item, name, inputs) for item in result)
        return type(result)(*items) if hasattr(result, "_fields") else type(result)(items)
    return result


def _updated(ufunc: np.ufunc, method: str, inputs: Any, arrays: Any, out: Any, kwargs: Any) -> Any:
    """Run an operation in place or into `out`: of a Parameter, or of what is not recorded."""
    targets = inputs[:1] if method == "at" else out
    for target in targets:
        check_update(target, *inputs)
    if method == "at":
        return ufunc.at(*arrays, **kwargs)
    getattr(ufunc, method)(*arrays, out=tuple(map(plain, out)), **kwargs)
    return out[0] if len(out) == 1 else out


def _method_in_place(name: str) -> Callable[..., Any]:
    def method(self: Tensor, *args: Any, **kwargs: Any) -> Any:
        check_update(self, *items_of(args, kwargs))
        return getattr(np.ndarray, name)(self, *each(plain, args), **each(plain, kwargs))

    return method


def _method_without_derivative(name: str) -> Callable[..., Any]:
    def method(self: Tensor, *args: Any, **kwargs: Any) -> Any:
        result = getattr(plain(self), name)(*each(plain, args), **each(plain, kwargs))
        return spread(result, name, (self, *items_of(args, kwargs)))

    return method


for _name in ("cumprod", "cumsum", "diagonal", "prod", "repeat", "round", "std", "swapaxes", "take",
              "trace", "var"):  # fmt: skip
    setattr(Tensor, _name, _method_without_derivative(_name))
for _name in ("fill", "partition", "put", "sort"):
    setattr(Tensor, _name, _method_in_place(_name))
