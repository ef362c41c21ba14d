"""How many passes over all rows a fit of a file takes, and what it is worth to stop early."""

from __future__ import annotations

import functools
import math
import tempfile
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import csoftmax as cs
from csoftmax.bench.measure import Samples
from csoftmax.bench.results import OURS, Result
from csoftmax.bench.session import Session
from csoftmax.bench.work import images

Array = NDArray[Any]

GAPS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
TOLS = (1e-2, 1e-3, 1e-4, 1e-6, "sampling")
PENALTY = 1e-5  # what multiplies ||W||^2 / 2
SCALE = 1 / 255
AT_ONCE, SHIFTED_TOGETHER, MOST_SHIFT = 50_000, 1_000, 2
STOP_ROWS, QUICK_STOP_ROWS = 30_000, 1000


class Case(NamedTuple):
    """Rows of a file, how many pixels of an image's side are one, and rows of a sample."""

    n_rows: int
    pooled: int
    sample: int  # rows for each free parameter


CASES = (Case(500_000, 1, 18), Case(600_000, 4, 20), Case(600_000, 4, 100))
QUICK_CASES = (Case(40_000, 7, 100),)


def all_passes(session: Session) -> Iterator[tuple[str, Callable[[], Iterator[Result]]]]:
    """Yield the name of each measurement and what runs it."""
    for case in QUICK_CASES if session.quick else CASES:
        yield f"scale/passes {_name(case)}", functools.partial(corrected_sample, session, case)
    yield "scale/stops", functools.partial(stops, session)


def _name(case: Case) -> str:
    return f"{case.n_rows}x{(28 // case.pooled) ** 2} sample {case.sample} a parameter"


def corrected_sample(session: Session, case: Case) -> Iterator[Result]:
    """Count the passes, statistics included, until the objective is near the optimum.

    The rows are images, shifted, mirrored and with noise: many more of them than parameters. They
    are fitted with a sample of them in memory, and without one.
    """
    from csoftmax.solver import minimize
    from csoftmax.solver.corrected import n_free_parameters

    threads = session.threads[-1]
    with tempfile.TemporaryDirectory(prefix="scale-", dir=session.folder) as folder:
        path = Path(folder) / "images.npy"
        y = write_images(path, case, session.quick)
        X: Array = np.load(path, mmap_mode="r")
        sample_rows = case.sample * n_free_parameters(X.shape[1], 10)
        C = 1 / (PENALTY * len(X))
        found = {
            who: minimize(
                X, y, 10, C=C, scale=SCALE, sample_rows=rows, tol=tol, warns=False,
                n_threads=threads,
            )
            for who, rows, tol in (
                (OURS, sample_rows, GAPS[-1]), ("without a sample", 0, GAPS[-1] / 10),
            )
        }  # fmt: skip
        del X
    optimum = min(float(one.objective[0]) for one in found.values())
    sides = {who: Samples([one.seconds]) for who, one in found.items()}
    facts = {"rows of the sample": float(sample_rows)}
    for gap in GAPS:
        for who, one in found.items():
            passes = passes_to(one, optimum * (1 + gap))
            if passes is not None:
                facts[f"passes to {gap:g}" + (" without" if who != OURS else "")] = passes
    yield Result(f"scale/passes {_name(case)}", threads, sides, facts=facts)


def write_images(path: Path, case: Case, quick: bool) -> Array:
    """Write altered images, row after row, to an npy file; return their labels."""
    X, y, _ = images(quick)
    X = X.reshape(-1, 28, 28)
    side, random = 28 // case.pooled, np.random.default_rng(1)
    file = np.lib.format.open_memmap(path, "w+", np.uint8, (case.n_rows, side * side))
    chosen = random.integers(0, len(X), case.n_rows)
    for begin in range(0, case.n_rows, AT_ONCE):
        some = X[chosen[begin : begin + AT_ONCE]]
        group = random.permutation(len(some))
        for start in range(0, len(some), SHIFTED_TOGETHER):
            of_group = group[start : start + SHIFTED_TOGETHER]
            moved = np.roll(some[of_group], random.integers(-MOST_SHIFT, MOST_SHIFT + 1, 2), (1, 2))
            some[of_group] = moved[:, :, ::-1] if random.random() < 0.5 else moved
        some ^= random.integers(0, 8, some.shape, np.uint8)
        small = some.reshape(-1, side, case.pooled, side, case.pooled).mean(axis=(2, 4))
        file[begin : begin + len(some)] = small.reshape(len(some), -1)
    file.flush()
    return np.asarray(y, np.int64)[chosen]


def passes_to(solution: Any, target: float) -> float | None:
    """Return how many passes it took to an objective; None where it did not come so far."""
    history = solution.history[0]
    for passes, objective in zip(history["passes"], history["objective"], strict=True):
        if objective <= target:
            return float(passes)
    return None


def stops(session: Session) -> Iterator[Result]:
    """Fit some images until each `tol`; tell the passes, and the loss of the test images."""
    minimize = import_module("csoftmax.solver").minimize
    X, y, name = images(session.quick)
    n_rows = QUICK_STOP_ROWS if session.quick else STOP_ROWS
    rows = np.random.default_rng(0).permutation(len(X))[:n_rows]
    X, y = X[rows], np.asarray(y, np.int64)[rows]
    _, test = cs.fashion_mnist() if name == "Fashion-MNIST" else cs.fashion_mnist_sample()
    X_test = np.asarray(test.X).reshape(-1, X.shape[1])
    C, threads = 1 / (10 * PENALTY * len(X)), session.threads[-1]
    sides: dict[str, Samples] = {}
    facts: dict[str, float] = {}
    for tol in TOLS:
        one = minimize(X, y, 10, C=C, scale=SCALE, tol=tol, warns=False, n_threads=threads)
        loss, _ = cs.linear_evaluate(X_test, one.W[0].T, one.b[0], test.y, scale=SCALE)
        sides[OURS if tol == "sampling" else f"tol {tol:g}"] = Samples([one.seconds])
        facts |= {f"passes, tol {tol}": float(one.n_passes), f"test loss, tol {tol}": float(loss)}
        if not math.isnan(one.noise[0]):
            facts["noise"] = float(one.noise[0])
    yield Result(f'scale/stops {len(X)} images tol="sampling"', threads, sides, facts=facts)
