"""Softmax regression to its optimum: `minimize`, with a proof of how far it may still be."""

from csoftmax.solver.minimize import minimize
from csoftmax.solver.solution import ConvergenceWarning, Progress, Solution

__all__ = ["ConvergenceWarning", "Progress", "Solution", "minimize"]
