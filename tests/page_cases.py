"""The page in a real browser: Debian's Chromium, driven by Playwright, with no way out.

Everything that a tab asks for, says on its console or throws is kept: a test fails at its end for
whatever it did not expect.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import csoftmax as cs

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SECONDS = 40  # patience on a busy machine
WIDE = {"width": 1280, "height": 900}
PHONE = {"width": 360, "height": 740}
EVIL = "evil.test"  # a name that its owner has pointed at this machine
SERVER_SAID = re.compile(r"Failed to load resource: the server responded with a status of (\d+)")


def missing() -> str:
    """Return what is not there for these tests, or nothing."""
    lacking = [
        f"{package} (pip install {package})"
        for name, package in (("playwright", "playwright"), ("starlette", "starlette"),
                              ("uvicorn", "uvicorn"))
        if importlib.util.find_spec(name) is None
    ]  # fmt: skip
    if CHROMIUM is None:
        lacking.append("chromium (apt install chromium)")
    return f"not installed: {', '.join(lacking)}" if lacking else ""


def serve(*given: Any, **options: Any) -> Any:
    """A page in this process, as `app_cases.served`; that needs what may be missing."""
    from app_cases import served

    return served(*given, **options)


@contextmanager
def launched() -> Iterator[Any]:
    """A browser that can reach nothing but this machine."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                f"--host-resolver-rules=MAP {EVIL} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            ],
        )
        yield browser
        browser.close()


class Tab:
    """A tab of the page, and all that went wrong in it."""

    def __init__(self, context: Any, url: str, statuses: tuple[int, ...] = ()) -> None:
        self.page = context.new_page()
        self.wrong: list[str] = []
        self.allowed = statuses
        self.page.on("request", self._asks)
        self.page.on("console", self._says)
        self.page.on("pageerror", lambda error: self.wrong.append(f"thrown: {error}"))
        self.page.goto(url)
        self.page.wait_for_selector("body:not([data-status=loading])")

    def _asks(self, request: Any) -> None:
        if urlsplit(request.url).scheme not in ("blob", "data"):
            host = urlsplit(request.url).hostname
            if host != "127.0.0.1":
                self.wrong.append(f"request to {request.url}")

    def _says(self, message: Any) -> None:
        if message.type not in ("error", "warning"):
            return
        status = SERVER_SAID.match(message.text)
        if status is None or int(status[1]) not in self.allowed:
            self.wrong.append(f"{message.type}: {message.text} {message.location}")

    # ---- what a person does

    def until(self, status: str) -> None:
        """Wait for the run's status."""
        self.page.wait_for_selector(f'body[data-status="{status}"]')

    def set(self, **fields: Any) -> None:
        """Fill in the settings, those behind "More settings" too."""
        self.page.evaluate("document.querySelector('#more-fields').open = true")
        for name, value in fields.items():
            self.page.fill(f"#set-{name}", str(value))

    def train(self, pace: int = 6, **fields: Any) -> None:
        """Train to the end; pace 6 is as fast as it goes."""
        self.pace(pace)
        self.set(**fields)
        self.page.click("#go")
        self.until("done")

    def pace(self, step: int) -> None:
        self.page.locator("#pace").fill(str(step))

    def view(self, name: str) -> None:
        self.page.click(f'.views a[href="#{name}"]')
        self.page.wait_for_selector(f"#view-{name}:not([hidden])")

    def state(self) -> Any:
        return self.page.evaluate("fetch('/state').then((answer) => answer.json())")

    def toast(self) -> str:
        """Return the sentence that the page shows, as soon as it is a refusal's."""
        self.page.wait_for_selector("#toast.bad.shown")
        sentence: str = self.page.inner_text("#toast")
        return sentence

    def predicted(self, name: str | None = None) -> str:
        """Return the class of the picture on the paper; wait for one, or for this one."""
        wanted = "body[data-predicted]:not([data-predicted=''])"
        self.page.wait_for_selector(wanted if name is None else f'body[data-predicted="{name}"]')
        found: str = self.page.evaluate("document.body.dataset.predicted")
        return found

    def download(self, file: str, folder: Path) -> Path:
        with self.page.expect_download() as waiting:
            self.page.click(f'a[href="/{file}"]')
        path = folder / file
        waiting.value.save_as(path)
        return path

    def draw(self, *lines: list[tuple[float, float]]) -> None:
        """Draw lines with the mouse, of places in shares of the paper."""
        paper = self.page.locator("#paper")
        paper.scroll_into_view_if_needed()
        box = paper.bounding_box()
        for line in lines:
            places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in line]
            self.page.mouse.move(*places[0])
            self.page.mouse.down()
            for place in places[1:]:
                self.page.mouse.move(*place, steps=6)
            self.page.mouse.up()


@contextmanager
def opened(
    browser: Any, url: str, statuses: tuple[int, ...] = (), viewport: Any = WIDE, **options: Any
) -> Iterator[Tab]:
    """A tab that has come in with the token; at its end nothing unexpected has happened in it."""
    options = {"locale": "en", "accept_downloads": True, "viewport": viewport, **options}
    context = browser.new_context(**options)
    context.set_default_timeout(1000 * SECONDS)
    try:
        tab = Tab(context, url, statuses)
        yield tab
        assert tab.wrong == []
    finally:
        context.close()


class Program:
    """``python -m csoftmax app`` as a person starts it, in a process of its own."""

    def __init__(self, *words: str, port: int = 0) -> None:
        command = [sys.executable, "-m", "csoftmax", "app", "--no-browser", "--port", str(port)]
        self.process = subprocess.Popen(
            [*command, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        assert self.process.stdout is not None
        self.said = ""
        while "http://" not in self.said:
            line = self.process.stdout.readline()
            assert line, f"the program ended: {self.said}"
            self.said += line
        found = re.search(r"http://\S+", self.said)
        assert found is not None
        self.url = found[0]
        self.port = urlsplit(self.url).port or 0

    def ends(self, number: int = signal.SIGINT) -> int:
        """Send a signal; return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(SECONDS)


@contextmanager
def started(*words: str, port: int = 0) -> Iterator[Program]:
    program = Program(*words, port=port)
    try:
        yield program
    finally:
        if program.process.poll() is None:
            program.process.kill()
        program.process.communicate(timeout=SECONDS)


def trained(epochs: int = 3) -> cs.SoftmaxRegression:
    """Return a model of the sample that is good enough to know a trouser."""
    train, _ = cs.fashion_mnist_sample()
    model = cs.SoftmaxRegression(784, 10, seed=0, class_names=train.class_names)
    cs.train(model, cs.DataLoader.from_dataset(train, 64, shuffle=True, seed=0), epochs=epochs)
    return model


def wait_for(page: Any, what: Callable[[], bool]) -> None:
    """Wait until something is true of what the browser has."""
    for _ in range(SECONDS * 20):
        if what():
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"it never came: {what}")
