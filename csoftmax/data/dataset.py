"""The in-memory form of a labelled data set."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.checks import Stored, widened
from csoftmax.core.sparse import as_csr, is_sparse
from csoftmax.data.pictures import PictureRecipe, check_recipe


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Samples, their labels, and what the numbers mean.

    Parameters
    ----------
    X : array, shape (n_samples, n_features) or (n_samples, height, width) or any (n_samples, ...)
        Boolean, integer, float16, float32 or float64; kept as it is, never copied. bfloat16
        becomes float32. Sparse matrices of scipy and pandas tables of sparse columns become
        `csoftmax.core.sparse.CSR`: checked rows over scipy's own arrays where their format is csr;
        ``X.tocsr()`` makes a sparse array of scipy of them again.
    y : array of integers, shape (n_samples,)
        Labels 0..n_classes-1; kept as contiguous int64.
    scale : float
        The factor that turns stored values into model input, 1/255 for uint8 pixels.
    class_names : sequence of str
        One name per class, or empty.
    name : str
        A name for messages.
    feature_names : sequence of str
        One name per feature, no two the same, or empty.
    recipe : PictureRecipe, optional
        How a drawing becomes a picture as these are; None where X holds no pictures, or any.

    Raises
    ------
    TypeError
        For X or y of another dtype, or one str where names are expected.
    ValueError
        For shapes that do not fit, a negative label, a label without a name, a bad scale, feature
        names that do not tell the features apart, or a recipe for pictures of another size.

    Examples
    --------
    >>> from csoftmax.data import Dataset
    >>> data = Dataset([[0.0, 1.0], [2.0, 3.0]], [0, 1], class_names=("cat", "dog"), name="pets")
    >>> len(data), data.n_features, data.n_classes
    (2, 2, 2)
    >>> data
    Dataset('pets', X (2, 2) float64, 2 classes)
    """

    X: Stored
    y: NDArray[np.int64]
    scale: float = 1.0
    class_names: tuple[str, ...] = ()
    name: str = ""
    feature_names: tuple[str, ...] = ()
    recipe: PictureRecipe | None = None

    def __post_init__(self) -> None:
        X = as_csr(self.X) if is_sparse(self.X) else widened(np.asarray(self.X))
        if X.ndim < 2:
            raise ValueError(f"X must have shape (n_samples, n_features) or more, got {X.shape}")
        if not is_numeric(X.dtype):
            raise TypeError(f"X must hold booleans, integers or floats, got dtype {X.dtype}")
        names = _names("class_names", self.class_names)
        feature_names = _names("feature_names", self.feature_names)
        n_features = math.prod(X.shape[1:])
        if len(feature_names) not in (0, n_features):
            raise ValueError(f"X has {n_features} features but feature_names has "
                             f"{len(feature_names)} names")  # fmt: skip
        feature_names = told_apart("feature_names", feature_names)
        check_recipe(self.recipe, n_features)
        y = _checked_labels(self.y, len(names))
        if len(X) != len(y):
            raise ValueError(f"X has {len(X)} samples but y has {len(y)} labels")
        scale = float(self.scale)
        if not math.isfinite(scale) or scale <= 0:
            raise ValueError(f"scale must be a positive finite number, got {scale}")
        for field, value in (("X", X), ("y", y), ("scale", scale), ("class_names", names),
                             ("feature_names", feature_names)):  # fmt: skip
            object.__setattr__(self, field, value)

    def __len__(self) -> int:
        return len(self.X)

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}, X {self.X.shape} {self.X.dtype}, {self.n_classes} classes)"

    @property
    def n_features(self) -> int:
        """Values per sample: the product of the sample's shape."""
        return math.prod(self.X.shape[1:])

    @property
    def n_classes(self) -> int:
        """The number of class names, or the largest label + 1 where there are none."""
        return len(self.class_names) or int(self.y.max(initial=-1)) + 1


def is_numeric(dtype: np.dtype[Any]) -> bool:
    """Tell whether features may have this dtype: no strings, objects, complex, long doubles."""
    return dtype.kind in "biuf" and dtype.itemsize <= 8


class Distinct(tuple[str, ...]):
    """Names that are known to be different: of ten million it takes seconds to find out."""


def told_apart(argument: str, names: tuple[str, ...]) -> Distinct:
    """Return names that are different; raise ValueError where two are the same."""
    if isinstance(names, Distinct):
        return names
    check_distinct(argument, names)
    return Distinct(names)


def _names(argument: str, values: Any) -> tuple[str, ...]:
    if isinstance(values, Distinct):
        return values
    if isinstance(values, str):
        raise TypeError(f"{argument} must be a sequence of names, got {values!r}")
    return tuple(str(value) for value in values)


def check_distinct(argument: str, names: tuple[str, ...]) -> None:
    if len(set(names)) < len(names):  # counting takes far longer
        twice = next(name for name, n in Counter(names).items() if n > 1)
        raise ValueError(f"{argument} must be different names, got {twice!r} more than once")


def _checked_labels(values: Any, n_names: int) -> NDArray[np.int64]:
    y = np.asarray(values)
    if y.size == 0 and y.ndim == 1:
        return np.empty(0, np.int64)
    if y.dtype.kind not in "biu":
        raise TypeError(f"y must hold integer labels, got dtype {y.dtype}")
    if y.ndim != 1:
        raise ValueError(f"y must have shape (n_samples,), got {y.shape}")
    limit = n_names or 2**63 - 1
    bad = y >= limit if y.dtype.kind == "u" else (y < 0) | (y >= limit)
    if bad.any():
        i = int(bad.argmax())
        expected = f"0..{limit - 1}" if n_names else "0 or more"
        raise ValueError(f"y[{i}] is {y[i]}, expected a label {expected}")
    return np.ascontiguousarray(y, np.int64)
