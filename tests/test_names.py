"""Classes by their names: data whose labels are numbered in another way than the model's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import csoftmax as cs
from csoftmax import d2l
from csoftmax.books import chapter3

NAMES = ("ant", "bee", "cat")


def animals(names: tuple[str, ...], n: int = 60, seed: int = 0, **options: Any) -> cs.Dataset:
    """Samples of the named classes, far apart by name and not by number; images of 1 x 3."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % len(names)
    place = np.array([NAMES.index(name) for name in names])[y]
    X = (4 * np.eye(3)[place] + rng.normal(size=(n, 3))).astype(np.float32)
    return cs.Dataset(X[:, None, :], y, class_names=names, **options)


@pytest.fixture
def model() -> cs.SoftmaxRegression:
    model = cs.SoftmaxRegression(3, 3, seed=0)
    cs.train(model, animals(NAMES), epochs=40, progress=False)
    return model


OTHERS = [("cat", "ant", "bee"), ("bee", "cat"), ("cat", "ant")]


def by_hand(model: cs.SoftmaxRegression, data: cs.Dataset) -> tuple[float, float]:
    """Loss and accuracy in float64, the labels translated one by one."""
    y = [NAMES.index(data.class_names[k]) for k in data.y]
    logits = data.X.reshape(len(y), 3).astype(np.float64) @ model.W + model.b
    top = logits.max(axis=1)
    losses = np.log(np.exp(logits - top[:, None]).sum(axis=1)) + top - logits[range(len(y)), y]
    return float(losses.mean()), float((logits.argmax(axis=1) == y).mean())


def as_loader(data: cs.Dataset) -> cs.DataLoader:
    return cs.DataLoader.from_dataset(data, 7, shuffle=True, seed=1)


@pytest.mark.parametrize("names", OTHERS)
@pytest.mark.parametrize("kind", [as_loader, lambda data: data])
def test_evaluation_goes_by_names(
    names: tuple[str, ...], kind: Callable[[cs.Dataset], Any], model: cs.SoftmaxRegression
) -> None:
    assert model.class_names == NAMES  # taken over from what it was trained on
    data = animals(names, seed=1)
    loss, accuracy = by_hand(model, data)
    metrics = cs.evaluate(model, kind(data))
    assert metrics.accuracy == accuracy > 0.95
    assert_allclose(metrics.loss, loss, rtol=1e-5)
    assert metrics.class_names == NAMES
    counts = [(np.array(names)[data.y] == name).sum() for name in NAMES]
    assert_array_equal(metrics.confusion.sum(axis=1), counts)
    loader = as_loader(data)
    assert d2l.evaluate_accuracy(model, loader) == accuracy
    assert_allclose(d2l.evaluate_loss(model, loader, d2l.cross_entropy), loss, rtol=1e-5)

    def another_loss(y_hat: Any, y: Any) -> Any:
        return -np.log(np.asarray(y_hat)[range(len(y)), y])

    assert_allclose(d2l.evaluate_loss(model, loader, another_loss), loss, rtol=1e-4)


@pytest.mark.parametrize("names", OTHERS)
def test_training_goes_by_names(names: tuple[str, ...], model: cs.SoftmaxRegression) -> None:
    """Validation data, and data to train on, that number the classes in another way."""
    test = animals(names, seed=1)
    fresh = cs.SoftmaxRegression(3, 3, seed=0)
    history = cs.train(fresh, animals(NAMES), validation=as_loader(test), epochs=40, progress=False)
    loss, accuracy = by_hand(fresh, test)
    assert history.validation_accuracy[-1] == accuracy > 0.95
    assert_allclose(history.validation_loss[-1], loss, rtol=1e-5)
    history = cs.train(model, as_loader(test), validation=animals(NAMES), epochs=2, progress=False)
    assert min(history.train_accuracy + history.validation_accuracy) > 0.95
    assert model.class_names == NAMES


