"""What is fitted, what that may take, and the fit by full passes."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning as SklearnConvergenceWarning

from csoftmax import solver
from csoftmax.core.checks import Stored, check_threads, compute_dtype
from csoftmax.engine.passes import mass_of_classes
from csoftmax.engine.shard_passes import ShardPasses
from csoftmax.estimators.base import Gap, warn_caller
from csoftmax.estimators.inputs import Labels, MemoryBudgetError, in_units
from csoftmax.estimators.monitor import Columns, Monitor, evaluated
from csoftmax.rows.shards import ShardRows
from csoftmax.solver import Solution
from csoftmax.solver.l1 import minimize_l1
from csoftmax.solver.l1_memory import l1_plans
from csoftmax.solver.memory import Plan, head_bytes, plans, usual_pairs
from csoftmax.solver.penalty import Penalty
from csoftmax.solver.two_classes import estimator_form, softmax_C

Array = NDArray[Any]
# An objective counts as at least so many nats over all samples. At the default tol the solver then
# stops half a nat above the optimum: moving one parameter by its standard error costs as much.
LEAST_NATS = 5000.0


class ConvergenceWarning(SklearnConvergenceWarning, solver.ConvergenceWarning):  # type: ignore[misc]
    """A fit stopped before it was as near to the optimum as `tol` asks.

    Filters for the warning of scikit-learn, and for that of `csoftmax.solver`, apply to it.
    """


class Fitted(NamedTuple):
    """Parameters in the softmax's form, and how they were found."""

    W: Array
    b: Array
    n_iter: int
    history: Columns
    gap: Gap


@dataclass
class FitTask:
    """One fit: checked data, the weights of its rows, and the rows that are in use."""

    X: Stored
    y: Array  # labels, or a row of probabilities for each sample
    n_classes: int
    weight: Array | None
    rows: Labels | None  # None: all
    C: float  # as the estimator has it
    seen: float = 0.0  # weight of samples that came before these
    l1_ratio: float = 0.0  # 0 where there is no penalty at all

    @property
    def row_weight(self) -> Array | None:
        """The weights with 0 for the rows that are not in use."""
        if self.rows is None:
            return self.weight
        weight = np.zeros(len(self.y))
        weight[self.rows] = 1.0 if self.weight is None else self.weight[self.rows]
        return weight

    @property
    def is_weighted(self) -> bool:
        """Whether there is a `row_weight`."""
        return not (self.weight is None and self.rows is None)

    @property
    def mass(self) -> NDArray[np.float64]:
        """How much weight each class has."""
        return mass_of_classes(self.y, self.row_weight, self.n_classes)

    def raise_bad_value(self) -> None:
        """Raise an error that names the first value of X that is not finite, if one may be."""

    @property
    def total(self) -> float:
        """The sum of the weights in use."""
        if self.weight is None:
            return float(len(self.y) if self.rows is None else len(self.rows))
        return float((self.weight if self.rows is None else self.weight[self.rows]).sum())

    @property
    def penalty(self) -> float:
        """What multiplies ``||W||^2 / 2`` in the objective, W with a row for each class."""
        C = float(softmax_C(self.C, self.n_classes))
        return (1 - self.l1_ratio) * Penalty.of(C, self.seen + self.total).l2

    @property
    def l1(self) -> float:
        """What multiplies ``||W||_1``: of two classes' rows L1 leaves one, so C is not halved."""
        return self.l1_ratio * Penalty.of(self.C, self.seen + self.total).l2


# ---- full passes -------------------------------------------------------------------------------


def plan_memory(
    budget: float, X: Stored, n_classes: int, n_threads: int, n_heads: int = 1,
    n_weights: int = 0, others: float = 0, l1_ratio: float = 0.0, soft: bool = False,
    **options: bool,
) -> Plan:  # fmt: skip
    """Return the first of the plans of `csoftmax.solver.memory` that the budget allows.

    `others` are bytes that the fit takes besides the solver. Raises
    MemoryBudgetError if there is no such plan; the message says what the smallest one needs.
    """
    if l1_ratio:
        all_plans = l1_plans(X, n_classes, l1_ratio, n_threads, n_heads, n_weights, soft)
    else:
        all_plans = plans(X, n_classes, n_threads, n_heads, n_weights, **options)
    possible = [plan._replace(n_bytes=plan.n_bytes + others) for plan in all_plans]
    for plan in possible:
        if plan.n_bytes <= budget:
            return plan
    least = in_units(min(plan.n_bytes for plan in possible))
    fits = f"{n_heads} fits at once" if n_heads > 1 else "a fit"
    raise MemoryBudgetError(
        f"max_memory is {in_units(budget)}, expected at least {least}, X not counted, for {fits} "
        f"of {X.shape[0]} samples, {X.shape[1]} features and {n_classes} classes; None is no limit"
    )


