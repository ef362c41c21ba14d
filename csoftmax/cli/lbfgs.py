"""`train` by full passes: one C to its optimum, or a sweep over many."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from numpy.typing import NDArray

import csoftmax as cs
from csoftmax import solver
from csoftmax.cli.messages import UserError, mistakes_in_files, users_mistakes
from csoftmax.cli.parsing import given_options
from csoftmax.cli.results import ResultsFolder, draw_test_set
from csoftmax.cli.train_shards import hold_out
from csoftmax.core.checks import as_features, check_threads
from csoftmax.core.files import write_atomically
from csoftmax.data.shard_loader import ShardLoader
from csoftmax.data.split import held_out_rows
from csoftmax.engine.sparse_shard_passes import passes_of_shards
from csoftmax.evaluation import evaluate_epoch
from csoftmax.labelled import scale_of, take_facts
from csoftmax.model import is_integer
from csoftmax.optimum import facts_of, minimize_for
from csoftmax.rows.base import take
from csoftmax.solver.solution import in_percent

Array = NDArray[Any]
Parameters = tuple[Array, Array]  # W (n_classes, n_features) and b
SWEPT = (-6, 5)  # powers of 10
# With L1 there is nothing to see below the C at which the first weight appears, and weak penalties
# are slow: from there over so many powers of 10, and no further than the validation allows.
SWEPT_L1 = 4
PAST_BEST = 2  # values of C in a row that are worse by loss and no better by accuracy
VALIDATION_FRACTION = 0.2
_SGD_OPTIONS = ("epochs", "batch_size", "lr", "momentum", "nesterov", "weight_decay")
_LBFGS_OPTIONS = ("C", "l1_ratio", "tol", "max_iter")


class SweepRow(NamedTuple):
    """What one C of a sweep came to."""

    C: float
    objective: float
    above_optimum: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    n_features: int  # that have a weight in some class
    seconds: float


def refuse_options_of_the_other_solver(context: click.Context, full_passes: bool) -> None:
    """Raise ValueError for options that would have no effect."""
    given = given_options(context)
    for name in _SGD_OPTIONS if full_passes else _LBFGS_OPTIONS:
        if name in given:
            other = "sgd" if full_passes else "lbfgs"
            raise ValueError(f"--{name.replace('_', '-')} is for --solver {other}")
    for name, reason in (("C", "the sweep chooses C"), ("resume", "it fits every C anew")):
        if "sweep" in given and name in given:
            raise ValueError(f"--{name} and --sweep exclude each other: {reason}")
    if context.params["l1_ratio"] and isinstance(context.params["tol"], str):
        raise ValueError("--tol sampling and --l1-ratio exclude each other: L1 needs a number")
    if context.params["l1_ratio"] and context.params["C"] == math.inf:
        raise ValueError("--l1-ratio needs a finite --C: inf is no penalty")
    if "sweep" in given and "solver" in given and context.params["solver"] == "sgd":
        raise ValueError("--sweep is for --solver lbfgs")


@dataclass
class LbfgsTraining:
    """A training by full passes: the model that it fills, and where the results go."""

    model: cs.SoftmaxRegression
    data: cs.Dataset | ShardLoader
    results: ResultsFolder
    tol: float | str
    max_iter: int
    l1_ratio: float
    threads: int | None
    resumed: bool
    say: Callable[[str], None]
    rows: list[SweepRow] = field(default_factory=list)
    history: dict[str, list[float]] = field(default_factory=dict)
    interrupted: str = ""

    def __post_init__(self) -> None:
        self.scale = scale_of(self.model, self.data, "train_data")

    def finish(
        self, test: cs.Dataset | ShardLoader, C: float, sweep: int | None, seed: int, pictures: bool
    ) -> float:
        """Fit, save, draw; return the accuracy on the test set."""
        try:
            with users_mistakes():
                start = (self.model.W.T, self.model.b) if self.resumed else None
                W, b = self.fit(C, start) if sweep is None else self.sweep(sweep, seed)
                self.model.W, self.model.b = W.T, b
                if is_integer(self.data.X):
                    self.model.scale = self.scale
                take_facts(self.model, self.data)
                self._save()
        except KeyboardInterrupt:
            raise UserError("interrupted before the first pass: nothing was saved", 130) from None
        if self.interrupted:
            path = self.results.model_file
            raise UserError(f"{self.interrupted}; the model is saved in {path}", 130)
        if pictures:
            self._draw(test)
        with mistakes_in_files():
            return cs.evaluate(self.model, test, n_threads=self.threads).accuracy

    def fit(self, C: float, start: tuple[Array, Array] | None) -> tuple[Array, Array]:
        """Minimise for one C, telling of each step; return W (n_classes, n_features) and b."""
        told: list[float] = []
        self.say(f"{'pass':>9}  {'objective':>10}  {'above the optimum':>17}  {'seconds':>8}")

        def tell(progress: solver.Progress) -> None:
            objective, estimate = float(progress.objective[0]), float(progress.estimate[0])
            if objective not in told and math.isfinite(estimate):
                told.append(objective)
                self.say(
                    f"{progress.n_passes:>9}  {objective:>10.6f}  "
                    f"{_percent(_share(estimate, objective)):>17}  {progress.seconds:>8.2f}"
                )

        given = {} if start is None else {"W": start[0][None], "b": start[1][None]}
        if self.l1_ratio and self.model.n_classes == 2 and start is not None:
            given = {name: value - value[:, :1] for name, value in given.items()}
        solution = self._minimize(C, callback=tell, **given)
        objective = float(solution.objective[0])
        estimate = _share(float(solution.estimate[0]), objective)
        bound = _share(float(solution.bound[0]), objective)
        self.say(
            f"C = {C:g}: objective {objective:.6f}, above the optimum by {_percent(estimate)} as "
            f"estimated, by {_percent(bound)} at most"
        )
        self.history = solution.history[0]
        facts = [objective, float(solution.bound[0]), float(solution.estimate[0])]
        noise = float(solution.noise[0])
        if not math.isnan(noise):
            facts.append(noise)
            share = _percent(_share(noise, objective))
            self.say(f"the chance in the samples makes the optimum uncertain by {share}")
        self._remember(C, n_iter=int(solution.iterations[0]), gap=facts)
        return solution.W[0], solution.b[0]

    def _remember(self, C: float, **facts: Any) -> None:
        """Keep for the model's file how it was trained."""
        self.model.trained_with = facts_of(
            self.data, C, self.l1_ratio, self.tol, self.max_iter, **facts
        )

    def sweep(self, n_values: int, seed: int) -> tuple[Array, Array]:
        """Try many C on four fifths of the samples, choose by the rest, and fit that C to all.

        Of shards whole ones are held out.
        """
        whole = self.data
        judge: _Judge | _ShardsJudge
        options: dict[str, Any] = {"path": True}
        if isinstance(whole, ShardLoader):
            numbers, held_numbers = hold_out(whole.shards, VALIDATION_FRACTION, seed)
            if held_numbers is None:
                raise ValueError("--sweep needs a file to train on, one to choose C by, and one to "
                                 "test on: there are too few with rows")  # fmt: skip
            self.data = whole.some(numbers)
            judge = _ShardsJudge(self.model, self.data, whole.some(held_numbers), self.threads)
        else:
            # rows of weight 0 are left out: nothing of X is copied but the rows to validate on
            held = np.flatnonzero(held_out_rows(whole.y, VALIDATION_FRACTION, seed))
            options["sample_weight"] = np.ones(len(whole))
            options["sample_weight"][held] = 0.0
            judge = _Judge(self, held)
        Cs = np.logspace(*SWEPT, n_values) if not self.l1_ratio else self._l1_values(n_values)
        parameters: dict[float, Parameters] = {}
        self.say(_SWEEP_HEAD)

        def add(head: int, found: Parameters, of: solver.Progress | solver.Solution) -> None:
            C = float(Cs[head])
            if C in parameters:
                return
            parameters[C] = W, b = found[0].copy(), found[1].copy()
            objective = float(of.objective[head])
            above, n_features = _share(float(of.estimate[head]), objective), W.any(axis=0).sum()
            row = SweepRow(C, objective, above, *judge(W, b), int(n_features), of.seconds)
            self.rows.append(row)
            self.say(_sweep_line(row))

        def tell(progress: solver.Progress) -> bool:
            ended = ~progress.running & np.isfinite(progress.estimate)
            for head in np.flatnonzero(ended).tolist():
                add(head, progress.parameters(head), progress)
            return bool(self.l1_ratio) and _is_past_the_best(self.rows)

        solution = self._minimize(Cs, callback=tell, **options)
        self.data = whole
        for head, status in enumerate(solution.status):  # with L1 nobody has told of the last one
            if status in ("converged", "limit", "stalled"):
                add(head, (solution.W[head], solution.b[head]), solution)
        if "callback" in solution.status:
            self.say("the validation gets worse: larger C are left out")
        if not self.rows:
            raise UserError("interrupted before the first C was done: nothing was saved", 130)
        self.rows.sort()
        best = max(self.rows, key=lambda row: (row.validation_accuracy, -row.C))
        self.say(f"C = {best.C:.3g} is best on the {judge.n_held:,} samples held out")
        if self.interrupted:
            self._remember(best.C)
            return parameters[best.C]
        self.say("fitted to all samples:")
        return self.fit(best.C, parameters[best.C])

    def _l1_values(self, n_values: int) -> Array:
        """Return values of C, the smallest about where the first weight appears."""
        K = self.model.n_classes
        counts = np.bincount(self.data.y, minlength=K)
        b = np.log(np.maximum(counts, 1e-300) / counts.sum()).astype(self.model.dtype)
        steepest = float(np.abs(self._null_slopes(b)).max(initial=0))
        if steepest == 0:  # no feature says anything
            return np.logspace(*SWEPT, n_values)
        return self.l1_ratio / steepest * np.logspace(0, SWEPT_L1, n_values)

    def _null_slopes(self, b: Array) -> Array:
        """Return the slopes of the summed losses at W = 0."""
        data, K = self.data, self.model.n_classes
        if isinstance(data, ShardLoader):
            passes = passes_of_shards(data.X)(
                data.y, K, weights=None if data.weights is None else data.weights[None],
                scale=self.scale, n_threads=check_threads(self.threads),
            )  # fmt: skip
            dW: Array = passes.null_sums(b[None], of_features=False).dW
            return dW
        X = as_features(data.X)
        W = np.zeros((X.shape[1], K), self.model.dtype)
        _, dW, _ = cs.linear_cross_entropy_grad(
            X, W, b, data.y, scale=self.scale, reduction="sum", n_threads=self.threads
        )
        return dW

    def _minimize(self, C: float | Array, **options: Any) -> solver.Solution:
        """Run the solver; what it would warn of becomes a line on stderr."""
        options |= {"tol": self.tol, "max_iter": self.max_iter, "n_threads": self.threads}
        solution = minimize_for(self.model, self.data, C, self.l1_ratio, **options)
        if "interrupted" in solution.status:
            self.interrupted = solution.message
        elif solution.message:
            print(f"csoftmax: warning: {solution.message}", file=sys.stderr)
        return solution

    def _save(self) -> None:
        self.results.save_model()
        if self.history:
            write_table(
                self.results.folder / "history.csv",
                list(self.history), list(zip(*self.history.values(), strict=True)),
            )  # fmt: skip
        if self.rows:
            write_table(self.results.folder / "sweep.csv", list(SweepRow._fields), self.rows)

    def _draw(self, test: cs.Dataset | ShardLoader) -> None:
        from csoftmax import draw

        with users_mistakes():
            if self.rows:
                draw.draw_sweep(self.rows, self.results.folder / "sweep.png")
            draw.draw_descent(self.history, self.results.folder / "curves.png")
        draw_test_set(self.model, test, self.results.folder, self.threads, self.say)


