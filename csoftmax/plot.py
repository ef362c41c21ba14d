"""Pictures of data, of training and of results.

Matplotlib is imported by the first picture, not by this module. Files are written without a
display and without touching the user's backend; pyplot is used only to open a window, where the
user's backend has one. In a notebook a returned figure shows itself.
"""

from __future__ import annotations

import functools
import io
import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from csoftmax.training import History

    PathLike = str | os.PathLike[str]

__all__ = [
    "Animator",
    "draw_confusion",
    "draw_curves",
    "draw_predictions",
    "draw_weights",
    "show_images",
]

# Colours that stay apart for colour-blind readers (Okabe and Ito); text always says the same.
_TRAIN, _VALIDATION, _RIGHT, _WRONG = "#0072B2", "#D55E00", "#00694C", "#C8102E"
# Matplotlib's own font has no Chinese, Japanese or Korean: these follow it where installed.
_FALLBACK_FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei",
    "Droid Sans Fallback", "Microsoft YaHei", "SimHei", "PingFang SC", "Hiragino Sans GB",
)  # fmt: skip
_FILE_DPI = 150
_SCREEN_DPI = 72  # a notebook gets twice as many pixels, shown at this size
_REDRAW_SECONDS = 0.5
_MAX_NAME = 24  # characters of a class name that are drawn
_MAX_WEIGHT_IMAGES = 100
_MAX_COUNTED_CLASSES = 20  # above this a cell of the confusion matrix is too small for a number
_MAX_NAMED_CLASSES = 40


# --- where a picture goes: a file, a notebook, a window ------------------------------------------


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def _may_open_window() -> bool:
    if _in_notebook():
        return False
    if sys.platform.startswith("linux"):  # spares the import of pyplot on servers
        return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return True


def _new_figure(width: float, height: float, *, window: bool) -> Figure:
    """An empty figure of width x height inches, in a window if wanted and possible."""
    if window and _may_open_window():
        from matplotlib import pyplot

        figure = pyplot.figure(figsize=(width, height), layout="constrained")
        if getattr(figure.canvas, "required_interactive_framework", None) is not None:
            return figure
        pyplot.close(figure)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _notebook_png(figure: Figure) -> tuple[bytes, dict[str, int]]:
    """The picture at double resolution and the size at which to show it."""
    width, height = (round(inches * _SCREEN_DPI) for inches in figure.get_size_inches())
    return _encode(figure, "png", 2 * _SCREEN_DPI), {"width": width, "height": height}


def _encode(figure: Figure, file_format: str, dpi: int) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=file_format, dpi=dpi)
    return buffer.getvalue()


def _write(figure: Figure, path: PathLike) -> None:
    """Replace the file at once, so that a reader never sees half a picture."""
    target = Path(path)
    content = _encode(figure, target.suffix[1:].lower() or "png", _FILE_DPI)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _show(figure: Figure, handle: Any = None) -> Any:
    """Show the figure now, in the place of `handle` if there is one; returns the handle."""
    if _in_notebook():
        from IPython.display import Image, display

        png, size = _notebook_png(figure)
        image = Image(data=png, format="png", **size)
        if handle is None:
            return display(image, display_id=True)
        handle.update(image)
    elif figure.canvas.manager is not None:
        from matplotlib import pyplot

        pyplot.pause(0.001)
    return handle


def _finish(figure: Figure, path: PathLike | None) -> Figure:
    # Notebooks look for this name on whatever a cell returns.
    figure._repr_png_ = functools.partial(_notebook_png, figure)  # type: ignore[attr-defined]
    if path is not None:
        _write(figure, path)
    return figure


# --- small helpers -------------------------------------------------------------------------------


@functools.cache
def _font_families() -> list[str]:
    from matplotlib import font_manager, rcParams

    installed = {font.name for font in font_manager.fontManager.ttflist}
    return [*rcParams["font.family"], *(name for name in _FALLBACK_FONTS if name in installed)]


def _label(names: Sequence[str], inches: float, largest: float = 10.0) -> dict[str, Any]:
    """Text properties with which the longest of `names` fits into a width in inches."""
    longest = max((len(line) for name in names for line in name.split("\n")), default=1)
    size = min(max(inches * 72 / (0.58 * max(longest, 1)), 5.0), largest)
    # parse_math=False: a class may be called "$5 to $10".
    return {"fontsize": size, "parse_math": False, "fontfamily": _font_families()}


def _names(class_names: Sequence[str], n_classes: int) -> list[str]:
    if len(class_names) != n_classes:
        raise ValueError(f"class_names has {len(class_names)} names but there are {n_classes} classes")
    names = (" ".join(str(name).split()) for name in class_names)
    return [name if len(name) <= _MAX_NAME else name[: _MAX_NAME - 1] + "…" for name in names]


