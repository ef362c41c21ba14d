"""The data of a session: what is there without an upload, and what is uploaded."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import csoftmax as cs
from csoftmax.core.checks import Stored
from csoftmax.core.sparse import CSR
from csoftmax.data.readers.front import is_table
from csoftmax.model import is_integer
from csoftmax.rows.base import take

FULL, SAMPLE, START = "fashion-mnist", "sample", "start"
SUFFIXES = (".csv", ".tsv", ".txt", ".npz", ".svm", ".libsvm", ".svmlight")
TEST_SHARE = 0.2
MOST_CLASSES = 1000
MOST_WEIGHTS = 20_000_000  # a copy of them is made for every update that is shown
_SHOWN_NAMES = 200


class CodedError(ValueError):
    """A ValueError whose sentence has a code, for a page of another language, and values."""

    def __init__(self, sentence: str, code: str, *values: Any) -> None:
        super().__init__(sentence)
        self.code, self.values = code, values


@dataclass(frozen=True)
class Source:
    """Where data came from: the Python that reads them, and the words of the command line."""

    name: str
    python: str
    words: tuple[str, ...] = ()
    is_split: bool = False  # does the command's --seed split them too?


@dataclass(frozen=True, eq=False)
class Data:
    """A training set, a test set, and where they came from."""

    train: cs.Dataset
    test: cs.Dataset
    source: Source

    def __post_init__(self) -> None:
        if self.n_classes > MOST_CLASSES:
            raise CodedError(
                f"{self.source.name} has {self.n_classes:,} classes, the page shows at most "
                f"{MOST_CLASSES:,}: is this the column of the labels?",
                "many classes", self.source.name, self.n_classes, MOST_CLASSES,
            )  # fmt: skip

        n_features, n_weights = self.train.n_features, self.train.n_features * self.n_classes
        if n_weights > MOST_WEIGHTS:
            raise CodedError(
                f"{self.source.name} has {n_features:,} features and {self.n_classes:,} classes, "
                f"{n_weights:,} weights in all: the page takes at most {MOST_WEIGHTS:,}",
                "many weights", self.source.name, n_weights, MOST_WEIGHTS,
            )  # fmt: skip

    @property
    def shape(self) -> tuple[int, int] | None:
        """Height and width, or None where the samples are no grey pictures."""
        shape = self.train.X.shape[1:]
        if len(shape) == 3 and shape[0] == 1:
            shape = shape[1:]
        return (shape[0], shape[1]) if len(shape) == 2 else None

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.train.class_names or tuple(map(str, range(self.n_classes)))

    @property
    def n_classes(self) -> int:
        return max(self.train.n_classes, self.test.n_classes)

    def part(self, name: str) -> cs.Dataset:
        """Return the data set of a name: "train" or "test"."""
        if name not in ("train", "test"):
            raise ValueError(f"set is {name!r}, expected train or test")
        return self.train if name == "train" else self.test

    def fresh_model(self, seed: int) -> cs.SoftmaxRegression:
        """Return the model that a training with this seed starts from, as the command line's."""
        return cs.SoftmaxRegression(
            self.train.n_features, self.n_classes, seed=seed, class_names=self.train.class_names,
            feature_names=self.train.feature_names,
        )  # fmt: skip

    def for_model(self, model: cs.SoftmaxRegression) -> Data:
        """Return the data with labels as the model numbers its classes.

        Raises
        ------
        ValueError
            If the model is of other data.
        """
        if (model.n_features, model.n_classes) != (self.train.n_features, self.n_classes):
            raise CodedError(
                f"the model has {model.n_features} features and {model.n_classes} classes, the "
                f"data have {self.train.n_features} and {self.n_classes}", "other model",
                model.n_features, model.n_classes, self.train.n_features, self.n_classes,
            )  # fmt: skip
        parts = []
        for part in (self.train, self.test):
            labels = model.labels_of(part.y, len(part), part.class_names, part.name)
            names = part.class_names if labels is part.y else model.class_names
            parts.append(replace(part, y=labels, class_names=names))
        return replace(self, train=parts[0], test=parts[1])

    def described(self, sets: list[str]) -> dict[str, Any]:
        """Return what the page is told of the data."""
        shape, recipe = self.shape, self.train.recipe
        picture = None
        if shape is not None:
            facts = {} if recipe is None else asdict(recipe)
            picture = {"height": shape[0], "width": shape[1], "recipe": facts}
        return {
            "name": self.source.name, "n_train": len(self.train), "n_test": len(self.test),
            "n_features": self.train.n_features, "class_names": self.class_names,
            "picture": picture, "feature_names": self.train.feature_names[:_SHOWN_NAMES],
            "sets": sets, "train_is_test": self.train.X is self.test.X,
            "scale": self.train.scale, "sparse": isinstance(self.train.X, CSR),
        }  # fmt: skip


