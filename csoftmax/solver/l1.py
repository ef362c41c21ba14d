"""The fit with L1 or elastic net, of several heads: arguments in, a `Solution` out.

`csoftmax.solver.proximal` solves one problem. Heads that share a row of weights are solved one
after the other.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from csoftmax.core.checks import check_number, check_positive
from csoftmax.engine.row_weights import FoldWeights
from csoftmax.solver.arguments import HasLabels, checked_problem, shards_of
from csoftmax.solver.checkpoint import Checkpoint
from csoftmax.solver.corrected_l1 import SampledHeads
from csoftmax.solver.l1_heads import L1Heads
from csoftmax.solver.l1_local import LocalHeads
from csoftmax.solver.l1_memory import check_l1_rows, usual_l1_rows
from csoftmax.solver.l1_problem import checked_l1_problem, l1_problem_of, l1_starts
from csoftmax.solver.solution import ConvergenceWarning, Progress, Solution
from csoftmax.solver.walk import one_blas_thread


def minimize_l1(
    X: ArrayLike,
    y: ArrayLike | None,
    n_classes: int,
    *,
    C: float | ArrayLike = 1.0,
    l1_ratio: float = 1.0,
    scale: float = 1.0,
    sample_weight: ArrayLike | None = None,
    weight_of_head: ArrayLike | None = None,
    fit_intercept: bool = True,
    one_row: bool = False,
    tol: float = 1e-4,
    max_iter: int = 1000,
    path: bool = False,
    sample_rows: int | None = None,
    W: ArrayLike | None = None,
    b: ArrayLike | None = None,
    n_threads: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: float = 60.0,
    callback: Callable[[Progress], object] | None = None,
    verbose: int = 0,
    warns: bool = True,
) -> Solution:
    """Minimise the objective of softmax regression with L1 or elastic net, for several heads.

    Head h minimises over W and b, with its row weights s and ``S = sum_i s_i``,

        ``1/S sum_i s_i loss_i(W, b) + 1/(C_h S) (l1_ratio ||W||_1 + (1 - l1_ratio)/2 ||W||^2)``

    Parameters
    ----------
    X : array_like, sparse matrix or `csoftmax.data.Shards` (n_samples, n_features)
        Sparse rows are read as they are. Of an array the columns whose weights move are copied in
        the compute type. Shards whose fit takes 1 GB or less in all are read into memory, once.
    y : array_like (n_samples,) or (n_samples, n_classes)
        Integer labels 0..n_classes-1, or probabilities whose rows sum to 1. None: of shards their
        own labels and weights.
    n_classes : int
        Number of classes.
    C : float or array_like (n_heads,)
        Inverse strength of the penalty, > 0 and finite.
    l1_ratio : float
        The share of L1, above 0 and at most 1.
    scale, sample_weight, weight_of_head, fit_intercept, n_threads
        As for `csoftmax.solver.minimize`.
    one_row : bool
        For two classes: the weights and the intercept of class 0 are 0. This is the logistic
        regression of one row of weights, class 1's. (The softmax has a row for each class, and L1
        of the two is another problem than L1 of their difference.)
    tol : float
        A head has converged when its estimated distance to the optimum is at most so much of its
        objective.
    max_iter : int
        Iterations of a head, at most.
    path : bool
        Solve the heads that share a row of weights from small to large C, each from where the one
        before it ended. With a sample all heads share the passes, whatever this says.
    sample_rows : int, optional
        So many rows, about, are kept in memory; passes over all rows correct their optima:
        3 to 6 passes, and one for the bound (`csoftmax.solver.corrected_l1`). 0: all rows are in
        memory. None: a sample for mapped files and shards whose fit would take more than 1 GB in
        all: 100 rows for each parameter, at least 65,536, but no more than half of the rows or
        than 1 GB holds. If those are fewer than 15 for each feature, all rows are in memory.
    W, b : array_like (n_heads, n_classes, n_features), (n_heads, n_classes), optional
        Where to start; None: at ``W = 0``. With a path, where its first heads start.
    checkpoint : path, optional
        A file to save the state to. If it exists, the call goes on from there, to the same bits as
        without the interruption. `tol` and `max_iter` may differ: then heads that had ended, and
        not as these ask, go on from their W and b.
    checkpoint_every : float
        Seconds between saves, at least.
    callback : function, optional
        Called with a `Progress` after each iteration; if it returns True, the solver stops.
    verbose : int
        If not 0, a line on stderr after each iteration.
    warns : bool
        Whether to warn of heads that have not converged.

    Returns
    -------
    Solution
        `bound` is what is proved and `estimate` what the last iterations say, which is usually far
        less. `gradient_max` is the largest distance of a slope from where the penalty would hold
        it. `history` has "objective", "bound", "estimate", "selected" (weights that are not 0) and
        "seconds". Passes are iterations here; with a sample they are over all rows, with one for
        statistics.

    Raises
    ------
    TypeError, ValueError
        Arguments that do not fit, NaN or infinity in X (named).
    DataError
        A checkpoint of another problem, or a file that is no checkpoint.

    Warns
    -----
    ConvergenceWarning
        If a head has not converged.

    Notes
    -----
    The result is bitwise the same for any `n_threads`.

    Examples
    --------
    >>> import csoftmax as cs
    >>> from csoftmax.solver.l1 import minimize_l1
    >>> train, _ = cs.fashion_mnist_sample()
    >>> X = train.X.reshape(len(train), -1)
    >>> few = minimize_l1(X, train.y, 10, C=0.01, scale=1 / 255, tol=1e-3)
    >>> bool(few.converged[0]), bool((few.W == 0).mean() > 0.9)
    (True, True)
    """
    started = time.perf_counter()
    if check_number(tol, "tol") < 0:
        raise ValueError(f"tol is {tol}, expected a number >= 0")
    if max_iter != 0:
        check_positive(max_iter, "max_iter")
    if callback is not None and not callable(callback):
        raise TypeError(f"callback is a {type(callback).__name__}, expected a function")
    interval = check_number(checkpoint_every, "checkpoint_every")
    if sample_rows:  # 0 and None are for nobody to check
        check_positive(sample_rows, "sample_rows")
    shards = shards_of(X)
    if isinstance(X, HasLabels) and y is None:
        y, sample_weight = X.encoded(np.arange(n_classes))[1], X.weights()
    if sample_rows is None:
        sample_rows = usual_l1_rows(X, n_classes, l1_ratio, sample_weight, C)
    options = float(tol), int(max_iter), bool(path), callback, verbose, started
    heads: L1Heads
    if sample_rows:
        check_l1_rows(sample_rows, np.shape(X if shards is None else shards)[1])
        whole = checked_problem(
            X, y, n_classes, C=C, scale=1.0, sample_weight=sample_weight,
            weight_of_head=weight_of_head, fit_intercept=fit_intercept, n_threads=n_threads,
            sample_rows=0 if shards is not None and shards.is_sparse else sample_rows,
            least_rows=0,
        )  # fmt: skip
        problem = l1_problem_of(whole, l1_ratio, scale, one_row)
        starts = l1_starts(problem, W, b)
        heads = SampledHeads(whole, problem, sample_rows, starts, *options)
    else:
        if isinstance(sample_weight, FoldWeights):  # made block by block, where rows are
            sample_weight = sample_weight[:, :]
        features: Any = X if shards is None else shards.take(slice(None))
        if isinstance(sample_weight, FoldWeights):
            sample_weight = sample_weight[:, :]
        problem = checked_l1_problem(
            features, cast(ArrayLike, y), n_classes, C, l1_ratio, scale, sample_weight,
            weight_of_head, fit_intercept, one_row, n_threads,
        )  # fmt: skip
        starts = l1_starts(problem, W, b)
        heads = LocalHeads(problem, starts, *options)
    if checkpoint is not None:
        heads.saved = Checkpoint(checkpoint, heads, heads.fingerprint())
        heads.interval = interval
    with one_blas_thread():
        if heads.saved is not None:
            heads.saved.resume()
        heads.run()
    solution = heads.solution()
    if warns and solution.message:
        warnings.warn(solution.message, ConvergenceWarning, stacklevel=2)
    return solution
