"""Photograph the page, each view in both languages: ``python -m tools.make_page_pictures FOLDER``.

That takes about a minute. It needs Chromium and Playwright, as the tests of the page do; the data
are all of Fashion-MNIST where it is, or else the sample.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import csoftmax as cs
from csoftmax.app import data as sets
from csoftmax.app.page import Page
from csoftmax.app.session import PageSession

PICTURES = Path(__file__).parents[1] / ".ci" / "pictures"
CHROMIUM = shutil.which("chromium")
WIDE, PHONE = {"width": 1280, "height": 860}, {"width": 360, "height": 740}
LANGUAGES = {"en": "en", "zh": "zh-CN"}
# a shirt: the outline of its right half, the left is its mirror; then the fill
SHIRT = [
    (0.5, 0.17),
    (0.62, 0.14),
    (0.83, 0.26),
    (0.78, 0.42),
    (0.69, 0.38),
    (0.69, 0.86),
    (0.5, 0.86),
]
INSIDE = (0.45, 0.5)


class Camera:
    """A browser that opens the page, and keeps pictures of it in a folder."""

    def __init__(self, browser: Any, folder: Path, url: str, language: str, **options: Any) -> None:
        self.name = f"{language}-{{}}.png"
        self.folder = folder
        options = {"viewport": WIDE, "color_scheme": "light", **options}
        self.context = browser.new_context(locale=LANGUAGES[language], **options)
        self.page = self.context.new_page()
        self.page.goto(url)
        self.until("")

    def until(self, status: str) -> None:
        wanted = f'="{status}"' if status else ""
        self.page.wait_for_selector(f"body[data-status{wanted}]:not([data-status=loading])")

    def keep(self, name: str, whole: bool = True) -> None:
        self.page.mouse.move(0, 0)
        self.page.wait_for_timeout(700)
        self.page.screenshot(path=self.folder / self.name.format(name), full_page=whole)

    def view(self, name: str, ready: str) -> None:
        self.page.evaluate("scrollTo(0, 0)")
        self.page.click(f'.views a[href="#{name}"]')
        self.page.wait_for_selector(ready)

    def draw(self) -> None:
        """Draw a shirt, with the mirror and the fill."""
        paper = self.page.locator("#paper")
        paper.scroll_into_view_if_needed()
        box = paper.bounding_box()

        def at(place: tuple[float, float]) -> tuple[float, float]:
            return box["x"] + place[0] * box["width"], box["y"] + place[1] * box["height"]

        self.page.click("#mirror")
        self.page.mouse.move(*at(SHIRT[0]))
        self.page.mouse.down()
        for place in SHIRT[1:]:
            self.page.mouse.move(*at(place), steps=4)
        self.page.mouse.up()
        self.page.click("label:has(#tool-fill)")
        self.page.mouse.click(*at(INSIDE))
        self.page.wait_for_selector("body[data-predicted]:not([data-predicted=''])")


def whole_page(camera: Camera) -> None:
    """Keep the views, from the first look to a picture's reasons."""
    camera.keep("1-first")
    camera.draw()
    camera.page.locator("#pace").fill("3")
    camera.page.click("#go")
    camera.page.wait_for_timeout(4500)
    camera.page.evaluate("scrollTo(0, 0)")
    camera.keep("2-running", whole=False)
    camera.page.locator("#pace").fill("6")
    camera.until("done")
    camera.page.evaluate("scrollTo(0, 0)")
    camera.keep("3-done")
    camera.view("look", "#gallery .shot")
    camera.page.click("[data-cell='6-0']")
    camera.keep("4-look")
    camera.page.click("#gallery .shot >> nth=0")
    camera.page.click("#picture details summary")
    camera.keep("5-picture", whole=False)
    camera.page.keyboard.press("Escape")
    camera.view("draw", "#why-body .overlay")
    camera.keep("6-draw")
    camera.view("take", "#code pre")
    camera.keep("7-take")
    camera.view("train", "#charts")
    for kind in ("lbfgs", "sweep"):
        camera.page.click(f"label:has(#kind-{kind})")
        if kind == "sweep":
            camera.page.fill("#set-C_to", "1")
            camera.page.fill("#set-C_from", "0.00001")
            camera.page.fill("#set-C_number", "6")
        camera.page.click("#go")
        camera.until("running")
        camera.until("done")
        camera.keep(f"8-{kind}")


def table() -> sets.Data:
    """Return a table: flowers of three kinds."""
    random = np.random.default_rng(0)
    y = random.integers(0, 3, 300)
    X = random.normal(size=(300, 4)) + np.eye(4)[y] * 3 + np.array([6, 4, 4, 2])
    train, test = (
        cs.Dataset(
            X[rows], y[rows], 1.0, ("iris", "rose", "tulip"), "flowers.csv",
            ("petal length", "petal width", "stem length", "leaves"),
        )
        for rows in (slice(240), slice(240, None))
    )  # fmt: skip
    return sets.Data(train, test, sets.Source("flowers.csv", "train, test = ..., ..."))


def photograph(folder: Path) -> None:
    """Write all pictures of the page into a folder."""
    from playwright.sync_api import sync_playwright

    known = sets.known(sets.FULL if sets.has_fashion_mnist() else sets.SAMPLE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for language in LANGUAGES:
            with Page(PageSession(known, None, is_own=False), port=0) as page:
                whole_page(Camera(browser, folder, page.url, language))
                dark = Camera(browser, folder, page.url, language, color_scheme="dark")
                dark.keep("9-dark")
                phone = Camera(
                    browser,
                    folder,
                    page.url,
                    language,
                    viewport=PHONE,
                    has_touch=True,
                    is_mobile=True,
                )
                phone.draw()
                phone.keep("9-phone-draw", whole=False)
                for view in ("train", "look", "take"):
                    phone.view(view, f"#view-{view}:not([hidden])")
                    phone.keep(f"9-phone-{view}", whole=False)
            with Page(PageSession(table(), None, is_own=True), port=0) as page:
                camera = Camera(browser, folder, page.url, language)
                camera.page.locator("#pace").fill("6")
                camera.page.click("#go")
                camera.until("done")
                camera.keep("9-table-train")
                camera.view("look", "#gallery .line")
                camera.keep("9-table-look")
                camera.page.click("#gallery .line >> nth=0")
                camera.keep("9-table-row", whole=False)
        browser.close()


def main(words: Sequence[str] | None = None) -> int:
    """Photograph the page; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--readme", action="store_true", help="renew those of the READMEs, too")
    options = parser.parse_args(words)
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    photograph(folder)
    if options.readme:
        for language, name in (("en", "page.png"), ("zh", "page-zh.png")):
            picture = Image.open(folder / f"{language}-3-done.png").convert("RGB")
            few = picture.quantize(256, dither=Image.Dither.NONE)  # a third of the bytes
            few.save(PICTURES / name, optimize=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
