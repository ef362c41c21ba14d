"""The safetensors file of a model: two tensors, and what else is known of it as JSON."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.errors import DataError
from csoftmax.core.files import write_atomically
from csoftmax.core.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

Array = NDArray[Any]
# One entry of the file's metadata, so that the same model gives the same bytes.
METADATA_KEY = "csoftmax.SoftmaxRegression"
FORMAT_VERSION = 1


def write_parameters(
    path: str | os.PathLike[str], weight: Array, bias: Array, facts: dict[str, Any]
) -> None:
    """Write one safetensors file: two tensors, and the facts and versions as JSON."""
    import json  # here and below: `import csoftmax` stays light

    from safetensors.numpy import save

    description = {"format_version": FORMAT_VERSION, "csoftmax_version": __version__, **facts}
    content = save({"weight": weight, "bias": bias}, {METADATA_KEY: json.dumps(description)})
    write_atomically(path, lambda file: file.write(content))


def read_parameters(path: Path) -> tuple[dict[str, Any], Array, Array]:
    """Return what the file says of the model, and its checked weight and bias."""
    import json

    from safetensors import SafetensorError, safe_open

    if not path.exists():
        raise FileNotFoundError(f"{path}: no such model file")
    if path.is_dir():
        raise DataError(f"{path}: expected a safetensors file, got a folder")
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(METADATA_KEY, "null")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    # TypeError, AttributeError: a type of number that NumPy does not have, such as bfloat16
    except (SafetensorError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: expected a safetensors file of a model, got: {error}") from None
    try:
        description = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: expected JSON of a model as metadata, got: {error}") from None
    if not isinstance(description, dict) or set(tensors) != {"weight", "bias"}:
        raise DataError(
            f"{path}: expected a model saved by csoftmax, with tensors weight and bias; got "
            f"{', '.join(sorted(tensors)) or 'none'}"
        )
    weight, bias = tensors["weight"], tensors["bias"]
    if weight.ndim != 2 or bias.shape != weight.shape[:1] or 0 in weight.shape:
        raise DataError(
            f"{path}: expected weight (n_classes, n_features) and bias (n_classes,), "
            f"got {weight.shape} and {bias.shape}"
        )
    if weight.dtype not in (np.float32, np.float64) or bias.dtype != weight.dtype:
        raise DataError(
            f"{path}: expected weight and bias both float32 or both float64, "
            f"got {weight.dtype} and {bias.dtype}"
        )
    return description, weight, bias


def feature_names_of(description: dict[str, Any]) -> Any:
    """Return what the file has for the features' names.

    A classifier keeps those of its data frame among its facts; they need not be as those of a
    table's header, which have no outer blanks and tell its columns apart.
    """
    names = description.get("feature_names")
    if names is None and isinstance(description.get("classifier"), dict):
        names = description["classifier"].get("feature_names")
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            stripped = [name.strip() for name in names]
            return stripped if all(stripped) and len({*stripped}) == len(stripped) else []
    return [] if names is None else names


def list_of_names(names: Any, what: str) -> list[str]:
    """Return names from a file, or raise TypeError."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{what} {names!r}, not a list of names")
    return names
