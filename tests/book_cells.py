"""The blocks of the book's sections, as their files have them."""

from __future__ import annotations

from pathlib import Path


def cells_of(section: str, edition: str = "second") -> list[str]:
    """Return the blocks of book/<edition>/<section>.py; each begins with its title, a comment."""
    path = Path(__file__).parent / "book" / edition / f"{section}.py"
    return ["# " + cell for cell in path.read_text("utf-8").split("\n# %% ")[1:]]
