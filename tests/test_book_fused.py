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
from csoftmax.books import functional, fused, nn, optim
from csoftmax.d2l1 import torch, torchvision, transforms
from csoftmax.data import sample_folder


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


def kept_elsewhere(owner: type, *names: str) -> type:
    """Return a subclass that keeps some attributes of its objects in another place."""

    def as_property(name: str) -> property:
        def read(self: Any) -> Any:
            return vars(self)[f"_{name}_"]

        return property(read, lambda self, value: vars(self).__setitem__(f"_{name}_", value))

    return type("Own", (owner,), {name: as_property(name) for name in names})


class OfOneSGD(d2l.SoftmaxRegression):
    """The optimizer is of a class of the reader's."""

    def __init__(self, kind: type) -> None:
        super().__init__(N_CLASSES, 0.5)
        self.kind = kind

    def configure_optimizers(self) -> Any:
        return self.kind(self.parameters(), 0.5)


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        *((optim.SGD, name) for name in ("params", "lr", "momentum", "weight_decay")),
        *((cs.DataLoader, name) for name in ("X", "y", "batch_size", "scale", "shuffle")),
        *((nn.Linear, name) for name in ("weight", "bias", "in_features", "out_features")),
        *((d2l.Trainer, name) for name in ("train_batch_idx", "epoch", "model", "max_epochs")),
        *((d2l.SoftmaxRegression, name) for name in ("net", "board", "plot_train_per_epoch")),
        *((d2l.ProgressBoard, name) for name in ("data", "note")),
    ],
)
def test_a_property_in_the_place_of_an_attribute_goes_step_by_step(owner: type, name: str) -> None:
    own = kept_elsewhere(owner, name)
    model, data, trainer = linear_model(), Images(), d2l.Trainer(max_epochs=1)
    if owner is optim.SGD:
        model = OfOneSGD(own)
    elif owner is cs.DataLoader:
        loader = own(*data.arrays(True), 16, scale=1 / 255)
        data.train_dataloader = lambda: loader  # type: ignore[method-assign]
    elif owner is nn.Linear:
        model.net = nn.Sequential(nn.Flatten(), own(6, N_CLASSES))
    elif owner is d2l.Trainer:
        trainer = own(max_epochs=1)
    elif owner is d2l.SoftmaxRegression:
        model = own(N_CLASSES, 0.5)
    else:
        model.board = own()
    if name in ("weight", "bias"):  # which the layer's parameters() does not find then
        assert fused.layer_of(model.net) is None
        return
    trainer.fit(model, data)
    assert trainer.path.startswith("step by step: ")


def test_a_reader_s_way_to_attributes_goes_step_by_step() -> None:
    seen = []

    class Watched(optim.SGD):
        def __getattribute__(self, name: str) -> Any:
            seen.append(name)
            return super().__getattribute__(name)

    trainer = d2l.Trainer(max_epochs=1)
    trainer.fit(OfOneSGD(Watched), Images())
    assert trainer.path.startswith("step by step: ")
    assert seen.count("step") == 5


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (functional, "cross_entropy"),
        (functional, "softmax_cross_entropy"),
        (nn, "linear"),
    ],
)
def test_a_replaced_function_goes_step_by_step(
    module: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, calls = getattr(module, name), []
    monkeypatch.setattr(module, name, lambda *args, **kw: calls.append(0) or before(*args, **kw))
    trainer = d2l.Trainer(max_epochs=1)
    trainer.fit(linear_model(), Images())
    assert trainer.path == f"step by step: {module.__name__}.{name} is the reader's"
    assert len(calls) == 5 + 2  # batches to train and to validate on
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, N_CLASSES))
    assert fused.layer_of(net) is None  # as the second edition asks


def test_sparse_rows_are_not_read_as_an_array() -> None:
    rows = cs.core.sparse.as_csr(pytest.importorskip("scipy.sparse").csr_array(np.eye(3)))
    assert not fused.reads(cs.DataLoader(rows, np.arange(3), 2))


class Rolled(d2l.DataModule):
    """Pictures that a transform makes at random, or csoftmax's own alone."""

    def __init__(self, *steps: Any) -> None:
        super().__init__()
        self.steps = steps

    def get_dataloader(self, train: bool) -> Any:
        images = torchvision.datasets.MNIST(
            sample_folder(), train, transforms.Compose([*self.steps, transforms.ToTensor()])
        )
        return torch.utils.data.DataLoader(images, 500)


@pytest.mark.parametrize(
    ("step", "path"),
    [
        (lambda picture: np.roll(picture, np.random.randint(2), 0), "step by step: the batches ar"),
        (transforms.Resize(10), "fused"),
    ],
)
def test_pictures_of_a_reader_s_transform_go_step_by_step(step: Any, path: str) -> None:
    trainer = d2l.Trainer(max_epochs=1)
    trainer.fit(d2l.SoftmaxRegression(10, 0.1), Rolled(step))
    assert trainer.path.startswith(path)


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
