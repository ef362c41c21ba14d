"""What is raised for files: a broken one, and a data set that is nowhere."""

from __future__ import annotations


class DataError(ValueError):
    """A file that does not hold what it should: says which file, where, expected and got.

    Examples
    --------
    >>> from csoftmax.data import DataError
    >>> issubclass(DataError, ValueError)
    True
    """


class DataNotFoundError(FileNotFoundError):
    """A data set is neither installed nor downloadable: says what was tried and what helps.

    Examples
    --------
    >>> from csoftmax.data import DataNotFoundError
    >>> issubclass(DataNotFoundError, FileNotFoundError)
    True
    """
