"""Runs by full passes: one C to its optimum, or a sweep over many, as the command line has them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

import csoftmax as cs
from csoftmax import solver
from csoftmax.app.job import Job
from csoftmax.core.checks import as_features
from csoftmax.data.split import held_out_rows
from csoftmax.labelled import scale_of, take_facts
from csoftmax.model import is_integer
from csoftmax.optimum import facts_of, minimize_for
from csoftmax.rows.base import take
from csoftmax.solver.two_classes import softmax_C

Array = NDArray[Any]
HELD_OUT = 0.2  # of the training samples, for a sweep to choose by


def run_passes(job: Job) -> bool:
    """Go to the optimum for one C; False if it was stopped."""
    fit = _Fit(job)
    return fit.to_optimum(job.run_.settings["C"])


def run_sweep(job: Job) -> bool:
    """Try each C on four fifths of the samples, choose by the rest, fit that C to all of them."""
    settings = job.run_.settings
    fit, Cs = _Fit(job), settings["Cs"]
    train, test = job.data.train, job.data.test
    held = held_out_rows(train.y, HELD_OUT, settings["seed"])
    weight = np.where(held, 0.0, 1.0)
    parts = [(fit.X, train.y), (take(fit.X, held), train.y[held]), (as_features(test.X), test.y)]
    n_held = int(held.sum())
    found: dict[float, tuple[Array, Array]] = {}
    accuracies: dict[float, float] = {}

    def add(head: int, W: Array, b: Array) -> None:
        C = Cs[head]
        if C in found:
            return
        found[C] = W, b = W.copy(), b.copy()
        (_, right), (loss, right_held), (test_loss, right_test) = (
            cs.linear_evaluate(X, W.T, b, y, scale=fit.scale) for X, y in parts
        )
        accuracies[C] = right_held / n_held
        fit.move(W, b)
        job.tell("point", {
            "C": C, "train_accuracy": (right - right_held) / (len(train) - n_held),
            "test_loss": test_loss, "test_accuracy": right_test / len(test),
            "n_selected": int(W.any(axis=0).sum()), "validation_loss": loss,
            "validation_accuracy": accuracies[C],
        })  # fmt: skip

    def tell(progress: solver.Progress) -> bool:
        for head in np.flatnonzero(~progress.running & np.isfinite(progress.estimate)).tolist():
            add(head, *progress.parameters(head))
        return not job.control.go_on()

    solution = fit.minimize(np.array(Cs), sample_weight=weight, path=True, callback=tell)
    for head, status in enumerate(solution.status):  # with L1 nobody has told of the last one
        if status in ("converged", "limit", "stalled"):
            add(head, solution.W[head], solution.b[head])
    if not found:
        return False
    best = max(found, key=lambda C: (accuracies[C], -C))
    job.tell("best", {"best_C": best})
    if len(found) < len(Cs):
        fit.keep(best, *found[best])
        return False
    return fit.to_optimum(best, found[best])


class _Fit:
    """The solver on the data of a job, and what becomes of its model."""

    def __init__(self, job: Job) -> None:
        self.job, self.model, self.data = job, job.model, job.data.train
        self.X = as_features(self.data.X)
        self.scale = scale_of(self.model, self.data, "train_data")
        self.l1_ratio: float = job.run_.settings["l1_ratio"]
        if is_integer(self.data.X):
            self.model.scale = self.scale
        take_facts(self.model, self.data)

    def to_optimum(self, C: float, start: tuple[Array, Array] | None = None) -> bool:
        """Minimise for one C, telling of each pass; False if it was stopped."""

        def tell(progress: solver.Progress) -> bool:
            objective, estimate = float(progress.objective[0]), float(progress.estimate[0])
            W, b = progress.parameters(0)
            self.move(W, b)
            loss = objective - self.penalty(C, W)
            self.job.tell("pass", {
                "pass": progress.n_passes, "objective": objective, "estimate": estimate,
                "loss": loss,
            })  # fmt: skip
            return not self.job.control.go_on()

        given = {} if start is None else {"W": start[0][None], "b": start[1][None]}
        solution = self.minimize(C, callback=tell, **given)
        facts = [float(numbers[0]) for numbers in
                 (solution.objective, solution.bound, solution.estimate)]  # fmt: skip
        self.keep(C, solution.W[0], solution.b[0], n_iter=int(solution.iterations[0]), gap=facts)
        return solution.status[0] != "callback"

    def minimize(self, C: Any, **options: Any) -> solver.Solution:
        """Run the solver for one C or many, as the command line does."""
        settings = self.job.run_.settings
        options |= {"tol": settings["tol"], "max_iter": settings["max_iter"]}
        return minimize_for(self.model, self.data, C, self.l1_ratio, **options)

    def penalty(self, C: float, W: Array) -> float:
        """Return the penalty that the objective has beside the loss; NaN where it is not known."""
        n_classes = self.model.n_classes
        if self.l1_ratio and n_classes == 2:
            return math.nan
        sum_of_squares = float(np.square(W, dtype=np.float64).sum())
        sizes = float(np.abs(W).sum(dtype=np.float64)) if self.l1_ratio else 0.0
        strength = 1 / (float(softmax_C(C, n_classes)) * len(self.data))
        return strength * (self.l1_ratio * sizes + (1 - self.l1_ratio) / 2 * sum_of_squares)

    def move(self, W: Array, b: Array) -> None:
        """Show the model as it is now."""
        self.model.W, self.model.b = W.T, b
        self.job.show(self.model, False)

    def keep(self, C: float, W: Array, b: Array, **facts: Any) -> None:
        """Make the model what was found, and note for its file how it was trained."""
        settings = self.job.run_.settings
        self.model.W, self.model.b = W.T, b
        self.model.trained_with = facts_of(
            self.data, C, self.l1_ratio, settings["tol"], settings["max_iter"], **facts
        )
