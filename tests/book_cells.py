"""The blocks of the book's sections, run in a process: as a script, or in a notebook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

WAYS = ("script", "notebook")

# the same numbers each time, pictures drawn on paper, and a warning stops the program
BEFORE = """
import csoftmax.d2l, json, matplotlib, warnings
csoftmax.d2l.torch.manual_seed(0)
matplotlib.use("Agg")
warnings.filterwarnings("error")
"""
ON_THE_SAMPLE = """
from csoftmax.books import images
images.fashion_mnist = lambda root=None: csoftmax.fashion_mnist_sample()
"""
NOTEBOOK = """
import json, sys
cells = json.load(sys.stdin)
try:
    from IPython.core.interactiveshell import InteractiveShell
except ImportError:
    names = {"__name__": "__main__"}
    for cell in cells:
        exec(cell, names)
else:
    shell = InteractiveShell.instance()
    shell.kernel, shell.enable_gui = "a notebook has one", lambda gui=None: None
    for cell in [cells[0], "%matplotlib inline", *cells[1:]]:
        shell.run_cell(cell).raise_error()
"""


def cells_of(section: str, edition: str = "second") -> list[str]:
    """Return the blocks of book/<edition>/<section>.py; each begins with its title, a comment."""
    path = Path(__file__).parent / "book" / edition / f"{section}.py"
    return ["# " + cell for cell in path.read_text("utf-8").split("\n# %% ")[1:]]


def run(cells: list[str], way: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run cells in order, from a folder."""
    is_script = way == "script"
    cells = [BEFORE, *cells]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(cells) if is_script else NOTEBOOK],
        input="" if is_script else json.dumps(cells), cwd=folder, capture_output=True, text=True,
        env={**os.environ, "IPYTHONDIR": str(folder)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout[-2000:]
    return done
