"""``python -m csoftmax.bench``: the same as ``python -m csoftmax bench``."""

from __future__ import annotations

import sys

from csoftmax.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", *sys.argv[1:]]))
