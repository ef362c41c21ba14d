"""Minibatches, as the book has them, over the arrays that compiled training reads directly."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.checks import Stored
from csoftmax.core.sparse import CSR
from csoftmax.data.dataset import Dataset
from csoftmax.data.pictures import PictureRecipe
from csoftmax.engine.calls import shuffle
from csoftmax.rows.base import blocks, take


class DataLoader:
    """Iterate over minibatches ``(X_batch, y_batch)``; each iteration is one epoch.

    ``X_batch`` is ``scale * X[rows]`` in float32 (float64 for float64 and for integers of 32 or 64
    bits), and images ``(n, height, width)`` come as ``(n, 1, height, width)``. ``y_batch`` is
    int64. The last batch may be short. Sparse rows stay sparse (`csoftmax.core.sparse.CSR`).

    Parameters
    ----------
    X : array, shape (n_samples, n_features) or (n_samples, height, width) or any (n_samples, ...)
        Boolean, integer, float16, float32 or float64; not copied. Or a sparse matrix, as in
        `Dataset`.
    y : array of integers, shape (n_samples,)
    batch_size : int
        Samples per batch, at least 1.
    shuffle : bool
        Whether each epoch goes through the samples in a new random order.
    seed : int, optional
        The same seed gives the same orders.
    scale : float
        The factor that turns stored values into model input, 1/255 for uint8 pixels.
    class_names : sequence of str
        One name per class, or empty.
    feature_names : sequence of str
        One name per feature, no two the same, or empty.
    recipe : PictureRecipe, optional
        How a drawing becomes a picture as these are.

    Raises
    ------
    TypeError
        For X or y of another dtype, or a batch_size that is no integer.
    ValueError
        For shapes that do not fit, a negative label, a batch_size below 1, or a bad scale or seed.

    References
    ----------
    Dive into Deep Learning, section 3.5, "The Image Classification Dataset".

    Examples
    --------
    >>> from csoftmax.data import DataLoader, fashion_mnist_sample
    >>> train, test = fashion_mnist_sample()
    >>> loader = DataLoader(train.X, train.y, 256, shuffle=True, seed=0, scale=train.scale)
    >>> len(loader)
    24
    >>> X, y = next(iter(loader))
    >>> X.shape, X.dtype, y.shape, y.dtype
    ((256, 1, 28, 28), dtype('float32'), (256,), dtype('int64'))
    """

    def __init__(
        self,
        X: Stored,
        y: NDArray[Any],
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int | None = None,
        scale: float = 1.0,
        class_names: Sequence[str] = (),
        feature_names: Sequence[str] = (),
        recipe: PictureRecipe | None = None,
    ) -> None:
        dataset = Dataset(X, y, scale, class_names, "", feature_names, recipe)  # type: ignore[arg-type]
        try:
            batch_size = operator.index(batch_size)
        except TypeError:
            raise TypeError(f"batch_size must be an integer, got {batch_size!r}") from None
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if seed is not None and (not hasattr(seed, "__index__") or seed < 0):
            raise ValueError(f"seed must be an integer of 0 or more, got {seed!r}")
        self.X = dataset.X
        self.y = dataset.y
        self.batch_size = batch_size
        self.shuffle = bool(shuffle)
        self.scale = dataset.scale
        self.class_names = dataset.class_names
        self.feature_names = dataset.feature_names
        self.recipe = dataset.recipe
        self._random = np.random.default_rng(seed)

    @classmethod
    def from_dataset(
        cls, dataset: Dataset, batch_size: int, *, shuffle: bool = False, seed: int | None = None
    ) -> DataLoader:
        """Make a loader with the arrays, scale, names and recipe of a data set.

        Examples
        --------
        >>> from csoftmax.data import DataLoader, fashion_mnist_sample
        >>> loader = DataLoader.from_dataset(fashion_mnist_sample()[1], 100)
        >>> len(loader), loader.class_names[0]
        (10, 'T-shirt/top')
        """
        return cls(
            dataset.X,
            dataset.y,
            batch_size,
            shuffle=shuffle,
            seed=seed,
            scale=dataset.scale,
            class_names=dataset.class_names,
            feature_names=dataset.feature_names,
            recipe=dataset.recipe,
        )

    def __len__(self) -> int:
        return math.ceil(len(self.X) / self.batch_size)

    def __repr__(self) -> str:
        return (
            f"DataLoader(X {self.X.shape} {self.X.dtype}, batch_size={self.batch_size}, "
            f"shuffle={self.shuffle})"
        )

    def epoch_order(self) -> NDArray[np.int64] | None:
        """Draw the order of the samples in the next epoch.

        Iterating calls this too: whoever draws the orders, the same seed gives the same ones.

        Returns
        -------
        array of int64, shape (n_samples,), or None
            A permutation, or None if the loader does not shuffle.

        Examples
        --------
        >>> import numpy as np
        >>> from csoftmax.data import DataLoader
        >>> loader = DataLoader(np.zeros((4, 1)), [0, 1, 0, 1], 2, shuffle=True, seed=0)
        >>> sorted(loader.epoch_order().tolist())
        [0, 1, 2, 3]
        """
        return shuffle(np.arange(len(self.X)), self._random) if self.shuffle else None

    def __iter__(self) -> Iterator[tuple[Stored, NDArray[np.int64]]]:
        # drawn here, not at the first batch: epochs are numbered by the calls of iter()
        return self._batches(self.epoch_order())

    def _batches(
        self, order: NDArray[np.int64] | None
    ) -> Iterator[tuple[Stored, NDArray[np.int64]]]:
        dtype = np.result_type(np.float32, self.X.dtype)
        shape = self.X.shape[1:]
        if len(shape) == 2:
            shape = (1, *shape)
        for batch in blocks(len(self.X), self.batch_size):
            rows = batch if order is None else order[batch]
            some = take(self.X, rows)
            if isinstance(some, CSR):
                yield some.times(self.scale, dtype), self.y[rows].copy()
                continue
            X = np.multiply(some, dtype.type(self.scale), dtype=dtype)
            yield X.reshape(len(X), *shape), self.y[rows].copy()
