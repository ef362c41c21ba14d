"""What a name that is not there is told."""

from __future__ import annotations


def missing(module: str, name: str) -> AttributeError:
    """Return the error of a name that other chapters of the book, or its tensor library, have."""
    here = module.rpartition(".")[2]
    return AttributeError(
        f"csoftmax's {here} has no {name}: it has what softmax regression in the book takes, as "
        f"dir({here}) lists it; NumPy's functions take tensors too"
    )
