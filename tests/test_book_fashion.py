"""The current edition's Fashion-MNIST, on the sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

import csoftmax as cs
from csoftmax import d2l1 as d2l
from csoftmax.books import datamodules, images
from csoftmax.d2l1 import torch

TRAIN, TEST = cs.fashion_mnist_sample()


@pytest.fixture(autouse=True)
def sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "fashion_mnist", lambda *folder: (TRAIN, TEST))


def test_images_labels_and_batches() -> None:
    data = d2l.FashionMNIST(batch_size=50)
    assert (len(data.train), len(data.val)) == (6000, 1000)
    assert data.hparams == {"batch_size": 50, "resize": (28, 28)}
    assert (data.root, data.num_workers) == ("../data", 4)
    X, y = data.train[7]
    assert_array_equal(X, np.float32(TRAIN.X[7:8]) * np.float32(1 / 255))
    assert y == TRAIN.y[7]
    loader = data.val_dataloader()
    X, y = next(iter(loader))
    assert (len(loader), X.shape, X.dtype, y.dtype) == (20, (50, 1, 28, 28), np.float32, np.int64)
    assert_array_equal(y, TEST.y[:50])
    assert data.text_labels(y[:2]) == data.text_labels([int(k) for k in TEST.y[:2]])
    assert data.text_labels([0, 9]) == ["t-shirt", "ankle boot"]


def test_training_batches_are_shuffled_as_the_seed_says() -> None:
    data = d2l.FashionMNIST(batch_size=6000)
    orders = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        ((_, y),) = data.train_dataloader()
        orders.append(np.asarray(y))
    assert_array_equal(orders[0], orders[1])
    assert (orders[0] != orders[2]).any()
    assert_array_equal(np.bincount(orders[0]), np.bincount(TRAIN.y))


def test_images_are_resized_when_they_are_asked_for() -> None:
    data = d2l.FashionMNIST(resize=(32, 40))
    assert data.train[0][0].shape == (1, 32, 40)
    X, _ = next(iter(data.train_dataloader()))
    assert X.shape == (64, 1, 32, 40)
    assert 0.9 < X.max() <= 1


def test_a_resize_that_changes_nothing_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image.Image, "resize", None)
    data = d2l.FashionMNIST()
    assert data.val_dataloader().X is TEST.X


def test_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(datamodules, "show_images", lambda *a, **kw: drawn.append((*a, kw)))
    data = d2l.FashionMNIST()
    batch = next(iter(data.val_dataloader()))
    data.visualize(batch)
    data.visualize(batch, 2, 3, labels=["a", "b"])
    (X, *grid, first), (*_, second) = drawn
    assert_array_equal(X, batch[0])
    assert grid == [1, 8]
    assert first == {"titles": data.text_labels(batch[1])}
    assert second == {"titles": ["a", "b"]}
    assert _[1:] == [2, 3]


@pytest.mark.parametrize("resize", [(28, 28), (14, 14)])
def test_the_fused_path_has_the_weights_and_points_of_the_steps(resize: Any) -> None:
    models = []
    for step_by_step in (False, True):
        torch.manual_seed(0)
        data = d2l.FashionMNIST(batch_size=256, resize=resize)
        model, trainer = d2l.SoftmaxRegression(num_outputs=10, lr=0.1), d2l.Trainer(max_epochs=2)
        if step_by_step:
            model.forward = model.net.forward  # type: ignore[method-assign]
        trainer.fit(model, data)
        assert trainer.path.startswith("step by step") == step_by_step
        models.append(model)
    fast, slow = models
    np.testing.assert_allclose(fast.net[1].weight, slow.net[1].weight, rtol=1e-4, atol=1e-6)
    for label, line in slow.board.data.items():
        np.testing.assert_allclose(fast.board.data[label], line, rtol=1e-5)
    assert fast.board.data["val_acc"][-1].y > 0.5


def test_a_bad_size() -> None:
    with pytest.raises(ValueError, match="size"):
        d2l.FashionMNIST(resize=(0, 28))
    with pytest.raises(ValueError, match="batch_size"):
        d2l.FashionMNIST(batch_size=0).train_dataloader()
