"""Softmax regression to the optimum: many problems over the same rows, one pass at a time.

A head is one problem: its C, its row weights. All heads that are still running are evaluated in the
same pass over X, which is read as it is stored. Each walks by L-BFGS (`csoftmax.solver.lbfgs`) in
coordinates that an approximate Hessian has made round (`csoftmax.solver.hessians`), or by Newton's
method (`csoftmax.solver.newton`) where the problem is small, and drops out when it is close enough
to its optimum (`csoftmax.solver.stopping`). What is minimised is in `csoftmax.solver.problem`, the
lower bound that certifies the result in `csoftmax.solver.bound`.
"""

from __future__ import annotations

import math
import os
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from csoftmax.core.checks import check_number, check_positive
from csoftmax.solver.arguments import checked_problem, starting_points
from csoftmax.solver.checkpoint import Checkpoint, fingerprint
from csoftmax.solver.corrected import have_enough
from csoftmax.solver.head import Head, SolverOptions
from csoftmax.solver.l1 import minimize_l1
from csoftmax.solver.memory import usual_pairs
from csoftmax.solver.sampled_walk import SampledWalk
from csoftmax.solver.solution import ConvergenceWarning, Progress, Solution, solution_of
from csoftmax.solver.stopping import check_tol
from csoftmax.solver.walk import Walk, one_blas_thread

Array = NDArray[Any]
Callback = Callable[[Progress], object]

PRECONDITIONERS = ("auto", "full", "diagonal", None)


