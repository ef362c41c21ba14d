"""`train` by minibatches: an epoch after the other, each told in a line."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass

import csoftmax as cs
from csoftmax.cli.messages import UserError, mistakes_in_files, users_mistakes
from csoftmax.cli.results import ResultsFolder, draw_test_set, image_shape
from csoftmax.data.shard_loader import ShardLoader


@dataclass
class SgdTraining:
    """A training by minibatches: the model that it fills, and where the results go."""

    model: cs.SoftmaxRegression
    results: ResultsFolder
    optimizer: cs.SGD
    epochs: int
    batch_size: int
    seed: int
    threads: int | None
    resumed: bool
    progress: bool | None  # a bar? None: if stderr is a terminal
    say: Callable[[str], None]
    unit: str = "samples/s"
    history: cs.History | None = None  # of the finished epochs

    def finish(
        self, data: cs.Dataset | ShardLoader, test: cs.Dataset | ShardLoader, pictures: bool
    ) -> float:
        """Train, save, draw; return the accuracy on the test set."""
        if image_shape(data):
            self.unit = "images/s"
        loader: cs.DataLoader | ShardLoader
        if isinstance(data, ShardLoader):
            loader = data
        else:
            loader = cs.DataLoader.from_dataset(data, self.batch_size, shuffle=True, seed=self.seed)
        try:
            with mistakes_in_files():
                history = cs.train(
                    self.model, loader, validation=test, epochs=self.epochs,
                    optimizer=self.optimizer, callbacks=[self._after_epoch],
                    progress=self.progress, n_threads=self.threads,
                )  # fmt: skip
            self._save()
            diverged = warn_if_diverged(history, self.model, self.optimizer.lr)
            if pictures:
                self._draw(history, test)
            if not diverged and not self.resumed:
                tell_few_steps(len(loader), len(history), self.say)
        except KeyboardInterrupt:
            raise UserError(self._interrupted(), 130) from None
        return history.validation_accuracy[-1]

    def _after_epoch(self, model: cs.SoftmaxRegression, history: cs.History) -> bool:
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

    def _save(self) -> None:
        """Write the model and the finished epochs."""
        if self.history is None:
            return
        with users_mistakes():
            self.results.save_model()
            self.history.to_csv(self.results.folder / "history.csv")

    def _interrupted(self) -> str:
        """Save what there is, and say so."""
        if self.history is None:
            return "interrupted before the end of the first epoch: nothing was saved"
        self._save()
        path = self.results.model_file
        return f"interrupted: the model after epoch {len(self.history)} is saved in {path}"

    def _draw(self, history: cs.History, test: cs.Dataset | ShardLoader) -> None:
        from csoftmax import draw

        with users_mistakes():
            draw.draw_curves(history, self.results.folder / "curves.png", validation_name="test")
        draw_test_set(self.model, test, self.results.folder, self.threads, self.say)


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
