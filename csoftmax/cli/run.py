"""A run at the command line: its lines, the folder with its results, and its mistakes."""

from __future__ import annotations

import csv
import math
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

import csoftmax as cs
from csoftmax.rows.base import blocks, take

_PREDICTED_ROWS = 8192  # at a time: bounds the memory for the probabilities of many classes
_DRAWN_IMAGES = 24
_BESIDE_THE_MODEL = (
    "history.csv", "sweep.csv", "curves.png", "sweep.png", "confusion.png", "predictions.png",
    "weights.png",
)  # fmt: skip
_OPTIONS = (
    ("header=True", "--header"), ("header=False", "--no-header"),
    ("missing='drop'", "--missing drop"), ("missing='mean'", "--missing mean"),
    ("missing=train.X.mean(axis=0)", "--missing mean"), ("labels='text'", "--labels text"),
    ("as label_column", "by --label-column"),
)  # fmt: skip


class UserError(Exception):
    """A message for the user in place of a traceback."""

    def __init__(self, message: str, exit_code: int = 2) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@contextmanager
def users_mistakes() -> Iterator[None]:
    """Within this, what the library refuses is what the user gave."""
    try:
        yield
    except BrokenPipeError:
        raise
    except (ValueError, OSError, MemoryError) as error:
        if isinstance(error, OSError) and error.strerror and error.filename is not None:
            raise UserError(f"{error.filename}: {error.strerror}") from error
        raise UserError(as_options(one_line(str(error)))) from error


def as_options(text: str) -> str:
    """Return a message of the library with the options' names in the place of parameters."""
    for parameter, option in _OPTIONS:
        text = text.replace(parameter, option)
    return re.sub(r"decimal='(.)'", r"--decimal \1", text)


def one_line(text: str) -> str:
    return " ".join(text.split())


def image_shape(data: cs.Dataset) -> tuple[int, ...] | None:
    shape = data.X.shape[1:]
    return shape[-2:] if len(shape) == 2 or (len(shape) == 3 and shape[0] == 1) else None


@dataclass
class Results:
    """The folder that a run writes to, which is all of that run."""

    folder: Path
    model: cs.SoftmaxRegression
    means: list[float] | None
    say: Callable[[str], None]

    @property
    def model_file(self) -> Path:
        return self.folder / "model.safetensors"

    def save_model(self) -> None:
        """Write the model, and take away what an earlier run left: it is not of this model.

        Where there is no model of an earlier run, files of these names are somebody else's.
        """
        is_used = self.model_file.exists()
        if self.means is not None:
            self.model.trained_with = {**self.model.trained_with, "means": self.means}
        self.model.save(self.model_file)
        stale = [path for path in map(self.folder.joinpath, _BESIDE_THE_MODEL) if path.is_file()]
        stale = stale if is_used else []
        for path in stale:
            path.unlink()
        if stale:
            self.say(f"the results of an earlier run in {self.folder} are replaced")


@dataclass
class Run:
    """What a training run has come to, and where its results go."""

    model: cs.SoftmaxRegression
    results: Results
    epochs: int
    unit: str
    say: Callable[[str], None]
    history: cs.History | None = None

    def after_epoch(self, model: cs.SoftmaxRegression, history: cs.History) -> bool:
        """Print the epoch's line; stop a training that has nothing left to learn from."""
        if self.history is None:
            self.say(
                f"{'epoch':>9}  train loss  train accuracy  test accuracy  seconds  {self.unit:>12}"
            )
        self.history = history
        epoch = f"{len(history)}/{self.epochs}"
        self.say(
            f"{epoch:>9}  {history.train_loss[-1]:>10.4f}  {history.train_accuracy[-1]:>14.4f}  "
            f"{history.validation_accuracy[-1]:>13.4f}  {history.seconds[-1]:>7.3f}  "
            f"{history.samples_per_second[-1]:>12,.0f}"
        )
        return not math.isfinite(history.train_loss[-1])

    def save(self) -> None:
        """Write the model and the finished epochs."""
        if self.history is None:
            return
        with users_mistakes():
            self.results.save_model()
            self.history.to_csv(self.results.folder / "history.csv")

    def interrupted(self) -> str:
        """Save what there is, and say so."""
        if self.history is None:
            return "interrupted before the end of the first epoch: nothing was saved"
        self.save()
        path = self.results.model_file
        return f"interrupted: the model after epoch {len(self.history)} is saved in {path}"


