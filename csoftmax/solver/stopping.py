"""Who decides that a head has converged: how far its optimum is, and what is near enough."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.checks import check_number
from csoftmax.solver.bound import least_bound, lower_bound
from csoftmax.solver.descent import Point
from csoftmax.solver.head import Head, SolverOptions
from csoftmax.solver.long import LongPoint
from csoftmax.solver.problem import Problem

Array = NDArray[Any]

# The decrease of the objective is extrapolated by the gains of two pieces of the iterations so far:
# one from the share w * w of them to the share w, the other from there to the last. Each of these w
# gives a result, and the largest counts.
PIECES = 0.7, 0.8
# The second piece is taken to gain at most this share of what the first gained: at 1 the decrease
# would have no end.
MOST_GAIN_RATIO = 0.98
# A head that is near enough, but whose gradient is steeper than `gradient_tol`, goes on to 1.1
# times the iterations that brought it near and five more, or to a hundredth of `tol`. Then it has
# converged all the same, as the gradient may take very long to come down.
STEEP_ITERATIONS, STEEP_SHARE, STEEP_TOL = 5, 0.1, 0.01
# Under a strong penalty little is gained over the null model. A distance that is small against the
# objective can be all of that gain, and W may then point elsewhere. So the distance may be at most
# this share of the gain, or of the penalty if that is larger.
MOST_UNGAINED = 0.01
# Farther from the optimum than FAR the estimate of an approximate Hessian may be a third of the
# distance. So a rough `tol` is held to that share of it.
FAR, FAR_SHARE = 0.03, 1 / 3
# A head that stops by its noise has converged at this share of it.
SHARE_OF_NOISE = 0.1


def check_tol(tol: float | str) -> float:
    """Return tol as a number, 0 for "sampling"; TypeError or ValueError for what it cannot be."""
    if isinstance(tol, str):
        if tol != "sampling":
            raise TypeError(f'tol is {tol!r}, expected a number or "sampling"')
        return 0.0
    if check_number(tol, "tol") < 0:
        raise ValueError(f"tol is {tol}, expected a number >= 0")
    return float(tol)


def tolerance(head: Head, options: SolverOptions) -> float:
    """Return which `Head.distance` is near enough; 0 where the noise that decides is not known."""
    if not options.by_sampling:
        return options.tol
    known = head.noise > 0 and head.divisor > 0  # not NaN
    return SHARE_OF_NOISE * head.noise / head.divisor if known else 0.0


def note_iteration(head: Head, problem: Problem, options: SolverOptions, seconds: float) -> None:
    """Record an iteration of a head, and set how far it is and whether it has converged."""
    point, strength = head.point, head.penalty.strength
    steepest = problem.largest(head.index, point.gradient)
    penalty = problem.penalty_at(head.index, point.x)
    of_strength_1 = penalty / strength if strength else 0.0
    row = (point.objective - penalty, of_strength_1, point.estimate)
    head.trace = np.concatenate([head.trace, [row]])
    head.estimate = max(point.estimate, _extrapolated(head, point, options), 0.0)
    head.estimate = min(head.estimate, abs(point.objective))  # the optimum is not below 0
    see_whether_converged(head, problem, options, steepest)
    is_exact = head.descent is not None and head.descent.has_whole_hessian
    if (
        not (head.converged or is_exact)
        and least_bound(problem, head.index, point.gradient) < head.estimate
    ):
        lower = lower_bound(problem, head.index, point.x, point.objective, point.gradient)
        head.estimate = max(point.estimate, min(head.estimate, point.objective - lower))
        see_whether_converged(head, problem, options, steepest)
    for name, value in (
        ("passes", head.passes),
        ("objective", point.objective),
        ("estimate", head.estimate),
        ("gradient_max", steepest),
        ("seconds", seconds),
    ):
        head.history[name].append(value)


def see_whether_converged(
    head: Head, problem: Problem, options: SolverOptions, steepest: float
) -> None:
    """Set `converged`, by the head's estimate of its distance and its steepest slope."""
    distance, tol, point = head.distance(), tolerance(head, options), head.point
    if tol > FAR and not (head.descent is not None and head.descent.has_whole_hessian):
        tol = max(FAR, FAR_SHARE * tol)
    gained = head.null_loss - point.objective
    ungained = MOST_UNGAINED * max(gained, problem.penalty_at(head.index, point.x))
    # a distance below this cannot be told from rounding
    rounding = float(np.finfo(point.x.dtype).eps) * abs(point.objective)
    has_moved = head.iterations > 0 or not point.reduced.any()  # with no gradient, it need not
    head.converged = (
        distance <= tol
        and has_moved
        and head.estimate <= max(ungained, rounding)
        and (
            steepest <= options.gradient_tol
            or distance <= STEEP_TOL * tol
            or head.iterations >= (1 + STEEP_SHARE) * _first_near(head, tol) + STEEP_ITERATIONS
        )
    )


