"""Few passes over many rows: steps to the optimum of a sample, corrected by the whole gradient.

At w, a pass has given the objective F(w) and its gradient g. The sample's objective F_m, which has
the same penalty, is made to agree with them by a linear term:

    M(v) = F_m(v) + <g - grad F_m(w), v - w> + F(w) - F_m(w).

Its minimum is the next w. It costs passes over the sample, in memory, but only one over all rows.
With n of m rows the distance to the optimum shrinks by a factor of about n_parameters / m.

Shamir, Srebro and Zhang 2014, "Communication-efficient distributed optimization using an
approximate Newton-type method" (DANE; here with one node).
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.sparse import CSR
from csoftmax.engine.passes import LocalPasses
from csoftmax.solver.descent import EVALUATE, NEXT, Descent
from csoftmax.solver.problem import Problem, Sizes

Array = NDArray[Any]

# A sample has WANTED rows for each parameter, and ALWAYS rows at least, where the memory below and
# an eighth of the rows are enough for that; it must have LEAST rows for each parameter. Files of
# less than COSTLY_BYTES stay in the system's cache, where a pass costs what it costs in memory.
WANTED, LEAST, ALWAYS, MOST_SHARE = 100, 15, 1 << 16, 1 / 8
DRAWN = 0.9  # of the rows that are asked for, hashes draw so many at least
SAMPLE_BYTES, COSTLY_BYTES = 1 << 29, 1 << 30
# A step is good if it gains this share of what the model promised, and the next one promises at
# most MOST_LEFT of that. L-BFGS leaves .8 to .9 after a pass.
LEAST_GAIN, MOST_LEFT = 0.1, 0.7


def n_free_parameters(n_features: int, n_classes: int) -> int:
    """Return how many parameters there are: moving all classes alike changes nothing."""
    return (n_classes - 1) * (n_features + 1)


def is_mapped(X: Array) -> bool:
    """Say whether an array is a view of a mapped file."""
    base: Any = X
    while base is not None and not isinstance(base, (np.memmap, mmap.mmap)):
        base = base.obj if isinstance(base, memoryview) else getattr(base, "base", None)
    return base is not None


def usual_rows(X: Any, n_classes: int) -> int:
    """Return how many rows a sample of X has; 0 where the corrected sample is not for X."""
    if isinstance(X, CSR) or not is_mapped(X) or X.nbytes < COSTLY_BYTES:
        return 0
    n_rows, n_features = X.shape
    n_parameters = n_free_parameters(n_features, n_classes)
    most = min(int(MOST_SHARE * n_rows), SAMPLE_BYTES // (n_features * X.itemsize))
    n = min(max(WANTED * n_parameters, ALWAYS), most)
    return n if n >= LEAST * n_parameters else 0


def bytes_needed(sizes: Sizes, n_sampled: int, descent_bytes: int) -> float:
    """Return what the sample takes, the sums by class, and a descent of one head on the sample.

    The rows of the sample are copied once.
    """
    rows = 2 * n_sampled * sizes.n_features * sizes.stored_itemsize
    targets = 24 * n_sampled * (1 + sizes.n_weights)
    sums = 4 * 8 * sizes.n_samples * sizes.n_classes * (sizes.n_features + 1)
    points = 5 * sizes.parameter_bytes
    return 1.1 * (rows + targets) + sums + points + descent_bytes  # hashes draw about as many


def check_sample_rows(sample_rows: int, X: Any, n_classes: int) -> None:
    """Raise ValueError if a sample of so many rows cannot stand for all of them."""
    if isinstance(X, CSR):
        raise ValueError(f"sample_rows is {sample_rows}, expected 0 or None for sparse X")
    n_parameters = n_free_parameters(X.shape[1], n_classes)
    if sample_rows < LEAST * n_parameters:
        raise ValueError(
            f"sample_rows is {sample_rows}, expected 0 or at least {LEAST * n_parameters}: "
            f"{LEAST} for each of the {n_parameters} free parameters"
        )


def have_enough(problem: Problem) -> NDArray[np.bool_]:
    """Say for each row of weights whether there is a sample, with rows enough that it counts."""
    kept = problem.kept
    if kept is None:
        return np.zeros(len(problem.totals), np.bool_)
    counts = kept.n_rows if kept.weights is None else np.count_nonzero(kept.weights, axis=1)
    n_parameters = n_free_parameters(problem.n_features, problem.n_classes)
    return np.atleast_1d(counts) >= max(1, DRAWN * LEAST * n_parameters)


class Tilt(NamedTuple):
    """What a sample's objective lacks to agree with that of all rows at a point."""

    gradient: NDArray[np.float64]
    offset: float


class SampleProblem(Problem):
    """The heads of a problem over its sample, each with the linear term in `tilts`, if any.

    It counts the classes and their shares as the problem does: a class that no row of the sample
    has is there by the linear term.
    """

    has_bound = False  # a point of the dual problem knows nothing of the linear term

    def __init__(self, problem: Problem, sample: LocalPasses) -> None:
        super().__init__(
            sample, C=problem.C, weight_of_head=problem.weight_of_head,
            fit_intercept=problem.fit_intercept, unit=problem.unit,
        )  # fmt: skip
        self.penalties, self.shares = problem.penalties, problem.shares
        self.null_bias = problem.null_bias
        self.tilts: dict[int, Tilt] = {}

    def agree(self, head: int, x: Array, objective: float, gradient: Array) -> None:
        """Set the linear term of a head so that objective and gradient at x are these."""
        self.tilts.pop(head, None)
        own = np.empty_like(gradient)
        [f] = self.evaluate([head], [x], [own])
        tilt = gradient.astype(np.float64) - own
        self.tilts[head] = Tilt(tilt, objective - f - float(tilt @ x))

    def evaluate(
        self, heads: Sequence[int], xs: Sequence[Array], gs: Sequence[Array]
    ) -> list[float]:
        objectives = super().evaluate(heads, xs, gs)
        for i, (head, x, g) in enumerate(zip(heads, xs, gs, strict=True)):
            if head in self.tilts:
                tilt = self.tilts[head]
                g += tilt.gradient.astype(g.dtype)
                objectives[i] += float(tilt.gradient @ x) + tilt.offset
        return objectives


Step = tuple[Array, float]  # where the corrected sample has its minimum, and what is gained there


class SampledPoint(NamedTuple):
    """A `Point` that knows where the sample leads, and what is gained by going there."""

    x: Array
    objective: float
    gradient: Array
    following: Array
    estimate: float

    @property
    def reduced(self) -> Array:
        return self.gradient


class Corrected(Descent):
    """Steps to the minima of the corrected sample; it stalls where they are no good.

    `step` returns that minimum for x, F(x) and its gradient, and how far F(x) is above it.
    """

    has_whole_hessian, margin = True, 2.0
    point_type = SampledPoint

    def __init__(self, x: Array, step: Callable[[Array, float, Array], Step]) -> None:
        super().__init__(x)
        self.step = step

    def _at_trial(self, objective: float) -> SampledPoint:
        following, estimate = self.step(self.trial, objective, self.trial_gradient)
        return SampledPoint(self.trial, objective, self.trial_gradient, following, estimate)

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
