"""What is in the pictures, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plot_cases import CONFUSION, NAMES, assert_nothing_cut_off, decode, history

from csoftmax import History, plot


@pytest.fixture
def images(fashion_mnist: Any) -> Any:
    return fashion_mnist[1]


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
        against, zero, favour = axes.images[0].cmap([0.0, 0.5, 1.0])[:, :3]
        assert against.argmax() == 0  # orange: red most, blue least
        assert against.argmin() == 2
        assert favour.argmax() == 2  # blue
        assert min(zero) > 0.95


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
