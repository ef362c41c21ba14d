"""The kernels without the Python above them, each set against scalar: tests/neon/compare.c.

Those of this machine are taken from the extension as it is installed; NEON's are compiled for
another machine and run under an emulator.
"""

from __future__ import annotations

import ast
import platform
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from csoftmax import _kernels

ROOT = Path(__file__).resolve().parent.parent
SIMD = ROOT / "src_cy" / "simd"
COMPARE = ROOT / "tests" / "neon" / "compare.c"
CROSS_COMPILER = "aarch64-linux-gnu-gcc"
EMULATOR = "qemu-aarch64"
LIBRARIES = Path("/usr/aarch64-linux-gnu")

pytestmark = pytest.mark.skipif(not SIMD.is_dir(), reason="needs the sources of the kernels")


def compile_flags() -> list[str]:
    """The flags of setup.py: its first list of that name, and what a release adds."""
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "compile_flags":
            flags: list[str] = ast.literal_eval(node.value)
            return [*flags, "-O3", f"-I{ROOT / 'src_cy'}", "-Wall", "-Wextra", "-Werror"]
    raise LookupError("setup.py has no compile_flags")


# The extension's symbols become those of compare.c, which is loaded after it.
RUN_BESIDE_THE_EXTENSION = """
import ctypes, sys
ctypes.CDLL(sys.argv[1], ctypes.RTLD_GLOBAL)
sys.exit(ctypes.CDLL(sys.argv[2]).main())
"""


@pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")
def test_kernels_equal_scalar_kernels(tmp_path: Path) -> None:
    """A few seconds, which hold every kernel, and that none touches a byte beside its arrays."""
    library = str(tmp_path / "compare.so")
    command = ["gcc", *compile_flags(), "-shared", "-fPIC", str(COMPARE), "-lm", "-o", library]
    subprocess.run(command, check=True)
    run = subprocess.run(
        [sys.executable, "-c", RUN_BESIDE_THE_EXTENSION, _kernels.__file__, library],
        capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    for name in _kernels.available():
        assert f"{name} float32 exp" in run.stdout
        assert f"{name} float64 log" in run.stdout
    assert "values checked" in run.stdout


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which(CROSS_COMPILER), reason=f"needs {CROSS_COMPILER}")
@pytest.mark.skipif(not shutil.which(EMULATOR), reason=f"needs {EMULATOR}")
@pytest.mark.skipif(not LIBRARIES.is_dir(), reason=f"needs {LIBRARIES}")
@pytest.mark.skipif(platform.machine() == "aarch64", reason="the other tests run on NEON here")
def test_neon_kernels_equal_scalar_kernels(tmp_path: Path) -> None:
    flags = compile_flags()

    def compiled(source: Path) -> str:
        target = str(tmp_path / f"{source.stem}.o")
        command = [CROSS_COMPILER, *flags, "-c", str(source), "-o", target]
        run = subprocess.run(command, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        return target

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compiled, [*sorted(SIMD.glob("*.c")), COMPARE]))
    program = str(tmp_path / "compare")
    subprocess.run([CROSS_COMPILER, *objects, "-lm", "-o", program], check=True)
    run = subprocess.run([EMULATOR, "-L", str(LIBRARIES), program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "neon float32 exp" in run.stdout
    assert "neon float64 log" in run.stdout