def _integer_ticks(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _legend_above(axes: Axes, n_entries: int, n_columns: int, fontsize: float) -> None:
    if n_entries:  # outside the axes it cannot hide a curve
        axes.legend(
            loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=n_columns, fontsize=fontsize,
            frameon=False, borderaxespad=0.2, handlelength=1.8, columnspacing=1.2,
        )  # fmt: skip


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])


# --- training ------------------------------------------------------------------------------------


class Animator:
    """Curves that grow while a model trains.

    In a notebook the picture is updated in place; elsewhere it is written to `path` if there is
    one, shown in a window if the user's Matplotlib has one, and not drawn at all otherwise.
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
        path: PathLike | None = None,
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
        return _finish(_new_figure(*self._figsize, window=True), None)

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
        if self.path is not None or _in_notebook() or _may_open_window():
            self._draw()
            if self.path is not None:
                _write(self.fig, self.path)
            self._handle = _show(self.fig, self._handle)
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
            _integer_ticks(axes)
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
        _legend_above(axes, len(shown), min(columns, max(len(shown), 1)), 8.0)


def draw_curves(history: History, path: PathLike | None = None) -> Figure:
    """Loss and accuracy of each epoch, training beside validation.

    Parameters
    ----------
    history : History
        What `train` returned. Losses are means in nats.
    path : path, optional
        File to write (.png, .svg, .pdf).

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
    figure = _new_figure(8.5, 3.4, window=path is None)
    panels = (
        ("mean loss (nats)", history.train_loss, history.validation_loss),
        ("accuracy", history.train_accuracy, history.validation_accuracy),
    )
    for axes, (ylabel, train, validation) in zip(figure.subplots(1, 2), panels, strict=True):
        curves = [("training", train, _TRAIN, "-")]
        if len(validation):
            curves.append(("validation", validation, _VALIDATION, "--"))
        for name, values, color, style in curves:
            axes.plot(
                range(1, n_epochs + 1), values, color=color, linestyle=style,
                label=f"{name} {values[-1]:.3f}", marker="o" if n_epochs <= 20 else None,
                markersize=4,
            )  # fmt: skip
        if n_epochs == 1:
            axes.set_xlim(0.5, 1.5)
        if not all(np.isfinite(values).all() for _, values, _, _ in curves):
            axes.text(
                0.5, 0.5, "not finite: training diverged", transform=axes.transAxes,
                ha="center", color=_WRONG,
            )  # fmt: skip
        axes.set_xlabel("epoch")
        axes.set_ylabel(ylabel)
        axes.grid(alpha=0.4)
        axes.spines[["top", "right"]].set_visible(False)
        _integer_ticks(axes)
        _legend_above(axes, len(curves), 2, 9.0)
    return _finish(figure, path)


# --- images --------------------------------------------------------------------------------------


