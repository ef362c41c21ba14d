"""Pictures: what is in them, where they go, and what they refuse."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from csoftmax import History, plot
from csoftmax.draw import animator as live
from csoftmax.draw.figure import may_open_window

NAMES = ("cat", "dog", "bird")
CONFUSION = np.array([[8, 1, 0], [2, 7, 1], [0, 0, 9]])


def history(n_epochs: int, validation: bool = True) -> History:
    curve = [1.0 / (epoch + 1) for epoch in range(n_epochs)]
    other = [value + 0.1 for value in curve] if validation else []
    return History(*(list(values) for values in (curve, curve, other, other, curve, curve)))


def decode(source: Any) -> np.ndarray:
    """The picture's pixels (height, width, 3), which must show something."""
    pixels = matplotlib.image.imread(source)[..., :3]
    assert pixels.shape[0] > 100
    assert pixels.shape[1] > 100
    assert len(np.unique(pixels.astype(np.float32) @ np.array([1, 2, 4], np.float32))) > 10
    return pixels


def assert_nothing_cut_off(figure: Any) -> None:
    """All that is drawn, text above all, lies within the figure."""
    figure.canvas.draw()
    box = figure.get_tightbbox()  # inches
    width, height = figure.get_size_inches()
    assert -0.02 <= box.x0 < box.x1 <= width + 0.02
    assert -0.02 <= box.y0 < box.y1 <= height + 0.02


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

    plot.draw_curves(history(2))
    animator = plot.Animator()
    animator.add(1, 0.5)
    assert windows == []
    assert pyplot.get_fignums() == []


def test_other_systems_are_asked_for_a_window_by_pyplot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert may_open_window()


# --- Animator ------------------------------------------------------------------------------------


@pytest.fixture
def headless(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("headless")
def test_the_animator_is_silent_without_display_and_path() -> None:
    animator = plot.Animator(legend=["a", "b"])
    animator.add(1, (0.1, 0.2))
    animator.add([2, 3], [None, 0.3])
    assert animator.X == [[1], [1, 3]]
    assert animator.Y == [[0.1], [0.2, 0.3]]
    assert "fig" not in vars(animator)  # nothing was drawn


@pytest.mark.usefixtures("headless")
def test_whole_epochs_are_written_at_once_and_points_between_seldom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    writes: list[float] = []
    monkeypatch.setattr(live.time, "monotonic", lambda: clock[0])
    real_write = live.write

    def write(figure: Any, path: Any) -> None:
        writes.append(animator.X[0][-1])
        real_write(figure, path)

    monkeypatch.setattr(live, "write", write)
    animator = plot.Animator(path=tmp_path / "curve.png")
    for step in range(1, 21):
        clock[0] += 0.01
        animator.add(step / 10, 1 / step)
    assert writes == [0.1, 1.0, 2.0]
    clock[0] += 1
    animator.add(2.1, 0.04)
    animator.add(2.2, 0.03)
    assert writes == [0.1, 1.0, 2.0, 2.1]
    animator.flush()
    assert writes[-1] == 2.2
    n_writes = len(writes)
    animator.flush()
    assert len(writes) == n_writes
    decode(tmp_path / "curve.png")


@pytest.mark.usefixtures("headless")
def test_the_animator_draws_as_the_book_has_it(tmp_path: Path) -> None:
    animator = plot.Animator(
        xlabel="epoch", ylabel="value", xlim=[1, 10], ylim=[0.3, 0.9],
        legend=["train loss", "train acc", "test acc"], path=tmp_path / "curve.png",
    )  # fmt: skip
    for epoch in range(1, 11):
        animator.add(epoch, (0.9 - epoch / 20, 0.5 + epoch / 30, None if epoch == 3 else 0.6))
    axes = animator.axes[0]
    assert [len(line.get_xdata()) for line in axes.lines] == [10, 10, 9]
    assert [line.get_linestyle() for line in axes.lines] == ["-", "--", "-."]
    assert (axes.get_xlim(), axes.get_ylim()) == ((1, 10), (0.3, 0.9))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "value")
    assert all(float(tick).is_integer() for tick in axes.get_xticks())
    legend = axes.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == animator.legend
    assert legend.get_window_extent().y0 >= axes.get_window_extent().y1 - 1  # hides no curve
    assert_nothing_cut_off(animator.fig)
    pixels = decode(tmp_path / "curve.png")
    assert pixels.shape[:2] == (375, 525)