def minimize(
    X: ArrayLike,
    y: ArrayLike | None,
    n_classes: int,
    *,
    C: float | ArrayLike = 1.0,
    l1_ratio: float = 0.0,
    scale: float = 1.0,
    sample_weight: ArrayLike | None = None,
    weight_of_head: ArrayLike | None = None,
    fit_intercept: bool = True,
    tol: float | str = 1e-4,
    gradient_tol: float | None = None,
    least_nats: float = 0.0,
    max_iter: int = 1000,
    history_size: int | None = None,
    preconditioner: str | None = "auto",
    path: bool = False,
    sample_rows: int | None = None,
    W: ArrayLike | None = None,
    b: ArrayLike | None = None,
    n_threads: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: float = 60.0,
    callback: Callback | None = None,
    verbose: int = 0,
    warns: bool = True,
) -> Solution:
    """Minimise the objective of softmax regression, for several heads in the same passes over X.

    Head h minimises ``1/S sum_i s_i loss_i(W, b) + 1/(2 C_h S) ||W||^2`` over W and b, with its row
    weights s and ``S = sum_i s_i``; ``loss_i`` is the cross-entropy of ``scale * X[i] @ W.T + b``.

    Parameters
    ----------
    X : array_like, sparse matrix or `csoftmax.data.Shards` (n_samples, n_features), or images
        Read as it is stored, in blocks of rows: uint8, float16, float32, float64, memory maps.
        Sparse rows stay sparse, and are centred in effect. Shards are read window by window, the
        next one while a window is summed.
    y : array_like (n_samples,) or (n_samples, n_classes)
        Integer labels 0..n_classes-1, or probabilities whose rows sum to 1. None: of shards their
        own labels and weights.
    n_classes : int
        Number of classes.
    C : float or array_like (n_heads,)
        Inverse strength of the penalty, > 0; inf for none.
    l1_ratio : float
        The share of L1 in the penalty, 0 to 1. Above 0 it is ``1/(C_h S) (l1_ratio ||W||_1 +
        (1 - l1_ratio)/2 ||W||^2)``, and `csoftmax.solver.l1.minimize_l1` minimises. Where every C
        is inf there is no penalty, and it does not matter. Otherwise C is finite,
        and what is said of L-BFGS does not apply: `gradient_tol`, `least_nats`, `history_size` and
        `preconditioner` are not used, ``tol="sampling"`` is refused, and `sample_rows` is
        described there.
    scale : float
        Multiplies X; the penalty is on W as it multiplies ``scale * X``.
    sample_weight : array_like (n_samples,) or (n_weights, n_samples), optional
        Row weights >= 0. Of several rows of weights, `weight_of_head` says which head has which.
    weight_of_head : array_like (n_heads,) of int, optional
        Rows of `sample_weight`; None: a head for each row of weights, or all heads share the one.
    fit_intercept : bool
        Whether there is a b; it is not penalised.
    tol : float or "sampling"
        A head has converged when its estimated distance to the optimum is at most so much of its
        objective. With "sampling" it has where that is at most a tenth of what chance does: other
        rows of the same kind would have their optimum as far away as `Solution.noise`, which is
        measured on a sample. Test losses then differ by about a tenth of what they are worse than
        those of endless data. It is the wrong tool where the parameters matter by themselves, and
        with few rows (less than some ten for each parameter): there chance is so large that a
        tenth of it shows.
    gradient_tol : float, optional
        A head is also to bring the largest entry of its gradient down to this, as scikit-learn
        asks. It need not once its estimated distance is at most a hundredth of `tol`, or once it
        has gone on for five more iterations and a tenth of those that brought it within `tol`.
        None: the gradient may be as it is.
    least_nats : float
        Where the labels are all but explained, the objective is near 0: a share of it is hard to
        reach, and gains nothing. So `tol` is a share of the objective, or of this divided by the
        number of samples that count, if that is more; but then of no more than the loss of the
        null model (``W = 0``).
    max_iter : int
        Iterations of a head, at most; 0 returns the start.
    history_size : int, optional
        Pairs of L-BFGS; two vectors of the parameters' size each. None: as many as 16 MB hold, at
        least 10 and at most 30, or at most 100 along a path over many rows. Where penalties are
        weak, more pairs save passes.
    preconditioner : "auto", "full", "diagonal" or None
        Approximate Hessians in the eigenvectors of the features' covariance, or from the variances
        alone; "auto" decides by what the decomposition costs, and takes Newton's method where a
        whole Hessian costs little. For sparse rows there are variances alone. None is plain
        L-BFGS.
    path : bool
        Solve the heads that share a row of weights one after the other, from small to large C, each
        from where the solutions of the two before it point, with the pairs of L-BFGS of the one
        before it. Otherwise all heads run at once.
    sample_rows : int, optional
        So many rows, about, are kept in memory; the solver goes from one optimum of these to the
        next, each corrected by a pass over all rows: 3 to 6 passes take the place of 10 to 50
        (`csoftmax.solver.corrected`). Where a step is no good, L-BFGS goes on. 0: no sample. None:
        none in memory; for mapped files and shards of 1 GB or more 100 rows for each parameter,
        at least 65,536, but at most 512 MB and an eighth of the rows; none if those are fewer than
        15 for each parameter. It is not for sparse rows.
        Several heads share the passes over all rows; over the sample each has its own.
    W, b : array_like (n_heads, n_classes, n_features), (n_heads, n_classes), optional
        Where to start; None: at ``W = 0`` and the classes' logarithmic frequencies. With a path,
        where its first heads start.
    n_threads : int, optional
        At most so many threads; None: all CPUs that this process may use.
    checkpoint : path, optional
        A file to save the state to. If it exists, the call goes on from there, to the same bits as
        without the interruption; `tol`, `gradient_tol`, `least_nats` and `max_iter` may differ.
    checkpoint_every : float
        Seconds between saves, at least.
    callback : function, optional
        Called with a `Progress` after each pass; if it returns True, the solver stops.
    verbose : int
        If not 0, a line on stderr after each pass.
    warns : bool
        Whether to warn of heads that have not converged. `Solution.message` says it in any case.

    Returns
    -------
    Solution

    Raises
    ------
    TypeError, ValueError
        Arguments that do not fit, NaN or infinity in X (named).
    DataError
        A checkpoint of another problem, or a file that is no checkpoint.

    Warns
    -----
    ConvergenceWarning
        If a head has not converged: how far it is from its optimum, how many passes are left. Also
        after Ctrl-C, which returns the best so far.

    Notes
    -----
    The result is bitwise the same for any `n_threads`, and for a head alone as among others.

    A class without any sample of weight > 0 has probability 0 at the optimum: its b is -10,000.
    Weights of classes that occur sum to 0, as those of any minimum do.

    Nocedal and Wright, "Numerical Optimization" (2006), chapter 7.

    Examples
    --------
    >>> import csoftmax as cs
    >>> from csoftmax.solver import minimize
    >>> train, test = cs.fashion_mnist_sample()
    >>> X = train.X.reshape(len(train), -1)
    >>> solution = minimize(X, train.y, 10, C=[0.01, 0.1], scale=1 / 255, tol=1e-3)
    >>> solution.converged, solution.W.shape
    (array([ True,  True]), (2, 10, 784))
    """
    if not 0 <= check_number(l1_ratio, "l1_ratio") <= 1:
        raise ValueError(f"l1_ratio is {l1_ratio}, expected a number from 0 to 1")
    if l1_ratio != 0 and not _are_inf(C):
        if isinstance(tol, str):
            raise ValueError(f"tol is {tol!r}, expected a number where l1_ratio > 0")
        return minimize_l1(
            X, y, n_classes, C=C, l1_ratio=l1_ratio, scale=scale, sample_weight=sample_weight,
            weight_of_head=weight_of_head, fit_intercept=fit_intercept, tol=tol, max_iter=max_iter,
            path=path, sample_rows=sample_rows, W=W, b=b, n_threads=n_threads,
            checkpoint=checkpoint, checkpoint_every=checkpoint_every, callback=callback,
            verbose=verbose, warns=warns,
        )  # fmt: skip
    started = time.perf_counter()
    if preconditioner not in PRECONDITIONERS:
        raise ValueError(
            f'preconditioner is {preconditioner!r}, expected "auto", "full", "diagonal" or None'
        )
    share = check_tol(tol)
    if isinstance(tol, str) and preconditioner is None:
        raise ValueError(f"tol is {tol!r}, expected a number where preconditioner is None")
    for name, value in (("gradient_tol", gradient_tol), ("least_nats", least_nats)):
        if value is not None and check_number(value, name) < 0:
            raise ValueError(f"{name} is {value}, expected a number >= 0")
    if max_iter != 0:
        check_positive(max_iter, "max_iter")
    if history_size is not None:
        check_positive(history_size, "history_size")
    if callback is not None and not callable(callback):
        raise TypeError(f"callback is a {type(callback).__name__}, expected a function")
    if sample_rows:  # 0 and None are for nobody to check
        check_positive(sample_rows, "sample_rows")
    interval = check_number(checkpoint_every, "checkpoint_every")
    problem = checked_problem(
        X, y, n_classes, C=C, scale=scale, sample_weight=sample_weight,
        weight_of_head=weight_of_head, fit_intercept=fit_intercept, n_threads=n_threads,
        sample_rows=sample_rows if max_iter else 0,
    )  # fmt: skip
    head_bytes = (problem.split + problem.n_classes) * problem.dtype.itemsize
    pairs = history_size or usual_pairs(
        problem.n_rows, head_bytes, bool(path), problem.lines is not None
    )
    steepest = math.inf if gradient_tol is None else float(gradient_tol)
    options = SolverOptions(
        share, steepest, int(max_iter), int(pairs), preconditioner, float(least_nats),
        by_sampling=isinstance(tol, str),
    )  # fmt: skip
    kind = SampledWalk if have_enough(problem).any() else Walk
    walk = kind(problem, options, started, starting_points(problem, W, b), bool(path))
    saved = None if checkpoint is None else Checkpoint(checkpoint, walk, fingerprint(walk))
    solution = solution_of(walk, _run(walk, saved, interval, callback, verbose))
    if warns and solution.message:
        warnings.warn(solution.message, ConvergenceWarning, stacklevel=2)
    return solution