def show_images(
    imgs: Sequence[Any] | NDArray[Any],
    num_rows: int,
    num_cols: int,
    titles: Sequence[str] | None = None,
    scale: float = 1.5,
    *,
    path: PathLike | None = None,
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
    figure = _new_figure(num_cols * scale, num_rows * scale, window=path is None)
    axes: NDArray[Any] = figure.subplots(num_rows, num_cols, squeeze=False).reshape(-1)
    text = _label([str(title) for title in titles or ()], scale * 0.9)
    for i, cell in enumerate(axes):
        if i >= len(imgs):
            cell.set_axis_off()
            continue
        image = np.asarray(imgs[i])
        cell.imshow(image[0] if image.ndim == 3 and len(image) == 1 else image, cmap="gray")
        _bare(cell)
        if titles is not None and i < len(titles):
            cell.set_title(str(titles[i]), **text)
    _finish(figure, path)
    if path is None:
        _show(figure)
    return axes


def draw_predictions(
    images: ArrayLike,
    y: ArrayLike,
    predicted: ArrayLike,
    class_names: Sequence[str],
    path: PathLike | None = None,
    n: int = 24,
) -> Figure:
    """Images with the true label above and the predicted label below, errors marked.

    Parameters
    ----------
    images : array, shape (n_samples, height, width) or (n_samples, 1, height, width)
        Grey images of any real dtype.
    y, predicted : integer arrays, shape (n_samples,)
        True and predicted labels.
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
        if labels.min() < 0 or labels.max() >= len(class_names):
            raise ValueError(
                f"{name} must hold labels 0..{len(class_names) - 1} (one per class name), "
                f"got {labels.min()}..{labels.max()}"
            )
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    n = min(n, len(images))
    names = _names(class_names, len(class_names))
    n_columns = min(n, 8)
    n_rows = math.ceil(n / n_columns)
    figure = _new_figure(max(1.25 * n_columns, 4.0), 1.6 * n_rows + 0.35, window=path is None)
    text = _label([name + " ✗" for name in names], 1.2, 9.5)
    grid = figure.subplots(n_rows, n_columns, squeeze=False).reshape(-1)
    for i, axes in enumerate(grid):
        if i >= n:
            axes.remove()
            continue
        axes.imshow(images[i], cmap="gray")
        _bare(axes)
        right = y[i] == predicted[i]
        color = _RIGHT if right else _WRONG
        axes.set_title(names[y[i]], color="0.25", pad=3, **text)
        axes.set_xlabel(f"{names[predicted[i]]} {'✓' if right else '✗'}", color=color, **text)
        axes.xaxis.labelpad = 3
        for spine in axes.spines.values():
            spine.set(color=color, linewidth=1.0 if right else 3.0)
    n_right = np.count_nonzero(y[:n] == predicted[:n])
    figure.suptitle(f"true label above, predicted below: {n_right} of {n} right", fontsize=11)
    return _finish(figure, path)


def draw_weights(
    W: ArrayLike,
    image_shape: Sequence[int],
    class_names: Sequence[str],
    path: PathLike | None = None,
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
    names = _names(class_names, W.shape[1])
    n = min(len(names), _MAX_WEIGHT_IMAGES)
    n_columns = min(n, 5) if n <= 10 else min(10, math.ceil(math.sqrt(1.6 * n)))
    n_rows = math.ceil(n / n_columns)
    cell = 1.6 if n <= 25 else 1.0
    figure = _new_figure(n_columns * cell + 1.2, n_rows * (cell + 0.15) + 0.2, window=path is None)
    grid = figure.subplots(n_rows, n_columns, squeeze=False).reshape(-1)
    finite = np.abs(W[np.isfinite(W)])
    limit = float(finite.max(initial=0.0)) or 1.0
    text = _label(names[:n], cell * 0.95)
    for k, axes in enumerate(grid):
        if k >= n:
            axes.remove()
            continue
        image = axes.imshow(W[:, k].reshape(shape), cmap="RdBu_r", vmin=-limit, vmax=limit)
        axes.set_title(names[k], pad=3, **text)
        _bare(axes)
    bar = figure.colorbar(image, ax=grid[:n].tolist(), shrink=0.8, aspect=25)
    bar.set_label("weight of the pixel")
    if n < len(names):
        figure.suptitle(f"the first {n} of {len(names)} classes", fontsize=11)
    return _finish(figure, path)


# --- results -------------------------------------------------------------------------------------


def draw_confusion(
    confusion: ArrayLike, class_names: Sequence[str], path: PathLike | None = None
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
    >>> draw_confusion([[8, 2], [1, 9]], ["cat", "dog"]).axes[0].get_title()
    'accuracy 0.850 (17 of 20)'
    """
    counts = np.asarray(confusion)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.size == 0:
        raise ValueError(f"confusion must have shape (n_classes, n_classes), got {counts.shape}")
    if counts.dtype.kind not in "iu" or counts.min() < 0:
        raise ValueError("confusion must hold integer counts, none below 0")
    n = len(counts)
    names = _names(class_names, n)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 7.5 if n > _MAX_COUNTED_CLASSES else max(2.2, 0.52 * n)
    figure = _new_figure(side + 2.0, side + 1.2, window=path is None)
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0, interpolation="nearest")
    if n <= _MAX_COUNTED_CLASSES:
        text = _label([f"{counts.max():,}"], 0.85 * side / n, 9.5)
        for row, column in np.ndindex(n, n):
            shade = "white" if shares[row, column] > 0.5 else "0.1"
            color = shade if counts[row, column] else "0.7"
            label = f"{counts[row, column]:,}"
            axes.text(column, row, label, ha="center", va="center", color=color, **text)
    if n <= _MAX_NAMED_CLASSES:
        text = _label([], 1.0, 9.5 if n <= _MAX_COUNTED_CLASSES else 7.0)
        axes.set_xticks(range(n), names, rotation=45, ha="right", rotation_mode="anchor", **text)
        axes.set_yticks(range(n), names, **text)
    index = "" if n <= _MAX_NAMED_CLASSES else " (index)"
    total, right = int(counts.sum()), int(np.trace(counts))
    axes.set_title(f"accuracy {right / max(total, 1):.3f} ({right:,} of {total:,})", fontsize=11)
    axes.set_xlabel(f"predicted class{index}")
    axes.set_ylabel(f"true class{index}")
    figure.colorbar(image, shrink=0.8, aspect=25).set_label("share of the true class")
    return _finish(figure, path)
