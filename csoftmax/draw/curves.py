"""Pictures of a training: its epochs, accuracy against C, and the way down to the optimum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from csoftmax.draw.figure import (
    RIGHT,
    TRAIN,
    VALIDATION,
    WRONG,
    finish,
    integer_ticks,
    legend_above,
    new_figure,
)

if TYPE_CHECKING:
    import os

    from matplotlib.figure import Figure

    from csoftmax.results import History


def draw_curves(
    history: History,
    path: str | os.PathLike[str] | None = None,
    *,
    validation_name: str = "validation",
) -> Figure:
    """Loss and accuracy of each epoch, training beside validation.

    Parameters
    ----------
    history : History
        What `train` returned. Losses are means in nats.
    path : path, optional
        File to write (.png, .svg, .pdf).
    validation_name : str
        What the legend calls the validation data.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If the history has no epoch.

    Examples
    --------
    >>> import csoftmax as cs
    >>> from csoftmax.plot import draw_curves
    >>> train, test = cs.fashion_mnist_sample()
    >>> model = cs.SoftmaxRegression(784, 10, seed=0)
    >>> history = cs.train(model, train, validation=test, epochs=2, progress=False)
    >>> [axes.get_ylabel() for axes in draw_curves(history).axes]
    ['mean loss (nats)', 'accuracy']
    """
    n_epochs = len(history.train_loss)
    if n_epochs == 0:
        raise ValueError("history has no epochs: there is nothing to draw")
    figure = new_figure(8.5, 3.4, window=path is None)
    panels = (
        ("mean loss (nats)", history.train_loss, history.validation_loss),
        ("accuracy", history.train_accuracy, history.validation_accuracy),
    )
    for axes, (ylabel, train, validation) in zip(figure.subplots(1, 2), panels, strict=True):
        curves = [("training", train, TRAIN, "-")]
        if len(validation):
            curves.append((validation_name, validation, VALIDATION, "--"))
        for name, values, color, style in curves:
            axes.plot(
                range(1, n_epochs + 1), values, color=color, linestyle=style,
                label=f"{name} {values[-1]:.3f}", marker="o" if n_epochs <= 20 else None,
                markersize=4,
            )  # fmt: skip
        margin = 0.04 * n_epochs  # epochs without a finite value keep their place
        axes.set_xlim(1 - margin, n_epochs + margin)
        if not all(np.isfinite(values).all() for _, values, _, _ in curves):
            axes.text(
                0.5, 0.5, "not finite: training diverged", transform=axes.transAxes,
                ha="center", color=WRONG, bbox={"color": "white"},
            )  # fmt: skip
        axes.set_xlabel("epoch")
        axes.set_ylabel(ylabel)
        axes.grid(alpha=0.4)
        axes.spines[["top", "right"]].set_visible(False)
        integer_ticks(axes)
        legend_above(axes, len(curves), 2, 9.0)
    return finish(figure, path)


def draw_sweep(rows: Sequence[Any], path: str | os.PathLike[str] | None = None) -> Figure:
    """Accuracy and loss against C; the C of the best validation accuracy is marked.

    Parameters
    ----------
    rows : sequence
        For each C an object with the attributes ``C``, ``train_accuracy``, ``validation_accuracy``
        and ``validation_loss`` (mean, in nats), or a mapping with these keys. Where they have
        ``n_features`` too, and it is not the same for all, it gets a picture of its own.
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

    def read(row: Any, name: str, *default: float) -> float:
        if not isinstance(row, Mapping):
            return float(getattr(row, name, *default))
        return default[0] if default and name not in row else float(row[name])

    table = [[*(read(row, name) for name in names), read(row, "n_features", 0.0)] for row in rows]
    if not table:
        raise ValueError("rows is empty: there is nothing to draw")
    C, train, validation, loss, n_features = np.array(sorted(table)).T
    best, selects = int(validation.argmax()), len(set(n_features)) > 1
    figure = new_figure(12.0 if selects else 8.5, 3.4, window=path is None)
    left, right, *others = figure.subplots(1, 3 if selects else 2)
    marker = "o" if len(C) <= 60 else None
    for name, values, color, style in (
        ("training", train, TRAIN, "-"), ("validation", validation, VALIDATION, "--"),
    ):  # fmt: skip
        left.plot(C, values, color=color, linestyle=style, label=name, marker=marker, markersize=3)
    right.plot(C, loss, color=VALIDATION, linestyle="--", marker=marker, markersize=3)
    left.set_title(
        f"best: C = {C[best]:.3g}, validation accuracy {validation[best]:.3f}", fontsize=10, pad=24
    )
    left.set_ylabel("accuracy")
    right.set_ylabel("mean validation loss (nats)")
    for axes in others:
        axes.plot(C, n_features, color=TRAIN, marker=marker, markersize=3)
        axes.set_ylabel("features that have a weight")
        axes.set_yscale("symlog", linthresh=1.0)
        axes.set_ylim(bottom=0)
    for axes in (left, right, *others):
        axes.axvline(C[best], color=RIGHT, linewidth=1)
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
        Without "passes", which L1 does not count, iterations are shown.
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
    iterations = range(len(history.get("objective", ())))
    history = {"passes": iterations, **history}
    counts = "iterations" if history["passes"] is iterations else "passes over the data"
    missing = [name for name in ("passes", "objective", "estimate") if not history.get(name)]
    if missing:
        raise ValueError(f"history has no {missing[0]}: there is nothing to draw")
    passes, objective, estimate = (
        np.asarray(history[name], np.float64) for name in ("passes", "objective", "estimate")
    )
    figure = new_figure(8.5, 3.4, window=path is None)
    left, right = figure.subplots(1, 2)
    marker = "o" if len(passes) <= 20 else None
    left.plot(passes, objective, color=TRAIN, marker=marker, markersize=4)
    share = estimate / np.maximum(np.abs(objective), 1e-300)
    shown = np.isfinite(share) & (share > 0)
    right.plot(passes[shown], share[shown], color=VALIDATION, marker=marker, markersize=4)
    if shown.any():
        right.set_yscale("log")
    left.set_ylabel("objective (nats)")
    right.set_ylabel("share above the optimum")
    for axes in (left, right):
        axes.set_xlabel(counts)
        axes.grid(alpha=0.4)
        axes.spines[["top", "right"]].set_visible(False)
    return finish(figure, path)
