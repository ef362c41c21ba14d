"""The names of the pictures; they are drawn by `csoftmax.draw`."""

from csoftmax.draw import *  # noqa: F403
from csoftmax.draw import __all__ as __all__
from csoftmax.draw import __doc__ as __doc__  # so that help(csoftmax.plot) explains the pictures
