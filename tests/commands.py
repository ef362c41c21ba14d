"""The command line as the tests call it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import csoftmax as cs
from csoftmax import data

SAMPLE = data.sample_folder()
RESULTS = {"model.safetensors", "history.csv"}


def command(*words: object) -> list[str]:
    return [str(word) for word in words]


def subprocess_of(*words: object, **options: Any) -> subprocess.Popen[str]:
    # The program under test is the package under test, wherever the process starts.
    home = str(Path(cs.__file__).parents[1])
    path = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
    options["env"] = os.environ | {"PYTHONPATH": path}
    return subprocess.Popen(
        command(sys.executable, "-m", "csoftmax", *words),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip
