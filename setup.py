"""The extension module and the description; the rest about the package is in pyproject.toml.

CSOFTMAX_DEBUG=1 builds it with bounds checks: Cython's, and the sanitizers of addresses and of
undefined behaviour.
"""

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

DEBUG = os.environ.get("CSOFTMAX_DEBUG") == "1"
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]

# No -march=native: instruction sets are chosen at run time. No -ffast-math: NaN, infinities and the
# order of sums matter. No contraction: a product and a sum are fused where the source says so.
# Python's own flags may let integers wrap, which would hide an overflow from the sanitizers.
compile_flags = ["-std=c11", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
compile_flags += ["-O1", "-g", "-fno-wrapv", *SANITIZE] if DEBUG else ["-O3", "-g0"]


class BuildExtension(build_ext):
    """Compile the sources side by side: there is one for each instruction set.

    Leave the module in the source tree too: `python -m csoftmax` typed there imports that.
    """

    def build_extensions(self):
        compile_in_turn = self.compiler.compile

        def compile_side_by_side(sources, **options):
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                parts = pool.map(lambda source: compile_in_turn([source], **options), sources)
                return [path for part in parts for path in part]

        self.compiler.compile = compile_side_by_side
        super().build_extensions()

    def run(self):
        super().run()
        if not self.inplace and not DEBUG:
            self.copy_extensions_to_source()


def description():
    """README.md as a package index can show it: the repository's own files are not there.

    Their pictures are left out, and a link to one of them becomes its name.
    """
    text = Path("README.md").read_text(encoding="utf-8")
    text = re.sub(r"!\[[^]]*\]\((?!https:)[^)]*\)\s*", "", text)

    def named(link):
        return link[1] if link[1] == link[2] else f"{link[1]} ({link[2]})"

    return re.sub(r"\[([^]]*)\]\((?!https:)([^)]*)\)", named, text)


extension = Extension(
    "csoftmax._kernels",
    sources=["src_cy/_kernels.pyx", *sorted(map(str, Path("src_cy/simd").glob("*.c")))],
    depends=[
        str(path) for kind in ("h", "pxd", "pxi") for path in Path("src_cy").rglob(f"*.{kind}")
    ],
    include_dirs=["src_cy"],
    extra_compile_args=compile_flags,
    extra_link_args=SANITIZE if DEBUG else [],
)

folder = "build/checked" if DEBUG else "build"  # objects of the two must not meet

setup(
    long_description=description(),
    long_description_content_type="text/markdown",
    cmdclass={"build_ext": BuildExtension},
    options={"build": {"build_base": folder}},
    ext_modules=cythonize(
        [extension],
        build_dir=f"{folder}/cython",
        include_path=["src_cy"],
        compiler_directives={
            "language_level": 3,
            "boundscheck": DEBUG,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": DEBUG,
        },
    ),
)
