"""Draw the READMEs' pictures anew from Fashion-MNIST: ``python -m tools.make_pictures``.

That takes about a minute. With a folder that ``python -m benchmarks.package_texts`` made, that of
the words too: ``python -m tools.make_pictures tables``, about two minutes more.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from csoftmax.cli import main as csoftmax

PICTURES = Path(__file__).parents[1] / ".ci" / "pictures"


def main(tables: str | None = None) -> int:
    """Train by minibatches and along sweeps; return the exit status."""
    with tempfile.TemporaryDirectory() as work:
        sgd, sweep = Path(work, "sgd"), Path(work, "sweep")
        status = csoftmax(["train", "--out", str(sgd)])
        status = status or csoftmax(
            ["train", "--sweep", "45", "--tol", "1e-3", "--out", str(sweep)]
        )
        if status == 0:
            for picture in (sgd / "curves.png", sgd / "predictions.png", sweep / "sweep.png"):
                shutil.copy(picture, PICTURES)
        if status == 0 and tables is not None:
            words = ["--data", str(Path(tables, "words.npz")), "--l1-ratio", "1"]
            status = csoftmax(["train", *words, "--sweep", "13", "--out", work])
            if status == 0:
                shutil.copy(Path(work, "sweep.png"), PICTURES / "words.png")
    return status


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:2]))
