"""CSV and TSV: what the cells mean, and what is only a guess."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from table_cases import IRIS, IRIS_X, quietly, table

from csoftmax.data import DataError, read, read_csv, read_features
from csoftmax.data.readers.csv import read_csv_features
from csoftmax.data.readers.table.guesses import guess_decimal, guess_delimiter, guess_header
from csoftmax.data.text import MISSING, as_number


# ---------------------------------------------------------------- header
@pytest.mark.parametrize(
    ("text", "header", "doubt"),
    [
        ("0,1,2\n1.5,2.5,0\n3.5,4.5,1\n", True, "it counts 0, 1, 2"),
        ("0,1,2,3,4\n1.5,2.5,1,2,0\n3.5,4.5,1,2,1\n", True, None),
        (",0,1,2\n0,1.5,2.5,0\n1,3.5,4.5,1\n", True, "it counts 0, 1, 2"),
        ("1,2,3,label\n1.5,2.5,3,0\n3.5,4.5,3,1\n", True, None),
        ("0,1\n1.5,0\n2.5,1\n", False, "it counts 0, 1"),
        ("0,1,b\n1,0,a\n1,1,b\n", False, None),
        ("0,1,2\n3,4,1\n0,1,2\n", False, None),
        ("1,2,0\n3,4,1\n", False, None),
        ("?,2.5,a\n1.5,3.5,b\n", False, None),
        ("NA,a\n1.5,b\n2.5,a\n", False, None),
        ("NA,c\n1.5,b\n2.5,a\n", False, "'NA' may be a name"),
        ("nan,c\nnan,b\n2.5,a\n", False, "'nan' may be a name"),
        ("a,c\nnan,b\n2.5,a\nNA,a\n", True, None),
        ("a,c\nx,b\n2.5,a\n3.5,a\n", True, None),
        (",2.5,a\n1,3.5,b\n", False, None),
        ("a,b,label\n?,1,x\n2,3,y\n", True, None),
        ("a,b,label\nx?,1,p\n2,3,q\n4,5,q\n", True, None),
        ("a,label\nx,p\ny,q\n", True, None),
        (
            "id,2019,2020,label\n1,2,3,x\n2,3,4,y\n",
            True,
            "only 'id' is sure to be a name, and '2019'",
        ),
        ("oops,3.5,a\n1.5,2.5,a\n2.5,2.5,b\n", True, "only 'oops' is sure"),
        ("True,1,a\nFalse,2,b\n", False, None),
        ("flag,b,y\nTrue,1,a\nFalse,2,b\n", True, None),
    ],
)
def test_guessed_header(text: str, header: bool, doubt: str | None) -> None:
    rows = [line.split(",") for line in text.splitlines()]
    guess, against = guess_header(rows, lambda cell: as_number(cell) is not None)
    assert guess is header
    assert (against or "").startswith(doubt or "")
    assert (against is None) == (doubt is None)


def test_close_guess_is_told(tmp_path: Path) -> None:
    path = table(tmp_path, "0,1,2\n1.5,2.5,0\n3.5,4.5,1\n")
    message = "the first row is taken for names, but it counts 0, 1, 2: .* say header=True or head"
    with pytest.warns(UserWarning, match=message) as told:
        assert len(read_csv(path)) == 2
    assert told[0].filename == __file__
    with pytest.warns(UserWarning, match="taken for a sample, but it counts 0, 1: it might be nam"):
        assert len(read_csv(table(tmp_path, "0,1\n1.5,0\n2.5,1\n"))) == 3
    with pytest.raises(DataError, match="missing values in 1 of 2 rows, the first in line 1"):
        quietly(table(tmp_path, "?,2.5,a\n1.5,3.5,b\n"))


def test_given_header(tmp_path: Path) -> None:
    path = table(tmp_path, "0,1,2\n1.5,2.5,0\n3.5,4.5,1\n")
    named = quietly(path, header=True)
    assert named.X.tolist() == [[1.5, 2.5], [3.5, 4.5]]
    assert named.feature_names == ("0", "1")
    assert quietly(path, header=False).X.tolist() == [[0, 1], [1.5, 2.5], [3.5, 4.5]]


# ---------------------------------------------------------------- delimiter, quotes, line ends
@pytest.mark.parametrize(
    ("lines", "mark"),
    [
        (['"a;b",c', "1,2"], ","),
        (['"a\tb";c', "1;2"], ";"),
        (["x (m;s),y", "1,2", "3,4"], ","),
        (["a;b", "1,5;2,5"], ";"),
        (["a;b", "broken", "1;2"], ";"),
        (["a,b", "1;2"], ","),
        (["a", "1"], ","),
        (['"say ""hi;""",b', "1,2"], ","),
        (['"two;', 'lines",b', "1,2"], ","),
    ],
)
def test_guessed_delimiter(lines: list[str], mark: str) -> None:
    for end in ("\n", "\r\n", "\r"):
        assert guess_delimiter(end.join(lines), "\t;,") == mark