def features_of(data: cs.Dataset, rows: slice | NDArray[Any]) -> Stored:
    """Return some samples as a model predicts them: integers as they are, floats to scale."""
    X = take(data.X, rows)
    if is_integer(X) or data.scale == 1:
        return X
    if isinstance(X, CSR):
        return X.times(data.scale, X.dtype)
    return np.multiply(X, X.dtype.type(data.scale))


def pixels_of(data: cs.Dataset, row: int) -> NDArray[np.uint8]:
    """Return a picture's pixels as 0..255."""
    X = np.asarray(data.X[row])
    if X.dtype == np.uint8:
        return X
    bright: NDArray[np.uint8] = np.round(255 * np.clip(X * data.scale, 0, 1)).astype(np.uint8)
    return bright


def has_fashion_mnist() -> bool:
    """Is the whole set on this machine? It is not downloaded: nothing leaves the machine."""
    return any(place.found for place in cs.dataset_locations())


def known(name: str) -> Data:
    """Return Fashion-MNIST or the sample of it."""
    if name == FULL and has_fashion_mnist():
        python = "train, test = cs.fashion_mnist()"
        return Data(*cs.fashion_mnist(), Source("Fashion-MNIST", python))
    if name != SAMPLE:
        raise ValueError(f"set is {name!r}, expected one of those that the page shows")
    python = "train, test = cs.fashion_mnist_sample()"
    words = ("--data", str(cs.data.sample_folder()))
    return Data(*cs.fashion_mnist_sample(), Source("Fashion-MNIST, sample", python, words))


def uploaded(path: Path, name: str, share: float, label_column: str | None) -> Data:
    """Read an upload; messages call it by its own name."""
    given: dict[str, Any] = {"dtype": "float32"}
    if label_column:
        if not is_table(path):
            raise CodedError(
                f"{name} has no columns to choose the labels from: it is no table", "no table", name
            )
        given["label_column"] = label_column
    try:
        whole, test = cs.data.read_parts(path, **given)
        is_split = test is None
        train, test = cs.data.split_dataset(whole, share) if test is None else (whole, test)
    except (ValueError, OSError) as error:
        sentence = str(error).replace(str(path), name).replace(path.name, name)
        raise CodedError(sentence, "unreadable", name, sentence) from error
    return Data(train, test, source_of(name, name, given, share if is_split else None))


def source_of(name: str, path: str, given: dict[str, Any], share: float | None) -> Source:
    """Return the code that reads a file or folder; `share` is None if it has a test set."""
    options = {option: value for option, value in given.items() if value is not None}
    if "missing" in options and not isinstance(options["missing"], str):
        options["missing"] = "mean"  # the means of a model's training
    if share not in (None, TEST_SHARE):
        options["test_fraction"] = share
    written = "".join(f", {option}={value!r}" for option, value in options.items())
    words = ["--data", path]
    for option, value in options.items():
        if option == "header":
            words.append("--header" if value else "--no-header")
        elif option == "dtype" and value != "uint8":
            pass  # what the command takes by itself
        elif option not in ("class_names", "feature_names"):  # of a model, not of the command
            text = ",".join(value) if isinstance(value, list) else str(value)
            words += [f"--{option.replace('_', '-')}", text]
    python = f"train, test = cs.read({path!r}{written})"
    return Source(name, python, tuple(words), share is not None)


def name_of_upload(text: str) -> str:
    """Return the last part of a file's name, to call it by; nothing is opened by this name."""
    name = text.replace("\\", "/").rpartition("/")[2]
    return "".join(letter for letter in name if letter.isprintable())[-100:]


def suffix_of(name: str) -> str:
    """Return the suffix that says of which format an upload is."""
    stem = name.lower().removesuffix(".gz")
    packed = name.lower().endswith(".gz")
    for suffix in SUFFIXES:
        if stem.endswith(suffix) and not (packed and suffix == ".npz"):
            return suffix + (".gz" if packed else "")
    suffixes = ", ".join(SUFFIXES)
    raise CodedError(f"{name!r} is of no format that is read here: expected a name that ends with "
                  f"{suffixes} (tables and svmlight also .gz)",
                  "format", name, suffixes)  # fmt: skip


def finite(value: Any, name: str, low: float, high: float) -> float:
    """Return a number of the page within limits."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{name} is {value!r}, expected a number")
    if not low <= value <= high:
        raise ValueError(f"{name} is {value:g}, expected {low:g} to {high:g}")
    return value
