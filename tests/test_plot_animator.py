"""The picture that grows while a model trains."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from plot_cases import assert_nothing_cut_off, decode

from csoftmax import plot
from csoftmax.draw import animator as live


@pytest.fixture
def headless(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("headless")
def test_the_animator_is_silent_without_display_and_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "script_uses_pyplot", lambda: False)
    animator = plot.Animator(legend=["a", "b"])
    animator.add(1, (0.1, 0.2))
    animator.add([2, 3], [None, 0.3])
    assert animator.X == [[1], [1, 3]]
    assert animator.Y == [[0.1], [0.2, 0.3]]
    assert "fig" not in vars(animator)  # nothing was drawn


SCRIPT = """
import matplotlib
matplotlib.use("Agg")
from csoftmax import d2l, d2l1
BEFORE
for number in range(3):
    for make, add in ((d2l.Animator, "add"), (d2l1.ProgressBoard, "draw")):
        picture = make()
        for x in (1, 2):
            getattr(picture, add)(x, x * x, *(["line"] if add == "draw" else []))
        d2l.plt.savefig(f"{add}{number}.png")
        line, = d2l.plt.gca().lines
        assert (line.get_xdata() == [1, 2]).all(), (add, number)
        d2l.plt.close()
d2l.show_images([[[0, 1], [1, 0]]] * 3, 1, 3)
assert len(d2l.plt.gcf().axes) == 3
"""


@pytest.mark.parametrize("before", ["", "d2l.plt"])
def test_a_script_can_save_the_picture_that_was_drawn_last(before: str, tmp_path: Path) -> None:
    """Whether it has used pyplot before or not: what it saves is not an empty figure."""
    program = SCRIPT.replace("BEFORE", before)
    hidden = dict.fromkeys(("DISPLAY", "WAYLAND_DISPLAY"), "")
    subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path, env={**os.environ, **hidden}, check=True,
    )  # fmt: skip
    assert len({path.read_bytes() for path in tmp_path.glob("*.png")}) == 2  # the two kinds


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