def test_delimiter_in_quotes(tmp_path: Path) -> None:
    for mark in (";", "\t"):
        path = table(tmp_path, f'"length{mark} in cm",width,species\n1,2,x\n3,4,y\n')
        assert quietly(path).feature_names == (f"length{mark} in cm", "width")


@pytest.mark.parametrize("line", ["sep=;", '"sep=;"', "SEP=;", "\ufeffsep=;"])
def test_separator_line(tmp_path: Path, line: str) -> None:
    path = table(tmp_path, line + "\r\n" + IRIS.replace(",", ";").replace(".", ","))
    data = quietly(path)
    np.testing.assert_array_equal(data.X, IRIS_X)
    assert data.feature_names == ("length", "width")
    other = table(tmp_path, IRIS.replace(",", "|"))
    other.write_text("sep=|\n" + other.read_text())
    np.testing.assert_array_equal(quietly(other).X, IRIS_X)
    with pytest.raises(DataError, match="line 3, column 'a': expected a number, got 'x'"):
        read_csv(table(tmp_path, "sep=,\na,y\nx,0\n1,1\n"))


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
def test_line_ends(tmp_path: Path, end: str) -> None:
    path = table(tmp_path, IRIS.replace("\n", end))
    np.testing.assert_array_equal(quietly(path).X, IRIS_X)
    packed = table(tmp_path, gzip.compress(path.read_bytes()), "t.csv.gz")
    np.testing.assert_array_equal(quietly(packed).X, IRIS_X)
    with pytest.raises(DataError, match="line 4, column 'width': expected a number, got 'x'"):
        read_csv(table(tmp_path, IRIS.replace("3.0", "x").replace("\n", end)))


@pytest.mark.parametrize("header", ["size,name\n", ""])
def test_quote_within_a_cell(tmp_path: Path, header: str) -> None:
    path = table(tmp_path, header + '1,5" pipe\n2,3" pipe\n3,5" pipe\n4,"a ""b"""\n5,say "x"\n')
    data = quietly(path, header=bool(header))
    assert data.class_names == ('3" pipe', '5" pipe', 'a "b"', 'say "x"')
    assert data.y.tolist() == [1, 0, 1, 2, 3]
    assert data.X.ravel().tolist() == [1, 2, 3, 4, 5]


# ---------------------------------------------------------------- what cells mean
def test_true_and_false(tmp_path: Path) -> None:
    path = table(tmp_path, "a,b,y\nTrue,0.5,x\nfalse,1.5,y\n TRUE,2.5,x\n")
    assert quietly(path).X.tolist() == [[1, 0.5], [0, 1.5], [1, 2.5]]
    pixels = quietly(table(tmp_path, "a,y\nTrue,0\nFalse,1\n"), dtype="uint8")
    assert pixels.X.tolist() == [[1], [0]]