@pytest.mark.usefixtures("headless")
def test_more_curves_than_formats_are_drawn_too(tmp_path: Path) -> None:
    animator = plot.Animator(
        xscale="log", yscale="log", nrows=1, ncols=2, figsize=(7, 2.5), path=tmp_path / "c.png"
    )
    animator.add(0.5, range(1, 7))
    animator.add(1.5, range(1, 7))
    animator.flush()
    assert len(animator.axes) == 2
    assert len(animator.axes[0].lines) == 6
    assert animator.axes[0].get_xscale() == animator.axes[0].get_yscale() == "log"
    assert animator.axes[0].get_legend() is None


@pytest.mark.usefixtures("headless")
@pytest.mark.filterwarnings("error")
def test_one_epoch_is_a_visible_point(tmp_path: Path) -> None:
    animator = plot.Animator(xlim=[1, 1], legend=["loss"], path=tmp_path / "c.png")
    animator.add(1, 0.5)
    assert animator.axes[0].lines[0].get_marker() == "o"
    decode(tmp_path / "c.png")


def test_the_animator_refuses_different_lengths() -> None:
    animator = plot.Animator()
    with pytest.raises(ValueError, match="x has 3 values but y has 2"):
        animator.add([1, 2, 3], [1, 2])
    assert animator.X == []


# --- curves --------------------------------------------------------------------------------------


def test_curves_of_the_command_line_are_called_as_its_table_calls_them(tmp_path: Path) -> None:
    for options, name in (({}, "validation"), ({"validation_name": "test"}, "test")):
        for axes in plot.draw_curves(history(2), **options).axes:  # type: ignore[arg-type]
            labels = [text.get_text().split()[0] for text in axes.get_legend().get_texts()]
            assert labels == ["training", name]


@pytest.mark.parametrize("n_epochs", [1, 2, 10, 200])
@pytest.mark.parametrize("validation", [True, False])
def test_curves_have_units_integer_epochs_and_legends_apart(
    n_epochs: int, validation: bool
) -> None:
    figure = plot.draw_curves(history(n_epochs, validation))
    figure.canvas.draw()
    loss, accuracy = figure.axes
    assert loss.get_ylabel() == "mean loss (nats)"
    assert accuracy.get_ylabel() == "accuracy"
    for axes in figure.axes:
        assert axes.get_xlabel() == "epoch"
        low, high = axes.get_xlim()
        ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert ticks
        assert all(float(tick).is_integer() for tick in ticks)
        assert len(axes.lines) == 1 + validation
        np.testing.assert_array_equal(axes.lines[0].get_xdata(), range(1, n_epochs + 1))
        legend = axes.get_legend().get_window_extent()
        assert legend.y0 >= axes.get_window_extent().y1 - 1
        assert legend.x1 <= figure.bbox.x1
    assert_nothing_cut_off(figure)


def test_curves_that_are_not_finite_say_so() -> None:
    diverged = history(3, validation=False)
    diverged.train_loss[2] = float("nan")
    loss, accuracy = plot.draw_curves(diverged).axes
    assert [text.get_text() for text in loss.texts] == ["not finite: training diverged"]
    assert not accuracy.texts
    assert loss.get_xlim()[1] > 3


def test_an_empty_history_is_refused() -> None:
    with pytest.raises(ValueError, match="no epochs"):
        plot.draw_curves(History())


# --- images --------------------------------------------------------------------------------------


