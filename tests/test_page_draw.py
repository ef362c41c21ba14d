"""The page in a browser: drawing, uploading, looking; and what it says to what does not fit."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from page_cases import missing, opened, serve, trained, wait_for

import csoftmax as cs

pytestmark = [
    pytest.mark.xdist_group("page"),
    pytest.mark.skipif(bool(missing()), reason=missing()),
]
LEGS = [[(0.43, 0.15), (0.43, 0.9)], [(0.57, 0.15), (0.57, 0.9)], [(0.43, 0.15), (0.57, 0.15)]]


@pytest.fixture(scope="module")
def model() -> cs.SoftmaxRegression:
    return trained()


@pytest.fixture
def served(model: cs.SoftmaxRegression) -> Iterator[Any]:
    """A page of the sample and of a trained model."""
    with serve(None, model) as page_and_client:
        yield page_and_client


def picture_file(pixels: Any, kind: str = "PNG", **options: Any) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(file, kind, **options)
    return file.getvalue()


# ---------------------------------------------------------------- drawing


def test_a_drawn_trouser_is_a_trouser(browser: Any, served: Any) -> None:
    with opened(browser, served[0].url) as tab:
        assert tab.page.inner_text("#verdict") == "Draw, paste or drop a picture"
        tab.draw(*LEGS)
        tab.predicted("Trouser")
        assert tab.page.inner_text("#verdict").startswith("Trouser")
        first = tab.page.inner_text("#bars .first")
        assert first.startswith("Trouser")
        tab.page.click("#clear")
        wait_for(tab.page, lambda: tab.page.evaluate("document.body.dataset.predicted") == "")
        tab.page.click("#undo")
        tab.predicted("Trouser")


def test_touch_draws_too(browser: Any, served: Any) -> None:
    with opened(browser, served[0].url, has_touch=True) as tab:
        tab.page.locator("#paper").scroll_into_view_if_needed()
        tab.page.locator("#paper").tap()
        tab.predicted()


def test_predictions_follow_a_drawing_and_a_training(browser: Any) -> None:
    with serve() as (page, _), opened(browser, page.url) as tab:
        tab.draw(*LEGS)
        tab.predicted()
        before = tab.page.inner_text("#bars")
        tab.pace(3)
        tab.set(epochs=100)  # longer than anyone waits: it is stopped
        tab.page.click("#go")
        tab.predicted("Trouser")
        assert tab.page.evaluate("document.body.dataset.status") == "running"
        assert tab.page.inner_text("#bars") != before
        tab.page.click("#stop")
        tab.until("stopped")


# ---------------------------------------------------------------- uploads


def test_an_uploaded_test_picture_has_the_label_of_predict(
    browser: Any, served: Any, model: cs.SoftmaxRegression, tmp_path: Path
) -> None:
    _, test = cs.fashion_mnist_sample()
    wrong = np.flatnonzero(model.predict(test.X) != test.y)[:2]  # not only what is easy
    with opened(browser, served[0].url) as tab:
        for row in (3, *wrong):
            path = tmp_path / f"{row}.png"
            path.write_bytes(picture_file(test.X[row]))
            tab.page.set_input_files("#picture-file", path)
            tab.predicted(test.class_names[int(model.predict(test.X[row : row + 1])[0])])
            percent = 100 * model.predict_proba(test.X[row : row + 1]).max()
            assert f"{percent:.1f}" in tab.page.inner_text("#verdict")


def test_a_photo_on_white_is_inverted_and_the_page_says_so(
    browser: Any, served: Any, tmp_path: Path
) -> None:
    _, test = cs.fashion_mnist_sample()
    row = int(np.flatnonzero(test.y == 1)[0])  # a trouser
    photo = np.full((400, 300), 245)
    photo[100:324, 40:264] = np.kron(245 - 0.9 * test.X[row], np.ones((8, 8)))
    path = tmp_path / "photo.jpg"
    path.write_bytes(picture_file(photo, "JPEG", quality=80))
    with opened(browser, served[0].url) as tab:
        tab.page.set_input_files("#picture-file", path)
        tab.predicted("Trouser")
        assert tab.page.inner_text("#note").startswith("Inverted")
        shown = "document.querySelector('#sees').toDataURL()"
        seen = tab.page.evaluate(shown)
        tab.page.click("#clear")
        wait_for(tab.page, lambda: tab.page.evaluate("document.body.dataset.predicted") == "")
        tab.page.click("#undo")  # it brings the picture itself back, not what the paper shows
        tab.predicted("Trouser")
        assert tab.page.evaluate(shown) == seen


def test_a_test_picture_stays_what_it_is_and_is_a_drawing_in_other_data(browser: Any) -> None:
    with serve() as (page, client), opened(browser, page.url) as tab:
        tab.page.click("#some")
        tab.predicted()
        tab.page.click("#clear")
        with tab.page.expect_request("**/why?set=test&row=*"):
            tab.page.click("#undo")
        _, test = cs.fashion_mnist_sample()
        X, y = test.X[:50], test.y[:50]
        file = io.BytesIO()
        np.savez(file, X=X, y=y)
        with tab.page.expect_request("**/predict"):  # row 700 of the former data is no row of these
            client.post("/data", file.getvalue(), x_file_name="other.npz")
        tab.predicted()


def test_a_photo_of_many_megabytes_is_made_small_by_the_page(
    browser: Any, served: Any, tmp_path: Path
) -> None:
    _, test = cs.fashion_mnist_sample()
    row = int(np.flatnonzero(test.y == 1)[0])  # a trouser
    big = np.kron(test.X[row], np.ones((100, 100))).astype(np.uint8)
    path = tmp_path / "photo.bmp"
    path.write_bytes(picture_file(big, "BMP"))
    assert path.stat().st_size > 7_000_000
    with opened(browser, served[0].url) as tab:
        tab.page.set_input_files("#picture-file", path)
        tab.predicted("Trouser")


def test_a_blank_picture_is_no_class_and_a_success_takes_an_error_away(
    browser: Any, served: Any, tmp_path: Path
) -> None:
    (tmp_path / "blank.png").write_bytes(picture_file(np.full((50, 40), 255)))
    (tmp_path / "text.png").write_text("text")
    with opened(browser, served[0].url, (415,)) as tab:
        tab.page.set_input_files("#picture-file", tmp_path / "text.png")
        tab.toast()
        tab.page.set_input_files("#picture-file", tmp_path / "blank.png")
        tab.page.locator("#verdict", has_text="nothing on it").wait_for()
        assert tab.page.evaluate("document.body.dataset.predicted") == ""
        assert tab.page.locator("#toast.bad").count() == 0


@pytest.mark.parametrize("way", ["paste", "drop"])
def test_a_picture_that_is_pasted_or_dropped(browser: Any, served: Any, way: str) -> None:
    _, test = cs.fashion_mnist_sample()
    row = int(np.flatnonzero(test.y == 1)[0])
    with opened(browser, served[0].url) as tab:
        tab.page.evaluate(
            """([bytes, way]) => {
                const data = new DataTransfer();
                data.items.add(new File([new Uint8Array(bytes)], "a.png", {type: "image/png"}));
                const options = {bubbles: true, cancelable: true};
                const event = way === "paste"
                    ? new ClipboardEvent(way, {clipboardData: data, ...options})
                    : new DragEvent(way, {dataTransfer: data, ...options});
                document.querySelector("#paper").dispatchEvent(event);
            }""",
            [list(picture_file(test.X[row])), way],
        )
        tab.predicted("Trouser")


def test_pictures_of_ones_own_are_shrunk_and_the_page_says_so(
    browser: Any, served: Any, tmp_path: Path
) -> None:
    train, _ = cs.fashion_mnist_sample()
    path = tmp_path / "mine.npz"
    np.savez(path, X=train.X[:500], y=train.y[:500])
    with opened(browser, served[0].url) as tab:
        tab.page.click("#setup details.more summary")
        tab.page.set_input_files("#data-file", path)
        wait_for(tab.page, lambda: tab.state()["data"]["n_train"] == 400)
        tab.train(epochs=2)
        tab.draw([(0.1, 0.1), (0.3, 0.1)])
        tab.page.wait_for_selector("#note:not([hidden])")
        assert "shrunk" in tab.page.inner_text("#note")
        # what the model sees is the whole paper: the line is in its upper left
        seen = np.array(
            tab.page.evaluate(
                """() => {
                    const canvas = document.querySelector("#sees");
                    const {width, height} = canvas;
                    const image = canvas.getContext("2d").getImageData(0, 0, width, height);
                    return [...image.data].filter((_, i) => i % 4 === 0);
                }"""
            )
        ).reshape(28, 28)
        assert seen[:6, :10].max() > 150
        assert seen[6:].max() == seen[:, 12:].max() == 0


# ---------------------------------------------------------------- looking


def test_a_cell_of_the_confusion_matrix_opens_its_pictures(
    browser: Any, served: Any, model: cs.SoftmaxRegression
) -> None:
    _, test = cs.fashion_mnist_sample()
    predicted = model.predict(test.X)
    confusion = cs.evaluate(model, test).confusion.copy()
    np.fill_diagonal(confusion, 0)
    i, j = (int(k) for k in np.unravel_index(confusion.argmax(), confusion.shape))
    rows = np.flatnonzero((test.y == i) & (predicted == j))
    with opened(browser, served[0].url) as tab:
        tab.view("look")
        cell = tab.page.locator(f"[data-cell='{i}-{j}']")
        assert cell.inner_text() == str(len(rows))
        cell.click()
        shots = tab.page.locator("#gallery .shot")
        wait_for(tab.page, lambda: shots.count() == len(rows))
        shots.nth(0).click()
        tab.page.wait_for_selector("#picture[open]")
        title = tab.page.inner_text("#picture-title")
        assert title.startswith(tab_name(test.class_names[i]))
        assert int(title.rsplit(" ", 1)[1]) in rows
        # why: both classes' pixels times weights, and the formula with this picture's numbers
        assert tab.page.locator("#picture .overlay canvas").count() == 3
        tab.page.click("#picture details summary")
        loss = -np.log(model.predict_proba(test.X[rows[0]][None])[0, i])
        assert f"{loss:.2f}"[:4] in tab.page.inner_text("#picture details")
        tab.page.keyboard.press("Escape")
        tab.page.wait_for_selector("#picture:not([open])", state="attached")


def tab_name(name: str) -> str:
    return name.partition("/")[0]  # "T-shirt/top" is a T-shirt on the page


def test_the_surest_mistakes_come_first(
    browser: Any, served: Any, model: cs.SoftmaxRegression
) -> None:
    _, test = cs.fashion_mnist_sample()
    wrong = model.predict(test.X) != test.y
    surest = np.where(wrong, model.predict_proba(test.X).max(axis=1), 0).argsort()[::-1]
    with opened(browser, served[0].url) as tab:
        tab.view("look")
        tab.page.click("label:has(#gallery-kind-mistakes)")
        label = tab_name(test.class_names[test.y[surest[0]]])
        first = tab.page.locator("#gallery .shot").nth(0)
        wait_for(tab.page, lambda: first.inner_text().startswith(label))
        assert tab.page.locator("#gallery .shot.right").count() == 0


# ---------------------------------------------------------------- a model goes and comes


def test_a_model_is_taken_along_and_brought_back(
    browser: Any, served: Any, model: cs.SoftmaxRegression, tmp_path: Path
) -> None:
    with opened(browser, served[0].url) as tab:
        tab.view("take")
        path = tab.download("model.safetensors", tmp_path)
        assert_array_equal(cs.SoftmaxRegression.load(path).W, model.W)
        assert cs.SoftmaxRegression.load(path).recipe == model.recipe
        for file, start in (("confusion.png", b"\x89PNG"), ("weights.png", b"\x89PNG")):
            assert tab.download(file, tmp_path).read_bytes().startswith(start)
        tab.page.click("#reset")
        wait_for(tab.page, lambda: not tab.state()["model"]["trained"])
        tab.page.set_input_files("#model-file", path)
        tab.page.locator("#model-said", has_text="model.safetensors is loaded").wait_for()
        tab.view("draw")
        tab.draw(*LEGS)
        tab.predicted("Trouser")


# ---------------------------------------------------------------- what the page refuses


def bomb() -> bytes:
    """A PNG of 60,000 x 60,000 pixels in a few bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


