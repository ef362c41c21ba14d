"""Data as the book's current edition has them: sections 3.2 and 4.2."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from csoftmax.books import images
from csoftmax.books.fashion import get_fashion_mnist_labels
from csoftmax.books.objects import HyperParameters
from csoftmax.books.transforms import Compose, Resize, ToTensor
from csoftmax.draw import show_images

__all__ = ["DataModule", "FashionMNIST"]


class DataModule(HyperParameters):
    """The base class of data: where its batches come from.

    Parameters
    ----------
    root : path
        The folder of the data.
    num_workers : int
        As in the book; batches are cut from memory, so there are no reader processes.

    Examples
    --------
    >>> from csoftmax import d2l1 as d2l
    >>> class Ones(d2l.DataModule):
    ...     def get_dataloader(self, train):
    ...         return [([1.0], 1)] if train else None
    >>> Ones().train_dataloader(), Ones().val_dataloader()
    ([([1.0], 1)], None)

    Notes
    -----
    D2L current edition section 3.2.3.
    """

    root: str
    num_workers: int

    def __init__(self, root: str = "../data", num_workers: int = 4) -> None:
        self.save_hyperparameters()

    def get_dataloader(self, train: bool) -> Any:
        """Return batches to train on, or else to validate on; a subclass says which."""
        name = type(self).__name__
        raise NotImplementedError(f"{name} has no get_dataloader(self, train): define one")

    def train_dataloader(self) -> Any:
        """Return the batches to train on."""
        return self.get_dataloader(train=True)

    def val_dataloader(self) -> Any:
        """Return the batches to validate on; None: no validation."""
        return self.get_dataloader(train=False)


class FashionMNIST(DataModule):
    """The images of Fashion-MNIST, in batches of tensors (batch_size, 1, height, width).

    Parameters
    ----------
    batch_size : int
        Samples per batch, at least 1.
    resize : int or (height, width)
        The size of the images; they are resized when they are asked for.

    Attributes
    ----------
    train, val : torchvision.datasets.FashionMNIST
        60,000 and 10,000 images and labels: ``train[0]`` is a pair (X, y).

    Raises
    ------
    DataNotFoundError
        If the data are neither installed nor to be downloaded; says how to get them.
    TypeError, ValueError
        Sizes that are no integers of 1 or more.

    Examples
    --------
    >>> from csoftmax import d2l1 as d2l
    >>> data = d2l.FashionMNIST(batch_size=64, resize=(32, 32))  # doctest: +SKIP
    >>> len(data.train), data.train[0][0].shape  # doctest: +SKIP
    (60000, (1, 32, 32))

    Notes
    -----
    D2L current edition section 4.2.
    """

    def __init__(self, batch_size: int = 64, resize: int | Sequence[int] = (28, 28)) -> None:
        super().__init__()
        self.batch_size, self.resize = batch_size, resize
        self.save_hyperparameters()
        transform = Compose([Resize(resize), ToTensor()])
        self.train, self.val = (
            images.FashionMNIST(self.root, train, transform, download=True)
            for train in (True, False)
        )

    def text_labels(self, indices: Iterable[int]) -> list[str]:
        """Return the English names of labels."""
        return get_fashion_mnist_labels(indices)

    def get_dataloader(self, train: bool) -> images.ImageLoader:
        """Return the batches to train on, in a new random order each epoch, or to validate on."""
        return images.ImageLoader(
            self.train if train else self.val,
            self.batch_size,
            shuffle=train,
            num_workers=self.num_workers,
        )

    def visualize(
        self, batch: Any, nrows: int = 1, ncols: int = 8, labels: Sequence[str] = ()
    ) -> None:
        """Show the images of a batch (X, y) with the names of their labels, or with `labels`."""
        X, y = batch
        show_images(X, nrows, ncols, titles=labels or self.text_labels(y))
