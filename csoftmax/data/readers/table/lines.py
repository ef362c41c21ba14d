"""The lines of a text table with their numbers, from a plain or a gzip-compressed file."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import itertools
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from csoftmax.core.errors import DataError

# longer than any row of numbers; bounds the memory that an unclosed quote can take
MAX_RECORD_CHARACTERS = 64 << 20
# the longer marks first: that of UTF-32 begins as that of UTF-16
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class Line(NamedTuple):
    """One line of a file, with its number and its end."""

    number: int
    text: str


class Record(NamedTuple):
    """One row of a table, usually one line: its first line's number and its text."""

    line: int
    text: str

    def cells(self, path: Path, delimiter: str) -> list[str]:
        """Split into cells by the rules of CSV."""
        try:
            return next(csv.reader([self.text], delimiter=delimiter, strict=True))
        except csv.Error as error:
            raise DataError(f"{path}: line {self.line}: {error}") from error


def read_lines(path: Path, encoding: str | None = None) -> Iterator[Line]:
    """Yield the lines of a text file, plain or .gz, that end in LF, CR LF or CR.

    Without an encoding it is that of the byte-order mark, or else UTF-8. Raises DataError, with
    the line number, for text of another encoding, and for a line that is too long.
    """
    with open(path, "rb") as file:
        if file.peek(2)[:2] != b"\x1f\x8b":
            yield from _decode(path, file, encoding)
            return
        try:
            with gzip.GzipFile(fileobj=file) as inflated:
                yield from _decode(path, inflated, encoding)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{path}: broken gzip file: {error}") from error


def _decode(path: Path, file: Any, encoding: str | None) -> Iterator[Line]:
    start = file.peek(4)
    marked = (name for mark, name in _BYTE_ORDER_MARKS if start.startswith(mark))
    known = encoding or next(marked, "utf-8")
    # a byte that does not fit becomes a surrogate, so that its line is known
    with io.TextIOWrapper(file, known, "surrogateescape", newline="") as text:
        yield from _numbered(path, text, known)


def _numbered(path: Path, text: IO[str], encoding: str) -> Iterator[Line]:
    for number in itertools.count(1):
        try:
            line = text.readline(MAX_RECORD_CHARACTERS)
        except UnicodeError as error:
            raise DataError(f"{path}: after line {number - 1}: expected {encoding.upper()} text: "
                            f"{error}") from error  # fmt: skip
        if not line:
            return
        if number == 1:
            line = line.removeprefix("\ufeff")
        if len(line) >= MAX_RECORD_CHARACTERS:
            raise _too_long(path, number)
        if not line.isascii():
            _check_decoded(path, number, line, encoding)
        if "\0" in line:
            raise DataError(f"{path}: line {number}: expected text, got a NUL character; is it "
                            "UTF-16 without a byte-order mark?")  # fmt: skip
        yield Line(number, line)


def _check_decoded(path: Path, number: int, line: str, encoding: str) -> None:
    try:
        line.encode("utf-8")
    except UnicodeEncodeError as error:
        byte = ord(line[error.start]) & 0xFF
        raise DataError(
            f"{path}: line {number}: expected {encoding.upper()} text, got the byte {byte:#04x} at "
            f"character {error.start + 1}; give the file's encoding, such as 'cp1252'"
        ) from None


def _too_long(path: Path, line: int) -> DataError:
    return DataError(f"{path}: line {line}: expected a row of less than {MAX_RECORD_CHARACTERS} "
                     "characters; is a quote not closed?")  # fmt: skip


def split_records(path: Path, lines: Iterator[Line], delimiter: str) -> Iterator[Record]:
    """Yield the rows: lines without their end, joined where a quoted cell goes on; no blank ones.

    A quote opens a quoted cell only where the cell begins. Raises DataError, with the line
    number, for a quote that is not closed and a row that is too long.
    """
    mark = re.escape(delimiter)
    cell = f'(?:"[^"]*"|[^"{mark}\r\n]*)'
    # rows that need no closer look, which are most of them
    plain = re.compile(f"{cell}(?:{mark}{cell})*[\r\n]*")
    for line in lines:
        text = line.text
        if '"' in text and not plain.fullmatch(text):
            text = _whole_row(path, line, lines, delimiter)
        text = text.rstrip("\r\n")
        if text:
            yield Record(line.number, text)


def _whole_row(path: Path, first: Line, lines: Iterator[Line], delimiter: str) -> str:
    parts = [first.text]
    size = len(first.text)
    ended = False

    def feed() -> Iterator[str]:
        nonlocal size, ended
        yield first.text
        for line in lines:
            parts.append(line.text)
            size += len(line.text)
            if size >= MAX_RECORD_CHARACTERS:
                raise _too_long(path, first.number)
            yield line.text
        ended = True

    try:
        # it asks for another line only within quotes
        next(csv.reader(feed(), delimiter=delimiter, strict=True))
    except csv.Error as error:
        got = "expected a closing quote, got the end of the file" if ended else error
        raise DataError(f"{path}: line {first.number}: {got}") from error
    return "".join(parts)
