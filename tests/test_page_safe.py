"""The page in a browser: no other site reaches it, and it ends, and comes back, as one expects."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from page_cases import EVIL, SECONDS, Tab, missing, opened, serve, started

pytestmark = [
    pytest.mark.xdist_group("page"),
    pytest.mark.skipif(bool(missing()), reason=missing()),
]


@pytest.fixture
def served() -> Iterator[Any]:
    with serve() as page_and_client:
        yield page_and_client


def test_a_foreign_name_that_is_pointed_here_is_not_served(browser: Any, served: Any) -> None:
    page, _ = served
    context = browser.new_context()
    try:
        tab = context.new_page()
        for path in ("/", f"/?token={page.token}", "/state"):
            answer = tab.goto(f"http://{EVIL}:{page.port}{path}")
            assert answer.status == 400
            assert "does not serve the host" in tab.inner_text("body")
        assert context.cookies() == []
    finally:
        context.close()


@pytest.fixture
def elsewhere() -> Iterator[int]:
    """Another site of this machine: to the browser it differs from the page in its port alone."""

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>elsewhere</title><p>elsewhere</p>")

        def log_message(self, *_: Any) -> None:
            pass

    site = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=site.serve_forever)
    thread.start()
    yield site.server_port
    site.shutdown()
    thread.join()
    site.server_close()


def test_without_the_token_there_is_a_sentence(browser: Any, served: Any) -> None:
    page, _ = served
    context = browser.new_context()
    try:
        tab = context.new_page()
        answer = tab.goto(f"http://127.0.0.1:{page.port}/")
        assert answer.status == 403
        assert "open the address of the terminal" in tab.inner_text("body")
        assert "请打开终端里显示的网址" in tab.inner_text("body")
        assert tab.goto(f"http://127.0.0.1:{page.port}/?token=guess").status == 403
        tab.goto(page.url)
        assert "token" not in tab.url  # nor in the history, or in what is copied
    finally:
        context.close()


def test_another_site_can_do_nothing(
    browser: Any, served: Any, elsewhere: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from csoftmax.app import safety

    refusals: list[tuple[str, int]] = []

    def seen(request: Any, refusal: safety.Refusal) -> Any:
        refusals.append((request.url.path, refusal.status))
        return refused(request, refusal)

    refused = safety.refused
    monkeypatch.setattr(safety, "refused", seen)
    page, client = served
    before = client.get("/state")
    with opened(browser, page.url) as tab:
        foreign = tab.page.context.new_page()
        foreign.goto(f"http://127.0.0.1:{elsewhere}/")
        paths = [f"/{name}" for name in ("run", "control", "data", "model", "predict", "state")]
        for path in paths:
            foreign.evaluate(
                """([url, method]) => fetch(url, {
                    method, mode: "no-cors", credentials: "include",
                    body: method === "GET" ? null : JSON.stringify({kind: "sgd", set: "sample"}),
                }).catch(() => null)""",
                [f"http://127.0.0.1:{page.port}{path}", "GET" if path == "/state" else "POST"],
            )
    assert refusals == [(path, 403) for path in paths]
    assert client.get("/state") == before


def test_another_site_cannot_put_the_page_into_a_frame(
    browser: Any, served: Any, elsewhere: int
) -> None:
    with opened(browser, served[0].url) as tab:
        foreign = tab.page.context.new_page()
        foreign.goto(f"http://127.0.0.1:{elsewhere}/")
        foreign.evaluate(
            """(url) => new Promise((done) => {
                const frame = document.createElement("iframe");
                frame.onload = done;
                frame.src = url;
                document.body.append(frame);
            })""",
            f"http://127.0.0.1:{served[0].port}/",
        )
        assert "csoftmax" not in foreign.frames[1].content()


def test_no_script_but_its_own_runs_in_the_page(browser: Any, served: Any) -> None:
    page, _ = served
    context = browser.new_context()
    try:
        tab = context.new_page()
        tab.goto(page.url)
        tab.wait_for_selector("body:not([data-status=loading])")
        for script in ("inline", "foreign"):
            tab.evaluate(
                """(kind) => {
                    const script = document.createElement("script");
                    if (kind === "inline") script.textContent = "window.broken = true";
                    else script.src = "data:text/javascript,window.broken = true";
                    document.body.append(script);
                }""",
                script,
            )
        tab.wait_for_timeout(100)
        assert tab.evaluate("window.broken === undefined")
    finally:
        context.close()


# ---------------------------------------------------------------- its end, and its return


def test_ctrl_c_ends_it_with_streams_open_and_the_page_says_so(browser: Any) -> None:
    with started("--data", sample()) as program, opened(browser, program.url) as tab:
        second = tab.page.context.new_page()
        second.goto(f"http://127.0.0.1:{program.port}/")
        second.wait_for_selector("body:not([data-status=loading])")
        tab.pace(1)
        tab.page.click("#go")
        tab.until("running")
        assert program.ends() == 0
        check_gone(tab)


def test_a_killed_program_is_missed(browser: Any) -> None:
    with started("--data", sample()) as program, opened(browser, program.url) as tab:
        program.process.kill()
        program.process.wait(SECONDS)
        check_gone(tab)


def sample() -> str:
    from csoftmax.data import sample_folder

    return str(sample_folder())


def check_gone(tab: Tab) -> None:
    """The banner tells that the program has ended, and how to start it again."""
    tab.page.wait_for_selector("#banner:not([hidden])")
    said = tab.page.inner_text("#banner")
    assert "The program has ended" in said
    assert "python -m csoftmax app" in said
    tab.wrong = [one for one in tab.wrong if "ERR_" not in one]  # of requests to what has ended


def test_it_is_back(browser: Any) -> None:
    with serve() as (page, _):
        port, token = page.port, page.token
        context_url = page.url
        with opened(browser, context_url) as tab:
            page.stop()
            check_gone(tab)
            with serve(port=port, token=token) as (_, client):
                tab.page.wait_for_selector("#banner", state="hidden")
                client.train(kind="sgd", epochs=1)
                tab.until("done")
                tab.wrong = [one for one in tab.wrong if "ERR_" not in one]
