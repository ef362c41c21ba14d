"""What one run measures, with whom, and what it has found out about the machine."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from csoftmax.bench import peers
from csoftmax.bench.limits import Limits
from csoftmax.bench.peers import CSoftmax, NumPy
from csoftmax.bench.results import OURS
from csoftmax.core.cpus import usable_cpus


@dataclass
class Session:
    """The choices of the command line, the peers made for them, and the limits measured so far."""

    peers: list[str]
    rounds: int
    quick: bool = False
    only: str = ""
    solver: bool = False  # measure the solver and nothing else
    small: bool = False  # measure small tables and nothing else
    book: bool = False  # measure the book's programs and nothing else
    sparse: bool = False  # measure sparse rows and nothing else
    data: Path | None = None  # the folder of their tables
    slow_peers: bool = False  # wait for those that take minutes
    scale: bool = False  # measure rows in files and on a cluster, and nothing else
    gigabytes: float = 10.0  # of the file of a cold pass
    folder: Path | None = None  # where files are made; None: the system's for such
    limits: Limits = field(default_factory=Limits)
    missing: dict[str, str] = field(default_factory=dict)
    _made: dict[str, Any] = field(default_factory=dict)

    @property
    def threads(self) -> list[int]:
        """One, and all that this process may use."""
        return sorted({1, usable_cpus()})

    def wants(self, name: str) -> bool:
        """Does --only choose this name? Each of its comma-separated terms is a start or a pattern.

        Examples
        --------
        >>> Session([], 1, only="epoch,*/softmax*10").wants("call/softmax 256x10")
        True
        """
        terms = [term.strip() for term in self.only.split(",") if term.strip()]
        return not terms or any(name.startswith(t) or fnmatch.fnmatchcase(name, t) for t in terms)

    def all_peers(self) -> Iterator[Any]:
        """Yield csoftmax, NumPy and the chosen peers that are installed; import them now."""
        if not self._made:
            self._made = {OURS: CSoftmax(), "NumPy": NumPy()}
        yield from list(self._made.values())[:2]
        for name in self.peers:
            if name in self.missing:
                continue
            if not peers.is_installed(name):
                self.missing[name] = "not installed"
                continue
            if name not in self._made:
                self._made[name] = peers.make(name)
            yield self._made[name]
