"""The solver's state in a safetensors file: a resumed run goes on to the same bits.

What is saved of a head is where its last iteration ended; what was under way begins anew, and as
evaluations are deterministic it comes to the same.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from csoftmax import _kernels
from csoftmax.core.errors import DataError
from csoftmax.core.files import write_atomically
from csoftmax.solver.walk import Walk

Array = NDArray[Any]

METADATA_KEY = "csoftmax.solver"
FORMAT_VERSION = 6


class Resumable(Protocol):
    """Heads that are solved, as a checkpoint knows them."""

    def state(self) -> dict[str, Array]:
        """Return where all heads are: what `restore` goes on from."""
        ...

    def restore(self, state: dict[str, Array]) -> None: ...


def digest_of(rows: bytes, settings: Sequence[object], arrays: Iterable[Array | None]) -> str:
    """Return a digest of rows (one of them), settings (their repr), arrays, and the kernels."""
    digest = hashlib.blake2b(rows, digest_size=16)
    for part in (*settings, _kernels.active()):
        digest.update(f"{part!r};".encode())
    for array in arrays:
        if array is not None:
            digest.update(np.ascontiguousarray(array).reshape(-1).data.cast("B"))
    return digest.hexdigest()


def fingerprint(walk: Walk) -> str:
    """Return a digest of all that the bits depend on, except the tolerances and max_iter."""
    problem, options, kept = walk.problem, walk.options, walk.problem.kept
    settings = (
        problem.fit_intercept, options.history_size, options.preconditioner, walk.is_path,
        walk.starts is None, kept and kept.n_rows,
    )  # fmt: skip
    arrays = (problem.C, problem.weight_of_head, *(walk.starts or ()))
    return digest_of(problem.passes.fingerprint(), settings, arrays)


class Checkpoint:
    """A file that heads are saved to and resumed from; `problem` is a digest of what they solve."""

    def __init__(self, path: str | os.PathLike[str], walk: Resumable, problem: str) -> None:
        self.path, self.walk, self.problem = Path(path), walk, problem

    def save(self) -> None:
        """Write the state of all heads, whole or not at all; never while a head is changed."""
        from safetensors.numpy import save

        description = {"format": FORMAT_VERSION, "problem": self.problem}
        tensors = {name: np.asarray(array, order="C") for name, array in self.walk.state().items()}
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
        version = description.get("format", "4 or older")  # those did not record it
        if version != FORMAT_VERSION:
            raise DataError(
                f"{self.path}: the checkpoint has format {version}, expected format "
                f"{FORMAT_VERSION}: another version of csoftmax wrote it, and this one cannot go "
                "on from it. Delete the file to begin anew"
            )
        if description.get("problem") != self.problem:
            raise DataError(
                f"{self.path}: the checkpoint is of another problem: other data, weights, C or "
                "settings, or another instruction set. Expected that of this call, or no file"
            )
        self.walk.restore(tensors)
        return True
