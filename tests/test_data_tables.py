"""CSV and TSV: layouts that are understood, and the line and column of what is wrong."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from table_cases import IRIS, IRIS_X, table

from csoftmax.data import DataError, read_csv
from csoftmax.data.readers.csv import read_csv_features
from csoftmax.data.readers.table import cells, lines


@pytest.mark.parametrize(
    "text",
    [
        IRIS,
        IRIS.replace("\n", "\r\n"),
        "\ufeff" + IRIS,
        "\n" + IRIS.replace("\n", "\n\n"),
        IRIS.rstrip("\n"),
        IRIS.replace(",", "\t"),
        IRIS.replace(",", ";"),
        IRIS.replace(",", " , ").replace(" species", "species"),
        '"length","width","species"\n"5.1","3.5","setosa"\n"6.2",2.9,"virginica"\n4.9,3,setosa\n',
        "species,length,width\nsetosa,5.1,3.5\nvirginica,6.2,2.9\nsetosa,4.9,3.0\n",
        "length,Class,width\n5.1,setosa,3.5\n6.2,virginica,2.9\n4.9,setosa,3.0\n",
        "5.1,3.5,setosa\n6.2,2.9,virginica\n4.9,3.0,setosa\n",
        '"","length","width","species"\n"1",5.1,3.5,"setosa"\n"2",6.2,2.9,"virginica"\n'
        '"x",4.9,3.0,"setosa"\n',
    ],
)
def test_layouts(tmp_path: Path, text: str) -> None:
    data = read_csv(table(tmp_path, text))
    np.testing.assert_array_equal(data.X, IRIS_X)
    assert data.X.dtype == np.float32
    assert data.X.flags.c_contiguous
    assert data.y.tolist() == [0, 1, 0]
    assert data.class_names == ("setosa", "virginica")


def test_gzip_and_tsv(tmp_path: Path) -> None:
    path = table(tmp_path, gzip.compress(IRIS.replace(",", "\t").encode()), "t.tsv.gz")
    assert read_csv(path).X.shape == (3, 2)


@pytest.mark.parametrize(
    ("labels", "names", "codes"),
    [
        (["10", "9", "2"], ("2", "9", "10"), [2, 1, 0]),
        (["-1", "1", "-1"], ("-1", "1"), [0, 1, 0]),
        (["1.0", "2.0", "1.0"], ("1", "2"), [0, 1, 0]),
        (["10", "9.0", "2"], ("2", "9", "10"), [2, 1, 0]),
        (["1.0", "2.0", "1"], ("1", "1.0", "2.0"), [1, 2, 0]),
        (["1_2", "12", "1_2"], ("12", "1_2"), [1, 0, 1]),
        (["07", "7", "8"], ("07", "7", "8"), [0, 1, 2]),
        (["+1", "1", "-0"], ("+1", "-0", "1"), [0, 2, 1]),
        (["٣", "3", "٣"], ("3", "٣"), [1, 0, 1]),
        (["1e3", "1000", "2"], ("1000", "1e3", "2"), [1, 0, 2]),
        (["-0.0", "0.0", "1.00"], ("-0.0", "0.0", "1.00"), [0, 1, 2]),
        (["True", "False", "True"], ("False", "True"), [1, 0, 1]),
        (["x", "NA", "?"], ("?", "NA", "x"), [2, 1, 0]),
        (["7", " 8", '"7 "'], ("7", "8"), [0, 1, 0]),
        (["b", "10", "9"], ("10", "9", "b"), [2, 0, 1]),
        (['"a,b"', '"say ""hi"""', '"a,b"'], ("a,b", 'say "hi"'), [0, 1, 0]),
        (["é", "日本", "é"], ("é", "日本"), [0, 1, 0]),
        (['"two\nlines"', "x", "x"], ("two\nlines", "x"), [0, 1, 1]),
        ([f"{2**70}", "5", "5"], (f"{2**70}", "5"), [0, 1, 1]),
        ([f"{-(2**63)}", "5", "5"], (f"{-(2**63)}", "5"), [0, 1, 1]),
    ],
)
def test_labels(
    tmp_path: Path, labels: list[str], names: tuple[str, ...], codes: list[int]
) -> None:
    text = "a,label\n" + "".join(f"{i}.5,{label}\n" for i, label in enumerate(labels))
    data = read_csv(table(tmp_path, text))
    assert data.class_names == names
    assert data.y.tolist() == codes
    assert data.X[:, 0].tolist() == [0.5, 1.5, 2.5]


