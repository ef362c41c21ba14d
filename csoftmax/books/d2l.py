"""The names of *Dive into Deep Learning*, chapter 3, softmax regression: as written in the book.

The book's program runs with csoftmax in the place of the tensor library (`cs.Parameter`,
`cs.linear`, `cs.softmax`); sections are those of the book's first edition, "Softmax Regression",
"The Image Classification Dataset" and "Implementation of Softmax Regression from Scratch". Given
a `SoftmaxRegression` and an `SGD`, `train_ch3` trains in compiled code instead.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from csoftmax import training
from csoftmax.autograd import Tensor as Recorded
from csoftmax.books.tools import Accumulator, Timer, accuracy, sgd
from csoftmax.core.checks import check_positive
from csoftmax.core.names import class_order, reordered
from csoftmax.data import DataLoader, Dataset, fashion_mnist
from csoftmax.data.sets.fashion import CLASS_NAMES as FASHION_MNIST_NAMES
from csoftmax.draw import Animator, show_images
from csoftmax.functional import cross_entropy
from csoftmax.labelled import check_same_images
from csoftmax.model import SoftmaxRegression

Array = NDArray[Any]
Net: TypeAlias = "Callable[[Array], Array] | SoftmaxRegression"
Loss: TypeAlias = "Callable[[Array, Array], Array]"
Batches: TypeAlias = "Iterable[tuple[Array, Array]]"
Updater: TypeAlias = "Callable[[int], object] | training.SGD"

__all__ = [
    "Accumulator",
    "Animator",
    "Timer",
    "accuracy",
    "cross_entropy",
    "evaluate_accuracy",
    "evaluate_loss",
    "get_dataloader_workers",
    "get_fashion_mnist_labels",
    "load_data_fashion_mnist",
    "predict_ch3",
    "sgd",
    "show_images",
    "train_ch3",
    "train_epoch_ch3",
]

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
) -> tuple[DataLoader, DataLoader]:
    """Return the loaders of Fashion-MNIST's train and test images, the first shuffled.

    A batch is ``X`` float32 (batch_size, 1, 28, 28) from 0 to 1, and ``y`` (batch_size,).

    Parameters
    ----------
    batch_size : int
        Samples per batch, at least 1.
    resize : int or (height, width), optional
        Resize the images to so many pixels (bilinear); one number makes squares.

    Raises
    ------
    DataNotFoundError
        If the data are neither installed nor to be downloaded; says how to get them.

    Examples
    --------
    >>> from csoftmax import d2l
    >>> train_iter, test_iter = d2l.load_data_fashion_mnist(256)  # doctest: +SKIP
    """
    if resize is not None:
        sides = resize if isinstance(resize, tuple) else (resize, resize)
        height, width = (check_positive(side, "resize") for side in sides)
    train, test = fashion_mnist()
    if resize is not None:
        train, test = _resized(train, height, width), _resized(test, height, width)
    return (
        DataLoader.from_dataset(train, batch_size, shuffle=True),
        DataLoader.from_dataset(test, batch_size),
    )


def _resized(dataset: Dataset, height: int, width: int) -> Dataset:
    from PIL import Image

    images = np.empty((len(dataset), height, width), np.uint8)
    for i, image in enumerate(dataset.X):
        resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
        images[i] = np.asarray(resized)
    return Dataset(images, dataset.y, dataset.scale, dataset.class_names, dataset.name)


def evaluate_accuracy(net: Net, data_iter: Batches) -> float:
    """Return the share of correct predictions of a model on a data set.

    Parameters
    ----------
    net : callable or SoftmaxRegression
        Maps X to scores (n_samples, n_classes). A `SoftmaxRegression` on a `DataLoader` is
        evaluated in one compiled pass.
    data_iter : iterable of (X, y)
        Batches.

    Examples
    --------
    >>> import numpy as np
    >>> from csoftmax import d2l
    >>> d2l.evaluate_accuracy(lambda X: X, [(np.eye(3), np.array([0, 1, 1]))])
    0.6666666666666666
    """
    if isinstance(net, SoftmaxRegression) and isinstance(data_iter, DataLoader):
        return training.evaluate(net, data_iter).accuracy
    metric = Accumulator(2)  # correct predictions, predictions
    for X, y in data_iter:
        metric.add(accuracy(net(X), y), np.size(y))
    return metric[0] / metric[1] if metric[1] else math.nan


def evaluate_loss(net: Net, data_iter: Batches, loss: Loss) -> float:
    """Return the mean loss of a model on a data set, in nats.

    Parameters
    ----------
    net : callable or SoftmaxRegression
        Maps X to what `loss` takes. With a `DataLoader` and `cross_entropy`, a `SoftmaxRegression`
        is evaluated in one compiled pass.
    data_iter : iterable of (X, y)
        Batches.
    loss : callable
        ``loss(net(X), y)``, one number per sample.

    Examples
    --------
    >>> import csoftmax as cs
    >>> from csoftmax import d2l
    >>> test_iter = cs.DataLoader.from_dataset(cs.fashion_mnist_sample()[1], 256)
    >>> net = cs.SoftmaxRegression(784, 10, seed=0)
    >>> round(d2l.evaluate_loss(net, test_iter, d2l.cross_entropy), 1)  # log(10)
    2.3
    """
    if (
        isinstance(net, SoftmaxRegression)
        and isinstance(data_iter, DataLoader)
        and loss is cross_entropy
    ):
        return training.evaluate(net, data_iter).loss
    metric = Accumulator(2)  # sum of losses, samples
    for X, y in _numbered_as(net, data_iter, "data_iter"):
        losses = np.asarray(loss(net(X), y))
        metric.add(losses.sum(dtype=np.float64), losses.size)
    return metric[0] / metric[1] if metric[1] else math.nan


def train_epoch_ch3(
    net: Net, train_iter: Batches, loss: Loss, updater: Updater
) -> tuple[float, float]:
    """Train for one epoch; return mean loss (nats) and accuracy over the epoch, as in the book.

    Parameters
    ----------
    net : callable, or SoftmaxRegression
        The model.
    train_iter : iterable of (X, y)
        Batches; a `DataLoader` for the compiled path.
    loss : callable
        ``loss(y_hat, y)``, recorded for backward.
    updater : callable, or SGD
        ``updater(batch_size)`` applies the gradients; a `SoftmaxRegression` goes with an `SGD`,
        and the epoch is then one call into compiled code.

    Raises
    ------
    TypeError
        A net and an updater that do not go together.
    RuntimeError
        A loss that was not computed from Parameters by the operations that are recorded.

    Examples
    --------
    >>> import csoftmax as cs
    >>> from csoftmax import d2l
    >>> train_iter = cs.DataLoader.from_dataset(cs.fashion_mnist_sample()[0], 256)
    >>> net, updater = cs.SoftmaxRegression(784, 10, seed=0), cs.SGD(lr=0.1)
    >>> loss, accuracy = d2l.train_epoch_ch3(net, train_iter, d2l.cross_entropy, updater)
    >>> loss < 2, accuracy > 0.4
    (True, True)
    """
    if isinstance(net, SoftmaxRegression) or isinstance(updater, training.SGD):
        return _compiled_epoch(net, train_iter, loss, updater)
    metric = Accumulator(3)  # sum of losses, correct predictions, samples
    for X, y in train_iter:
        y_hat = net(X)
        l = loss(y_hat, y)  # noqa: E741 (the book's name)
        if not isinstance(l, Recorded):
            raise RuntimeError(
                f"loss(net(X), y) is a {type(l).__name__} without a backward: compute it from "
                "csoftmax.Parameters by linear, softmax and cross_entropy alone"
            )
        l.sum().backward()
        updater(len(X))
        metric.add(np.asarray(l).sum(dtype=np.float64), accuracy(y_hat, y), np.size(y))
    if metric[2] == 0:
        raise ValueError("train_iter has no batches, expected at least one")
    return metric[0] / metric[2], metric[1] / metric[2]


def _compiled_epoch(net: Any, train_iter: Any, loss: Any, updater: Any) -> tuple[float, float]:
    if not isinstance(net, SoftmaxRegression) or not isinstance(updater, training.SGD):
        raise TypeError(
            f"net is a {type(net).__name__} and updater a {type(updater).__name__}, expected a "
            "SoftmaxRegression and an SGD, or a function of Parameters and an updater(batch_size)"
        )
    if not isinstance(train_iter, DataLoader):
        raise TypeError(f"train_iter is a {type(train_iter).__name__}, expected a DataLoader")
    if loss is not cross_entropy:
        raise TypeError("loss is another than d2l.cross_entropy, on which SoftmaxRegression trains")
    epoch = training.train_epoch(net, train_iter, updater)
    return epoch.loss, epoch.accuracy


def train_ch3(
    net: Net,
    train_iter: Batches,
    test_iter: Batches,
    loss: Loss,
    num_epochs: int,
    updater: Updater,
) -> None:
    """Train a model, drawing loss and accuracy epoch by epoch.

    Where the book ends with assertions (loss below 0.5, accuracies above 0.7), this warns.

    Parameters
    ----------
    net, train_iter, loss, updater
        As in `train_epoch_ch3`.
    test_iter : iterable of (X, y)
        Batches to evaluate on after each epoch. Where both are a `DataLoader` with class names,
        the classes go by these.
    num_epochs : int
        At least 1.

    Examples
    --------
    >>> import csoftmax as cs
    >>> from csoftmax import d2l
    >>> train, test = cs.fashion_mnist_sample()
    >>> train_iter = cs.DataLoader.from_dataset(train, 64, shuffle=True, seed=0)
    >>> test_iter = cs.DataLoader.from_dataset(test, 256)
    >>> net = cs.SoftmaxRegression(784, 10, seed=0)
    >>> d2l.train_ch3(net, train_iter, test_iter, d2l.cross_entropy, 10, cs.SGD(lr=0.1))
    >>> d2l.evaluate_accuracy(net, test_iter) > 0.75
    True
    """
    num_epochs = check_positive(num_epochs, "num_epochs")
    if isinstance(train_iter, DataLoader) and isinstance(test_iter, DataLoader):
        check_same_images(train_iter, "train_iter", test_iter, "test_iter")
    animator = Animator(
        xlabel="epoch",
        xlim=[1, num_epochs],
        ylim=[0.3, 0.9],
        legend=["train loss", "train acc", "test acc"],
    )
    test_iter = _numbered_as(train_iter, test_iter, "test_iter")
    for epoch in range(num_epochs):
        train_loss, train_accuracy = train_epoch_ch3(net, train_iter, loss, updater)
        test_accuracy = evaluate_accuracy(net, test_iter)
        animator.add(epoch + 1, (train_loss, train_accuracy, test_accuracy))
    if not train_loss < 0.5:
        warnings.warn(f"train loss is {train_loss:.3f}, expected below 0.5", stacklevel=2)
    for name, value in (("train", train_accuracy), ("test", test_accuracy)):
        if not 0.7 < value <= 1:
            warnings.warn(f"{name} accuracy is {value:.3f}, expected above 0.7", stacklevel=2)


def predict_ch3(net: Net, test_iter: Batches, n: int = 6) -> NDArray[np.int64]:
    """Draw the first `n` test images with their true and predicted labels.

    Parameters
    ----------
    net : callable or SoftmaxRegression
        Maps X to scores.
    test_iter : iterable of (X, y)
        Batches of images. The labels are the class names of a `DataLoader` that has some, and
        Fashion-MNIST's otherwise.
    n : int
        How many to show.

    Returns
    -------
    ndarray (n,)
        The predicted labels of the images shown.

    Examples
    --------
    >>> import csoftmax as cs
    >>> from csoftmax import d2l
    >>> test_iter = cs.DataLoader.from_dataset(cs.fashion_mnist_sample()[1], 256)
    >>> len(d2l.predict_ch3(cs.SoftmaxRegression(784, 10, seed=0), test_iter))
    6
    """
    n = check_positive(n, "n")
    test_iter = _numbered_as(net, test_iter, "test_iter")
    X, y = next(iter(test_iter), (None, None))
    if X is None or y is None:
        raise ValueError("test_iter has no batches, expected at least one")
    if X.ndim < 3:
        raise ValueError(f"X has shape {X.shape}, expected images such as (n, 1, 28, 28)")
    X, y = X[:n], y[:n]
    predicted: NDArray[np.int64] = np.asarray(net(X)).argmax(axis=1)
    trues, preds = (_as_text(labels, test_iter, net) for labels in (y, predicted))
    titles = [true + "\n" + pred for true, pred in zip(trues, preds, strict=True)]
    show_images(np.asarray(X).reshape(len(X), *X.shape[-2:]), 1, len(X), titles=titles)
    return predicted


def _numbered_as(wanted: Any, data_iter: Batches, name: str) -> Batches:
    """Return batches whose labels are numbers of the classes that a model or a loader has.

    Where both have class names, classes go by these, as in `csoftmax.train`.
    """
    if not isinstance(wanted, (SoftmaxRegression, DataLoader)):
        return data_iter
    if not isinstance(data_iter, DataLoader) or not data_iter.class_names:
        return data_iter
    names = wanted._class_names if isinstance(wanted, SoftmaxRegression) else wanted.class_names
    if isinstance(wanted, DataLoader) and not names:
        return data_iter
    n_classes = wanted.n_classes if isinstance(wanted, SoftmaxRegression) else len(names)
    order = class_order(data_iter.class_names, names, n_classes, name)
    if order is None:
        return data_iter
    names = names or tuple(map(str, range(n_classes)))
    numbered = copy.copy(data_iter)  # draws its orders from the same generator
    numbered.y = reordered(data_iter.y, order, data_iter.class_names, names, name)
    numbered.class_names = names
    return numbered


def _as_text(labels: Array, data_iter: Batches, net: Net) -> list[str]:
    """Return the names of labels, of the data or else the model: the book's for Fashion-MNIST."""
    names = getattr(data_iter, "class_names", ()) or getattr(net, "_class_names", ())
    if not names or names == FASHION_MNIST_NAMES:
        return get_fashion_mnist_labels(labels)
    return [names[k] for k in labels.tolist()]