class _Judge:
    """How good parameters are on the samples held out and on the others."""

    def __init__(self, run: LbfgsTraining, held: Array) -> None:
        assert not isinstance(run.data, ShardLoader)
        self.run, self.n_held = run, len(held)
        X, y = as_features(run.data.X), run.data.y
        self.whole, self.part = (X, y), (take(X, held), y[held])

    def __call__(self, W: Array, b: Array) -> tuple[float, float, float]:
        """Return the accuracy on the others, and the mean loss and accuracy on those held out."""
        (_, correct), (loss, correct_held) = (
            cs.linear_evaluate(X, W.T, b, y, scale=self.run.scale, n_threads=self.run.threads)
            for X, y in (self.whole, self.part)
        )
        n_others = len(self.whole[1]) - self.n_held
        return (correct - correct_held) / n_others, loss, correct_held / self.n_held


class _ShardsJudge:
    """How good parameters are on some shards, and on those that are held out."""

    def __init__(
        self, model: cs.SoftmaxRegression, train: ShardLoader, held: ShardLoader,
        threads: int | None,
    ) -> None:  # fmt: skip
        self.model, self.train, self.held, self.threads = model.copy(), train, held, threads
        self.n_held = len(held.y)

    def __call__(self, W: Array, b: Array) -> tuple[float, float, float]:
        """Return the accuracy on the others, and the mean loss and accuracy on those held out."""
        self.model.W, self.model.b = W.T, b
        train = evaluate_epoch(self.model, self.train, self.threads)
        held = evaluate_epoch(self.model, self.held, self.threads)
        return train.accuracy, held.loss, held.accuracy


