"""The pages in docs/: every cell compiles, and the two languages have the same program.

The gate executes them (`.ci/wheel-elsewhere`).
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PAGES = sorted((Path(__file__).parent.parent / "docs").glob("*.md"))


def cells(page: Path) -> list[str]:
    return re.findall(r"^```\{code-cell\}.*?\n(.*?)^```$", page.read_text("utf-8"), re.S | re.M)


class _WithoutStrings(ast.NodeTransformer):
    """Leaves of strings what they compute: translations differ in all else."""

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        return ast.Constant("") if isinstance(node.value, str) else node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.JoinedStr:
        computed = [self.visit(v.value) for v in node.values if isinstance(v, ast.FormattedValue)]
        return ast.JoinedStr(computed)


def program(cell: str) -> str:
    return ast.dump(_WithoutStrings().visit(ast.parse(cell)))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_fence_is_closed_and_every_cell_compiles(page: Path) -> None:
    text = page.read_text("utf-8")
    assert len(cells(page)) == text.count("{code-cell}") > 20
    for number, cell in enumerate(cells(page)):
        compile(cell, f"{page.name}, cell {number}", "exec")


def test_both_languages_have_the_same_program() -> None:
    english, chinese = (page for page in PAGES if page.name.startswith("softmax-regression."))
    pairs = zip(cells(english), cells(chinese), strict=True)
    for number, (one, other) in enumerate(pairs):
        assert program(one) == program(other), f"cell {number}:\n{one}\n{other}"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ('print(f"loss {l:.2f}")  # nats', 'print(f"损失为{l:6}")', True),
        ('print(f"loss {l}")', 'print(f"损失{b}")', False),
        ('print("a", l)', 'print("b", 2 * l)', False),
    ],
)
def test_only_strings_and_comments_may_differ(one: str, other: str, same: bool) -> None:
    assert (program(one) == program(other)) is same