def test_labels_as_text(tmp_path: Path) -> None:
    path = table(tmp_path, "a,label\n1,2.10\n2,2\n3,2.1\n4,nan\n")
    data = read_csv(path, labels="text")
    assert data.class_names == ("2", "2.1", "2.10", "nan")
    assert data.y.tolist() == [2, 0, 1, 3]
    with pytest.raises(DataError, match=r"line 2: expected .* got 2.10; say labels='text'"):
        read_csv(path, missing="drop")


@pytest.mark.parametrize("column", ["a", 0, -3, "0", "-3"])
def test_label_column(tmp_path: Path, column: str | int) -> None:
    data = read_csv(table(tmp_path, "a,b,y\n7,1,2\n8,3,4\n"), label_column=column)
    assert data.class_names == ("7", "8")
    assert data.X.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("column", ["z", 3, -4, "3", "1.5"])
def test_no_such_label_column(tmp_path: Path, column: str | int) -> None:
    with pytest.raises(DataError, match=f"the label column {column!r}, got 3 columns: a, b, y"):
        read_csv(table(tmp_path, "a,b,y\n7,1,2\n8,3,4\n"), label_column=column)
    with pytest.raises(DataError, match="got 3 columns: without names"):
        read_csv(table(tmp_path, "7,1,2\n8,3,4\n"), label_column=column)


def test_header_by_order(tmp_path: Path) -> None:
    path = table(tmp_path, "1,2,0\n3,4,1\n5,6,0\n")
    assert len(read_csv(path)) == 3
    assert len(read_csv(path, header=True)) == 2
    text = table(tmp_path, "a,b,c\n3,4,1\n5,6,0\n")
    with pytest.raises(DataError, match=r"line 1, column 0 \(counted from 0\): .* got 'a'"):
        read_csv(text, header=False)


def test_digits_of_other_scripts(tmp_path: Path) -> None:
    data = read_csv(table(tmp_path, "1,３,a\n٤,5,b\n"))
    assert data.X.tolist() == [[1, 3], [4, 5]]
    assert data.class_names == ("a", "b")


def test_delimiter_by_order(tmp_path: Path) -> None:
    path = table(tmp_path, "1|2|0\n3|4|1\n")
    assert read_csv(path, delimiter="|").X.tolist() == [[1, 2], [3, 4]]


