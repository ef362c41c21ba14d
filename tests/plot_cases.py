"""What the tests of pictures share."""

from __future__ import annotations

from typing import Any

import matplotlib.image
import numpy as np

from csoftmax import History

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
