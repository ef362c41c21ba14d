"""Softmax regression as an object: its parameters, what it predicts, and the file it lives in."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from csoftmax import functional
from csoftmax._passes import forward
from csoftmax._validate import as_array, as_features, check_number, check_positive
from csoftmax.data import DataError, write_atomically

if TYPE_CHECKING:
    from pathlib import Path

Array = NDArray[Any]
# One entry of the file's metadata, so that the same model gives the same bytes.
METADATA_KEY = "csoftmax.SoftmaxRegression"
FORMAT_VERSION = 1


class SoftmaxRegression:
    """A linear classifier with softmax output: ``p(y | x) = softmax(scale * x @ W + b)``.

    Parameters
    ----------
    n_features, n_classes : int
        The shape of ``W``.
    scale : float, optional
        Multiplies integer input (1/255 for pixels), > 0. None: that of the first data that have
        one; see Notes.
    seed : int, optional
        For the initial ``W`` ~ N(0, 0.01^2); ``b`` starts at 0.
    dtype : "float32" or "float64"
        The type of the parameters and of all computation.
    class_names : iterable of str, optional
        One name per class; "0", "1", ... if none are given.

    Raises
    ------
    TypeError, ValueError
        Sizes below 1, another dtype, a number of names that is not n_classes.

    Notes
    -----
    The rule of scales, in training, evaluation and prediction alike: integers are multiplied by the
    model's scale. A model that has none yet takes that of the `Dataset` or `DataLoader` it is
    trained on (it is kept) or evaluated on, and 1 for a bare array. Data whose own scale is another
    get the model's and a warning. Floats are taken as they are, times the scale of their own
    `Dataset` or `DataLoader` (ordinarily 1).

    D2L sections 3.4 and 3.6. At the start all classes are about equally probable: the loss is about
    log(n_classes).

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
        scale: float | None = None,
        seed: int | None = None,
        dtype: DTypeLike = "float32",
        class_names: Iterable[str] | None = None,
    ) -> None:
        shape = check_positive(n_classes, "n_classes"), check_positive(n_features, "n_features")
        chosen = np.dtype(dtype)
        if chosen not in (np.float32, np.float64):
            raise TypeError(f"dtype is {chosen}, expected float32 or float64")
        try:
            generator = np.random.default_rng(seed)
        except (TypeError, ValueError):
            raise ValueError(f"seed is {seed!r}, expected an integer of 0 or more") from None
        # Class-major storage: what the kernels read, and PyTorch's nn.Linear.weight.
        self._weight: Array = (0.01 * generator.standard_normal(shape)).astype(chosen)
        self._bias: Array = np.zeros(shape[0], chosen)
        self._scale: float | None = None
        if scale is not None:
            self.scale = scale
        self.class_names = () if class_names is None else class_names

    @property
    def n_features(self) -> int:
        """How many features a sample has."""
        return int(self._weight.shape[1])

    @property
    def n_classes(self) -> int:
        """How many classes there are."""
        return len(self._bias)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the parameters and of all computation."""
        return self._bias.dtype

    @property
    def W(self) -> Array:
        """The weights (n_features, n_classes), a writable view of the class-major storage."""
        view: Array = self._weight.T
        return view

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

    @property
    def scale(self) -> float:
        """The number that integer input is multiplied by, > 0; 1 as long as there is none."""
        return 1.0 if self._scale is None else self._scale

    @scale.setter
    def scale(self, value: float) -> None:
        scale = check_number(value, "scale")
        if scale <= 0:
            raise ValueError(f"scale is {scale}, expected a number > 0")
        self._scale = scale

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name per class."""
        return self._class_names

    @class_names.setter
    def class_names(self, names: Iterable[str]) -> None:
        if isinstance(names, str):
            raise TypeError(f"class_names is {names!r}, expected one name per class")
        given = tuple(map(str, names))
        if given and len(given) != self.n_classes:
            raise ValueError(
                f"class_names has {len(given)} names but n_classes is {self.n_classes}"
            )
        self._class_names = given or tuple(map(str, range(self.n_classes)))

    def __repr__(self) -> str:
        return f"SoftmaxRegression({self.n_features}, {self.n_classes}, dtype={self.dtype.name!r})"

    def __call__(self, X: ArrayLike, *, n_threads: int | None = None) -> Array:
        """Return the probabilities of the classes, as `predict_proba`."""
        return self.predict_proba(X, n_threads=n_threads)

    def decision_function(self, X: ArrayLike, *, n_threads: int | None = None) -> Array:
        """Return the logits ``scale * X @ W + b``, (n_samples, n_classes) of the model's dtype.

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

        Examples
        --------
        >>> import csoftmax as cs
        >>> model = cs.SoftmaxRegression(2, 2)
        >>> model.W, model.b = [[1, 0], [0, 1]], [0, 10]
        >>> model.decision_function([[1.0, 2.0]])
        array([[ 1., 12.]], dtype=float32)
        """
        features = self.features_of(X)
        logits = np.empty((len(features), self.n_classes), self.dtype)
        scale = self.scale_for(features, 1.0)
        forward(features, self._weight, self._bias, scale, n_threads, logits=logits)
        return logits

    def predict_proba(self, X: ArrayLike, *, n_threads: int | None = None) -> Array:
        """Return the probabilities of the classes, `softmax` of `decision_function`.

        Examples
        --------
        >>> import csoftmax as cs
        >>> model = cs.SoftmaxRegression(2, 2)
        >>> model.W = [[3, 0], [0, 3]]
        >>> model.predict_proba([[0.0, 1.0]]).round(2)
        array([[0.05, 0.95]], dtype=float32)
        """
        logits = self.decision_function(X, n_threads=n_threads)
        return functional.softmax(logits, out=logits, n_threads=n_threads)

    def predict(self, X: ArrayLike, *, n_threads: int | None = None) -> NDArray[np.int64]:
        """Return the most probable label of each sample, (n_samples,); see `decision_function`.

        Examples
        --------
        >>> import csoftmax as cs
        >>> model = cs.SoftmaxRegression(2, 2)
        >>> model.W = [[1, 0], [0, 1]]
        >>> model.predict([[0.0, 1.0], [3.0, 2.0]])
        array([1, 0])
        """
        features = self.features_of(X)
        labels = np.empty(len(features), np.int64)
        scale = self.scale_for(features, 1.0)
        forward(features, self._weight, self._bias, scale, n_threads, predictions=labels)
        return labels

    def scale_for(self, X: Array, scale: float) -> float:
        """Return what X is multiplied by if its data say `scale`: see the class's Notes."""
        return scale if self._scale is None or not is_integer(X) else self._scale

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

        Tensors ``weight`` (n_classes, n_features) and ``bias`` (n_classes,), named and laid out as
        in PyTorch's ``nn.Linear``; class names, scale and versions in the metadata.

        Parameters
        ----------
        path : path
            Replaced if it exists.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        facts = {"scale": self._scale, "class_names": self.class_names}
        write_parameters(path, self._weight, self._bias, facts)

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
            If it is not a safetensors file, or not of a model; says what was expected, what came.

        Examples
        --------
        >>> import tempfile, pathlib, csoftmax as cs
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "model.safetensors"
        >>> cs.SoftmaxRegression(4, 3, class_names=["a", "b", "c"]).save(path)
        >>> cs.SoftmaxRegression.load(path).class_names
        ('a', 'b', 'c')
        """
        from pathlib import Path

        description, weight, bias = read_parameters(Path(path))
        try:
            version = description["format_version"]
            if version != FORMAT_VERSION:
                raise ValueError(f"format version {version!r}, not {FORMAT_VERSION}")
            names = description["class_names"]
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise TypeError(f"class_names {names!r}, not a list of names")
            model = cls(
                weight.shape[1],
                weight.shape[0],
                scale=description["scale"],
                dtype=weight.dtype,
                class_names=names,
            )
        except KeyError as error:
            raise DataError(f"{path}: the metadata of the model lack {error}") from None
        except (TypeError, ValueError) as error:
            raise DataError(f"{path}: the metadata do not fit a model: {error}") from None
        model._weight[...], model._bias[...] = weight, bias
        return model


def is_integer(features: Array) -> bool:
    """Is this input that the model's scale applies to?"""
    return features.dtype.kind in "iub"


