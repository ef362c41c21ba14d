"""CSV and TSV: which columns are features, by name and by position."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from table_cases import quietly, table

from csoftmax.data import DataError, read, read_csv, read_features, read_parts
from csoftmax.data.readers.csv import read_csv_features

# ---------------------------------------------------------------- columns by name
MIXED = "b,id,species,a\n3.5,7,x,5.1\n2.9,8,y,6.2\n"
WANTED = np.float32([[5.1, 3.5], [6.2, 2.9]])


def test_columns_by_name(tmp_path: Path) -> None:
    path = table(tmp_path, MIXED)
    with pytest.warns(UserWarning, match=r"t\.csv: columns .* are left out: 'id'$") as told:
        data = read_csv(path, feature_names=("a", "b"))
    assert told[0].filename == __file__
    np.testing.assert_array_equal(data.X, WANTED)
    assert data.feature_names == ("a", "b")
    assert data.class_names == ("x", "y")
    with pytest.warns(UserWarning, match=r"left out: 'id'$"):
        X = read_csv_features(path, feature_names=("a", "b"))
    np.testing.assert_array_equal(X, WANTED)
    # what is left out on purpose needs no note
    np.testing.assert_array_equal(quietly(path, feature_names=("a", "b"), drop="id").X, WANTED)
    assert read_csv(path).feature_names == ("b", "id", "a")


def test_columns_by_name_at_the_front_door(tmp_path: Path) -> None:
    rows = "".join(f"{i},{i % 2},{-i}\n" for i in range(20))
    path = table(tmp_path, "b,label,a\n" + rows)
    X = np.float32([[-i, i] for i in range(20)])
    whole, none = read_parts(path, feature_names=["a", "b"])
    np.testing.assert_array_equal(whole.X, X)
    assert none is None
    for part in read(path, feature_names=["a", "b"]):
        assert part.feature_names == ("a", "b")
        np.testing.assert_array_equal(part.X[:, 0], -part.X[:, 1])
    np.testing.assert_array_equal(read_features(path, feature_names=["a", "b"]), X)


def test_wanted_features_that_are_not_there(tmp_path: Path) -> None:
    path = table(tmp_path, MIXED)
    message = r"t\.csv: line 1: expected the features 'c', 'd', got the columns 'b', 'id', 'spec"
    with pytest.raises(DataError, match=message):
        read_csv(path, feature_names=("a", "c", "d"))
    with pytest.raises(DataError, match=message):
        read_csv_features(path, feature_names=("a", "c", "d"))
    with pytest.raises(DataError, match="expected the features 'a', got"):
        read_csv(path, feature_names=("a", "b"), drop="a")
    twice = table(tmp_path, "a,a,b,y\n1,2,3,0\n4,5,6,1\n")
    with pytest.raises(DataError, match="line 1: expected one column 'a', got 2"):
        read_csv(twice, feature_names=("a", "b"))


def test_wanted_features_without_header(tmp_path: Path) -> None:
    path = table(tmp_path, "3.5,7,x\n2.9,8,y\n")
    data = quietly(path, feature_names=("a", "b"))
    assert data.feature_names == ("a", "b")
    assert data.X.tolist() == np.float32([[3.5, 7], [2.9, 8]]).tolist()
    assert quietly(path, feature_names=("a",)).feature_names == ()
    with pytest.warns(
        UserWarning, match=r"column 2 \(counted from 0\) is taken for labels and left"
    ):
        X = read_csv_features(path, feature_names=("a", "b"))
    np.testing.assert_array_equal(X, data.X)


def test_one_column_too_many_without_header(tmp_path: Path) -> None:
    """Row numbers before the features, or labels after them: nothing tells."""
    path = table(tmp_path, "1,3.5,7\n2,2.9,8\n")
    message = r"t\.csv: line 1: expected a header .*or 2 columns, got 3 of numbers: say which one"
    with pytest.raises(DataError, match=message):
        read_csv_features(path, feature_names=("a", "b"))
    for label, X in ((0, [[3.5, 7], [2.9, 8]]), (2, [[1, 3.5], [2, 2.9]])):
        features = read_csv_features(path, feature_names=("a", "b"), label_column=label)
        np.testing.assert_array_equal(features, np.float32(X))


def test_header_that_has_the_wanted_names(tmp_path: Path) -> None:
    path = table(tmp_path, "1,0\n2.5,3.5\n")
    X = read_csv_features(path, feature_names=("0", "1"))
    assert X.tolist() == [[3.5, 2.5]]


def test_names_that_tell_nothing_apart(tmp_path: Path) -> None:
    path = table(tmp_path, "a,a,b,y\n1,2,3,0\n4,5,6,1\n")
    with pytest.warns(UserWarning, match="names that are empty or of several columns: 'a'; the"):
        data = read_csv(path)
    assert data.feature_names == ()
    assert data.X.tolist() == [[1, 2, 3], [4, 5, 6]]
    for option in ({"drop": "a"}, {"columns": "a"}, {"label_column": "a"}):
        with pytest.raises(DataError, match="'a' is the name of 2 columns: give a position"):
            read_csv(path, **option)
    assert quietly(path, drop=0).feature_names == ("a", "b")


# ---------------------------------------------------------------- columns left out or chosen
@pytest.mark.parametrize(
    ("options", "X", "names"),
    [
        ({"drop": "id"}, [[1, 2], [3, 4]], ("a", "b")),
        ({"drop": ["id", "b"]}, [[1], [3]], ("a",)),
        ({"drop": (0, -2)}, [[1], [3]], ("a",)),
        ({"drop": "0"}, [[1, 2], [3, 4]], ("a", "b")),
        ({"drop": ()}, [[7, 1, 2], [8, 3, 4]], ("id", "a", "b")),
        ({"columns": ["b", "a"]}, [[2, 1], [4, 3]], ("b", "a")),
        ({"columns": "b"}, [[2], [4]], ("b",)),
        ({"columns": [2, "id", "kind"]}, [[2, 7], [4, 8]], ("b", "id")),
        ({"columns": ["b", "id"], "drop": "id"}, [[2], [4]], ("b",)),
        ({"drop": "kind", "label_column": "id"}, [[1, 2], [3, 4]], ("a", "b")),
    ],
)
def test_chosen_columns(tmp_path: Path, options: Any, X: Any, names: tuple[str, ...]) -> None:
    path = table(tmp_path, "id,a,b,kind\n7,1,2,x\n8,3,4,y\n")
    data = quietly(path, **options)
    assert data.X.tolist() == X
    assert data.feature_names == names
    features = {"label_column": "kind"} if "label_column" not in options else {}
    assert read_csv_features(path, **{**features, **options}).tolist() == X


def test_dropped_text_and_label(tmp_path: Path) -> None:
    path = table(tmp_path, 'name,a,y,kind\n"x, y",1,0,p\nz,2,1,q\n')
    data = quietly(path, drop=["name", "y"])
    assert data.class_names == ("p", "q")
    assert data.X.tolist() == [[1], [2]]
    assert quietly(path, drop=["name", "kind"]).class_names == ("0", "1")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"drop": "z"}, DataError, "line 1: expected the column to drop 'z', got 3 columns: a, b"),
        ({"drop": 3}, DataError, "expected the column to drop 3, got 3 columns"),
        ({"drop": "+1"}, DataError, r"expected the column to drop '\+1'"),
        ({"columns": ["a", "1_0"]}, DataError, "expected the column '1_0'"),
        ({"drop": 1.0}, TypeError, "drop must be a column.s name or position, or several, got 1.0"),
        ({"drop": ["a", "b", "y"]}, DataError, "expected a label column beside the features"),
        ({"drop": ["a", "b"]}, DataError, "line 1: expected at least one feature, got 3 col"),
        ({"drop": "y", "label_column": "y"}, ValueError, "label_column 'y' is also a column to"),
        ({"label_column": "a", "feature_names": "ab"}, TypeError, "feature_names must be a seq"),
        ({"label_column": "a", "feature_names": ["a"]}, ValueError, "'a', one of feature_names"),
        ({"label_column": 0, "feature_names": ["a"]}, ValueError, "label_column 0 is also"),
        ({"feature_names": ["a", "a"]}, ValueError, "feature_names must be different names"),
        ({"header": "yes"}, ValueError, "header must be True, False or None, got 'yes'"),
        ({"delimiter": ",,"}, ValueError, "delimiter must be one character, got ',,'"),
        ({"delimiter": '"'}, ValueError, "delimiter must be one character"),
        ({"delimiter": ",", "decimal": ","}, ValueError, "the delimiter must be another mark"),
        ({"decimal": "'"}, ValueError, "decimal must be '.' or ',', got \"'\""),
        ({"encoding": "latin-99"}, ValueError, "encoding must be one that Python knows, .*'latin-"),
        ({"encoding": "hex"}, ValueError, "encoding must be one that Python knows"),
        ({"labels": "int"}, ValueError, "labels must be 'text', got 'int'"),
        ({"missing": "zero"}, ValueError, "missing must be 'drop' or 'mean', got 'zero'"),
        ({"missing": [1.0]}, ValueError, "missing has 1 values but .*t.csv has 2 features"),
        ({"missing": [np.nan, 1.0]}, ValueError, "one finite number per feature"),
        ({"missing": "mean", "dtype": "uint8"}, ValueError, "missing must be 'drop', got 'mean'"),
        ({"missing": [0, 1], "dtype": "uint8"}, ValueError, r"missing must be 'drop', got \[0"),
    ],
)
def test_refused_options(
    tmp_path: Path, options: Any, error: type[Exception], message: str
) -> None:
    path = table(tmp_path, "a,b,y\n1,2,0\n3,4,1\n")
    with pytest.raises(error, match=message):
        read_csv(path, **options)


@pytest.mark.parametrize("name", ["drop", "columns", "missing", "labels", "decimal"])
def test_options_of_tables_only(tmp_path: Path, name: str) -> None:
    np.savez(tmp_path / "d.npz", X=np.eye(4), y=[0, 1, 0, 1])
    value = {"missing": "drop", "labels": "text", "decimal": ","}.get(name, "a")
    for reader in (read, read_parts, read_features):
        with pytest.raises(ValueError, match=rf"{name} is for tables, but .*d\.npz is none"):
            reader(tmp_path / "d.npz", **{name: value})
        with pytest.raises(TypeError, match="hader"):
            reader(tmp_path / "d.npz", hader=True)
