"""What takes minutes: ``python -m benchmarks.long bench.json``.

scikit-learn and its Intel extension need a thousand iterations of L-BFGS to come near the optimum;
`python -m csoftmax bench --solver` leaves them where they stop by default. The results are added
to the run in the file.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from csoftmax.bench import ROUNDS
from csoftmax.bench.measure import Samples
from csoftmax.bench.peers import chosen
from csoftmax.bench.report import line_of
from csoftmax.bench.results import OURS, Result, Run
from csoftmax.bench.session import Session
from csoftmax.bench.solver import estimators, fitted_objective, of_images, sweep, timed_fit

ITERATIONS = 1000


def near(session: Session) -> Iterator[Result]:
    """Time csoftmax to where each peer comes in a third of the iterations, and in all of them."""
    data, threads = of_images(session.quick), session.threads[-1]
    for peer in estimators(session):
        for iterations in (ITERATIONS // 3, ITERATIONS):
            seconds, fitted = timed_fit(
                peer, threads, data.matrix, data.y, max_iter=iterations, tol=1e-9
            )
            target = fitted_objective(fitted, data.matrix, data.y, 1.0)
            sides = {
                OURS: Samples([data.seconds_to(target, threads)]),
                peer.name: Samples([seconds]),
            }
            facts = {"% above the optimum": 100 * (target / data.optimum - 1)}
            name = f"solver/near, {peer.name} after {iterations}"
            yield Result(name, threads, sides, facts=facts)


def add(run: Run, results: Iterator[Result]) -> None:
    """Put results into a run, each in the place of an older one of its name, and print them."""
    for result in results:
        run.results = [old for old in run.results if old.name != result.name] + [result]
        print(line_of(result), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.long", description="Measure what takes minutes."
    )
    parser.add_argument("run", type=Path, help="JSON of `python -m csoftmax bench --json`")
    path = parser.parse_args(arguments).run
    run, session = Run.read(path), Session(chosen("all"), ROUNDS)
    add(run, near(session))
    add(run, sweep(session, max_iter=ITERATIONS))
    run.write(path)


if __name__ == "__main__":
    main()
