"""What the commands read and check before they start."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

import csoftmax as cs
from csoftmax._names import is_integer_name, listed, positions


class Dtype(str, Enum):
    """What --dtype accepts."""

    float32 = "float32"
    float64 = "float64"
    uint8 = "uint8"


def printer(quiet: bool) -> Callable[[str], None]:
    def say(line: str) -> None:
        from tqdm import tqdm

        try:
            tqdm.write(line)  # a plain print would run into the progress bar
            sys.stdout.flush()
        except BrokenPipeError:  # the model will be wanted all the same
            drop_output()

    return (lambda line: None) if quiet else say


def drop_output() -> None:
    """Let what is printed from now on vanish: its reader, such as `head`, has had enough."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def table_options(label_column: str | None, dtype: str) -> dict[str, Any]:
    column: str | int | None = label_column
    if label_column is not None and label_column.removeprefix("-").isdecimal():
        column = int(label_column)
    return {"label_column": column, "dtype": dtype}


def stored_dtype(model: cs.SoftmaxRegression | None) -> Dtype:
    """The type in which to read a table: a model with a scale was trained on pixels."""
    if model is None:
        return Dtype.float32
    return Dtype(model.dtype.name) if model.scale == 1 else Dtype.uint8


@contextmanager
def pixels_expected(model: cs.SoftmaxRegression | None) -> Iterator[None]:
    """Say what a model of pixels takes, where a table of something else was read for it."""
    try:
        yield
    except cs.DataError as error:
        if model is None or stored_dtype(model) is not Dtype.uint8:
            raise
        raise cs.DataError(f"{error} (the model takes {model.n_features} pixels 0..255)") from None


def find_fashion_mnist(say: Callable[[str], None]) -> tuple[cs.Dataset, cs.Dataset]:
    try:
        train_set, test_set = cs.fashion_mnist()
    except cs.DataNotFoundError as error:
        say(f"{error}\nUntil then the bundled sample of it will do.")
        return cs.fashion_mnist_sample()
    place = next(place for place in cs.dataset_locations() if place.found)
    return replace(train_set, name=f"{train_set.name} of {place.path}"), test_set


def model_for(
    data: cs.Dataset,
    path: Path | None,
    model: cs.SoftmaxRegression | None,
    dtype: Dtype | None,
    seed: int | None,
) -> cs.SoftmaxRegression:
    """The given model, checked against the data and the type, or a new one."""
    compute = "float32" if dtype in (None, Dtype.uint8) else dtype.value
    if model is None:
        return cs.SoftmaxRegression(
            data.n_features, data.n_classes, seed=seed, dtype=compute, class_names=data.class_names
        )  # fmt: skip
    where = str(path or data.name)
    model.features_of(data.X[:1], where)
    if data.n_classes != model.n_classes:
        raise ValueError(
            f"{where} has {data.n_classes} classes but the model has {model.n_classes}"
        )
    if dtype is not None and model.dtype != np.dtype(compute):
        raise ValueError(f"--dtype is {dtype.value} but the model holds {model.dtype}")
    return model


def as_trained(
    data: cs.Dataset, model: cs.SoftmaxRegression, say: Callable[[str], None]
) -> cs.Dataset:
    """The data with the model's order of classes."""
    wanted = model.class_names
    labels = model.labels_of(data.y, len(data), data.class_names, data.name)
    counted = positions(model.n_classes)
    if wanted != counted and set(data.class_names) <= set(counted) - set(wanted):
        say(f"labels 0, 1, ... are taken for the model's classes in order: {', '.join(wanted)}")
    names = data.class_names if labels is data.y else wanted
    return replace(data, y=labels, class_names=names)


def tell_positions(model: cs.SoftmaxRegression, say: Callable[[str], None]) -> None:
    """Say what integer labels mean to a model whose classes have names."""
    if any(map(is_integer_name, model.class_names)):
        return  # integers mean themselves
    pairs = [f"{k} is {name}" for k, name in enumerate(model.class_names)]
    say(f"labels that are integers count the model's classes: {listed(pairs)}")


def make_folder(folder: Path) -> None:
    """Make the folder, and find out now, not after the training, whether it can be written."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: expected a folder, found a file")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def describe(data: cs.Dataset) -> str:
    return f"{data.name}: {len(data):,} x {data.n_features}, {data.n_classes} classes"