@pytest.mark.parametrize("mark", [";", "\t"])
def test_decimal_comma(tmp_path: Path, mark: str) -> None:
    text = IRIS.replace(",", mark).replace(".", ",").replace("setosa", "s,e.t")
    for options in ({}, {"decimal": ","}):
        data = quietly(table(tmp_path, text), **options)
        np.testing.assert_array_equal(data.X, IRIS_X)
        assert data.class_names == ("s,e.t", "virginica")
    with pytest.raises(DataError, match=r"line 2, .* got '5,1'; if that is a decimal comma, say"):
        read_csv(table(tmp_path, text), decimal=".")
    # booleans and missing values take the slow way
    slow = table(tmp_path, text.replace("6,2", "True").replace("2,9", "?"))
    data = quietly(slow, missing=[7, 8])
    np.testing.assert_array_equal(data.X, np.float32([[5.1, 3.5], [1, 8], [4.9, 3]]))
    assert data.class_names == ("s,e.t", "virginica")


def test_decimal_comma_refuses_points(tmp_path: Path) -> None:
    for cell in ("1.5", "1.234,5"):
        path = table(tmp_path, f"a;y\n1,5;x\n{cell};y\n")
        with pytest.raises(DataError, match=f"line 3, column 'a': expected a number, got '{cell}'"):
            read_csv(path, decimal=",")
    one_column = table(tmp_path, "a\n1,5\n2,5\n")
    assert read_csv_features(one_column, decimal=",").tolist() == [[1.5], [2.5]]


@pytest.mark.parametrize(
    ("cells", "decimal"),
    [
        (["1,5", "2"], ","),
        (["0,123"], ","),
        (["1234,567"], ","),
        (["-1,5e3"], ","),
        ([",5"], ","),
        (["1,234"], "."),
        (["1,234", "12,345,678"], "."),
        (["1,5", "2.5"], "."),
        (["a,b", "c.d"], "."),
        (["1,2,3"], "."),
    ],
)
def test_guessed_decimal(cells: list[str], decimal: str) -> None:
    assert guess_decimal([cells]) == decimal


