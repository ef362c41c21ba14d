"""What a fit says that it takes, against what it takes."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import io
import json
import math
import os
import re
import subprocess
import sys
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.exceptions import ConvergenceWarning

from csoftmax.estimators import SoftmaxClassifier, SoftmaxClassifierCV, fit
from csoftmax.estimators.inputs import as_bytes

# name: n_samples, n_features, n_classes, dtype, settings
FITS: dict[str, tuple[int, int, int, str, dict[str, Any]]] = {
    "tall": (400_000, 2, 2, "f4", {}),
    "tall, weighted": (600_000, 2, 2, "f4", {"weights": True}),
    "tall, folds": (150_000, 2, 2, "f4", {"Cs": 2}),
    "folds of weighted samples": (100_000, 2, 3, "f4", {"Cs": 2, "weights": True}),
    "held out": (100_000, 2, 2, "f4", {"early_stopping": True}),
    "bytes": (4_000, 784, 10, "u1", {}),
    "halves": (5_000, 300, 20, "f2", {}),
    "all directions": (3_000, 1_000, 60, "f4", {}),
    "all directions, doubles": (5_000, 400, 10, "f8", {}),
    "all directions, folds": (4_000, 200, 10, "f4", {"Cs": 2}),
    "wide": (1_000, 3_000, 5, "f4", {}),
    "wider than long": (300, 10_000, 3, "f4", {}),
    "wide, folds": (500, 3_000, 3, "f4", {"Cs": 2}),
    "many classes": (1_500, 10, 1_000, "f4", {}),
    "many classes, folds": (1_000, 20, 250, "f4", {"Cs": 2}),
    "a path": (1_000, 64, 10, "f8", {"Cs": 8}),
    "many parameters": (400, 3_000, 200, "f8", {}),
    "newton": (20_000, 10, 2, "f4", {}),
    "newton, more classes": (1_000, 5, 12, "f8", {}),
    "newton, folds": (20_000, 10, 2, "f8", {"Cs": 3}),
    "probabilities": (20_000, 2, 100, "f4", {"soft": True}),
    "probabilities, weighted": (
        20_000, 2, 100, "f4", {"soft": True, "weights": True, "class_weight": {0: 3.0}}
    ),
    "minibatches": (20_000, 500, 10, "f4", {"solver": "sgd", "momentum": 0.9}),
    "minibatches, wide": (500, 8_000, 10, "f4", {"solver": "sgd", "momentum": 0.9}),
    "minibatches, probabilities": (
        40_000, 2, 10, "f4", {"soft": True, "weights": True, "solver": "sgd"}
    ),
    "L1, few samples": (60, 20_000, 3, "f4", {"l1_ratio": 1.0}),
    "L1, few samples, doubles": (60, 20_000, 3, "f8", {"l1_ratio": 1.0}),
    "L1, digits": (1_797, 64, 10, "f8", {"l1_ratio": 1.0}),
    "L1, bytes": (6_000, 784, 10, "u1", {"l1_ratio": 1.0, "C": 0.01}),
    "L1, tall": (200_000, 4, 2, "f4", {"l1_ratio": 1.0}),
    "L1, folds": (6_000, 100, 20, "f4", {"l1_ratios": (1.0,), "Cs": 2}),
    "L1, many classes": (1_500, 10, 500, "f4", {"l1_ratio": 1.0}),
    "L1, words": (8_000, 30_000, 30, "words", {"l1_ratio": 1.0}),
    "L1, words, probabilities": (8_000, 30_000, 30, "words", {"l1_ratio": 1.0, "soft": True}),
    "elastic net, words": (8_000, 30_000, 30, "words", {"l1_ratio": 0.02, "C": 10.0}),
    "within a budget": (1_000, 500, 300, "f4", {"max_memory": "37 MB", "n_threads": 1}),
}  # fmt: skip
MARGIN = 12e6  # for small fits: what a pass and a sample work in does not shrink with the rows


def samples(n: int, n_features: int, n_classes: int, dtype: str) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    y = np.arange(n) % n_classes
    if dtype == "words":  # of which many are rare, as in texts, and some speak for a class
        words = n_features ** rng.random((n, 40))
        words[:, :4] = (words[:, :4] // n_classes * n_classes + y[:, None]) % n_features
        at = np.arange(n).repeat(40), words.astype(int).reshape(-1)
        return sp.csr_array((np.ones(40 * n, np.float32), at), shape=(n, n_features)), y
    X = rng.normal(size=(n, n_features)) + 0.3 * rng.normal(size=(n_classes, n_features))[y]
    return (np.clip(X * 40 + 100, 0, 255) if dtype == "u1" else X).astype(dtype), y


def a_fit(name: str) -> Callable[..., object]:
    """Return what makes a fit, long enough to take all that it ever takes."""
    n, n_features, n_classes, dtype, given = FITS[name]
    X, y = samples(n, n_features, n_classes, dtype)
    settings = {"n_threads": 2, "max_iter": 12, "tol": 1e-9, **given}
    weight = np.arange(n) % 10 / 4 if settings.pop("weights", False) else None
    if settings.pop("soft", False):
        y = np.full((n, n_classes), 0.1 / n_classes)
        y[np.arange(n), np.arange(n) % n_classes] += 0.9
    kind: Any = SoftmaxClassifier
    if "Cs" in settings:
        settings["Cs"], settings["cv"] = np.logspace(-2, 0, settings["Cs"]), 3
        kind = SoftmaxClassifierCV
    return lambda **more: kind(**{**settings, **more}).fit(X, y, weight)


def plan_of(run: Callable[..., object]) -> float:
    """Return the bytes that a fit announces."""
    told = io.StringIO()
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
        run(verbose=1, max_iter=1)
    announced = re.search(r"up to (.*?) besides X", told.getvalue())
    assert announced
    return as_bytes(announced[1])


def peak_of_process(run: Callable[..., object]) -> int:
    """Return by how much the memory of this process grows at most: all that is touched."""

    def status(line: str) -> int:
        found = re.search(rf"{line}:\s*(\d+) kB", Path("/proc/self/status").read_text())
        assert found
        return 1024 * int(found[1])

    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = status("VmRSS")
    run()
    return status("VmHWM") - before


def peak_of_numpy(run: Callable[..., object]) -> int:
    """Return what NumPy has allocated at most, touched or not."""
    gc.collect()
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def measure_all() -> None:
    warnings.simplefilter("ignore")
    for name in ("newton", "newton, folds", "halves"):  # what is allocated once and stays
        a_fit(name)()
    for name in FITS:
        run = a_fit(name)
        found = {"planned": plan_of(run), "process": peak_of_process(run)}
        print(json.dumps([name, {**found, "numpy": peak_of_numpy(run)}]), flush=True)


@pytest.fixture(scope="module")
def measured() -> dict[str, dict[str, float]]:
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("the peak of a process cannot be measured anew here")
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed goes back
    done = subprocess.run(
        [sys.executable, __file__], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(line) for line in done.stdout.splitlines())


@pytest.mark.slow
@pytest.mark.xdist_group("memory")  # measured once for all
@pytest.mark.parametrize("name", FITS)
def test_a_plan_holds_what_the_fit_takes(name: str, measured: dict[str, dict[str, float]]) -> None:
    found = measured[name]
    peak = max(found["process"], found["numpy"])
    assert peak <= found["planned"] <= 3 * peak + MARGIN


def test_a_budget_is_kept() -> None:
    """A fit takes more where it may."""
    X, y = samples(1_000, 500, 300, "f4")
    peaks = []  # of one thread: of several they vary from run to run
    for budget in (None, "37 MB", "34 MB"):
        classifier = SoftmaxClassifier(tol=0.0, max_iter=9, max_memory=budget, n_threads=1)
        with pytest.warns(ConvergenceWarning):
            peaks.append(peak_of_numpy(lambda c=classifier: c.fit(X, y)))  # type: ignore[misc]
    assert peaks[0] > 37e6 > peaks[1] > peaks[2]
    assert peaks[2] < 34e6


@pytest.mark.parametrize("n_threads", [2, 16])
def test_a_plan_counts_what_threads_take(n_threads: int) -> None:
    X, y = samples(1_500, 100, 500, "f4")
    planned = fit.plan_memory(math.inf, X, 500, n_threads).n_bytes
    classifier = SoftmaxClassifier(tol=0.0, max_iter=10, n_threads=n_threads)
    with pytest.warns(ConvergenceWarning):
        peak = peak_of_numpy(lambda: classifier.fit(X, y))
    assert planned / 4 < peak < planned


def test_minibatches_need_no_room_for_full_passes() -> None:
    X, y = samples(2_000, 100, 100, "f4")
    with pytest.raises(ValueError, match=r"expected at least [\d.]+ MB, X not counted"):
        SoftmaxClassifier(max_memory="12 MB", n_threads=2).fit(X, y)
    settings = {"solver": "sgd", "max_iter": 1, "tol": 0.0, "max_memory": "12 MB", "n_threads": 1}
    with pytest.warns(ConvergenceWarning):
        assert peak_of_numpy(lambda: SoftmaxClassifier(**settings).fit(X, y)) < 12e6


if __name__ == "__main__":
    measure_all()
