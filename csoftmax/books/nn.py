"""Layers and losses, as the book's concise programs name them: what its chapter needs, no more.

A reader's ``from torch import nn`` becomes ``from csoftmax.d2l import nn`` (second edition) or
``from csoftmax.d2l1 import nn`` (current edition). The layers run on csoftmax's compiled functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import numpy as np

from csoftmax.autograd import Leaf, Parameter
from csoftmax.books import functional, init
from csoftmax.books.names import missing
from csoftmax.books.tensors import relu
from csoftmax.core.checks import check_positive, check_reduction
from csoftmax.functional import linear

__all__ = [
    "CrossEntropyLoss",
    "Flatten",
    "LazyLinear",
    "Linear",
    "Module",
    "Parameter",
    "ReLU",
    "Sequential",
    "functional",
    "init",
]


class Module:
    """What computes: a layer, a loss or a net of layers. Calling it calls its `forward`.

    Attributes that are Parameters or Modules belong to it, in the order in which they were set.

    Attributes
    ----------
    training : bool
        Whether `train` or `eval` was called last; True at first.

    Raises
    ------
    NotImplementedError
        When it is called and its class defines no ``forward``.

    Examples
    --------
    >>> import numpy as np
    >>> from csoftmax.d2l1 import nn
    >>> class Doubled(nn.Module):
    ...     def forward(self, X):
    ...         return 2 * X
    >>> Doubled()(np.ones(2))
    array([2., 2.])

    Notes
    -----
    The second edition explains such classes in its section 5.1, the current one in 6.1.
    """

    training = True

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return self.forward(*inputs, **options)

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """Compute the result; a subclass says how."""
        raise NotImplementedError(f"{type(self).__name__} has no forward(self, X): define one")

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Yield the Modules among the attributes, with their names."""
        for name, value in list(vars(self).items()):
            if isinstance(value, Module):
                yield name, value

    def modules(self) -> Iterator[Module]:
        """Yield this module and all that it is made of."""
        yield self
        for _, child in self.named_children():
            yield from child.modules()

    def parameters(self) -> Iterator[Any]:
        """Yield the Parameters of this module and of all that it is made of, each once."""
        met = set()
        for module in self.modules():
            for value in list(vars(module).values()):
                if isinstance(value, Parameter) and id(value) not in met:
                    met.add(id(value))
                    yield value

    def apply(self, fn: Callable[[Module], object]) -> Any:
        """Call ``fn(module)`` for each part and last for this module; return this module."""
        for _, child in self.named_children():
            child.apply(fn)
        fn(self)
        return self

    def train(self, mode: bool = True) -> Any:
        """Set `training`, here and in all parts; return this module."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Any:
        """Set `training` to False, here and in all parts; return this module."""
        return self.train(False)

    def __repr__(self) -> str:
        parts = [
            f"  ({name}): " + repr(child).replace("\n", "\n  ")
            for name, child in self.named_children()
        ]
        inside = "\n" + "\n".join(parts) + "\n" if parts else self._facts()
        return f"{type(self).__name__}({inside})"

    def _facts(self) -> str:
        return ""


class Sequential(Module):
    """Layers, each of which takes what the one before it gives.

    Parameters
    ----------
    *layers : Module
        In their order.

    Raises
    ------
    TypeError
        A layer that is no Module.

    Examples
    --------
    >>> from csoftmax.d2l1 import nn
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    >>> len(net), net[1]
    (2, Linear(in_features=784, out_features=10, bias=True))
    """

    def __init__(self, *layers: Module) -> None:
        for i, layer in enumerate(layers):
            if not isinstance(layer, Module):
                raise TypeError(f"layer {i} is a {type(layer).__name__}, expected an nn.Module")
        self._layers = list(layers)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Yield the layers with their numbers."""
        return ((str(i), layer) for i, layer in enumerate(self._layers))

    def forward(self, X: Any) -> Any:
        """Give X to the first layer, its result to the next, and so on."""
        for layer in self._layers:
            X = layer(X)
        return X

    def __len__(self) -> int:
        return len(self._layers)

    def __getitem__(self, index: int) -> Module:
        return self._layers[index]

    def __iter__(self) -> Iterator[Module]:
        return iter(self._layers)


class Flatten(Module):
    """``(n_samples, ...)`` becomes ``(n_samples, n_features)``.

    Examples
    --------
    >>> import numpy as np
    >>> from csoftmax.d2l1 import nn
    >>> nn.Flatten()(np.zeros((2, 1, 28, 28))).shape
    (2, 784)
    """

    def forward(self, X: Any) -> Any:
        """Return X with all axes but the first made one."""
        return X.reshape(len(X), int(np.prod(X.shape[1:])))


