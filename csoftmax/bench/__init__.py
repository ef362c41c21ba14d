"""The benchmark behind ``python -m csoftmax bench``: csoftmax, its peers, and the machine's limits.

`work` says what is measured, `peers`, `frameworks` and `estimators` who takes part, `measure` how
time is taken, `limits` what the machine could do at best, `run` puts these together; `experiments`
and `processes` are what is not a race (growth, contention, start-up, memory), `solver` is whole
fits to the optimum, `small` those of small tables, `sparse` sparse rows, `scale` (with
`scale_formats`, `scale_passes` and `scale_dask`) rows in files and on a cluster, `book` the book's
programs; `results` is what a run found, `report` and `chart` how it is told.

What only csoftmax's own repository needs (the README's table, the project's goals, runs of minutes,
embeddings of sentences) is in its folder `benchmarks`, whose scripts take the JSON of a run.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from csoftmax.bench.results import Result, Run
    from csoftmax.bench.session import Session

__all__ = ["Options", "main"]

ROUNDS, QUICK_ROUNDS = 7, 2
GIGABYTES, QUICK_GIGABYTES = 10.0, 0.02


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
    book : bool
        Measure the book's programs, and nothing else.
    sparse : bool
        Measure sparse rows, and nothing else.
    data : path, optional
        The folder of the tables for `sparse`; a small one is made up if there is none.
    slow_peers : bool
        With `sparse` and `scale`, wait for peers that take minutes.
    scale : bool
        Measure rows in files and on a cluster, and nothing else.
    gigabytes : float, optional
        With `scale`: of the file that is not in memory; 10, or .02 if quick.
    folder : path, optional
        With `scale`: where files are made; they are removed. The system's folder for such if None.
    json, chart : path, optional
        Files to write; the chart's name ends with .png, .svg or .pdf.
    compare : path, optional
        An older run's JSON: print what became slower.
    from_json : path, optional
        Measure nothing and tell this run.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError, DataError
        For a bad option, before anything is measured.

    Examples
    --------
    >>> Options(only="call/", peers="none").session.rounds
    7
    """

    only: str = ""
    peers: str = "all"
    rounds: int | None = None
    quick: bool = False
    solver: bool = False
    small: bool = False
    book: bool = False
    sparse: bool = False
    data: str | os.PathLike[str] | None = None
    slow_peers: bool = False
    scale: bool = False
    gigabytes: float | None = None
    folder: str | os.PathLike[str] | None = None
    json: str | os.PathLike[str] | None = None
    chart: str | os.PathLike[str] | None = None
    compare: str | os.PathLike[str] | None = None
    from_json: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        from csoftmax.bench.peers import chosen
        from csoftmax.bench.results import Run
        from csoftmax.bench.run import names_of
        from csoftmax.bench.scale import check_room
        from csoftmax.bench.session import Session
        from csoftmax.core.checks import check_positive

        default = QUICK_ROUNDS if self.quick else ROUNDS
        rounds = check_positive(default if self.rounds is None else self.rounds, "rounds")
        folder = None if self.data is None else Path(self.data)
        if folder is not None and not folder.is_dir():
            raise FileNotFoundError(f"data is {folder}, expected the folder of the tables")
        default_size = QUICK_GIGABYTES if self.quick else GIGABYTES
        gigabytes = default_size if self.gigabytes is None else self.gigabytes
        place = None if self.folder is None else Path(self.folder)
        if self.scale:
            check_room(place, gigabytes)
        self.session: Session = Session(
            chosen(self.peers), rounds, self.quick, self.only, self.solver, self.small, self.book,
            self.sparse, folder, self.slow_peers, self.scale, gigabytes, place,
        )  # fmt: skip
        self.old: Run | None = None if self.compare is None else Run.read(self.compare)
        self.known: Run | None = None if self.from_json is None else Run.read(self.from_json)
        if not any(map(self.session.wants, names_of(self.session))):
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
    from csoftmax.bench import report
    from csoftmax.bench.chart import draw
    from csoftmax.bench.results import compare
    from csoftmax.bench.run import describe, measure_all

    run = describe(options.session) if options.known is None else options.known
    _print(report.lines_of_machine(run))
    _print([report.HEADER])

    def show(result: Result) -> None:
        _print([report.line_of(result)])

    if options.known is None:
        measure_all(run, options.session, show)
    else:
        for result in run.results:
            show(result)
    _print(report.lines_of_limits(run))
    _print([f"{peer}: {why}" for peer, why in run.missing.items()])
    if options.old is not None:
        _print(compare(options.old, run))
    if options.json is not None:
        run.write(options.json)
    if options.chart is not None:
        draw(run, options.chart)
    return run


def _print(lines: Sequence[str]) -> None:
    for line in lines:
        print(line, flush=True)
