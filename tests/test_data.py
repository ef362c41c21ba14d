"""Dataset, DataLoader, the split, the front door, and writing files whole."""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from csoftmax import _kernels
from csoftmax.data import (
    DataError,
    DataLoader,
    Dataset,
    fashion_mnist_sample,
    read,
    read_features,
    read_parts,
    sample_folder,
    split_dataset,
    write_atomically,
    write_idx,
)
from csoftmax.engine.calls import shuffle

X = np.arange(30, dtype=np.uint8).reshape(10, 3)
Y = np.arange(10) % 2


# ---------------------------------------------------------------- Dataset
@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int16", "int64", "float16", ">f4", "float32", "float64"]
)
def test_dataset_keeps_x(dtype: str) -> None:
    values = X.astype(dtype)[::2]
    data = Dataset(values, Y[::2].astype(np.uint8))
    assert data.X is values
    assert data.y.dtype == np.int64
    assert data.y.flags.c_contiguous
    assert (len(data), data.n_features, data.n_classes) == (5, 3, 1)


def test_dataset_of_images_and_of_nothing() -> None:
    data = Dataset(np.zeros((2, 28, 28)), [True, False], class_names=["a", "b", "c"])
    assert (data.n_features, data.n_classes) == (784, 3)
    empty = Dataset(np.zeros((0, 4)), [])
    assert (len(empty), empty.n_classes) == (0, 0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([1, 2], [0, 1]), ValueError, r"X must have shape .* got \(2,\)"),
        (([["a"]], [0]), TypeError, "X must hold booleans, integers or floats, got dtype <U1"),
        (([[1j]], [0]), TypeError, "got dtype complex128"),
        ((np.zeros((1, 1), np.longdouble), [0]), TypeError, "X must hold"),
        (([[1]], [0, 1]), ValueError, "X has 1 samples but y has 2 labels"),
        (([[1]], [0.0]), TypeError, "y must hold integer labels, got dtype float64"),
        (([[1]], [[0]]), ValueError, r"y must have shape \(n_samples,\), got \(1, 1\)"),
        (([[1], [2]], [0, -1]), ValueError, r"y\[1\] is -1, expected a label 0 or more"),
        (([[1]], np.array([2**64 - 1], np.uint64)), ValueError, "expected a label 0 or more"),
        (([[1], [2]], [0, 2], 1.0, ("a", "b")), ValueError, r"y\[1\] is 2, .* label 0..1"),
        (([[1]], [0], 0.0), ValueError, "scale must be a positive finite number, got 0.0"),
        (([[1]], [0], float("nan")), ValueError, "scale must be a positive"),
        (([[1]], [0], 1.0, "ab"), TypeError, "class_names must be a sequence of names, got 'ab'"),
        (([[1]], [0], 1.0, (), "", "a"), TypeError, "feature_names must be a sequence of names"),
        (
            ([[1, 2]], [0], 1.0, (), "", ("a",)),
            ValueError,
            "X has 2 features but feature_names has 1 names",
        ),
        (([[1, 2]], [0], 1.0, (), "", ("a", "a")), ValueError, "different names, got 'a' more"),
    ],
)
def test_dataset_refuses(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Dataset(*arguments)


# ---------------------------------------------------------------- split
@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5, 0.9])
def test_split_is_stratified(fraction: float) -> None:
    y = np.repeat([0, 1, 2], [1000, 300, 7])
    data = Dataset(np.arange(len(y), dtype=np.float16)[:, None], y, 0.5, ("a", "b", "c"), "d")
    train, test = split_dataset(data, fraction)
    assert abs(len(test) - fraction * len(y)) <= 1
    counts = np.bincount(test.y, minlength=3)
    assert np.abs(counts - fraction * np.bincount(y)).max() <= 1
    assert np.bincount(train.y, minlength=3).min() >= 1
    both = np.concatenate([train.X, test.X])[:, 0]
    assert sorted(both.tolist()) == data.X[:, 0].tolist()
    assert train.X.dtype == np.float16
    assert (np.diff(train.X[:, 0]) > 0).all()
    assert (train.scale, train.class_names, train.name) == (0.5, ("a", "b", "c"), "d train")


