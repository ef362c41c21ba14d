"""The fused path: the numbers of the steps, and only where no step was replaced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from book_cases import N_CLASSES, Images, linear_model
from numpy.testing import assert_allclose

import csoftmax as cs
from csoftmax import d2l1 as d2l
from csoftmax.books import fused, nn, optim


def stepwise(model: Any) -> Any:
    """The same model, made to go step by step by a forward of its own."""
    model.forward = model.net.forward
    return model


@pytest.mark.parametrize("points", [(2, 1), (1, 2), (3, 1), (100, 100), (0.4, 0.5)])
@pytest.mark.parametrize("data", [Images(), Images(14), Images(100, np.float32), Images(val=False)])
def test_the_same_weights_and_points_as_step_by_step(points: Any, data: Images) -> None:
    models = linear_model(), stepwise(linear_model())
    trainers = d2l.Trainer(max_epochs=4), d2l.Trainer(max_epochs=4)
    for model, trainer in zip(models, trainers, strict=True):
        model.plot_train_per_epoch, model.plot_valid_per_epoch = points
        np.random.seed(3)  # for the weights, which the first batch draws
        trainer.fit(model, data)
    fast, slow = models
    assert [trainer.path[:5] for trainer in trainers] == ["fused", "step "]
    assert fast.board.note == "fused path: compiled code"
    assert list(fast.board.data) == list(slow.board.data)
    for label, line in slow.board.data.items():
        assert len(line) == len(fast.board.data[label])
        if line:
            assert_allclose(fast.board.data[label], line, rtol=2e-6)
    assert_allclose(fast.net[1].weight, slow.net[1].weight, rtol=1e-5, atol=1e-6)
    assert_allclose(fast.net[1].bias, slow.net[1].bias, rtol=1e-5, atol=1e-6)
    for name in ("epoch", "train_batch_idx", "val_batch_idx"):
        assert len({getattr(trainer, name) for trainer in trainers}) == 1
    assert not fast.board.room("train_loss", 10**6) - slow.board.room("train_loss", 10**6)
    assert fast.training == slow.training


def replacing(owner: type, name: str) -> Callable[..., None]:
    """What add_to_class does, with a method that does the same; undone after the test."""

    def change(monkeypatch: pytest.MonkeyPatch, **_: Any) -> None:
        before = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda self, *args, **kw: before(self, *args, **kw))

    return change


METHODS = [
    (d2l.SoftmaxRegression, "forward"), (d2l.Classifier, "loss"), (d2l.Classifier, "accuracy"),
    (d2l.Classifier, "validation_step"), (d2l.Module, "training_step"), (d2l.Module, "plot"),
    (nn.Module, "parameters"), (nn.Module, "__call__"),
    (nn.Sequential, "forward"), (nn.Flatten, "forward"), (nn.LazyLinear, "forward"),
    (nn.Linear, "forward"), (optim.SGD, "step"), (optim.Optimizer, "zero_grad"),
    (d2l.Trainer, "fit_epoch"), (d2l.Trainer, "prepare_batch"), (d2l.Trainer, "clip_gradients"),
    (d2l.ProgressBoard, "draw"), (cs.DataLoader, "__iter__"),
]  # fmt: skip


@pytest.mark.parametrize(("owner", "name"), METHODS)
def test_a_replaced_method_goes_step_by_step(
    owner: type, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, trainer = linear_model(), d2l.Trainer(max_epochs=1)
    replacing(owner, name)(monkeypatch)
    trainer.fit(model, Images())
    assert trainer.path.startswith("step by step: ")
    assert len(model.board.data["train_loss"]) == 2


class Louder(d2l.SoftmaxRegression):
    def validation_step(self, batch: Any) -> None:
        super().validation_step(batch)


class More(d2l.SoftmaxRegression):
    """A class of the reader's that adds, and replaces nothing."""

    def predict(self, X: Any) -> Any:
        return self(X).argmax(axis=1)


class Listed(Images):
    def get_dataloader(self, train: bool) -> Any:
        return list(super().get_dataloader(train))


class Momentum(d2l.SoftmaxRegression):
    def configure_optimizers(self) -> Any:
        return optim.SGD(self.parameters(), self.lr, momentum=0.9)


