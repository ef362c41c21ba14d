"""Where a picture goes, and how its text fits: the plumbing behind `csoftmax.draw`.

A figure is made without pyplot, so files need no display and the user's backend is not touched.
pyplot is used to open a window, where the user's backend has one, and where a script uses it: then
``plt.savefig`` saves the picture that was drawn last.
"""

from __future__ import annotations

import functools
import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from csoftmax.core.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours that stay apart for colour-blind readers (Okabe and Ito); text always says the same.
TRAIN, VALIDATION, RIGHT, WRONG = "#0072B2", "#D55E00", "#00694C", "#C8102E"
# Matplotlib's own font has no Chinese, Japanese or Korean: these follow it where installed.
_FALLBACK_FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei",
    "Droid Sans Fallback", "Microsoft YaHei", "SimHei", "PingFang SC", "Hiragino Sans GB",
)  # fmt: skip
_FILE_DPI = 150
_SCREEN_DPI = 72  # a notebook gets twice as many pixels, shown at this size
_MAX_NAME = 24  # characters of a class name that are drawn


def in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def when_the_cell_ends(call: Callable[[], object]) -> None:
    """Call once after the notebook's cell that runs now; nothing elsewhere."""
    if not in_notebook():
        return
    events = sys.modules["IPython"].get_ipython().events

    def once() -> None:
        events.unregister("post_execute", once)
        call()

    events.register("post_execute", once)


def may_open_window() -> bool:
    if in_notebook():
        return False
    if sys.platform.startswith("linux"):  # spares the import of pyplot on servers
        return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return True


def script_uses_pyplot() -> bool:
    """Does a script use pyplot, so that a picture should be pyplot's current figure?"""
    return "matplotlib.pyplot" in sys.modules and not in_notebook()


_unseen: Callable[[], object] | None = None


def draw_for_pyplot(draw: Callable[[], object]) -> None:
    """Keep what draws a picture that nobody can see now: `pyplot` calls the last one."""
    global _unseen
    _unseen = draw


def pyplot() -> Any:
    """Return matplotlib.pyplot; its current figure is the picture drawn last, also if unseen."""
    global _unseen
    from matplotlib import pyplot

    draw, _unseen = _unseen, None
    if draw is not None and script_uses_pyplot():
        draw()
    return pyplot


def new_figure(width: float, height: float, *, window: bool, current: bool = False) -> Figure:
    """An empty figure of width x height inches, in a window if wanted and possible.

    With `current`, it is the current figure of a script that uses pyplot.
    """
    in_use = current and script_uses_pyplot()
    if window and (in_use or may_open_window()):
        from matplotlib import pyplot

        figure = pyplot.figure(figsize=(width, height), layout="constrained")
        if in_use or getattr(figure.canvas, "required_interactive_framework", None) is not None:
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


def write(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write the figure in the format that the file's name ends in, whole or not at all."""
    content = _encode(figure, Path(path).suffix[1:].lower() or "png", _FILE_DPI)
    write_atomically(path, lambda file: file.write(content))


def show(figure: Figure, handle: Any = None) -> Any:
    """Show the figure now, in the place of `handle` if there is one; returns the handle."""
    if in_notebook():
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


def finish(figure: Figure, path: str | os.PathLike[str] | None) -> Figure:
    # Notebooks look for this name on whatever a cell returns.
    figure._repr_png_ = functools.partial(_notebook_png, figure)  # type: ignore[attr-defined]
    if path is not None:
        write(figure, path)
    return figure


@functools.cache
def _font_families() -> list[str]:
    from matplotlib import font_manager, rcParams

    installed = {font.name for font in font_manager.fontManager.ttflist}
    return [*rcParams["font.family"], *(name for name in _FALLBACK_FONTS if name in installed)]


def text_that_fits(names: Sequence[str], inches: float, largest: float = 10.0) -> dict[str, Any]:
    """Text properties with which the longest of `names` fits into a width in inches."""
    longest = max((len(line) for name in names for line in name.split("\n")), default=1)
    size = min(max(inches * 72 / (0.58 * max(longest, 1)), 5.0), largest)
    # parse_math=False: a class may be called "$5 to $10".
    return {"fontsize": size, "parse_math": False, "fontfamily": _font_families()}


def class_labels(class_names: Sequence[str], n_classes: int) -> list[str]:
    if len(class_names) != n_classes:
        raise ValueError(
            f"class_names has {len(class_names)} names but there are {n_classes} classes"
        )
    names = (" ".join(str(name).split()) for name in class_names)
    return [name if len(name) <= _MAX_NAME else name[: _MAX_NAME - 1] + "…" for name in names]


def integer_ticks(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def legend_above(axes: Axes, n_entries: int, n_columns: int, fontsize: float) -> None:
    if n_entries:  # outside the axes it cannot hide a curve
        axes.legend(
            loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=n_columns, fontsize=fontsize,
            frameon=False, borderaxespad=0.2, handlelength=1.8, columnspacing=1.2,
        )  # fmt: skip


def hide_ticks(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
