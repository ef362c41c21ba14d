"""What the commands read and check before they start."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import csoftmax as cs
from csoftmax.cli.options import table_options
from csoftmax.core.checks import Stored
from csoftmax.core.names import is_integer_name, listed, positions
from csoftmax.core.sparse import CSR
from csoftmax.data.readers.front import has_names, is_table
from csoftmax.data.readers.table.options import TableOptions
from csoftmax.data.text import as_number, whole_number


def load_model(path: Path) -> cs.SoftmaxRegression:
    """Read a model that can predict."""
    model = cs.SoftmaxRegression.load(path)
    # a bias of -inf rules its class out
    if not np.isfinite(model.W).all() or not (model.b < np.inf).all():
        raise cs.DataError(f"{path}: expected finite weights, got NaN or infinity: the training of "
                           "this model diverged")  # fmt: skip
    return model


def options_for(
    model: cs.SoftmaxRegression | None,
    given: dict[str, Any],
    dtype: str,
    path: Path | None,
    to_train: bool = False,
) -> dict[str, Any]:
    """Return what the readers are told: the options of the command, and what the model knows."""
    table = {**table_options(given, path), "dtype": dtype, "class_names": None}
    if model is None:
        return table
    table["class_names"] = model.class_names
    if model.feature_names:
        table["feature_names"] = model.feature_names
    if path is not None and is_table(path) and any(map(_is_number_as_text, model.class_names)):
        # labels as text, as they were in training: as a number 1.0 would be the class in position 1
        table["labels"] = "text"
    if table.get("missing") == "mean":
        means = model.trained_with.get("means")
        if means is not None:
            table["missing"] = np.asarray(means)
        elif not to_train:
            raise ValueError("--missing mean fills in the means of the training samples, but the "
                             "model was trained without --missing mean")  # fmt: skip
    return table


def _is_number_as_text(name: str) -> bool:
    """Is this a class whose label was a number read as text, such as 2.1 or 07?"""
    return as_number(name) is not None and whole_number(name) is None


def tell_order(path: Path, table: dict[str, Any]) -> None:
    """Warn that the model's features are found by their places alone, where that is so."""
    names = table.get("feature_names")
    if not names or table.get("header") is not None or not is_table(path):
        return
    options = TableOptions(**{key: table[key] for key in table if key != "class_names"})
    if not has_names(path, options):
        warnings.warn(f"{path} has no header: its columns are taken in order for the model's "
                      f"features, {listed(names)}", stacklevel=2)  # fmt: skip


def check_pixels(
    model: cs.SoftmaxRegression, X: Stored, where: str, scale: float | None = None
) -> None:
    """Warn where X is pixels of another kind than the model was trained on.

    `scale` is that of the data that it is about to be trained on. Sparse rows are no pixels.
    """
    if isinstance(X, CSR):
        return
    if X.dtype == np.uint8 and model._scale is None and model.trained_with:
        warnings.warn(f"{where}: pixels 0..255 are scaled to 0..1, but the model was trained on "
                      "floats: right only if these were from 0 to 1", stacklevel=2)  # fmt: skip
    scale = model.scale if scale is None else scale
    if X.dtype.kind == "f" and math.isclose(scale, 1 / 255, rel_tol=1e-6):
        low, high = float(X.min()), float(X.max())
        if low < 0 or high > 1:
            warnings.warn(f"{where}: floats from {low:g} to {high:g}, but the model was trained on "
                          "pixels that are scaled to 0..1", stacklevel=2)  # fmt: skip


def stored_dtype(model: cs.SoftmaxRegression | None) -> str:
    """Return the type in which to read a table: a model with a scale was trained on pixels."""
    if model is None:
        return "float32"
    return model.dtype.name if model.scale == 1 else "uint8"


@contextmanager
def pixels_expected(model: cs.SoftmaxRegression | None) -> Iterator[None]:
    """Add to an error of reading what a model of pixels takes, in case the table is of floats."""
    try:
        yield
    except cs.DataError as error:
        if model is None or stored_dtype(model) != "uint8":
            raise
        raise cs.DataError(f"{error} (the model takes {model.n_features} pixels 0..255)") from None


def find_fashion_mnist(say: Callable[[str], None]) -> tuple[cs.Dataset, cs.Dataset]:
    """Return Fashion-MNIST, or the bundled sample of it where it cannot be had."""
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
    dtype: str | None,
    seed: int | None,
) -> cs.SoftmaxRegression:
    """Return the given model, checked against the data and the type, or else a new one."""
    compute = "float32" if dtype in (None, "uint8") else dtype
    where = str(path or data.name)
    if dtype == "uint8" and data.X.dtype != np.uint8:
        raise ValueError(f"--dtype is uint8 but {where} has {data.X.dtype}")
    if model is None:
        return cs.SoftmaxRegression(
            data.n_features, data.n_classes, seed=seed, dtype=compute,
            class_names=data.class_names, feature_names=data.feature_names,
        )  # fmt: skip
    model.features_of(data.X[:1], where)
    if data.n_classes != model.n_classes:
        raise ValueError(
            f"{where} has {data.n_classes} classes but the model has {model.n_classes}"
        )
    if dtype is not None and model.dtype != np.dtype(compute):
        raise ValueError(f"--dtype is {dtype} but the model holds {model.dtype}")
    return model


def as_trained(
    data: cs.Dataset, model: cs.SoftmaxRegression, say: Callable[[str], None]
) -> cs.Dataset:
    """Return the data with labels in the model's order of classes."""
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


def describe(data: cs.Dataset) -> str:
    """Return name and sizes in a few words."""
    return f"{data.name}: {len(data):,} x {data.n_features}, {data.n_classes} classes"
