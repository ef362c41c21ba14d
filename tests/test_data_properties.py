"""Tables that nobody would think of: what is written by the rules is read, all else refused."""

from __future__ import annotations

import contextlib
import csv
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from csoftmax.data import DataError, read, read_csv, read_features
from csoftmax.data.labels import labels_from_text

settings.register_profile("files", deadline=None, derandomize=True, max_examples=60)
in_files = settings.get_profile("files")

NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32)
# quotes, delimiters, ends of lines, and letters of one to four bytes
TEXT = st.text(st.sampled_from("ab1.,;\t\n\r\"' é日🐍"), max_size=6)
LABELS = TEXT.filter(lambda text: text.strip())
MATRICES = st.tuples(st.integers(1, 5), st.integers(1, 4)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=NUMBERS)
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables") / "t.csv"


@settings(in_files)
@given(
    X=MATRICES,
    data=st.data(),
    delimiter=st.sampled_from(",;\t"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    guessed=st.booleans(),
)
def test_what_csv_writes_is_read(
    path: Path,
    X: np.ndarray,
    data: st.DataObject,
    delimiter: str,
    quoting: Any,
    encoding: str,
    guessed: bool,
) -> None:
    n, n_features = X.shape
    labels = data.draw(st.lists(LABELS, min_size=n, max_size=n))
    # the letter says that these are names, whatever else is in them
    extra = data.draw(st.lists(TEXT, min_size=n_features, max_size=n_features))
    names = [f"f{j}{text}x" for j, text in enumerate(extra)]
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, quoting=quoting)
    writer.writerow([*names, "label"])
    writer.writerows(
        [*map(repr, row.tolist()), label] for row, label in zip(X, labels, strict=True)
    )
    path.write_bytes(text.getvalue().encode(encoding))
    # a comma in text may be taken for a delimiter where text is not quoted, but then the user says
    told = {"decimal": "."} if guessed and quoting == csv.QUOTE_ALL else {"delimiter": delimiter}
    wanted = [label.strip() for label in labels]
    classes = sorted({*wanted, "?", "0"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        got = read_csv(path, labels="text", class_names=classes, **told)
    np.testing.assert_array_equal(got.X, X)
    assert got.feature_names == tuple(names)
    assert [classes[k] for k in got.y] == wanted


@settings(in_files)
@given(
    X=MATRICES.filter(lambda X: len(X) > 1),
    delimiter=st.sampled_from(",;\t"),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    comma=st.booleans(),
)
def test_what_numpy_writes_is_read(
    path: Path, X: np.ndarray, delimiter: str, end: str, comma: bool
) -> None:
    text = io.StringIO()
    np.savetxt(text, np.c_[X, np.arange(len(X))], delimiter=delimiter, newline=end, fmt="%.9g")
    comma = comma and delimiter != ","
    written = text.getvalue().replace(".", ",") if comma else text.getvalue()
    path.write_bytes(written.encode())
    data = read_csv(path, header=False, decimal="," if comma else ".")
    np.testing.assert_array_equal(data.X, X)
    assert data.y.tolist() == list(range(len(X)))


PIECES = st.sampled_from(
    ["1", "2.5", "-3e4", "1,5", "x", "NA", "?", "nan", "inf", "True", "07", "1_0", "٣", " ", '"',
     '""', '"a"', ",", ";", "\t", ",", "\n", "\r", "\n", "\0", "\ufeff", "é", "sep=;", "sep=.",
     "label", "9" * 400]
)  # fmt: skip


@settings(in_files, max_examples=300)
@given(
    content=st.lists(PIECES, max_size=30).map("".join).map(str.encode) | st.binary(max_size=40),
    options=st.fixed_dictionaries(
        {},
        optional={
            "header": st.booleans(),
            "missing": st.sampled_from(["drop", "mean"]),
            "labels": st.just("text"),
            "decimal": st.sampled_from([",", "."]),
            "drop": st.sampled_from([0, "x", [0, -1]]),
            "columns": st.sampled_from([0, "x", [1, 0]]),
            "encoding": st.sampled_from(["utf-8", "utf-16", "cp1252"]),
            "dtype": st.sampled_from(["float64", "uint8"]),
            "feature_names": st.sampled_from([["x"], ["1", "2.5"]]),
        },
    ),
)
@example(b"\xff\xfe\x00", {})
@example(b"\x1f\x8b", {})
def test_anything_else_is_refused(path: Path, content: bytes, options: dict[str, Any]) -> None:
    if options.get("dtype") == "uint8" and options.get("missing") == "mean":
        del options["missing"]
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(DataError):
            data = read_csv(path, **options)
            assert len(data) == len(data.y) > 0
            assert np.isfinite(data.X).all()
            assert len(data.feature_names) in (0, data.X.shape[1])
        if options.get("missing") != "mean":
            with contextlib.suppress(DataError):
                assert np.isfinite(read_features(path, **options)).all()


@settings(in_files)
@given(st.lists(st.sampled_from(["", "1.5", "?"]), min_size=12, max_size=12), st.integers(0, 9))
def test_means_leave_no_gaps(path: Path, cells: list[str], seed: int) -> None:
    path.write_text("a,y\n" + "".join(f"{cell},{i % 2}\n" for i, cell in enumerate(cells)))
    with contextlib.suppress(DataError):
        for part in read(path, missing="mean", seed=seed, test_fraction=0.4):
            assert np.all(part.X == 1.5)


WRITTEN = st.one_of(
    st.integers(-12, 12).map(str),
    st.integers().map(str),
    st.sampled_from(["01", "+1", "1_2", "1.0", "2.0", "-0", "-0.0", "1e1", "٣", "３", "x", "True"]),
    st.sampled_from(["", "NA", "0.5", "nan", "inf", " 7 ", "7"]),
)


@settings(in_files, max_examples=200)
@given(st.lists(WRITTEN, min_size=1, max_size=8), st.booleans(), st.booleans())
def test_labels_are_one_class_if_they_are_written_alike(
    texts: list[str], as_text: bool, drop: bool
) -> None:
    try:
        labels, present = labels_from_text("t", texts, str, as_text=as_text, drop=drop)
    except DataError:
        return
    assert present.all() or drop
    kept = [text.strip() for text, there in zip(texts, present.tolist(), strict=True) if there]
    assert len(labels) == len(kept)
    assert len({*zip(labels.tolist(), kept, strict=True)}) == len(set(kept))
    assert len(set(labels.tolist())) == len(set(kept))
    if labels.dtype.kind == "U":
        assert labels.tolist() == kept
    else:
        assert all(text.removesuffix(".0") == str(k) for text, k in zip(kept, labels, strict=True))
        assert not as_text
