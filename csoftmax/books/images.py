"""Image data sets and the loader of their minibatches, as the book names them.

A data set keeps the pixels as they are stored. A transform is applied when a picture is asked for,
so a loader resizes each minibatch as it comes; only compiled training and evaluation, which read
one array, make all pictures at once. They are kept where csoftmax's own steps made them: what a
reader's step makes may be another picture each time.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from csoftmax.books.tensors import from_numpy
from csoftmax.books.transforms import Resize, ToTensor, Transform, is_own, steps_of
from csoftmax.core.errors import DataNotFoundError
from csoftmax.data import DataLoader, Dataset, dataset_locations, fashion_mnist, read
from csoftmax.rows.base import blocks

Array = NDArray[Any]
__all__ = ["KMNIST", "MNIST", "FashionMNIST", "ImageLoader"]


# ---------------------------------------------------------------- data sets


class MNIST:
    """Handwritten digits, or any other grey images in IDX files: indexable, with a length.

    Item i is the pair of picture i, after `transform`, and its label. The files are not downloaded.

    Parameters
    ----------
    root : path
        The folder with the IDX files (such as train-images-idx3-ubyte, plain or .gz), or one whose
        subfolder ``MNIST/raw``, named as the class, has them.
    train : bool
        Which part: the images to train on, or to test on.
    transform : callable, optional
        What is done to a picture, such as `ToTensor`; without it an item has a PIL image.
    target_transform : callable, optional
        What is done to a label.
    download : bool
        Whether the data may be downloaded where they are not found: Fashion-MNIST only.

    Attributes
    ----------
    data, targets : Tensor
        All images (n, height, width) as they are stored, and their labels.
    classes : list of str
        The names of the classes.

    Raises
    ------
    DataNotFoundError
        If the data are nowhere; says where to put them.
    DataError
        If a file is broken, or is not of grey images.

    Notes
    -----
    D2L section 3.5, exercise 3: which other data sets are there?

    Examples
    --------
    >>> from csoftmax.data import sample_folder  # a folder with IDX files
    >>> from csoftmax.d2l import torchvision, transforms
    >>> images = torchvision.datasets.MNIST(sample_folder(), transform=transforms.ToTensor())
    >>> X, y = images[0]
    >>> len(images), X.shape, y
    (6000, (1, 28, 28), 9)
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        train: bool = True,
        transform: Transform | None = None,
        target_transform: Transform | None = None,
        download: bool = False,
    ) -> None:
        for name, given in (("transform", transform), ("target_transform", target_transform)):
            if given is not None and not callable(given):
                raise TypeError(f"{name} is a {type(given).__name__}, expected a function")
        self.train, self.transform, self.target_transform = train, transform, target_transform
        folder = None if root is None else Path(root).expanduser()
        self.dataset = self._parts(folder, download)[0 if train else 1]
        if self.dataset.X.ndim != 3 or self.dataset.X.dtype != np.uint8:
            raise ValueError(
                f"root {root} has X of shape {self.dataset.X.shape} and {self.dataset.X.dtype}, "
                "expected grey images (n, height, width) of uint8"
            )

    def _parts(self, folder: Path | None, download: bool) -> tuple[Dataset, Dataset]:
        name = type(self).__name__
        places = [] if folder is None else [folder / name / "raw", folder / name, folder]
        for place in places:
            if place.is_dir() and any(place.glob("*ubyte*")):
                return read(place)
        raise DataNotFoundError(
            f"{name} is not in root {folder}: put its four IDX files (train-images-idx3-ubyte and "
            "so on, plain or .gz) there; only Fashion-MNIST is downloaded"
        )

    @property
    def data(self) -> Any:
        """The images as they are stored."""
        return from_numpy(self.dataset.X)

    @property
    def targets(self) -> Any:
        """The labels."""
        return from_numpy(self.dataset.y)

    @property
    def classes(self) -> list[str]:
        """The names of the classes."""
        return list(self.dataset.class_names)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        label: Any = int(self.dataset.y[operator.index(index)])
        picture = self.dataset.X[index]
        if self.target_transform is not None:
            label = self.target_transform(label)
        if self.transform is None:
            from PIL import Image

            return Image.fromarray(picture), label
        return self.transform(picture), label

    def __repr__(self) -> str:
        part = "train" if self.train else "test"
        return f"{type(self).__name__}({part}, {len(self)} images {self.dataset.X.shape[1:]})"


