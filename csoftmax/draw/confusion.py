"""The picture of a confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from csoftmax.draw.figure import class_labels, finish, new_figure, text_that_fits

if TYPE_CHECKING:
    import os

    from matplotlib.figure import Figure

_MAX_COUNTED_CLASSES = 20  # above this a cell is too small for a number
_MAX_NAMED_CLASSES = 40


def draw_confusion(
    confusion: ArrayLike, class_names: Sequence[str], path: str | os.PathLike[str] | None = None
) -> Figure:
    """The confusion matrix: counts as numbers, shares of the true class as shades.

    Parameters
    ----------
    confusion : integer array, shape (n_classes, n_classes)
        Counts; rows are true classes, columns predicted ones.
    class_names : sequence of str
        One name per class. Above 20 classes the counts are left out, above 40 the names.
    path : path, optional
        File to write (.png, .svg, .pdf).

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If `confusion` is not a square of counts, or the number of names differs.

    Examples
    --------
    >>> from csoftmax.plot import draw_confusion
    >>> draw_confusion([[8, 2], [1, 9]], ["cat", "dog"]).get_suptitle()
    'accuracy 0.850 (17 of 20)'
    """
    counts = np.asarray(confusion)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.size == 0:
        raise ValueError(f"confusion must have shape (n_classes, n_classes), got {counts.shape}")
    if counts.dtype.kind not in "iu" or counts.min() < 0:
        raise ValueError("confusion must hold integer counts, none below 0")
    n = len(counts)
    names = class_labels(class_names, n)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 7.5 if n > _MAX_COUNTED_CLASSES else max(2.6, 0.52 * n)
    size = 9.5 if n <= _MAX_COUNTED_CLASSES else 7.0
    longest = max(map(len, names)) if n <= _MAX_NAMED_CLASSES else 3
    room = longest * 0.58 * size / 72  # inches that the names take
    figure = new_figure(side + room + 1.8, side + 0.7 * room + 1.0, window=path is None)
    axes = figure.subplots()
    # The figure's size makes the cells square to a few percent; a fixed aspect would push the
    # labels over the edge.
    image = axes.imshow(
        shares, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto", interpolation="nearest"
    )
    if n <= _MAX_COUNTED_CLASSES:
        text = text_that_fits([f"{counts.max():,}"], 0.85 * side / n, 9.5)
        for row, column in np.ndindex(n, n):
            shade = "white" if shares[row, column] > 0.5 else "0.1"
            color = shade if counts[row, column] else "0.7"
            label = f"{counts[row, column]:,}"
            axes.text(column, row, label, ha="center", va="center", color=color, **text)
    if n <= _MAX_NAMED_CLASSES:
        text = text_that_fits([], 1.0, size)
        axes.set_xticks(range(n), names, rotation=45, ha="right", rotation_mode="anchor", **text)
        axes.set_yticks(range(n), names, **text)
    index = "" if n <= _MAX_NAMED_CLASSES else " (index)"
    total, right = int(counts.sum()), int(np.trace(counts))
    figure.suptitle(f"accuracy {right / max(total, 1):.3f} ({right:,} of {total:,})", fontsize=11)
    axes.set_xlabel(f"predicted class{index}")
    axes.set_ylabel(f"true class{index}")
    bar = figure.colorbar(image, shrink=0.9, aspect=25)
    bar.set_label("share of the true class")
    return finish(figure, path)