def test_split_keeps_names_and_scale() -> None:
    X = np.arange(24, dtype=np.uint8).reshape(12, 2)
    data = Dataset(X, np.arange(12) % 2, 0.5, ("no", "yes"), "d", ("a", "b"))
    for part, title in zip(split_dataset(data, 0.25), ("d train", "d test"), strict=True):
        assert (part.scale, part.class_names, part.name) == (0.5, ("no", "yes"), title)
        assert part.feature_names == ("a", "b")


def test_split_seed() -> None:
    data = fashion_mnist_sample()[1]
    first, again, other = (split_dataset(data, 0.3, seed)[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.X, again.X)
    assert (first.X != other.X).any()


def test_split_leaves_each_class_in_train() -> None:
    data = Dataset(np.zeros((12, 1)), [*range(11), 0])
    train, test = split_dataset(data, 0.5)
    assert np.unique(train.y).tolist() == list(range(11))
    assert len(test) >= 1 or len(train) == 12


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_split_fraction_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="test_fraction must be between 0 and 1"):
        split_dataset(Dataset(X, Y), fraction)


def test_split_of_too_few() -> None:
    with pytest.raises(ValueError, match="2 samples of 2 classes are too few"):
        split_dataset(Dataset(X[:2], Y[:2]), 0.5)


