"""What was recorded, and how a gradient goes back through it."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

OWN_FRAMES = ("csoftmax.", "numpy.")

_records: ContextVar[bool] = ContextVar("_records", default=True)


@contextmanager
def no_grad() -> Iterator[None]:
    """Record nothing inside ``with no_grad():``, or in a function that it decorates.

    Examples
    --------
    >>> import csoftmax as cs
    >>> W = cs.Parameter([1.0, 2.0])
    >>> with cs.no_grad():
    ...     doubled = 2 * W
    >>> doubled.requires_grad, (2 * W).requires_grad
    (False, True)

    Notes
    -----
    D2L section 3.6, ``evaluate_accuracy``, and section 3.2, ``sgd``.
    """
    token = _records.set(False)
    try:
        yield
    finally:
        _records.reset(token)


def is_recording() -> bool:
    """Are operations recorded here? Not inside `no_grad`."""
    return _records.get()


@dataclass(frozen=True, eq=False)
class Node:
    """One recorded operation.

    `backward` takes the gradient of the result and returns one for each of the `inputs`, None where
    the input is no part of the tape.
    """

    name: str
    inputs: Sequence[Any] = ()  # Tensors, arrays, numbers
    backward: Callable[[Array], Sequence[Array | None]] | None = None
    # Parameters whose values `backward` reads, with the number of updates that they had then
    reads: Sequence[tuple[Leaf, int]] = ()
    problem: str = ""  # why no gradient goes through
    memory: Leaf | None = None  # the Parameter in whose memory the result lies, as W.T does


@dataclass(eq=False)
class Leaf:
    """The end of the tape at a Parameter: its gradient, and how often it was updated in place."""

    grad: Array | None = None
    updates: int = 0


def frame_of_the_reader() -> FrameType:
    """Return the innermost frame outside csoftmax and NumPy."""
    frame = sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(OWN_FRAMES):
        frame = frame.f_back
    return frame


def unrecorded(operation: str) -> Node:
    """Return the node of an operation without a derivative here, named with the reader's line."""
    frame = frame_of_the_reader()
    where = f"line {frame.f_lineno} of {frame.f_code.co_filename}"
    return Node(
        operation,
        problem=f"no gradient goes through {operation} ({where}), which the tape does not record: "
        "compute the same from recorded operations (help(csoftmax.autograd) lists them), or take "
        "the array out of the tape with .detach() or inside no_grad() if no gradient is wanted",
    )


def at_the_readers_line(operation: str) -> np.errstate:
    """Return a context in which NumPy's warnings, such as of an overflow, name the reader's line.

    Those that are switched off, or are errors, stay so.
    """

    def warn(kind: str, flag: int) -> None:
        frame = frame_of_the_reader()
        warnings.warn_explicit(
            f"{kind} encountered in {operation}",
            RuntimeWarning,
            frame.f_code.co_filename,
            frame.f_lineno,
            registry=frame.f_globals.setdefault("__warningregistry__", {}),
        )

    kinds: dict[str, Any] = {
        kind: "call" if reaction == "warn" else reaction for kind, reaction in np.geterr().items()
    }
    return np.errstate(call=warn, **kinds)


def node_of(array: object) -> Node | Leaf | None:
    """Return what made `array`: an operation, the Leaf of a Parameter, None for other arrays."""
    return getattr(array, "_node", None)


def is_recorded(array: object) -> bool:
    """Does a gradient that arrives here have anywhere to go, and is it wanted?"""
    return node_of(array) is not None and is_recording()


def leaf_of(array: object) -> Leaf | None:
    """Return the Leaf of the Parameter in whose memory an array lies; None for other arrays."""
    node = node_of(array)
    return node.memory if isinstance(node, Node) else node


def go_back(last: Node | Leaf, gradient: Array) -> dict[Leaf, Array]:
    """Return for every `Leaf` behind `last` what the gradient of `last` makes of it.

    Raises RuntimeError where an operation has no derivative here, or a value that it needs is gone.
    """
    order = _from_the_inputs_on(last)
    for node in order:
        if isinstance(node, Leaf):
            continue
        if node.problem:
            raise RuntimeError(node.problem)
        if any(leaf.updates != updates for leaf, updates in node.reads):
            raise RuntimeError(
                f"a Parameter that {node.name} read was updated in place before backward(), which "
                "needs the value of then: compute the loss anew, and update after backward()"
            )
    gradients: dict[Node | Leaf, Array] = {last: gradient}
    # inf and NaN were warned of where the loss was computed
    with np.errstate(all="ignore"):
        for node in reversed(order):
            if isinstance(node, Leaf) or node not in gradients:
                continue
            assert node.backward is not None
            sent = node.backward(gradients.pop(node))
            for array, part in zip(node.inputs, sent, strict=True):
                source = node_of(array)
                if source is None or part is None:
                    continue
                part = part.astype(array.dtype, copy=False)
                known = gradients.get(source)
                gradients[source] = part if known is None else known + part
    return {leaf: part for leaf, part in gradients.items() if isinstance(leaf, Leaf)}


def _from_the_inputs_on(last: Node | Leaf) -> list[Node | Leaf]:
    """Return `last` and everything behind it, each node after all of its inputs."""
    order: list[Node | Leaf] = []
    seen: set[Node | Leaf] = set()
    stack: list[tuple[Node | Leaf, bool]] = [(last, False)]
    while stack:
        node, inputs_done = stack.pop()
        if inputs_done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            if isinstance(node, Node):
                sources = (node_of(array) for array in node.inputs)
                stack.extend((source, False) for source in sources if source is not None)
    return order
