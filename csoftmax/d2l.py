"""The program of the book's first edition by its public name; it lives in `csoftmax.books.d2l`."""

from csoftmax.books.d2l import *  # noqa: F403
from csoftmax.books.d2l import __all__ as __all__
