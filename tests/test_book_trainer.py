"""The current edition's models and trainer, step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from book_cases import N_CLASSES, Images, linear_model
from numpy.testing import assert_allclose, assert_array_equal

import csoftmax as cs
from csoftmax import d2l1 as d2l
from csoftmax.books import nn, optim


class Scratch(d2l.Classifier):
    """The chapter's model from scratch, with its own softmax, in the reader's words."""

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.W, self.b = cs.Parameter(np.zeros((6, N_CLASSES))), cs.Parameter(np.zeros(N_CLASSES))

    def forward(self, X: Any) -> Any:
        exponentials = np.exp(X.reshape(-1, 6) @ self.W + self.b)
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    def loss(self, y_hat: Any, y: Any) -> Any:
        return -np.log(y_hat[list(range(len(y_hat))), y]).mean()


def by_hand(data: Images, lr: float, epochs: int) -> tuple[Any, Any, list[float], list[Any]]:
    """W, b, the batches' losses and what validation came to, in float64 from zeros."""
    W, b, losses, validation = np.zeros((6, N_CLASSES)), np.zeros(N_CLASSES), [], []
    loader = data.train_dataloader()
    for _ in range(epochs):
        for X, y in loader:
            x = np.float64(X).reshape(len(X), 6)
            p = np.exp(x @ W + b)
            p /= p.sum(axis=1, keepdims=True)
            losses.append(-np.log(p[np.arange(len(y)), y]).mean())
            p[np.arange(len(y)), y] -= 1
            W, b = W - lr * x.T @ p / len(y), b - lr * p.mean(axis=0)
        of_batches = []
        for X, y in data.val_dataloader():
            logits = np.float64(X).reshape(len(X), 6) @ W + b
            loss = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(y)), y]
            of_batches.append((loss.mean(), (logits.argmax(axis=1) == y).mean()))
        validation.append(np.mean(of_batches, axis=0))
    return W, b, losses, validation


def test_a_model_from_scratch_trains_as_by_hand() -> None:
    model, trainer, data = Scratch(lr=0.5), d2l.Trainer(max_epochs=3), Images()
    trainer.fit(model, data)
    W, b, losses, validation = by_hand(data, 0.5, 3)
    assert_allclose(model.W, W, rtol=1e-4, atol=1e-6)
    assert_allclose(model.b, b, rtol=1e-4, atol=1e-6)
    points = model.board.data
    # 5 batches an epoch and two points: each is the mean of int(5 / 2) batches, across epochs
    expected = [
        (np.arange(15)[i : i + 2].mean() / 5, np.mean(losses[i : i + 2])) for i in range(0, 14, 2)
    ]
    assert_allclose(points["train_loss"], expected, rtol=1e-6)
    assert_allclose([p.x for p in points["val_loss"]], [1, 2, 3])
    for i, key in enumerate(("val_loss", "val_acc")):
        assert_allclose([p.y for p in points[key]], [pair[i] for pair in validation], rtol=1e-6)
    assert trainer.path == "step by step: Scratch is the reader's"
    assert model.board.note == "step by step"
    assert model.board.xlabel == "epoch"
    assert model.board.xlim == [0, 3]
    assert (trainer.epoch, trainer.train_batch_idx, trainer.val_batch_idx) == (2, 15, 6)
    assert not model.training


def test_without_validation_data() -> None:
    model, trainer = Scratch(lr=0.5), d2l.Trainer(max_epochs=2)
    trainer.fit(model, Images(val=False))
    assert trainer.num_val_batches == 0
    assert list(model.board.data) == ["train_loss"]


def test_the_steps_that_a_reader_replaces_are_called() -> None:
    calls = []

    class Mine(d2l.SoftmaxRegression):
        def training_step(self, batch: Any) -> Any:
            calls.append("training_step")
            return super().training_step(batch)

        def configure_optimizers(self) -> Any:
            calls.append("configure_optimizers")
            return d2l.SGD(self.parameters(), self.lr)

    class Halved(d2l.Trainer):
        def prepare_batch(self, batch: Any) -> Any:
            calls.append("prepare_batch")
            return [batch[0] / 2, batch[1]]

    Halved(max_epochs=1).fit(Mine(N_CLASSES, 0.1), Images(batch_size=70, val=False))
    assert calls == ["configure_optimizers", "prepare_batch", "training_step"]


