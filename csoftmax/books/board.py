"""The board on which the book's current edition draws how a training goes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from csoftmax.books.objects import HyperParameters
from csoftmax.core.checks import check_positive
from csoftmax.draw.figure import (
    draw_for_pyplot,
    finish,
    in_notebook,
    legend_above,
    may_open_window,
    new_figure,
    script_uses_pyplot,
    show,
    when_the_cell_ends,
)

__all__ = ["Point", "ProgressBoard"]

REDRAW_SECONDS = 0.5


class Point(NamedTuple):
    """A point that is drawn: the means of the n points that it stands for."""

    x: float
    y: float


class ProgressBoard(HyperParameters):
    """Lines that grow while a program runs.

    In a notebook the picture is updated in place, at most twice a second and when the cell ends;
    elsewhere it is shown in a window, if the user's Matplotlib has one, or not drawn at all. The
    points are in `data` either way.

    Parameters
    ----------
    xlabel, ylabel : str, optional
        Labels of the axes.
    xlim, ylim : pair of float, optional
        Their limits; chosen from the points if not given.
    xscale, yscale : str
        "linear", "log", or another Matplotlib scale.
    ls, colors : list of str
        Style and colour of each line, repeated if there are more lines.
    fig, axes : Figure and Axes, optional
        Where to draw; the board then draws there on any machine.
    figsize : pair of float
        Width and height in inches.
    display : bool
        Whether to draw.

    Attributes
    ----------
    data : dict of str to list of Point
        The points of each line, by its label.
    note : str
        A line of text below the x axis.

    Examples
    --------
    >>> from csoftmax import d2l1 as d2l
    >>> board = d2l.ProgressBoard("x")
    >>> for x in range(4):
    ...     board.draw(x, 10 * x, "line", every_n=2)
    >>> board.data["line"]
    [Point(x=0.5, y=5.0), Point(x=2.5, y=25.0)]

    Notes
    -----
    D2L current edition section 3.2.1.
    """

    def __init__(
        self,
        xlabel: str | None = None,
        ylabel: str | None = None,
        xlim: Sequence[float] | None = None,
        ylim: Sequence[float] | None = None,
        xscale: str = "linear",
        yscale: str = "linear",
        ls: Sequence[str] = ("-", "--", "-.", ":"),
        colors: Sequence[str] = ("C0", "C1", "C2", "C3"),
        fig: Any = None,
        axes: Any = None,
        figsize: tuple[float, float] = (3.5, 2.5),
        display: bool = True,
    ) -> None:
        self.save_hyperparameters()
        self.xlabel, self.ylabel, self.xlim, self.ylim = xlabel, ylabel, xlim, ylim
        self.xscale, self.yscale, self.ls, self.colors = xscale, yscale, ls, colors
        self.fig, self.axes, self.figsize, self.display = fig, axes, figsize, display
        if fig is not None and axes is None:
            self.axes = fig.axes[0] if fig.axes else fig.subplots()
        self.data: dict[str, list[Point]] = {}
        self.note = ""
        self._waiting: dict[str, tuple[int, float, float]] = {}
        self._is_stale, self._next_draw = False, 0.0
        self._handle: Any = None

    def draw(self, x: float, y: float, label: str, every_n: int = 1) -> None:
        """Add a point to a line; the mean of `every_n` of them is drawn as one.

        Parameters
        ----------
        x, y : float
            Where it is.
        label : str
            The name of its line.
        every_n : int
            At least 1.

        Raises
        ------
        TypeError, ValueError
            An x or y that is no single number, an every_n below 1.
        """
        self.draw_sum(1, float(x), float(y), label, every_n)

    def room(self, label: str, every_n: int) -> int:
        """Return how many points a line still takes until their mean is drawn."""
        return max(every_n - self._waiting.get(label, (0,))[0], 1)

    def draw_sum(self, n: int, x: float, y: float, label: str, every_n: int) -> None:
        """Add n points to a line by their sums, where n is at most its `room`."""
        every_n = check_positive(every_n, "every_n")
        line = self.data.setdefault(label, [])
        count, sum_x, sum_y = self._waiting.get(label, (0, 0.0, 0.0))
        count, sum_x, sum_y = count + n, sum_x + x, sum_y + y
        self._waiting[label] = count, sum_x, sum_y
        if count < every_n:
            return
        del self._waiting[label]
        line.append(Point(sum_x / count, sum_y / count))
        if self.display:
            was_stale, self._is_stale = self._is_stale, True
            # a picture takes as long as many minibatches
            if time.monotonic() >= self._next_draw:
                self.flush()
            elif not was_stale:
                when_the_cell_ends(self.flush)

    def flush(self) -> None:
        """Draw the points that are not drawn yet."""
        if not self._is_stale:
            return
        self._is_stale = False
        is_seen = in_notebook() or may_open_window()
        if self.axes is None and is_seen:
            self.fig = finish(new_figure(*self.figsize, window=True, current=True), None)
            self.axes = self.fig.subplots()
        if self.axes is not None:
            self._draw(self.axes)
        elif script_uses_pyplot():
            self._draw_for_pyplot()
        else:
            draw_for_pyplot(self._draw_for_pyplot)
        if is_seen:
            self._handle = show(self.axes.figure, self._handle)
            self._next_draw = time.monotonic() + REDRAW_SECONDS

    def _draw_for_pyplot(self) -> None:
        self.fig = new_figure(*self.figsize, window=True, current=True)
        self.axes = self.fig.subplots()
        self._draw(self.axes)

    def _draw(self, axes: Any) -> None:
        axes.clear()
        for i, (label, line) in enumerate(self.data.items()):
            axes.plot(
                [point.x for point in line],
                [point.y for point in line],
                label=label,
                linestyle=self.ls[i % len(self.ls)],
                color=self.colors[i % len(self.colors)],
                marker="o" if len(line) == 1 else None,  # a line through one point is invisible
            )
        axes.set(xscale=self.xscale, yscale=self.yscale, ylabel=self.ylabel or "")
        axes.set_xlabel("\n".join(filter(None, [self.xlabel, self.note])))
        if self.xlim:
            axes.set_xlim(self.xlim)
        if self.ylim:
            axes.set_ylim(self.ylim)
        axes.grid(alpha=0.4)
        legend_above(axes, len(self.data), min(3, len(self.data)), 8.0)
