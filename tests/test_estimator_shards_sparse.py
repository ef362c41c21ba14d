"""Fits of sparse shards by full passes: as those of the same rows in one sparse matrix."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from test_cli_shards import run

import csoftmax as cs
from csoftmax.bench.memory import anonymous_peak
from csoftmax.core.errors import DataError
from csoftmax.engine.units import CHUNK_ROWS
from csoftmax.estimators import MemoryBudgetError
from csoftmax.solver import minimize

Array = Any
LENGTHS = (700, 0, 500, 300)
NAMES = np.array(["ant", "bee", "cow"])


def table(dtype: Any = np.float32) -> tuple[Any, Array]:
    """Return rows of a few entries, as scipy has them, and the number of their classes."""
    rng = np.random.default_rng(0)
    n, f = sum(LENGTHS), 200
    k = rng.integers(0, 3, n)
    k[-LENGTHS[-1] :] = 2  # the last shard has one class
    lengths = rng.integers(0, 12, n)
    rows = np.repeat(np.arange(n), lengths)
    columns = (rng.integers(0, 14, len(rows)) ** 2 + 5 * k[rows]) % f
    # svmlight tells the features by the first and the last one that are there
    rows, columns = np.append(rows, [0, 1]), np.append(columns, [f - 1, 0])
    X = sparse.coo_array((rng.integers(1, 4, len(rows)), (rows, columns)), shape=(n, f)).tocsr()
    X.data = X.data if dtype == np.uint8 else X.data / 4
    return X.astype(dtype), k


def cut(X: Any) -> list[Any]:
    ends = np.cumsum([0, *LENGTHS])
    return [X[a:b] for a, b in pairwise(ends.tolist())]


def give(X: Any, k: Array, start: int, stop: int) -> tuple[Any, Array]:
    return X[start:stop], NAMES[k[start:stop]]


def svmlight_line(x: Any, label: int) -> str:
    x = x.tocoo()
    entries = zip(x.coords[-1].tolist(), x.data.tolist(), strict=True)
    return " ".join([str(label), *(f"{j}:{value!r}" for j, value in sorted(entries))]) + "\n"


def written(how: str, folder: Path, X: Any, k: Array) -> Any:
    """Return shards of a format."""
    for s, (rows, labels) in enumerate(zip(cut(X), cut(k), strict=True)):
        sparse.save_npz(folder / f"x-{s}.npz", rows, compressed=s == 0)
        np.save(folder / f"y-{s}.npy", NAMES[labels])
        lines = [svmlight_line(x, label) for x, label in zip(rows, labels, strict=True)]
        (folder / f"z-{s}.svm").write_text("".join(lines))
    if how == "svmlight":
        return cs.shards(f"{folder}/z-*.svm", dtype=X.dtype)
    if how == "functions":
        parts = zip(cut(X), cut(k), strict=True)
        return cs.shards([(x.shape[0], partial(give, x, y)) for x, y in parts])
    cache = folder / "kept" if how == "cached" else None
    return cs.shards(f"{folder}/x-*.npz", labels=f"{folder}/y-*.npy", cache=cache)


@pytest.mark.parametrize(
    ("how", "dtype"),
    [
        ("npz", np.uint8), ("npz", np.float32), ("npz", np.float64), ("svmlight", np.float32),
        ("svmlight", np.float64), ("functions", np.float32), ("cached", np.float32),
    ],
)  # fmt: skip
def test_a_fit_is_that_of_one_matrix(how: str, dtype: Any, tmp_path: Path) -> None:
    X, k = table(dtype)
    y = k if how == "svmlight" else NAMES[k]
    data = written(how, tmp_path, X, k)
    many = cs.SoftmaxClassifier(C=0.1, tol=1e-7).fit(data, None)
    one = cs.SoftmaxClassifier(C=0.1, tol=1e-7).fit(X, y)
    rtol = 1e-4 if dtype != np.float64 else 2e-4  # as near as two optima within tol are
    assert_allclose(many.coef_, one.coef_, rtol=rtol, atol=rtol * np.abs(one.coef_).max())
    assert_allclose(many.gap_.objective, one.gap_.objective, rtol=1e-6)
    assert many.coef_.dtype == one.coef_.dtype
    assert 0 <= many.gap_.bound < 0.01
    assert many.classes_.tolist() == one.classes_.tolist()
    assert many.score(data, None) == one.score(X, y)
    assert_array_equal(many.predict(X), many.predict(data))


def test_weights_classes_and_a_warm_start(tmp_path: Path) -> None:
    X, k = table()
    written("npz", tmp_path, X, k)
    weight = np.random.default_rng(1).integers(0, 3, len(k)) / 2
    files = f"{tmp_path}/x-*.npz", f"{tmp_path}/y-*.npy"
    data = cs.shards(files[0], labels=files[1], weights=weight)
    settings: Any = {"C": 0.1, "class_weight": "balanced", "tol": 1e-6}
    many = cs.SoftmaxClassifier(warm_start=True, **settings).fit(data, None)
    one = cs.SoftmaxClassifier(**settings).fit(X, NAMES[k], weight)
    assert_allclose(many.coef_, one.coef_, atol=2e-4 * np.abs(one.coef_).max())
    first = many.n_iter_[0]
    assert many.fit(data, None).n_iter_[0] < first


def test_a_validation_set_stops_a_fit(tmp_path: Path) -> None:
    X, k = table()
    data = written("npz", tmp_path, X, k)
    classifier = cs.SoftmaxClassifier(C=10, early_stopping=True)
    classifier.fit(data, None, validation=(X[:300], NAMES[k[:300]]))
    assert len(classifier.history_["validation_loss"]) == len(classifier.history_["passes"])


@pytest.mark.parametrize("scoring", [None, "f1_macro"])
def test_cross_validation_is_that_of_one_matrix(scoring: str | None, tmp_path: Path) -> None:
    X, k = table()
    data = written("npz", tmp_path, X, k)
    settings: Any = {"Cs": [0.01, 1.0], "cv": 3, "tol": 1e-6, "scoring": scoring}
    many = cs.SoftmaxClassifierCV(**settings).fit(data, None)
    one = cs.SoftmaxClassifierCV(**settings).fit(X, NAMES[k])
    assert_allclose(many.scores_, one.scores_, atol=0.005)  # of 500 rows
    assert many.C_ == one.C_
    assert_allclose(many.coef_, one.coef_, atol=2e-3 * np.abs(one.coef_).max())


def test_sparse_shards_to_validate_on(tmp_path: Path) -> None:
    X, k = table()
    data = written("npz", tmp_path, X, k)
    settings: Any = {"C": 10, "early_stopping": True}
    many = cs.SoftmaxClassifier(**settings).fit(data, None, validation=data)
    one = cs.SoftmaxClassifier(**settings).fit(data, None, validation=(X, NAMES[k]))
    assert_allclose(many.history_["validation_loss"], one.history_["validation_loss"], rtol=1e-6)


def test_noise_ends_a_fit(tmp_path: Path) -> None:
    X, k = table()
    data = written("npz", tmp_path, X, k)
    many = cs.SoftmaxClassifier(C=0.1, tol="sampling").fit(data, None)
    one = cs.SoftmaxClassifier(C=0.1, tol="sampling").fit(X, NAMES[k])
    assert many.n_iter_ == one.n_iter_
    assert_allclose(many.gap_.noise, one.gap_.noise, rtol=1e-4)


def test_several_heads_and_a_checkpoint(tmp_path: Path) -> None:
    X, k = table()
    data = written("npz", tmp_path, X, k)
    weights = np.random.default_rng(3).integers(0, 2, (2, len(k))).astype(float)
    options: Any = {
        "C": [0.1, 0.01, 0.1], "sample_weight": weights, "weight_of_head": [0, 1, 1], "tol": 1e-6,
    }  # fmt: skip
    labels = k.astype(np.uint8)
    whole = minimize(data, labels, 3, **options)
    assert whole.converged.all()
    alone = minimize(data, labels, 3, C=0.01, sample_weight=weights[1], tol=1e-6)
    assert_array_equal(alone.W[0], whole.W[1])
    file = tmp_path / "state"
    seen: list[int] = []

    def stops(progress: Any) -> bool:
        seen.append(progress.n_passes)
        return len(seen) == 4

    minimize(data, labels, 3, checkpoint=file, callback=stops, warns=False, **options)
    again = minimize(data, labels, 3, checkpoint=file, **options)
    assert_array_equal(again.W, whole.W)
    other = cs.shards(f"{tmp_path}/x-*.npz", labels=f"{tmp_path}/y-*.npy")[:3]
    with pytest.raises(DataError, match="another problem"):
        minimize(
            other, labels[: -LENGTHS[-1]], 3, checkpoint=file,
            **{**options, "sample_weight": weights[:, : -LENGTHS[-1]]},
        )  # fmt: skip


@pytest.mark.parametrize("scale", [1e-30, 1e25])
def test_features_far_from_1(scale: float, tmp_path: Path) -> None:
    X, k = table()
    data = written("npz", tmp_path, X, k)
    plain = minimize(data, k.astype(np.uint8), 3, C=np.inf, tol=1e-3, max_iter=5, warns=False)
    options: Any = {"C": np.inf, "tol": 1e-3, "max_iter": 5, "warns": False, "scale": scale}
    scaled = minimize(data, k.astype(np.uint8), 3, **options)
    assert_allclose(scaled.objective, plain.objective, rtol=1e-4)


def test_mistakes_are_told(tmp_path: Path) -> None:
    X, k = table()
    data = written("npz", tmp_path, X, k)
    with pytest.raises(MemoryBudgetError, match="max_memory is 1 MB, expected at least"):
        cs.SoftmaxClassifier(max_memory="1 MB").fit(data, None)
    for dtype in ("float16", "uint8"):
        with pytest.raises(ValueError, match=f"dtype is {dtype}, expected float32 or float64"):
            cs.shards(f"{tmp_path}/x-*.npz", labels=f"{tmp_path}/y-*.npy", dtype=dtype)
    classifier = cs.SoftmaxClassifier().fit(data, None)
    before = classifier.coef_
    bad = X[700:1200].copy()
    bad.data[40] = np.nan
    row = int(np.searchsorted(bad.indptr, 40, side="right")) - 1
    sparse.save_npz(tmp_path / "x-2.npz", bad)
    again = cs.shards(f"{tmp_path}/x-*.npz", labels=f"{tmp_path}/y-*.npy")
    told = rf"shard 2 \(x-2.npz\): row {row} \(row {700 + row} of all\): "
    with pytest.raises(DataError, match=rf"{told}feature {bad.indices[40]} is nan"):
        classifier.fit(again, None)
    assert classifier.coef_ is before


def test_the_command_line_trains_by_full_passes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    X, k = table()
    written("npz", tmp_path, X, k)
    told = run(
        capsys, "train", "--data", f"{tmp_path}/x-*.npz", "--label-files", f"{tmp_path}/y-*.npy",
        "--solver", "lbfgs", "--C", "0.1", "--seed", "1", "--out", str(tmp_path / "out"),
    )  # fmt: skip
    assert re.search(r"C = 0.1: objective 0\.\d+, above the optimum by .* at most", told)
    model = cs.SoftmaxRegression.load(tmp_path / "out" / "model.safetensors")
    assert (model.predict(X) == k).mean() > 0.85


# ---- memory ------------------------------------------------------------------------------------


def fit_and_tell(folder: str) -> None:
    """Print what a fit of cached shards takes at most, and what it was allowed."""
    data = cs.shards(f"{folder}/x-*.npz", labels=f"{folder}/y-*.npy", cache=f"{folder}/kept")
    classifier = cs.SoftmaxClassifier(C=1.0, max_iter=4, tol=1e-9, n_threads=2, verbose=1)
    print(anonymous_peak(lambda: classifier.fit(data, None)))


@pytest.mark.slow  # files of 50 MB
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no /proc")
def test_a_fit_takes_no_more_than_it_says(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for s in range(2):
        n = 20 * CHUNK_ROWS
        columns = rng.integers(0, 5000, 20 * n)
        X = sparse.csr_array(
            (np.ones(20 * n, np.float32), columns, np.arange(n + 1) * 20), shape=(n, 5000)
        )
        sparse.save_npz(tmp_path / f"x-{s}.npz", X, compressed=False)
        np.save(tmp_path / f"y-{s}.npy", (columns[::20] % 10).astype(np.uint8))
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, str(tmp_path)], capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    said = re.search(r"takes up to ([\d.]+) MB", ran.stderr)
    assert said
    assert int(ran.stdout) < float(said[1]) * 1e6 < 120e6


if __name__ == "__main__":
    fit_and_tell(sys.argv[1])