def _first_near(head: Head, tol: float) -> int:
    """Return the first iteration that ended as near as tol, or the present one if none has."""
    told = zip(head.history["estimate"], head.history["objective"], strict=True)
    near = (
        i
        for i, (estimate, objective) in enumerate(told)
        if estimate <= tol * max(objective, head.least_divisor)
    )
    return next(near, head.iterations)


def _extrapolated(head: Head, point: Point | LongPoint, options: SolverOptions) -> float:
    """Return how far the head is from its optimum, by the smaller of two estimates.

    One is the Hessian's own, corrected. The Hessian leaves out what couples the classes: where
    penalties are weak its estimate can be a hundredth of the distance. What the head has gained
    since an earlier iteration is at most the distance there. So it is known by how much the
    Hessian's estimate was too low there, and today's is taken to be wrong by the worst of these.

    The other says that the decrease goes on as it has. Along a path, where a head begins with what
    the heads before it have left undone, their iterations count, with their losses and this head's
    penalty. Where penalties are strong this says too much, but there the first one is good.

    A whole Hessian needs no second estimate. Without a preconditioner there is no first one, and
    the larger of two extrapolations, with and without the heads before, has to do.
    """
    assert head.descent is not None
    objectives = head.trace[:, 0] + head.penalty.strength * head.trace[:, 1]
    first, last = head.inherited_iterations, len(objectives) - 1
    gained, said = objectives[first:last] - objectives[last], head.trace[first:last, 2]
    if (said > 0).any():
        ratios = gained[said > 0] / said[said > 0]
        head.times_too_low = max(head.times_too_low, float(ratios.max()))
    corrected = head.descent.margin * head.times_too_low * point.estimate
    if head.descent.has_whole_hessian:
        return corrected
    left = _left_of_decrease(objectives, 0)
    if options.preconditioner is None:
        return max(_left_of_decrease(objectives, first), left)
    return min(corrected, left)


def _left_of_decrease(objectives: Array, start: int) -> float:
    """Return how much is left to gain, if the decrease goes on as a power of the iterations.

    It is inf where there are too few iterations to tell. Ill-conditioned problems slow down as
    powers do. Well conditioned ones decrease as a geometric series, and for these the result is
    too large, but only a little, as their ratio is small.
    """
    rest, last = -math.inf, len(objectives) - 1
    for share in PIECES:
        middle, first = (start + int(s * (last - start)) for s in (share, share**2))
        if last - middle < 2 or middle - first < 2:
            continue
        before, gained = objectives[first] - objectives[middle], objectives[middle] - objectives[-1]
        ratio = min(gained / before, MOST_GAIN_RATIO) if before > 0 else MOST_GAIN_RATIO
        rest = max(rest, float(gained * ratio / (1 - ratio)))
    return rest if rest > -math.inf else math.inf


def passes_to_go(head: Head, tol: float) -> int | None:
    """Return how many passes it will take to `tol`, if the estimates shrink as they have.

    Their rate is that of the second half of the iterations; None if it cannot be told.
    """
    passes, estimates = head.history["passes"], head.history["estimate"]
    middle = len(passes) // 2
    target = tol * head.divisor
    if len(passes) - middle < 3 or not 0 < estimates[-1] < estimates[middle] or target <= 0:
        return None
    rate = math.log(estimates[middle] / estimates[-1]) / (passes[-1] - passes[middle])
    return math.ceil(max(0.0, math.log(estimates[-1] / target)) / rate)
