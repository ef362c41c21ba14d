"""What the text of one cell means: a number, an integer, or that there is no value."""

from __future__ import annotations

# cells that stand for a value that is not known, compared as they are, without outer spaces
MISSING = ("", "NA", "N/A", "#N/A", "NaN", "nan", "null", "NULL", "None", "?")
# for numbers with a decimal comma: 1,5 is read as 1.5, and 1.5 as no number at all
SWAP_MARKS = str.maketrans(",.", ".,")
_BOOLEANS = {"true": 1.0, "false": 0.0}


def as_number(text: str, decimal: str = ".") -> float | None:
    """Return the number that is written here, 1 and 0 for True and False, None for other text."""
    number = text if decimal == "." else text.translate(SWAP_MARKS)
    try:
        # Python's float takes digits grouped by underscores, which no table means
        return None if "_" in number else float(number)
    except ValueError:
        return _BOOLEANS.get(text.strip().lower())


def whole_number(text: str) -> int | None:
    """Return the integer that is written like this and in no other way, or None."""
    try:
        number = int(text)
    except ValueError:
        return None
    return number if str(number) == text else None
