"""Real sparse tables of Debian's packages: ``python -m benchmarks.package_texts FOLDER``.

A row is a package, its class the section of the archive that it is in ("python", "games"). Four
tables of the same packages, for ``python -m csoftmax bench --sparse --data FOLDER``:

- words.npz: TF-IDF of the words of its description;
- pairs.npz: of words and pairs of words;
- pairs_12000.npz: the same, made of the first 12,000 rows alone;
- dependencies.npz: 1 for what it depends on, recommends and suggests, its tags, its maintainer.

They come from the lists that apt keeps. `scipy.sparse.load_npz` reads them too. Besides the matrix
a file has the labels `y`, and the names `class_names` and `feature_names`, the latter in UTF-8.
"""

from __future__ import annotations

import argparse
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

LEAST_OF_A_SECTION = 60
# Sections that say what a package is for its archive, not what it is about.
NO_TOPICS = {"", "debug", "oldlibs", "metapackages", "tasks", "debian-installer"}
RELATIONS = ("Depends", "Pre-Depends", "Recommends", "Suggests")
FIRST = 12_000
NO_LISTS = (
    "apt has no list of {what}. As root: apt-get update -o Acquire::Languages=en. Or as anybody, "
    "into a folder of one's own (it needs a folder partial in it): apt-get update "
    "-o Acquire::Languages=en -o Dir::State::Lists=LISTS, then --lists LISTS"
)


class Package(NamedTuple):
    section: str
    text: str
    facts: list[str]


def stanzas(text: str) -> Iterator[dict[str, str]]:
    """Yield the fields of each paragraph of a control file; lines that go on are joined.

    Examples
    --------
    >>> list(stanzas("Package: a\\nDescription: b\\n c\\n\\nPackage: d\\n"))
    [{'Package': 'a', 'Description': 'b\\nc'}, {'Package': 'd'}]
    """
    for paragraph in re.split(r"\n{2,}", text.strip("\n")):
        joined = re.sub(r"\n[ \t]", "\0", paragraph)
        pairs = (line.split(":", 1) for line in joined.split("\n") if ":" in line)
        yield {name: value.strip(" \0").replace("\0", "\n") for name, value in pairs}


def facts_of(fields: dict[str, str]) -> list[str]:
    """Return what a package depends on, its tags, its maintainer and architecture.

    Examples
    --------
    >>> facts_of({"Depends": "a (>= 1), b:any | c", "Tag": "x::y", "Maintainer": "M"})
    ['Depends a', 'Depends b', 'Depends c', 'Maintainer M', 'Tag x::y']
    """
    found = set()
    for relation in RELATIONS:
        for term in re.split(r"[,|]", fields.get(relation, "")):
            if term.strip():
                found.add(f"{relation} {term.split()[0].split(':')[0]}")
    found |= {f"Tag {tag}" for tag in re.split(r"[,\s]+", fields.get("Tag", "")) if tag}
    found |= {f"{name} {fields[name]}" for name in ("Maintainer", "Architecture") if name in fields}
    return sorted(found)


# ---- what apt has ------------------------------------------------------------------------------


def lists_of_apt(folder: Path | None) -> tuple[str, str]:
    """Return apt's largest list of packages, and the English descriptions of the same archive."""
    options = ["-o", "Acquire::Languages=en"]  # it names no others than it would fetch
    if folder is not None:
        options += ["-o", f"Dir::State::Lists={folder.resolve()}"]
    asked = "$(CREATED_BY)|$(CODENAME)|$(FILENAME)"
    lines = _output("apt-get", *options, "indextargets", "--format", asked).splitlines()
    targets = [line.split("|", 2) for line in lines]
    packages = [(name, path) for kind, name, path in targets if kind == "Packages"]
    if not packages:
        raise FileNotFoundError(NO_LISTS.format(what="packages"))
    codename, path = max(packages, key=lambda target: Path(target[1]).stat().st_size)
    english = [
        path
        for kind, name, path in targets
        if kind == "Translations" and name == codename and "Translation-en" in path
    ]
    if not english:
        raise FileNotFoundError(NO_LISTS.format(what=f"the English descriptions of {codename}"))
    return _read(path), _read(english[0])


