"""Softmax regression as an object: its parameters, what it predicts, and the file it lives in."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from csoftmax import functional
from csoftmax.core.checks import (
    Stored,
    as_array,
    as_features,
    as_labels,
    as_small_labels,
    check_number,
    check_positive,
    check_threads,
)
from csoftmax.core.errors import DataError
from csoftmax.core.names import as_names, class_order, positions, reordered
from csoftmax.core.sparse import CSR
from csoftmax.core.tensors import (
    FORMAT_VERSION,
    feature_names_of,
    list_of_names,
    read_parameters,
    write_parameters,
)
from csoftmax.data.pictures import PictureRecipe, check_recipe
from csoftmax.engine import calls
from csoftmax.rows.base import as_stored

Array = NDArray[Any]


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
        One name per class; those of the first data trained on if none are given, or else
        "0", "1", ...
    feature_names : iterable of str, optional
        One name per feature; those of the first data trained on if none are given.

    Attributes
    ----------
    trained_with : dict
        How the last training went: its solver and settings, for the model's file; empty if
        unknown.
    recipe : PictureRecipe or None
        How a drawing becomes a picture as the model knows them, by `csoftmax.data.prepare_picture`;
        that of the first data trained on that have one.

    Raises
    ------
    TypeError, ValueError
        Sizes below 1, another dtype, a number of names that is not n_classes or n_features.

    Notes
    -----
    The rule of names: a class of a `Dataset` or `DataLoader` is the model's class of that name,
    whatever number it has there, and a class that the model lacks is refused; labels that are
    integers count the classes of a model whose names are none. Features that both sides name must
    be the same in the same order: ``read(path, feature_names=model.feature_names)`` finds them in
    a table by name.

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

    # of the class, so that objects pickled before there were such attributes have them
    _feature_names: tuple[str, ...] = ()
    _recipe: PictureRecipe | None = None
    trained_with: dict[str, Any] = {}  # noqa: RUF012 (replaced, never changed in place)

    def __init__(
        self,
        n_features: int,
        n_classes: int,
        *,
        scale: float | None = None,
        seed: int | None = None,
        dtype: DTypeLike = "float32",
        class_names: Iterable[str] | None = None,
        feature_names: Iterable[str] | None = None,
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
        self._class_names = as_names(class_names, self.n_classes, "class_names", "n_classes")
        self._feature_names = as_names(
            feature_names, self.n_features, "feature_names", "n_features"
        )

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
        return self._class_names or positions(self.n_classes)

    @class_names.setter
    def class_names(self, names: Iterable[str]) -> None:
        self._class_names = as_names(names, self.n_classes, "class_names", "n_classes")

    @property
    def feature_names(self) -> tuple[str, ...]:
        """One name per feature, or none."""
        return self._feature_names

    @feature_names.setter
    def feature_names(self, names: Iterable[str]) -> None:
        self._feature_names = as_names(names, self.n_features, "feature_names", "n_features")

    @property
    def recipe(self) -> PictureRecipe | None:
        """How a drawing becomes a picture as the model knows them; None if unknown."""
        return self._recipe

    @recipe.setter
    def recipe(self, recipe: PictureRecipe | None) -> None:
        check_recipe(recipe, self.n_features)
        self._recipe = recipe

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
        self._forward(features, calls.Sink(logits=logits), n_threads)
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
        self._forward(features, calls.Sink(predictions=labels), n_threads)
        return labels

    def _forward(self, features: Stored, sink: calls.Sink, n_threads: int | None) -> None:
        rows = calls.StoredRows(as_stored(features, self.dtype), self.scale_for(features, 1.0))
        weight = self._weight
        if isinstance(features, CSR):
            weight = calls.weights_for(features, weight.T, self.dtype)
        parameters = calls.Parameters(weight, self._bias)
        calls.forward(rows, parameters, sink, check_threads(n_threads))

    def scale_for(self, X: Stored, scale: float) -> float:
        """Return what X is multiplied by if its data say `scale`: see the class's Notes."""
        return scale if self._scale is None or not is_integer(X) else self._scale

    def features_of(self, X: ArrayLike, name: str = "X") -> Stored:
        """Return X as (n_samples, n_features), checked against the model."""
        features = as_features(X, name)
        if features.shape[1] != self.n_features:
            raise ValueError(
                f"{name} has {features.shape[1]} features but the model has {self.n_features}"
            )
        return features

    def labels_of(
        self,
        y: Array,
        n_samples: int,
        class_names: Sequence[str],
        name: str = "data",
        wanted: Sequence[str] | None = None,
    ) -> Array:
        """Return y as the model numbers its classes, checked: by name where both have names.

        They are int64, or small where they are given so. `wanted` stands for the model's names,
        which its training may be about to give it.
        """
        wanted = self._class_names if wanted is None else wanted
        order = class_order(class_names, wanted, self.n_classes, name)
        n_classes = self.n_classes if order is None else len(order)
        check = as_small_labels if y.dtype.kind == "u" and y.dtype.itemsize <= 4 else as_labels
        labels = check(y, n_samples, n_classes, name=f"{name}.y")
        return reordered(labels, order, class_names, wanted or self.class_names, name)

    def copy(self) -> SoftmaxRegression:
        """Return a model of its own with the same parameters, names and facts.

        Examples
        --------
        >>> import csoftmax as cs
        >>> model = cs.SoftmaxRegression(2, 2)
        >>> twin = model.copy()
        >>> model.b = [1, 2]
        >>> twin.b
        array([0., 0.], dtype=float32)
        """
        twin = copy(self)
        twin._weight, twin._bias = self._weight.copy(), self._bias.copy()
        return twin

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to one safetensors file, whole or not at all.

        Tensors ``weight`` (n_classes, n_features) and ``bias`` (n_classes,), named and laid out as
        in PyTorch's ``nn.Linear``; names, scale, recipe and versions in the metadata.

        Parameters
        ----------
        path : path
            Replaced if it exists.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        facts = {
            "scale": self._scale,
            "class_names": self._class_names,
            "feature_names": self.feature_names,
            "trained_with": self.trained_with,
        }
        if self.recipe is not None:
            facts["recipe"] = asdict(self.recipe)
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
            model = cls(
                weight.shape[1],
                weight.shape[0],
                scale=description["scale"],
                dtype=weight.dtype,
                class_names=list_of_names(description["class_names"], "class_names"),
                feature_names=list_of_names(feature_names_of(description), "feature_names"),
            )
            model.trained_with = description.get("trained_with", {})
            if not isinstance(model.trained_with, dict):
                raise TypeError(f"trained_with {model.trained_with!r}, not a table of settings")
            if description.get("recipe") is not None:
                model.recipe = PictureRecipe.of(description["recipe"])
        except KeyError as error:
            raise DataError(f"{path}: the metadata of the model lack {error}") from None
        except (TypeError, ValueError) as error:
            raise DataError(f"{path}: the metadata do not fit a model: {error}") from None
        model._weight[...], model._bias[...] = weight, bias
        return model


def is_integer(features: Stored) -> bool:
    """Is this input that the model's scale applies to?"""
    kind = features.kind if isinstance(features, CSR) else features.dtype.kind
    return kind in "iub"


def _assign(view: Array, value: ArrayLike, name: str) -> None:
    array = as_array(value, name)
    if array.shape != view.shape:
        raise ValueError(f"{name} has shape {view.shape}, got a value of shape {array.shape}")
    view[...] = array