LONG = "a,b,label\n" + "1,2,0\n3,4,1\n" * 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected a table, got an empty file"),
        ("\n\n", "line 1: expected a table, got an empty file"),
        ("a,b,label\n", "at least one sample"),
        ("1,2,0\n", "at least two classes, got only '0'"),
        ("a\n1\n2\n", "line 1: expected features and a label, separated by ',', got one column"),
        (LONG + "1,2\n", "line 8: expected 3 cells, got 2"),
        (LONG + "1,2,0,4\n", "line 8: expected 3 cells, got 4"),
        (LONG + "\n\n1,2,0,\n", "line 10: expected 3 cells, got 4"),
        (LONG + "1,x,0\n", "line 8, column 'b': expected a number, got 'x'"),
        (LONG + "1,,0\n", "missing values in 1 of 7 rows, the first in line 8, column 'b'"),
        (LONG + "1_0,1,0\n", "line 8, column 'a': expected a number, got '1_0'"),
        (LONG + "1,NAN,0\n", "line 8, column 'b': expected a finite number, got 'NAN'"),
        (LONG + "-inf,1,0\n", "line 8, column 'a': expected a finite number, got '-inf'"),
        (LONG + "1e400,1,0\n", "line 8, column 'a': expected a finite number, got '1e400'"),
        (LONG + "1e39,1,0\n", "line 8, column 'a': expected a finite number, got '1e39'"),
        (LONG + "1,2,\n", "line 8: expected a label, got an empty cell"),
        (LONG + '1,2," "\n', "line 8: expected a label, got an empty cell"),
        (LONG + "1,2," + "x" * 1001 + "\n", "line 8: expected a label, got 1001 characters"),
        (LONG + "1,2,0.5\n", "line 8: expected an integer label or a class name, got 0.5"),
        (LONG + "1,2,inf\n", "line 8: expected an integer label or a class name, got inf"),
        (LONG + "1,2,nan\n", "line 8: expected a label, got 'nan'; say missing='drop'"),
        (LONG + '1,2,"0\n3,4,1\n', "line 8: expected a closing quote, got the end of the file"),
        (LONG + '1,"2"x,"0"\n', "line 8: "),
        (LONG + '1,"2\n",0\n3,4\n', "line 10: expected 3 cells, got 2"),
        ('label,a\n0,1\n1,"two\nlines"\n', "line 3, column 'a': expected a number"),
        (b"a,label\n1,0\n2,\xff\n", "line 3: expected UTF-8 text"),
        (b"a,label\n1,0\n2,\xe9\n", "got the byte 0xe9 at character 3; give the file's encoding"),
        (IRIS.encode("utf-16-le"), "line 1: .* a NUL character; is it UTF-16 without"),
        (IRIS.encode("utf-16")[:-1], "expected UTF-16 text: .* truncated data"),
    ],
)
def test_refused(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = table(tmp_path, text)
    with pytest.raises(DataError, match=message) as error:
        read_csv(path)
    assert str(path) in str(error.value)


def test_many_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "_BLOCK_CHARACTERS", 100)
    rows = np.arange(3000).reshape(1000, 3)
    good = "".join(f"{a},{b},{c % 2}\n" for a, b, c in rows)
    data = read_csv(table(tmp_path, good))
    np.testing.assert_array_equal(data.X, rows[:, :2])
    np.testing.assert_array_equal(data.y, rows[:, 2] % 2)
    with pytest.raises(DataError, match=r"line 1001, column 1 \(counted from 0\).* 'oops'"):
        read_csv(table(tmp_path, good + "1,oops,0\n"))


def test_row_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_RECORD_CHARACTERS", 100)
    with pytest.raises(DataError, match="line 2: expected a row of less than 100 characters"):
        read_csv(table(tmp_path, 'a,label\n1,"' + "x\n" * 60 + '"\n'))
    with pytest.raises(DataError, match="line 1: expected a row of less than 100 characters"):
        read_csv(table(tmp_path, "1" * 200))


