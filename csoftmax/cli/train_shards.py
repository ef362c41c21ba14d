"""`train` on data in many files: which of them are trained on, and which test the model."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import csoftmax as cs
from csoftmax.cli.shards import labelled_shards, with_progress
from csoftmax.data.shard_loader import ShardLoader
from csoftmax.data.shards import Shards
from csoftmax.labelled import number_shards


class ShardSets(NamedTuple):
    """What of shards is trained on, and what tests the model."""

    model: cs.SoftmaxRegression
    train: ShardLoader
    test: ShardLoader
    how: dict[str, Any]  # the files are opened, for the model's file


def shards_to_train(
    options: dict[str, Any], given: dict[str, Any], model: cs.SoftmaxRegression | None,
    full_passes: bool, fraction: float,
) -> ShardSets:  # fmt: skip
    """Open the shards that the command names, and hold some of them out to test on.

    `options` are those of the command, `given` those of tables. The model is a new one unless one
    is given.
    """
    path, dtype = options["data"], options["dtype"]
    if dtype is None and model is not None and model.dtype == np.float64:
        dtype = "float64"
    data, how = labelled_shards(path, given, model, dtype, options["label_files"], options["cache"])
    refuse_for_full_passes(data, options, full_passes)
    whole = ShardLoader(
        data, options["batch_size"], seed=options["seed"],
        scale=None if model is None else model._scale,
    )  # fmt: skip
    if len(whole.class_names) < 2:
        raise ValueError(f"{path} has one class, {whole.class_names[0]}: expected at least two")
    if model is None:
        model = cs.SoftmaxRegression(
            data.n_features, len(whole.class_names), seed=options["seed"],
            dtype="float64" if dtype == "float64" else "float32",
            class_names=whole.class_names, feature_names=data.feature_names,
        )  # fmt: skip
    elif dtype == "float64" != model.dtype:
        raise ValueError(f"--dtype is {dtype} but the model holds {model.dtype}")
    number_shards(model, whole, str(path))
    test: ShardLoader | None
    if options["test_data"] is not None:
        train, test = whole, _test_set(model, whole, options, given, dtype, how)
    else:
        numbers, held_out = hold_out(data, fraction, options["seed"])
        train = whole.some(numbers)
        test = None if held_out is None else whole.some(held_out)
    train = with_progress(train, options["quiet"])
    return ShardSets(
        model, train, train if test is None else with_progress(test, options["quiet"]), how
    )


def _test_set(
    model: cs.SoftmaxRegression, whole: ShardLoader, options: dict[str, Any],
    given: dict[str, Any], dtype: str | None, how: dict[str, Any],
) -> ShardLoader:  # fmt: skip
    """Open the data to test on as those to train on were."""
    path = options["test_data"]
    data, _ = labelled_shards(
        path, given, model, dtype, options["test_label_files"], None, how, "--test-label-files"
    )
    test = ShardLoader(data, scale=whole.scale)
    number_shards(model, test, str(path))
    return test


def refuse_for_full_passes(data: Shards, options: dict[str, Any], full_passes: bool) -> None:
    """Raise ValueError for what full passes over shards cannot do."""
    if full_passes and data.is_sparse and options["l1_ratio"]:
        raise ValueError(
            f"--l1-ratio is above 0 and {options['data']} is sparse, in many files: expected "
            "--solver sgd"
        )


def hold_out(data: Shards, fraction: float, seed: int) -> tuple[list[int], list[int] | None]:
    """Return the numbers of shards to train on, and of others, at least one, to test on.

    None where there is one shard. Shards without rows count as none.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"test_fraction must be between 0 and 1, got {fraction}")
    filled = [s for s, part in enumerate(data.parts) if part.n_rows]
    if len(filled) < 2:
        return filled, None
    n_held = min(len(filled) - 1, max(1, round(fraction * len(filled))))
    order = np.random.default_rng(seed).permutation(filled).tolist()
    return sorted(order[n_held:]), sorted(order[:n_held])