# ---------------------------------------------------------------- encodings
@pytest.mark.parametrize(
    ("codec", "encoding"),
    [
        ("utf-8", None),
        ("utf-8-sig", None),
        ("utf-8-sig", "utf-8"),
        ("utf-16", None),
        ("utf-32", None),
        ("utf-16-le", "utf-16-le"),
        ("cp1252", "cp1252"),
        ("shift_jis", "shift_jis"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_encodings(tmp_path: Path, codec: str, encoding: str | None, packed: bool) -> None:
    name = "日本" if codec == "shift_jis" else "café"
    raw = IRIS.replace("setosa", name).encode(codec)
    path = table(tmp_path, gzip.compress(raw) if packed else raw)
    data = quietly(path, encoding=encoding)
    np.testing.assert_array_equal(data.X, IRIS_X)
    assert set(data.class_names) == {name, "virginica"}
    assert data.feature_names == ("length", "width")


def test_utf_16_with_the_mark_of_the_other_end(tmp_path: Path) -> None:
    path = table(tmp_path, b"\xfe\xff" + IRIS.encode("utf-16-be"))
    np.testing.assert_array_equal(quietly(path).X, IRIS_X)
    given = table(tmp_path, b"\xff\xfe" + IRIS.encode("utf-16-le"))
    assert quietly(given, encoding="utf-16-le").feature_names == ("length", "width")


# ---------------------------------------------------------------- missing values
GAPS = "a,b,y\n1,10,x\n,20,y\n3,NA,x\n?,nan,y\n8,30,x\n"


def test_missing_values_are_counted(tmp_path: Path) -> None:
    path = table(tmp_path, GAPS)
    message = (
        "missing values in 3 of 5 rows, the first in line 3, column 'a'; column 'a' has 2, "
        "column 'b' has 2; say missing='drop' to leave these rows out, or missing="
    )
    with pytest.raises(DataError, match=message + "'mean' to fill in the column's mean"):
        read_csv(path)
    with pytest.raises(DataError, match=message + r"train\.X\.mean\(axis=0\)"):
        read_csv_features(path, label_column="y")
    with pytest.raises(DataError, match=r"leave these rows out$"):
        read_csv(path, dtype="uint8")


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_missing_values_dropped(tmp_path: Path, dtype: str) -> None:
    path = table(tmp_path, GAPS + "5,5,\n")
    with pytest.warns(UserWarning, match="4 of 6 rows are left out, .* column 'a' has 2, column"):
        data = read_csv(path, missing="drop", dtype=dtype, class_names=("y", "x"))
    assert data.X.tolist() == [[1, 10], [8, 30]]
    assert data.X.dtype == dtype
    assert data.y.tolist() == [1, 1]
    with pytest.warns(UserWarning, match="3 of 6 rows are left out"):
        X = read_features(path, missing="drop", label_column="y")
    assert X.tolist() == [[1, 10], [8, 30], [5, 5]]
    with pytest.raises(DataError, match="line 7: expected a label, got an empty cell; say miss"):
        read_csv(path, missing="mean")
    with (
        pytest.warns(UserWarning, match="3 of 6 rows"),
        pytest.raises(DataError, match="line 7: class 'q' is not one of"),
    ):
        read_csv(table(tmp_path, GAPS + "5,5,q\n"), missing="drop", class_names=("y", "x"))
    with (
        pytest.warns(UserWarning, match="2 of 2 rows"),
        pytest.raises(DataError, match="at least one sample"),
    ):
        read_csv(table(tmp_path, "a,b,y\n,1,x\n2,,y\n"), missing="drop")


def test_missing_values_filled(tmp_path: Path) -> None:
    path = table(tmp_path, GAPS)
    data = quietly(path, missing="mean")
    assert data.X.tolist() == [[1, 10], [4, 20], [3, 20], [4, 20], [8, 30]]
    # the means stay what they were, so that they can be read off
    np.testing.assert_array_equal(data.X.mean(axis=0), [4, 20])
    new = table(tmp_path, "a,b\n?,1\n2,\n")
    with pytest.raises(ValueError, match=r"missing must be 'drop' or the means .* got 'mean'"):
        read_features(new, missing="mean")
    filled = read_features(new, missing=data.X.mean(axis=0))
    assert filled.tolist() == [[4, 1], [2, 20]]
    swapped = table(tmp_path, "b,a\n1,?\n,2\n")
    options = {"missing": [4, 20], "feature_names": ("a", "b")}
    assert read_features(swapped, **options).tolist() == [[4, 1], [2, 20]]
    with pytest.raises(DataError, match="the feature 'b' has no value in any of 2 samples"):
        read_csv(table(tmp_path, "a,b,y\n1,,x\n2,,y\n"), missing="mean")


def test_means_of_the_train_part(tmp_path: Path) -> None:
    rows = "".join(f"{'' if i % 3 == 0 else i * i},{i},{i % 2}\n" for i in range(60))
    train, test = read(table(tmp_path, "a,b,y\n" + rows), missing="mean", dtype="float64")
    known = [b * b for b in train.X[:, 1] if b % 3]
    for part in (train, test):
        filled = part.X[part.X[:, 1] % 3 == 0, 0]
        assert len(filled)
        np.testing.assert_allclose(filled, np.mean(known), rtol=1e-14)
        kept = part.X[part.X[:, 1] % 3 != 0]
        np.testing.assert_array_equal(kept[:, 0], kept[:, 1] ** 2)


def test_missing_labels_among_numbers(tmp_path: Path) -> None:
    path = table(tmp_path, "a,y\n1,0\n2,NA\n3,1\n")
    with pytest.raises(DataError, match="line 3: expected a label, got 'NA'; say missing='drop'"):
        read_csv(path)
    with pytest.warns(UserWarning, match="1 of 3 rows are left out, with missing values: no label"):
        data = read_csv(path, missing="drop")
    assert data.X.tolist() == [[1], [3]]
    assert data.class_names == ("0", "1")
    assert quietly(path, labels="text").class_names == ("0", "1", "NA")


@pytest.mark.parametrize("cell", MISSING)
def test_what_counts_as_missing(tmp_path: Path, cell: str) -> None:
    assert cell in str(read_csv.__doc__)
    path = table(tmp_path, f"a,b,y\n1,2,x\n {cell} ,4,y\n")
    assert read_csv(path, missing=[9, 9]).X.tolist() == [[1, 2], [9, 4]]
    with pytest.raises(DataError, match="missing values in 1 of 2 rows, the first in line 3"):
        read_csv(path)
