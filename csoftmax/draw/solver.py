"""Pictures of the solver: accuracy against C, and the way down to the optimum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from csoftmax.draw.figure import finish, legend_above, new_figure

if TYPE_CHECKING:
    import os

    from matplotlib.figure import Figure

# Colours that stay apart for colour-blind readers (Okabe and Ito).
_TRAIN, _VALIDATION, _BEST = "#0072B2", "#D55E00", "#00694C"


def draw_sweep(rows: Sequence[Any], path: str | os.PathLike[str] | None = None) -> Figure:
    """Accuracy and loss against C; the C of the best validation accuracy is marked.

    Parameters
    ----------
    rows : sequence
        For each C an object with the attributes ``C``, ``train_accuracy``, ``validation_accuracy``
        and ``validation_loss`` (mean, in nats), or a mapping with these keys.
    path : path, optional
        File to write (.png, .svg, .pdf).

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If there are no rows.

    Examples
    --------
    >>> from csoftmax.plot import draw_sweep
    >>> rows = [
    ...     {"C": C, "train_accuracy": a, "validation_accuracy": b, "validation_loss": 1 - b}
    ...     for C, a, b in ((0.01, 0.7, 0.7), (1.0, 0.9, 0.8), (100.0, 1.0, 0.7))
    ... ]
    >>> draw_sweep(rows).axes[0].get_title()
    'best: C = 1, validation accuracy 0.800'
    """
    names = ("C", "train_accuracy", "validation_accuracy", "validation_loss")
    table = [
        [float(row[name] if isinstance(row, Mapping) else getattr(row, name)) for name in names]
        for row in rows
    ]
    if not table:
        raise ValueError("rows is empty: there is nothing to draw")
    C, train, validation, loss = np.array(sorted(table)).T
    best = int(validation.argmax())
    figure = new_figure(8.5, 3.4, window=path is None)
    left, right = figure.subplots(1, 2)
    marker = "o" if len(C) <= 60 else None
    for name, values, color, style in (
        ("training", train, _TRAIN, "-"), ("validation", validation, _VALIDATION, "--"),
    ):  # fmt: skip
        left.plot(C, values, color=color, linestyle=style, label=name, marker=marker, markersize=3)
    right.plot(C, loss, color=_VALIDATION, linestyle="--", marker=marker, markersize=3)
    left.set_title(
        f"best: C = {C[best]:.3g}, validation accuracy {validation[best]:.3f}", fontsize=10, pad=24
    )
    left.set_ylabel("accuracy")
    right.set_ylabel("mean validation loss (nats)")
    for axes in (left, right):
        axes.axvline(C[best], color=_BEST, linewidth=1)
        axes.set_xlim(C[0] / 1.8, C[-1] * 1.8)  # one C alone has no range of its own
        axes.set_xscale("log")
        axes.set_xlabel("C (to the right: a weaker penalty)")
        axes.grid(alpha=0.4)
        axes.spines[["top", "right"]].set_visible(False)
    legend_above(left, 2, 2, 9.0)
    return finish(figure, path)


def draw_descent(
    history: Mapping[str, Sequence[float]], path: str | os.PathLike[str] | None = None
) -> Figure:
    """The objective after each pass, and how far above the optimum it is by estimate.

    Parameters
    ----------
    history : mapping
        "passes", "objective" and "estimate", as `SoftmaxClassifier` has them in ``history_``.
    path : path, optional
        File to write (.png, .svg, .pdf).

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If the history is empty.

    Examples
    --------
    >>> from csoftmax.plot import draw_descent
    >>> history = {"passes": [1, 2, 3], "objective": [1.0, 0.6, 0.5], "estimate": [0.5, 0.1, 1e-3]}
    >>> [axes.get_ylabel() for axes in draw_descent(history).axes]
    ['objective (nats)', 'share above the optimum']
    """
    missing = [name for name in ("passes", "objective", "estimate") if not history.get(name)]
    if missing:
        raise ValueError(f"history has no {missing[0]}: there is nothing to draw")
    passes, objective, estimate = (
        np.asarray(history[name], np.float64) for name in ("passes", "objective", "estimate")
    )
    figure = new_figure(8.5, 3.4, window=path is None)
    left, right = figure.subplots(1, 2)
    marker = "o" if len(passes) <= 20 else None
    left.plot(passes, objective, color=_TRAIN, marker=marker, markersize=4)
    share = estimate / np.maximum(np.abs(objective), 1e-300)
    shown = np.isfinite(share) & (share > 0)
    right.plot(passes[shown], share[shown], color=_VALIDATION, marker=marker, markersize=4)
    if shown.any():
        right.set_yscale("log")
    left.set_ylabel("objective (nats)")
    right.set_ylabel("share above the optimum")
    for axes in (left, right):
        axes.set_xlabel("passes over the data")
        axes.grid(alpha=0.4)
        axes.spines[["top", "right"]].set_visible(False)
    return finish(figure, path)