def run_solver(
    X: Stored, y: Array, n_classes: int, plan: Plan, *, C: Any, l1_ratio: float = 0.0,
    W: Array | None = None, b: Array | None = None, **options: Any,
) -> Solution:  # fmt: skip
    """Minimise as planned, without a warning; C is as the estimator has it.

    With L1 two classes have one row of weights: that of the second class.
    """
    if l1_ratio == 0:
        return solver.minimize(
            X, y, n_classes, C=softmax_C(C, n_classes), W=W, b=b, warns=False,
            preconditioner=plan.preconditioner, least_nats=LEAST_NATS,
            sample_rows=plan.sample_rows,
            **{"history_size": plan.history_size, **options},
        )  # fmt: skip
    for name in ("gradient_tol", "history_size"):
        options.pop(name, None)
    if n_classes == 2 and W is not None and b is not None:
        W, b = W - W[:, :1], b - b[:, :1]
    return minimize_l1(
        X, y, n_classes, C=C, l1_ratio=l1_ratio, one_row=n_classes == 2, W=W, b=b, warns=False,
        sample_rows=plan.sample_rows, **options,
    )  # fmt: skip


def gradient_tol_of(tol: float | str) -> float | None:
    """Return what the gradient is to come down to, as scikit-learn asks; nothing with a word."""
    return None if isinstance(tol, str) else float(tol)


def fit_full(
    task: FitTask, start: tuple[Array, Array] | None, monitor: Monitor | None, plan: Plan,
    **options: Any,
) -> Fitted:  # fmt: skip
    """Fit by full passes, to the optimum or until validation says to stop."""
    if start is not None:
        options["W"], options["b"] = start[0][None], start[1][None]
    solution = run_solver(
        task.X, task.y, task.n_classes, plan, C=task.C, l1_ratio=task.l1_ratio,
        sample_weight=task.row_weight, callback=None if monitor is None else monitor.watch,
        gradient_tol=gradient_tol_of(options["tol"]), **options,
    )  # fmt: skip
    fitted = fitted_head(solution, 0)
    if start is not None and not options["max_iter"]:
        fitted = fitted._replace(W=start[0], b=start[1])  # L1 moves intercepts before it counts
    if monitor is not None:
        monitor.record(fitted.history)
        if monitor.best_parameters is not None:
            W, b = monitor.best_parameters
            gap = measure_gap(task, W, b, plan, options["fit_intercept"], options["n_threads"])
            at = int(np.nanargmin(fitted.history["validation_loss"]))
            gap = gap._replace(estimate=fitted.history["estimate"][at])
            fitted = fitted._replace(W=W, b=b, gap=gap)
    if solution.message:
        warn_caller(solution.message, ConvergenceWarning)
    return fitted


def plan_groups(
    budget: float, X: Stored, n_classes: int, n_threads: int, n_folds: int, n_Cs: int, others: int,
    l1_ratios: Sequence[float] = (0.0,), by_blocks: bool = False,
) -> tuple[int, Plan]:  # fmt: skip
    """Return how many values of C to solve at a time, each for all folds, and what that takes.

    As many as the budget allows without a shorter history. Without a budget, groups of several
    take a quarter of the machine's memory at most. With L1 all go one after the other.
    Where weights of folds are made `by_blocks`, they are of the `others`.
    """
    limit = budget
    if math.isinf(budget):
        limit = 0.25 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    # the parameters of all heads, and the paths that are made of them
    n_problems = n_folds * n_Cs * len(l1_ratios)
    others += 2 * n_problems * n_classes * (X.shape[1] + 1) * compute_dtype(X).itemsize
    if any(l1_ratios):
        with_l1 = plan_memory(
            budget,
            X,
            n_classes,
            n_threads,
            n_folds * n_Cs,
            n_folds,
            others,
            l1_ratio=min(filter(None, l1_ratios)),
        )
        if all(l1_ratios):
            return n_Cs, with_l1
    for n_at_once in range(n_Cs, 1, -1):
        try:
            plan = plan_memory(
                limit,
                X,
                n_classes,
                n_threads,
                n_at_once * n_folds,
                n_folds,
                others,
                path=True,
                by_blocks=by_blocks,
            )
        except MemoryBudgetError:
            continue
        if plan.history_size == usual_pairs(len(X), head_bytes(X, n_classes), True):
            return n_at_once, plan
    return 1, plan_memory(
        budget, X, n_classes, n_threads, n_folds, n_folds, others, path=True, by_blocks=by_blocks
    )


