"""The names of the book's current edition; the program is `csoftmax.books.d2l1`."""

from csoftmax.books.d2l1 import *  # noqa: F403
from csoftmax.books.d2l1 import __all__ as __all__
from csoftmax.books.d2l1 import __doc__ as __doc__  # so that help(csoftmax.d2l1) explains the book
from csoftmax.books.d2l1 import __getattr__ as __getattr__  # plt
