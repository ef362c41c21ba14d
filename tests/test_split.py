"""Rows that are held out: the draws keep their rows, and agree with their documentation."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from csoftmax.data import Dataset, split_dataset
from csoftmax.data.split import held_out_rows, stratified_rows

Y = np.repeat([2, 0, 1], [30, 20, 10])
HELD_BY_SEED = {0: [4, 12, 21, 35, 45, 55], 5: [12, 14, 28, 33, 47, 51]}


def test_a_seed_keeps_its_rows() -> None:
    """Rows written down once: a file that was split by a seed is split alike by later versions."""
    assert np.flatnonzero(held_out_rows(Y, 0.1, 0)).tolist() == HELD_BY_SEED[0]
    assert np.flatnonzero(held_out_rows(Y, 0.1, 5)).tolist() == HELD_BY_SEED[5]


def test_split_dataset_takes_these_rows() -> None:
    rows = np.arange(len(Y))
    train, test = split_dataset(Dataset(rows[:, None], Y), 0.3, 7)
    held = held_out_rows(Y, 0.3, 7)
    np.testing.assert_array_equal(test.X[:, 0], rows[held])
    np.testing.assert_array_equal(train.X[:, 0], rows[~held])


def test_labels_beyond_16_bits_are_split_alike() -> None:
    far = np.array([70_000, 70_001, 70_002])[Y]
    np.testing.assert_array_equal(held_out_rows(far, 0.3, 1), held_out_rows(Y, 0.3, 1))


def test_too_few_rows_are_called_by_the_name_of_the_data() -> None:
    with pytest.raises(ValueError, match="pets: 2 samples of 2 classes are too few for a test"):
        held_out_rows(np.array([0, 1]), 0.5, 0, "pets")


@pytest.mark.parametrize("labels", [Y, None])
def test_an_estimator_holds_out_what_scikit_learn_would(labels: object) -> None:
    rows = np.arange(len(Y)) * 2
    train, held = stratified_rows(rows, labels, 0.25, 3)  # type: ignore[arg-type]
    expected = train_test_split(rows, test_size=0.25, stratify=labels, random_state=3)
    for found, drawn in zip((train, held), expected, strict=True):
        assert found.tolist() == sorted(drawn.tolist())
