"""What the first lines of a table say about its delimiter, its decimal mark and its header."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from csoftmax.data.readers.table.options import LABEL_NAMES
from csoftmax.data.text import MISSING

# lines that a guess is made of: enough to outvote one that is broken
SAMPLE_LINES = 20

_QUOTED_CELL = re.compile(r'(?:\A|(?<=[\t;,\r\n]))"[^"]*(?:""[^"]*)*(?:"|\Z)')
_COMMA_NUMBER = re.compile(r"\s*[+-]?\d*,\d+(?:[eE][+-]?\d+)?\s*")
# 1,234 may be a thousand and more; 0,123 and 1234,567 may not
_THOUSANDS = re.compile(r"\s*[+-]?[1-9]\d{0,2}(?:,\d{3})+\s*")
_POINT_NUMBER = re.compile(r"\s*[+-]?(?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?\s*")
# a row that counts so far is hardly a sample
_SURE_COUNT = 5


def guess_delimiter(text: str, marks: str) -> str:
    """Return the first mark that each line has as often, or that the first line has.

    Marks in quoted cells are none. The last mark is returned where there is none at all.
    """
    outside = [line for line in re.split(r"[\r\n]+", _QUOTED_CELL.sub("q", text)) if line]
    for mark in marks:
        counts = {line.count(mark) for line in outside}
        if len(counts) == 1 and 0 not in counts:
            return mark
    return next((mark for mark in marks if mark in outside[0]), marks[-1])


def guess_decimal(rows: Sequence[Sequence[str]]) -> str:
    """Return a comma if some numbers can only be read so, and none has a point."""
    cells = [cell for row in rows for cell in row if "," in cell or "." in cell]
    if any(map(_POINT_NUMBER.fullmatch, cells)):
        return "."
    commas = filter(_COMMA_NUMBER.fullmatch, cells)
    return "," if any(not _THOUSANDS.fullmatch(cell) for cell in commas) else "."


def guess_header(
    rows: Sequence[Sequence[str]], is_number: Callable[[str], bool]
) -> tuple[bool, str | None]:
    """Return whether the first row holds names, and what speaks against that, if anything does.

    For names speak: text above a column of numbers; a usual name of the label column; numbers that
    count the columns (0, 1, 2, ...). For a sample speak: missing values; text that its column has
    again further down; other numbers, if no name stands beside them.
    """
    first, body = list(rows[0]), [row for row in rows[1:] if len(row) == len(rows[0])]
    names, numbers, again, missing, once = [], [], [], [], []
    for j, cell in enumerate(cell.strip() for cell in first):
        below = [text for row in body if (text := row[j].strip()) not in MISSING]
        if cell in MISSING:
            missing += [cell] if cell else []
        elif is_number(cell):
            numbers.append(cell)
        elif 2 * sum(map(is_number, below)) > len(below):
            names.append(cell)
        elif cell in below:
            again += [cell] if cell.lower() not in LABEL_NAMES else []
        elif cell.lower() in LABEL_NAMES:
            names.append(cell)
        elif len(set(below)) < len(below):
            once.append(cell)
    counts = _counts(numbers)
    if names:
        labels = all(name.lower() in LABEL_NAMES for name in names)
        against = again or ([] if counts or labels else numbers)
        if not against:
            return True, None
        return True, f"only {names[0]!r} is sure to be a name, and {against[0]!r} may be a value"
    if counts and body and not again and not missing and first not in body:
        if len(numbers) >= 3:
            sure = len(numbers) >= _SURE_COUNT
            return True, None if sure else f"it counts {', '.join(numbers)}"
        if len(numbers) == len(first) == 2:
            return False, f"it counts {', '.join(numbers)}"
    if numbers or again:
        doubt = numbers and once and not again
        return False, f"{once[0]!r} is not in its column again" if doubt else None
    return not missing, f"{missing[0]!r} may be a name" if missing else None


def _counts(numbers: list[str]) -> bool:
    return any(
        numbers and numbers == [str(k) for k in range(start, start + len(numbers))]
        for start in (0, 1)
    )
