"""How many passes over all rows a fit with L1 takes: ``python -m benchmarks.l1_passes``.

The rows are images of Fashion-MNIST, shifted, mirrored and with noise, in a file of the temporary
folder, which is removed. Each line is a fit by a sample of them to 1e-4 of the optimum: passes,
statistics included, until the objective is so near; all passes, with the one that proves the bound;
estimate and bound in proportion to the objective. The last columns are of the fit that has all rows
in memory: its iterations to 1e-4, and its bound at the same `tol`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.bench.scale_passes import SCALE, Case, write_images
from csoftmax.solver import Solution
from csoftmax.solver.corrected import n_free_parameters
from csoftmax.solver.l1 import minimize_l1

Array = NDArray[Any]
GAPS = (1e-2, 1e-3, 1e-4)
TOL = 1e-4
# Rows, pixels of a side that are one, rows of a sample for each parameter; and C times the rows:
# from few weights that are not 0 to nearly all.
CASES: tuple[tuple[tuple[Case, ...], tuple[float, ...]], ...] = (
    ((Case(200_000, 4, 20), Case(200_000, 4, 100)), (200.0, 2_000.0, 20_000.0)),
    ((Case(200_000, 1, 4), Case(200_000, 1, 14)), (200.0, 2_000.0)),
)
HEAD = (
    f"{'pixels':>6} {'C':>7} {'weights':>7} {'sample':>7}"
    + "".join(f" {gap:>6.0e}" for gap in GAPS)
    + f" {'all':>4} {'distance':>8} {'estimate':>8} {'bound':>8} {'steps':>6} {'bound':>8}"
)


def steps_to(history: dict[str, list[float]], target: float) -> int | None:
    """Return the number of the first entry whose objective is at most the target."""
    return next((i for i, f in enumerate(history["objective"]) if f <= target), None)


def compare(cases: Sequence[Case], strengths: Sequence[float], folder: Path) -> None:
    """Print a line for each C and each sample of the same rows."""
    y = write_images(folder / "images.npy", cases[0], quick=False)
    X: Array = np.load(folder / "images.npy", mmap_mode="r")
    n_parameters = n_free_parameters(X.shape[1], 10)

    def fit(strength: float, tol: float, sample_rows: int) -> Solution:
        return minimize_l1(
            X, y, 10, C=strength / len(X), scale=SCALE, tol=tol, sample_rows=sample_rows,
            warns=False,
        )  # fmt: skip

    for strength in strengths:
        best, usual = fit(strength, TOL / 50, 0), fit(strength, TOL, 0)
        optimum = float(best.objective[0])
        for case in cases:
            one = fit(strength, TOL, case.sample * n_parameters)
            facts = (float(one.objective[0]) - optimum, float(one.estimate[0]), float(one.bound[0]))
            # the first entry is of the statistics
            steps = [steps_to(one.history[0], optimum * (1 + gap)) for gap in GAPS]
            in_memory = steps_to(best.history[0], optimum * (1 + TOL))
            print(
                f"{X.shape[1]:>6} {strength / len(X):>7.0e} {np.count_nonzero(best.W):>7} "
                f"{case.sample * n_parameters:>7,}"
                + "".join(f" {'-' if n is None else n + 1:>6}" for n in steps)
                + f" {one.n_passes:>4}"
                + "".join(f" {fact / optimum:>8.0e}" for fact in facts)
                + f" {in_memory:>6} {usual.bound[0] / optimum:>8.0e}",
                flush=True,
            )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.l1_passes", description="Count passes of fits with L1."
    )
    parser.add_argument("--rows", type=int, help="rows of the file (200,000)")
    given = parser.parse_args(arguments)
    print(HEAD)
    for cases, strengths in CASES:
        if given.rows is not None:
            cases = tuple(case._replace(n_rows=given.rows) for case in cases)
        with tempfile.TemporaryDirectory() as folder:
            compare(cases, strengths, Path(folder))


if __name__ == "__main__":
    main()