def solve_heads(
    X: Stored, y: Labels, n_classes: int, Cs: Array, weights: Array, n_at_once: int, plan: Plan,
    **options: Any,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """Solve the problem of every row of weights and every C.

    Returns W (n_weights, n_Cs, n_classes, n_features), b and the iterations. Groups of `n_at_once`
    values of C share the passes over X. They go from strong to weak penalties; each group starts
    where the weakest penalty of the group before it ended.
    """
    n_weights, order = len(weights), np.argsort(Cs, kind="stable")
    W = b = iterations = np.empty(0)
    for begin in range(0, len(Cs), n_at_once):
        group = order[begin : begin + n_at_once]
        start: dict[str, Any] = {}
        if begin:
            before = order[begin - 1]
            start = {
                "W": np.repeat(W[:, before], len(group), axis=0),
                "b": np.repeat(b[:, before], len(group), axis=0),
            }
        solution = run_solver(
            X, y, n_classes, plan, C=np.tile(Cs[group], n_weights), sample_weight=weights,
            weight_of_head=np.repeat(np.arange(n_weights), len(group)), path=True, **start,
            **options,
        )  # fmt: skip
        if "interrupted" in solution.status:
            raise KeyboardInterrupt(solution.message)  # heads that have hardly begun choose no C
        if solution.message:
            warn_caller(solution.message, ConvergenceWarning)
        if not begin:
            W = np.empty((n_weights, len(Cs), *solution.W.shape[1:]), solution.W.dtype)
            b = np.empty(W.shape[:3], W.dtype)
            iterations = np.empty(W.shape[:2], np.int32)
        W[:, group] = solution.W.reshape(n_weights, len(group), *W.shape[2:])
        b[:, group] = solution.b.reshape(n_weights, len(group), -1)
        iterations[:, group] = solution.iterations.reshape(n_weights, -1)
    return W, b, iterations


def fitted_head(solution: Solution, head: int) -> Fitted:
    """Return what the solver found for one of its heads."""
    noise = np.nan_to_num(solution.noise)  # 0 where it was not measured
    facts = (solution.objective, solution.bound, solution.estimate, noise)
    gap = Gap(*(float(values[head]) for values in facts))
    history = {name: list(values) for name, values in solution.history[head].items()}
    return Fitted(solution.W[head], solution.b[head], int(solution.iterations[head]), history, gap)


def measure_gap(
    task: FitTask, W: Array, b: Array, plan: Plan, fit_intercept: bool, n_threads: int | None
) -> Gap:
    """Return how far some parameters are from the optimum at most, by one pass and no step."""
    sampled = plan.sample_rows if task.l1_ratio else 0
    plan = plan._replace(preconditioner=None, sample_rows=sampled)
    solution = run_solver(
        task.X, task.y, task.n_classes, plan, C=task.C, l1_ratio=task.l1_ratio,
        sample_weight=task.row_weight, W=W[None], b=b[None], max_iter=0,
        history_size=1, fit_intercept=fit_intercept, n_threads=n_threads,
    )  # fmt: skip
    gap = fitted_head(solution, 0).gap._replace(estimate=math.nan)
    if sampled or not task.l1_ratio:
        return gap
    # L1 has moved the intercepts before it proves its bound: the bound is of what they were
    X = task.X
    if isinstance(X, ShardRows):
        weights = None if task.row_weight is None else task.row_weight[None]
        X = ShardPasses(
            X, task.y, task.n_classes, weights=weights, n_threads=check_threads(n_threads)
        )
    loss, _ = evaluated(X, task.y, task.row_weight, W, b, n_threads)
    l1 = Penalty(task.l1_ratio / (task.C * task.total), (1 - task.l1_ratio) / (task.C * task.total))
    objective = loss + l1.value(estimator_form(W, b)[0])
    return gap._replace(objective=objective, bound=objective - (gap.objective - gap.bound))