def test_show_images_fills_the_grid_row_by_row(images: Any, tmp_path: Path) -> None:
    titles = [images.class_names[k] for k in images.y[:5]]
    axes = plot.show_images(images.X[:5], 2, 3, titles=titles, path=tmp_path / "images.png")
    assert axes.shape == (6,)
    assert [cell.get_title() for cell in axes] == [*titles, ""]
    np.testing.assert_array_equal(axes[4].images[0].get_array(), images.X[4])
    assert not axes[5].axison
    assert tuple(axes[0].figure.get_size_inches()) == (4.5, 3.0)
    decode(tmp_path / "images.png")
    assert_nothing_cut_off(axes[0].figure)


def test_show_images_takes_channels_and_more_images_than_cells() -> None:
    grey = plot.show_images(np.zeros((3, 1, 4, 5)), 1, 2)
    assert grey[0].images[0].get_array().shape == (4, 5)
    colour = plot.show_images(np.zeros((1, 4, 5, 3)), 1, 1)
    assert colour[0].images[0].get_array().shape == (4, 5, 3)


@pytest.mark.parametrize("channel", [False, True])
def test_wrong_predictions_are_marked_in_colour_and_by_text(images: Any, channel: bool) -> None:
    X = images.X[:8, None] if channel else images.X[:8]
    predicted = images.y[:8].copy()
    predicted[[2, 5]] = (predicted[[2, 5]] + 1) % 10
    figure = plot.draw_predictions(X, images.y[:8], predicted, images.class_names, n=7)
    assert len(figure.axes) == 7
    assert "5 of 7 right" in figure.get_suptitle()
    for i, axes in enumerate(figure.axes):
        wrong = i in (2, 5)
        mark = "✗" if wrong else "✓"
        assert axes.get_title() == images.class_names[images.y[i]]
        assert axes.get_xlabel() == f"{images.class_names[predicted[i]]} {mark}"
        same = axes.xaxis.label.get_color() == figure.axes[2].xaxis.label.get_color()
        assert same == wrong
        np.testing.assert_array_equal(axes.images[0].get_array(), images.X[i])
    assert_nothing_cut_off(figure)