def test_huge_quoted_cell(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 8: field larger than field limit"):
        read_csv(table(tmp_path, LONG + '"' + "1" * 200_000 + '",x,0\n'))


@pytest.mark.parametrize("spoil", ["truncated", "garbage after", "corrupt"])
def test_broken_gzip(tmp_path: Path, spoil: str) -> None:
    packed = bytearray(gzip.compress((LONG * 100).encode()))
    if spoil == "truncated":
        packed = packed[:-12]
    elif spoil == "corrupt":
        packed[12:20] = b"\xff" * 8
    else:
        packed += b"garbage"
    with pytest.raises(DataError, match="broken gzip file"):
        read_csv(table(tmp_path, packed, "t.csv.gz"))


def test_pixels(tmp_path: Path) -> None:
    data = read_csv(table(tmp_path, "label,p0,p1\n0,0,255\n1,7.0,1e1\n"), dtype="uint8")
    assert data.X.dtype == np.uint8
    assert data.X.tolist() == [[0, 255], [7, 10]]
    assert data.scale == 1 / 255
    for bad in ("256", "-1", "0.5", "inf"):
        with pytest.raises(DataError, match=f"line 3, .*'p1': .*an integer 0..255, got '{bad}'"):
            read_csv(table(tmp_path, f"label,p0,p1\n0,0,255\n1,7,{bad}\n"), dtype=np.uint8)


def test_float64(tmp_path: Path) -> None:
    data = read_csv(table(tmp_path, "0.1,a\n1e300,b\n"), dtype=np.float64)
    assert data.X[:, 0].tolist() == [0.1, 1e300]


def test_other_dtype(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="dtype must be one of float32, float64, uint8"):
        read_csv(table(tmp_path, IRIS), dtype="int32")


def test_class_names_of_a_model(tmp_path: Path) -> None:
    path = table(tmp_path, "1.5,dog\n2.5,dog\n")
    data = read_csv(path, class_names=("cat", "dog"))
    assert data.y.tolist() == [1, 1]
    assert data.class_names == ("cat", "dog")
    with pytest.raises(DataError, match="line 1: class 'dog' is not one of the 2 known classes: a"):
        read_csv(path, class_names=("a", "b"))
    numbers = table(tmp_path, "1.5,1\n2.5,0\n")
    assert read_csv(numbers, class_names=("cat", "dog")).y.tolist() == [1, 0]
    assert read_csv(numbers, class_names=("1", "0")).y.tolist() == [0, 1]
    with pytest.raises(DataError, match="line 1: class '1' is not one of the 1 known classes"):
        read_csv(numbers, class_names=("cat",))
    path = table(tmp_path, "1.5,dog\n2.5,dog\n")
    with pytest.raises(DataError, match=r"known classes: 10, .*, 19, \.\.\."):
        read_csv(path, class_names=[str(k) for k in range(10, 30)])


def test_features(tmp_path: Path) -> None:
    path = table(tmp_path, "a,label,b\n1,2,3\n4,5,6\n")
    assert read_csv_features(path).tolist() == [[1, 2, 3], [4, 5, 6]]
    assert read_csv_features(path, n_features=3).shape == (2, 3)
    assert read_csv_features(path, n_features=2).tolist() == [[1, 3], [4, 6]]
    assert read_csv_features(path, label_column="b").tolist() == [[1, 2], [4, 5]]
    one_column = table(tmp_path, "1\n2\n")
    assert read_csv_features(one_column).tolist() == [[1], [2]]
    with pytest.raises(DataError, match="at least one sample"):
        read_csv_features(table(tmp_path, "a,b\n"))


@pytest.mark.parametrize("name", ["label", "Class", "species"])
def test_numbers_beside_the_name_of_a_label_column_are_names(tmp_path: Path, name: str) -> None:
    """Spectra and years: such a header was once a sample of a class of its own."""
    path = tmp_path / "spectra.csv"
    rows = "".join(f"{i}.5,{i},{'uv'[i % 2]}\n" for i in range(30))
    path.write_text(f"400,410.5,{name}\n{rows}")
    data = read_csv(path)
    assert data.feature_names == ("400", "410.5")
    assert data.class_names == ("u", "v")
    assert len(data) == 30


def test_a_column_that_is_named_settles_whether_there_are_names(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    rows = "".join(f"{i}.5,{i},{'uv'[i % 2]}\n" for i in range(30))
    path.write_text(f"400,402,what\n{rows}")
    assert read_csv(path, label_column="what").feature_names == ("400", "402")
    with pytest.warns(UserWarning, match="'what' is not in its column again: it might be names"):
        assert len(read_csv(path)) == 31


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drop": 1.5}, "drop must be a column's name or position, or several, got 1.5"),
        ({"drop": True}, "drop must hold a column's name or position, got True"),
        ({"columns": [1.5]}, "columns must hold a column's name or position, got 1.5"),
        ({"label_column": 1.5}, "label_column must hold a column's name or position, got 1.5"),
        ({"delimiter": 5}, "delimiter must be one character, got 5"),
    ],
)
def test_options_of_another_type_are_named(tmp_path: Path, options: Any, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b,label\n1,2,u\n3,4,v\n")
    with pytest.raises(TypeError, match=message):
        read_csv(path, **options)
    drop = np.array(["a"])
    assert read_csv(path, drop=drop).feature_names == ("b",)
