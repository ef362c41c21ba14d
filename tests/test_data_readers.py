"""The front door walks `READERS`: a new format is its reader and one entry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from csoftmax.data import DataError, Dataset, read, read_features, read_parts
from csoftmax.data.labels import make_dataset
from csoftmax.data.readers import front
from csoftmax.data.readers.reader import ClassNames, Reader, Samples
from csoftmax.data.readers.table.options import TableOptions


def samples(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A format of the test's own: pairs of a feature and a label, one a line."""
    pairs = np.loadtxt(path, ndmin=2)
    return pairs[:, :1], pairs[:, 1].astype(int)


def parts_of(
    path: Path, options: TableOptions, class_names: ClassNames
) -> tuple[Dataset, Dataset | None]:
    X, y = samples(path)
    return make_dataset(str(path), X, y, class_names=class_names, checked=True), None


def samples_of(
    path: Path, options: TableOptions, n_features: int | None, class_names: ClassNames
) -> Samples:
    return samples(path)[0], None


PLAIN = Reader(".pairs", lambda path: path.suffix == ".pairs", parts_of, samples_of)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "data.pairs"
    path.write_text("1.5 0\nnan 1\n3.5 0\n4.5 1\n5.5 0\n6.5 1\n")
    return path


def test_another_format_is_read_like_the_others(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"data\.pairs: expected \.csv.*\.npz, .*an IDX file or"):
        read(path)
    monkeypatch.setattr(front, "READERS", (PLAIN, *front.READERS))
    train, test = read(path, test_fraction=0.4)
    assert sorted([*train.y.tolist(), *test.y.tolist()]) == [0, 0, 0, 1, 1, 1]
    whole, own_test = read_parts(path, class_names=["5", "0", "1"])
    assert (whole.y.tolist(), own_test) == ([1, 2, 1, 2, 1, 2], None)
    with pytest.raises(DataError, match=r"expected finite numbers, got nan at \[1, 0\]"):
        read_features(path)
    with pytest.raises(ValueError, match="missing is for tables"):
        read(path, missing="drop")
    assert not front.is_table(path)
    with pytest.raises(DataError, match=r"expected \.pairs, \.csv"):
        read(path.rename(path.with_suffix(".unknown")))


def test_another_kind_of_table_gets_its_means_and_options(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = PLAIN._replace(has_names=lambda path, options: options.header is True)
    monkeypatch.setattr(front, "READERS", (table, *front.READERS))
    whole, _ = read_parts(path, missing="mean")
    assert whole.X[:, 0].tolist() == [1.5, 21.5 / 5, 3.5, 4.5, 5.5, 6.5]
    assert front.is_table(path)
    assert front.has_names(path, TableOptions(header=True))
    assert not front.has_names(path, TableOptions())
