"""The page in a browser, for everyone: two languages and themes, by keyboard, on a phone."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from page_cases import PHONE, WIDE, Tab, missing, opened, serve, trained, wait_for

pytestmark = [
    pytest.mark.xdist_group("page"),
    pytest.mark.skipif(bool(missing()), reason=missing()),
]
VIEWS = ("train", "look", "draw", "take")
LEGS = [[(0.43, 0.15), (0.43, 0.9)], [(0.57, 0.15), (0.57, 0.9)]]
# what reads the same in both languages
UNTRANSLATED = re.compile(
    r"csoftmax|Fashion-MNIST|Nesterov|L-BFGS|Python|C|[\w-]+\.(safetensors|csv|png)|.*[=(].*|[\W\d_e]+",
    re.DOTALL,
)


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    """A page of the sample, a trained model and a finished run."""
    with serve(None, trained()) as (served, client):
        client.train(kind="sgd", epochs=2)
        yield served


def visit(tab: Tab, view: str) -> None:
    """Go to a view, and wait until it is all there."""
    tab.view(view)
    ready = {"train": "#charts canvas", "look": "#gallery .shot", "draw": "#why-body .overlay",
             "take": "#code pre"}  # fmt: skip
    tab.page.wait_for_selector(ready[view])
    if view == "look":
        tab.page.wait_for_selector("#calibration svg, #calibration canvas")
        tab.page.wait_for_selector("#confusion button")


def switch_language(tab: Tab) -> None:
    before = tab.page.evaluate("document.documentElement.lang")
    tab.page.click("#language")
    wait_for(tab.page, lambda: tab.page.evaluate("document.documentElement.lang") != before)


# ---------------------------------------------------------------- languages


def visible_texts(tab: Tab) -> list[str]:
    """Return the texts that one sees or hears: of elements, labels and titles."""
    found: list[str] = tab.page.evaluate(
        """() => {
            const out = [document.title];
            for (const node of document.querySelectorAll("body, body *")) {
                if (node.closest("script, svg, code, [lang]:not(html), noscript")) continue;
                if (!node.checkVisibility?.()) continue;
                for (const name of ["aria-label", "title", "placeholder", "alt"]) {
                    if (node.getAttribute(name)) out.push(node.getAttribute(name));
                }
                for (const child of node.childNodes) {
                    if (child.nodeType === 3 && child.data.trim()) out.push(child.data.trim());
                }
            }
            return out;
        }"""
    )
    return found


def test_every_text_changes_with_the_language(browser: Any, page: Any) -> None:
    with opened(browser, page.url) as tab:
        tab.draw(*LEGS)
        tab.page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        for view in VIEWS:
            visit(tab, view)
            english = visible_texts(tab)
            assert tab.page.evaluate("document.documentElement.lang") == "en"
            assert not [text for text in english if re.search("[\u4e00-\u9fff]", text)]
            switch_language(tab)
            visit(tab, view)
            tab.page.wait_for_timeout(700)  # what comes from the server comes anew
            chinese = visible_texts(tab)
            same = {text for text in {*english} & {*chinese} if not UNTRANSLATED.fullmatch(text)}
            assert not same, (view, same)
            # a key that has no text is shown as it is
            shown = {text for text in english + chinese if not UNTRANSLATED.fullmatch(text)}
            assert not {text for text in shown if re.fullmatch(r"[a-z]+(\.[\w-]+)+", text)}
            switch_language(tab)


def test_both_languages_have_the_same_keys_and_every_key_that_is_asked_for(
    browser: Any, page: Any
) -> None:
    from csoftmax import app

    with opened(browser, page.url) as tab:
        kinds = {
            language: tab.page.evaluate(
                """(language) => import(`/static/texts/${language}.js`).then((module) =>
                    Object.fromEntries(Object.entries(module.default).map(([key, text]) =>
                        [key, Array.isArray(text) ? text.length : typeof text])))""",
                language,
            )
            for language in ("en", "zh")
        }
    assert kinds["en"] == kinds["zh"]
    static = Path(app.__file__).parent / "static"
    sources = "".join(path.read_text("utf-8") for path in static.glob("*.js"))
    html = (static / "index.html").read_text("utf-8")
    asked = {*re.findall(r'\bt\("([\w.-]+)"', sources), *re.findall(r'data-t="([\w.-]+)"', html)}
    for pairs in re.findall(r'data-t-attr="([^"]+)"', html):
        asked |= {pair.partition(":")[2] for pair in pairs.split(";")}
    assert len(asked) > 80
    assert asked <= kinds["en"].keys()


@pytest.mark.parametrize(("locale", "language"), [("zh-CN", "zh-CN"), ("fr", "en")])
def test_the_browser_chooses_the_language_at_first(
    browser: Any, page: Any, locale: str, language: str
) -> None:
    with opened(browser, page.url, locale=locale) as tab:
        assert tab.page.evaluate("document.documentElement.lang") == language
        switch_language(tab)
        chosen = tab.page.evaluate("document.documentElement.lang")
        tab.page.reload()
        tab.page.wait_for_selector("body:not([data-status=loading])")
        assert tab.page.evaluate("document.documentElement.lang") == chosen != language


# ---------------------------------------------------------------- for every eye and hand


@pytest.mark.skipif(
    importlib.util.find_spec("axe_playwright_python") is None,
    reason="not installed: axe (pip install axe-playwright-python)",
)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_barriers_that_axe_knows(browser: Any, page: Any, theme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    axe = Axe()
    with opened(browser, page.url, color_scheme=theme, reduced_motion="reduce") as tab:
        assert tab.page.evaluate("document.documentElement.dataset.theme") == theme
        tab.draw(*LEGS)
        for language in ("en", "zh-CN"):
            assert tab.page.evaluate("document.documentElement.lang") == language
            for view in VIEWS:
                visit(tab, view)
                check(axe.run(tab.page), f"{language} {view}")
            tab.view("look")
            tab.page.click("#gallery .shot >> nth=0")
            tab.page.wait_for_selector("#picture[open]")
            check(axe.run(tab.page), f"{language} picture")
            tab.page.keyboard.press("Escape")
            switch_language(tab)


def check(found: Any, where: str) -> None:
    barriers = [
        (where, one["id"], one["help"], [node["target"] for node in one["nodes"]][:4])
        for one in found.response["violations"]
    ]
    assert not barriers


@pytest.mark.parametrize("viewport", [PHONE, WIDE], ids=["phone", "wide"])
@pytest.mark.parametrize("locale", ["en", "zh-CN"])
def test_nothing_is_wider_than_the_screen(
    browser: Any, page: Any, locale: str, viewport: dict[str, int]
) -> None:
    with opened(browser, page.url, viewport=viewport, locale=locale, has_touch=True) as tab:
        tab.draw(*LEGS)
        tab.page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        for view in VIEWS:
            visit(tab, view)
            width = tab.page.evaluate("document.scrollingElement.scrollWidth")
            assert width <= viewport["width"], (view, width)
        tab.view("look")
        tab.page.click("#gallery .shot >> nth=0")
        tab.page.wait_for_selector("#picture[open]")
        box = tab.page.locator("#picture").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= viewport["width"]


def tab_to(tab: Tab, selector: str) -> None:
    """Press Tab until an element has the focus; each stop can be seen."""
    for _ in range(80):
        tab.page.keyboard.press("Tab")
        if tab.page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            style = tab.page.evaluate(
                """() => {
                    const node = document.activeElement;
                    return [node, node.parentElement, node.closest("label") ?? node]
                        .map((shown) => getComputedStyle(shown).outlineStyle);
                }"""
            )
            assert {*style} != {"none"}, selector
            return
    raise AssertionError(f"Tab does not reach {selector}")


def test_train_and_draw_by_keyboard_alone(browser: Any) -> None:
    with serve() as (page, _), opened(browser, page.url) as tab:
        keys = tab.page.keyboard
        tab_to(tab, "#go")
        keys.press("Enter")
        tab.until("running")
        tab_to(tab, "#pace")
        keys.press("End")  # as fast as it goes
        tab.until("done")
        tab_to(tab, "#paper")
        for _ in range(10):
            keys.press("ArrowUp")
        keys.press("ArrowLeft")
        keys.press("ArrowLeft")
        for side in range(2):  # two legs
            keys.down(" ")
            for _ in range(20):
                keys.press("ArrowUp" if side else "ArrowDown")
            keys.up(" ")
            for _ in range(4):
                keys.press("ArrowRight")
        tab.predicted("Trouser")
        keys.press("Delete")
        wait_for(tab.page, lambda: tab.page.evaluate("document.body.dataset.predicted") == "")
        tab_to(tab, "#picture-file")
        tab.page.keyboard.press("Shift+Tab")
        tab_to(tab, "#some")
        keys.press("Enter")
        tab.predicted()
