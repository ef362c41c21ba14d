"""What the front door needs to know of a format: each reader's module ends with its `Reader`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from csoftmax.core.checks import Stored
from csoftmax.data.dataset import Dataset
from csoftmax.data.readers.table.options import TableOptions

ClassNames: TypeAlias = "Sequence[str] | None"
# the features, and which of a table's rows they are of (None: of all)
Samples: TypeAlias = "tuple[Stored, NDArray[np.bool_] | None]"


class Reader(NamedTuple):
    """How the files of one format are read."""

    what: str  # for the message that lists the formats
    takes: Callable[[Path], bool]  # is this path of the format? It exists.
    # a train set and perhaps a test set; where means are to be filled in, what is missing is NaN
    read_parts: Callable[[Path, TableOptions, ClassNames], tuple[Dataset, Dataset | None]]
    # without labels; n_features tells a table with one column too many
    read_samples: Callable[[Path, TableOptions, int | None, ClassNames], Samples]
    # of a table: have its columns names? None for files without columns
    has_names: Callable[[Path, TableOptions], bool] | None = None
