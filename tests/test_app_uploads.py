"""Data from the page, and the code that does the same as what was clicked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from app_cases import assert_runs_to_the_same_bits, served
from training_cases import synthetic

from csoftmax.app.data import name_of_upload, suffix_of

RUNS: list[dict[str, Any]] = [
    {"kind": "sgd", "epochs": 2, "momentum": 0.5, "nesterov": True, "weight_decay": 0.01, "seed": 4,
     "batch_size": 100},
    {"kind": "lbfgs", "C": 0.001, "tol": 0.05},
    {"kind": "lbfgs", "C": 0.002, "l1_ratio": 0.9, "tol": 0.1},
]  # fmt: skip


@pytest.mark.parametrize("settings", RUNS, ids=lambda run: f"{run['kind']}{run.get('l1_ratio')}")
def test_the_code_gives_the_same_bits(settings: dict[str, Any], tmp_path: Path) -> None:
    with served() as (_, client):
        client.train(**settings)
        assert_runs_to_the_same_bits(client, tmp_path)


@pytest.mark.parametrize(
    "settings",
    [{"epochs": 5, "batch_size": 16}, {"kind": "sweep", "Cs": 5}],
    ids=str,
)  # fmt: skip
def test_the_code_of_a_table_gives_the_same_bits(
    settings: dict[str, Any], table: Path, tmp_path: Path
) -> None:
    with served() as (_, client):
        described = client.post("/data", table.read_bytes(), x_file_name=table.name,
                                x_label_column="kind", x_test_share="0.3")  # fmt: skip
        assert described["feature_names"] == ["a", "b", "c"]
        assert described["class_names"] == ["ant", "bee", "cat"]
        assert (described["n_train"], described["n_test"]) == (140, 60)
        assert described["name"] == table.name
        client.train(**settings)
        assert_runs_to_the_same_bits(client, tmp_path)  # the table lies there


def test_where_the_command_line_sweeps_otherwise_it_says_so(table: Path, tmp_path: Path) -> None:
    with served() as (_, client):
        client.post("/data", table.read_bytes(), x_file_name=table.name, x_label_column="kind")
        for settings in ({"Cs": [0.1, 1, 10]}, {"Cs": 3, "l1_ratio": 0.5}):
            client.train(kind="sweep", **settings)  # type: ignore[arg-type]
            assert "values of C of its own" in client.get("/code")["shell"]
            assert_runs_to_the_same_bits(client, tmp_path, shell=False)


@pytest.mark.parametrize("kind", ["sgd", "lbfgs"])
def test_the_code_of_two_classes_of_sparse_rows(kind: str, tmp_path: Path) -> None:
    X = np.random.default_rng(0).integers(0, 3, (300, 20)) * (synthetic(300, 20, 2).X > 150)
    lines = [f"{int(x[:9].sum() > x[9:].sum())} " + " ".join(f"{j + 1}:{v}" for j, v in enumerate(x)
             if v) for x in X]  # fmt: skip
    (tmp_path / "words.svm").write_text("\n".join(lines) + "\n")
    with served() as (_, client):
        body = (tmp_path / "words.svm").read_bytes()
        described = client.post("/data", body, x_file_name="words.svm")
        assert described["sparse"] is True
        assert (described["n_train"], described["n_test"], described["n_features"]) == (240, 60, 20)
        client.train(kind=kind)
        assert_runs_to_the_same_bits(client, tmp_path)


def test_the_code_is_there_before_anything_was_trained_and_in_two_languages() -> None:
    with served() as (_, client):
        english, chinese = (client.get(f"/code?lang={lang}") for lang in ("en", "zh"))
        assert "epochs=10" in english["python"]
        assert english["shell"].startswith("csoftmax train")
        assert english["python"] != chinese["python"]
        for one, other in zip(english["python"].splitlines(), chinese["python"].splitlines(),
                              strict=True):  # fmt: skip
            assert one == other or (one.startswith("#") and other.startswith("#"))


def test_uploads_of_arrays(tmp_path: Path) -> None:
    train, test = synthetic(90, 16, 3), synthetic(30, 16, 3)
    images = {"X": train.X.reshape(-1, 4, 4), "X_test": test.X.reshape(-1, 4, 4)}
    np.savez(tmp_path / "a.npz", y=train.y, y_test=test.y, **images)
    scipy.sparse.save_npz(tmp_path / "b.npz", scipy.sparse.csr_array(train.X))
    with served() as (_, client), client.listen() as stream:
        client.train(epochs=1)
        described = client.post("/data", (tmp_path / "a.npz").read_bytes(), x_file_name="a.npz")
        assert (described["n_train"], described["n_test"]) == (90, 30)
        assert described["picture"]["height"] == 4
        stream.until(lambda event: event.name == "data")
        state = client.get("/state")
        assert state["data"] == described
        assert state["run"] is None
        assert state["model"] == {
            "trained": False, "trained_with": {}, "n_features": 16,
            "class_names": ["0", "1", "2"],
        }  # fmt: skip
        client.train(epochs=1, batch_size=8)
        sentence = client.refusal(
            422, "POST", "/data", (tmp_path / "b.npz").read_bytes(), x_file_name="b.npz"
        )
        assert "b.npz" in sentence
        assert client.post("/data", {"set": "sample"})["n_train"] == 6000
        assert client.get("/state")["data"]["picture"]["height"] == 28


def test_broken_uploads_are_told_by_their_own_name(tmp_path: Path) -> None:
    with served() as (page, client):
        for name, body, said in (
            ("a.csv", b"", "a.csv"), ("a.csv", b"x,y\n1,2\n", "a.csv"), ("a.npz", b"PK", "a.npz"),
            ("a.svm", b"1 0:x\n", "a.svm"), ("..%2F..%2Fetc%2Fa.csv", b"1", "a.csv"),
            ("a.pickle", b"1", "expected a name that ends with .csv"), ("a", b"1", ".csv"),
            ("two.csv", b"a,kind\n1,x\n2,y\n", "two.csv: 2 samples"),
            ("a.npy", b"1", ".npz"), ("a.npz.gz", b"1", ".csv"), ("", b"1", ".csv"),
        ):  # fmt: skip
            sentence = client.refusal(422, "POST", "/data", body, x_file_name=name or "%20")
            assert said in sentence
            assert page.session.folder.name not in sentence
            assert "etc" not in sentence
        many = "label,a\n" + "".join(f"{i},1\n{i},2\n" for i in range(1001))
        sentence = client.refusal(422, "POST", "/data", many.encode(), x_file_name="many.csv")
        assert "many.csv has 1,001 classes" in sentence
        table = b"label,a\n" + b"x,1\ny,2\n" * 20
        for headers, said in (
            ({"x_test_share": "2"}, "X-Test-Share"), ({"x_test_share": "a"}, "X-Test-Share"),
            ({"x_label_column": "no"}, "no"),
        ):  # fmt: skip
            assert said in client.refusal(
                422, "POST", "/data", table, x_file_name="t.csv", **headers
            )
        assert client.get("/state")["data"]["n_train"] == 6000
        assert os.listdir(page.session.folder.name) == []  # nothing stays


def test_more_weights_than_the_page_can_show_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with served() as (_, client):
        monkeypatch.setattr("csoftmax.app.data.MOST_WEIGHTS", 1000)
        wide = b"1 900:2\n0 1:3\n2 1:4\n" * 9
        sentence = client.refusal(422, "POST", "/data", wide, x_file_name="wide.svm")
        assert "2,700 weights" in sentence
        assert client.get("/state")["data"]["n_train"] == 6000


def test_nothing_of_a_pickle_is_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "evil"),))

    np.savez(tmp_path / "a.npz", X=np.array([Evil()], object), y=[0])
    with served() as (_, client):
        body = (tmp_path / "a.npz").read_bytes()
        assert "a.npz" in client.refusal(422, "POST", "/data", body, x_file_name="a.npz")
    assert not (tmp_path / "evil").exists()


def test_data_stay_while_a_run_goes_on(table: Path) -> None:
    with served() as (_, client):
        client.post("/run", {"epochs": 1000, "pace": 0.1})
        body = table.read_bytes()
        for given, headers in (({"set": "sample"}, {}), (body, {"x_file_name": "a.csv"})):
            assert "stop it first" in client.refusal(409, "POST", "/data", given, **headers)
        assert client.get("/state")["data"]["n_train"] == 6000


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("Train.CSV", ".csv"), ("a.csv.gz", ".csv.gz"), ("x.y.libsvm", ".libsvm"), ("t.TXT", ".txt")],
)
def test_only_the_suffix_of_a_name_is_used(name: str, suffix: str) -> None:
    assert suffix_of(name) == suffix
    assert name_of_upload(f"C:\\data\\..\\{name}") == name
    assert name_of_upload(f"/etc/{name}\n") == name