class Linear(Module):
    """``X @ weight.T + bias``, in compiled code.

    Weight and bias start uniform in ±1/sqrt(in_features).

    Parameters
    ----------
    in_features, out_features : int
        The last axis of X, and of the result.
    bias : bool
        Whether there is one.

    Attributes
    ----------
    weight : Parameter (out_features, in_features)
    bias : Parameter (out_features,), or None

    Raises
    ------
    TypeError, ValueError
        Sizes that are no integers of 1 or more; called with an X of another last axis.

    Examples
    --------
    >>> import numpy as np
    >>> from csoftmax.d2l1 import nn
    >>> layer = nn.Linear(4, 3)
    >>> layer(np.zeros((2, 4))).shape, layer.weight.shape, layer.bias.shape
    ((2, 3), (3, 4), (3,))

    Notes
    -----
    D2L second edition section 3.7, current edition section 4.5.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        self._set(out_features, bias)
        self._start(check_positive(in_features, "in_features"))

    def _set(self, out_features: int, bias: bool) -> None:
        self.out_features = check_positive(out_features, "out_features")
        self.weight = UninitializedParameter()
        self.bias = UninitializedParameter() if bias else None

    def _start(self, in_features: int) -> None:
        self.in_features = in_features
        self.weight.materialize((self.out_features, in_features))
        bound = in_features**-0.5
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            self.bias.materialize((self.out_features,))
            init.uniform_(self.bias, -bound, bound)

    def forward(self, X: Any) -> Any:
        """Return the logits of X (..., in_features)."""
        if X.ndim == 0 or X.shape[-1] != self.in_features:
            raise ValueError(
                f"X has shape {X.shape} but the layer takes a last axis of in_features="
                f"{self.in_features}: an nn.Flatten() before it makes rows of images"
            )
        logits = linear(X.reshape(-1, self.in_features), self.weight.T, self.bias)
        return logits if X.ndim == 2 else logits.reshape(*X.shape[:-1], self.out_features)

    def _facts(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


class LazyLinear(Linear):
    """A `Linear` that learns in_features from its first X, and is a `Linear` from then on.

    Its parameters are there before that, with the shape ``(0,)``: an optimizer may take them.

    Parameters
    ----------
    out_features : int
        The last axis of the result.
    bias : bool
        Whether there is one.

    Examples
    --------
    >>> import numpy as np
    >>> from csoftmax.d2l1 import nn
    >>> layer = nn.LazyLinear(3)
    >>> layer(np.zeros((2, 4))).shape, type(layer).__name__, layer.weight.shape
    ((2, 3), 'Linear', (3, 4))
    """

    in_features = 0

    def __init__(self, out_features: int, bias: bool = True) -> None:
        self._set(out_features, bias)

    def forward(self, X: Any) -> Any:
        """Take in_features from X, then return its logits."""
        self.materialize(check_positive(np.shape(X)[-1], "the last axis of X"))
        return self.forward(X)

    def materialize(self, in_features: int) -> None:
        """Draw the parameters and become a `Linear`."""
        self._start(in_features)
        self.__class__ = Linear  # type: ignore[assignment]


class CrossEntropyLoss(Module):
    """The cross-entropy of the softmax of logits, in one stable compiled function.

    Parameters
    ----------
    reduction : "mean", "sum" or "none"
        What to return: one number for the batch, or one for each sample.

    Raises
    ------
    ValueError
        Another reduction.

    Examples
    --------
    >>> import numpy as np
    >>> from csoftmax.d2l1 import nn
    >>> loss = nn.CrossEntropyLoss(reduction="none")
    >>> print(loss(np.array([[0.0, 0.0], [1000.0, 0.0]]), np.array([0, 0])).round(4))
    [0.6931 0.    ]

    Notes
    -----
    D2L second edition section 3.7, current edition section 4.5.
    """

    def __init__(self, reduction: str = "mean") -> None:
        check_reduction(reduction)
        self.reduction = reduction

    def forward(self, logits: Any, y: Any) -> Any:
        """Return the loss of logits (n_samples, n_classes) and labels y (n_samples,), in nats."""
        return functional.cross_entropy(logits, y, reduction=self.reduction)


class ReLU(Module):
    """The entries above 0, and 0 for the others: for the book's next chapter.

    Examples
    --------
    >>> from csoftmax.d2l import nn, torch
    >>> print(nn.ReLU()(torch.tensor([-1.0, 2.0])))
    [0. 2.]
    """

    def forward(self, X: Any) -> Any:
        """Return ``max(X, 0)``."""
        return relu(X)


class UninitializedParameter(Parameter):
    """A Parameter that has no shape yet; `materialize` gives it one, and it stays the same object.

    Row-major: the kernels read the weights of a class side by side, as (out, in) has them then.
    """

    def __new__(cls) -> UninitializedParameter:
        # made so, and not as a view, it owns its memory, which resize() needs
        parameter: UninitializedParameter = np.ndarray.__new__(cls, (0,), np.float32)
        parameter._node = Leaf()
        return parameter

    def __reduce__(self) -> Any:
        return UninitializedParameter, ()

    def __deepcopy__(self, memo: Any) -> UninitializedParameter:
        return UninitializedParameter()

    def materialize(self, shape: tuple[int, ...]) -> None:
        """Take a shape, and be a Parameter of zeros."""
        self.resize(shape, refcheck=False)
        self.__class__ = Parameter  # type: ignore[assignment]


def __getattr__(name: str) -> NoReturn:
    raise missing(__name__, name)
