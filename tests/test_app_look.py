"""What the page shows of a model: samples, cells, mistakes, calibration, and why."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from app_cases import Client, model_of, own_data, png, served
from PIL import Image

import csoftmax as cs

TRAIN, TEST = cs.fashion_mnist_sample()


@pytest.fixture(scope="module")
def model() -> cs.SoftmaxRegression:
    model = cs.SoftmaxRegression(784, 10, seed=0)
    cs.train(model, TRAIN, epochs=3)
    return model


@pytest.fixture(scope="module")
def client(model: cs.SoftmaxRegression) -> Iterator[Client]:
    with served(model=model) as (_, client):
        yield client


def pixels_in(text: str) -> Any:
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(28, 28)


def test_the_state_says_what_the_page_needs(client: Client, model: cs.SoftmaxRegression) -> None:
    state = client.get("/state")
    assert state["version"] == cs.__version__
    data = state["data"]
    assert (data["n_train"], data["n_test"], data["n_features"]) == (6000, 1000, 784)
    assert data["class_names"] == list(TRAIN.class_names)
    assert data["picture"]["height"] == data["picture"]["width"] == 28
    assert data["picture"]["recipe"]["side"] == 28
    assert data["feature_names"] == []
    assert "sample" in data["sets"]
    assert "start" not in data["sets"]
    assert state["model"]["trained"] is True
    assert state["model"]["trained_with"]["epochs"] == 3
    assert state["run"] is None


def test_samples_of_a_class(client: Client, model: cs.SoftmaxRegression) -> None:
    got = client.get("/samples?set=train&class=4&start=10&count=3")
    rows = np.flatnonzero(TRAIN.y == 4)[10:13]
    assert got["total"] == 600
    assert [item["row"] for item in got["items"]] == rows.tolist()
    probabilities = model.predict_proba(TRAIN.X[rows])
    for item, row, p in zip(got["items"], rows, probabilities, strict=True):
        np.testing.assert_array_equal(pixels_in(item["pixels"]), TRAIN.X[row])
        assert item["label"] == 4
        assert item["predicted"] == p.argmax()
        assert item["probability"] == pytest.approx(p.max(), rel=1e-6)
    every = client.get("/samples")
    assert (every["total"], len(every["items"])) == (1000, 60)
    assert client.get("/samples?start=999&count=9")["items"][0]["row"] == 999
    assert client.get("/samples?start=5000")["items"] == []
    assert len(client.get("/samples?count=100000")["items"]) == 200  # the most at once


def test_confusion_cells_and_mistakes_agree_with_the_model(
    client: Client, model: cs.SoftmaxRegression
) -> None:
    got, metrics = client.get("/confusion"), cs.evaluate(model, TEST)
    assert got["confusion"] == metrics.confusion.tolist()
    assert (got["loss"], got["accuracy"], got["n"]) == (metrics.loss, metrics.accuracy, 1000)
    np.testing.assert_allclose(got["precision"], metrics.precision)
    np.testing.assert_allclose(got["recall"], metrics.recall)
    predicted, p = model.predict(TEST.X), model.predict_proba(TEST.X)
    cell = client.get("/cell?true=6&predicted=0&count=200")
    rows = np.flatnonzero((TEST.y == 6) & (predicted == 0))
    assert cell["total"] == metrics.confusion[6, 0] > 0
    assert [item["row"] for item in cell["items"]] == rows.tolist()
    worst = client.get("/mistakes?count=5")
    assert worst["total"] == 1000 - np.trace(metrics.confusion)
    wrong = np.flatnonzero(predicted != TEST.y)
    expected = sorted(wrong.tolist(), key=lambda row: -p[row].max())[:5]
    assert [item["row"] for item in worst["items"]] == expected


def test_calibration_by_class_and_of_all(client: Client, model: cs.SoftmaxRegression) -> None:
    every, *classes = client.get("/confusion")["calibration"]
    p = model.predict_proba(TEST.X).astype(np.float64)
    assert every["class"] is None
    assert [one["class"] for one in classes] == list(range(10))
    assert sum(n for _, _, n in every["bins"]) == p.size
    of_two = p[:, 2]
    for mean, share, n in classes[2]["bins"]:
        bin_ = int(mean * 10)
        inside = (of_two >= bin_ / 10) & (of_two < (bin_ + 1) / 10)
        assert n == inside.sum()
        assert mean == pytest.approx(of_two[inside].mean())
        assert share == pytest.approx((TEST.y[inside] == 2).mean())


def check_explained(got: dict[str, Any], model: cs.SoftmaxRegression, x: Any) -> None:
    """The formula with its numbers, computed in float64 from x as the model takes it."""
    products = x[:, None] * model.W.astype(np.float64)
    logits = products.sum(axis=0) + model.b
    np.testing.assert_allclose(got["logits"], logits, rtol=1e-4, atol=1e-4)
    p = np.exp(logits - logits.max())
    np.testing.assert_allclose(got["probabilities"], p / p.sum(), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(got["bias"], model.b, rtol=1e-6)
    first, second = np.argsort(-logits)[:2]
    why, formula = got["why"], got["formula"]
    assert (why["first"], why["second"], formula["class"]) == (first, second, first)
    np.testing.assert_allclose(why["sums"], products.sum(axis=0)[[first, second]], rtol=1e-5)
    assert formula["max"] == max(got["logits"])
    assert formula["total"] == pytest.approx(sum(formula["exps"]))
    terms = formula["terms"]
    assert len(terms) == min(5, len(x))
    for _, value, weight, product in terms:
        assert product == pytest.approx(value * weight)
    whole = sum(term[3] for term in terms) + formula["rest"] + got["bias"][first]
    assert whole == pytest.approx(got["logits"][first], rel=1e-4)


def test_why_a_test_image_is_taken_for_what(client: Client, model: cs.SoftmaxRegression) -> None:
    got = client.get("/why?set=test&row=7")
    check_explained(got, model, TEST.X[7].reshape(-1) / 255)
    np.testing.assert_array_equal(pixels_in(got["pixels"]), TEST.X[7])
    assert got["label"] == TEST.y[7]
    assert got["loss"] == pytest.approx(-math.log(got["probabilities"][TEST.y[7]]))
    first = got["why"]["first"]
    small = np.frombuffer(base64.b64decode(got["why"]["first_map"]), np.int8)
    expected = TEST.X[7].reshape(-1) / 255 * model.W[:, first]
    limit = got["why"]["limit"]
    np.testing.assert_allclose(small * (limit / 127), expected, atol=0.51 * limit / 127)
    name, value, *_ = got["formula"]["terms"][0]
    row, column = map(int, name.strip("()").split(", "))
    assert value == pytest.approx(TEST.X[7, row, column] / 255)


def test_a_test_image_is_predicted_as_the_model_does(
    client: Client, model: cs.SoftmaxRegression
) -> None:
    for row in (0, 500):
        got = client.post("/predict", png(TEST.X[row]), x_prepared="1")
        np.testing.assert_array_equal(pixels_in(got["pixels"]), TEST.X[row])
        np.testing.assert_allclose(
            got["probabilities"], model.predict_proba(TEST.X[row : row + 1])[0], atol=1e-6
        )
        assert (got["label"], got["loss"], got["note"], got["inverted"]) == (
            None,
            None,
            None,
            False,
        )
    small = client.refusal(422, "POST", "/predict", png(TEST.X[0][:20]), x_prepared="1")
    assert small == "this picture is 28 x 20, expected 28 x 28 of one that is taken as it is"


def test_a_drawing_is_prepared_as_the_data_set_was(client: Client) -> None:
    paper = np.full((400, 300), 255, np.uint8)
    paper[50:350, 90:130] = 0
    paper[50:350, 160:200] = 0
    paper[50:100, 90:200] = 0
    got = client.post("/predict", png(paper))
    assert (got["note"], got["inverted"]) == ("inverted", True)
    assert pixels_in(got["pixels"])[0].max() == 255  # it reaches the edge, as in the set
    assert client.get("/state")["data"]["class_names"][got["why"]["first"]] == "Trouser"
    assert client.post("/predict", png(255 - paper))["note"] is None
    assert client.post("/predict", png(np.zeros((50, 50))))["note"] == "empty"


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "BMP", "GIF"])
def test_pictures_of_other_formats_too(client: Client, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "picture"
    Image.fromarray(255 - TEST.X[3]).resize((280, 280)).convert("RGB").save(path, kind)
    got = client.post("/predict", path.read_bytes())
    assert got["note"] == "inverted"
    assert got["why"]["first"] == client.get("/why?row=3")["why"]["first"]


def test_features_for_and_against_a_class(client: Client, model: cs.SoftmaxRegression) -> None:
    got = client.get("/features?class=2&count=3")
    w = np.sort(model.W[:, 2])
    np.testing.assert_allclose([weight for _, weight in got["for"]], w[::-1][:3], rtol=1e-6)
    np.testing.assert_allclose([weight for _, weight in got["against"]], w[:3], rtol=1e-6)


def test_what_can_be_taken_along(
    client: Client, model: cs.SoftmaxRegression, tmp_path: Path
) -> None:
    downloaded = model_of(client, tmp_path)
    assert downloaded.W.tobytes() == model.W.tobytes()
    assert downloaded.trained_with == model.trained_with
    for path in ("/confusion.png", "/weights.png"):
        answer = client.ask("GET", path)
        assert answer.headers["content-type"] == "image/png"
        assert answer.body.startswith(b"\x89PNG")
        assert f'filename="{path[1:]}"' in answer.headers["content-disposition"]
    for path in ("/history.csv", "/curves.png"):
        assert "start a training" in client.refusal(409, "GET", path)


def test_a_model_comes_back_as_it_went(model: cs.SoftmaxRegression, tmp_path: Path) -> None:
    with served() as (_, client):
        model.save(tmp_path / "model.safetensors")
        described = client.post("/model", (tmp_path / "model.safetensors").read_bytes())
        assert described["trained_with"] == model.trained_with
        assert client.get("/confusion")["accuracy"] == cs.evaluate(model, TEST).accuracy
        assert model_of(client, tmp_path).W.tobytes() == model.W.tobytes()


def test_a_model_whose_classes_come_in_another_order(tmp_path: Path) -> None:
    names = TRAIN.class_names[::-1]
    model = cs.SoftmaxRegression(784, 10, seed=0, class_names=names)
    cs.train(model, TRAIN, epochs=1)
    accuracy = cs.evaluate(model, TEST).accuracy
    model.save(tmp_path / "model.safetensors")
    with served() as (_, client):
        client.post("/model", (tmp_path / "model.safetensors").read_bytes())
        state = client.get("/state")
        assert state["model"]["class_names"] == state["data"]["class_names"] == list(names)
        assert client.get("/confusion")["accuracy"] == accuracy
        item = client.get("/samples?count=1")["items"][0]
        assert names[item["label"]] == TRAIN.class_names[TEST.y[0]]
        client.train(epochs=1)
        assert client.get("/confusion")["accuracy"] > 0.6


def table_data() -> cs.Dataset:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 90)
    X = (np.eye(3)[y] + 0.1 * rng.normal(size=(90, 3))).astype(np.float32)
    return cs.Dataset(X, y, feature_names=("long", "wide", "deep"), class_names=("a", "b", "c"))


@pytest.mark.parametrize("sparse", [False, True])
def test_tables_and_sparse_rows_have_values_in_the_place_of_pixels(
    sparse: bool, tmp_path: Path
) -> None:
    data = table_data()
    if sparse:
        X = np.where(data.X > 0.5, data.X, 0)
        data = cs.Dataset(scipy.sparse.csr_array(X), data.y, 1.0, data.class_names, "",
                          data.feature_names)  # fmt: skip
    dense = data.X if not sparse else data.X.toarray()  # type: ignore[union-attr]
    with served(own_data(data, data)) as (_, client), client.listen() as stream:
        client.train(epochs=20, batch_size=8)
        model = model_of(client, tmp_path)
        described = client.get("/state")["data"]
        assert described["picture"] is None
        assert described["feature_names"] == ["long", "wide", "deep"]
        assert described["sets"][-1] == "start"
        item = client.get("/samples?count=1&start=4")["items"][0]
        assert "pixels" not in item
        values = {name: dense[4, data.feature_names.index(name)] for name, _ in item["values"]}
        assert dict(map(tuple, item["values"])) == pytest.approx(values)
        got = client.get("/why?row=4")
        check_explained(got, model, dense[4].astype(np.float64))
        assert got["pixels"] is None
        name, value, *products = got["why"]["terms"][0]
        j = data.feature_names.index(name)
        assert value == pytest.approx(dense[4, j])
        order = [got["why"]["first"], got["why"]["second"]]
        np.testing.assert_allclose(products, dense[4, j] * model.W[j, order], rtol=1e-5)
        assert client.get("/features?class=1")["for"][0][0] == "wide"
        assert client.get("/confusion")["accuracy"] > 0.9
        assert stream.named("weights") == []
        for path in ("/weights.png",):
            assert "no pictures" in client.refusal(409, "GET", path)
        assert "no pictures" in client.refusal(409, "POST", "/predict", png([[0]]))


def test_floats_that_are_scaled_are_shown_and_predicted_alike(tmp_path: Path) -> None:
    X = (TEST.X / 255 * 4).astype(np.float32)
    data = cs.Dataset(X, TEST.y, 0.25, TEST.class_names)
    with served(own_data(data, data)) as (_, client):
        client.train(epochs=2)
        model = model_of(client, tmp_path)
        item = client.get("/samples?count=1")["items"][0]
        np.testing.assert_array_equal(pixels_in(item["pixels"]), TEST.X[0])
        assert item["predicted"] == model.predict(X[:1] / 4)[0]
        got = client.post("/predict", png(TEST.X[0]), x_prepared="1")
        np.testing.assert_allclose(got["logits"], client.get("/why?row=0")["logits"], atol=1e-4)
        assert client.get("/confusion")["accuracy"] == cs.evaluate(model, data).accuracy
