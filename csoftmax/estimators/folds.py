"""The folds of a cross-validation: their rows, their weights, and what they agree on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import PredefinedSplit, check_cv
from sklearn.utils import _safe_indexing

from csoftmax.estimators.base import warn_caller
from csoftmax.estimators.inputs import Labels

Array = NDArray[Any]
SHOWN = 5  # of a list in a warning


class Fold(NamedTuple):
    """Row numbers of the training and the test part; a row may come twice."""

    train: Labels
    test: Labels


# ---- rows --------------------------------------------------------------------------------------


def folds_of(
    cv: Any, X: Any, y: Labels, classes: Array, sample_weight: Array | None,
    weight: Array | None, for_splitter: Mapping[str, Any],
) -> Iterator[Fold]:  # fmt: skip
    """Yield the folds that `cv` makes of the samples, checked; y numbers the classes.

    Rows of `sample_weight` 0 are not there: scikit-learn's splitters do not see them, and they are
    not tested on. Row numbers that are the user's own are those of X as it is given. `weight` is
    what a fit weighs the rows by, class weights included.
    """
    n_samples, n_folds = len(y), 0
    rows = np.arange(n_samples)
    if isinstance(cv, type):
        raise TypeError(f"cv is the class {cv.__name__}, expected an object, {cv.__name__}()")
    if np.iterable(cv) and not isinstance(cv, str) and not hasattr(cv, "split"):
        pairs = iter(cv)
    else:
        splitter, labels = check_cv(cv, y, classifier=True), classes[y]
        if sample_weight is None or sample_weight.all() or not _only_counts(splitter):
            pairs = splitter.split(X, labels, **for_splitter)
        else:
            rows = np.flatnonzero(sample_weight)
            given = {name: rows_of(value, rows, n_samples) for name, value in for_splitter.items()}
            pairs = splitter.split(rows, labels[rows], **given)
    for i, pair in enumerate(pairs):
        try:
            train, test = pair
        except (TypeError, ValueError):
            raise ValueError(
                f"fold {i} of cv is {pair!r:.60}, expected a pair: training rows and test rows"
            ) from None
        train = _row_numbers(train, rows, f"the training rows of fold {i} of cv")
        test = _row_numbers(test, rows, f"the test rows of fold {i} of cv")
        if sample_weight is not None:
            test = test[sample_weight[test] > 0]
        check_counts(i, weight is None or bool(weight[train].any()), len(test) > 0)
        yield Fold(train, test)
        n_folds += 1
    if not n_folds:
        raise ValueError("cv has no folds, expected at least one (a generator yields them once)")


def check_counts(fold: int, train: bool, test: bool) -> None:
    """Raise ValueError for a fold without a row of weight > 0 in one of its parts."""
    for part, counts in (("training", train), ("test", test)):
        if not counts:
            raise ValueError(
                f"all {part} rows of fold {fold} of cv have weight 0, expected some weight"
            )


def _only_counts(splitter: Any) -> bool:
    """Whether a splitter draws from as many rows as it is given, whichever these are."""
    of_sklearn = type(splitter).__module__.startswith("sklearn.model_selection.")
    return of_sklearn and not isinstance(splitter, PredefinedSplit)


def _row_numbers(given: Any, rows: Labels, name: str) -> Labels:
    """Return what NumPy would take from `rows`: by integers, a mask or a slice."""
    if isinstance(given, slice):
        index: Any = given
    else:
        try:
            index = np.asarray(given)
        except ValueError as error:
            raise ValueError(f"{name} cannot be made an array: {error}") from None
        if index.ndim != 1:
            raise ValueError(f"{name} have shape {index.shape}, expected one dimension")
        if index.dtype == np.bool_:
            if len(index) != len(rows):
                raise ValueError(
                    f"{name} are a mask of {len(index)} entries, expected {len(rows)}, one per row"
                )
        elif index.dtype.kind in "iu":
            bad = (index >= len(rows)) | (index < -len(rows))
            if bad.any():
                at = int(bad.argmax())
                raise ValueError(
                    f"{name} have {index[at]} at {at}, expected row numbers 0..{len(rows) - 1}"
                )
            index = index.astype(np.int64)
        elif index.size:
            raise TypeError(f"{name} have dtype {index.dtype}, expected integers or a mask of bool")
        else:
            index = index.astype(np.int64)
    taken: Labels = rows[index]
    if not len(taken):
        raise ValueError(f"{name} are none, expected at least one")
    return taken


def rows_of(value: Any, rows: Labels, n_samples: int) -> Any:
    """Return these rows of what has one entry per sample; anything else as it is."""
    shape = getattr(value, "shape", None)
    if shape is None and isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        shape = (len(value),)
    return _safe_indexing(value, rows) if shape and shape[0] == n_samples else value


# ---- weights -----------------------------------------------------------------------------------


def weights_of_folds(folds: Sequence[Fold], weight: Array | None, n_samples: int) -> Array:
    """Return the weights of the rows for each fold, (n_folds, n_samples).

    They are 0 outside the training part, and several times the weight where a splitter repeats a
    row.
    """
    weights: Array = np.empty((len(folds), n_samples))
    for row, fold in zip(weights, folds, strict=True):
        row[:] = np.bincount(fold.train, minlength=n_samples)
    if weight is not None:
        weights *= weight
    return weights


def classes_of_folds(
    mass_of_folds: Array, mass: Array, classes: Array, refit: bool
) -> NDArray[np.bool_]:
    """Return which classes each fold trains on, (n_folds, n_classes), and warn of the others.

    The masses are the weights of the classes, in each fold and in all rows.
    """
    present: NDArray[np.bool_] = mass_of_folds > 0
    missing = np.argwhere(~present & (mass > 0))
    if len(missing):
        names = classes.tolist()
        lacking = [f"{names[k]!r} in fold {i}" for i, k in missing.tolist()]
        text = "cv leaves classes without a training row of weight > 0, which are never predicted "
        text += f"there: {_shown(lacking)}"
        if not refit:
            text += "; parameters are averages over the folds that have the class"
        warn_caller(text, UserWarning)
    return present


def mean_parameters(W: Array, b: Array, present: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Return the averages of W (n_folds, n_classes, n_features) and b over the folds.

    A softmax only knows the differences between classes, and only those of classes that are there.
    So the averages are the parameters whose differences fit those of the folds best (least
    squares); that is the plain mean where all folds have all classes.
    """
    means = W.mean(axis=0), b.mean(axis=0)
    if present.all():
        return means
    counted = present.astype(np.float64)
    share = counted / counted.sum(axis=1, keepdims=True)
    theta = np.concatenate([W, b[..., None]], axis=-1).astype(np.float64)
    theta = np.where(present[..., None], theta, 0.0)
    theta -= counted[..., None] * np.einsum("ik,ikj->ij", share, theta)[:, None]
    normal_matrix = np.diag(counted.sum(axis=0)) - counted.T @ share
    fitted = np.linalg.lstsq(normal_matrix, theta.sum(axis=0), rcond=None)[0]
    nowhere = ~present.any(axis=0)
    for values, mean in zip((fitted[:, :-1], fitted[:, -1]), means, strict=True):
        mean[~nowhere] = values[~nowhere]
    return means


