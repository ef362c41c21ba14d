"""The classifier whose rows are on a cluster."""

from __future__ import annotations

import os
import sys
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from csoftmax import estimators
from csoftmax.dask.data import client_of, column_of, on_cluster, validation_on_cluster
from csoftmax.dask.predictions import OnCluster, signature_of
from csoftmax.data.shards import Shards
from csoftmax.engine.dask import pinned
from csoftmax.estimators.base import unchanged_by_failure
from csoftmax.estimators.full_shards import fit_shards_by_passes
from csoftmax.estimators.inputs import is_dask

Array = NDArray[Any]
Self = TypeVar("Self", bound="SoftmaxClassifier")
# Passes that take longer than this are saved one by one; a save of 10 x 784 takes 1 ms.
CHECKPOINT_SECONDS = 1.0


class SoftmaxClassifier(OnCluster, estimators.SoftmaxClassifier):
    """`csoftmax.SoftmaxClassifier` for rows that are on a Dask cluster.

    The same objective, parameters and attributes, and the same bits as `csoftmax.SoftmaxClassifier`
    has for the same rows in one array in memory, whatever the chunks and the workers, and whichever
    of them die. Shards have the bits that they have on one machine, where large ones are fitted by
    way of a sample, in few passes. Those whose lengths are no multiples of 8,192 are rounded in
    other places than one array.

    Parameters
    ----------
    C, tol, fit_intercept, class_weight, max_iter, warm_start, max_memory, verbose
        As in `csoftmax.SoftmaxClassifier`. Minibatches do not run on a cluster.
    client : distributed.Client, optional
        None: the current client.
    checkpoint : path, optional
        A file that the state is saved to, at most once a second. If it exists, `fit` goes on from
        there: also on another cluster, to the same bits.

    Notes
    -----
    Files of labels are read by the workers. Weights (8 bytes a row) pass through the client, and so
    do labels (a byte a row, for up to 256 classes) that are in memory, or in a Dask collection, or
    come with weights of rows or classes.

    A sample of the rows comes here: up to 64 MB that precondition. Of shards of 1 GB or more it is
    up to 512 MB, which are sent once and make 3 to 6 passes of 10 to 50. (Of 784 pixels in 10
    classes it has 685,000 rows, where there are eight times as many.)

    A pass is a few tasks for each thread of the cluster, more where it takes long. The bits depend
    on the instruction set: the best one that all workers have is used.

    Examples
    --------
    >>> import csoftmax.dask
    >>> csoftmax.dask.SoftmaxClassifier(C=0.1).get_params()["checkpoint"] is None
    True
    """

    _twin = estimators.SoftmaxClassifier

    def __init__(
        self,
        *,
        client: Any = None,
        checkpoint: str | os.PathLike[str] | None = None,
        **parameters: Any,
    ) -> None:
        super().__init__(**parameters)
        self.client = client
        self.checkpoint = checkpoint

    def fit(
        self: Self, X: Any, y: Any = None, sample_weight: Any = None, *, validation: Any = None
    ) -> Self:
        """Fit to rows X and labels y.

        Parameters
        ----------
        X : dask array (n_rows, n_features), dask dataframe, or `csoftmax.data.Shards`
            Rows are cut as one likes, features are not. Unknown lengths are counted.
        y : dask array or series, or array_like, (n_rows,), optional
            Shards have their own labels, and weights.
        sample_weight : dask array or series, or array_like, (n_rows,), optional
        validation : (X, y), (X, y, sample_weight) or `csoftmax.data.Shards`, optional
            Evaluated after each pass: on the workers, unless X is in memory here.

        Returns
        -------
        self

        Raises
        ------
        ConnectionError
            If the scheduler is gone. `checkpoint` goes on from where it was.
        ImportError
            Without the packages dask and distributed.
        TypeError, ValueError
            For parameters and data that do not fit.

        Warns
        -----
        ConvergenceWarning
            If it stopped before `tol`; after Ctrl-C too, which keeps the best parameters so far.
        """
        client = client_of(self.client)
        with unchanged_by_failure(self):
            self._check_parameters()
            if self.solver == "sgd":
                raise ValueError('solver is "sgd", which does not run on a cluster: solver="auto" '
                                 "makes full passes there, and csoftmax.SoftmaxClassifier "
                                 "minibatches of shards on one machine")  # fmt: skip
            with pinned(client) as isa, client.as_current():
                here = self.class_weight is not None  # which makes weights of labels
                data = on_cluster(client, X, y, sample_weight, labels_here=here)
                if self.verbose:
                    n = len(client.nthreads())
                    print(f"{n} workers, instruction set {isa}, {len(data.rows.units)} units of "
                          f"{data.rows.chunks_at_once} chunks", file=sys.stderr)  # fmt: skip
                shards: Any = data
                fit_shards_by_passes(
                    self, shards, None, None, validation_on_cluster(client, validation, here),
                    checkpoint=self.checkpoint,
                    checkpoint_every=CHECKPOINT_SECONDS,
                )  # fmt: skip
        return self

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the accuracy of `predict`, weighted by the rows' weights.

        What is in memory here is scored here, Dask collections and shards on the workers.
        """
        if isinstance(X, Shards) and not X.is_sparse:
            return self._score_of_shards(X, y, sample_weight)
        if not is_dask(X):
            return super().score(X, y, sample_weight)
        client = client_of(self.client)
        with client.as_current():
            right = np.asarray(self.predict(X).compute() == column_of(y, "y"))
            weight = None if sample_weight is None else column_of(sample_weight, "sample_weight")
        return float(np.average(right, weights=weight))


SoftmaxClassifier.__init__.__signature__ = signature_of(  # type: ignore[attr-defined]
    SoftmaxClassifier.__init__, estimators.SoftmaxClassifier
)