def warn_if_diverged(history: cs.History, model: cs.SoftmaxRegression, lr: float) -> bool:
    loss, guessing = history.train_loss[-1], math.log(model.n_classes)
    diverged = not loss < 2 * guessing
    if diverged:
        print(
            f"csoftmax: warning: training diverged: the loss is {loss:.4g} nats, that of guessing "
            f"is {guessing:.4g}; try a smaller --lr (it was {lr:g}), features scaled to about "
            "-1..1, or --dtype uint8 if they are pixels 0..255 in a table",
            file=sys.stderr,
        )
    return diverged


def tell_few_steps(an_epoch: int, epochs: int, say: Callable[[str], None]) -> None:
    """Say so where the data are so small that an epoch hardly moves the weights."""
    if an_epoch < 10 and an_epoch * epochs < 100:
        say(
            f"only {an_epoch * epochs} steps of gradient descent: --solver lbfgs goes to the "
            "optimum, a smaller --batch-size takes more steps"
        )


def draw_results(run: Run, history: cs.History, test: cs.Dataset, threads: int | None) -> None:
    from csoftmax import draw

    with users_mistakes():
        draw.draw_curves(history, run.results.folder / "curves.png", validation_name="test")
    draw_test_set(run.model, test, run.results.folder, threads, run.say)


def draw_test_set(
    model: cs.SoftmaxRegression, test: cs.Dataset, folder: Path, threads: int | None,
    say: Callable[[str], None],
) -> None:  # fmt: skip
    """Draw the confusion matrix, and for images the predictions and the weights."""
    from csoftmax import draw

    names = model.class_names
    with users_mistakes():
        metrics = cs.evaluate(model, test, n_threads=threads)
        draw.draw_confusion(metrics.confusion, names, folder / "confusion.png")
        shape = image_shape(test)
        if shape is None:
            say("predictions.png and weights.png are left out: the samples are not images")
            return
        # Spread over the set: files may be sorted by class.
        rows = np.linspace(0, len(test) - 1, min(_DRAWN_IMAGES, len(test))).astype(np.intp)
        images = take(test.X, rows).reshape(-1, *shape)
        labels = model.predict(images)
        draw.draw_predictions(
            images, test.y[rows], labels, names, folder / "predictions.png", _DRAWN_IMAGES
        )
        draw.draw_weights(model.W, shape, names, folder / "weights.png")


def write_predictions(
    file: IO[str], model: cs.SoftmaxRegression, X: NDArray[Any], kept: NDArray[np.bool_] | None,
    threads: int | None, all_classes: bool,
) -> None:  # fmt: skip
    """Write a row per sample: its class, the probability of that, and if wanted of each class.

    X has the samples that were kept; the others get empty cells, so that a line here is of the
    same sample as the line there.
    """
    writer = csv.writer(file, lineterminator="\n")
    columns = ("label", "probability", *(model.class_names if all_classes else ()))
    writer.writerow(columns)
    predicted = _predicted(model, X, threads, all_classes)
    if kept is None:
        writer.writerows(predicted)
    else:
        unknown = ("",) * len(columns)
        writer.writerows(next(predicted) if row else unknown for row in kept)
    file.flush()


def _predicted(
    model: cs.SoftmaxRegression, X: NDArray[Any], threads: int | None, all_classes: bool
) -> Iterator[tuple[str, ...]]:
    names = model.class_names
    for rows in blocks(len(X), _PREDICTED_ROWS):
        probabilities = model.predict_proba(take(X, rows), n_threads=threads)
        labels = probabilities.argmax(axis=1)
        best = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
        # small probabilities keep their digits
        others = ([f"{p:.6g}" for p in row] for row in probabilities if all_classes)
        for k, p in zip(labels.tolist(), best.tolist(), strict=True):
            yield names[k], f"{p:.6f}", *next(others, ())
