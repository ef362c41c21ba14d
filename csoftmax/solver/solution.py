"""What the solver returns, what it tells on the way, and what it says of heads it left early."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from csoftmax.solver.bound import lower_bound
from csoftmax.solver.head import Head
from csoftmax.solver.problem import Problem
from csoftmax.solver.stopping import STEEP_TOL, passes_to_go, tolerance
from csoftmax.solver.walk import Walk

Array = NDArray[Any]


class ConvergenceWarning(UserWarning):
    """The solver stopped before the estimated distance to the optimum was below `tol`."""


class Progress(NamedTuple):
    """What a callback is told after each pass; arrays over heads.

    ``parameters(h)`` are W (n_classes, n_features) and b of head h as they are now, not copied.
    """

    n_passes: int
    running: NDArray[np.bool_]
    objective: NDArray[np.float64]
    estimate: NDArray[np.float64]
    seconds: float
    parameters: Callable[[int], tuple[Array, Array]]


@dataclass(frozen=True, eq=False)
class Solution:
    """What `minimize` returns: arrays over the heads.

    Attributes
    ----------
    W : ndarray (n_heads, n_classes, n_features)
        Weights, class-major, for ``scale * X``; the classes' weights sum to 0. Of sparse rows they
        lie feature-major in memory: the transpose of each ``W[h]`` is contiguous.
    b : ndarray (n_heads, n_classes)
        Intercepts.
    objective, loss : ndarray (n_heads,)
        With and without the penalty: mean nats.
    bound : ndarray (n_heads,)
        The optimum is at least ``objective - bound``, proved by a point of the dual problem, up to
        rounding (about 1e-7 of the objective in float32). For C = inf all that is known is that
        the optimum is not below 0.
    estimate : ndarray (n_heads,)
        How far the objective is above the optimum, by what the (approximate) Hessian and the last
        steps say; usually far below the bound, and seldom more than 1.5 times too small.
    noise : ndarray (n_heads,)
        With ``tol="sampling"``: how far the optimum is, by the chance that is in the rows, from
        that of all rows there might be, in nats (`csoftmax.solver.noise`); otherwise NaN.
    gradient_max : ndarray (n_heads,)
        The largest entry of the gradient.
    passes, iterations : ndarray (n_heads,)
        Evaluations of the head (passes over X that it took part in), and its iterations.
    converged : ndarray (n_heads,)
        Whether the estimate is at most ``tol * objective`` (see `least_nats`), and at most 1 % of
        the gain over the null model or of the penalty, whichever is more, or within rounding. The
        gradient is then as `gradient_tol` asks, and a step was made unless the gradient was 0.
    status : tuple of str
        Why each head ended: "converged"; "stalled", as rounding allowed no further step; "limit",
        after `max_iter` iterations; "callback", as that said to stop; "interrupted", by Ctrl-C.
    message : str
        What `minimize` warns of: how far heads are that have not converged. Empty if all have, or
        if the callback stopped them.
    history : tuple of dict
        For each head, lists of "passes", "objective", "estimate", "gradient_max" and "seconds": one
        entry for the start, and one for each iteration.
    n_passes : int
        Passes over X.
    seconds : float
        Of the whole call.
    """

    W: Array
    b: Array
    objective: NDArray[np.float64]
    loss: NDArray[np.float64]
    bound: NDArray[np.float64]
    estimate: NDArray[np.float64]
    noise: NDArray[np.float64]
    gradient_max: NDArray[np.float64]
    passes: NDArray[np.int64]
    iterations: NDArray[np.int64]
    converged: NDArray[np.bool_]
    status: tuple[str, ...]
    message: str
    history: tuple[dict[str, list[float]], ...]
    n_passes: int
    seconds: float


def solution_of(walk: Walk, ended_by: str) -> Solution:
    """Return what a walk came to; `ended_by` is "callback", "interrupted", or "" for neither."""
    problem, heads = walk.problem, walk.heads
    points = [head.point for head in heads]
    parameters = [problem.own_parameters(head.index, head.point.x) for head in heads]
    objective = np.array([point.objective for point in points])
    penalty = [problem.penalty_at(head.index, head.point.x) for head in heads]
    lower = [
        lower_bound(problem, head.index, point.x, point.objective, point.gradient)
        for head, point in zip(heads, points, strict=True)
    ]
    biases = [_centred(problem, h, b) for h, (_, b) in enumerate(parameters)]
    status = tuple(_status(head, walk.options.max_iter, ended_by) for head in heads)
    return Solution(
        W=_stacked([W for W, _ in parameters]),
        b=np.stack(biases),
        objective=objective,
        loss=objective - penalty,
        bound=np.maximum(objective - lower, 0.0),
        estimate=np.array([head.estimate for head in heads]),
        noise=np.array([head.noise for head in heads]),
        gradient_max=np.array([problem.largest(h.index, h.point.gradient) for h in heads]),
        passes=np.array([head.passes for head in heads]),
        iterations=np.array([head.iterations for head in heads]),
        converged=np.array([head.converged for head in heads]),
        status=status,
        message="" if ended_by == "callback" else _message(walk, "interrupted" in status),
        history=tuple(head.history for head in heads),
        n_passes=problem.n_passes,
        seconds=time.perf_counter() - walk.started,
    )


def _stacked(matrices: list[Array]) -> Array:
    """Return the matrices as one array with their own layout: a view of a single one."""
    if len(matrices) == 1:
        return matrices[0][None]
    if matrices[0].flags.c_contiguous:
        return np.stack(matrices)
    together: Array = np.stack([W.T for W in matrices]).swapaxes(1, 2)
    return together


def _status(head: Head, max_iter: int, ended_by: str) -> str:
    if head.converged:
        return "converged"
    if head.stalled:
        return "stalled"
    return ended_by if ended_by and head.iterations < max_iter else "limit"


def _centred(problem: Problem, head: int, b: Array) -> Array:
    """Return b with the sum 0, free of rounding, over the classes that occur."""
    present = problem.shares[problem.weight_of_head[head]] > 0
    b = b.copy()
    b[present] -= b[present].mean(dtype=np.float64)
    return b


def _message(walk: Walk, interrupted: bool) -> str:
    """Say how far heads are that have not converged, and how long it would take; or nothing."""
    heads: Sequence[Head] = walk.heads
    left = [head for head in heads if not head.converged]
    if not left:
        return ""
    text = ""
    if interrupted:
        text = f"interrupted after {walk.problem.n_passes} passes: this is the best so far; "
    worst = max(left, key=Head.distance)
    if len(heads) > 1:
        text += f"{len(left)} of {len(heads)} heads have not converged, the worst is "
    if math.isfinite(worst.above_optimum()):
        text += f"{in_percent(worst.above_optimum())} % above the optimum by estimate after "
    else:
        text += "at an unknown distance from the optimum after "
    text += f"{worst.passes} passes"
    tol = tolerance(worst, walk.options)
    if worst.distance() <= tol:
        text += ", but its gradient is still steep"
        tol *= STEEP_TOL
    more = passes_to_go(worst, tol)
    if worst.stalled:
        text += f"; the rounding of {worst.point.x.dtype} allows no further step"
    elif more is not None:
        text += f"; about {more} more to reach {100 * tol:.2g} %"
    return text


def in_percent(share: float) -> str:
    """Return a share as percent, as people write it.

    >>> in_percent(0.00012), in_percent(1.0)
    ('0.012', '100')
    """
    return f"{100 * share:.0f}" if share >= 0.995 else f"{100 * share:.2g}"
