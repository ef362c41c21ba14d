"""`python -m csoftmax`: the command line."""

from __future__ import annotations

import sys

from csoftmax.cli import main

sys.exit(main())