def test_a_grid_that_is_not_full_has_no_empty_axes(images: Any) -> None:
    figure = plot.draw_predictions(
        images.X[:10], images.y[:10], images.y[:10], images.class_names, n=99
    )
    assert len(figure.axes) == 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((4, 20))}, r"images must have shape .* got \(4, 20\)"),
        ({"images": np.zeros((4, 3, 5, 5))}, r"got \(4, 3, 5, 5\)"),
        ({"images": np.zeros((0, 5, 5))}, r"got \(0, 5, 5\)"),
        ({"y": [0, 1]}, r"y has shape \(2,\) but there are 4 images"),
        ({"predicted": [0, 1, 2, 3]}, r"predicted must hold labels 0..2 .* got 0..3"),
        ({"y": [0, 1, 2, -1]}, r"y must hold labels 0..2 .* got -1..2"),
        ({"n": 0}, "n must be at least 1, got 0"),
    ],
)
def test_predictions_refuse(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "images": np.zeros((4, 5, 5)), "y": [0, 1, 2, 0], "predicted": [0, 1, 2, 0],
        "class_names": NAMES,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        plot.draw_predictions(**(arguments | change))
    with pytest.raises(TypeError, match="predicted has dtype float64, expected integer labels"):
        plot.draw_predictions(**(arguments | {"predicted": [0.0, 1.0, 2.0, 0.0]}))


@pytest.mark.parametrize("shape", [(28, 28), (1, 28, 28)])
def test_weights_share_a_scale_that_is_symmetric_about_0(shape: tuple[int, ...]) -> None:
    W = np.random.default_rng(0).normal(size=(784, 3))
    W[5, 1] = -9.0
    figure = plot.draw_weights(W, shape, NAMES)
    for k, axes in enumerate(figure.axes[:3]):
        assert axes.get_title() == NAMES[k]
        assert axes.images[0].get_clim() == (-9.0, 9.0)
        np.testing.assert_array_equal(axes.images[0].get_array(), W[:, k].reshape(28, 28))


def test_weights_of_many_classes_and_without_finite_values(tmp_path: Path) -> None:
    W = np.full((6, 120), np.nan)
    path = tmp_path / "weights.png"
    figure = plot.draw_weights(W, (2, 3), [str(k) for k in range(120)], path)
    assert len(figure.axes) == 101
    assert figure.get_suptitle() == "the first 100 of 120 classes"
    assert figure.axes[0].images[0].get_clim() == (-1.0, 1.0)
    decode(path)


@pytest.mark.parametrize(
    ("W", "shape", "names", "message"),
    [
        (np.zeros((6, 3)), (2, 2), NAMES, r"W must have shape \(4, n_classes\) .* got \(6, 3\)"),
        (np.zeros(6), (2, 3), NAMES, r"got \(6,\)"),
        (np.zeros((6, 3)), (6,), NAMES, r"image_shape must be .* got \(6,\)"),
        (np.zeros((12, 3)), (3, 2, 2), NAMES, r"image_shape must be .* got \(3, 2, 2\)"),
        (np.zeros((6, 3)), (2, 3), NAMES[:2], "class_names has 2 names but there are 3 classes"),
    ],
)
def test_weights_refuse(W: Any, shape: Any, names: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plot.draw_weights(W, shape, names)


# --- confusion -----------------------------------------------------------------------------------


def test_confusion_shows_counts_and_shares_of_the_rows() -> None:
    figure = plot.draw_confusion(CONFUSION, NAMES)
    axes = figure.axes[0]
    assert figure.get_suptitle() == "accuracy 0.857 (24 of 28)"
    assert [text.get_text() for text in axes.texts] == [str(count) for count in CONFUSION.flat]
    shares = axes.images[0].get_array()
    np.testing.assert_allclose(shares, CONFUSION / CONFUSION.sum(axis=1, keepdims=True))
    assert [label.get_text() for label in axes.get_yticklabels()] == list(NAMES)
    assert [label.get_text() for label in axes.get_xticklabels()] == list(NAMES)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n", [1, 2, 10, 20, 30, 100])
def test_confusion_of_any_size_is_legible(n: int, tmp_path: Path) -> None:
    counts = np.random.default_rng(0).integers(0, 2000, (n, n))
    counts[0] = 0  # a class that does not occur
    names = [f"class number {k}" for k in range(n)]
    figure = plot.draw_confusion(counts, names, tmp_path / "confusion.png")
    axes = figure.axes[0]
    assert len(axes.texts) == (n * n if n <= 20 else 0)
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert (labels == names) == (n <= 40)
    assert_nothing_cut_off(figure)
    cell = axes.get_window_extent().width / n
    for text in axes.texts:
        assert text.get_window_extent().width < cell
    decode(tmp_path / "confusion.png")


def test_strange_class_names_are_drawn_as_they_are(tmp_path: Path) -> None:
    names = ["$5 to $10", "a_b^{", "a name that goes on and on and on"]
    axes = plot.draw_confusion(CONFUSION, names, tmp_path / "c.png").axes[0]
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["$5 to $10", "a_b^{", "a name that goes on and…"]


@pytest.mark.parametrize(
    ("confusion", "names", "message"),
    [
        (np.zeros((2, 3), int), NAMES, r"confusion must have shape .* got \(2, 3\)"),
        (np.zeros((0, 0), int), (), r"got \(0, 0\)"),
        (np.zeros((3, 3)), NAMES, "integer counts"),
        (-CONFUSION, NAMES, "none below 0"),
        (CONFUSION, NAMES[:2], "class_names has 2 names but there are 3 classes"),
    ],
)
def test_confusion_refuses(confusion: Any, names: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plot.draw_confusion(confusion, names)
