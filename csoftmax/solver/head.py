"""One head on its way to its optimum: where it is, and what has been noted of it."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.solver.descent import Descent, Point
from csoftmax.solver.diagonal import Diagonal
from csoftmax.solver.hessians import Curvature
from csoftmax.solver.long import LongPoint
from csoftmax.solver.problem import Problem

Array = NDArray[Any]


@dataclass(frozen=True)
class SolverOptions:
    """What `minimize` is told of how to solve a problem and when to stop."""

    tol: float
    gradient_tol: float
    max_iter: int
    history_size: int
    preconditioner: str | None
    least_nats: float = 0.0
    by_sampling: bool = False  # stop by `Head.noise`, not by tol


# Fields of a head that a checkpoint saves as one number each.
NUMBERS = (
    "passes", "iterations", "inherited_iterations", "preconditioner_iterations",
    "next_preconditioner_at", "estimate", "times_too_low", "noise", "converged", "stalled",
)  # fmt: skip
COLUMNS = ("passes", "objective", "estimate", "gradient_max", "seconds")  # of a head's history


class Head:
    """One head: its descent, and what is noted of it. Until it starts, it is its null model.

    Attributes
    ----------
    penalty : Penalty
    least_divisor : float
        A distance is divided before it is compared with `tol`: by the objective, or by this if
        this is larger.
    descent, steps : Descent and its running coroutine, or None
        None until the head has started.
    preconditioned_at : ndarray or None
        The parameters at which the preconditioner was computed; None for the null model.
    curvature : Curvature or Diagonal or None
        The curvature there, once it has been computed.
    preconditioner_iterations : int
        How many iterations that preconditioner has served, in heads before this one too.
    next_preconditioner_at : int
        The iteration at which the next preconditioner is computed.
    estimate : float
        How far the objective is above the optimum; inf until something is known.
    times_too_low : float
        The worst error of the Hessian's own estimates so far: at some iteration the distance was
        at least this many times the estimate. 1 if no estimate was too low.
    noise : float
        How far chance makes the optimum of the rows be from that of all that there might be, in
        nats; NaN until it is measured.
    trace : ndarray (n, 3)
        At the start and after each iteration: the loss, the penalty divided by its strength, and
        the Hessian's own estimate of the distance. Along a path the rows of the heads before come
        first.
    inherited_iterations : int
        How many rows of the trace come from heads before this one along a path.
    fallback_start : (x, objective, gradient) or None
        Where the head before it along a path ended. The head starts there if its own start is
        worse.
    history : dict of lists
        What `Solution.history` shows.
    """

    def __init__(self, problem: Problem, index: int, least_nats: float) -> None:
        self.index, self.penalty, self._problem = index, problem.penalties[index], problem
        self._null: Point | None = None  # once somebody has asked for it
        r = int(problem.weight_of_head[index])
        self.null_loss = float(problem.null_loss[r])
        self.least_divisor = min(self.null_loss, least_nats / problem.n_counting[r])
        self.descent: Descent | None = None
        self.steps: Generator[bool, float, None] | None = None
        self.preconditioned_at: Array | None = None
        self.curvature: Curvature | Diagonal | None = None
        self.preconditioner_iterations = self.next_preconditioner_at = 0
        self.passes, self.iterations = problem.n_passes, 0
        self.estimate, self.times_too_low, self.noise = math.inf, 1.0, math.nan
        self.converged = self.stalled = False
        self.trace = np.empty((0, 3))
        self.inherited_iterations = 0
        self.fallback_start: tuple[Array, float, Array] | None = None
        self.history: dict[str, list[float]] = {name: [] for name in COLUMNS}

    @property
    def point(self) -> Point | LongPoint:
        if self.descent is not None and self.descent.point is not None:
            self._null = None
            of_descent: Point | LongPoint = self.descent.point
            return of_descent
        if self._null is None:
            x, objective, gradient = self._problem.null_point(self.index)
            self._null = Point(x, objective, gradient, gradient, np.zeros_like(gradient))
        return self._null

    @property
    def divisor(self) -> float:
        """What a distance is divided by before it is compared with `tol`."""
        return float(max(abs(self.point.objective), self.least_divisor))

    def distance(self) -> float:
        """Return the estimate as a share of the objective, as `tol` is meant."""
        divisor = self.divisor
        return self.estimate / divisor if divisor else math.inf if self.estimate > 0 else 0.0

    def above_optimum(self) -> float:
        """Return the estimate as a share of the objective, however small that is."""
        objective = abs(self.point.objective)
        return self.estimate / objective if objective else 0.0

    def state(self) -> dict[str, Array]:
        """Return what is noted of the head, as it was after its last iteration."""
        state = {name: np.array(getattr(self, name)) for name in NUMBERS}
        if self.history["passes"] and not self.stalled:
            # evaluations of a line search under way will be made again
            state["passes"] = np.array(self.history["passes"][-1])
        state["trace"] = self.trace
        if self.preconditioned_at is not None:
            state["preconditioned_at"] = self.preconditioned_at
        return state | {f"history.{name}": np.array(self.history[name]) for name in COLUMNS}

    def restore(self, state: dict[str, Array]) -> None:
        """Set what `state` returned."""
        for name in NUMBERS:
            setattr(self, name, state[name].item())
        self.trace, self.preconditioned_at = state["trace"], state.get("preconditioned_at")
        self.history = {name: state[f"history.{name}"].tolist() for name in COLUMNS}
