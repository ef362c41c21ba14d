"""Pictures of images: as they are, as they were predicted, and the weights as images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from csoftmax.draw.figure import (
    RIGHT,
    WRONG,
    class_labels,
    draw_for_pyplot,
    finish,
    hide_ticks,
    new_figure,
    script_uses_pyplot,
    show,
    text_that_fits,
)

if TYPE_CHECKING:
    import os

    from matplotlib.figure import Figure

_MAX_WEIGHT_IMAGES = 100
# orange, white, blue: apart for every kind of colour vision; the page's weights have them too
_AGAINST_TO_FOR = ("#8c3e00", "#ee9e48", "#f8f8f6", "#68a0de", "#0c4696")


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
    if path is None and not script_uses_pyplot():
        draw_for_pyplot(lambda: show_images(imgs, num_rows, num_cols, titles, scale))
    figure = new_figure(
        num_cols * scale, num_rows * scale, window=path is None, current=path is None
    )
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
        color = RIGHT if right else WRONG
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
    """The weights of each class as an image: blue pixels speak for the class, orange against it.

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
    from matplotlib.colors import LinearSegmentedColormap

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
    colours = LinearSegmentedColormap.from_list("against to for", _AGAINST_TO_FOR)
    text = text_that_fits(names[:n], cell * 0.95)
    for k, axes in enumerate(grid):
        if k >= n:
            axes.remove()
            continue
        image = axes.imshow(W[:, k].reshape(shape), cmap=colours, vmin=-limit, vmax=limit)
        axes.set_title(names[k], pad=3, **text)
        hide_ticks(axes)
    bar = figure.colorbar(image, ax=grid[:n].tolist(), shrink=0.8, aspect=25)
    bar.set_label("weight of the pixel")
    if n < len(names):
        figure.suptitle(f"the first {n} of {len(names)} classes", fontsize=11)
    return finish(figure, path)
