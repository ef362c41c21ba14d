"""The trainer of the book's current edition: step by step, or by the fused path."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from csoftmax.autograd import no_grad
from csoftmax.books import fused, nn
from csoftmax.books.board import ProgressBoard
from csoftmax.books.modules import SoftmaxRegression
from csoftmax.books.objects import HyperParameters
from csoftmax.core.checks import check_not_negative, check_positive

__all__ = ["Trainer"]

NOTES = {True: "fused path: compiled code", False: "step by step"}


class Trainer(HyperParameters):
    """What trains a model on data, and draws how it goes.

    Where no step was replaced, the fused path trains: a `d2l1.SoftmaxRegression` as it is, on a
    loader of csoftmax. Compiled code then runs all the batches that one point of the board stands
    for in one call, with the same orders, weights and points to rounding; it keeps no gradients.

    Parameters
    ----------
    max_epochs : int
        How often to go through the data, at least 1.
    num_gpus : int
        0: csoftmax runs on CPUs.
    gradient_clip_val : float
        The gradients of all parameters together are scaled down to this Euclidean norm where they
        are longer; 0: never.

    Attributes
    ----------
    path : str
        "fused", or "step by step: " and why; the board says it too. Set by `fit`.
    model, optim, train_dataloader, val_dataloader
        What `fit` works with.
    epoch, train_batch_idx, val_batch_idx, num_train_batches, num_val_batches : int
        Where it is, and how far it goes.

    Raises
    ------
    TypeError, ValueError
        Arguments out of these ranges, or data without a batch to train on.

    Examples
    --------
    >>> import csoftmax as cs
    >>> from csoftmax import d2l1 as d2l
    >>> class Sample(d2l.DataModule):
    ...     def get_dataloader(self, train):
    ...         images = cs.fashion_mnist_sample()[0 if train else 1]
    ...         return cs.DataLoader.from_dataset(images, 64, shuffle=train)
    >>> model, trainer = d2l.SoftmaxRegression(num_outputs=10, lr=0.1), d2l.Trainer(max_epochs=3)
    >>> trainer.fit(model, Sample())
    >>> trainer.path, [point.x for point in model.board.data["val_acc"]]
    ('fused', [1.0, 2.0, 3.0])

    Notes
    -----
    D2L current edition section 3.2.4; `fit_epoch` section 3.4.
    """

    max_epochs: int
    gradient_clip_val: float

    def __init__(self, max_epochs: int, num_gpus: int = 0, gradient_clip_val: float = 0) -> None:
        check_positive(max_epochs, "max_epochs")
        check_not_negative(gradient_clip_val, "gradient_clip_val")
        if num_gpus != 0:
            raise ValueError(f"num_gpus is {num_gpus}, expected 0: csoftmax runs on CPUs")
        self.save_hyperparameters()

    def prepare_data(self, data: Any) -> None:
        """Take the loaders of `data`."""
        self.train_dataloader = data.train_dataloader()
        self.val_dataloader = data.val_dataloader()
        self.num_train_batches = len(self.train_dataloader)
        self.num_val_batches = 0 if self.val_dataloader is None else len(self.val_dataloader)
        if self.num_train_batches == 0:
            raise ValueError("data has no batch to train on, expected at least one")

    def prepare_model(self, model: Any) -> None:
        """Take the model, and give it this trainer."""
        if not hasattr(model, "board"):
            name = type(model).__name__
            raise AttributeError(f"{name} has no board: call super().__init__() in its __init__")
        model.trainer = self
        model.board.xlim = [0, self.max_epochs]
        self.model = model

    def prepare_batch(self, batch: Any) -> Any:
        """Return a batch as the model takes it: as it is."""
        return batch

    def fit(self, model: Any, data: Any) -> None:
        """Train a model.

        Parameters
        ----------
        model : Module
            Trained in place; its `board` shows how it goes.
        data : DataModule
            Where the batches come from.
        """
        self.prepare_data(data)
        self.prepare_model(model)
        self.optim = model.configure_optimizers()
        self.epoch = self.train_batch_idx = self.val_batch_idx = 0
        why = self._stepwise_because()
        self.path = f"step by step: {why}" if why else "fused"
        fit_epoch: Callable[[], object] = self.fit_epoch if why else self._fit_fused_epoch
        model.board.note = NOTES[not why]
        for epoch in range(self.max_epochs):
            self.epoch = epoch
            fit_epoch()
        if isinstance(model.board, ProgressBoard):
            model.board.flush()

    def fit_epoch(self) -> None:
        """Train for one epoch step by step, then validate."""
        self.model.train()
        for batch in self.train_dataloader:
            loss = self.model.training_step(self.prepare_batch(batch))
            if not hasattr(loss, "backward"):
                raise RuntimeError(
                    f"training_step returned a {type(loss).__name__} without a backward, expected "
                    "a loss computed from Parameters"
                )
            self.optim.zero_grad()
            loss.backward()
            with no_grad():
                if self.gradient_clip_val > 0:
                    self.clip_gradients(self.gradient_clip_val, self.model)
                self.optim.step()
            self.train_batch_idx += 1
        if self.val_dataloader is None:
            return
        self.model.eval()
        for batch in self.val_dataloader:
            with no_grad():
                self.model.validation_step(self.prepare_batch(batch))
            self.val_batch_idx += 1

    def clip_gradients(self, grad_clip_val: float, model: Any) -> None:
        """Scale the gradients down to the norm `grad_clip_val`, all together, where it is more."""
        gradients = [np.asarray(p.grad) for p in model.parameters() if p.grad is not None]
        norm = math.sqrt(sum(float(np.sum(np.square(g, dtype=np.float64))) for g in gradients))
        if norm > grad_clip_val:
            for gradient in gradients:
                gradient *= gradient.dtype.type(grad_clip_val / norm)

    def _stepwise_because(self) -> str:
        """Return what keeps this training from the fused path; "" if nothing does."""
        model = self.model
        other = (
            # of the reader's own configure_optimizers, what it returned counts: see rate_of below
            fused.replaced(model, SoftmaxRegression, but=("configure_optimizers",))
            or fused.replaced(self, Trainer)
            or fused.replaced(model.board, ProgressBoard)
            or fused.replaced_function()
        )
        if other:
            return f"{other} is the reader's"
        if self.gradient_clip_val > 0:
            return "gradients are clipped"
        layer = fused.layer_of(model.net)
        if layer is None or fused.rate_of(self.optim, layer) is None:
            return "the net or the optimizer is the reader's"
        loaders = [self.train_dataloader, self.val_dataloader]
        if not all(loader is None or fused.reads(loader) for loader in loaders):
            return "the batches are the reader's"
        return ""

    def _fit_fused_epoch(self) -> None:
        layer, board, loader = self.model.net[1], self.model.board, self.train_dataloader
        board.xlabel = "epoch"
        self.model.train()
        order, every_n = _order(loader), self.model.batches_a_point(train=True)
        for n, rows in self._stretches(loader, every_n, "train_loss"):
            loss, _ = fused.train(layer, self.optim.lr, loader, order[rows])
            positions = n * self.train_batch_idx + n * (n - 1) / 2  # their sum
            mean = loss / (rows.stop - rows.start)
            board.draw_sum(n, positions / len(loader), n * mean, "train_loss", every_n)
            self.train_batch_idx += n
        if self.val_dataloader is not None:
            self._validate_fused(layer)

    def _validate_fused(self, layer: nn.Linear) -> None:
        board, loader = self.model.board, self.val_dataloader
        self.model.eval()
        order, every_n = _order(loader), self.model.batches_a_point(train=False)
        for n, rows in self._stretches(loader, every_n, "val_loss"):
            loss, n_correct = fused.evaluate(layer, loader, order[rows])
            share = n / (rows.stop - rows.start)
            board.draw_sum(n, n * (self.epoch + 1), share * loss, "val_loss", every_n)
            board.draw_sum(n, n * (self.epoch + 1), share * n_correct, "val_acc", every_n)
            self.val_batch_idx += n

    def _stretches(self, loader: Any, every_n: int, label: str) -> Iterator[tuple[int, slice]]:
        """Yield batches of one size up to the next point of the board: how many, their rows.

        The board draws means of the batches' means, so a short last batch is one on its own.
        """
        n_rows, size = len(loader.y), loader.batch_size
        first = 0
        while first < n_rows:
            full = (n_rows - first) // size
            n = min(full, self.model.board.room(label, every_n)) or 1
            end = min(first + n * size, n_rows)
            yield n, slice(first, end)
            first = end


def _order(loader: Any) -> Any:
    order = loader.epoch_order()
    return np.arange(len(loader.y)) if order is None else order


fused.remember(ProgressBoard, "data", "display", "note", "xlabel", "xlim")
fused.remember(SoftmaxRegression, "board", "net", "plot_train_per_epoch", "plot_valid_per_epoch")
fused.remember(
    Trainer, "epoch", "gradient_clip_val", "max_epochs", "model", "num_train_batches",
    "num_val_batches", "optim", "train_batch_idx", "train_dataloader", "val_batch_idx",
    "val_dataloader",
)  # fmt: skip
