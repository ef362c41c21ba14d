"""Softmax regression as an object: its parameters, what it predicts, and the file it lives in."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from csoftmax import functional
from csoftmax._validate import as_features, check_number, check_positive
from csoftmax.data import DataError, write_atomically

Array = NDArray[Any]
FORMAT = "csoftmax.SoftmaxRegression"
FORMAT_VERSION = "1"


class SoftmaxRegression:
    """A linear classifier with softmax output: ``p(y | x) = softmax(scale * x @ W + b)``.

    Parameters
    ----------
    n_features, n_classes : int
        The shape of ``W``.
    scale : float
        Multiplies integer input (1/255 for pixels); float input is taken as already scaled. `train` sets
        it from its data.
    seed : int, optional
        For the initial ``W`` ~ N(0, 0.01^2); ``b`` starts at 0.
    dtype : "float32" or "float64"
        The type of the parameters and of all computation.
    class_names : sequence of str, optional
        One name per class; "0", "1", ... if none are given.

    Attributes
    ----------
    W : ndarray (n_features, n_classes)
        Weights, a writable view of the class-major storage.
    b : ndarray (n_classes,)
        Bias.

    Raises
    ------
    TypeError, ValueError
        Sizes below 1, another dtype, a number of names that is not n_classes.

    Notes
    -----
    D2L sections 3.4 and 3.6. Chance of n_classes equal classes at the start: a loss of log(n_classes).

    Examples
    --------
    >>> import numpy as np, csoftmax as cs
    >>> model = cs.SoftmaxRegression(784, 10, seed=0)
    >>> image = np.zeros((1, 28, 28), np.uint8)
    >>> print(model(image).round(2), model.predict(image))
    [[0.1 0.1 0.1 0.1 0.1 0.1 0.1 0.1 0.1 0.1]] [0]
    """

    def __init__(
        self,
        n_features: int,
        n_classes: int,
        *,
        scale: float = 1.0,
        seed: int | None = None,
        dtype: DTypeLike = "float32",
        class_names: Sequence[str] | None = None,
    ) -> None:
        n_features = check_positive(n_features, "n_features")
        n_classes = check_positive(n_classes, "n_classes")
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.float32, np.float64):
            raise TypeError(f"dtype is {self.dtype}, expected float32 or float64")
        self.scale = check_number(scale, "scale")
        self.class_names = _class_names(class_names, n_classes)
        generator = np.random.default_rng(seed)
        # Class-major storage: what the kernels read, and PyTorch's nn.Linear.weight.
        initial = 0.01 * generator.standard_normal((n_classes, n_features))
        self._weight: Array = initial.astype(self.dtype)
        self._bias: Array = np.zeros(n_classes, self.dtype)

    @property
    def n_features(self) -> int:
        """How many features a sample has."""
        return int(self._weight.shape[1])

    @property
    def n_classes(self) -> int:
        """How many classes there are."""
        return int(self._weight.shape[0])

    @property
    def W(self) -> Array:
        """The weights (n_features, n_classes), a view that can be assigned into."""
        return self._weight.T

    @W.setter
    def W(self, value: ArrayLike) -> None:
        _assign(self._weight.T, value, "W")

    @property
    def b(self) -> Array:
        """The bias (n_classes,), an array that can be assigned into."""
        return self._bias

    @b.setter
    def b(self, value: ArrayLike) -> None:
        _assign(self._bias, value, "b")

    def __repr__(self) -> str:
        return f"SoftmaxRegression({self.n_features}, {self.n_classes}, dtype={self.dtype.name!r})"

    def __call__(self, X: ArrayLike, *, n_threads: int | None = None) -> Array:
        """Return the probabilities of the classes, as `predict_proba`."""
        return self.predict_proba(X, n_threads=n_threads)

    def decision_function(self, X: ArrayLike, *, n_threads: int | None = None) -> Array:
        """Return the logits ``scale * X @ W + b``, float array (n_samples, n_classes).

        Parameters
        ----------
        X : array_like (n_samples, n_features), or images such as (n, 28, 28) or (n, 1, 28, 28)
            Integers are multiplied by the model's scale.
        n_threads : int, optional
            At most so many threads; None: all CPUs that this process may use.

        Raises
        ------
        TypeError, ValueError
            Unsupported dtype, another number of features.
        """
        features = self.features_of(X)
        logits = np.empty((len(features), self.n_classes), self.dtype)
        self._pass(features, n_threads, logits=logits)
        return logits

    def predict_proba(self, X: ArrayLike, *, n_threads: int | None = None) -> Array:
        """Return the probabilities of the classes, (n_samples, n_classes); arguments as `decision_function`."""
        logits = self.decision_function(X, n_threads=n_threads)
        return functional.softmax(logits, out=logits, n_threads=n_threads)

    def predict(self, X: ArrayLike, *, n_threads: int | None = None) -> NDArray[np.int64]:
        """Return the most probable label of each sample, (n_samples,); arguments as `decision_function`."""
        features = self.features_of(X)
        labels = np.empty(len(features), np.int64)
        self._pass(features, n_threads, predictions=labels)
        return labels

    def _pass(self, features: Array, n_threads: int | None, **results: Array) -> None:
        scale = self.scale if is_integer(features) else 1.0
        functional.forward(features, self._weight, self._bias, scale, n_threads, **results)

    def features_of(self, X: ArrayLike, name: str = "X") -> Array:
        """Return X as (n_samples, n_features), checked against the model."""
        features = as_features(X, name)
        if features.shape[1] != self.n_features:
            raise ValueError(
                f"{name} has {features.shape[1]} features but the model has {self.n_features}"
            )
        return features

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to one safetensors file, whole or not at all.

        Tensors ``weight`` (n_classes, n_features) and ``bias`` (n_classes,), named and laid out as in
        PyTorch's ``nn.Linear``; class names, scale and version in the metadata.

        Parameters
        ----------
        path : path
            Replaced if it exists.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        from safetensors.numpy import save

        import csoftmax

        metadata = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "csoftmax_version": csoftmax.__version__,
            "scale": repr(self.scale),
            "class_names": json.dumps(self.class_names),
        }
        content = save({"weight": self._weight, "bias": self._bias}, metadata)
        write_atomically(path, lambda file: file.write(content))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SoftmaxRegression:
        """Read a model that `save` wrote; nothing in the file is executed.

        Parameters
        ----------
        path : path
            A safetensors file.

        Returns
        -------
        SoftmaxRegression

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        DataError
            If it is not a safetensors file, or not of a model: says what was expected and what came.

        Examples
        --------
        >>> import tempfile, pathlib, csoftmax as cs
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "model.safetensors"
        >>> cs.SoftmaxRegression(4, 3, class_names=["a", "b", "c"]).save(path)
        >>> cs.SoftmaxRegression.load(path).class_names
        ('a', 'b', 'c')
        """
        from safetensors import SafetensorError, safe_open

        if not Path(path).is_file():
            raise FileNotFoundError(f"{path}: no such model file")
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                names = set(file.keys())
                tensors = {name: file.get_tensor(name) for name in names & {"weight", "bias"}}
        except (SafetensorError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: expected a safetensors file, got: {error}") from None
        if metadata.get("format") != FORMAT or names != {"weight", "bias"}:
            raise DataError(
                f"{path}: expected a model saved by csoftmax (tensors weight, bias), got tensors "
                f"{', '.join(sorted(names)) or 'none'} of format {metadata.get('format')!r}"
            )
        return cls._from_parts(path, tensors["weight"], tensors["bias"], metadata)

    @classmethod
    def _from_parts(
        cls, path: object, weight: Array, bias: Array, metadata: dict[str, str]
    ) -> SoftmaxRegression:
        version = metadata.get("format_version")
        if version != FORMAT_VERSION:
            raise DataError(f"{path}: expected format version {FORMAT_VERSION}, got {version!r}")
        if weight.ndim != 2 or bias.shape != weight.shape[:1] or 0 in weight.shape:
            raise DataError(
                f"{path}: expected weight (n_classes, n_features) and bias (n_classes,), "
                f"got {weight.shape} and {bias.shape}"
            )
        if weight.dtype not in (np.float32, np.float64) or bias.dtype != weight.dtype:
            raise DataError(
                f"{path}: expected weight and bias both float32 or both float64, "
                f"got {weight.dtype} and {bias.dtype}"
            )
        try:
            scale = float(metadata["scale"])
            names = json.loads(metadata["class_names"])
            if not math.isfinite(scale) or not all(isinstance(name, str) for name in names):
                raise ValueError("a scale that is not finite, or class names that are not text")
            model = cls(
                weight.shape[1],
                weight.shape[0],
                scale=scale,
                seed=0,
                dtype=weight.dtype,
                class_names=names,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: expected metadata scale and class_names, got: {error}") from None
        model.W, model.b = weight.T, bias
        return model


def is_integer(features: Array) -> bool:
    """Is this input that the model's scale applies to?"""
    return features.dtype.kind in "iub"


def _class_names(names: Sequence[str] | None, n_classes: int) -> tuple[str, ...]:
    if not names:
        return tuple(map(str, range(n_classes)))
    if isinstance(names, str) or len(names) != n_classes:
        raise ValueError(f"class_names has {len(names)} names but n_classes is {n_classes}")
    return tuple(map(str, names))


def _assign(view: Array, value: ArrayLike, name: str) -> None:
    array = np.asarray(value)
    if array.shape != view.shape:
        raise ValueError(f"{name} has shape {view.shape}, got a value of shape {array.shape}")
    view[...] = array
