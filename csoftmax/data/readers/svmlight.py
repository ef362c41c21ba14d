"""Files of svmlight and LIBSVM: a line a sample, its label and the features that are not 0."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from csoftmax.core.errors import DataError
from csoftmax.core.sparse import CSR
from csoftmax.data.dataset import Dataset, Distinct
from csoftmax.data.labels import labels_from_text, make_dataset
from csoftmax.data.readers.reader import ClassNames, Reader, Samples
from csoftmax.data.readers.table.lines import Line, read_lines
from csoftmax.data.readers.table.options import TableOptions
from csoftmax.data.text import whole_number

_LINES_AT_A_TIME = 4096  # as text: as numbers they take a tenth of that
_MOST_FEATURES = 2**31 - 1


class SvmlightLines(NamedTuple):
    """Some lines as numbers; indices as they are written."""

    labels: list[str]  # empty where a line has none
    numbers: list[int]  # of the lines
    counts: list[int]  # of the features of each
    indices: NDArray[np.int64]
    values: NDArray[Any]


def read_svmlight(
    path: str | os.PathLike[str],
    *,
    class_names: Sequence[str] | None = None,
    feature_names: Sequence[str] | None = None,
    dtype: DTypeLike = "float32",
) -> Dataset:
    """Read a file of svmlight or LIBSVM, plain or .gz, as sparse rows.

    A line is ``label index:value index:value ...``; what follows ``#`` is a comment, and ``qid:``
    is passed over. An index that comes twice in a line adds up.

    Parameters
    ----------
    path : path of the file
    class_names : sequence of str, optional
        The classes to expect. Without it they are the labels that occur.
    feature_names : sequence of str, optional
        Those of the data that a model was trained on: how many features there are, and the index
        of the first one. Without them indices count from 1, or from 0 in a file that has a 0.
    dtype : "float32" or "float64"
        Of the values.

    Returns
    -------
    Dataset
        X is a `csoftmax.core.sparse.CSR`; `feature_names` are the indices as they are written.

    Raises
    ------
    DataError
        For a line that is no such line (named), NaN or infinity, one class only, or no samples.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from csoftmax.data import read_svmlight
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "two.svm"
    >>> _ = path.write_text("+1 1:0.5 3:2\\n-1 2:1.5 # a comment\\n")
    >>> data = read_svmlight(path)
    >>> data.X.toarray().tolist(), data.y.tolist(), data.class_names
    ([[0.5, 0.0, 2.0], [0.0, 1.5, 0.0]], [1, 0], ('-1', '1'))
    """
    options = TableOptions(feature_names=feature_names, dtype=dtype)
    return _read_parts(Path(path), options, class_names)[0]


def _read_parts(
    path: Path, options: TableOptions, class_names: ClassNames
) -> tuple[Dataset, Dataset | None]:
    X, rows, first = _read(path, options, None)

    def locate(i: int) -> str:
        return f"line {rows.numbers[i]}"

    for i, label in enumerate(rows.labels):
        if not label or "," in label:
            raise DataError(f"{path}: {locate(i)}: expected one label before the features, got "
                            f"{label or 'none'}")  # fmt: skip
    texts = [label.removeprefix("+") for label in rows.labels]
    labels, _ = labels_from_text(str(path), texts, locate)
    names = options.feature_names or Distinct(map(str, range(first, first + X.shape[1])))
    data = make_dataset(
        str(path), X, labels, class_names=class_names, locate=locate, name=path.name,
        feature_names=names,
    )  # fmt: skip
    return data, None


def _read_samples(
    path: Path, options: TableOptions, n_features: int | None, class_names: ClassNames
) -> Samples:
    return _read(path, options, n_features)[0], None


def _read(
    path: Path, options: TableOptions, n_features: int | None
) -> tuple[CSR, SvmlightLines, int]:
    """Return the rows, what else the lines say, and the index of the first feature."""
    rows = read_numbers(path, options)
    first = int(not (rows.indices == 0).any())
    if options.feature_names is not None:
        n_features = len(options.feature_names)
        told = whole_number(options.feature_names[0]) if n_features else None
        first = told if told in (0, 1) else first
    elif n_features is None:
        n_features = int(rows.indices.max(initial=first - 1)) + 1 - first
    return as_rows(path, rows, first, n_features), rows, first


def read_numbers(path: Path, options: TableOptions) -> SvmlightLines:
    """Return what the lines of a file say, with indices as they are written."""
    dtype = np.float64 if np.dtype(options.dtype) == np.float64 else np.float32
    lines = read_lines(path, options.encoding)
    return _joined([_numbers(path, some, dtype) for some in _blocks(lines)])


def as_rows(path: Path, rows: SvmlightLines, first: int, n_features: int) -> CSR:
    """Return lines as sparse rows; raise DataError for an index beyond so many from the first."""
    bad = (rows.indices < first) | (rows.indices - first >= n_features)
    if bad.any():
        entry = int(bad.argmax())
        at = int(np.searchsorted(np.cumsum(rows.counts), entry, side="right"))
        raise DataError(
            f"{path}: line {rows.numbers[at]}: expected indices {first}..{first + n_features - 1}, "
            f"got {rows.indices[entry]}"
        )
    indptr = np.zeros(len(rows.counts) + 1, np.int64)
    np.cumsum(rows.counts, out=indptr[1:])
    indices = (rows.indices - first).astype(np.int32)
    return CSR(rows.values, indices, indptr, n_features)


def _blocks(lines: Iterable[Line]) -> Iterable[list[Line]]:
    each = iter(lines)
    while block := list(itertools.islice(each, _LINES_AT_A_TIME)):
        yield block


def _joined(blocks: list[SvmlightLines]) -> SvmlightLines:
    return SvmlightLines(
        [label for block in blocks for label in block.labels],
        [number for block in blocks for number in block.numbers],
        [count for block in blocks for count in block.counts],
        np.concatenate([np.empty(0, np.int64), *(block.indices for block in blocks)]),
        np.concatenate([block.values for block in blocks] or [np.empty(0, np.float32)]),
    )


def _numbers(path: Path, lines: list[Line], dtype: DTypeLike) -> SvmlightLines:
    labels: list[str] = []
    numbers: list[int] = []
    counts: list[int] = []
    pairs: list[str] = []
    for line in lines:
        cells = line.text.partition("#")[0].split()
        if not cells:
            continue
        labels.append("" if ":" in cells[0] else cells.pop(0))
        if cells and cells[0].startswith("qid:"):
            cells.pop(0)
        numbers.append(line.number)
        counts.append(len(cells))
        pairs.extend(cells)
    try:
        indices, values = _parsed(pairs)
    except ValueError:
        at = next(at for at, cell in enumerate(pairs) if not _is_pair(cell))
        i = int(np.searchsorted(np.cumsum(counts), at, side="right"))
        raise DataError(f"{path}: line {numbers[i]}: expected index:value, got "
                        f"{pairs[at]!r:.60}") from None  # fmt: skip
    return SvmlightLines(labels, numbers, counts, indices, values.astype(dtype))


def _is_pair(cell: str) -> bool:
    try:
        _parsed([cell])
    except ValueError:
        return False
    return True


def _parsed(pairs: list[str]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    text = ":".join(pairs)
    cells = text.split(":") if pairs else []
    # Python's numbers take digits grouped by underscores, which no such file means
    if len(cells) != 2 * len(pairs) or "_" in text:
        raise ValueError("not one colon in each")
    indices = list(map(int, cells[::2]))
    if indices and not 0 <= min(indices) <= max(indices) <= _MOST_FEATURES:
        raise ValueError("an index is out of range")
    return np.array(indices, np.int64), np.array(list(map(float, cells[1::2])), np.float64)


def _takes(path: Path) -> bool:
    ending = Path(path.name.lower().removesuffix(".gz")).suffix
    return ending in (".svm", ".libsvm", ".svmlight") and not path.is_dir()


READER = Reader(".svm, .libsvm, .svmlight (or .gz of these)", _takes, _read_parts, _read_samples)
