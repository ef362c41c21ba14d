"""How much chance there is in the rows: below it, more accuracy is noise.

If the rows are a draw from many more, the gradient at the optimum of these has the covariance
``G / n``, where G is that of one row's gradient. So the optimum of the rows at hand is above that
of all rows by about ``tr(P G) / (2 n)``, P being the inverse Hessian. Whoever is nearer to the
optimum than a tenth of that has reached what the rows can tell.

Bottou and Bousquet 2007, "The tradeoffs of large scale learning"; for P and G, White 1982, "Maximum
likelihood estimation of misspecified models".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.engine.local_passes import LocalPasses
from csoftmax.solver.problem import Problem

Array = NDArray[Any]

UNITS = 32  # groups of rows, whose gradients tell the covariance: a trace of it to about 2 %


class Units:
    """Groups of some rows that stand for all rows which a row of weights counts.

    Neighbours go into different groups, as rows may be sorted.
    """

    def __init__(self, problem: Problem, r: int, rows: LocalPasses) -> None:
        n = min(UNITS, rows.n_rows)
        self.n_rows, self.total = int(problem.n_counting[r]), float(problem.totals[r])
        self.rows_of_unit = rows.n_rows // max(1, n)
        self.problems = [
            problem.of_rows(rows.take(np.arange(i, n * self.rows_of_unit, n)), r) for i in range(n)
        ]

    def noise(self, x: Array, metric: Callable[[Array], float]) -> float:
        """Return ``tr(P G) / (2 n)`` at x, NaN for one row; `metric` maps g to ``g^T P g``.

        With weights s, ``G / n`` is the covariance of ``sum_i s_i g_i / sum_i s_i``, each row being
        one draw: multiples of the weights make no difference.
        """
        n, sum_of_all, spread = len(self.problems), np.zeros_like(x), 0.0
        if n < 2:
            return math.nan
        for problem in self.problems:
            gradient = np.empty_like(x)
            problem.evaluate([0], [x], [gradient])
            spread += metric(gradient)
            sum_of_all += gradient
        spread -= metric(sum_of_all) / n
        units = self.n_rows / self.rows_of_unit  # that all rows would make
        return float(0.5 * units * max(spread, 0.0) / (n - 1) / self.total**2)
