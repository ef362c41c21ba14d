"""The NEON kernels, cross-compiled and run under an emulator: tests/neon/compare.c."""

from __future__ import annotations

import ast
import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SIMD = ROOT / "src_cy" / "simd"
COMPILER = "aarch64-linux-gnu-gcc"
EMULATOR = "qemu-aarch64"
LIBRARIES = Path("/usr/aarch64-linux-gnu")

pytestmark = [
    pytest.mark.skipif(not SIMD.is_dir(), reason="needs the sources of the kernels"),
    pytest.mark.skipif(not shutil.which(COMPILER), reason=f"needs {COMPILER}"),
    pytest.mark.skipif(not shutil.which(EMULATOR), reason=f"needs {EMULATOR}"),
    pytest.mark.skipif(not LIBRARIES.is_dir(), reason=f"needs {LIBRARIES}"),
    pytest.mark.skipif(platform.machine() == "aarch64", reason="the other tests run on NEON here"),
]


def compile_flags() -> list[str]:
    """The flags of setup.py: its first list of that name, and what a release adds."""
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "compile_flags":
            flags: list[str] = ast.literal_eval(node.value)
            return [*flags, "-O3"]
    raise LookupError("setup.py has no compile_flags")


def test_neon_kernels_equal_scalar_kernels(tmp_path: Path) -> None:
    flags = [*compile_flags(), "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'src_cy'}"]

    def compiled(source: Path) -> str:
        target = str(tmp_path / f"{source.stem}.o")
        command = [COMPILER, *flags, "-c", str(source), "-o", target]
        run = subprocess.run(command, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        return target

    sources = [*sorted(SIMD.glob("*.c")), Path(__file__).parent / "neon" / "compare.c"]
    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compiled, sources))
    program = str(tmp_path / "compare")
    subprocess.run([COMPILER, *objects, "-lm", "-o", program], check=True)
    run = subprocess.run([EMULATOR, "-L", str(LIBRARIES), program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "neon float32 exp" in run.stdout
    assert "neon float64 log" in run.stdout
