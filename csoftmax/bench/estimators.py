"""scikit-learn and its Intel extension: full-data L-BFGS, per evaluation of loss and gradient."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np

from csoftmax import reference
from csoftmax.bench.measure import Side, WrongResultError
from csoftmax.bench.peers import NumPy, Task

# Enough that the fit's set-up hardly shows in the time of one iteration.
ITERATIONS = 10


class ScikitLearn:
    """``LogisticRegression(solver="lbfgs")``, and the loss that it minimises on its own."""

    name = "scikit-learn"
    module = "sklearn.linear_model"

    def __init__(self) -> None:
        self.estimator: Any = import_module(self.module).LogisticRegression
        # NumPy's controller sees the BLAS and OpenMP libraries that are loaded by now.
        self._pools, self.n_threads = NumPy(), 1

    @contextlib.contextmanager
    def pinned(self, n: int) -> Iterator[None]:
        self.n_threads = n
        with self._pools.pinned(n):
            yield

    def loss_and_gradient_by_fit(self, p: Task) -> Side:
        """One iteration of L-BFGS: the time of a fit divided by its number of iterations."""

        def run() -> Any:
            with warnings.catch_warnings():  # that it has not converged is the point
                warnings.simplefilter("ignore")
                return self._estimator().fit(p.matrix, p.y)

        def verify(fitted: Any) -> None:
            done = int(np.max(fitted.n_iter_))
            loss = reference.linear_cross_entropy(
                p.matrix, fitted.coef_.T.astype(np.float32), fitted.intercept_, p.y
            )
            start = reference.linear_cross_entropy(p.matrix, 0 * p.W, 0 * p.b, p.y)
            if done != ITERATIONS or not float(loss) < 0.9 * float(start):
                raise WrongResultError(
                    f"{self.name}: loss {loss} after {done} iterations, expected below "
                    f"{0.9 * float(start)} after {ITERATIONS}"
                )

        name = f"{self.name}, L-BFGS iteration"
        return Side(name, run, self.pinned, units=ITERATIONS, verify=verify)

    def _estimator(self) -> Any:
        return self.estimator(max_iter=ITERATIONS, tol=1e-12)

    def loss_and_gradient(self, p: Task) -> Side:
        """Its bare loss and gradient, without the penalty."""
        losses: Any = import_module("sklearn._loss")
        linear_loss: Any = import_module("sklearn.linear_model._linear_loss")
        loss = linear_loss.LinearModelLoss(
            base_loss=losses.HalfMultinomialLoss(n_classes=len(p.b)), fit_intercept=True
        )
        coefficients = np.asfortranarray(np.vstack([p.W, p.b]).T)
        X, y = p.matrix, p.y.astype(np.float32)

        def run() -> tuple[float, Any]:
            value, gradient = loss.loss_gradient(coefficients, X, y, n_threads=self.n_threads)
            return value, gradient[:, :-1].T

        return Side(self.name, run, self.pinned)


class IntelExtension(ScikitLearn):
    """The accelerated ``LogisticRegression``; its threads are oneDAL's own."""

    name = "scikit-learn-intelex"
    module = "sklearnex.linear_model"

    def __init__(self) -> None:
        super().__init__()
        logging.getLogger("sklearnex").setLevel(logging.WARNING)

    def _estimator(self) -> Any:
        return self.estimator(max_iter=ITERATIONS, tol=1e-12, n_jobs=self.n_threads)

    loss_and_gradient = None  # type: ignore[assignment]
