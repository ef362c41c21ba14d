"""The solver's state in a safetensors file: a resumed run goes on to the same bits.

What is saved of a head is where its last iteration ended; a line search that was under way begins
anew, and as evaluations are deterministic it comes to the same.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax import _kernels
from csoftmax.core.errors import DataError
from csoftmax.core.files import write_atomically
from csoftmax.solver.head import Head
from csoftmax.solver.lbfgs import Point
from csoftmax.solver.walk import Walk

Array = NDArray[Any]

METADATA_KEY = "csoftmax.solver"
FORMAT_VERSION = 4
BLOCK_BYTES = 1 << 24
SMALL = ("slots", "R_inverse", "YPY", "Sg", "YPg")  # arrays of the history
# What a head keeps besides arrays, as JSON has it.
FIELDS = (
    "passes", "iterations", "age", "refresh_at", "estimate", "converged", "stalled", "inherited",
    "factor", "history",
)  # fmt: skip


def fingerprint(walk: Walk) -> str:
    """Return a digest of all that the bits depend on, but for the tolerances and max_iter."""
    problem, settings = walk.problem, walk.settings
    digest = hashlib.blake2b(digest_size=16)
    for part in (
        problem.X.shape, problem.X.dtype.str, problem.n_classes, problem.scale,
        problem.fit_intercept, settings.history_size, settings.preconditioner, walk.is_path,
        walk.starts is None, _kernels.active(), FORMAT_VERSION,
    ):  # fmt: skip
        digest.update(f"{part!r};".encode())
    arrays = [problem.target, problem.C, problem.weight_of_head, *(walk.starts or ())]
    if problem.weights is not None:
        arrays.append(problem.weights)
    for array in (*arrays, *_row_blocks(problem.X)):
        digest.update(np.ascontiguousarray(array).data.cast("B"))
    return digest.hexdigest()


def _row_blocks(X: Array) -> Iterator[Array]:
    step = max(1, BLOCK_BYTES // max(1, X.shape[1] * X.dtype.itemsize))
    for start in range(0, len(X), step):
        if X.shape[1]:
            yield X[start : start + step]


class Checkpoint:
    """A file that a walk is saved to and resumed from."""

    def __init__(self, path: str | os.PathLike[str], walk: Walk) -> None:
        self.path, self.walk = Path(path), walk
        self.problem = fingerprint(walk)

    def save(self) -> None:
        """Write the state of all heads, whole or not at all; between iterations only."""
        from safetensors.numpy import save

        tensors: dict[str, Array] = {}
        described = [_describe(head, tensors) for head in self.walk.heads]
        description = {"problem": self.problem, "heads": described}
        content = save(tensors, {METADATA_KEY: json.dumps(description)})
        write_atomically(self.path, lambda file: file.write(content))

    def resume(self) -> bool:
        """Set the walk to the state in the file; False if there is no file yet."""
        from safetensors import SafetensorError, safe_open

        if not self.path.exists():
            return False
        try:
            with safe_open(self.path, framework="numpy") as file:
                description = json.loads((file.metadata() or {}).get(METADATA_KEY, "null"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, ValueError) as error:
            raise DataError(f"{self.path}: expected a checkpoint, got: {error}") from None
        if not isinstance(description, dict):
            raise DataError(f"{self.path}: expected a checkpoint of the solver, got another file")
        if description.get("problem") != self.problem:
            raise DataError(
                f"{self.path}: the checkpoint is of another problem: other data, weights, C or "
                "settings, or another instruction set. Expected that of this call, or no file"
            )
        for head, state in zip(self.walk.heads, description["heads"], strict=True):
            _restore(self.walk, head, state, tensors)
        return True


def _describe(head: Head, tensors: dict[str, Array]) -> dict[str, Any]:
    """Return what JSON can hold of a head, and put the rest into `tensors`."""
    description: dict[str, Any] = {name: getattr(head, name) for name in FIELDS}
    state, name = head.state, f"{head.index}."
    description["trace"] = head.trace.tolist()
    description["started"] = state is not None and state.point is not None
    if state is None or state.point is None:
        return description
    if (
        head.history["passes"] and not head.stalled
    ):  # evaluations of a line search under way will be made again
        description["passes"] = int(head.history["passes"][-1])
    description["objective"] = state.point.objective
    description["gamma"], description["next"] = state.history.gamma, state.history.next
    history, n = state.history, state.history.count
    for key, array in (
        ("x", state.point.x), ("gradient", state.point.gradient),
        ("reduced", state.point.reduced), ("preconditioned", state.point.preconditioned),
        ("origin", head.origin), ("S", history.S[:n]), ("Y", history.Y[:n]),
        *((name, getattr(history, name)) for name in SMALL),
    ):  # fmt: skip
        if array is not None:
            tensors[name + key] = np.ascontiguousarray(array)
    return description


def _restore(
    walk: Walk, head: Head, description: dict[str, Any], tensors: dict[str, Array]
) -> None:
    for field in FIELDS:
        setattr(head, field, description[field])
    head.trace = np.array(description["trace"]).reshape(-1, 3)
    if not description["started"]:
        return

    def tensor(key: str) -> Array:
        return np.array(tensors[f"{head.index}.{key}"])  # writable

    head.origin = tensors.get(f"{head.index}.origin")
    state = head.state = walk.descent(head, tensor("x"))
    state.point = Point(
        tensor("x"), description["objective"], tensor("gradient"), tensor("reduced"),
        tensor("preconditioned"),
    )  # fmt: skip
    history = state.history
    n = history.count = len(tensor("S"))
    history.S[:n], history.Y[:n] = tensor("S"), tensor("Y")
    for name in SMALL:
        setattr(history, name, tensor(name))
    history.gamma, history.next = description["gamma"], description["next"]
    head.steps = state.steps()
