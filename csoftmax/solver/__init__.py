"""Softmax regression to its optimum: `minimize`, with a proof of how far it may still be."""

from csoftmax.solver.minimize import ConvergenceWarning, Progress, Solution, minimize

__all__ = ["ConvergenceWarning", "Progress", "Solution", "minimize"]
