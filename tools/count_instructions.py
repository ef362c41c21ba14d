"""Instructions of an epoch, a pass, a softmax and a fit: a cost that noise cannot touch.

    python tools/count_instructions.py            # compare with tests/instructions.json
    python tools/count_instructions.py --renew    # write it

valgrind's callgrind counts them, with csoftmax's kernels for AVX2 on one thread: valgrind has no
AVX-512. Counted is the work alone, on its second run, so that nothing is imported in it.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import csoftmax as cs
from csoftmax.solver import minimize

FILE = Path(__file__).parents[1] / "tests" / "instructions.json"
TOLERANCE = 0.02

# valgrind's requests are macros of C.
REQUESTS = """
#include <valgrind/callgrind.h>
void start(void) { CALLGRIND_START_INSTRUMENTATION; CALLGRIND_ZERO_STATS; }
void stop(const char *name) { CALLGRIND_DUMP_STATS_AT(name); CALLGRIND_STOP_INSTRUMENTATION; }
"""


def works() -> dict[str, Callable[[], Any]]:
    """Return what is counted; a second call does the same work again."""
    train, _ = cs.fashion_mnist_sample()
    X, y = train.X.reshape(len(train), -1)[:2000], train.y[:2000]
    model = cs.SoftmaxRegression(784, 10, seed=0)
    loader = cs.DataLoader(X, y, 256, shuffle=True, seed=0, scale=1 / 255)
    W, b = model.W.copy(), model.b.copy()
    gradient = np.empty_like(W), np.empty_like(b)
    logits = cs.linear(X, W, b, scale=1 / 255, n_threads=1)
    probs = np.empty_like(logits)
    middle = np.ascontiguousarray(X[:1000, 280:504])  # eight rows of each image
    at_a_scale: dict[str, Any] = {"scale": 1 / 255, "n_threads": 1}
    return {
        "epoch": partial(cs.train, model, loader, epochs=1, progress=False, n_threads=1),
        "pass": partial(cs.linear_cross_entropy_grad, X, W, b, y, out=gradient, **at_a_scale),
        "softmax": partial(cs.softmax, logits, out=probs, n_threads=1),
        "fit": partial(minimize, middle, y[:1000], 10, C=0.01, tol=1e-3, **at_a_scale),
    }


def do_works(library: str) -> None:
    """Do each work twice, and tell valgrind when the second time starts and ends."""
    requests = ctypes.CDLL(library)
    gc.disable()
    for name, work in works().items():
        work()
        requests.start()
        work()
        requests.stop(name.encode())


def missing() -> str:
    """Say what this machine lacks for counting; "" if nothing."""
    if platform.machine() != "x86_64" or "avx2" not in cs.info()["instruction sets available"]:
        return "this CPU does not have AVX2"
    for program in ("valgrind", "gcc"):
        if not shutil.which(program):
            return f"{program} is not installed"
    return ""


def count() -> dict[str, int]:
    """Return the instructions of each work."""
    with tempfile.TemporaryDirectory() as folder:
        library = str(Path(folder) / "requests.so")
        gcc = ["gcc", "-shared", "-fPIC", "-O1", "-x", "c", "-", "-o", library]
        subprocess.run(gcc, input=REQUESTS, text=True, check=True)
        found = np.show_config(mode="dicts").get("SIMD Extensions", {}).get("found", [])
        # Nothing is inherited: what a process finds in its environment moves its memory.
        environment = {
            "CSOFTMAX_ISA": "avx2",
            "NPY_DISABLE_CPU_FEATURES": " ".join(found),
            "OPENBLAS_CORETYPE": "Nehalem",
            "OPENBLAS_NUM_THREADS": "1",
            "PATH": os.environ.get("PATH", os.defpath),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": "0",
            "PYTHONPATH": str(Path(cs.__file__).parents[1]),
        }
        valgrind = ["valgrind", "--tool=callgrind", "--instr-atstart=no"]
        valgrind += [f"--callgrind-out-file={folder}/out"]
        words = [sys.executable, str(Path(__file__).resolve()), "--of-this-process", library]
        done = subprocess.run(
            valgrind + words, env=environment, stderr=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"valgrind failed:\n{done.stderr}")
        counts = {}
        for file in Path(folder).glob("out.*"):
            text = file.read_text()
            name = re.search(r"^desc: Trigger: Client Request: (\w+)", text, re.M)
            total = re.search(r"^(?:summary|totals): (\d+)", text, re.M)
            if name and total:
                counts[name[1]] = int(total[1])
    return {name: counts[name] for name in works()}


def made_with() -> dict[str, str]:
    """Return what decides how many instructions there are, beside this repository."""
    gcc = subprocess.run(["gcc", "-dumpfullversion"], stdout=subprocess.PIPE, text=True, check=True)
    python = platform.python_version()
    return {"gcc": gcc.stdout.strip(), "Python": python, "NumPy": np.__version__}


def differences(kept: dict[str, Any], counts: dict[str, int], here: dict[str, str]) -> list[str]:
    """Return a line for each work whose instructions are not those of the file, within 2 %."""
    lines = []
    for name in kept["instructions"].keys() | counts.keys():
        expected, got = kept["instructions"].get(name, 0), counts.get(name, 0)
        if abs(got - expected) > TOLERANCE * expected or not expected:
            change = f" ({got / expected - 1:+.1%})" if expected else ""
            lines.append(f"{name}: {got:,} instructions, expected {expected:,}{change}")
    if lines and here != kept["made with"]:
        lines.append(f"the file was made with {kept['made with']}, and this is {here}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Instructions of an epoch, a pass, a softmax, a fit."
    )
    parser.add_argument("--renew", action="store_true", help="write tests/instructions.json")
    parser.add_argument("--of-this-process", metavar="LIBRARY", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.of_this_process:
        do_works(given.of_this_process)
        return 0
    if missing():
        parser.error(missing())

    kept = json.loads(FILE.read_text()) if FILE.exists() else {"made with": {}, "instructions": {}}
    counts = count()
    for name, n in counts.items():
        print(f"{name}: {n:,}")
    lines = differences(kept, counts, made_with())
    print(*lines, sep="\n")
    if not given.renew:
        return min(len(lines), 1)
    FILE.write_text(json.dumps({"made with": made_with(), "instructions": counts}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
