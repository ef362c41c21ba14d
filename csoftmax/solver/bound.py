"""The certificate: a lower bound of a head's optimum, from a point of the dual problem."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.solver.problem import Problem, Sizes

Array = NDArray[Any]


def bytes_needed(sizes: Sizes) -> int:
    """Return what the bound of a head takes: five vectors of its parameters' size in float64."""
    return 5 * 8 * sizes.n_classes * (sizes.n_features + 1)


def least_bound(problem: Problem, head: int, g: Array) -> float:
    """Return the distance to the optimum that `lower_bound` would prove if c (see there) were 0.

    It costs little, and says whether the bound itself is worth computing.
    """
    return problem.penalties[head].conjugate(g[: problem.split])


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
    W, b = (part.astype(np.float64) for part in problem.parameters(x))
    R, c = (part.astype(np.float64) for part in problem.parameters(g))
    penalty.add_gradient(-W, R)  # what is left is the gradient of the loss
    entropy = objective - penalty.value(W) - float(np.vdot(R, W))
    if problem.fit_intercept:
        r = int(problem.weight_of_head[head])
        present = problem.shares[r] > 0
        shares, c = problem.shares[r][present], c[present]
        c -= c.mean()  # 0 but for rounding
        entropy -= float(c @ b[present])
        t = max(0.0, float((1 - shares / np.maximum(shares + c, 1e-300)).max()))
        R *= 1 - t
        R[present] -= (1 - t) * c[:, None] * problem.means[r]
        R += t * problem.weights(problem.null_gradient[r])
        if t > 0:
            v = np.maximum((shares - (1 - t) * (shares + c)) / t, 0.0)
            entropy = (1 - t) * entropy - t * float(v @ np.log(np.where(v > 0, v, 1.0)))
    return max(0.0, entropy - penalty.conjugate(R))
