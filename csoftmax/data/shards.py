"""Data in many files, of which a part is read at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from csoftmax.core.errors import DataError
from csoftmax.data.readers.parts import functions
from csoftmax.data.readers.parts.files import Stamp
from csoftmax.data.readers.parts.formats import find, open_files
from csoftmax.data.readers.parts.part import Part, Wanted
from csoftmax.data.shard_cache import cached
from csoftmax.data.shard_labels import encoded
from csoftmax.data.shard_parts import (
    check_same,
    checked_dtype,
    is_of_array,
    of_width,
    readable,
    with_column,
)
from csoftmax.rows.shards import Shard, ShardRows

Array = NDArray[Any]
Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


class Shards:
    """Rows in many files, their labels and weights: what `shards` returns.

    The files are opened when they are read, and not too many at a time. A pickled object has the
    places of the files and not what is in them.

    Parameters
    ----------
    parts : sequence of Part
        As the readers of files open them: as many features and the same dtype in each.

    Attributes
    ----------
    n_shards, n_rows, n_features : int
    dtype : dtype
        Of the rows as they are stored, or as ``dtype=`` converts them.
    rows : ShardRows
        The rows of X by blocks and by number.
    has_labels, has_weights : bool
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)

    @cached_property
    def rows(self) -> ShardRows:
        """The rows of X in shards."""
        shards = [
            Shard(
                f"shard {s} ({part.name})", part.n_rows, part.read, part.labels, part.weights,
                part.stamps, part.pieces, part.gives_views,
            )
            for s, part in enumerate(self.parts)
        ]  # fmt: skip
        return ShardRows(shards, self.n_features, self.dtype, self.is_sparse)

    @property
    def n_shards(self) -> int:
        return len(self.parts)

    @property
    def n_rows(self) -> int:
        return self.rows.n_rows

    @property
    def n_features(self) -> int:
        return self.parts[0].n_features

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.parts[0].dtype

    @property
    def shape(self) -> tuple[int, int]:
        return self.n_rows, self.n_features

    @property
    def is_sparse(self) -> bool:
        return self.parts[0].is_sparse

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The names of the columns, where each is a feature."""
        return self.parts[0].feature_names

    @property
    def has_labels(self) -> bool:
        return self.parts[0].labels is not None

    @property
    def has_files_of_labels(self) -> bool:
        """Whether labels are read where they are needed, and are no array in memory."""
        return self.has_labels and not is_of_array(self.parts[0].labels)

    @property
    def has_weights(self) -> bool:
        return self.parts[0].weights is not None

    @property
    def stamps(self) -> tuple[Stamp, ...]:
        """Path, size and time of change of the files."""
        return tuple(dict.fromkeys(stamp for part in self.parts for stamp in part.stamps))

    @property
    def classes(self) -> Array:
        """The labels that occur, sorted; they are all read once, at the first use."""
        return self._encoded[0]

    def encoded(self, classes: ArrayLike | None = None) -> tuple[Array, Array]:
        """Return the classes and the label of each row as its number among them.

        Parameters
        ----------
        classes : array_like, optional
            The classes to expect, sorted. Without it they are the labels that occur.

        Returns
        -------
        classes : array (n_classes,)
        codes : array (n_rows,) of the smallest unsigned integers that hold them

        Raises
        ------
        ValueError
            Where there are no labels.
        DataError
            For a label that is not one of the classes, or no label: names its shard and row.
        """
        if classes is None:
            return self._encoded
        known = np.asarray(classes)
        if known.dtype == object:  # text, as a table of pandas has it
            known = np.array(known.tolist())
        return encoded(self.rows, known)

    def weights(self) -> NDArray[np.float64] | None:
        """Return the weight of each row, (n_rows,); None where shards have none.

        Raises DataError for a weight that is not finite or below 0: names its shard and row.
        """
        if not self.has_weights:
            return None
        weights = np.empty(self.n_rows)
        for part, start in zip(self.rows.shards, self.rows.starts.tolist(), strict=False):
            assert part.weights is not None
            here = weights[start : start + part.n_rows]
            here[:] = part.weights(0, part.n_rows)
            bad = ~((here >= 0) & (here < np.inf))
            if bad.any():
                i = int(bad.argmax())
                raise DataError(f"{self.rows.place(start + i)}: the weight is {here[i]}, expected "
                                "a finite number >= 0")  # fmt: skip
        return weights

    @cached_property
    def _encoded(self) -> tuple[Array, Array]:
        return encoded(self.rows)

    def __getstate__(self) -> dict[str, Any]:
        return {"parts": self.parts}

    def __len__(self) -> int:
        return self.n_shards

    def __getitem__(self, which: int | slice | Sequence[int]) -> Shards:
        """Return some of the shards: that of a number, or those of a slice or of numbers."""
        numbers = np.arange(self.n_shards)[which]
        some = [self.parts[s] for s in np.atleast_1d(numbers).tolist()]
        if not some:
            raise ValueError(f"shards[{which}] are none of the {self.n_shards} shards")
        return Shards(some)

    @property
    def is_slow(self) -> bool:
        """Whether rows are decoded or copied in each pass: ``cache=`` writes them once as maps."""
        return any(part.is_slow and part.n_rows for part in self.parts)

    def __repr__(self) -> str:
        rows = f"X ({self.n_rows}, {self.n_features}) {'sparse ' * self.is_sparse}{self.dtype}"
        known = f", {len(self.classes)} classes" if "_encoded" in self.__dict__ else ", labels"
        return (
            f"Shards({self.n_shards} shards, {rows}{known * self.has_labels}"
            f"{', weights' * self.has_weights}{', decoded in each pass' * self.is_slow})"
        )


def shards(
    source: Paths | Sequence[tuple[int, functions.Function]],
    *,
    labels: Paths | ArrayLike | None = None,
    weights: Paths | ArrayLike | None = None,
    X: str | Sequence[str] | None = None,
    y: str | None = None,
    weight: str | None = None,
    dtype: DTypeLike | None = None,
    cache: str | os.PathLike[str] | None = None,
) -> Shards:
    """Open many files as one data set that need not fit in memory.

    A file is a shard. Files are taken in the natural order of their names: part-2 before part-10.

    Formats: .npy; folders with X.npy (and y.npy, weight.npy), or with a sparse matrix as data,
    indices, indptr and shape.npy; .npz of a sparse matrix of scipy (and y), or of X (and y);
    svmlight; Arrow files and streams (.arrow, .feather, .ipc), also a folder that Hugging Face's
    `datasets` saved; Parquet; .tar of .npy members, as webdataset has them (000017.npy and its
    label 000017.cls, or many rows in a member and their labels in 000017.y.npy). Views of the file,
    and so as fast as one array, are .npy, .tar, and Arrow that is not compressed. What is
    read otherwise is decoded in each pass. Features of svmlight are counted from 1, or from 0 where
    one of the files has a 0.

    Parameters
    ----------
    source : str, path, or sequence of these; or pairs of a number of rows and a function
        A pattern such as "emb/*.npy", a folder, or the files in their order. Functions are called
        as ``function(start, stop)`` and give X, or a tuple of X, labels and perhaps weights.
    labels, weights : as source, or array_like (n_rows,), optional
        The files of labels, and of weights of the rows: .npy, one for each shard in the same
        order, or one for all.
    X, y, weight : optional
        Of files with columns: which column has the features (lists of one length, or bytes), or
        which columns have one each; which has the label, the weight. Without X it is the only
        column of lists or bytes, or else all columns of numbers but y and weight. Of .tar: the
        endings of the members.
    dtype : {"uint8", "float16", "float32", "float64"}, optional
        Convert the features on reading: where shards differ, or have a type that no pass reads as
        it is. Of a column of bytes it says what the bytes are.
    cache : path of a folder, optional
        Write what takes longer to decode than to use (lists of Parquet, many columns, compressed
        files, text) into this folder, once, as files that are mapped. A progress bar tells how
        much it is. The same files are found there by their names, sizes and times.

    Returns
    -------
    Shards

    Raises
    ------
    DataError
        For a broken file, a shard of another type or width than the first, as many labels as no
        rows: all with the file.
    FileNotFoundError
        If no file matches.
    ImportError
        If the format needs a package that is not installed.

    Examples
    --------
    >>> import numpy as np, pathlib, tempfile
    >>> import csoftmax as cs
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for i in range(3):
    ...     np.save(folder / f"x-{i}.npy", np.full((4, 2), i, np.float32))
    ...     np.save(folder / f"y-{i}.npy", np.array([0, 1, 1, 2], np.uint8))
    >>> data = cs.shards(f"{folder}/x-*.npy", labels=f"{folder}/y-*.npy")
    >>> data, data[1:].rows.take(np.array([0, 5])).tolist()
    (Shards(3 shards, X (12, 2) float32, labels), [[1.0, 1.0], [2.0, 2.0]])
    >>> parts = [(4, lambda start, stop: (np.eye(4)[start:stop], np.arange(start, stop)))]
    >>> cs.shards(parts)
    Shards(1 shards, X (4, 4) float64, labels)
    """
    as_dtype = None if dtype is None else checked_dtype(dtype)
    columns = X if X is None or isinstance(X, str) else tuple(X)
    wanted = Wanted(columns, y, weight, as_dtype)
    given: Any = source
    if functions.are_functions(given):
        parts = list(functions.open_parts(given, wanted))
    else:
        parts = list(open_files(find(given, "source"), wanted))
    if not parts:
        raise DataError(f"source: {source!r:.100} has no rows of X")
    width = next((part.n_features for part in parts if part.n_features), 0)
    parts = [part if part.n_features or part.n_rows else of_width(part, width) for part in parts]
    parts = [readable(s, part, as_dtype) for s, part in enumerate(parts)]
    check_same(parts)
    if cache is not None:
        parts = cached(parts, cache, repr((columns, y, weight, as_dtype)))
    for name, beside in (("labels", labels), ("weights", weights)):
        if beside is not None:
            if any(getattr(part, name) for part in parts):
                raise ValueError(f"{name} are given, but the files of source have {name} too")
            parts = with_column(parts, name, beside)
    return Shards(parts)
