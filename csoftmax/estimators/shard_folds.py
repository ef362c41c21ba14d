"""Folds of rows in shards: a byte or so for each row tells in which part of which fold it is."""

from __future__ import annotations

import heapq
import numbers
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold

from csoftmax.core.checks import check_positive
from csoftmax.data.shards import Shards
from csoftmax.estimators.folds import Fold
from csoftmax.rows.base import blocks

Array = NDArray[Any]
Float64 = NDArray[np.float64]
BLOCK_ROWS = 1 << 18  # labels that are sorted at a time


class ShardKFold:
    """A splitter that holds whole shards out: for ``SoftmaxClassifierCV(cv=ShardKFold(5))``.

    It is the right tool where rows of a shard are alike: of one day, one customer, one recording.
    If some of these are trained on and others tested, scores promise more than new shards will
    keep, and choose too large a C. It is the wrong tool where shards are sorted by class: a fold
    would have no row of a class. Where rows have been shuffled before they were written, it makes
    no difference.

    Shards go to the fold that has the fewest rows so far, the largest shard first. So folds are
    about as large, where no shard is larger than a fold. They have no regard to the classes.

    Parameters
    ----------
    n_splits : int
        At least 2; at most as many as there are shards with rows.

    Examples
    --------
    >>> import numpy as np
    >>> import csoftmax as cs
    >>> parts = [(n, lambda start, stop: (np.ones((stop - start, 2)), np.arange(start, stop) % 2))
    ...          for n in (6, 2, 4)]
    >>> [test.tolist() for train, test in cs.ShardKFold(2).split(cs.shards(parts))]
    [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
    """

    def __init__(self, n_splits: int = 5) -> None:
        if check_positive(n_splits, "n_splits") < 2:
            raise ValueError(f"n_splits is {n_splits}, expected at least 2")
        self.n_splits = n_splits

    def __repr__(self) -> str:
        return f"ShardKFold({self.n_splits})"

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of folds."""
        return self.n_splits

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[Array, Array]]:
        """Yield the numbers of the training rows and of the test rows of each fold.

        Parameters
        ----------
        X : csoftmax.data.Shards
        y, groups
            Without effect.
        """
        if not isinstance(X, Shards):
            raise TypeError(f"X is a {type(X).__name__}, expected shards, of which {self} holds "
                            "some out")  # fmt: skip
        lengths = [shard.n_rows for shard in X.rows.shards]
        fold = np.repeat(self.of_shards(lengths), lengths)
        for i in range(self.n_splits):
            yield np.flatnonzero(fold != i), np.flatnonzero(fold == i)

    def of_shards(self, lengths: Sequence[int]) -> NDArray[np.int64]:
        """Return in which fold each shard is held out, by their numbers of rows."""
        n_full = np.count_nonzero(lengths)
        if n_full < self.n_splits:
            raise ValueError(f"n_splits is {self.n_splits}, expected at most the number of shards "
                             f"that have rows, {n_full}")  # fmt: skip
        folds, fold_of = [(0, i) for i in range(self.n_splits)], np.zeros(len(lengths), np.int64)
        for s in sorted(range(len(lengths)), key=lambda s: -lengths[s]):
            n_rows, fold_of[s] = heapq.heappop(folds)
            heapq.heappush(folds, (n_rows + lengths[s], int(fold_of[s])))
        return fold_of


class RowFolds(NamedTuple):
    """What each row is in each fold, by a small code of the row."""

    code: Array  # (n_rows,)
    train: Float64  # (n_folds, n_codes): how often a row of that code is trained on
    test: Float64

    @classmethod
    def of_parts(cls, part: Array, n_folds: int) -> RowFolds:
        """Return folds that test each row once: row i in fold ``part[i] - 1``; 0 is nowhere."""
        test = np.eye(n_folds, n_folds + 1, 1)
        train = 1.0 - test
        train[:, 0] = 0.0
        return cls(part, train, test)

    @classmethod
    def of_numbers(cls, folds: Iterable[Fold], n_rows: int) -> RowFolds:
        """Return folds of any kind: rows may overlap and come several times."""
        code: Array = np.zeros(n_rows, np.uint8)
        times = np.zeros((2, 0, 1))
        for fold in folds:
            n_train, n_test = (np.bincount(rows, minlength=n_rows) for rows in fold)
            most = int(n_test.max()) + 1
            of_fold = (int(n_train.max()) + 1) * most
            joint = code.astype(np.int64)
            joint *= of_fold
            joint += n_train * most + n_test
            del n_train, n_test
            occurs = np.flatnonzero(np.bincount(joint))
            small = np.zeros(int(occurs[-1]) + 1, np.min_scalar_type(len(occurs) - 1))
            small[occurs] = np.arange(len(occurs))
            code = small[joint]
            before, now = np.divmod(occurs, of_fold)
            of_codes = np.array(np.divmod(now, most))[:, None]
            times = np.concatenate([times[:, :, before], of_codes], axis=1)
        return cls(code, times[0], times[1])


def stratified(y: Array, n_splits: int, weight: Array | None, n_classes: int) -> Array:
    """Return 1 and the fold of each row that scikit-learn's StratifiedKFold tests it in.

    Rows of weight 0 are not there: 0. Nothing takes 8 bytes a row, as the folds themselves would.
    The rows in the order of their classes, which are in that of their first rows, are dealt to the
    folds in turn: so each fold gets a number of rows of a class, and it gets the first ones left.
    """
    counts, firsts = np.zeros(n_classes, np.int64), np.full(n_classes, len(y))
    for some, labels, rows in _counting(y, weight):
        counts += np.bincount(labels, minlength=n_classes)
        found, at = np.unique(labels, return_index=True)
        firsts[found] = np.minimum(firsts[found], some.start + rows[at])
    few = np.repeat(np.arange(n_classes), np.minimum(counts, n_splits))
    next(StratifiedKFold(n_splits).split(few, few))  # warns and refuses as it does for all rows
    order = np.argsort(firsts, kind="stable")
    ends = np.empty(n_classes, np.int64)
    ends[order] = np.cumsum(counts[order])
    turns = np.arange(n_splits)[:, None]
    dealt = (ends - turns + n_splits - 1) // n_splits
    dealt -= (ends - counts - turns + n_splits - 1) // n_splits
    limits = dealt.cumsum(axis=0)  # of the ranks in a class, by fold
    part: Array = np.zeros(len(y), np.min_scalar_type(n_splits))
    seen = np.zeros(n_classes, np.int64)
    for some, labels, rows in _counting(y, weight):
        by_class = np.argsort(labels, kind="stable")
        here = np.bincount(labels, minlength=n_classes)
        ranks = np.empty(len(labels), np.int64)
        ranks[by_class] = np.arange(len(labels)) - np.repeat(here.cumsum() - here - seen, here)
        fold = np.ones(len(labels), part.dtype)
        for limit in limits[:-1]:
            fold += ranks >= limit[labels]
        part[some.start + rows] = fold
        seen += here
    return part


def _counting(y: Array, weight: Array | None) -> Iterator[tuple[slice, Array, Array]]:
    """Yield blocks of rows, the labels of those that count, and their places in the block."""
    for some in blocks(len(y), BLOCK_ROWS):
        labels = y[some]
        rows = np.arange(len(labels)) if weight is None else np.flatnonzero(weight[some])
        yield some, labels[rows], rows


def is_number(cv: Any) -> bool:
    """Say whether `cv` is a number of folds, 5 if it is None."""
    return cv is None or (isinstance(cv, numbers.Integral) and not isinstance(cv, bool))