_SWEEP_HEAD = (
    f"{'C':>9}  {'objective':>10}  {'above the optimum':>17}  {'train accuracy':>14}  "
    f"{'validation loss':>15}  {'validation accuracy':>19}  {'features':>8}  {'seconds':>8}"
)


def _sweep_line(row: SweepRow) -> str:
    return (
        f"{row.C:>9.3g}  {row.objective:>10.6f}  {_percent(row.above_optimum):>17}  "
        f"{row.train_accuracy:>14.4f}  {row.validation_loss:>15.4f}  "
        f"{row.validation_accuracy:>19.4f}  {row.n_features:>8}  {row.seconds:>8.2f}"
    )


def _is_past_the_best(rows: Sequence[SweepRow]) -> bool:
    """Do the last values of C have rising losses, and no accuracy above those before them?"""
    if len(rows) <= PAST_BEST:
        return False
    before, last = rows[:-PAST_BEST], rows[-PAST_BEST:]
    losses = [row.validation_loss for row in (before[-1], *last)]
    best = max(row.validation_accuracy for row in before)
    return losses == sorted(losses) and all(row.validation_accuracy <= best for row in last)


def _share(distance: float, objective: float) -> float:
    """Return a distance to the optimum in parts of the objective; nothing is below 0."""
    return distance / objective if objective else 0.0


def _percent(share: float) -> str:
    return f"{in_percent(share)} %" if math.isfinite(share) else "-"


def write_table(path: Path, names: list[str], rows: Sequence[Sequence[float]]) -> None:
    """Write numbers as CSV, with a line of names."""
    lines = [",".join(names), *(",".join(map(repr, map(float, row))) for row in rows)]
    text = "\n".join(lines) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))
