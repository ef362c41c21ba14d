"""The lines of a text table with their numbers, from a plain or a gzip-compressed file."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from .dataset import DataError

# longer than any row of numbers; bounds the memory that an unclosed quote can take
MAX_RECORD_BYTES = 64 << 20


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


def read_records(path: Path) -> Iterator[Record]:
    """Yield the rows of a UTF-8 file, plain or .gz, without blank lines and byte-order mark.

    Raises DataError, with the line number, for text that is not UTF-8, a quote that is not
    closed, and a row that is too long.
    """
    with open(path, "rb") as file:
        is_gzip = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not is_gzip:
            yield from _split(path, file)
            return
        try:
            with gzip.GzipFile(fileobj=file) as inflated:
                yield from _split(path, inflated)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{path}: broken gzip file: {error}") from error


def _split(path: Path, file: IO[bytes] | gzip.GzipFile) -> Iterator[Record]:
    number = first = size = 0
    open_quote = False
    parts: list[str] = []
    while raw := file.readline(MAX_RECORD_BYTES):
        number += 1
        first = first or number
        size += len(raw)
        if size >= MAX_RECORD_BYTES:
            raise DataError(f"{path}: line {first}: expected a row of less than "
                            f"{MAX_RECORD_BYTES} bytes; is a quote not closed?")  # fmt: skip
        try:
            parts.append(raw.decode("utf-8-sig" if number == 1 else "utf-8"))
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: line {number}: expected UTF-8 text: {error}") from error
        open_quote ^= bool(raw.count(b'"') % 2)
        if open_quote:
            continue
        text = "".join(parts).rstrip("\r\n")
        if text:
            yield Record(first, text)
        first = size = 0
        parts.clear()
    if open_quote:
        raise DataError(f"{path}: line {first}: expected a closing quote, got the end of the file")
