"""Which rows are held out: of a data set for its test part, of a fit for early stopping."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from csoftmax.data.dataset import Dataset
from csoftmax.rows.base import take

Labels = NDArray[np.int64]


def split_dataset(
    dataset: Dataset, test_fraction: float = 0.2, seed: int | None = 0
) -> tuple[Dataset, Dataset]:
    """Split a data set at random into train and test, each class in the same proportion.

    Both parts are copies in the stored dtype (uint8 stays uint8) and keep the samples' order.
    Every class keeps at least one sample in the train part.

    Parameters
    ----------
    dataset : Dataset
    test_fraction : float
        Between 0 and 1, both excluded: the share of the samples that goes to the test part.
    seed : int or None
        The same seed gives the same split; None another one each time.

    Returns
    -------
    train, test : Dataset

    Raises
    ------
    ValueError
        For a test_fraction outside its range, or too few samples for both parts.

    Examples
    --------
    >>> from csoftmax.data import fashion_mnist_sample, split_dataset
    >>> train, test = split_dataset(fashion_mnist_sample()[0], 0.25)
    >>> len(train), len(test)
    (4500, 1500)
    """
    in_test = held_out_rows(dataset.y, test_fraction, seed, dataset.name or "the data")
    return _subset(dataset, ~in_test, "train"), _subset(dataset, in_test, "test")


def held_out_rows(
    y: Labels, test_fraction: float, seed: int | None, name: str = "the data"
) -> NDArray[np.bool_]:
    """Return which rows `split_dataset` gives to the test part; messages call the data `name`."""
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction must be between 0 and 1, got {test_fraction}")
    n = len(y)
    order = np.random.default_rng(seed).permutation(n)
    # a stable sort of 16-bit keys is a radix sort: linear, whatever the number of samples
    keys = y[order].astype(np.uint16) if y.max(initial=0) < 2**16 else y[order]
    by_class = order[np.argsort(keys, kind="stable")]
    # every (1 / test_fraction)-th sample of the classes laid end to end: exact in total,
    # and within one sample of exact in each class
    steps = np.floor(np.arange(n + 1) * test_fraction + 0.5)
    in_test = np.zeros(n, np.bool_)
    in_test[by_class[np.diff(steps) > 0]] = True
    present, first = np.unique(y, return_index=True)
    lost = np.isin(present, y[~in_test], invert=True)
    in_test[first[lost]] = False
    if not in_test.any():
        raise ValueError(
            f"{name}: {n} samples of {len(present)} classes are too few for a test part of "
            f"{test_fraction:g}"
        )
    return in_test


def stratified_rows(
    rows: Labels, labels: Labels | None, fraction: float, seed: int
) -> tuple[Labels, Labels]:
    """Return (training rows, held-out rows) for an estimator, both sorted.

    These are the rows that scikit-learn's ``train_test_split`` draws for the seed: whoever splits
    by it and passes ``validation=`` gets the same fit. Without labels the classes may come in any
    proportion.
    """
    from sklearn.model_selection import train_test_split  # only the estimators need scikit-learn

    train, held = train_test_split(rows, test_size=fraction, stratify=labels, random_state=seed)
    return np.sort(train), np.sort(held)


def _subset(dataset: Dataset, chosen: NDArray[np.bool_], part: str) -> Dataset:
    index = np.flatnonzero(chosen)
    name = f"{dataset.name} {part}".strip()
    return replace(dataset, X=take(dataset.X, index), y=dataset.y[index], name=name)
