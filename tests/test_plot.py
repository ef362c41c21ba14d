"""Where pictures go: files, notebooks, windows."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plot_cases import CONFUSION, NAMES, assert_nothing_cut_off, decode, history

from csoftmax import plot
from csoftmax.draw.figure import may_open_window


@pytest.fixture
def images(fashion_mnist: Any) -> Any:
    return fashion_mnist[1]


def drawings(images: Any) -> dict[str, Callable[[Any], Any]]:
    y = images.y[:30]
    wrong = np.where(np.arange(30) % 5 == 0, (y + 1) % 10, y)
    W = np.random.default_rng(0).normal(size=(784, 10))
    return {
        "curves": lambda path: plot.draw_curves(history(10), path),
        "predictions": lambda path: plot.draw_predictions(
            images.X[:30], y, wrong, images.class_names, path
        ),
        "weights": lambda path: plot.draw_weights(W, (28, 28), images.class_names, path),
        "confusion": lambda path: plot.draw_confusion(CONFUSION, NAMES, path),
    }


# --- where pictures go ---------------------------------------------------------------------------


def test_importing_plot_does_not_import_matplotlib() -> None:
    code = "import sys, csoftmax.plot; print(any('matplotlib' in name for name in sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "False\n"


def test_files_leave_pyplot_and_the_backend_alone(tmp_path: Path) -> None:
    code = (
        "import sys, matplotlib; matplotlib.use('svg')\n"
        "from csoftmax import plot\n"
        "plot.draw_confusion([[1, 0], [0, 1]], ['a', 'b'], sys.argv[1])\n"
        "print('matplotlib.pyplot' in sys.modules, matplotlib.get_backend())"
    )
    path = tmp_path / "c.png"
    environment = {k: v for k, v in os.environ.items() if "DISPLAY" not in k}
    result = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    assert result.stdout == "False svg\n"
    decode(path)


@pytest.mark.parametrize("name", ["curves", "predictions", "weights", "confusion"])
def test_written_pictures_decode_and_nothing_is_cut_off(
    name: str, images: Any, tmp_path: Path
) -> None:
    path = tmp_path / f"{name}.png"
    figure = drawings(images)[name](path)
    pixels = decode(path)
    width, height = figure.get_size_inches()
    assert pixels.shape[:2] == pytest.approx((height * 150, width * 150), abs=1)
    assert_nothing_cut_off(figure)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("suffix", "start"), [("svg", b"<?xml"), ("pdf", b"%PDF"), ("PNG", b"\x89PNG")]
)
def test_the_suffix_chooses_the_format(suffix: str, start: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"picture.{suffix}"
    plot.draw_curves(history(2), path)
    assert path.read_bytes().startswith(start)


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "picture.xyz"
    path.write_text("old")
    with pytest.raises(ValueError, match="xyz"):
        plot.draw_curves(history(2), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(FileNotFoundError):
        plot.draw_curves(history(2), tmp_path / "no folder" / "picture.png")


def test_a_returned_figure_shows_itself_in_a_notebook() -> None:
    figure: Any = plot.draw_confusion(CONFUSION, NAMES)
    png, size = figure._repr_png_()
    assert decode(io.BytesIO(png)).shape[1] == pytest.approx(2 * size["width"], abs=2)


class Handle:
    def __init__(self, images: list[Any]) -> None:
        self.images = images

    def update(self, image: Any) -> None:
        self.images.append(image)


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The pictures that a notebook shows; a stand-in for IPython with a kernel."""
    shown: list[Any] = []

    def display(image: Any, display_id: bool) -> Handle:
        assert display_id
        shown.append(image)
        return Handle(shown)

    ipython: Any = types.ModuleType("IPython")
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    ipython.display = types.ModuleType("IPython.display")
    ipython.display.display = display
    ipython.display.Image = lambda data, **options: (data, options)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", ipython.display)
    return shown


def test_the_animator_updates_one_picture_of_a_notebook(notebook: list[Any]) -> None:
    animator = plot.Animator(xlabel="epoch", xlim=[1, 3], legend=["loss"])
    for epoch in (1, 2, 3):
        animator.add(epoch, 1 / epoch)
    assert len(notebook) == 3
    data, options = notebook[-1]
    assert (options["width"], options["height"]) == (252, 180)
    decode(io.BytesIO(data))
    assert notebook[0][0] != notebook[-1][0]


def test_show_images_shows_in_a_notebook_unless_written(
    notebook: list[Any], images: Any, tmp_path: Path
) -> None:
    plot.show_images(images.X[:4], 2, 2)
    assert len(notebook) == 1
    plot.show_images(images.X[:4], 2, 2, path=tmp_path / "images.png")
    assert len(notebook) == 1


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that windows would show; pyplot's headless canvas stands in for a toolkit's."""
    from matplotlib import pyplot

    shown: list[Any] = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(pyplot, "pause", lambda seconds: shown.append(pyplot.gcf()))
    pyplot.switch_backend("agg")
    yield shown
    pyplot.close("all")


def test_an_interactive_backend_gets_windows(
    windows: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib import pyplot
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    monkeypatch.setattr(FigureCanvasAgg, "required_interactive_framework", "toolkit")
    animator = plot.Animator()
    animator.add(1, 0.5)
    animator.add(2, 0.4)
    assert windows == [animator.fig, animator.fig]
    axes = plot.show_images([np.eye(3)], 1, 1)
    assert windows[2] is axes[0].figure
    assert pyplot.fignum_exists(plot.draw_curves(history(2)).number)  # type: ignore[attr-defined]


def test_a_backend_without_windows_leaves_no_figures_behind(windows: list[Any]) -> None:
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    plot.draw_curves(history(2))
    assert windows == []
    assert pyplot.get_fignums() == before


def test_other_systems_are_asked_for_a_window_by_pyplot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert may_open_window()
