"""Curves that grow while a model trains, as in *Dive into Deep Learning*."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from csoftmax.draw.figure import (
    draw_for_pyplot,
    finish,
    in_notebook,
    integer_ticks,
    legend_above,
    may_open_window,
    new_figure,
    script_uses_pyplot,
    show,
    write,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_REDRAW_SECONDS = 0.5


class Animator:
    """Curves that grow while a model trains.

    In a notebook the picture is updated in place; elsewhere it is written to `path` if there is
    one, and shown in a window if the user's Matplotlib has one. Otherwise it is drawn only for a
    script that uses pyplot, as its current figure: ``plt.savefig`` saves it.
    A point at a whole x (an epoch) is drawn at once; points between are drawn at most twice a
    second, so that an update per minibatch stays cheap. `flush` draws what is still missing.

    Parameters
    ----------
    xlabel, ylabel : str, optional
        Axis labels.
    legend : sequence of str, optional
        One name per curve.
    xlim, ylim : pair of float, optional
        Axis limits; chosen from the points if not given.
    xscale, yscale : str
        "linear", "log", or another Matplotlib scale.
    fmts : sequence of str
        Matplotlib format of each curve, repeated if there are more curves.
    nrows, ncols : int
        Grid of axes; the curves are drawn in the first.
    figsize : pair of float
        Width and height in inches.
    path : path, optional
        File to write (.png, .svg, .pdf).

    Attributes
    ----------
    X, Y : list of list of float
        The points of each curve.

    References
    ----------
    Dive into Deep Learning, section "Softmax Regression Implementation from Scratch".

    Examples
    --------
    >>> from csoftmax.plot import Animator
    >>> animator = Animator(xlabel="epoch", xlim=[1, 2], legend=["loss", "accuracy"])
    >>> animator.add(1, (0.8, 0.75))
    >>> animator.add(2, (0.6, None))
    >>> animator.X, animator.Y
    ([[1, 2], [1]], [[0.8, 0.6], [0.75]])
    """

    def __init__(
        self,
        xlabel: str | None = None,
        ylabel: str | None = None,
        legend: Sequence[str] | None = None,
        xlim: Sequence[float] | None = None,
        ylim: Sequence[float] | None = None,
        xscale: str = "linear",
        yscale: str = "linear",
        fmts: Sequence[str] = ("-", "m--", "g-.", "r:"),
        nrows: int = 1,
        ncols: int = 1,
        figsize: tuple[float, float] = (3.5, 2.5),
        path: str | os.PathLike[str] | None = None,
    ) -> None:
        self.xlabel, self.ylabel, self.legend = xlabel, ylabel, list(legend or ())
        self.xlim, self.ylim, self.xscale, self.yscale = xlim, ylim, xscale, yscale
        self.fmts, self.path = tuple(fmts), path
        self.X: list[list[float]] = []
        self.Y: list[list[float]] = []
        self._grid, self._figsize = (nrows, ncols), figsize
        self._next_draw = 0.0
        self._stale = False
        self._handle: Any = None

    @functools.cached_property
    def fig(self) -> Figure:
        """The Matplotlib figure, made when first needed."""
        return finish(new_figure(*self._figsize, window=True, current=True), None)

    @functools.cached_property
    def axes(self) -> list[Axes]:
        """The axes of the figure, row by row."""
        return list(self.fig.subplots(*self._grid, squeeze=False).flat)

    def add(self, x: Any, y: Any) -> None:
        """Add one point to each curve.

        Parameters
        ----------
        x : float or sequence of float
            One position for all curves, or one per curve.
        y : float or sequence of float
            One value per curve; None adds nothing to that curve.

        Raises
        ------
        ValueError
            If x and y are sequences of different lengths.

        Examples
        --------
        >>> animator = Animator()
        >>> animator.add(0.5, [0.9, None])
        >>> animator.add(1.0, 0.7)
        >>> animator.Y
        [[0.9, 0.7], []]
        """
        values = list(y) if np.ndim(y) else [y]
        positions = list(x) if np.ndim(x) else [x] * len(values)
        if len(positions) != len(values):
            raise ValueError(f"x has {len(positions)} values but y has {len(values)}")
        while len(self.X) < len(values):
            self.X.append([])
            self.Y.append([])
        whole = True
        for k, (position, value) in enumerate(zip(positions, values, strict=True)):
            if position is not None and value is not None:
                self.X[k].append(position)
                self.Y[k].append(value)
                whole = whole and float(position).is_integer()
        self._stale = True
        if whole or time.monotonic() >= self._next_draw:
            self.flush()

    def flush(self) -> None:
        """Draw and write the points that are not drawn yet.

        Examples
        --------
        >>> import pathlib, tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> animator = Animator(path=pathlib.Path(folder.name, "curve.png"))
        >>> animator.add(1, 0.5)
        >>> animator.flush()
        >>> animator.path.stat().st_size > 1000
        True
        >>> folder.cleanup()
        """
        if not self._stale:
            return
        if self.path is not None or in_notebook() or may_open_window():
            self._draw()
            if self.path is not None:
                write(self.fig, self.path)
            self._handle = show(self.fig, self._handle)
        elif script_uses_pyplot():
            self._draw()
        else:
            draw_for_pyplot(self._draw)
        self._stale = False
        self._next_draw = time.monotonic() + _REDRAW_SECONDS

    def _draw(self) -> None:
        axes = self.axes[0]
        axes.clear()
        for k, (x, y) in enumerate(zip(self.X, self.Y, strict=True)):
            label = self.legend[k] if k < len(self.legend) else None
            # A line through one point is invisible.
            marker = "o" if len(x) == 1 else None
            axes.plot(x, y, self.fmts[k % len(self.fmts)], label=label, marker=marker)
        axes.set_xscale(self.xscale)
        axes.set_yscale(self.yscale)
        if self.xscale == "linear" and all(float(a).is_integer() for x in self.X for a in x):
            integer_ticks(axes)
        if self.xlim is not None and self.xlim[0] < self.xlim[1]:
            axes.set_xlim(self.xlim[0], self.xlim[1])
        if self.ylim is not None:
            axes.set_ylim(self.ylim[0], self.ylim[1])
        axes.set_xlabel(self.xlabel or "")
        axes.set_ylabel(self.ylabel or "")
        axes.grid(alpha=0.4)
        shown = self.legend[: len(self.X)]
        widest = max((0.062 * (len(name) + 5) for name in shown), default=1.0)  # inches at 8 points
        columns = max(1, int(0.85 * self._figsize[0] / self._grid[1] / widest))
        legend_above(axes, len(shown), min(columns, max(len(shown), 1)), 8.0)
