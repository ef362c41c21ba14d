"""Models as the book's current edition has them: sections 3.2, 4.3 and 4.5."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from csoftmax.books import functional, nn, optim
from csoftmax.books.board import ProgressBoard
from csoftmax.books.objects import HyperParameters

__all__ = ["SGD", "Classifier", "Module", "SoftmaxRegression"]


class Module(nn.Module, HyperParameters):
    """The base class of models: what is computed, its loss, and who updates it.

    Parameters
    ----------
    plot_train_per_epoch, plot_valid_per_epoch : int
        How many points of an epoch the board shows.

    Attributes
    ----------
    board : ProgressBoard
        Where `plot` draws.
    trainer : Trainer
        Whose `fit` it was given to last.

    Examples
    --------
    >>> import numpy as np
    >>> from csoftmax import d2l1 as d2l
    >>> class Half(d2l.Module):
    ...     def forward(self, X):
    ...         return X / 2
    >>> Half()(np.float32([2, 4]))
    array([1., 2.], dtype=float32)

    Notes
    -----
    D2L current edition section 3.2.2.
    """

    lr: float
    net: nn.Module
    trainer: Any

    def __init__(self, plot_train_per_epoch: int = 2, plot_valid_per_epoch: int = 1) -> None:
        self.plot_train_per_epoch = plot_train_per_epoch
        self.plot_valid_per_epoch = plot_valid_per_epoch
        self.save_hyperparameters()
        self.board = ProgressBoard()

    def loss(self, y_hat: Any, y: Any) -> Any:
        """Return the loss of a batch, recorded; a subclass says which."""
        raise NotImplementedError(f"{type(self).__name__} has no loss(self, y_hat, y): define one")

    def forward(self, X: Any) -> Any:
        """Return ``self.net(X)``."""
        if not hasattr(self, "net"):
            name = type(self).__name__
            raise NotImplementedError(f"{name} has neither a net nor a forward(self, X): set one")
        return self.net(X)

    def plot(self, key: str, value: Any, train: bool) -> None:
        """Draw a point of the line ``train_key`` or ``val_key`` on the board."""
        if not hasattr(self, "trainer"):
            raise RuntimeError("the model has no trainer yet: call Trainer(...).fit(model, data)")
        trainer = self.trainer
        self.board.xlabel = "epoch"
        x = trainer.train_batch_idx / trainer.num_train_batches if train else trainer.epoch + 1
        label = f"{'train' if train else 'val'}_{key}"
        self.board.draw(x, float(np.asarray(value)), label, every_n=self.batches_a_point(train))

    def batches_a_point(self, train: bool) -> int:
        """Return how many batches a point of the board stands for."""
        n_batches = self.trainer.num_train_batches if train else self.trainer.num_val_batches
        points = self.plot_train_per_epoch if train else self.plot_valid_per_epoch
        return max(int(n_batches / points), 1)

    def training_step(self, batch: Any) -> Any:
        """Return the loss of a batch (X, ..., y), and draw it."""
        l = self.loss(self(*batch[:-1]), batch[-1])  # noqa: E741 (the book's name)
        self.plot("loss", l, train=True)
        return l

    def validation_step(self, batch: Any) -> None:
        """Draw the loss of a batch (X, ..., y)."""
        self.plot("loss", self.loss(self(*batch[:-1]), batch[-1]), train=False)

    def configure_optimizers(self) -> Any:
        """Return who updates the parameters: minibatch SGD at the rate `lr`."""
        if not hasattr(self, "lr"):
            name = type(self).__name__
            raise NotImplementedError(
                f"{name} has neither an lr nor a configure_optimizers(self): set one"
            )
        return optim.SGD(self.parameters(), lr=self.lr)


class Classifier(Module):
    """The base class of models that predict classes: cross-entropy and accuracy.

    Examples
    --------
    >>> import numpy as np
    >>> from csoftmax import d2l1 as d2l
    >>> y_hat, y = np.float32([[0.1, 0.3, 0.6], [0.3, 0.2, 0.5]]), np.array([0, 2])
    >>> print(d2l.Classifier().accuracy(y_hat, y))
    0.5

    Notes
    -----
    D2L current edition section 4.3; the loss: section 4.5.
    """

    def validation_step(self, batch: Any) -> None:
        """Draw the loss and the accuracy of a batch (X, ..., y)."""
        Y_hat = self(*batch[:-1])
        self.plot("loss", self.loss(Y_hat, batch[-1]), train=False)
        self.plot("acc", self.accuracy(Y_hat, batch[-1]), train=False)

    def accuracy(self, Y_hat: Any, Y: Any, averaged: bool = True) -> Any:
        """Return the share of correct predictions.

        Parameters
        ----------
        Y_hat : array (..., n_classes)
            Scores, of which the largest is the prediction.
        Y : array of integers (...)
            True labels.
        averaged : bool
            False: 1 or 0 for each sample, in float32.
        """
        Y_hat, Y = Y_hat.reshape(-1, Y_hat.shape[-1]), Y.reshape(-1)
        if len(Y_hat) != len(Y):
            raise ValueError(f"Y_hat predicts {len(Y_hat)} labels but Y has {len(Y)}")
        right = (Y_hat.argmax(axis=1) == Y).astype(np.float32)
        return right.mean() if averaged else right

    def loss(self, Y_hat: Any, Y: Any, averaged: bool = True) -> Any:
        """Return the mean cross-entropy of the softmax of logits, in nats, recorded.

        Parameters
        ----------
        Y_hat : array (..., n_classes)
            Logits.
        Y : array of integers (...)
            True labels.
        averaged : bool
            False: the loss of each sample.
        """
        return functional.cross_entropy(
            Y_hat.reshape(-1, Y_hat.shape[-1]),
            Y.reshape(-1),
            reduction="mean" if averaged else "none",
        )


class SoftmaxRegression(Classifier):
    """Softmax regression in one layer: logits of flattened images.

    Parameters
    ----------
    num_outputs : int
        How many classes there are.
    lr : float
        Learning rate.

    Examples
    --------
    >>> import numpy as np
    >>> from csoftmax import d2l1 as d2l
    >>> d2l.SoftmaxRegression(num_outputs=10, lr=0.1)(np.zeros((2, 1, 28, 28))).shape
    (2, 10)

    Notes
    -----
    D2L current edition section 4.5. `csoftmax.SoftmaxRegression` is another class.
    """

    def __init__(self, num_outputs: int, lr: float) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Flatten(), nn.LazyLinear(num_outputs))


class SGD(optim.SGD, HyperParameters):
    """Minibatch stochastic gradient descent: ``param -= lr * param.grad``.

    Parameters
    ----------
    params : iterable of Parameter
        Updated in place.
    lr : float
        Learning rate, > 0.

    Examples
    --------
    >>> import numpy as np, csoftmax as cs
    >>> from csoftmax import d2l1 as d2l
    >>> b = cs.Parameter(np.zeros(2))
    >>> cs.cross_entropy(cs.softmax(cs.linear(np.zeros((1, 1)), [[0, 0]], b)), [0]).sum().backward()
    >>> d2l.SGD([b], lr=0.1).step()
    >>> print(b)
    [ 0.05 -0.05]

    Notes
    -----
    D2L current edition section 3.4.
    """

    def __init__(self, params: Iterable[Any], lr: float) -> None:
        super().__init__(params, lr)
        params = self.params  # `params` may be a generator, which is used up now
        self.save_hyperparameters()
