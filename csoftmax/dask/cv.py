"""The choice of C by cross-validation, where the rows are on a cluster."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import numpy as np

from csoftmax import estimators
from csoftmax.dask.data import client_of, column_of, on_cluster
from csoftmax.dask.predictions import OnCluster, signature_of
from csoftmax.data.shards import Shards
from csoftmax.engine.dask import pinned
from csoftmax.estimators.base import unchanged_by_failure
from csoftmax.estimators.inputs import is_dask

Self = TypeVar("Self", bound="SoftmaxClassifierCV")


class SoftmaxClassifierCV(OnCluster, estimators.SoftmaxClassifierCV):
    """`csoftmax.SoftmaxClassifierCV` for rows that are on a Dask cluster.

    The same folds, scores, choice and bits as `csoftmax.SoftmaxClassifierCV` has for the same rows
    in one array. All folds and all C share the passes of the cluster, and the accuracies of all
    fits are one more. A scorer is asked here: what a fit says of the rows that a fold tests comes
    to this machine, fit after fit.

    Parameters
    ----------
    Cs, l1_ratios, cv, scoring, refit, tol, max_iter, class_weight, max_memory, and others
        As in `csoftmax.SoftmaxClassifierCV`.
    client : distributed.Client, optional
        None: the current client.

    Notes
    -----
    Labels and what tells the folds (a byte a row each) and weights (8 bytes a row) pass through the
    client.

    Examples
    --------
    >>> import csoftmax.dask
    >>> csoftmax.dask.SoftmaxClassifierCV(Cs=3).get_params()["client"] is None
    True
    """

    _twin = estimators.SoftmaxClassifierCV

    def __init__(self, *, client: Any = None, **parameters: Any) -> None:
        super().__init__(**parameters)
        self.client = client

    def fit(self: Self, X: Any, y: Any = None, sample_weight: Any = None, **params: Any) -> Self:
        """Choose C, and fit to rows X and labels y.

        Parameters
        ----------
        X : dask array (n_rows, n_features), dask dataframe, or `csoftmax.data.Shards`
        y : dask array or series, or array_like, (n_rows,), optional
            Shards have their own labels, and weights.
        sample_weight : dask array or series, or array_like, (n_rows,), optional
        **params
            For the splitter and the scorer, where metadata routing is enabled.

        Returns
        -------
        self

        Raises
        ------
        ConnectionError
            If the scheduler is gone.
        ImportError
            Without the packages dask and distributed.
        TypeError, ValueError
            As `csoftmax.SoftmaxClassifierCV.fit`.
        """
        client = client_of(self.client)
        with unchanged_by_failure(self), pinned(client), client.as_current():
            data = on_cluster(client, X, y, sample_weight)
            known = {n: v.compute() if is_dask(v) else v for n, v in params.items()}
            return self._fit(data, None, None, known)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None, **score_params: Any) -> float:
        """Return what `scoring` says of the predictions for X: see the class of this machine.

        Workers make the predictions for Dask collections, and find the accuracy on shards.
        """
        if isinstance(X, Shards) and not X.is_sparse and self.scoring is None:
            return self._score_of_shards(X, y, sample_weight)
        if not is_dask(X):
            return super().score(X, y, sample_weight, **score_params)
        local = self.to_local()
        for name in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
            setattr(local, name, _computed(getattr(self, name)))
        with client_of(self.client).as_current():
            if sample_weight is not None:
                sample_weight = column_of(sample_weight, "sample_weight")
            score: float = local.score(X, column_of(y, "y"), sample_weight, **score_params)
        return score


SoftmaxClassifierCV.__init__.__signature__ = signature_of(  # type: ignore[attr-defined]
    SoftmaxClassifierCV.__init__, estimators.SoftmaxClassifierCV
)


def _computed(method: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a method whose lazy predictions come here: scikit-learn knows it by its name."""

    @wraps(method)
    def predicted(X: Any) -> Any:
        return np.asarray(method(X).compute())

    return predicted