def _are_inf(C: float | ArrayLike) -> bool:
    try:
        return bool((np.asarray(C, np.float64) == math.inf).all())
    except (TypeError, ValueError):  # no numbers, which is said later
        return False


def _run(
    walk: Walk, saved: Checkpoint | None, interval: float, callback: Callback | None, verbose: int
) -> str:
    """Run a walk with its callback and its checkpoints.

    Return what ended it before its time, "callback" or "interrupted"; "" if nothing did.
    """
    if saved is not None:
        with one_blas_thread():  # as the walk computes its preconditioners, to the same bits
            saved.resume()
    at = time.perf_counter()

    def report(walk: Walk) -> bool:
        nonlocal at
        if saved is not None and time.perf_counter() - at >= interval:
            saved.save()
            at = time.perf_counter()
        return (callback is not None or verbose > 0) and _report(walk, callback, verbose)

    ended_by = ""
    try:
        walk.run(report)
        if walk.stopped:
            ended_by = "callback"
    except KeyboardInterrupt:
        ended_by = "interrupted"
    if saved is not None and not (ended_by == "interrupted" and walk.changing):
        saved.save()
    return ended_by


def _report(walk: Walk, callback: Callback | None, verbose: int) -> bool:
    """Tell of a pass; True if the callback wants to stop."""
    heads, problem = walk.heads, walk.problem
    running = np.zeros(problem.n_heads, bool)
    running[[head.index for head in walk.running]] = True
    progress = Progress(
        problem.n_passes,
        running,
        np.array([head.point.objective for head in heads]),
        np.array([head.estimate for head in heads]),
        time.perf_counter() - walk.started,
        lambda head: problem.own_parameters(head, heads[head].point.x),
    )
    if verbose:
        worst = max(heads, key=Head.distance)
        distance = worst.distance()
        to_go = (
            f"about {distance:.2%} to go" if math.isfinite(distance) else "distance not known yet"
        )
        print(
            f"pass {problem.n_passes}, {progress.seconds:.1f} s: "
            f"{len(walk.running)} of {len(heads)} heads running, "
            f"objective {worst.point.objective:.6g}, {to_go}",
            file=sys.stderr,
        )
    answer = callback(progress) if callback is not None else False
    return isinstance(answer, (bool, np.bool_)) and bool(answer)