def _read(path: str) -> str:
    return _output("/usr/lib/apt/apt-helper", "cat-file", path)


def _output(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{words[0]} failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode(errors="replace")


def packages(listed: str, translated: str) -> list[Package]:
    """Return the packages of large sections in a random order, the same every time."""
    full = {s.get("Description-md5"): s.get("Description-en", "") for s in stanzas(translated)}
    found = []
    for fields in stanzas(listed):
        section = fields.get("Section", "").split("/")[-1]
        if section in NO_TOPICS:
            continue
        synopsis = fields.get("Description", "")
        # The synopsis begins the description too: it counts twice, as it says most.
        text = f"{synopsis} {full.get(fields.get('Description-md5'), synopsis)}"
        found.append(Package(section, text, facts_of(fields)))
    sizes = Counter(package.section for package in found)
    found = [package for package in found if sizes[package.section] >= LEAST_OF_A_SECTION]
    return [found[i] for i in np.random.default_rng(0).permutation(len(found))]


# ---- tables ------------------------------------------------------------------------------------


def texts_as_table(texts: list[str], most_words: int) -> tuple[Any, list[str]]:
    """Return TF-IDF of words, and of up to `most_words` in a row, and what the columns are."""
    vectorizer = import_module("sklearn.feature_extraction.text").TfidfVectorizer(
        sublinear_tf=True, ngram_range=(1, most_words), min_df=2, dtype=np.float32
    )
    X = vectorizer.fit_transform(texts)
    return X, list(vectorizer.get_feature_names_out())


def facts_as_table(facts: list[list[str]]) -> tuple[Any, list[str]]:
    """Return a 1 for each fact that a row has, of the facts that two rows or more have."""
    sparse = import_module("scipy.sparse")
    counts = Counter(fact for of_row in facts for fact in of_row)
    names = sorted(fact for fact, count in counts.items() if count >= 2)
    column = {name: j for j, name in enumerate(names)}
    indices = [[column[fact] for fact in of_row if fact in column] for of_row in facts]
    indptr = np.cumsum([0, *map(len, indices)])
    flat = np.array([j for of_row in indices for j in of_row], np.int32)
    ones = np.ones(len(flat), np.uint8)
    return sparse.csr_matrix((ones, flat, indptr), (len(facts), len(names))), names


def save(path: Path, X: Any, y: Array, classes: Array, features: list[str]) -> None:
    """Write a table, its labels and its names."""
    X.sort_indices()
    np.savez_compressed(
        path, format=b"csr", data=X.data, indices=X.indices, indptr=X.indptr, shape=X.shape, y=y,
        class_names=classes, feature_names=np.array([name.encode() for name in features]),
    )  # fmt: skip
    n, d = X.shape
    print(f"{path}: {n:,} x {d:,} {X.dtype}, {X.nnz:,} entries, {len(classes)} classes", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Sparse tables of Debian's packages.")
    parser.add_argument("folder", type=Path, help="where the tables go")
    parser.add_argument("--lists", type=Path, help="apt's lists, if not where apt keeps them")
    given = parser.parse_args()
    try:
        rows = packages(*lists_of_apt(given.lists))
    except FileNotFoundError as error:
        raise SystemExit(str(error)) from None
    texts = [row.text for row in rows]
    classes, y = np.unique([row.section for row in rows], return_inverse=True)
    first, y_first = np.unique(y[:FIRST], return_inverse=True)
    given.folder.mkdir(parents=True, exist_ok=True)
    for name, most_words in (("words", 1), ("pairs", 2)):
        save(
            given.folder / f"{name}.npz", *_labelled(texts_as_table(texts, most_words), y, classes)
        )
    few = texts_as_table(texts[:FIRST], 2)
    save(given.folder / "pairs_12000.npz", *_labelled(few, y_first, classes[first]))
    facts = facts_as_table([row.facts for row in rows])
    save(given.folder / "dependencies.npz", *_labelled(facts, y, classes))
    return 0


def _labelled(table: tuple[Any, list[str]], y: Array, classes: Array) -> tuple[Any, ...]:
    return table[0], y, classes, table[1]


if __name__ == "__main__":
    raise SystemExit(main())
