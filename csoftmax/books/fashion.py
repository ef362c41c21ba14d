"""Fashion-MNIST as the book loads it, and the names that it gives to the classes."""

from __future__ import annotations

from collections.abc import Iterable

from csoftmax.books.images import FashionMNIST, ImageLoader
from csoftmax.books.transforms import Compose, Resize, ToTensor, Transform, check_size

LABELS = (
    "t-shirt", "trouser", "pullover", "dress", "coat",
    "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip


def get_dataloader_workers() -> int:
    """Return 0: batches are cut from memory, there are no reader processes.

    The book returns 4 here, the processes that its loader uses.

    Examples
    --------
    >>> from csoftmax import d2l
    >>> d2l.get_dataloader_workers()
    0
    """
    return 0


def get_fashion_mnist_labels(labels: Iterable[int]) -> list[str]:
    """Return the English names of Fashion-MNIST labels.

    Parameters
    ----------
    labels : iterable of int
        From 0 to 9.

    Examples
    --------
    >>> from csoftmax import d2l
    >>> d2l.get_fashion_mnist_labels([0, 9])
    ['t-shirt', 'ankle boot']
    """
    found = [int(label) for label in labels]
    for label in found:
        if not 0 <= label < len(LABELS):
            raise ValueError(f"labels has {label}, expected 0..{len(LABELS) - 1}")
    return [LABELS[label] for label in found]


def load_data_fashion_mnist(
    batch_size: int, resize: int | tuple[int, int] | None = None
) -> tuple[ImageLoader, ImageLoader]:
    """Return the loaders of Fashion-MNIST's train and test images, the first shuffled.

    A batch is ``X`` float32 (batch_size, 1, 28, 28) from 0 to 1, and ``y`` (batch_size,), tensors.

    Parameters
    ----------
    batch_size : int
        Samples per batch, at least 1.
    resize : int or (height, width), optional
        Resize the images to so many pixels (bilinear), batch by batch; one number makes squares.

    Raises
    ------
    DataNotFoundError
        If the data are neither installed nor to be downloaded; says how to get them.

    Examples
    --------
    >>> from csoftmax import d2l
    >>> train_iter, test_iter = d2l.load_data_fashion_mnist(256)  # doctest: +SKIP
    """
    trans: list[Transform] = [ToTensor()]
    if resize is not None:
        trans.insert(0, Resize(check_size(resize, "resize")))
    train, test = (
        FashionMNIST(train=part, transform=Compose(trans), download=True) for part in (True, False)
    )
    return ImageLoader(train, batch_size, shuffle=True), ImageLoader(test, batch_size)
