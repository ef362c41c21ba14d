"""What may be changed in place: Parameters, and what is not recorded by what is not recorded."""

from __future__ import annotations

from typing import Any

from csoftmax.autograd.tape import Leaf, is_recorded, node_of


def refuse_out(out: Any, *inputs: object) -> None:
    """Refuse `out` where the operation is recorded, because backward needs a result of its own."""
    if out is not None and any(map(is_recorded, inputs)):
        raise ValueError(
            "what is computed from a Parameter would be written into another array (out=, an item, "
            "or in place), which is not recorded: backward() would not know of it. Use the result "
            "itself, take it off the tape by .detach(), or compute inside no_grad()"
        )


def check_update(target: Any, *values: Any) -> None:
    """Refuse an update of a recorded array, and of any by recorded values; count a Parameter's."""
    node = node_of(target)
    if isinstance(node, Leaf):
        node.updates += 1
    elif node is not None and not node.problem:
        raise ValueError(
            "this array was computed from a Parameter and is read-only, because backward() would "
            "not know of the update: write x = x * 2 for x *= 2, change a copy off the tape, "
            "x.detach().copy(), or, to update a part of a Parameter, do it inside no_grad()"
        )
    elif node is None:
        refuse_out(target, *values)