REFUSED = {
    "no picture": (415, "shirt.png", b"this is a text\n" * 20, "this is no picture"),
    "a bomb": (413, "bomb.png", bomb(), "64,000,000 pixels"),
    "5 MB": (413, "large.png", bytes(5 << 20), "4 MB"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_picture_that_is_refused(browser: Any, served: Any, tmp_path: Path, case: str) -> None:
    status, name, content, sentence = REFUSED[case]
    path = tmp_path / name
    path.write_bytes(content)
    with opened(browser, served[0].url, (status,)) as tab:
        tab.page.set_input_files("#picture-file", path)
        assert sentence in tab.toast()
        tab.draw(*LEGS)  # and the page goes on
        tab.predicted("Trouser")


def test_a_broken_model_is_refused(browser: Any, served: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    other = cs.SoftmaxRegression(20, 3, seed=0)
    with opened(browser, served[0].url, (422,)) as tab:
        tab.view("take")
        path.write_bytes(b"\x08\0\0\0\0\0\0\0{broken}")
        tab.page.set_input_files("#model-file", path)
        assert "expected a safetensors file" in tab.toast()
        assert str(tmp_path) not in tab.toast()
        tab.page.evaluate("document.querySelector('#toast').className = 'toast'")
        other.save(path)
        tab.page.set_input_files("#model-file", path)
        sentence = tab.toast()
        assert "20 features" in sentence
        assert "784" in sentence
        assert tab.state()["model"]["trained"]  # the one before is still there


def test_a_broken_table_and_a_wrong_setting_are_refused(
    browser: Any, served: Any, tmp_path: Path
) -> None:
    path = tmp_path / "table.csv"
    path.write_text("a,b,kind\n1,2,x\n3,oops,y\n")
    with opened(browser, served[0].url, (422,)) as tab:
        tab.page.click("#setup details.more summary")
        tab.page.set_input_files("#data-file", path)
        sentence = tab.toast()
        assert "oops" in sentence
        assert "table.csv" in sentence
        assert str(served[0].session.folder.name) not in sentence
        tab.set(lr=-1)
        tab.page.click("#go")
        wait_for(tab.page, lambda: "Learning rate" in tab.page.inner_text("#toast"))
        assert tab.page.evaluate("document.activeElement.id") == "set-lr"
        assert tab.state()["run"] is None


def test_the_refusals_are_chinese_on_the_chinese_page(
    browser: Any, served: Any, tmp_path: Path
) -> None:
    page, client = served
    cs.SoftmaxRegression(20, 3, seed=0).save(tmp_path / "other.safetensors")
    given = {
        "a.png": (b"this is a text", "读不出图像"), "bomb.png": (bomb(), "64,000,000像素"),
        "large.png": (bytes(5 << 20), "超过4 MB"),
        "broken.safetensors": (b"broken", "不是csoftmax"),
        "other.safetensors": (None, "模型有20个特征、3个类别，数据却有784个特征、10个类别"),
        "a.docx": (b"a", "“a.docx”的格式"), "a.csv": (b"a,b,kind\n1,oops,y\n", "读不懂a.csv"),
    }  # fmt: skip
    inputs = {".png": "#picture-file", ".safetensors": "#model-file"}
    with opened(browser, page.url, (409, 413, 415, 422), locale="zh-CN") as tab:
        for name, (content, sentence) in given.items():
            path = tmp_path / name
            if content is not None:
                path.write_bytes(content)
            tab.page.set_input_files(inputs.get(path.suffix, "#data-file"), path)
            tab.page.locator("#toast.bad.shown", has_text=sentence).wait_for()
        client.post("/run", {"epochs": 1000, "pace": 1})
        tab.until("running")
        tab.page.evaluate(  # as a tab does that has not heard of the run yet
            """import("/static/api.js").then((api) =>
                api.tell(() => api.post("/data", {set: "sample"})))"""
        )
        tab.page.locator("#toast.bad.shown", has_text="正在训练，请先停止").wait_for()
        tab.page.click("#reset")
        tab.until("idle")
        client.post("/run", {"lr": 1e30, "epochs": 1, "pace": 0})
        tab.page.locator("#run-error", has_text="训练发散了").wait_for()
        tab.page.click("#language")
        tab.page.locator("#run-error", has_text="training diverged").wait_for()
