"""What the commands say: lines, and a user's mistake as one line in place of a traceback."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from csoftmax.core.errors import DataError

# what the library calls a parameter, and what the user can type
_OPTIONS = (
    ("header=True", "--header"), ("header=False", "--no-header"),
    ("missing='drop'", "--missing drop"), ("missing='mean'", "--missing mean"),
    ("missing=train.X.mean(axis=0)", "--missing mean"), ("labels='text'", "--labels text"),
    ("as label_column", "by --label-column"),
    ("labels='lab/*.npy' names", "--label-files 'lab/*.npy' names"),
    ("X=[...] says which to read", "--columns says which to read"),
    ("X='embedding' or X=['a', 'b']", "--columns embedding or --columns a,b"),
    ("nesterov is True but momentum is 0, expected momentum",
     "--nesterov is given but --momentum is 0, expected --momentum"),
)  # fmt: skip
# a word and not the begin of a file's name, as in only.svm
_FIRST = re.compile(r"^(lr|momentum|weight_decay|test_fraction|C|tol|encoding|only|peers)(?= )")


class UserError(Exception):
    """A message for the user in place of a traceback."""

    def __init__(self, message: str, exit_code: int = 2) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@contextmanager
def users_mistakes() -> Iterator[None]:
    """Turn an error of the library into a `UserError`: here it is about what the user gave."""
    try:
        yield
    except BrokenPipeError:
        raise
    except (ValueError, OSError, MemoryError) as error:
        if isinstance(error, OSError) and error.strerror and error.filename is not None:
            raise UserError(f"{error.filename}: {error.strerror}") from error
        raise UserError(as_options(one_line(str(error)))) from error


@contextmanager
def mistakes_in_files() -> Iterator[None]:
    """Turn what files turn out to be, while they are read, into a `UserError`."""
    try:
        yield
    except (DataError, OSError) as error:
        with users_mistakes():
            raise error


def as_options(text: str) -> str:
    """Return a message of the library with the names of options for those of parameters."""
    for parameter, option in _OPTIONS:
        text = text.replace(parameter, option)
    text = _FIRST.sub(lambda found: f"--{found[0].replace('_', '-')}", text)
    text = re.sub("^labels: ", "--label-files: ", text.removeprefix("source: "))
    text = re.sub(r"""\bdtype=["']?(\w+)["']?""", r"--dtype \1", text)
    return re.sub(r"decimal='(.)'", r"--decimal \1", text)


def one_line(text: str) -> str:
    """Return the text with one space for each line break and each run of spaces."""
    return " ".join(text.split())


def printer(quiet: bool) -> Callable[[str], None]:
    """Return what prints a line of the run, or does nothing if the user wants quiet."""

    def say(line: str) -> None:
        from tqdm import tqdm

        try:
            tqdm.write(line)  # a plain print would run into the progress bar
            sys.stdout.flush()
        except BrokenPipeError:  # the model will be wanted all the same
            drop_output()

    return (lambda line: None) if quiet else say


def drop_output() -> None:
    """Print into nothing from now on: the reader of the output, such as `head`, has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
