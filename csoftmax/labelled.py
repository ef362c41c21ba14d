"""Labelled data as training and evaluation take them: checked, and matched with the model."""

from __future__ import annotations

import math
import warnings
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.checks import Stored, check_number
from csoftmax.core.errors import DataError
from csoftmax.core.names import check_feature_names, class_order, listed
from csoftmax.core.sparse import as_csr, is_sparse
from csoftmax.data import DataLoader, Dataset
from csoftmax.data.shard_loader import ShardLoader
from csoftmax.model import SoftmaxRegression, is_integer
from csoftmax.rows.shards import ShardRows

Array = NDArray[Any]
Data: TypeAlias = "DataLoader | Dataset | tuple[Any, Any]"
Names: TypeAlias = tuple[tuple[str, ...], tuple[str, ...]]  # of classes, of features
DEFAULT_BATCH_SIZE = 256  # the book's


def check_model(model: object) -> None:
    """Raise TypeError for anything but a model."""
    if not isinstance(model, SoftmaxRegression):
        raise TypeError(f"model is a {type(model).__name__}, expected a SoftmaxRegression")


def are_shards(data: Any) -> bool:
    """Are these `csoftmax.data.Shards`? Their module is not imported to tell."""
    return isinstance(getattr(data, "rows", None), ShardRows)


def as_loader(data: Data, name: str, scale: float) -> DataLoader:
    """Return data as a loader; `scale` is for integers that come without one."""
    if isinstance(data, DataLoader):
        return data
    if isinstance(data, Dataset):
        return DataLoader.from_dataset(data, DEFAULT_BATCH_SIZE, shuffle=True)
    if isinstance(data, tuple) and len(data) == 2:
        if any(isinstance(part, (DataLoader, Dataset)) for part in data):
            raise TypeError(f"{name} is a pair of data sets, expected one of them or a pair (X, y)")
        X, y = data[0], np.asarray(data[1])
        X = as_csr(X) if is_sparse(X) else np.asarray(X)
        own_scale = scale if is_integer(X) else 1.0
        return DataLoader(X, y, DEFAULT_BATCH_SIZE, shuffle=True, scale=own_scale)
    raise TypeError(
        f"{name} is a {type(data).__name__}, expected a DataLoader, a Dataset or a pair (X, y)"
    )


def check_labelled(
    model: SoftmaxRegression, data: DataLoader, name: str, names: Names | None = None
) -> tuple[Stored, NDArray[np.int64]]:
    """Return X as (n_samples, n_features), and y as the model numbers its classes.

    Labels index C arrays: they are checked each time. `names` stands for the model's own.
    """
    class_names, feature_names = names or (model._class_names, model.feature_names)
    check_feature_names(data.feature_names, feature_names, name)
    features = model.features_of(data.X, f"{name}.X")
    labels = model.labels_of(data.y, len(features), data.class_names, name, class_names)
    return features, labels


def check_shards(
    model: SoftmaxRegression, loader: ShardLoader, name: str, names: Names | None = None
) -> Array:
    """Return the labels of shards as the model numbers its classes, of small integers.

    DataError names shard and row of the first label of a class that the model does not know.
    """
    class_names, feature_names = names or (model._class_names, model.feature_names)
    check_feature_names(loader.feature_names, feature_names, name)
    if loader.X.n_features != model.n_features:
        raise ValueError(f"{name} has {loader.X.n_features} features but the model has "
                         f"{model.n_features}")  # fmt: skip
    order = class_order(loader.class_names, class_names, model.n_classes, name)
    if order is None:
        return loader.y
    for k in np.flatnonzero(order < 0).tolist():
        at = np.flatnonzero(loader.y == k)
        if len(at):
            wanted = class_names or model.class_names
            raise DataError(
                f"{loader.X.place(int(at[0]))}: the label {loader.class_names[k]} is not one of "
                f"the model's {model.n_classes} classes {listed(wanted)}"
            )
    moved: Array = order.astype(np.min_scalar_type(model.n_classes - 1))[loader.y]
    return moved


def number_shards(model: SoftmaxRegression, loader: ShardLoader, name: str) -> None:
    """Let the labels of a loader be as the model numbers its classes."""
    loader.y = check_shards(model, loader, name)
    loader.class_names = model.class_names


def check_same_images(train: DataLoader, train_name: str, other: DataLoader, name: str) -> None:
    """Refuse images of another height and width with as many pixels: each pixel has its weight."""
    shapes = [tuple(n for n in loader.X.shape[1:] if n != 1) for loader in (train, other)]
    if min(map(len, shapes)) > 1 and shapes[0] != shapes[1]:
        raise ValueError(
            f"{name}.X has samples of shape {other.X.shape[1:]} but {train_name}.X of "
            f"{train.X.shape[1:]}"
        )


def names_after(model: SoftmaxRegression, loader: DataLoader | Dataset | ShardLoader) -> Names:
    """Return the model's names of classes and features once it has been trained on these data."""
    classes, features = model._class_names, model.feature_names
    same = class_order(loader.class_names, classes, model.n_classes, "train_data") is None
    return classes or (loader.class_names if same else ()), features or loader.feature_names


def take_facts(model: SoftmaxRegression, data: DataLoader | Dataset | ShardLoader) -> None:
    """Give the model what it lacks and the data know: names of classes and features, the recipe."""
    model.class_names, model.feature_names = names_after(model, data)
    model.recipe = model.recipe or data.recipe


def scale_of(
    model: SoftmaxRegression,
    data: DataLoader | Dataset | ShardLoader,
    name: str,
    stacklevel: int = 4,
) -> float:
    """Return what the data are multiplied by; a warning tells where it is not their own scale."""
    own = check_number(data.scale, f"{name}.scale")
    scale = model.scale_for(data.X, own)
    if not math.isclose(scale, own, rel_tol=1e-6):
        warnings.warn(
            f"{name}.scale is {own:g} but the model's is {scale:g}, which is used",
            stacklevel=stacklevel,
        )
    return scale
