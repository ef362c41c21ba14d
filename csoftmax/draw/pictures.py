"""Pictures of data, of training and of results.

Matplotlib is imported by the first picture, not by this module. Files are written without a
display and without touching the user's backend. In a notebook a returned figure shows itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from csoftmax.draw.animator import Animator
from csoftmax.draw.figure import (
    class_labels,
    finish,
    hide_ticks,
    integer_ticks,
    legend_above,
    new_figure,
    show,
    text_that_fits,
)
from csoftmax.draw.solver import draw_descent, draw_sweep

if TYPE_CHECKING:
    import os

    from matplotlib.figure import Figure

    from csoftmax.results import History

__all__ = [
    "Animator",
    "draw_confusion",
    "draw_curves",
    "draw_descent",
    "draw_predictions",
    "draw_sweep",
    "draw_weights",
    "show_images",
]

# Colours that stay apart for colour-blind readers (Okabe and Ito); text always says the same.
_TRAIN, _VALIDATION, _RIGHT, _WRONG = "#0072B2", "#D55E00", "#00694C", "#C8102E"
_MAX_WEIGHT_IMAGES = 100
_MAX_COUNTED_CLASSES = 20  # above this a cell of the confusion matrix is too small for a number
_MAX_NAMED_CLASSES = 40


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
        curves = [("training", train, _TRAIN, "-")]
        if len(validation):
            curves.append((validation_name, validation, _VALIDATION, "--"))
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
                ha="center", color=_WRONG, bbox={"color": "white"},
            )  # fmt: skip
        axes.set_xlabel("epoch")
        axes.set_ylabel(ylabel)
        axes.grid(alpha=0.4)
        axes.spines[["top", "right"]].set_visible(False)
        integer_ticks(axes)
        legend_above(axes, len(curves), 2, 9.0)
    return finish(figure, path)


def show_images(
    imgs: Sequence[Any] | NDArray[Any],
    num_rows: int,
    num_cols: int,
    titles: Sequence[str] | None = None,
    scale: float = 1.5,
    *,
    path: str | os.PathLike[str] | None = None,
) -> NDArray[Any]:
    """Show images in a grid, row by row.

    Parameters
    ----------
    imgs : sequence of arrays
        Images of shape (height, width), (1, height, width) or (height, width, 3).
    num_rows, num_cols : int
        The grid; images beyond it are left out.
    titles : sequence of str, optional
        One per image.
    scale : float
        Width and height of a cell in inches.
    path : path, optional
        File to write (.png, .svg, .pdf).

    Returns
    -------
    ndarray of matplotlib.axes.Axes, shape (num_rows * num_cols,)

    References
    ----------
    Dive into Deep Learning, section "The Image Classification Dataset".

    Examples
    --------
    >>> import csoftmax as cs
    >>> from csoftmax.plot import show_images
    >>> train, test = cs.fashion_mnist_sample()
    >>> axes = show_images(test.X[:6], 2, 3, titles=[test.class_names[k] for k in test.y[:6]])
    >>> axes.shape
    (6,)
    """
    figure = new_figure(num_cols * scale, num_rows * scale, window=path is None)
    axes: NDArray[Any] = figure.subplots(num_rows, num_cols, squeeze=False).reshape(-1)
    text = text_that_fits([str(title) for title in titles or ()], scale * 0.9)
    for i, cell in enumerate(axes):
        if i >= len(imgs):
            cell.set_axis_off()
            continue
        image = np.asarray(imgs[i])
        cell.imshow(image[0] if image.ndim == 3 and len(image) == 1 else image, cmap="gray")
        hide_ticks(cell)
        if titles is not None and i < len(titles):
            cell.set_title(str(titles[i]), **text)
    finish(figure, path)
    if path is None:
        show(figure)
    return axes


def draw_predictions(
    images: ArrayLike,
    y: ArrayLike,
    predicted: ArrayLike,
    class_names: Sequence[str],
    path: str | os.PathLike[str] | None = None,
    n: int = 24,
) -> Figure:
    """Images with the true label above and the predicted label below, errors marked.

    Parameters
    ----------
    images : array, shape (n_samples, height, width) or (n_samples, 1, height, width)
        Grey images of any real dtype.
    y, predicted : integer arrays, shape (n_samples,)
        True and predicted labels, both counting the classes of `class_names`.
    class_names : sequence of str
        One name per class.
    path : path, optional
        File to write (.png, .svg, .pdf).
    n : int
        The first n images are drawn.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    TypeError
        If labels are no integers.
    ValueError
        If the data are not images, the lengths differ, or a label has no name.

    Examples
    --------
    >>> import csoftmax as cs
    >>> from csoftmax.plot import draw_predictions
    >>> train, test = cs.fashion_mnist_sample()
    >>> model = cs.SoftmaxRegression(784, 10, scale=test.scale, seed=0)
    >>> figure = draw_predictions(test.X, test.y, model.predict(test.X), test.class_names, n=6)
    >>> len(figure.axes)
    6
    """
    images, y, predicted = np.asarray(images), np.asarray(y), np.asarray(predicted)
    if images.ndim == 4 and images.shape[1] == 1:
        images = images[:, 0]
    if images.ndim != 3 or 0 in images.shape:
        raise ValueError(
            "images must have shape (n, height, width) or (n, 1, height, width), none of them 0, "
            f"got {images.shape}"
        )
    for name, labels in (("y", y), ("predicted", predicted)):
        if labels.shape != images.shape[:1]:
            raise ValueError(f"{name} has shape {labels.shape} but there are {len(images)} images")
        if labels.dtype.kind not in "iub":
            raise TypeError(f"{name} has dtype {labels.dtype}, expected integer labels")
        if labels.min() < 0 or labels.max() >= len(class_names):
            raise ValueError(
                f"{name} must hold labels 0..{len(class_names) - 1} (one per class name), "
                f"got {labels.min()}..{labels.max()}"
            )
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    n = min(n, len(images))
    names = class_labels(class_names, len(class_names))
    n_columns = min(n, 8)
    n_rows = math.ceil(n / n_columns)
    figure = new_figure(max(1.25 * n_columns, 4.0), 1.6 * n_rows + 0.35, window=path is None)
    text = text_that_fits([name + " ✗" for name in names], 1.2, 9.5)
    grid = figure.subplots(n_rows, n_columns, squeeze=False).reshape(-1)
    for i, axes in enumerate(grid):
        if i >= n:
            axes.remove()
            continue
        axes.imshow(images[i], cmap="gray")
        hide_ticks(axes)
        right = y[i] == predicted[i]
        color = _RIGHT if right else _WRONG
        axes.set_title(names[y[i]], color="0.25", pad=3, **text)
        axes.set_xlabel(f"{names[predicted[i]]} {'✓' if right else '✗'}", color=color, **text)
        axes.xaxis.labelpad = 3
        for spine in axes.spines.values():
            spine.set(color=color, linewidth=1.0 if right else 3.0)
    n_right = np.count_nonzero(y[:n] == predicted[:n])
    figure.suptitle(f"true label above, predicted below: {n_right} of {n} right", fontsize=11)
    return finish(figure, path)


def draw_weights(
    W: ArrayLike,
    image_shape: Sequence[int],
    class_names: Sequence[str],
    path: str | os.PathLike[str] | None = None,
) -> Figure:
    """The weights of each class as an image: red pixels speak for the class, blue against it.

    Parameters
    ----------
    W : array, shape (n_features, n_classes)
        Weights; n_features = height * width.
    image_shape : sequence of int
        (height, width) or (1, height, width).
    class_names : sequence of str
        One name per class. At most 100 classes are drawn.
    path : path, optional
        File to write (.png, .svg, .pdf).

    Returns
    -------
    matplotlib.figure.Figure
        All images share one colour scale, symmetric about 0.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> import csoftmax as cs
    >>> from csoftmax.plot import draw_weights
    >>> model = cs.SoftmaxRegression(784, 10, seed=0)
    >>> figure = draw_weights(model.W, (28, 28), model.class_names)
    >>> len(figure.axes)  # ten images and the colour scale
    11
    """
    W = np.asarray(W)
    shape = tuple(image_shape)[-2:]
    if len(shape) != 2 or math.prod(image_shape) != math.prod(shape):
        raise ValueError(
            f"image_shape must be (height, width) or (1, height, width), got {tuple(image_shape)}"
        )
    if W.ndim != 2 or 0 in W.shape or W.shape[0] != math.prod(shape):
        raise ValueError(
            f"W must have shape ({math.prod(shape)}, n_classes) for images of shape {shape}, "
            f"got {W.shape}"
        )
    names = class_labels(class_names, W.shape[1])
    n = min(len(names), _MAX_WEIGHT_IMAGES)
    n_columns = min(n, 5) if n <= 10 else min(10, math.ceil(math.sqrt(1.6 * n)))
    n_rows = math.ceil(n / n_columns)
    cell = 1.6 if n <= 25 else 1.0
    figure = new_figure(n_columns * cell + 1.2, n_rows * (cell + 0.15) + 0.2, window=path is None)
    grid = figure.subplots(n_rows, n_columns, squeeze=False).reshape(-1)
    finite = np.abs(W[np.isfinite(W)])
    limit = float(finite.max(initial=0.0)) or 1.0
    text = text_that_fits(names[:n], cell * 0.95)
    for k, axes in enumerate(grid):
        if k >= n:
            axes.remove()
            continue
        image = axes.imshow(W[:, k].reshape(shape), cmap="RdBu_r", vmin=-limit, vmax=limit)
        axes.set_title(names[k], pad=3, **text)
        hide_ticks(axes)
    bar = figure.colorbar(image, ax=grid[:n].tolist(), shrink=0.8, aspect=25)
    bar.set_label("weight of the pixel")
    if n < len(names):
        figure.suptitle(f"the first {n} of {len(names)} classes", fontsize=11)
    return finish(figure, path)


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