@pytest.mark.parametrize(("limit", "factor"), [(0.01, None), (1e6, 1.0)])
def test_gradients_are_clipped_by_the_norm_of_all(limit: float, factor: float | None) -> None:
    model = linear_model()
    X, y = next(iter(Images().train_dataloader()))
    model.loss(model(X), y).backward()
    before = [np.array(p.grad) for p in model.parameters()]
    norm = np.sqrt(sum(np.sum(np.float64(g) ** 2) for g in before))
    assert norm > 0.01
    trainer = d2l.Trainer(max_epochs=1, gradient_clip_val=limit)
    trainer.clip_gradients(limit, model)
    for p, g in zip(model.parameters(), before, strict=True):
        assert_allclose(p.grad, g * (limit / norm if factor is None else factor), rtol=1e-5)
    trainer.fit(model, Images())
    assert trainer.path == "step by step: gradients are clipped"


def test_accuracy_and_loss_of_a_classifier() -> None:
    model = d2l.Classifier()
    y_hat = np.float32([[[0.1, 0.3, 0.6], [0.3, 0.2, 0.5]], [[0, 1, 0], [4, 0, 0]]])
    y = np.array([[0, 2], [1, 0]])
    assert model.accuracy(y_hat, y) == 0.75
    right = model.accuracy(y_hat, y, averaged=False)
    assert_array_equal(right, np.float32([0, 1, 1, 1]))
    assert right.dtype == np.float32
    logits, labels = np.float64(y_hat).reshape(4, 3), y.reshape(4)
    expected = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(4), labels]
    assert_allclose(model.loss(y_hat, y), expected.mean(), rtol=1e-6)
    assert_allclose(model.loss(y_hat, y, averaged=False), expected, rtol=1e-6, atol=1e-7)
    with pytest.raises(ValueError, match="predicts 4 labels but Y has 3"):
        model.accuracy(y_hat, y.reshape(4)[:3])


def test_the_concise_model() -> None:
    model = d2l.SoftmaxRegression(num_outputs=3, lr=0.1)
    assert model.hparams == {"num_outputs": 3, "lr": 0.1}
    assert (model.plot_train_per_epoch, model.plot_valid_per_epoch) == (2, 1)
    assert model(np.zeros((5, 1, 2, 3), np.float32)).shape == (5, 3)
    optimizer = model.configure_optimizers()
    assert type(optimizer) is optim.SGD
    assert optimizer.lr == 0.1
    assert [id(p) for p in optimizer.params] == [id(p) for p in model.parameters()]


def test_d2l_s_sgd_takes_a_generator() -> None:
    layer = nn.Linear(2, 2)
    optimizer = d2l.SGD(layer.parameters(), 0.1)
    assert optimizer.hparams == {"params": [layer.weight, layer.bias], "lr": 0.1}


class Empty:
    def train_dataloader(self) -> list[Any]:
        return []

    def val_dataloader(self) -> None:
        return None


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: d2l.Trainer(max_epochs=0), ValueError, "max_epochs is 0"),
        (lambda: d2l.Trainer(1, num_gpus=1), ValueError, "num_gpus is 1, expected 0: csoftmax run"),
        (lambda: d2l.Trainer(1, gradient_clip_val=-1), ValueError, "gradient_clip_val is -1"),
        (lambda: d2l.Trainer(1).fit(linear_model(), Empty()), ValueError, "no batch to train on"),
        (lambda: d2l.Module()(1), NotImplementedError, "Module has neither a net nor a forward"),
        (lambda: d2l.Module().loss(1, 1), NotImplementedError, "Module has no loss"),
        (lambda: d2l.Module().configure_optimizers(), NotImplementedError, "neither an lr nor"),
        (lambda: d2l.Module().plot("loss", 1, True), RuntimeError, "no trainer yet"),
        (lambda: d2l.DataModule().train_dataloader(), NotImplementedError, "no get_dataloader"),
    ],
)
def test_refusals(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
