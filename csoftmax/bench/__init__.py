"""The benchmark behind ``python -m csoftmax bench``: csoftmax, its peers, and the machine's limits.

`work` says what is measured, `peers`, `frameworks` and `estimators` who takes part, `measure` how
time is taken, `limits` what the machine could do at best, `run` puts these together; `experiments`
and `processes` are what is not a race (growth, contention, start-up, memory), `solver` is whole
fits to the optimum (on `sentences` too), `small` those of small tables; `results` is what a run
found, `report`, `chart` and `goals` how it is told.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .results import Result, Run
    from .settings import Settings

__all__ = ["Options", "main"]

ROUNDS, QUICK_ROUNDS = 7, 2


@dataclass
class Options:
    """What to measure and how to tell it.

    Parameters
    ----------
    only : str
        Starts or patterns of names, separated by commas; all work if empty.
    peers : str
        "all", "none" (only NumPy), or some of torch, jax, sklearn, sklearnex, separated by commas.
    rounds : int, optional
        Samples of each side; 7, or 2 if quick.
    quick : bool
        Small sizes, in less than half a minute.
    solver : bool
        Measure the solver of `SoftmaxClassifier`, and nothing else.
    small : bool
        Measure fits of small tables, and nothing else.
    long : bool
        With solver: also what takes minutes, such as 1,000 iterations of the peers.
    goals : bool
        Print the project's goals and whether they are met.
    json, chart : path, optional
        Files to write; the chart's name ends with .png, .svg or .pdf.
    compare : path, optional
        An older run's JSON: print what became slower.
    readme : sequence of paths
        Files whose lines between the two bench markers become the table.
    from_json : path, optional
        Measure nothing and tell this run.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError, DataError
        For a bad option, before anything is measured.

    Examples
    --------
    >>> Options(only="call/", peers="none").settings.rounds
    7
    """

    only: str = ""
    peers: str = "all"
    rounds: int | None = None
    quick: bool = False
    solver: bool = False
    small: bool = False
    long: bool = False
    goals: bool = False
    json: str | os.PathLike[str] | None = None
    chart: str | os.PathLike[str] | None = None
    compare: str | os.PathLike[str] | None = None
    readme: Sequence[str | os.PathLike[str]] = ()
    from_json: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        from csoftmax.core.checks import check_positive

        from .peers import chosen
        from .report import check_markers
        from .results import Run
        from .run import names_of
        from .settings import Settings

        default = QUICK_ROUNDS if self.quick else ROUNDS
        rounds = check_positive(default if self.rounds is None else self.rounds, "rounds")
        self.settings: Settings = Settings(
            chosen(self.peers), rounds, self.quick, self.only, self.solver, self.long,
            self.small,
        )  # fmt: skip
        self.old: Run | None = None if self.compare is None else Run.read(self.compare)
        self.known: Run | None = None if self.from_json is None else Run.read(self.from_json)
        for path in self.readme:
            check_markers(path)
        if self.long and not self.solver:
            raise ValueError("long is given but solver is not: only its measurements can be long")
        if not any(map(self.settings.wants, names_of(self.settings))):
            raise ValueError(
                f'only is "{self.only}", expected the start of a name like epoch/uint8'
            )


def main(options: Options) -> Run:
    """Measure, print each result as it comes, write what was asked for, and return it all.

    Raises
    ------
    WrongResultError
        If a side's result is not that of the reference.
    """
    from . import report
    from .chart import draw
    from .goals import goals_of
    from .results import compare
    from .run import describe, measure_all

    run = describe(options.settings) if options.known is None else options.known
    _print(report.lines_of_machine(run))
    _print([report.HEADER])

    def show(result: Result) -> None:
        _print([report.line_of(result)])

    if options.known is None:
        measure_all(run, options.settings, show)
    else:
        for result in run.results:
            show(result)
    _print(report.lines_of_limits(run))
    _print([f"{peer}: {why}" for peer, why in run.missing.items()])
    if options.goals:
        _print([str(goal) for goal in goals_of(run)])
    if options.old is not None:
        _print(compare(options.old, run))
    if options.json is not None:
        run.write(options.json)
    if options.chart is not None:
        draw(run, options.chart)
    for path in options.readme:
        report.rewrite_readme(path, run)
    return run


def _print(lines: Sequence[str]) -> None:
    for line in lines:
        print(line, flush=True)
