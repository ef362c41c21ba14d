"""The certificate: a lower bound of a head's optimum, from a point of the dual problem."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.engine.lines import Lines
from csoftmax.solver.problem import Problem, Sizes

Array = NDArray[Any]


def bytes_needed(sizes: Sizes) -> int:
    """Return what the bound of a head takes: five vectors of its parameters' size in float64."""
    return 5 * 8 * sizes.n_classes * (sizes.n_features + 1)


def least_bound(problem: Problem, head: int, g: Array) -> float:
    """Return the distance to the optimum that `lower_bound` would prove if c (see there) were 0.

    It costs little, and says whether the bound itself is worth computing.
    """
    penalty = problem.penalties[head]
    if not problem.has_bound:
        return math.inf
    if problem.lines is None or not penalty.l2:
        return penalty.conjugate(g[: problem.split])
    return problem.lines.products([g], [(0, 0)], whole=False)[0] / (2 * penalty.l2)


def lower_bound(problem: Problem, head: int, x: Array, objective: float, g: Array) -> float:
    """Return a lower bound of a head's optimum; without a penalty, 0.

    Let p' be any probabilities of the rows that give each class as much weight as the labels do,
    ``mean`` the mean weighted by s, and ``R' = mean_i (p'_i - e_yi) x_i^T``. Since
    ``loss_i >= (p'_i - e_yi) . logits_i + entropy(p'_i)`` with equality at p' = p, the optimum is
    at least ``mean_i entropy(p'_i) - conjugate(R')``, with the conjugate of the penalty: the bias
    drops out, as p' has the shares of the labels, and the minimum over W is minus the conjugate.
    (Without an intercept any p' will do.)

    If the p of the point were such a p', the point would be ``conjugate(gradient)`` above the
    bound. But p gives the classes other shares than the labels do, by c, the gradient of the
    intercept. So p' is the mixture ``(1 - t) p + t v``: v is one constant vector that makes up for
    c, and t is the smallest for which v >= 0. Entropy is concave, so that of p' is at least the
    mixture of the two entropies. ``R' = (1 - t) (R - c mean(x)^T) + t R_0``, R_0 being R of the
    null model.
    """
    penalty = problem.penalties[head]
    if penalty.strength == 0:
        return 0.0
    if problem.lines is not None:
        return _lower_bound_of_lines(problem, problem.lines, head, x, objective, g)
    W, b = (part.astype(np.float64) for part in problem.parameters(x))
    R, c = (part.astype(np.float64) for part in problem.parameters(g))
    penalty.add_gradient(-W, R)  # what is left is the gradient of the loss
    entropy = objective - penalty.value(W) - float(np.vdot(R, W))
    t = 0.0
    if problem.fit_intercept:
        r = int(problem.weight_of_head[head])
        present = problem.shares[r] > 0
        t, entropy, c = _mixture(problem, r, entropy, b, c)
        R *= 1 - t
        R[present] -= (1 - t) * c[:, None] * problem.means[r]
        R += t * problem.weights(problem.null_gradient[r])
    return max(0.0, entropy - penalty.conjugate(R))


def _mixture(
    problem: Problem, r: int, entropy: float, b: Array, c: Array
) -> tuple[float, float, Array]:
    """Return t of the mixture p', its entropy, and c, all of the classes that occur."""
    present = problem.shares[r] > 0
    shares, c = problem.shares[r][present], c[present]
    c = c - c.mean()  # 0 but for rounding
    entropy -= float(c @ b[present])
    t = max(0.0, float((1 - shares / np.maximum(shares + c, 1e-300)).max()))
    if t > 0:
        v = np.maximum((shares - (1 - t) * (shares + c)) / t, 0.0)
        entropy = (1 - t) * entropy - t * float(v @ np.log(np.where(v > 0, v, 1.0)))
    return t, entropy, c


def _lower_bound_of_lines(
    problem: Problem, lines: Lines, head: int, x: Array, objective: float, g: Array
) -> float:
    """Return the bound for sparse rows: all that it needs are six products of three vectors.

    The features are centred, so that R needs no correction for c.
    """
    r, l2 = int(problem.weight_of_head[head]), problem.penalties[head].l2
    pairs = [(0, 0), (0, 1), (1, 1), (0, 2), (1, 2), (2, 2)]
    vectors = [x, g, problem.null_gradient[r]]
    WW, gW, gg, WN, gN, NN = lines.products(vectors, pairs, whole=False)
    t, entropy = 0.0, objective + 0.5 * l2 * WW - gW
    if problem.fit_intercept:
        b, c = (v[problem.split :].astype(np.float64) for v in (x, g))
        t, entropy, _ = _mixture(problem, r, entropy, b, c)
    of_loss, with_null = gg - 2 * l2 * gW + l2 * l2 * WW, gN - l2 * WN
    square = (1 - t) ** 2 * of_loss + 2 * t * (1 - t) * with_null + t * t * NN
    return max(0.0, entropy - square / (2 * l2))
