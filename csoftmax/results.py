"""What training and evaluation come to: an epoch, the history of a training, metrics."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.files import write_atomically

Array = NDArray[Any]


@dataclass
class History:
    """What each epoch of `train` came to.

    ``train_loss`` and ``train_accuracy`` are means over the epoch's minibatches as they were met,
    the parameters moving on meanwhile (the book's figures); ``validation_loss`` and
    ``validation_accuracy`` are of the parameters after the epoch, and empty without validation
    data. Losses are means in nats; ``seconds`` is training alone.

    Examples
    --------
    >>> import csoftmax as cs
    >>> train, test = cs.fashion_mnist_sample()
    >>> history = cs.train(cs.SoftmaxRegression(784, 10, seed=0), train, epochs=2)
    >>> len(history), sorted(history.to_dict())[:3]
    (2, ['epoch', 'samples_per_second', 'seconds'])
    """

    train_loss: list[float] = field(default_factory=list)
    train_accuracy: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    samples_per_second: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.train_loss)

    def add(self, epoch: Epoch, validation: Epoch | None) -> None:
        """Append what an epoch came to; its training loss last, as that makes it count."""
        if validation is not None:
            self.validation_loss.append(validation.loss)
            self.validation_accuracy.append(validation.accuracy)
        self.seconds.append(epoch.seconds)
        self.samples_per_second.append(epoch.n_samples / epoch.seconds)
        self.train_accuracy.append(epoch.accuracy)
        self.train_loss.append(epoch.loss)

    def keep(self, epochs: int) -> None:
        """Drop what there is of later epochs."""
        for values in vars(self).values():
            del values[epochs:]

    def to_dict(self) -> dict[str, list[float]]:
        """Return one list per column, "epoch" (1, 2, ...) first."""
        columns: dict[str, list[float]] = {"epoch": list(range(1, len(self) + 1))}
        columns.update({name: list(values) for name, values in vars(self).items()})
        return columns

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write one line per epoch, whole or not at all; validation only where there was one."""
        columns = self.to_dict()
        if not self.validation_loss:
            del columns["validation_loss"], columns["validation_accuracy"]
        lines = [",".join(columns)]
        lines += [",".join(map(repr, row)) for row in zip(*columns.values(), strict=True)]
        text = "\n".join(lines) + "\n"
        write_atomically(path, lambda file: file.write(text.encode()))


class Epoch(NamedTuple):
    """What one pass over the data came to: mean loss in nats, accuracy, time, samples."""

    loss: float
    accuracy: float
    seconds: float
    n_samples: int


@dataclass(frozen=True, eq=False)
class Metrics:
    """How good a model is on some data; ``str(metrics)`` is a table.

    ``loss`` is the mean in nats. ``confusion[t, p]`` counts samples of true class t predicted as p;
    ``precision[k] = confusion[k, k] / sum_t confusion[t, k]``,
    ``recall[k] = confusion[k, k] / sum_p confusion[k, p]``, NaN where the sum is 0.
    """

    loss: float
    accuracy: float
    precision: Array
    recall: Array
    confusion: NDArray[np.int64]
    class_names: tuple[str, ...]
    n_samples: int

    def __str__(self) -> str:
        width = max([len("class"), *map(len, self.class_names)])
        lines = [f"{'class':<{width}}  precision  recall  samples"]
        for k, name in enumerate(self.class_names):
            precision, recall = (
                "-" if math.isnan(value) else f"{value:.3f}"
                for value in (self.precision[k], self.recall[k])
            )
            count = self.confusion[k].sum()
            lines.append(f"{name:<{width}}  {precision:>9}  {recall:>6}  {count:>7}")
        lines.append(
            f"loss {self.loss:.4f}, accuracy {self.accuracy:.4f}, {self.n_samples} samples"
        )
        return "\n".join(lines)
