"""`train` on data in many files, by the estimator: rows are read part by part."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

import csoftmax as cs
from csoftmax.cli.lbfgs import write_table
from csoftmax.cli.messages import users_mistakes
from csoftmax.cli.parsing import given_options
from csoftmax.cli.results import ResultsFolder, make_folder
from csoftmax.data.shards import Shards
from csoftmax.solver.solution import in_percent
from csoftmax.solver.two_classes import estimator_C

_NOT_FOR_SHARDS = ("sweep", "resume", "nesterov")


@dataclass
class ShardsTraining:
    """A training on shards: its settings, and where the results go."""

    data: Shards
    folder: Path
    full_passes: bool
    options: dict[str, Any]  # of the command
    say: Callable[[str], None]

    def finish(self, test_fraction: float, how: dict[str, Any]) -> float:
        """Fit, save; return the accuracy on the shards held out, or on all where there is one.

        `how` says how the files are opened, for those who predict with the model.
        """
        with users_mistakes():
            make_folder(self.folder)
            train, test = hold_out(self.data, test_fraction, self.options["seed"])
            self.say(f"train on {train}")
            self.say(f"test on {test}" if test else "test on the same rows: there is one shard")
            classifier = self._classifier(train).fit(train)
            self._tell(classifier)
            self._save(classifier, how)
            accuracy: float = classifier.score(test or train)
        return accuracy

    def _classifier(self, train: Shards) -> Any:
        try:
            from csoftmax.estimators import SoftmaxClassifier
        except ModuleNotFoundError as error:
            raise ValueError("training on shards needs scikit-learn: pip install "
                             "'csoftmax[sklearn]'") from error  # fmt: skip
        given = self.options
        settings = {"random_state": given["seed"], "n_threads": given["threads"]}
        if self.full_passes:
            return SoftmaxClassifier(
                C=given["C"], l1_ratio=given["l1_ratio"], tol=given["tol"],
                max_iter=given["max_iter"], **settings,
            )  # fmt: skip
        decay = given["weight_decay"] * train.n_rows
        C = estimator_C(1 / decay, len(train.classes)) if decay else math.inf
        return SoftmaxClassifier(
            solver="sgd", C=C, tol=0.0,
            max_iter=given["epochs"], n_iter_no_change=given["epochs"],
            batch_size=given["batch_size"], momentum=given["momentum"],
            learning_rate=given["lr"], **settings,
        )  # fmt: skip

    def _tell(self, classifier: Any) -> None:
        history = classifier.history_
        if not self.full_passes:
            for e, (loss, accuracy) in enumerate(
                zip(history["loss"], history["accuracy"], strict=True)
            ):
                self.say(f"epoch {e + 1}: train loss {loss:.4f}, accuracy {accuracy:.4f}")
            return
        gap = classifier.gap_
        self.say(
            f"C = {classifier.C:g}: objective {gap.objective:.6f}, above the optimum by "
            f"{in_percent(gap.relative)} % as estimated, by "
            f"{in_percent(gap.bound / gap.objective)} % at most"
        )

    def _facts(self, classifier: Any) -> dict[str, Any]:
        """Return how the model was trained, as the other trainings write it into its file."""
        facts: dict[str, Any] = {
            "n_samples": self.data.n_rows,
            "n_iter": int(classifier.n_iter_[0]),
        }
        if self.full_passes:
            gap = classifier.gap_
            names = ["C", "l1_ratio", "tol", "max_iter"]
            facts |= {"solver": "newton-cd" if self.options["l1_ratio"] else "lbfgs",
                      "gap": (gap.objective, gap.bound, gap.estimate)}  # fmt: skip
        else:
            names = ["lr", "momentum", "weight_decay", "batch_size", "epochs"]
            facts |= {"solver": "sgd"}
        return {**facts, **{name: self.options[name] for name in names}}

    def _save(self, classifier: Any, how: dict[str, Any]) -> None:
        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            file = Path(place) / "model.safetensors"
            classifier.save(file)
            model = cs.SoftmaxRegression.load(file)
        model.feature_names = self.data.feature_names
        model.trained_with = {**self._facts(classifier), "shards": how}
        ResultsFolder(self.folder, model, None, self.say).save_model()
        history = classifier.history_
        write_table(
            self.folder / "history.csv", list(history), list(zip(*history.values(), strict=True))
        )


def refuse_for_shards(context: click.Context) -> None:
    """Raise ValueError for options that would have no effect on shards."""
    for name in _NOT_FOR_SHARDS:
        if name in given_options(context):
            raise ValueError(f"--{name} is not for data in many files")


def hold_out(data: Shards, fraction: float, seed: int) -> tuple[Shards, Shards | None]:
    """Return shards to train on, and others, at least one, to test on; None where there is one.

    Shards without rows count as none.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"test_fraction must be between 0 and 1, got {fraction}")
    filled = [s for s, part in enumerate(data.parts) if part.n_rows]
    if len(filled) < 2:
        return data, None
    n_held = min(len(filled) - 1, max(1, round(fraction * len(filled))))
    order = np.random.default_rng(seed).permutation(filled)
    return data[sorted(order[n_held:].tolist())], data[sorted(order[:n_held].tolist())]
