"""The names of the book's second edition; the program is `csoftmax.books.d2l`."""

from csoftmax.books.d2l import *  # noqa: F403
from csoftmax.books.d2l import __all__ as __all__
from csoftmax.books.d2l import __doc__ as __doc__  # so that help(csoftmax.d2l) explains the book
from csoftmax.books.d2l import __getattr__ as __getattr__  # plt and display
