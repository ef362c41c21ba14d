"""Pictures of data, of training and of results.

Matplotlib is imported by the first picture, not by this package. Files are written without a
display and without touching the user's backend. In a notebook a returned figure shows itself.
"""

from csoftmax.draw.animator import Animator
from csoftmax.draw.confusion import draw_confusion
from csoftmax.draw.curves import draw_curves, draw_descent, draw_sweep
from csoftmax.draw.images import draw_predictions, draw_weights, show_images

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
