"""The current edition's tools for classes in pieces, and the board on which it draws."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from csoftmax import d2l1 as d2l
from csoftmax.books import board as board_file


def test_add_to_class_reaches_objects_that_there_are() -> None:
    class Cat:
        pass

    cat = Cat()

    @d2l.add_to_class(Cat)
    def speak(self: Any, times: int) -> str:
        return "meow " * times

    assert cat.speak(2) == "meow meow "  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="an object of the class Cat, expected the class itself"):
        d2l.add_to_class(cat)  # type: ignore[arg-type]


def test_hyperparameters_are_the_arguments_but_for_those_ignored() -> None:
    class Base(d2l.HyperParameters):
        def __init__(self, width: int = 3) -> None:
            self.save_hyperparameters()

    class Net(Base):
        def __init__(self, lr: float, *sizes: int, verbose: bool, **rest: Any) -> None:
            super().__init__()
            _hidden = 1
            self.save_hyperparameters(ignore=["verbose"])

    net = Net(0.1, 4, 5, verbose=True, sigma=2)
    assert net.hparams == {"lr": 0.1, "sizes": (4, 5), "rest": {"sigma": 2}}
    assert (net.lr, net.width) == (0.1, 3)  # type: ignore[attr-defined]
    assert not hasattr(net, "verbose")
    assert not hasattr(net, "_hidden")
    with pytest.raises(TypeError, match=r"expected a list of names: \['c'\]"):
        net.save_hyperparameters(ignore="c")


def test_a_board_draws_means_of_every_n_points() -> None:
    board = d2l.ProgressBoard("x")
    for x in np.arange(0, 10, 0.1):
        board.draw(x, np.sin(x), "sin", every_n=2)
        board.draw(x, np.cos(x), "cos", every_n=10)
    x = np.arange(0, 10, 0.1)
    for label, function, n in (("sin", np.sin, 2), ("cos", np.cos, 10)):
        expected = np.stack([x, function(x)], axis=1).reshape(-1, n, 2).mean(axis=1)
        np.testing.assert_allclose(board.data[label], expected, rtol=1e-12)
    assert board.hparams["figsize"] == (3.5, 2.5)


@pytest.mark.parametrize(
    ("x", "y", "every_n", "error", "message"),
    [
        (0, 1, 0, ValueError, "every_n is 0"),
        (0, 1, 1.5, TypeError, "every_n"),
        (0, [1, 2], 1, TypeError, "float"),
    ],
)
def test_a_board_refuses(x: Any, y: Any, every_n: Any, error: Any, message: str) -> None:
    board = d2l.ProgressBoard()
    with pytest.raises(error, match=message):
        board.draw(x, y, "line", every_n)
    assert board.data == {}


def test_a_board_draws_on_given_axes_what_was_set_since() -> None:
    figure = Figure()
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    board = d2l.ProgressBoard(
        "x", "y", ylim=(0, 9), yscale="symlog", ls=[":"], colors=["red", "C1"], axes=axes
    )
    board.draw(0.5, 1, "a")
    board.xlabel, board.note, board.xlim = "epoch", "by hand", [0, 3]
    board.draw(1, 2, "a")
    board.draw(1, 3, "b")
    first, second = axes.lines
    assert first.get_xydata().tolist() == [[0.5, 1], [1, 2]]
    assert (first.get_linestyle(), first.get_color(), first.get_marker()) == (":", "red", "None")
    assert (second.get_label(), second.get_color(), second.get_marker()) == ("b", "C1", "o")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch\nby hand", "y")
    assert (axes.get_xlim(), axes.get_ylim(), axes.get_yscale()) == ((0, 3), (0, 9), "symlog")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b"]


def test_a_board_draws_on_the_axes_of_a_given_figure() -> None:
    figure = Figure()
    FigureCanvasAgg(figure)
    for _ in range(2):  # the second finds the axes of the first
        d2l.ProgressBoard(fig=figure).draw(1, 2, "a")
    (axes,) = figure.axes
    assert axes.lines[0].get_xydata().tolist() == [[1, 2]]


class Notebook:
    """What a notebook gives: a place to show pictures, and a call when a cell ends."""

    version_info = (8, 30)  # which Matplotlib asks for

    def __init__(self) -> None:
        self.shown: list[Any] = []
        self.calls: list[Any] = []
        self.kernel = self
        self.events = self

    def get_ipython(self) -> Notebook:
        return self

    def register(self, event: str, call: Any) -> None:
        assert event == "post_execute"
        self.calls.append(call)

    def unregister(self, event: str, call: Any) -> None:
        self.calls.remove(call)

    def show(self, figure: Any, handle: Any) -> str:
        self.shown.append((len(figure.axes[0].lines[0].get_xdata()), handle))
        return "the place of the picture"

    def end_the_cell(self) -> None:
        for call in list(self.calls):
            call()


def test_a_board_in_a_notebook_keeps_one_picture_and_finishes_it_when_the_cell_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    notebook = Notebook()
    monkeypatch.setitem(sys.modules, "IPython", notebook)  # type: ignore[arg-type]
    monkeypatch.setattr(board_file, "show", notebook.show)
    monkeypatch.setattr(board_file, "REDRAW_SECONDS", 1e9)
    board = d2l.ProgressBoard()
    for x in range(5):
        board.draw(x, x, "line")
    assert notebook.shown == [(1, None)]
    notebook.end_the_cell()
    assert notebook.shown == [(1, None), (5, "the place of the picture")]
    assert notebook.calls == []
    board.draw(5, 5, "line")
    board.flush()
    notebook.end_the_cell()
    assert len(notebook.shown) == 3


def test_a_board_without_a_display_makes_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_file, "may_open_window", lambda: False)
    board = d2l.ProgressBoard()
    board.draw(0, 0, "line")
    assert board.fig is None
    monkeypatch.setattr(board_file, "may_open_window", lambda: True)
    hidden = d2l.ProgressBoard(display=False)
    hidden.draw(0, 0, "line")
    hidden.flush()
    assert hidden.fig is None
    assert hidden.data == {"line": [(0, 0)]}
