"""The house: imports go down only, one door to the kernels, no file beyond a few screens."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import csoftmax

PACKAGE = Path(csoftmax.__file__).parent
REPOSITORY = Path(__file__).parents[1]

# Each place may import from itself and from the places before it in the list, but data, which is a
# branch of its own, serves nothing below the model. Places of one row do not import each other.
ORDER: list[set[str]] = [
    {"core"},
    {"rows"},
    {"engine"},
    {"data", "autograd"},
    {"functional", "reference"},
    {"results"},
    {"model"},
    {"labelled"},
    {"evaluation"},
    {"training", "solver"},
    {"slices", "optimum"},
    {"draw", "plot"},
    {"estimators", "books", "d2l", "d2l1"},
    {"dask"},
    {"bench"},
    {"app"},
    {"cli"},
    {"__main__"},
]
WITHOUT_DATA = {"functional", "reference", "autograd"}
SAME_ROW = {("d2l", "books"), ("d2l1", "books"), ("plot", "draw")}  # public names
PASSES = {"row_pass", "linear_gradient", "softmax_pass", "shuffle"}
MAX_LINES = 450

# What still breaks a rule. Empty: nothing does.
ALLOWED: dict[str, set[str]] = {
    "imports": set(),
    "passes": set(),
    "classes": set(),
    "long files": set(),
}


class Import(NamedTuple):
    importer: str  # a module, without "csoftmax."
    imported: str  # a module, without "csoftmax."; "" for the package itself
    name: str  # what is imported of it; "" for the module
    is_lazy: bool  # inside a function, or for type checkers only


def modules() -> dict[str, Path]:
    """Return every module of the package by its name without "csoftmax."."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def place_of(module: str) -> str:
    """Return where a module stands: the first word of its name, but for what is run."""
    return "__main__" if module.endswith("__main__") else module.partition(".")[0]


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def imports_of(module: str, tree: ast.AST) -> Iterator[Import]:
    """Yield what a module imports of csoftmax."""
    lazy = {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, (ast.FunctionDef, ast.AsyncFunctionDef, ast.If))
        for inner in ast.walk(outer)
    }
    package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if place_of(alias.name) == "csoftmax":
                    yield Import(module, alias.name[len("csoftmax.") :], "", id(node) in lazy)
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                parts = ["csoftmax", *filter(None, package.split("."))]
                parts = parts[: len(parts) - node.level + 1]
                source = ".".join([*parts, *filter(None, [source])])
            if place_of(source) != "csoftmax":
                continue
            source = source[len("csoftmax.") :]
            for alias in node.names:
                inner = f"{source}.{alias.name}".lstrip(".")
                if inner in MODULES or inner == "_kernels":
                    yield Import(module, inner, "", id(node) in lazy)
                else:
                    yield Import(module, source, alias.name, id(node) in lazy)


TREES = {module: ast.parse(path.read_text("utf-8")) for module, path in MODULES.items()}
IMPORTS = [found for module, tree in TREES.items() for found in imports_of(module, tree)]


def test_every_place_has_its_row() -> None:
    places = {place_of(module) for module in MODULES} - {""}
    assert places <= set().union(*ORDER)


def test_imports_go_down_only() -> None:
    row = {place: i for i, places in enumerate(ORDER) for place in places}
    wrong = set()
    for found in IMPORTS:
        importer, imported = place_of(found.importer), place_of(found.imported)
        if not importer or not imported or imported == "_kernels" or importer == imported:
            continue  # the package's page of public names; kernels have a test of their own
        upward = row[imported] >= row[importer] and (importer, imported) not in SAME_ROW
        if upward or (imported == "data" and importer in WITHOUT_DATA):
            wrong.add(f"{found.importer} -> {found.imported}")
    assert wrong == ALLOWED["imports"]


def test_only_faces_import_the_page_of_public_names() -> None:
    faces = {"", "app", "books", "bench", "cli", "__main__"}
    wrong = {f"{found.importer} -> csoftmax" for found in IMPORTS if not found.imported}
    assert {name for name in wrong if place_of(name.partition(" ")[0]) not in faces} == set()


def test_only_engine_calls_the_passes_of_the_kernels() -> None:
    wrong = set()
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            of_kernels = (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "_kernels"
                and node.attr in PASSES
            )
            if of_kernels and module != "engine.calls":
                wrong.add(f"{module} -> _kernels.{node.attr}")  # type: ignore[attr-defined]
    wrong |= {
        f"{found.importer} -> _kernels.{found.name}"
        for found in IMPORTS
        if found.imported == "_kernels" and found.name in PASSES
        if found.importer != "engine.calls"
    }
    assert wrong == ALLOWED["passes"]


def test_no_private_name_leaves_its_package() -> None:
    wrong = {
        f"{found.importer} -> {found.imported}.{found.name}"
        for found in IMPORTS
        for word in [*found.imported.split("."), found.name]
        if is_private(word) and word != "_kernels"
        if place_of(found.importer) != place_of(found.imported)
    }
    assert wrong == set()


def test_no_module_is_private_and_nothing_imports_in_a_circle() -> None:
    assert not [module for module in MODULES if any(map(is_private, module.split(".")))]
    needs: dict[str, set[str]] = {module: set() for module in MODULES}
    for found in IMPORTS:
        is_page = MODULES[found.importer].name == "__init__.py"  # a list of what its modules define
        if not (found.is_lazy or is_page) and found.imported in needs:
            needs[found.importer].add(found.imported)
    circles = [module for module in needs if module in reached_from(module, needs)]
    assert not circles


def reached_from(module: str, needs: dict[str, set[str]]) -> set[str]:
    """Return the modules that a module needs, and those that they need."""
    reached: set[str] = set()
    left = list(needs[module])
    while left:
        one = left.pop()
        if one not in reached:
            reached.add(one)
            left += needs[one]
    return reached


def test_one_class_of_a_name() -> None:
    places: dict[str, list[str]] = {}
    for module, tree in TREES.items():
        if place_of(module) in ("books", "dask"):  # the book's names; one name, wherever rows are
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(module)
    twice = {name: where for name, where in places.items() if len(where) > 1}
    # the solver's warning, and the one of its name that scikit-learn knows as its own
    assert set(map(place_of, twice.pop("ConvergenceWarning"))) == {"estimators", "solver"}
    assert set(twice) == ALLOWED["classes"], twice


@pytest.mark.skipif(not (REPOSITORY / "src_cy").is_dir(), reason="the sources are not here")
def test_no_file_beyond_a_few_screens() -> None:
    kinds = ("py", "pyx", "pxi", "pxd", "h", "c")
    folders = ("csoftmax", "src_cy", "tests", "tools", "benchmarks")
    paths = [p for f in folders for kind in kinds for p in (REPOSITORY / f).rglob(f"*.{kind}")]
    assert len(paths) > 100
    long = {
        str(path.relative_to(REPOSITORY)): n
        for path in paths
        if (n := len(path.read_text("utf-8").splitlines())) > MAX_LINES
    }
    assert set(long) == ALLOWED["long files"], long
