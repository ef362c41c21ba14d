"""The rule by which sums over rows are made: the same bits however the work is cut.

Rows are cut into chunks of CHUNK_ROWS, counted from the start of an array or a shard; the last one
has the rows that are left, up to twice as many. A chunk is summed in the compute type. The sums of
chunks are added pairwise in float64: chunks 0 and 1, 2 and 3; these two sums; and so on. An aligned
run of 2^k chunks is a unit: its sum is a subtree, so whoever computes it gets the same bits. What
is left of an incomplete tree is added from its end: the sum of later chunks to that of earlier
ones. So the rounding of a sum does not grow with the number of rows.

Rows that are fewer than two chunks have one chunk: a pass over them is as it would be without this
rule. Sparse rows in memory are summed by columns, feature after feature, each in the order of the
rows: such sums have one order anyway, and columns of each chunk would take more time than the rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

# A multiple of 2,048, as the kernels ask. Smaller chunks would cost a pass over pixels time;
# larger ones have to be read whole, and round more.
CHUNK_ROWS = 8192

Sums = NDArray[np.float64]


def n_chunks(n_rows: int) -> int:
    """Return how many chunks an array or a shard has.

    Examples
    --------
    >>> [n_chunks(n) for n in (0, 1, 8192, 16383, 16384)]
    [0, 1, 1, 1, 2]
    """
    return max(1, n_rows // CHUNK_ROWS) if n_rows else 0


def runs(n_rows: int, at_once: int) -> Iterator[slice]:
    """Cut rows into runs of so many chunks; the last one may have fewer.

    Examples
    --------
    >>> list(runs(40_000, 2))
    [slice(0, 16384, None), slice(16384, 40000, None)]
    """
    n = n_chunks(n_rows)
    for first in range(0, n, at_once):
        end = first + at_once
        yield slice(first * CHUNK_ROWS, end * CHUNK_ROWS if end < n else n_rows)


class SumTree:
    """Sums of chunks, added up pairwise as they come: as many nodes as a binary counter has digits.

    Parameters
    ----------
    n_chunks : int
        At most so many are added.
    n_sums : int
        Numbers that are summed for each chunk.

    Attributes
    ----------
    nodes : float64 array (n_levels, n_sums)
        The node of level l is the sum of 2^l chunks; it is there if the digit l of `n` is 1.
    n : int
        Chunks added so far.

    Examples
    --------
    >>> tree = SumTree(3, 1)
    >>> for chunk in ([1.0], [2.0], [4.0]):
    ...     tree.add(np.array(chunk))
    >>> tree.n, tree.total()
    (3, array([7.]))
    """

    def __init__(self, n_chunks: int, n_sums: int) -> None:
        self.nodes: Sums = np.empty((max(1, n_chunks.bit_length()), n_sums))
        self.n = 0

    def add(self, node: NDArray[Any], level: int = 0) -> None:
        """Add the sum of the next 2^level chunks; `n` must be a multiple of that number."""
        if self.n % (1 << level):
            raise ValueError(f"{1 << level} chunks after {self.n} are no unit")
        self.n += 1 << level
        end = self.n
        while not end >> level & 1:  # the digit before was 1
            node = self.nodes[level] + node
            level += 1
        self.nodes[level] = node

    def units(self) -> Iterator[tuple[int, Sums]]:
        """Yield level and sum of the largest units that the chunks so far are, in their order."""
        for level in reversed(range(len(self.nodes))):
            if self.n >> level & 1:
                yield level, self.nodes[level]

    def total(self) -> Sums:
        """Return the sum of all chunks so far."""
        total: Sums | None = None
        for level in range(self.n.bit_length()):
            if self.n >> level & 1:
                total = self.nodes[level] if total is None else self.nodes[level] + total
        return np.zeros(self.nodes.shape[1]) if total is None else total
