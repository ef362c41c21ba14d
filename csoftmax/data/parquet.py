"""Writing tables of Parquet, block by block."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import Any

from csoftmax.core.files import write_atomically
from csoftmax.data.readers.parts.columns import pyarrow


def write_parquet(path: str | os.PathLike[str], blocks: Iterable[Mapping[str, Any]]) -> None:
    """Write blocks of columns by their names, each block a row group; all of the file or nothing.

    Raises ImportError without pyarrow.
    """
    pa = pyarrow()

    def write(file: Any) -> None:
        with ExitStack() as stack:  # a writer that fails is closed while its file is open
            writer = None
            for block in blocks:
                table = pa.table({name: pa.array(column) for name, column in block.items()})
                if writer is None:
                    writer = stack.enter_context(pa.parquet.ParquetWriter(file, table.schema))
                writer.write_table(table)

    write_atomically(path, write)