@pytest.mark.parametrize("compiled", [True, False])
def test_the_book_goes_by_names(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    points: list[Any] = []

    class Animator:
        def __init__(self, **options: Any) -> None: ...

        def add(self, x: Any, y: Any) -> None:
            points.append(y)

    monkeypatch.setattr(chapter3, "Animator", Animator)
    W, b = cs.Parameter(np.zeros((3, 3))), cs.Parameter(np.zeros(3))
    net: Any = cs.SoftmaxRegression(3, 3, seed=0)
    updater: Any = cs.SGD(0.1)
    if not compiled:
        net = lambda X: cs.softmax(cs.linear(X.reshape(-1, 3), W, b))  # noqa: E731
        updater = lambda n: d2l.sgd([W, b], 0.1, n)  # noqa: E731
    train, test = as_loader(animals(NAMES)), as_loader(animals(("cat", "bee"), seed=1))
    d2l.train_ch3(net, train, test, d2l.cross_entropy, 20, updater)
    assert points[-1][1] > 0.95
    assert points[-1][2] > 0.95
    strange = as_loader(animals(NAMES))
    strange.class_names = ("ant", "bee", "dog")
    with pytest.raises(ValueError, match="test_iter has the class 'dog', but"):
        d2l.train_ch3(net, train, strange, d2l.cross_entropy, 1, updater)


def test_the_books_pictures_have_the_names_of_the_data(
    model: cs.SoftmaxRegression, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(
        chapter3, "show_images", lambda *_, **options: drawn.append(options["titles"])
    )
    data = animals(("cat", "ant"), seed=1)
    predicted = d2l.predict_ch3(model, cs.DataLoader.from_dataset(data, 9), 4)
    assert_array_equal(predicted, [2, 0, 2, 0])
    nameless = cs.DataLoader(data.X, [2, 0] * 30, 9)
    d2l.predict_ch3(model, nameless, 4)
    assert drawn == [["cat\ncat", "ant\nant"] * 2] * 2


def test_unknown_classes_are_refused_where_they_occur(model: cs.SoftmaxRegression) -> None:
    before = model.W.copy()
    strange = cs.Dataset(np.zeros((4, 3)), [0, 1, 2, 1], class_names=("ant", "dog", "cat"))
    message = "has the class 'dog', but the model's are ant, bee, cat"
    with pytest.raises(ValueError, match=f"data {message}"):
        cs.evaluate(model, strange)
    with pytest.raises(ValueError, match=f"train_data {message}"):
        cs.train(model, strange)
    with pytest.raises(ValueError, match=f"validation {message}"):
        cs.train(model, animals(NAMES), validation=strange)
    with pytest.raises(ValueError, match=f"validation {message}"):
        cs.train(cs.SoftmaxRegression(3, 3), animals(NAMES), validation=strange)
    assert_array_equal(model.W, before)
    absent = cs.Dataset(np.eye(3)[[2, 0]], [2, 0], class_names=("ant", "dog", "cat"))
    assert cs.evaluate(model, absent).accuracy == 1


def test_a_failed_training_leaves_the_names_as_they_were() -> None:
    data = animals(NAMES)
    model = cs.SoftmaxRegression(3, 3, seed=0)
    with pytest.raises(RuntimeError):
        cs.train(model, data, callbacks=[_raise], epochs=1, progress=False)
    assert model.class_names == NAMES  # the epoch was finished
    fresh = cs.SoftmaxRegression(3, 3, seed=0)
    loader = as_loader(data)
    loader.batch_size = 0
    with pytest.raises(ValueError, match="batch_size"):
        cs.train(fresh, loader, progress=False)
    assert fresh.class_names == ("0", "1", "2")
    assert fresh.trained_with == {}


def _raise(*_: Any) -> None:
    raise RuntimeError("stop")


@pytest.mark.parametrize(
    ("wanted", "names", "y", "expected"),
    [
        (NAMES, (), [0, 2], [0, 2]),  # numbers, and nothing else
        (NAMES, ("0", "2"), [0, 1], [0, 2]),  # integers count the model's classes
        ((), ("0", "2"), [0, 1], [0, 2]),  # as those of a model without names
        (("0", "1", "2"), ("0", "2"), [0, 1], [0, 2]),
        (("1", "2", "3"), ("3", "1"), [0, 1], [2, 0]),
        (("0", "1", "2"), NAMES, [2, 0], [2, 0]),
        ((), ("1", "2", "3"), [2, 0], [2, 0]),
        (NAMES, ("1", "2", "3"), [2], "data has the class '3'"),
        (("0", "1", "2"), ("1", "2", "3"), [2], "data has the class '3'"),
        ((), ("ant", "bee"), [0], "data has 2 classes, ant, bee, but the model has 3 without"),
        (("ant", "ant", "cat"), ("ant", "cat"), [0], "two of the model's are 'ant'"),
    ],
)
def test_numbers_and_names(
    wanted: tuple[str, ...], names: tuple[str, ...], y: list[int], expected: Any, tmp_path: Path
) -> None:
    model = cs.SoftmaxRegression(2, 3, class_names=wanted)
    model.save(tmp_path / "m")
    for each in (model, cs.SoftmaxRegression.load(tmp_path / "m")):
        if isinstance(expected, str):
            with pytest.raises(ValueError, match=expected):
                each.labels_of(np.array(y), len(y), names)
        else:
            assert_array_equal(each.labels_of(np.array(y), len(y), names), expected)