def _assign(view: Array, value: ArrayLike, name: str) -> None:
    array = as_array(value, name)
    if array.shape != view.shape:
        raise ValueError(f"{name} has shape {view.shape}, got a value of shape {array.shape}")
    view[...] = array


def write_parameters(
    path: str | os.PathLike[str], weight: Array, bias: Array, facts: dict[str, Any]
) -> None:
    """Write one safetensors file: two tensors, and the facts and versions as JSON."""
    import json  # here and below: `import csoftmax` stays light

    from safetensors.numpy import save

    from csoftmax import __version__

    description = {"format_version": FORMAT_VERSION, "csoftmax_version": __version__, **facts}
    content = save({"weight": weight, "bias": bias}, {METADATA_KEY: json.dumps(description)})
    write_atomically(path, lambda file: file.write(content))


def read_parameters(path: Path) -> tuple[dict[str, Any], Array, Array]:
    """Return what the file says of the model, and its checked weight and bias."""
    import json

    from safetensors import SafetensorError, safe_open

    if not path.exists():
        raise FileNotFoundError(f"{path}: no such model file")
    if path.is_dir():
        raise DataError(f"{path}: expected a safetensors file, got a folder")
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(METADATA_KEY, "null")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    # TypeError, AttributeError: a type of number that NumPy does not have, such as bfloat16
    except (SafetensorError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: expected a safetensors file of a model, got: {error}") from None
    try:
        description = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: expected JSON of a model as metadata, got: {error}") from None
    if not isinstance(description, dict) or set(tensors) != {"weight", "bias"}:
        raise DataError(
            f"{path}: expected a model saved by csoftmax, with tensors weight and bias; got "
            f"{', '.join(sorted(tensors)) or 'none'}"
        )
    weight, bias = tensors["weight"], tensors["bias"]
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
    return description, weight, bias
