"""Few passes over many rows: steps to the optimum of a sample, corrected by the whole gradient.

At w, a pass has given the objective F(w) and its gradient g. The sample's objective F_m, which has
the same penalty, is made to agree with them by a linear term:

    M(v) = F_m(v) + <g - grad F_m(w), v - w> + F(w) - F_m(w).

Its minimum is the next w. It costs passes over the sample, in memory, but only one over all rows.
What M leaves out is how the curvature of all rows differs from the sample's. Along the last step s,
from the w before, it is known by e, the change of the linear term. So M also has the parabola
``<e, v - w>^2 / (2 <e, s>)``, if <e, s> > 0: then it agrees with the gradient before, too. (Of
500,000 rows of 784 pixels with a sample of 127,000, the passes to 1e-5 and 1e-6 of the optimum were
5 and 7; without the parabola 7 and 12.)

Shamir, Srebro and Zhang 2014, "Communication-efficient distributed optimization using an
approximate Newton-type method" (DANE; here with one node).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.sparse import CSR
from csoftmax.engine.chunks import CLASS_CHUNKS, SUM_ROWS
from csoftmax.engine.local_passes import LocalPasses
from csoftmax.engine.units import CHUNK_ROWS, n_chunks
from csoftmax.rows.base import Stored
from csoftmax.rows.memory import mapped
from csoftmax.rows.shards import ShardRows
from csoftmax.solver.descent import EVALUATE, NEXT, Descent
from csoftmax.solver.problem import Problem, Sizes

Array = NDArray[Any]

# A sample has WANTED rows for each parameter, and ALWAYS rows at least, where the memory below and
# an eighth of the rows are enough for that; it must have LEAST rows for each parameter. Files of
# less than COSTLY_BYTES stay in the system's cache, where a pass costs what it costs in memory.
WANTED, LEAST, ALWAYS, MOST_SHARE = 100, 15, 1 << 16, 1 / 8
DRAWN = 0.9  # of the rows that are asked for, hashes draw so many at least
SAMPLE_BYTES, COSTLY_BYTES = 1 << 29, 1 << 30
# Of the last chunk, which may have twice as many rows, too: blocks whose sums by class are held.
SUMMED_AT_ONCE = (CLASS_CHUNKS + 1) * CHUNK_ROWS // SUM_ROWS
# A step is good if it gains this share of what the model promised, and the next one promises at
# most MOST_LEFT of that. L-BFGS leaves .8 to .9 after a pass.
LEAST_GAIN, MOST_LEFT = 0.1, 0.7


def n_free_parameters(n_features: int, n_classes: int) -> int:
    """Return how many parameters there are: moving all classes alike changes nothing."""
    return (n_classes - 1) * (n_features + 1)


def usual_rows(X: Stored | ShardRows, n_classes: int) -> int:
    """Return how many rows a sample of X has; 0 where the corrected sample is not for X."""
    if isinstance(X, CSR) or (
        (X.is_sparse or X.in_memory) if isinstance(X, ShardRows) else mapped(X) is None
    ):
        return 0
    (n_rows, n_features), itemsize = X.shape, X.dtype.itemsize
    if n_rows * n_features * itemsize < COSTLY_BYTES:
        return 0
    n_parameters = n_free_parameters(n_features, n_classes)
    most = min(int(MOST_SHARE * n_rows), SAMPLE_BYTES // (n_features * itemsize))
    n = min(max(WANTED * n_parameters, ALWAYS), most)
    return n if n >= LEAST * n_parameters else 0


def bytes_needed(sizes: Sizes, n_sampled: int, descent_bytes: int) -> float:
    """Return what the sample takes, the sums by class, and a descent of one head on the sample.

    The rows of the sample are copied once.
    """
    rows = 2 * n_sampled * sizes.n_features * sizes.stored_itemsize
    targets = 24 * n_sampled * (1 + sizes.n_weights)
    # of all rows, of the tree, and of each block
    of_sum = (4 + n_chunks(sizes.n_rows).bit_length()) * 8 + SUMMED_AT_ONCE * sizes.itemsize
    sums = of_sum * sizes.n_samples * sizes.n_classes * (sizes.n_features + 1)
    points = 5 * sizes.parameter_bytes
    return 1.1 * (rows + targets) + sums + points + descent_bytes  # hashes draw about as many


def check_sample_rows(
    sample_rows: int, X: Stored | ShardRows, n_classes: int, least: int = LEAST
) -> None:
    """Raise ValueError if a sample of so many rows cannot stand for all of them."""
    if isinstance(X, CSR) or getattr(X, "is_sparse", False):
        raise ValueError(f"sample_rows is {sample_rows}, expected 0 or None for sparse X")
    n_parameters = n_free_parameters(X.shape[1], n_classes)
    if sample_rows < least * n_parameters:
        raise ValueError(
            f"sample_rows is {sample_rows}, expected 0 or at least {least * n_parameters}: "
            f"{least} for each of the {n_parameters} free parameters"
        )


def have_enough(problem: Problem) -> NDArray[np.bool_]:
    """Say for each row of weights whether there is a sample, with rows enough that it counts."""
    kept = problem.kept
    if kept is None:
        return np.zeros(len(problem.totals), np.bool_)
    counts = kept.n_rows if kept.weights is None else np.count_nonzero(kept.weights, axis=1)
    n_parameters = n_free_parameters(problem.n_features, problem.n_classes)
    return np.atleast_1d(counts) >= max(1, DRAWN * LEAST * n_parameters)


class Before(NamedTuple):
    """A point at which all rows were evaluated, and the linear term there."""

    x: Array
    linear: NDArray[np.float64]


class Correction(NamedTuple):
    """What a sample's objective lacks to agree with that of all rows at x, and at the one before.

    It is ``offset + <linear, v - x> + factor / 2 <parabola, v - x>^2``.
    """

    x: Array
    offset: float
    linear: NDArray[np.float64]
    parabola: NDArray[np.float64]
    factor: float

    def add(self, v: Array, gradient: Array) -> float:
        """Return what is added to the objective at v, and add its gradient to one."""
        step = v.astype(np.float64) - self.x
        slope = self.factor * float(self.parabola @ step)
        gradient += (self.linear + slope * self.parabola).astype(gradient.dtype)
        square = 0.5 * slope * float(self.parabola @ step)
        return self.offset + float(self.linear @ step) + square


class SampleProblem(Problem):
    """The heads of a problem over its sample, each with the one of `corrections`, if any.

    It counts the classes and their shares as the problem does: a class that no row of the sample
    has is there by the linear term.
    """

    has_bound = False  # a point of the dual problem knows nothing of the correction

    def __init__(self, problem: Problem, sample: LocalPasses) -> None:
        super().__init__(
            sample, C=problem.C, weight_of_head=problem.weight_of_head,
            fit_intercept=problem.fit_intercept, unit=problem.unit,
        )  # fmt: skip
        self.penalties, self.shares = problem.penalties, problem.shares
        self.null_bias = problem.null_bias
        self.corrections: dict[int, Correction] = {}

    def agree(
        self, head: int, x: Array, objective: float, gradient: Array, before: Before | None
    ) -> Before:
        """Set the correction of a head so that objective and gradient at x are these.

        Return x and the linear term, to be known at the next point.
        """
        self.corrections.pop(head, None)
        own = np.empty_like(gradient)
        [f] = self.evaluate([head], [x], [own])
        linear = gradient.astype(np.float64) - own
        parabola, factor = np.zeros_like(linear), 0.0
        if before is not None:
            parabola, step = linear - before.linear, x.astype(np.float64) - before.x
            curvature = float(parabola @ step)
            factor = 1 / curvature if curvature > 0 else 0.0
        self.corrections[head] = Correction(x.copy(), objective - f, linear, parabola, factor)
        return Before(x, linear)

    def evaluate(
        self, heads: Sequence[int], xs: Sequence[Array], gs: Sequence[Array]
    ) -> list[float]:
        objectives = super().evaluate(heads, xs, gs)
        for i, (head, x, g) in enumerate(zip(heads, xs, gs, strict=True)):
            if head in self.corrections:
                objectives[i] += self.corrections[head].add(x, g)
        return objectives


class SampledPoint(NamedTuple):
    """A `Point` that knows where the sample leads, and what is gained by going there."""

    x: Array
    objective: float
    gradient: Array
    linear: NDArray[np.float64]  # the linear term of the correction
    following: Array
    estimate: float

    @property
    def reduced(self) -> Array:
        return self.gradient


class Corrected(Descent):
    """Steps to the minima of the corrected sample; it stalls where they are no good.

    `step` makes a point of x, F(x), its gradient, and what is known of the point before.
    """

    has_whole_hessian, margin = True, 2.0
    point_type = SampledPoint

    def __init__(
        self,
        x: Array,
        step: Callable[[Array, float, Array, Before | None], SampledPoint],
        before: Before | None,
    ) -> None:
        super().__init__(x)
        self.step, self.before = step, before

    def _at_trial(self, objective: float) -> SampledPoint:
        before = self.before if self.point is None else Before(self.point.x, self.point.linear)
        return self.step(self.trial, objective, self.trial_gradient, before)

    def steps(self) -> Generator[bool, float, None]:
        while True:
            old = self.point
            # the objective of all rows is not below 0, so a model that promises more is wrong
            if not 0 < old.estimate <= old.objective:
                break
            self.trial, self.trial_gradient = old.following, np.empty_like(old.x)
            objective = yield EVALUATE
            if not old.objective - objective >= LEAST_GAIN * old.estimate:  # NaN too
                break
            self.point = self._at_trial(objective)
            yield NEXT
            if self.point.estimate > MOST_LEFT * old.estimate:
                break
        self.stalled = True
