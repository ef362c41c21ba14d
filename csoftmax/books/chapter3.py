"""The loops of the book's second edition, chapter 3: training, evaluation, prediction.

Where compiled code can do what a loop would, on a `SoftmaxRegression` or on the concise net of
section 3.7, it does.
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
from csoftmax.autograd import no_grad
from csoftmax.books import fused, nn
from csoftmax.books.fashion import get_fashion_mnist_labels
from csoftmax.books.optim import Optimizer
from csoftmax.books.tools import Accumulator, accuracy
from csoftmax.core.checks import check_positive
from csoftmax.core.names import class_order, reordered
from csoftmax.data import DataLoader
from csoftmax.data.sets.fashion import CLASS_NAMES as FASHION_MNIST_NAMES
from csoftmax.draw import Animator, show_images
from csoftmax.evaluation import evaluate
from csoftmax.functional import cross_entropy
from csoftmax.labelled import check_same_images
from csoftmax.model import SoftmaxRegression

Array = NDArray[Any]
Net: TypeAlias = "Callable[[Array], Array] | SoftmaxRegression"
Loss: TypeAlias = "Callable[[Array, Array], Array]"
Batches: TypeAlias = "Iterable[tuple[Array, Array]]"
Updater: TypeAlias = "Callable[[int], object] | Optimizer | training.SGD"

fused.remember(nn.CrossEntropyLoss, "reduction")


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
        return evaluate(net, data_iter).accuracy
    if isinstance(net, nn.Module):
        net.eval()
    metric = Accumulator(2)  # correct predictions, predictions
    with no_grad():
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
        return evaluate(net, data_iter).loss
    metric = Accumulator(2)  # sum of losses, samples
    with no_grad():
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
    updater : callable, SGD, or optimizer
        ``updater(batch_size)`` applies the gradients of the batch's summed loss, and zeroes them.
        A `SoftmaxRegression` goes with a `csoftmax.SGD`: the epoch is then one call into compiled
        code. An optimizer, with ``zero_grad()`` and ``step()``, goes by those of the mean loss;
        for section 3.7's net, loss and optimizer as they are, compiled code does it.

    Raises
    ------
    TypeError
        A net and an updater that do not go together.
    RuntimeError
        A loss that was not computed from Parameters by operations that are recorded.
    ValueError
        No batches; with an optimizer, a loss that is not one number for each sample.

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
    if not callable(updater) and not _is_optimizer(updater):
        raise TypeError(
            f"updater is a {type(updater).__name__}, expected a function of the batch size, or an "
            "optimizer with zero_grad and step"
        )
    if isinstance(net, nn.Module):
        net.train()
    if (of_epoch := _fused_epoch(net, train_iter, loss, updater)) is not None:
        return of_epoch
    metric = Accumulator(3)  # sum of losses, correct predictions, samples
    for X, y in train_iter:
        y_hat = net(X)
        l = loss(y_hat, y)  # noqa: E741 (the book's name)
        _step(l, updater, len(X))
        metric.add(np.asarray(l).sum(dtype=np.float64), accuracy(y_hat, y), np.size(y))
    if metric[2] == 0:
        raise ValueError("train_iter has no batches, expected at least one")
    return metric[0] / metric[2], metric[1] / metric[2]


def _fused_epoch(net: Any, train_iter: Any, loss: Any, updater: Any) -> tuple[float, float] | None:
    """Run section 3.7's epoch in compiled code, if all that it is made of is csoftmax's own."""
    if fused.replaced(loss, nn.CrossEntropyLoss) or loss.reduction != "none":
        return None
    layer = fused.layer_of(net)
    lr = None if layer is None else fused.rate_of(updater, layer)
    if layer is None or lr is None or not fused.reads(train_iter) or not len(train_iter.y):
        return None
    total, n_correct = fused.train(layer, lr, train_iter, train_iter.epoch_order())
    return total / len(train_iter.y), n_correct / len(train_iter.y)


def _is_optimizer(updater: object) -> bool:
    return hasattr(updater, "zero_grad") and hasattr(updater, "step")


def _step(l: Any, updater: Any, batch_size: int) -> None:  # noqa: E741
    """Go back from the losses of a batch, and update."""
    if not hasattr(l, "backward"):
        raise RuntimeError(
            f"loss(net(X), y) is a {type(l).__name__} without a backward: compute it from "
            "csoftmax.Parameters"
        )
    if not _is_optimizer(updater):
        l.sum().backward()
        updater(batch_size)
        return
    if np.ndim(l) == 0:
        raise ValueError(
            "loss(net(X), y) is one number, expected one for each sample: "
            'CrossEntropyLoss(reduction="none")'
        )
    updater.zero_grad()
    l.mean().backward()
    updater.step()


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
    with no_grad():
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
