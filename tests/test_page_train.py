"""The page in a browser: training is watched, paused, resumed; tabs come and go."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from page_cases import Tab, missing, opened, serve, wait_for

import csoftmax as cs
from csoftmax.cli import main

pytestmark = [
    pytest.mark.xdist_group("page"),
    pytest.mark.skipif(bool(missing()), reason=missing()),
]


@pytest.fixture
def served() -> Iterator[Any]:
    """A page of the sample, and a client beside the browser."""
    with serve() as page_and_client:
        yield page_and_client


@pytest.fixture
def served_whole() -> Iterator[Any]:
    """The same of all of Fashion-MNIST, where it is."""
    from csoftmax.app import data

    known = data.known(data.FULL if data.has_fashion_mnist() else data.SAMPLE)
    with serve(known) as page_and_client:
        yield page_and_client


def of_the_command_line(tab: Tab, folder: Path) -> Path:
    """Return the model's file of the command that the page gives to copy."""
    tab.view("take")
    tab.page.wait_for_selector("#code pre")
    command = shlex.split(tab.page.inner_text("#code section:nth-child(2) pre"), comments=True)
    assert command[:2] == ["csoftmax", "train"]
    assert main([*command[1:], "--no-plots", "--out", str(folder)]) == 0
    return folder / "model.safetensors"


def check_same(tab: Tab, folder: Path) -> cs.SoftmaxRegression:
    """Compare the model that the page lets one download with the command line's, bit by bit."""
    theirs = of_the_command_line(tab, folder / "command")
    ours = tab.download("model.safetensors", folder)
    if tab.state()["data"]["n_train"] == 60_000:  # files of the sample know no names of classes
        assert ours.read_bytes() == theirs.read_bytes()
    model, other = map(cs.SoftmaxRegression.load, (ours, theirs))
    assert_array_equal(model.W, other.W)
    assert_array_equal(model.b, other.b)
    return model


def test_a_run_is_watched_paused_and_resumed_to_the_bits_of_the_command_line(
    browser: Any, served_whole: Any, tmp_path: Path
) -> None:
    page, _ = served_whole
    with opened(browser, page.url) as tab:
        tab.pace(4)
        tab.set(epochs=3, lr=0.2, batch_size=100, momentum=0.5, seed=7)
        tab.page.click("#go")
        tab.until("running")
        wait_for(tab.page, lambda: len(tab.state()["run"]["slices"]) >= 3)
        tab.page.wait_for_selector("#charts canvas")
        tab.page.click("#go")
        tab.until("paused")
        first = tab.state()["run"]
        assert 3 <= len(first["slices"]) < 30
        drawn = tab.page.locator("#charts").screenshot()
        tab.page.click("#step")
        wait_for(tab.page, lambda: len(tab.state()["run"]["slices"]) == len(first["slices"]) + 1)
        tab.until("paused")
        tab.pace(6)
        tab.page.click("#go")
        tab.until("done")
        run = tab.state()["run"]
        assert run["slices"][: len(first["slices"])] == first["slices"]
        assert len(run["slices"]) == 30
        assert len(run["epochs"]) == 3
        assert tab.page.locator("#charts").screenshot() != drawn  # the curves have grown
        accuracy = run["epochs"][-1][4]
        assert f"{100 * accuracy:.1f}" in tab.page.inner_text("#numbers")
        model = check_same(tab, tmp_path)
        assert model.trained_with["epochs"] == 3
        test = page.session.view.data.test
        assert abs(cs.evaluate(model, test).accuracy - accuracy) < 1e-12


def test_weights_evolve_and_reset_takes_them_back(browser: Any, served: Any) -> None:
    with opened(browser, served[0].url) as tab:
        tab.train(epochs=1)
        assert tab.page.locator("#weights canvas").count() == 10
        wait_for(tab.page, lambda: int(tab.page.evaluate("document.body.dataset.weights || 0")) > 0)
        learnt = tab.page.locator("#weights").screenshot()
        tab.page.click("#reset")
        tab.until("idle")
        wait_for(tab.page, lambda: tab.page.locator("#weights").screenshot() != learnt)
        assert tab.state()["run"] is None
        assert not tab.state()["model"]["trained"]


def test_to_the_optimum(browser: Any, served: Any, tmp_path: Path) -> None:
    with opened(browser, served[0].url) as tab:
        tab.page.click("label:has(#kind-lbfgs)")
        tab.train(C=0.01, tol=0.001)
        passes = tab.state()["run"]["passes"]
        assert len(passes) > 5
        assert passes[-1][1] < passes[0][1]  # the objective
        assert passes[-1][2] <= 0.001 * passes[-1][1]  # how far it may be from the optimum
        tab.page.wait_for_selector("#charts canvas")
        check_same(tab, tmp_path)


