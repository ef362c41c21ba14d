"""What a solution takes in memory besides X: the plans there are, the fastest first."""

from __future__ import annotations

from typing import NamedTuple

from csoftmax.core.checks import Stored, compute_dtype
from csoftmax.core.sparse import CSR
from csoftmax.engine import passes
from csoftmax.solver import bound, diagonal, hessians, lbfgs, newton, problem, sample
from csoftmax.solver.arguments import is_dense_enough
from csoftmax.solver.problem import Sizes

# L-BFGS keeps as many pairs as HISTORY_BYTES hold: at least LEAST_PAIRS, at most MOST_PAIRS. A path
# over LONG_PATH_ROWS rows or more may keep MOST_PAIRS_OF_PATH. The passes that 10, 30 and 100 took:
# - a path of 15 C over 60,000 images: 261, 255 and 262; over 8,000 of them: 3,984, 2,946 and 1,650;
# - a path of 8 C over digits (1,797 rows): 142, 109 and 143;
# - C = 1000 alone over 15,000 images: 622, 523 and 440 (no faster); over digits: 103, 126 and 189.
HISTORY_BYTES, LEAST_PAIRS, MOST_PAIRS = 1 << 24, 10, 30
MOST_PAIRS_OF_PATH, LONG_PATH_ROWS = 100, 4096
SHORTER_HISTORIES = (10, 5, 3)  # pairs, where memory does not hold the usual number


class Plan(NamedTuple):
    """How a problem is solved, and how many bytes that takes at most, besides X."""

    history_size: int
    preconditioner: str | None
    n_bytes: float

    def of_one(self, X: Stored, n_classes: int) -> Plan:
        """Return the plan for one head after a path, with the pairs of a call for it alone."""
        usual = usual_pairs(len(X), head_bytes(X, n_classes), path=False)
        return self._replace(history_size=min(self.history_size, usual))


def head_bytes(X: Stored, n_classes: int) -> int:
    """Return the bytes of one head's W and b."""
    return int(n_classes * (X.shape[1] + 1) * compute_dtype(X).itemsize)


def usual_pairs(n_rows: int, head_bytes: int, path: bool) -> int:
    """Return how many pairs of L-BFGS a head with so many bytes of parameters usually keeps."""
    most = MOST_PAIRS_OF_PATH if path and n_rows >= LONG_PATH_ROWS else MOST_PAIRS
    return min(max(HISTORY_BYTES // (2 * head_bytes), LEAST_PAIRS), most)


def plans(
    X: Stored, n_classes: int, n_threads: int, n_heads: int = 1, n_weights: int = 0,
    path: bool = False, evaluates: bool = False,
) -> list[Plan]:  # fmt: skip
    """Return the plans that there are, the best first; the first one that fits is chosen.

    `n_weights` is how many rows of weights there are, 0 where all samples weigh 1. With `evaluates`
    no step is made: ``max_iter`` is 0.
    """
    (n_rows, n_features), itemsize = X.shape, compute_dtype(X).itemsize
    is_sparse, stored_itemsize = isinstance(X, CSR), itemsize
    if isinstance(X, CSR):
        is_sparse = not is_dense_enough(X, n_classes)
    else:
        stored_itemsize = X.itemsize
    sizes = Sizes(
        n_rows, n_features, n_classes, n_heads, n_weights, n_threads, itemsize, stored_itemsize
    )
    a_pass = passes.bytes_needed(n_rows, n_heads, n_classes, sizes.parameter_bytes, n_threads)
    if is_sparse:
        a_pass = passes.sparse_bytes_needed(X, n_heads, n_classes, itemsize)
    elif isinstance(X, CSR):
        a_pass += n_rows * n_features * itemsize
    always = problem.bytes_needed(sizes) + a_pass
    if evaluates:
        always += bound.bytes_needed(sizes)
        return [Plan(1, None, always + lbfgs.bytes_needed(sizes.parameter_bytes, 1))]
    usual = usual_pairs(n_rows, head_bytes(X, n_classes), path)
    kinds = {"auto": diagonal.bytes_needed(sizes)} if is_sparse else _preconditioners(sizes)
    return [
        Plan(pairs, kind, always + extra + lbfgs.bytes_needed(sizes.parameter_bytes, pairs))
        for kind, extra in kinds.items()
        for pairs in (usual, *(m for m in SHORTER_HISTORIES if m < usual))
    ]


def _preconditioners(sizes: Sizes) -> dict[str, float]:
    """Return the bytes that solving takes with the preconditioners "auto" and "diagonal".

    They come on top of those of the passes, the rows and the pairs of L-BFGS.
    """
    diagonal = _in_turn(sizes, full=False)
    if newton.suits(*sizes[:3]):
        by_newton = newton.bytes_needed(sizes) + bound.bytes_needed(sizes)
        return {"auto": by_newton, "diagonal": diagonal}
    coarse = sizes._replace(n_rows=sample.sampled_rows(sizes), n_weights=0)
    start = newton.bytes_needed(coarse) if newton.suits(*coarse[:3]) else 0.0
    return {"auto": _in_turn(sizes, sample.wants_full("auto", sizes), start), "diagonal": diagonal}


def _in_turn(sizes: Sizes, full: bool, start: float = 0.0) -> float:
    """Return the bytes that are kept, and the most that one of the steps takes.

    The steps follow each other: samples, the start on one of them, Hessians, and at last bounds.
    """
    kept = sample.kept_bytes(sizes, full) + hessians.kept_bytes(sizes, full)
    making = sample.making_bytes(sizes, full), hessians.making_bytes(sizes, full)
    return kept + max(start, *making, bound.bytes_needed(sizes))
