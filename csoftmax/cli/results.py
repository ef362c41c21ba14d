"""The folder that a training writes to: model, tables, pictures."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import csoftmax as cs
from csoftmax.cli.messages import users_mistakes
from csoftmax.data.shard_loader import ShardLoader
from csoftmax.rows.base import take

_DRAWN_IMAGES = 24
_BESIDE_THE_MODEL = (
    "history.csv", "sweep.csv", "curves.png", "sweep.png", "confusion.png", "predictions.png",
    "weights.png",
)  # fmt: skip


def refuse_folder(path: Path) -> None:
    """Raise ValueError where a file is to be written but there is a folder."""
    if path.is_dir():
        raise ValueError(f"{path}: expected a file, found a folder")


def make_folder(folder: Path) -> None:
    """Make the folder and try to write in it: a mistake is told now, not after the training."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: expected a folder, found a file")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


@dataclass
class ResultsFolder:
    """The folder that a training writes to; all results in it are of one training."""

    folder: Path
    model: cs.SoftmaxRegression
    facts: dict[str, Any]  # beside those of the training, for the model's file
    say: Callable[[str], None]

    @property
    def model_file(self) -> Path:
        return self.folder / "model.safetensors"

    def save_model(self) -> None:
        """Write the model, and delete the other results of an earlier run, which had another model.

        Without a model of an earlier run, files of these names are somebody else's and stay.
        """
        is_used = self.model_file.exists()
        self.model.trained_with = {**self.model.trained_with, **self.facts}
        self.model.save(self.model_file)
        stale = [path for path in map(self.folder.joinpath, _BESIDE_THE_MODEL) if path.is_file()]
        stale = stale if is_used else []
        for path in stale:
            path.unlink()
        if stale:
            self.say(f"the results of an earlier run in {self.folder} are replaced")


def image_shape(data: cs.Dataset | ShardLoader) -> tuple[int, ...] | None:
    """Return (height, width), or None where the samples are not grey-scale images."""
    shape = data.X.shape[1:]
    return shape[-2:] if len(shape) == 2 or (len(shape) == 3 and shape[0] == 1) else None


def draw_test_set(
    model: cs.SoftmaxRegression, test: cs.Dataset | ShardLoader, folder: Path, threads: int | None,
    say: Callable[[str], None],
) -> None:  # fmt: skip
    """Draw the confusion matrix, and for images the predictions and the weights."""
    from csoftmax import draw

    names = model.class_names
    with users_mistakes():
        metrics = cs.evaluate(model, test, n_threads=threads)
        draw.draw_confusion(metrics.confusion, names, folder / "confusion.png")
        shape = image_shape(test)
        if shape is None or isinstance(test, ShardLoader):
            say("predictions.png and weights.png are left out: the samples are not images")
            return
        # spread over the set, as files may be sorted by class
        rows = np.linspace(0, len(test) - 1, min(_DRAWN_IMAGES, len(test))).astype(np.intp)
        images = take(test.X, rows).reshape(-1, *shape)
        labels = model.predict(images)
        draw.draw_predictions(
            images, test.y[rows], labels, names, folder / "predictions.png", _DRAWN_IMAGES
        )
        draw.draw_weights(model.W, shape, names, folder / "weights.png")
