"""The pictures by their public name; they are drawn in `csoftmax.draw`."""

from csoftmax.draw import *  # noqa: F403
from csoftmax.draw import __all__ as __all__
