"""Fits over a mapped file: what they take does not grow with the file, and the same bits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from csoftmax.bench.memory import anonymous_peak
from csoftmax.engine.local_passes import LocalPasses
from csoftmax.engine.targets import drawn
from csoftmax.estimators import SoftmaxClassifier

N_FEATURES = 784


def write(path: Path, n: int) -> None:
    rng = np.random.default_rng(0)
    some = rng.normal(size=(5000, N_FEATURES)).astype(np.float16)
    X = np.lib.format.open_memmap(path, "w+", np.float16, (n, N_FEATURES))
    for start in range(0, n, len(some)):
        X[start : start + len(some)] = some[: n - start]


def fit_and_tell(path: str) -> None:
    """Print by how much the anonymous memory grows at most while a file is fitted."""
    X = np.load(path, mmap_mode="r")
    y = (X[:, 0] > 0).astype(np.uint8) + (X[:, 1] > 0.5)
    classifier = SoftmaxClassifier(C=1e-3, max_iter=3, tol=1.0, n_threads=2)
    print(anonymous_peak(lambda: classifier.fit(X, y)))


@pytest.mark.slow  # a file of 94 MB and one of 314 MB
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no /proc")
def test_a_fit_of_a_mapped_file_takes_as_much_for_any_number_of_rows(tmp_path: Path) -> None:
    taken = []
    for n in (60_000, 200_000):
        path = tmp_path / "X.npy"
        write(path, n)
        told = subprocess.run(
            [sys.executable, __file__, str(path)], capture_output=True, text=True, check=True
        ).stdout
        taken.append(int(told))
    assert taken[1] < 100e6  # the finite check of scikit-learn alone would take 157 MB
    assert taken[1] - taken[0] < 60 * 140_000  # not more than numbers of the rows


def test_a_mapped_file_has_the_bits_of_an_array(tmp_path: Path) -> None:
    path = tmp_path / "X.npy"
    write(path, 20_000)
    X: Any = np.load(path, mmap_mode="r")[:, :20]
    y = (X[:, 0] > 0).astype(int)
    coef = [SoftmaxClassifier(max_iter=3, tol=1.0).fit(A, y).coef_ for A in (X, np.array(X))]
    assert_array_equal(*coef)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_a_bad_value_of_a_mapped_file_is_told(tmp_path: Path, fit_intercept: bool) -> None:
    path = tmp_path / "X.npy"
    write(path, 3000)
    X = np.load(path, mmap_mode="r+")
    X[2345, 6] = np.inf
    y = np.arange(3000) % 3
    classifier = SoftmaxClassifier(fit_intercept=fit_intercept)
    with pytest.raises(ValueError, match=r"X\[2345, 6\] is inf, expected finite numbers"):
        classifier.fit(X, y)
    with pytest.raises(ValueError, match="Input X contains infinity"):
        SoftmaxClassifier(solver="sgd", max_iter=1).fit(X, y)


def test_a_digest_of_a_mapped_file_is_of_the_file(tmp_path: Path) -> None:
    path, y = tmp_path / "X.npy", np.zeros(3000, int)
    write(path, 3000)

    def of(X: Any) -> bytes:
        return LocalPasses(X, y, 2).fingerprint()

    first = of(np.load(path, mmap_mode="r"))
    assert of(np.load(path, mmap_mode="r")) == first
    assert of(np.load(path, mmap_mode="r")[:, 1:]) != first
    assert of(np.load(path, mmap_mode="r")[::-1]) != first
    os.utime(path, ns=(1, 1))
    assert of(np.load(path, mmap_mode="r")) != first
    X = np.load(path, mmap_mode="r+")
    path.unlink()  # what is mapped without a file is read whole
    before = of(X)
    X[1, 1] += 1
    assert of(X) != before


@pytest.mark.parametrize("n", [50, 400, 1000, 5000])
@pytest.mark.parametrize("weighted", [False, True])
def test_rows_are_drawn_without_numbering_them_all(
    n: int, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from csoftmax.engine import row_weights

    monkeypatch.setattr(row_weights, "BLOCK_ROWS", 64)
    weight = np.random.default_rng(1).integers(0, 2, 1000) / 2 if weighted else None
    counting = np.arange(1000) if weight is None else np.flatnonzero(weight)
    rows = np.arange(1000)[drawn(1000, weight, n, 3)]
    if n < len(counting):
        expected = np.sort(np.random.default_rng(3).choice(counting, n, replace=False))
        assert_array_equal(rows, expected)
    else:
        assert_array_equal(rows, counting)


if __name__ == "__main__":
    fit_and_tell(sys.argv[1])
