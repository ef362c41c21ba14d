"""Data sets of images, transforms and their loader, by the tensor library's names."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

import csoftmax as cs
from csoftmax.books import images
from csoftmax.books.images import Pictures
from csoftmax.d2l import data, torch, torchvision, transforms
from csoftmax.data import sample_folder, write_idx

FashionMNIST, MNIST = torchvision.datasets.FashionMNIST, torchvision.datasets.MNIST
TRAIN, TEST = cs.fashion_mnist_sample()


@pytest.fixture(autouse=True)
def sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fashion-MNIST is the sample, which is in no folder of the reader's."""

    def found(folder: Any = None) -> Any:
        if folder is not None:
            raise cs.DataNotFoundError("not here")
        return TRAIN, TEST

    monkeypatch.setattr(images, "fashion_mnist", found)


def fashion(transform: Any = None, **options: Any) -> Any:
    return FashionMNIST("../data", transform=transform, download=True, **options)


class Counted:
    """A function that counts its calls."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.n = inner, 0

    def __call__(self, arguments: Any) -> Any:
        self.n += 1
        return self.inner(*arguments)


# ---------------------------------------------------------------- data sets


def test_a_data_set_is_indexed_as_the_book_does() -> None:
    train, test = fashion(transforms.ToTensor()), fashion(transforms.ToTensor(), train=False)
    assert (len(train), len(test)) == (6000, 1000)
    X, y = train[3]
    assert torch.is_tensor(X)
    assert (X.shape, X.dtype) == ((1, 28, 28), np.float32)
    assert_array_equal(X[0], TRAIN.X[3] * np.float32(1 / 255))
    assert type(y) is int
    assert y == TRAIN.y[3]
    assert train[-1][1] == TRAIN.y[-1]
    assert_array_equal(test.targets, TEST.y)
    assert_array_equal(test.data, TEST.X)
    assert torch.is_tensor(test.data)
    assert test.classes == list(TEST.class_names)
    assert repr(test) == "FashionMNIST(test, 1000 images (28, 28))"
    with pytest.raises(IndexError):
        test[1000]
    assert sum(1 for _ in test) == 1000


def test_a_picture_without_a_transform_is_an_image() -> None:
    picture, label = fashion(target_transform=lambda label: f"class {label}")[0]
    assert isinstance(picture, Image.Image)
    assert_array_equal(picture, TRAIN.X[0])
    assert label == f"class {TRAIN.y[0]}"


def test_fashion_mnist_is_looked_for_in_root_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        images, "fashion_mnist", lambda folder=None: (TRAIN, TEST) if folder else (TEST, TRAIN)
    )
    assert len(FashionMNIST("here")) == 6000
    assert len(FashionMNIST(download=True)) == 1000


def test_fashion_mnist_is_not_downloaded_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "dataset_locations", lambda: [])
    with pytest.raises(cs.DataNotFoundError, match=r"neither in root nowhere nor .*download="):
        FashionMNIST("nowhere")


@pytest.mark.parametrize("inside", ["", "KMNIST", "KMNIST/raw"])
def test_other_data_in_idx_files(tmp_path: Path, inside: str) -> None:
    folder = tmp_path / inside
    shutil.copytree(sample_folder(), folder, dirs_exist_ok=True)
    for train, part in ((True, TRAIN), (False, TEST)):
        own = torchvision.datasets.KMNIST(tmp_path, train, transforms.ToTensor(), download=True)
        assert_array_equal(own.data, part.X)
        assert_array_equal(own.targets, part.y)
        assert own.classes == [*map(str, range(10))]
        assert own[0][0].shape == (1, 28, 28)


def test_other_data_that_are_not_there_or_no_images(tmp_path: Path) -> None:
    with pytest.raises(cs.DataNotFoundError, match=r"MNIST is not in root .*: put its four IDX"):
        MNIST(tmp_path)
    with pytest.raises(cs.DataNotFoundError, match="MNIST is not in root None"):
        MNIST()
    write_idx(tmp_path / "train-images-idx2-ubyte", np.zeros((30, 4), np.uint8))
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.arange(30, dtype=np.uint8) % 3)
    with pytest.raises(ValueError, match=r"X of shape \(24, 4\) and uint8, expected grey images"):
        MNIST(tmp_path)
    with pytest.raises(TypeError, match="transform is a str, expected a function"):
        fashion("ToTensor")


# ---------------------------------------------------------------- transforms


def test_pixels_become_numbers_and_channels_come_first() -> None:
    to_tensor = transforms.ToTensor()
    colours = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert_array_equal(to_tensor(colours), colours.transpose(2, 0, 1) * np.float32(1 / 255))
    assert_array_equal(to_tensor(Image.fromarray(colours)), to_tensor(colours))
    assert_array_equal(to_tensor(np.full((2, 2), 0.5)), np.full((1, 2, 2), 0.5, np.float32))
    with pytest.raises(ValueError, match=r"picture has shape \(4,\)"):
        to_tensor(np.zeros(4))


@pytest.mark.parametrize(
    ("size", "result"), [(14, (14, 21)), ((5, 7), (5, 7)), ([5, 7], (5, 7)), ((40,), (40, 60))]
)
def test_a_resize(size: Any, result: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30)).astype(np.uint8)
    picture = transforms.Resize(size)(pixels)
    height, width = result
    expected = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    assert_array_equal(picture, expected)
    assert np.asarray(picture).shape == result


@pytest.mark.parametrize(
    ("size", "error"),
    [(0, ValueError), (2.0, TypeError), ((1, 2, 3), ValueError), ((1, "2"), TypeError)],
)
def test_a_bad_size(size: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="size is"):
        transforms.Resize(size)


def test_a_resize_belongs_before_the_tensor() -> None:
    trans = transforms.Compose([transforms.ToTensor(), transforms.Resize(8)])
    with pytest.raises(TypeError, match="put Resize before ToTensor"):
        trans(TRAIN.X[0])


# ---------------------------------------------------------------- the loader


def test_a_loader_yields_tensors_of_its_data_set() -> None:
    train = fashion(transforms.ToTensor())
    loader = data.DataLoader(train, 1000, num_workers=4)
    batches = list(loader)
    assert len(loader) == len(batches) == 6
    for i, (X, y) in enumerate(batches):
        assert torch.is_tensor(X)
        assert torch.is_tensor(y)
        assert (X.dtype, y.dtype) == (np.float32, np.int64)
        assert_array_equal(X[7], train[1000 * i + 7][0])
        assert_array_equal(y, TRAIN.y[1000 * i : 1000 * (i + 1)])
    assert np.shares_memory(loader.X, TRAIN.X)
    assert isinstance(loader, cs.DataLoader)
    assert torch.utils.data is data
    assert next(iter(data.DataLoader(train)))[0].shape == (1, 1, 28, 28)


def test_orders_are_new_and_come_again_with_the_seed() -> None:
    loader = data.DataLoader(fashion(transforms.ToTensor()), 6000, shuffle=True)
    orders = []
    for seed in (3, None, 3):
        if seed is not None:
            torch.manual_seed(seed)
        orders.append(next(iter(loader))[1].tolist())
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[1]) == sorted(TRAIN.y)


def test_pictures_are_resized_when_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    resize = Counted(Image.Image.resize)
    monkeypatch.setattr(Image.Image, "resize", lambda *args: resize(args))
    trans = transforms.Compose([transforms.Resize((8, 10)), transforms.ToTensor()])
    loader = data.DataLoader(fashion(trans, train=False), 50, shuffle=True)
    assert resize.n == 1  # which told the shape
    assert (len(loader), resize.n) == (20, 1)
    torch.manual_seed(0)
    X, y = next(iter(loader))
    assert (X.shape, X.dtype, resize.n) == ((50, 1, 8, 10), np.float32, 51)
    torch.manual_seed(0)
    order = loader.epoch_order()
    assert order is not None
    assert_array_equal(y, TEST.y[order[:50]])
    picture = resize.inner(Image.fromarray(TEST.X[order[0]]), (10, 8), Image.Resampling.BILINEAR)
    assert_array_equal(X[0, 0], np.asarray(picture) * np.float32(1 / 255))

    model = cs.SoftmaxRegression(80, 10, seed=0)
    accuracy = cs.evaluate(model, loader).accuracy
    assert resize.n == 1051  # all of them, for the one pass over one array
    right = sum(int((model.predict(X) == y).sum()) for X, y in loader)
    assert accuracy == right / 1000
    assert resize.n == 1051


def test_pictures_are_indexed_as_an_array() -> None:
    made = Pictures(TEST.X[:9], [transforms.Resize(7)])
    whole = np.asarray(made)
    again = Pictures(TEST.X[:9], [transforms.Resize(7)])
    assert (again.shape, again.dtype, again.ndim, len(again)) == ((9, 7, 7), np.uint8, 3, 9)
    for rows in (3, slice(2, 5), slice(4, 4), np.array([8, 1]), np.arange(9) > 6):
        assert_array_equal(again[rows], whole[rows])
    assert Pictures(TEST.X[:0], [transforms.Resize(7)]).shape == (0, 28, 28)


def test_a_loader_does_what_a_reader_s_own_transform_does() -> None:
    trans = transforms.Compose([transforms.ToTensor(), lambda X: (X - 0.5) / 0.5])
    dataset = fashion(trans, target_transform=lambda label: label % 2)
    X, y = next(iter(data.DataLoader(dataset, 40)))
    assert_array_equal(X[5], trans(TRAIN.X[5]))
    assert (X.min(), X.max()) == (-1, 1)
    assert_array_equal(y, TRAIN.y[:40] % 2)
    loader = data.DataLoader(dataset, 40)
    assert cs.evaluate(cs.SoftmaxRegression(784, 2, seed=0), loader).n_samples == 6000


class Inverted(transforms.ToTensor):
    def __call__(self, picture: Any) -> Any:
        return 1 - super().__call__(picture)


class Twice(transforms.Compose):
    def __call__(self, picture: Any) -> Any:
        return 2 * super().__call__(picture)


class Upright(transforms.Resize):
    def __call__(self, picture: Any) -> Any:
        return super().__call__(np.asarray(picture).T)


def composed(*steps: Any) -> Any:
    return transforms.Compose([*steps, transforms.ToTensor()])


OWN_TRANSFORMS = [
    Inverted(), Twice([transforms.ToTensor()]), composed(Upright((8, 6))),
    composed(lambda picture: np.asarray(picture) / 255.0),
    composed(lambda picture: np.asarray(picture) > 100),
    composed(lambda picture: np.stack([picture] * 3, -1)),
    composed(transforms.ToTensor()),
    composed(transforms.Resize(28), lambda picture: picture.rotate(90)),
    composed(transforms.Resize((7, 5)), transforms.Compose([transforms.Resize(9)])),
    transforms.Compose([transforms.ToTensor(), lambda X: X[0]]),
    transforms.Compose([transforms.ToTensor(), lambda X: (255 * X).type(torch.int32)]),
    lambda picture: np.asarray(picture)[None] / 255,
]  # fmt: skip


@pytest.mark.parametrize("trans", OWN_TRANSFORMS)
def test_a_batch_has_the_items_of_the_data_set(trans: Any) -> None:
    dataset = fashion(trans, train=False)
    X, _ = next(iter(data.DataLoader(dataset, 3)))
    items = [dataset[i][0] for i in range(3)]
    assert (X.shape, X.dtype) == ((3, *items[0].shape), items[0].dtype)
    assert_array_equal(X, items)


def test_a_replaced_step_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms.ToTensor, "__call__", lambda self, picture: torch.zeros(1, 2, 2))
    X, _ = next(iter(data.DataLoader(fashion(transforms.ToTensor()), 3)))
    assert_array_equal(X, np.zeros((3, 1, 2, 2)))


def test_random_pictures_are_new_each_time() -> None:
    """Also after compiled code has read them all at once."""
    trans = composed(lambda picture: np.roll(picture, np.random.randint(28), 0))
    loader = data.DataLoader(fashion(trans, train=False), 1000)
    seen = [np.array(next(iter(loader))[0])]
    cs.evaluate(cs.SoftmaxRegression(784, 10, seed=0), loader)
    seen.append(np.array(next(iter(loader))[0]))
    assert np.mean(seen[0] == seen[1]) < 0.9
    assert not np.array_equal(np.asarray(loader.X), np.asarray(loader.X))


def test_pictures_of_several_shapes_are_no_batch() -> None:
    sizes = iter([(1, 28), (28, 28), (1, 28)])
    trans = composed(lambda picture: np.asarray(picture)[: next(sizes)[0]])
    loader = data.DataLoader(fashion(trans), 2)
    with pytest.raises(ValueError, match=r"picture of shape \(1, 28, 28\) .*expected \(1, 1, 28\)"):
        next(iter(loader))


def test_what_a_loader_refuses() -> None:
    own = type("Own", (FashionMNIST,), {"__getitem__": lambda self, i: (torch.zeros(1), 0)})
    with pytest.raises(TypeError, match="dataset is a Own with its own __getitem__, which a load"):
        data.DataLoader(own(transform=transforms.ToTensor(), download=True), 2)
    with pytest.raises(TypeError, match="dataset is a list, expected one of torchvision"):
        data.DataLoader([1, 2], 2)
    for transform in (None, transforms.Resize(8)):
        with pytest.raises(TypeError, match=r"give it transform=transforms\.ToTensor\(\)"):
            data.DataLoader(fashion(transform), 2)
    for label, error in ((0.5, TypeError), ([0, 1], ValueError), (-1, ValueError)):
        dataset = fashion(transforms.ToTensor(), target_transform=lambda _, label=label: label)
        with pytest.raises(error, match=r"^y"):
            data.DataLoader(dataset, 2)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        data.DataLoader(fashion(transforms.ToTensor()), 0)