class KMNIST(MNIST):
    """Cursive Japanese characters, in IDX files as those of `MNIST`: ``root/KMNIST/raw``."""


class FashionMNIST(MNIST):
    """Fashion-MNIST, the book's data: grey images of ten kinds of clothing.

    Parameters
    ----------
    root : path, optional
        Where the four files are looked for first; `csoftmax.fashion_mnist` says where else.
    train, transform, target_transform
        As in `MNIST`.
    download : bool
        Whether the data may be downloaded where they are not found.

    Raises
    ------
    DataNotFoundError
        If the data are nowhere and cannot be downloaded, or may not.

    Examples
    --------
    >>> from csoftmax.d2l import torchvision, transforms
    >>> mnist_train = torchvision.datasets.FashionMNIST(
    ...     root="../data", train=True, transform=transforms.ToTensor(), download=True
    ... )  # doctest: +SKIP
    >>> len(mnist_train), mnist_train[0][0].shape  # doctest: +SKIP
    (60000, (1, 28, 28))
    """

    def _parts(self, folder: Path | None, download: bool) -> tuple[Dataset, Dataset]:
        if folder is not None:
            try:
                return fashion_mnist(folder)
            except DataNotFoundError:
                pass  # the book's "../data" is filled by the download, which has its own place here
        if not download and not any(place.found for place in dataset_locations()[:-1]):
            raise DataNotFoundError(
                f"Fashion-MNIST is neither in root {folder} nor elsewhere: pass download=True, or "
                "see csoftmax.fashion_mnist for the places"
            )
        return fashion_mnist()


class Pictures:
    """The pictures of a data set after some steps, made when they are asked for.

    It stands for an array (n, ...): a minibatch is indexed out of it, and `numpy.asarray` makes all
    pictures. `same_each_time` tells whether csoftmax knows that the steps make the same ones again.
    """

    def __init__(self, images: Array, steps: list[Transform]) -> None:
        self._images, self._steps = images, steps
        self._all: Array | None = None
        self.same_each_time = all(is_own(step, Resize) or is_own(step, ToTensor) for step in steps)
        # one picture tells the shape of all; of no images there is none to ask
        made = self._made(images[0]) if len(images) else images
        first, self.is_of_arrays = np.asarray(made), isinstance(made, np.ndarray)
        self.shape = (len(images), *first.shape) if len(images) else images.shape
        self.dtype, self.ndim = first.dtype, len(self.shape)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, rows: Any) -> Array:
        if self._all is not None:
            kept: Array = self._all[rows]
            return kept
        images = self._images[rows]
        if images.ndim < self._images.ndim:
            return np.asarray(self._made(images))
        pictures = np.empty((len(images), *self.shape[1:]), self.dtype)
        for i, image in enumerate(images):
            picture = np.asarray(self._made(image))
            if picture.shape != self.shape[1:] or picture.dtype != self.dtype:
                raise ValueError(
                    f"transform makes a picture of shape {picture.shape} and {picture.dtype}, "
                    f"expected {self.shape[1:]} and {self.dtype} as of the first"
                )
            pictures[i] = picture
        return pictures

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        pictures = self[:]
        if self.same_each_time:
            self._all = pictures
        return np.asarray(pictures, dtype)

    def _made(self, image: Array) -> Any:
        picture: Any = image
        for step in self._steps:
            picture = step(picture)
        return picture


# ---------------------------------------------------------------- the loader