def test_values_of_c_are_compared(browser: Any, served: Any) -> None:
    page, client = served
    with opened(browser, page.url) as tab:
        tab.page.click("label:has(#kind-sweep)")
        tab.train(C_from=0.0001, C_to=1, C_number=5)
        points = tab.state()["run"]["sweep"]
        assert [point[0] for point in points] == pytest.approx([1e-4, 1e-3, 1e-2, 0.1, 1], rel=1e-3)
        tab.page.wait_for_selector("#charts canvas")
        numbers = tab.page.locator("#numbers")
        assert "5 / 5" in numbers.inner_text()
        # the bar tells of the model that is kept, as the view Look does
        kept = f"{100 * client.get('/confusion')['accuracy']:.1f}"
        wait_for(tab.page, lambda: kept in numbers.inner_text())
        # the legend tells of the model of four fifths for the C that is chosen, not of the last
        best = max(points, key=lambda point: (point[6], -point[0]))
        assert best != points[-1]
        legend = tab.page.inner_text("#charts .chart:first-child .legend")
        for figure in (best[1], best[6], best[3]):
            assert f"{100 * figure:.1f}" in legend


def test_a_table_of_ones_own(browser: Any, served: Any, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    kinds = random.integers(0, 3, 300)
    X = random.normal(size=(300, 4))
    X[np.arange(300), kinds] += 4
    rows = [
        ",".join([*(f"{x:.3f}" for x in values), ("iris", "rose", "tulip")[k]])
        for values, k in zip(X, kinds, strict=True)
    ]
    path = tmp_path / "flowers.csv"
    path.write_text("\n".join(["length,width,height,weight,kind", *rows]) + "\n", "utf-8")
    with opened(browser, served[0].url) as tab:
        tab.page.click("#setup details.more summary")
        tab.page.fill("#label-column", "kind")
        tab.page.set_input_files("#data-file", path)
        tab.page.wait_for_selector("body[data-kind=table]")
        assert tab.page.locator("#try").is_hidden()
        data = tab.state()["data"]
        assert (data["n_train"], data["n_test"], data["picture"]) == (240, 60, None)
        assert tab.page.input_value("#set-batch_size") == "16"  # 256 would be a step an epoch
        tab.train(epochs=20)
        assert tab.state()["run"]["epochs"][-1][4] > 0.8
        listed = tab.page.inner_text("#weights")
        assert "length" in listed
        assert "flowers.csv" in tab.page.inner_text("#setup")
        tab.view("look")
        tab.page.wait_for_selector("#confusion button")
        tab.page.click("#gallery .line >> nth=0")
        tab.page.wait_for_selector("#picture[open]")
        assert re.search("length|width|height", tab.page.inner_text("#picture details"))
        tab.page.click("#picture-close")
        tab.view("train")
        tab.page.click("label:has(#set-of-sample)")
        wait_for(tab.page, lambda: tab.page.input_value("#set-batch_size") == "256")


def test_a_step_goes_on_from_what_has_been_learnt(browser: Any, served: Any) -> None:
    page, client = served
    with opened(browser, page.url) as tab:
        tab.train(epochs=3, slices=1)
        before = client.get("/confusion")["accuracy"]
        tab.page.click("#step")
        tab.until("paused")
        assert tab.state()["run"]["settings"]["resume"]
        assert client.get("/confusion")["accuracy"] > before - 0.1  # a new model's would be less
        assert tab.state()["run"]["slices"][0][1] < 1  # its loss, after one of 24 minibatches


def test_the_page_says_where_it_trains_on_the_test_data(browser: Any) -> None:
    from app_cases import own_data

    _, test = cs.fashion_mnist_sample()
    with serve(own_data(test, test)) as (page, _), opened(browser, page.url) as tab:
        assert "the same ones" in tab.page.inner_text("#data-said")
        tab.train(epochs=1)
        tab.view("look")
        tab.page.locator("#look-said", has_text="the same that a training here").wait_for()
        tab.view("train")
        tab.page.click("label:has(#set-of-sample)")
        tab.page.locator("#data-said", has_text="6,000 to train on, 1,000 to test on").wait_for()


# ---------------------------------------------------------------- tabs


def test_two_tabs_see_the_same_run(browser: Any, served: Any) -> None:
    page, _ = served
    with opened(browser, page.url) as one, opened(browser, page.url, (409,)) as other:
        one.pace(2)
        one.set(epochs=2)
        one.page.click("#go")
        other.until("running")
        refused = other.page.evaluate(
            "fetch('/run', {method: 'POST', body: '{\"kind\": \"sgd\"}'}).then((got) => got.status)"
        )
        assert refused == 409
        other.page.click("#go")
        one.until("paused")
        other.pace(6)
        one.page.click("#go")
        for tab in (one, other):
            tab.until("done")
        assert one.page.inner_text("#numbers") == other.page.inner_text("#numbers")


def test_a_closed_tab_stops_nothing_and_comes_back_to_the_run_as_it_is(
    browser: Any, served: Any
) -> None:
    page, client = served
    with opened(browser, page.url) as tab:
        tab.pace(4)
        tab.set(epochs=2)
        tab.page.click("#go")
        tab.until("running")
    while client.get("/state")["run"]["status"] != "done":
        time.sleep(0.05)
    with opened(browser, page.url) as again:
        again.until("done")
        again.page.wait_for_selector("#charts canvas")
        assert again.page.inner_text("#numbers").startswith("Epoch")
        assert "2 / 2" in again.page.inner_text("#numbers")
        assert again.page.input_value("#set-epochs") == "2"
        assert len(again.state()["run"]["slices"]) == 20
