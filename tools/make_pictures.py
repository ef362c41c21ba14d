"""Draw the READMEs' pictures anew from Fashion-MNIST: ``python -m tools.make_pictures``.

That takes about a minute.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from csoftmax.cli import main as csoftmax

PICTURES = Path(__file__).parents[1] / ".ci" / "pictures"


def main() -> int:
    """Train by minibatches and along a sweep; return the exit status."""
    with tempfile.TemporaryDirectory() as work:
        sgd, sweep = Path(work, "sgd"), Path(work, "sweep")
        status = csoftmax(["train", "--out", str(sgd)])
        status = status or csoftmax(
            ["train", "--sweep", "45", "--tol", "1e-3", "--out", str(sweep)]
        )
        if status == 0:
            for picture in (sgd / "curves.png", sgd / "predictions.png", sweep / "sweep.png"):
                shutil.copy(picture, PICTURES)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