class OwnOptimizer(d2l.SoftmaxRegression):
    """As the book's section 4.3 has its readers type it."""

    def configure_optimizers(self) -> Any:
        return optim.SGD(self.parameters(), lr=self.lr)


def with_net(*layers: nn.Module) -> d2l.SoftmaxRegression:
    model = linear_model()
    model.net = nn.Sequential(*layers)
    return model


@pytest.mark.parametrize(
    ("model", "data", "path"),
    [
        (Louder(N_CLASSES, 0.1), Images(), "Louder.validation_step is the reader's"),
        (Momentum(N_CLASSES, 0.1), Images(), "the net or the optimizer is the reader's"),
        (OwnOptimizer(N_CLASSES, 0.1), Images(), ""),
        (linear_model(), Listed(), "the batches are the reader's"),
        (linear_model(), Images(dtype=np.float64), "the batches are the reader's"),
        (with_net(nn.Flatten(), nn.Linear(6, 3), nn.Linear(3, 3)), Images(), "the net or the opt"),
        (with_net(nn.Flatten(), nn.Linear(6, 3, bias=False)), Images(), "the net or the optim"),
        (with_net(nn.Flatten(), nn.Linear(6, 3)), Images(), ""),
        (More(N_CLASSES, 0.1), Images(), ""),
    ],
)
def test_which_path(model: Any, data: Any, path: str) -> None:
    trainer = d2l.Trainer(max_epochs=1)
    trainer.fit(model, data)
    assert trainer.path == "fused" if not path else trainer.path.startswith(f"step by step: {path}")


def test_one_s_own_step_on_the_object_goes_step_by_step() -> None:
    model, trainer = linear_model(), d2l.Trainer(max_epochs=1)
    model.loss = lambda *args: d2l.Classifier.loss(model, *args)  # type: ignore[method-assign]
    trainer.fit(model, Images())
    assert trainer.path == "step by step: SoftmaxRegression.loss is the reader's"


def test_another_optimizer_than_that_of_the_layer_is_none_of_ours() -> None:
    layer, other = nn.Linear(2, 2), nn.Linear(2, 2)
    assert fused.rate_of(optim.SGD(layer.parameters(), 0.1), layer) == 0.1
    assert fused.rate_of(optim.SGD(other.parameters(), 0.1), layer) is None
    assert fused.rate_of(optim.SGD([layer.weight], 0.1), layer) is None
    assert fused.rate_of(optim.SGD(layer.parameters(), 0.1, weight_decay=1), layer) is None
    assert fused.rate_of(optim.SGD(layer.parameters(), 0.1, momentum=0.5), layer) is None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_parameters_of_another_layout_or_type_go_step_by_step(dtype: Any) -> None:
    model = with_net(nn.Flatten(), nn.Linear(6, 3))
    model.net[1].weight = nn.Parameter(np.zeros((3, 6)), dtype)
    before, trainer = model.net[1].weight, d2l.Trainer(max_epochs=1)
    trainer.fit(model, Images())
    assert trainer.path == "step by step: the net or the optimizer is the reader's"
    assert before.any()  # trained in place


def test_an_epoch_for_the_second_edition() -> None:
    """The sums of `csoftmax.training` on the same weights and orders."""
    data = Images()
    layer, model = nn.Linear(6, N_CLASSES), cs.SoftmaxRegression(6, N_CLASSES)
    model.W, model.b = np.asarray(layer.weight).T, np.asarray(layer.bias)
    loader = data.train_dataloader()
    loss, n_correct = fused.train(layer, 0.5, loader, loader.epoch_order())
    history = cs.train(model, data.train_dataloader(), epochs=1, optimizer=cs.SGD(0.5))
    assert_allclose(loss / 70, history.train_loss[0], rtol=1e-12)
    assert n_correct / 70 == history.train_accuracy[0]
    np.testing.assert_array_equal(layer.weight, model.W.T)


@pytest.mark.parametrize(
    ("classes", "features", "message"),
    [(2, 6, "the data's y"), (3, 5, "images have 6 pixels but the layer takes 5")],
)
def test_data_that_do_not_fit_the_layer(classes: int, features: int, message: str) -> None:
    layer = nn.Linear(features, classes)
    before = np.array(layer.weight)
    with pytest.raises(ValueError, match=message):
        fused.train(layer, 0.1, Images().train_dataloader(), None)
    np.testing.assert_array_equal(layer.weight, before)
