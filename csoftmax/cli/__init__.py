"""The command line: one module a command, and `program`, which runs them.

A thin face: each command reads its options, calls the library and prints. A user's mistake ends
with one line on stderr and exit code 2; an error of the program's own keeps its traceback.
"""

from csoftmax.cli.program import main

__all__ = ["main"]
