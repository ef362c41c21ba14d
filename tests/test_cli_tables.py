"""The command line and tables other than the one trained on: columns by name, options of tables."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import command

import csoftmax as cs
from csoftmax.cli import main

NAMES = np.array(["ant", "bee", "cat"])
RNG = np.random.default_rng(0)
Y = np.arange(90) % 3
A, B, C = (np.eye(3)[Y] * [2, 20, 2] + RNG.normal(size=(90, 3)) * [0.4, 4, 0.4]).T.round(3)
CELLS: dict[str, Any] = {"a": A, "b": B, "c": C, "kind": NAMES[Y], "species": NAMES[Y]}
CELLS |= {"id": np.arange(100, 190), "label": Y, "row": np.arange(90) * 2 // 3}


def write(path: Path, columns: str, header: bool = True) -> Path:
    names = columns.split()
    rows = zip(*(CELLS[name] for name in names), strict=True)
    lines = [",".join(names)] if header else []
    lines += [",".join(map(str, row)) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


def trained(folder: Path, *options: Any, columns: str = "a b c species") -> Path:
    table = write(folder / "train.csv", columns)
    words = command("train", "--data", table, "--out", folder / "run", "--no-plots", "--quiet")
    assert main([*words, *command(*options)]) == 0
    return folder / "run" / "model.safetensors"


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("tables"), "--solver", "lbfgs")


def expected_labels(path: Path) -> list[str]:
    model = cs.SoftmaxRegression.load(path)
    return NAMES[(np.stack([A, B, C], 1) @ model.W.astype(float) + model.b).argmax(axis=1)].tolist()


@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
def test_the_model_file_has_the_names_of_the_columns(solver: str, tmp_path: Path) -> None:
    path = trained(tmp_path, "--solver", solver)
    assert cs.SoftmaxRegression.load(path).feature_names == ("a", "b", "c")
    assert cs.SoftmaxRegression.load(path).class_names == ("ant", "bee", "cat")
    assert cs.SoftmaxClassifier.load(path).feature_names_in_.tolist() == ["a", "b", "c"]


LEFT_OUT = "are left out: "
BY_COUNT = "taken for labels and left out"
ORDER = " has no header: its columns are taken in order for the model's features, a, b, c\n"
# columns, header, options, what the note or the error says
PREDICTED: list[tuple[str, bool, str, str, int]] = [
    ("a b c", True, "", "", 0),
    ("c b a", True, "", "", 0),
    ("c a species b", True, "", "", 0),
    ("b c a kind", True, "", f"{LEFT_OUT}'kind'", 0),
    ("b c a kind", True, "--label-column kind", "", 0),
    ("id c a b", True, "", f"{LEFT_OUT}'id'", 0),
    ("id c a b", True, "--drop id", "", 0),
    ("id species b c a", True, "", f"{LEFT_OUT}'id'", 0),
    ("a c", True, "", "expected the features 'b', got the columns 'a', 'c'", 2),
    ("a c id", True, "", "expected the features 'b', got the columns 'a', 'c', 'id'", 2),
    ("a id c species", True, "", "expected the features 'b', got", 2),
    ("a b c", False, "", "", 0),
    ("a b c species", False, "", BY_COUNT, 0),
    ("id a b c", False, "", "got 4 of numbers: say which one is left out by --label-column", 2),
    ("id a b c", False, "--drop 0", "", 0),
    ("id a b c species", False, "--drop 0", BY_COUNT, 0),
    ("id a b c species", False, "--drop 0 --label-column 4", "", 0),
    ("a b", False, "", "has 2 features but the model has 3", 2),
]


@pytest.mark.parametrize(("columns", "header", "options", "note", "code"), PREDICTED)
def test_predict_finds_columns_by_name(
    columns: str, header: bool, options: str, note: str, code: int, model_file: Path,
    tmp_path: Path, capsys: Any,
) -> None:  # fmt: skip
    table = write(tmp_path / "new.csv", columns, header)
    assert main([*command("predict", model_file, table), *options.split()]) == code
    output, error = capsys.readouterr()
    assert note in error
    assert (ORDER in error) == (not header and "of numbers" not in note)
    assert error.count("\n") == bool(note) + (ORDER in error)
    if code == 0:
        labels = [row[0] for row in csv.reader(io.StringIO(output))][1:]
        assert labels == expected_labels(model_file)


EVALUATED: list[tuple[str, bool, str, str, int]] = [
    ("species c b a", True, "", "", 0),
    ("c b a kind", True, "", "", 0),
    ("kind c b a", True, "", "", 0),  # the only column that is no feature
    ("id c b a kind", True, "", "'id'; the labels are taken from the last, 'kind': if they", 0),
    ("id c b a kind", True, "--label-column kind", f"{LEFT_OUT}'id'\n", 0),
    ("id c species b a", True, "", f"{LEFT_OUT}'id'", 0),
    ("a b c species", False, "", "", 0),
    ("a b c label", False, "", "", 0),  # integers count the classes
    ("c b a", True, "", "expected a label column beside the features", 2),
    ("a c species", True, "", "expected the features 'b'", 2),
    ("a b c id species", False, "", "has 4 features but the model has 3", 2),
    ("a b c id", True, "", "class '100' is not one of the 3 known classes", 2),
]


@pytest.mark.parametrize(("columns", "header", "options", "note", "code"), EVALUATED)
def test_evaluate_finds_columns_by_name(
    columns: str, header: bool, options: str, note: str, code: int, model_file: Path,
    tmp_path: Path, capsys: Any,
) -> None:  # fmt: skip
    table = write(tmp_path / "test.csv", columns, header)
    words = command("evaluate", model_file, "--data", table)
    assert main([*words, *options.split()]) == code
    output, error = capsys.readouterr()
    assert note in error
    assert (ORDER in error) == (not header)
    assert error.count("\n") == bool(note) + (ORDER in error)
    if code == 0:
        right = np.mean(np.array(expected_labels(model_file)) == NAMES[Y])
        assert f"accuracy {right:.4f}, 90 samples" in output


@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
def test_resume_finds_columns_by_name(solver: str, model_file: Path, tmp_path: Path) -> None:
    words = command("train", "--resume", model_file, "--solver", solver, "--no-plots", "--quiet")
    words += ["--lr", "1e-9", "--epochs", "1"] if solver == "sgd" else []
    runs = []
    for columns in ("a b c species", "species c id b a"):
        table, out = write(tmp_path / "t.csv", columns), tmp_path / str(len(runs))
        assert main([*words, *command("--data", table, "--out", out)]) == 0
        runs.append(cs.SoftmaxRegression.load(out / "model.safetensors"))
    np.testing.assert_array_equal(runs[0].W, runs[1].W)
    assert runs[1].feature_names == ("a", "b", "c")


def test_a_saved_estimator_finds_columns_by_name(tmp_path: Path, capsys: Any) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": A, "b": B, "c": C})
    cs.SoftmaxClassifier().fit(frame, NAMES[Y]).save(tmp_path / "probe")
    assert cs.SoftmaxRegression.load(tmp_path / "probe").feature_names == ("a", "b", "c")
    table = write(tmp_path / "new.csv", "id c a b")
    assert main(command("predict", tmp_path / "probe", table)) == 0
    output, error = capsys.readouterr()
    assert f"{LEFT_OUT}'id'" in error
    labels = [row[0] for row in csv.reader(io.StringIO(output))][1:]
    assert labels == expected_labels(tmp_path / "probe")


@pytest.mark.parametrize("classes", [["ant", "bee", "cat"], None])
def test_a_model_without_names_takes_columns_in_order(
    classes: list[str] | None, tmp_path: Path, capsys: Any
) -> None:
    """A column more than its features is left out if it can be one of labels."""
    model = cs.SoftmaxRegression(3, 3, seed=0, class_names=classes)
    model.W = np.eye(3)
    model.save(path := tmp_path / "old")
    names = np.array(model.class_names)
    expected = names[np.stack([A, B, C], 1).astype(np.float32).argmax(axis=1)].tolist()
    last = "kind" if classes else "row"
    for columns, header, code in (
        ("a b c", True, 0), ("a b c label", True, 0), ("a b c label", False, 0),
        (f"a b c {last}", False, 0 if classes else 2), ("id a b c", True, 2),
        ("id a b c", False, 2),
    ):  # fmt: skip
        table = write(tmp_path / "new.csv", columns, header)
        assert main(command("predict", path, table)) == code, columns
        output, error = capsys.readouterr()
        if code == 0:
            labels = [row[0] for row in csv.reader(io.StringIO(output))][1:]
            assert labels == expected
        else:
            assert "expected a class, as there is one column more than the 3 features, g" in error
            assert error.endswith("say which one is left out by --label-column\n")


def test_features_in_memory_are_not_put_in_order(model_file: Path) -> None:
    model = cs.SoftmaxRegression.load(model_file)
    X = np.stack([A, B, C], 1)
    for names, message in (
        (("b", "a", "c"), "data has the feature 'b' in column 0, where the model has 'a'"),
        (("a", "b", "d"), "data lacks the model's feature 'c'"),
    ):
        data = cs.Dataset(X, Y, class_names=NAMES, feature_names=names)
        for each in (data, cs.DataLoader.from_dataset(data, 9)):
            with pytest.raises(ValueError, match=message):
                cs.evaluate(model, each)
    wide = cs.Dataset(np.c_[X, A], Y, feature_names=("a", "b", "c", "id"))
    with pytest.raises(ValueError, match="train_data has the feature 'id', which the model does"):
        cs.train(model, wide)
    right = cs.Dataset(X, Y, class_names=NAMES, feature_names=("a", "b", "c"))
    new = cs.SoftmaxRegression(3, 3)
    with pytest.raises(ValueError, match="validation has the feature 'b' in column 0"):
        cs.train(new, right, validation=cs.Dataset(X, Y, feature_names=("b", "a", "c")))
    assert new.feature_names == ()
    cs.train(new, cs.DataLoader.from_dataset(right, 9), epochs=1, progress=False)
    assert new.feature_names == ("a", "b", "c")


# ---- options of tables -------------------------------------------------------------------------


def test_missing_values_get_the_means_of_the_training(tmp_path: Path, capsys: Any) -> None:
    table = write(tmp_path / "holes.csv", "a b c species")
    lines = table.read_text().splitlines()
    holes = [line.split(",", 1)[1] if i % 5 == 3 else line for i, line in enumerate(lines)]
    holes = ["," + line if i % 5 == 3 else line for i, line in enumerate(holes)]
    table.write_text("\n".join(holes) + "\n")
    out = tmp_path / "run"
    words = command("train", "--data", table, "--out", out, "--no-plots", "--quiet")
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "column 'a' has 18; say --missing drop to leave these rows out, or --missing m" in error
    for solver in ("lbfgs", "sgd"):
        assert main([*words, "--missing", "mean", "--solver", solver]) == 0
        capsys.readouterr()
        model = cs.SoftmaxRegression.load(out / "model.safetensors")
        train, _ = cs.read(table, missing="mean")
        np.testing.assert_allclose(model.trained_with["means"], train.X.mean(axis=0), rtol=1e-5)
        # one row that is all missing gets the means, not those of its own table
        (tmp_path / "new.csv").write_text("c,b,a\n,,\n99,99,99\n")
        words_of = command("predict", out / "model.safetensors", tmp_path / "new.csv")
        assert main([*words_of, "--missing", "mean", "--probabilities"]) == 0
        row = list(csv.reader(io.StringIO(capsys.readouterr().out)))[1]
        p = model(train.X.mean(axis=0, dtype=np.float64)[None])[0]
        np.testing.assert_allclose([float(cell) for cell in row[2:]], p, rtol=1e-3)
    # they stay with the model when it is trained on without
    resumed = trained(tmp_path, "--resume", out / "model.safetensors")
    assert cs.SoftmaxRegression.load(resumed).trained_with["means"] == model.trained_with["means"]
    assert main([*command("evaluate", resumed, "--data", table), "--missing", "drop"]) == 0
    output, error = capsys.readouterr()
    assert "72 samples" in output
    assert "18 of 90 rows are left out" in error


def test_means_that_the_model_does_not_have(model_file: Path, tmp_path: Path, capsys: Any) -> None:
    table = write(tmp_path / "t.csv", "a b c species")
    for words in (("predict", model_file, table), ("evaluate", model_file, "--data", table)):
        assert main([*command(*words), "--missing", "mean"]) == 2
        assert "the model was trained without --missing mean" in capsys.readouterr().err


def test_other_options_of_tables(tmp_path: Path, capsys: Any) -> None:
    head = "größe;höhe;nummer;art"
    rows = [f"{a};{b};{i};{2 + k / 10:g}" for a, b, i, k in zip(A, B, range(90), Y, strict=True)]
    text = "\n".join([head, *rows]).replace(".", ",") + "\n"
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode("cp1252"))
    options = command("--encoding", "cp1252", "--decimal", ",", "--labels", "text")
    words = command("train", "--data", path, "--out", tmp_path / "run", "--no-plots", "--quiet")
    assert main([*words, *options, "--drop", "nummer", "--header"]) == 0
    path_of_model = tmp_path / "run" / "model.safetensors"
    model = cs.SoftmaxRegression.load(path_of_model)
    assert model.feature_names == ("größe", "höhe")
    assert model.class_names == ("2", "2,1", "2,2")
    assert main([*words, *options, "--columns", "höhe, größe"]) == 0
    assert cs.SoftmaxRegression.load(path_of_model).feature_names == ("höhe", "größe")
    capsys.readouterr()
    words = command("evaluate", path_of_model, "--data", path)
    assert main([*words, *options]) == 0
    output, error = capsys.readouterr()
    assert "90 samples" in output
    assert "are left out: 'nummer'" in error
    assert main([*command("predict", path_of_model, path), *options[:4], "--drop", "nummer"]) == 0
    capsys.readouterr()
    quoted = tmp_path / "quoted.csv"
    quoted.write_text('"nu,mmer",a,label\n' + "".join(f"{i},{i % 3},{i % 3}\n" for i in range(30)))
    words = command("train", "--data", quoted, "--out", tmp_path / "run", "--no-plots", "--quiet")
    assert main([*words, "--drop", '"nu,mmer"']) == 0
    assert cs.SoftmaxRegression.load(path_of_model).feature_names == ("a",)
    assert main(command("train", "--drop", "id", "--out", tmp_path / "no")) == 2
    assert "--drop is for a table: give one with --data" in capsys.readouterr().err
    np.savez(tmp_path / "d.npz", X=np.eye(4), y=[0, 1, 0, 1])
    assert main(command("train", "--data", tmp_path / "d.npz", "--drop", "id")) == 2
    assert "drop is for tables, but" in capsys.readouterr().err


def test_a_label_for_nearly_every_sample_is_told(tmp_path: Path, capsys: Any) -> None:
    trained(tmp_path, columns="b a row")
    assert (
        "train.csv train: 60 classes for 78 samples: is this the label column?"
        in capsys.readouterr().err
    )


def test_a_line_for_each_line_where_rows_are_left_out(
    model_file: Path, tmp_path: Path, capsys: Any
) -> None:
    """Predictions are put beside the samples: one that is left out must not move the others."""
    table = write(tmp_path / "holes.csv", "c a b species")
    lines = table.read_text().splitlines()
    for i in (1, 7, 90):  # not in the header
        lines[i] = "NA," + lines[i].split(",", 1)[1]
    table.write_text("\n".join(lines) + "\n")
    words = command("predict", model_file, table, "--missing", "drop")
    for options, width in (([], 2), (["--probabilities"], 5)):
        assert main([*words, *options]) == 0
        output, error = capsys.readouterr()
        assert "3 of 90 rows are left out" in error
        rows = list(csv.reader(io.StringIO(output)))[1:]
        expected = expected_labels(model_file)
        for i in (0, 6, 89):
            expected[i] = ""
            assert rows[i] == [""] * width
        assert [row[0] for row in rows] == expected


def test_labels_are_text_where_the_models_are(tmp_path: Path, capsys: Any) -> None:
    """Read as numbers, 1.0 would be the class in position 1."""
    text = [f"{x},{('1.0', '2.0', '3.5')[k]}" for x, k in zip(A, Y, strict=True)]
    (tmp_path / "t.csv").write_text("x,label\n" + "\n".join(text) + "\n")
    first = [line for line in text if line.endswith("1.0")]
    (tmp_path / "one.csv").write_text("x,label\n" + "\n".join(first) + "\n")
    words = command("train", "--data", tmp_path / "t.csv", "--out", tmp_path, "--quiet")
    options = command("--no-plots", "--solver", "lbfgs")
    assert main([*words, *options, "--labels", "text"]) == 0
    model = cs.SoftmaxRegression.load(path := tmp_path / "model.safetensors")
    assert model.class_names == ("1.0", "2.0", "3.5")
    right = np.mean(model.predict(A[Y == 0, None].astype(np.float32)) == 0)
    capsys.readouterr()
    assert main(command("evaluate", path, "--data", tmp_path / "one.csv")) == 0
    assert f"accuracy {right:.4f}, {len(first)} samples" in capsys.readouterr().out
    assert main([*words, *options, "--resume", str(path)]) == 0


@pytest.mark.parametrize(
    ("columns", "names"),
    [(["c", " a", "b "], ("c", "a", "b")), (["a", "a ", "b"], ()), (["a", " ", "b"], ())],
)
def test_names_of_a_data_frame_as_a_header_has_them(
    columns: list[str], names: tuple[str, ...], tmp_path: Path, capsys: Any
) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(np.stack([C, A, B], 1), columns=columns)
    cs.SoftmaxClassifier().fit(frame, NAMES[Y]).save(tmp_path / "probe")
    assert cs.SoftmaxRegression.load(tmp_path / "probe").feature_names == names
    assert cs.SoftmaxClassifier.load(tmp_path / "probe").feature_names_in_.tolist() == columns
    table = write(tmp_path / "new.csv", "b c a" if names else "c a b")
    assert main(command("predict", tmp_path / "probe", table)) == 0
    labels = [row[0] for row in csv.reader(io.StringIO(capsys.readouterr().out))][1:]
    model = cs.SoftmaxRegression.load(tmp_path / "probe")
    logits = np.stack([C, A, B], 1) @ model.W.astype(float) + model.b
    assert labels == NAMES[logits.argmax(axis=1)].tolist()
