"""How many passes over all rows: ``python -m benchmarks.passes``.

The rows are images of Fashion-MNIST, shifted, mirrored and with noise, so that there are many more
of them than parameters; they are in a file of the temporary folder, which is removed. For each
sample there is a line: passes over all rows, statistics included, until the objective is so near
the optimum. Then follows what stopping by the chance in the rows costs in test loss.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import csoftmax as cs
from csoftmax.solver import ConvergenceWarning, Solution, minimize
from csoftmax.solver.corrected import n_free_parameters

Array = NDArray[Any]
GAPS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
PENALTY = 1e-5  # what multiplies ||W||^2 / 2
SCALE = 1 / 255
AT_ONCE, SHIFTED_TOGETHER, MOST_SHIFT = 50_000, 1_000, 2


class Case(NamedTuple):
    """Rows of the file, pixels of an image's side that are added up to one, sizes of samples."""

    n_rows: int
    pooled: int
    samples: tuple[int, ...]  # rows for each free parameter


CASES = (Case(500_000, 1, (18,)), Case(600_000, 4, (20, 100)))


def write_images(path: Path, n_rows: int, pooled: int) -> Array:
    """Write altered images, row after row, to an npy file; return their labels."""
    train, _ = cs.fashion_mnist()
    images = np.asarray(train.X).reshape(-1, 28, 28)
    side, random = 28 // pooled, np.random.default_rng(1)
    file = np.lib.format.open_memmap(path, "w+", np.uint8, (n_rows, side * side))
    chosen = random.integers(0, len(images), n_rows)
    for begin in range(0, n_rows, AT_ONCE):
        some = images[chosen[begin : begin + AT_ONCE]]
        group = random.permutation(len(some))
        for start in range(0, len(some), SHIFTED_TOGETHER):
            of_group = group[start : start + SHIFTED_TOGETHER]
            moved = np.roll(some[of_group], random.integers(-MOST_SHIFT, MOST_SHIFT + 1, 2), (1, 2))
            some[of_group] = moved[:, :, ::-1] if random.random() < 0.5 else moved
        some ^= random.integers(0, 8, some.shape, np.uint8)
        small = some.reshape(-1, side, pooled, side, pooled).mean(axis=(2, 4))
        file[begin : begin + len(some)] = small.reshape(len(some), -1)
    file.flush()
    return np.asarray(train.y, np.int64)[chosen]


def passes_to(solution: Solution, optimum: float) -> list[str]:
    """Return how many passes it took to come within each of the gaps; "-" where it did not."""
    history = solution.history[0]
    told = list(zip(history["passes"], history["objective"], strict=True))
    return [
        next((f"{p:.0f}" for p, f in told if f - optimum <= gap * optimum), "-") for gap in GAPS
    ]


def corrected_samples(case: Case, folder: Path) -> None:
    """Print the passes of L-BFGS, and those of the corrected sample."""
    path = folder / "images.npy"
    y = write_images(path, case.n_rows, case.pooled)
    X: Array = np.load(path, mmap_mode="r")
    C = 1 / (PENALTY * len(X))

    def solve(sample_rows: int, tol: float) -> Solution:
        return minimize(X, y, 10, C=C, scale=SCALE, sample_rows=sample_rows, tol=tol, warns=False)

    n_parameters = n_free_parameters(X.shape[1], 10)
    plain = solve(0, GAPS[-1] / 10)
    print(f"{len(X):,} rows of {X.shape[1]} bytes, {n_parameters:,} free parameters")
    print(f"{'sample':>9} {'/ parameters':>12}" + "".join(f" {gap:>6.0e}" for gap in GAPS))
    found = {n: solve(n * n_parameters, GAPS[-1]) for n in case.samples}
    optimum = min(float(one.objective[0]) for one in (plain, *found.values()))
    for n, one in {0: plain, **found}.items():
        passes = "".join(f" {told:>6}" for told in passes_to(one, optimum))
        print(f"{n * n_parameters:>9,} {n:>12}{passes}   {one.seconds:.1f} s", flush=True)


def stops(n_rows: int) -> None:
    """Print where each `tol` stops on some images, and what that is worth on the test images."""
    train, test = cs.fashion_mnist()
    rows = np.random.default_rng(0).permutation(len(train))[:n_rows]
    X, y = np.asarray(train.X).reshape(-1, 784)[rows], np.asarray(train.y)[rows]
    X_test = np.asarray(test.X).reshape(-1, 784)
    print(f"{n_rows:,} images, penalty {10 * PENALTY:.0e}: passes, distance, noise, test loss")
    for tol in (1e-2, 1e-3, 1e-4, 1e-6, "sampling"):
        C = 1 / (10 * PENALTY * n_rows)
        one = minimize(X, y, 10, C=C, scale=SCALE, tol=tol, warns=False)
        loss, _ = cs.linear_evaluate(X_test, one.W[0].T, one.b[0], test.y, scale=SCALE)
        noise = "" if math.isnan(one.noise[0]) else f"{one.noise[0]:.2e}"
        print(f"{tol:>9} {one.n_passes:>5} {one.estimate[0]:>9.1e} {noise:>9} {loss:>9.5f}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.passes", description="Count passes over all rows."
    )
    parser.add_argument("--rows", type=int, help="rows of each file (500,000 and 600,000)")
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore", ConvergenceWarning)
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            corrected_samples(case._replace(n_rows=given.rows or case.n_rows), Path(folder))
    stops(30_000)


if __name__ == "__main__":
    main()