class ImageLoader(DataLoader):
    """Iterate over minibatches of tensors: X float32 (n, 1, height, width) from 0 to 1, y int64.

    Parameters
    ----------
    dataset : FashionMNIST, MNIST, KMNIST or csoftmax.Dataset
        With a `transform` to tensors, such as `ToTensor`, unless it is a `csoftmax.Dataset`; a
        batch has what `transform` makes of each picture.
    batch_size : int
        Samples per batch, at least 1; the last batch may be short.
    shuffle : bool
        Whether each epoch goes through the samples in a new random order.
    num_workers : int
        Taken, and not used: batches are cut from memory, there are no reader processes.

    Raises
    ------
    TypeError, ValueError
        A data set of another kind, with an item of its own or without a transform to tensors; a
        batch_size below 1; pictures that a transform makes of several shapes or dtypes; labels that
        are no integers of 0 or more.

    Notes
    -----
    D2L section 3.5. The tensor library has it as ``torch.utils.data.DataLoader``. Orders come from
    NumPy's global generator, which ``torch.manual_seed`` sets.

    Examples
    --------
    >>> import csoftmax as cs
    >>> from csoftmax.d2l import data
    >>> train, test = cs.fashion_mnist_sample()
    >>> X, y = next(iter(data.DataLoader(train, batch_size=18, shuffle=True, num_workers=4)))
    >>> X.shape, X.dtype, y.shape, y.dtype
    ((18, 1, 28, 28), dtype('float32'), (18,), dtype('int64'))
    """

    def __init__(
        self,
        dataset: MNIST | Dataset,
        batch_size: int = 1,
        shuffle: bool = False,
        *,
        num_workers: int = 0,
    ) -> None:
        if not isinstance(dataset, (MNIST, Dataset)):
            raise TypeError(
                f"dataset is a {type(dataset).__name__}, expected one of torchvision.datasets or a "
                "csoftmax.Dataset"
            )
        stored = dataset if isinstance(dataset, Dataset) else dataset.dataset
        super().__init__(
            stored.X, stored.y, batch_size, shuffle=shuffle, scale=stored.scale,
            class_names=stored.class_names, feature_names=stored.feature_names,
            recipe=stored.recipe,
        )  # fmt: skip
        if isinstance(dataset, MNIST):
            self._take(dataset)

    def _take(self, dataset: MNIST) -> None:
        """Take what the data set does to pictures and labels."""
        for name in ("__getitem__", "__len__"):
            if getattr(type(dataset), name) is not getattr(MNIST, name):
                raise TypeError(
                    f"dataset is a {type(dataset).__name__} with its own {name}, which a loader "
                    "does not call: expected what it does in transform or target_transform"
                )
        steps = [] if dataset.transform is None else steps_of(dataset.transform)
        if steps and is_own(steps[-1], ToTensor) and all(is_own(s, Resize) for s in steps[:-1]):
            steps.pop()  # X stays bytes, and the scale makes the numbers
            if steps and cast(Resize, steps[0]).keeps(*self.X.shape[1:]):
                steps.pop(0)
            if steps:
                self.X = Pictures(self.X, steps)
        else:
            self.scale = 1.0
            pictures = Pictures(self.X, steps)
            if not steps or not pictures.is_of_arrays:
                raise TypeError(
                    "dataset has pictures, expected tensors: give it "
                    "transform=transforms.ToTensor()"
                )
            self.X = pictures
        if dataset.target_transform is not None:
            labels = [dataset.target_transform(label) for label in self.y.tolist()]
            self.y, self.class_names = Dataset(dataset.dataset.X, labels).y, ()  # type: ignore[arg-type]

    def epoch_order(self) -> NDArray[np.int64] | None:
        """Draw the order of the samples in the next epoch, as ``torch.manual_seed`` says."""
        if self.shuffle:
            self._random = np.random.default_rng(np.random.randint(2**31))
        return super().epoch_order()

    def _batches(self, order: NDArray[np.int64] | None) -> Iterator[tuple[Any, Any]]:
        if not isinstance(self.X, Pictures) or self.X.same_each_time:
            yield from super()._batches(order)
            return
        # what the reader's steps make is right as it is, of any shape and dtype
        for batch in blocks(len(self.X), self.batch_size):
            rows = batch if order is None else order[batch]
            yield self.X[rows], self.y[rows].copy()

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return ((from_numpy(X), from_numpy(y)) for X, y in super().__iter__())
