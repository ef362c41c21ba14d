"""What the book's own drawing functions are made of: limits and labels of axes, sharp notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from csoftmax.draw.figure import in_notebook

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def use_svg_display() -> None:
    """Have a notebook show Matplotlib's pictures as SVG, sharp at any size; elsewhere do nothing.

    Examples
    --------
    >>> from csoftmax import d2l
    >>> d2l.use_svg_display()
    """
    if in_notebook():
        from matplotlib_inline import backend_inline

        backend_inline.set_matplotlib_formats("svg")


def set_axes(
    axes: Axes,
    xlabel: str | None,
    ylabel: str | None,
    xlim: Sequence[float] | None,
    ylim: Sequence[float] | None,
    xscale: str,
    yscale: str,
    legend: Sequence[str] | None,
) -> None:
    """Label a plot: names, limits and scales of the axes, a legend, a grid.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        The plot.
    xlabel, ylabel : str or None
        Axis labels.
    xlim, ylim : pair of float, or None
        Axis limits.
    xscale, yscale : str
        "linear", "log", or another Matplotlib scale.
    legend : sequence of str, or None
        One name per curve.

    References
    ----------
    Dive into Deep Learning, section "Calculus".

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from csoftmax import d2l
    >>> axes = Figure().subplots()
    >>> d2l.set_axes(axes, "epoch", "loss", [1, 10], [0.3, 0.9], "linear", "linear", None)
    >>> axes.get_xlabel(), axes.get_ylabel()
    ('epoch', 'loss')
    """
    axes.set(xscale=xscale, yscale=yscale)
    axes.set(xlabel=xlabel or "", ylabel=ylabel or "")
    if xlim is not None:
        axes.set_xlim(*xlim)
    if ylim is not None:
        axes.set_ylim(*ylim)
    if legend:
        axes.legend(legend)
    axes.grid(True)