# ---- scores ------------------------------------------------------------------------------------


def best_for_all(scores: Array, name: str) -> int:
    """Return the first C of the highest mean score; NaN ranks last."""
    means = scores[_telling(scores, name)].mean(axis=0)
    if np.isnan(means).all():
        raise ValueError(f"scoring {name} is NaN in some fold for each C, expected a number")
    return _first_best(means)


def best_for_each(scores: Array, name: str) -> tuple[Labels, Labels]:
    """Return the folds that can tell, and the first C of the highest score in each."""
    folds = _telling(scores, name)
    return folds, np.array([_first_best(of_fold) for of_fold in scores[folds]])


def _telling(scores: Array, name: str) -> Labels:
    """Return the folds that have a score, and warn of those that have none."""
    silent = np.isnan(scores).all(axis=1)
    if silent.all():
        raise ValueError(f"scoring {name} is NaN for every C in every fold, expected a number")
    if silent.any():
        warn_caller(
            f"scoring {name} is NaN for every C in fold {_shown(np.flatnonzero(silent).tolist())} "
            "of cv, which has no say in the choice of C",
            UserWarning,
        )
    return np.flatnonzero(~silent)


def _first_best(scores: Array) -> int:
    known = np.flatnonzero(~np.isnan(scores))
    return int(known[scores[known].argmax()])


def _shown(values: Sequence[Any]) -> str:
    more = f" and {len(values) - SHOWN} more" if len(values) > SHOWN else ""
    return ", ".join(map(str, values[:SHOWN])) + more