# ---------------------------------------------------------------- DataLoader
@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("bool", "float32"), ("uint8", "float32"), ("float16", "float32"), (">f4", "float32"),
     ("float32", "float32"), ("float64", "float64"), ("int64", "float64")],
)  # fmt: skip
@pytest.mark.parametrize("shuffle", [False, True])
def test_batches(dtype: str, expected: str, shuffle: bool) -> None:
    values = X.astype(dtype)
    loader = DataLoader(values, Y, 4, shuffle=shuffle, seed=3, scale=0.5)
    batches = list(loader)
    assert len(batches) == len(loader) == 3
    assert [len(y) for _, y in batches] == [4, 4, 2]
    for features, labels in batches:
        assert features.dtype == np.dtype(expected)
        assert features.dtype.isnative
        assert labels.dtype == np.int64
    got = np.concatenate([features for features, _ in batches])
    order = DataLoader(values, Y, 4, shuffle=shuffle, seed=3).epoch_order()
    rows = np.arange(10) if order is None else order
    np.testing.assert_array_equal(got, values[rows].astype(expected) * 0.5)
    np.testing.assert_array_equal(np.concatenate([y for _, y in batches]), Y[rows])


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((5, 6), (5, 6)), ((5, 2, 3), (5, 1, 2, 3)), ((5, 2, 3, 4), (5, 2, 3, 4))],
)
def test_batch_shapes(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    features, _ = next(iter(DataLoader(np.zeros(shape, np.uint8), np.zeros(5, int), 8)))
    assert features.shape == expected


def test_batches_are_copies() -> None:
    values = X.astype(np.float32)
    for features, labels in DataLoader(values, Y, 4):
        features[:] = -1
        labels[:] = -1
    assert values.min() == 0
    assert Y.min() == 0


def test_each_epoch_has_its_order() -> None:
    loaders = [DataLoader(X, Y, 3, shuffle=True, seed=7) for _ in range(2)]
    drawn = [loaders[0].epoch_order() for _ in range(3)]
    for order in drawn:
        assert order is not None
        assert order.dtype == np.int64
        seen = np.concatenate([features[:, 0] for features, _ in loaders[1]])
        np.testing.assert_array_equal(seen, X[order, 0])
    assert len({tuple(order) for order in drawn if order is not None}) == 3


@pytest.mark.parametrize("n", [0, 1, 2, 7, 1000])
def test_shuffled_is_fisher_and_yates(n: int) -> None:
    order = shuffle(np.arange(n), np.random.default_rng(n))
    words = np.random.default_rng(n).integers(2**64, size=(n + 1) // 2, dtype=np.uint64)
    expected, random = list(range(n)), 0
    for i in range(n - 1):
        random = (int(words[i // 2]) if i % 2 == 0 else random % 2**64) * (n - i)
        j = i + random // 2**64
        expected[i], expected[j] = expected[j], expected[i]
    assert order.tolist() == expected


def test_every_order_is_as_likely() -> None:
    random, times = np.random.default_rng(0), 1000
    drawn = Counter(tuple(shuffle(np.arange(4), random)) for _ in range(24 * times))
    assert len(drawn) == 24
    # chi-squared with 23 degrees of freedom is above 49.7 once in a thousand seeds
    assert sum((n - times) ** 2 / times for n in drawn.values()) < 49.7


@pytest.mark.parametrize(
    ("order", "words", "message"),
    [
        (np.arange(4.0), np.zeros(2, np.uint64), "order: expected 4 contiguous items of kind"),
        (np.arange(4), np.zeros(1, np.uint64), "words: expected 2 contiguous items of kind"),
        (np.arange(4), np.zeros(2, np.int64), "words: expected 2 contiguous items of kind"),
    ],
)
def test_shuffle_refuses(order: Any, words: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _kernels.shuffle(order, words)


def test_order_is_drawn_when_the_epoch_starts() -> None:
    loader, twin = (DataLoader(X, Y, 10, shuffle=True, seed=1) for _ in range(2))
    started = iter(loader)
    loader.epoch_order()
    np.testing.assert_array_equal(next(started)[0], X[twin.epoch_order()])


def test_loader_without_samples() -> None:
    loader = DataLoader(np.zeros((0, 3)), [], 4, shuffle=True)
    assert len(loader) == 0
    assert list(loader) == []


def test_from_dataset() -> None:
    data = fashion_mnist_sample()[1]
    loader = DataLoader.from_dataset(data, 64, shuffle=True, seed=np.int64(1))  # type: ignore[arg-type]
    assert loader.X is data.X
    assert (loader.scale, loader.class_names) == (data.scale, data.class_names)
    assert repr(loader) == "DataLoader(X (1000, 28, 28) uint8, batch_size=64, shuffle=True)"
    features, _ = next(iter(loader))
    assert features.shape == (64, 1, 28, 28)
    assert 0 <= features.min() < features.max() <= 1


@pytest.mark.parametrize(
    ("batch_size", "options", "error", "message"),
    [
        (0, {}, ValueError, "batch_size must be at least 1, got 0"),
        (2.0, {}, TypeError, "batch_size must be an integer, got 2.0"),
        (2, {"seed": -1}, ValueError, "seed must be an integer of 0 or more, got -1"),
        (2, {"seed": "x"}, ValueError, "seed must be an integer of 0 or more, got 'x'"),
        (2, {"scale": -1.0}, ValueError, "scale must be a positive"),
        (2, {"class_names": ("a",)}, ValueError, r"y\[1\] is 1, expected a label 0..0"),
    ],
)
def test_loader_refuses(
    batch_size: Any, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        DataLoader(X, Y, batch_size, **options)


# ---------------------------------------------------------------- the front door
def make_file(folder: Path, kind: str) -> Path:
    """Write X and Y + 5 in one of the kinds that read takes."""
    labels = Y + 5
    if kind == "idx":
        write_idx(folder / "train-images-idx3-ubyte", X.reshape(10, 1, 3))
        write_idx(folder / "train-labels-idx1-ubyte", labels.astype(np.uint8))
        return folder
    if kind == "npy":
        np.save(folder / "X.npy", X)
        np.save(folder / "y.npy", labels)
        return folder
    path = folder / f"data.{kind}"
    if kind == "npz":
        np.savez(path, X=X, y=labels)
    else:
        mark = "\t" if kind == "tsv" else ","
        np.savetxt(path, np.column_stack([X, labels]), fmt="%d", delimiter=mark)
    return path


@pytest.mark.parametrize("kind", ["idx", "npy", "npz", "csv", "tsv", "csv.gz"])
def test_read_splits(tmp_path: Path, kind: str) -> None:
    path = make_file(tmp_path, kind)
    whole, own_test = read_parts(path)
    assert own_test is None
    assert len(whole) == 10
    train, test = read(path, test_fraction=0.4, seed=5)
    assert (len(train), len(test)) == (6, 4)
    assert np.bincount(test.y).tolist() == [2, 2]
    assert train.class_names == test.class_names == ("5", "6")
    for data in (train, test):
        np.testing.assert_array_equal(data.X.reshape(-1, 3)[:, 0] // 3 % 2, data.y)
    assert train.X.dtype == (np.float32 if "sv" in kind else np.uint8)


@pytest.mark.parametrize("kind", ["idx", "npy", "npz", "csv"])
def test_read_with_class_names(tmp_path: Path, kind: str) -> None:
    path = make_file(tmp_path, kind)
    data, _ = read_parts(path, class_names=("6", "x", "5"))
    assert data.y.tolist() == [2, 0] * 5
    assert data.n_classes == 3
    with pytest.raises(DataError, match="class '6' is not one of the 1 known classes"):
        read_parts(path, class_names=("5",))
    words = tuple("abcdefg")  # integers count them
    assert read_parts(path, class_names=words)[0].y.tolist() == [5, 6] * 5
    numbers = tuple(map(str, range(10, 17)))  # integers mean them
    with pytest.raises(DataError, match="class '5' is not one of the 7 known classes: 10, 11"):
        read_parts(path, class_names=numbers)


@pytest.mark.parametrize("kind", ["idx", "npy", "npz", "csv", "tsv", "csv.gz"])
def test_read_features(tmp_path: Path, kind: str) -> None:
    path = make_file(tmp_path, kind)
    if kind == "idx":
        path = path / "train-images-idx3-ubyte"
    elif kind == "npy":
        path = path / "X.npy"
    told = pytest.warns(
        UserWarning, match=r"column 3 \(counted from 0\) is taken for labels and left"
    )
    with told if "sv" in kind else contextlib.nullcontext():
        features = read_features(path, n_features=3)
    np.testing.assert_array_equal(features.reshape(10, 3), X)


def test_read_npy_file_and_own_test_set(tmp_path: Path) -> None:
    folder = make_file(tmp_path, "npy")
    assert len(read_parts(folder / "X.npy")[0]) == 10
    np.save(folder / "X_test.npy", X[:2])
    np.save(folder / "y_test.npy", np.array([6, 5]))
    train, test = read(folder)
    assert (len(train), test.y.tolist()) == (10, [1, 0])
    assert isinstance(train.X.base, np.memmap)  # nothing was split, nothing was copied
    np.save(folder / "X_test.npy", X[:2, :2])
    with pytest.raises(DataError, match=r"X_test.npy: expected samples of shape \(3,\)"):
        read(folder)


def test_read_takes_the_files_own_test_set() -> None:
    train, test = read(sample_folder(), test_fraction=0.5)
    assert (len(train), len(test)) == (6000, 1000)


def test_read_refuses(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.csv: no such file or folder"):
        read(tmp_path / "nothing.csv")
    odd = tmp_path / "photo.jpg"
    odd.write_bytes(b"\xff\xd8")
    with pytest.raises(DataError, match=r"photo\.jpg: expected \.csv, \.tsv"):
        read(odd)
    with pytest.raises(DataError, match="expected labels too: give the folder"):
        read(sample_folder() / "train-images-idx3-ubyte.gz")
    with pytest.raises(DataError, match="expected a file of samples to predict, got a folder"):
        read_features(sample_folder())
    with pytest.raises(DataError, match=r"expected an array \(n_samples, n_features\)"):
        read_features(sample_folder() / "train-labels-idx1-ubyte.gz")


@pytest.mark.parametrize(
    ("arrays", "taken"),
    [({"X": X, "y": Y}, X), ({"x_test": X[:2], "x_train": X}, X[:2]), ({"anything": X}, X)],
)
def test_features_of_an_npz(tmp_path: Path, arrays: Any, taken: np.ndarray) -> None:
    np.savez(tmp_path / "d.npz", **arrays)
    np.testing.assert_array_equal(read_features(tmp_path / "d.npz"), taken)


def test_features_of_an_unclear_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", a=X, b=X)
    with pytest.raises(DataError, match="expected an array X, got a, b"):
        read_features(tmp_path / "d.npz")


# ---------------------------------------------------------------- files
def test_write_atomically_keeps_the_old_file_on_error(tmp_path: Path) -> None:
    path = tmp_path / "model"
    write_atomically(path, lambda file: file.write(b"old"))

    def fail(file: Any) -> None:
        file.write(b"half of the new")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old"
    write_atomically(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]
