"""The command `app` and `cs.app.serve` as processes: their start, their mistakes, their end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from app_cases import Client, assert_runs_to_the_same_bits, png, served
from commands import SAMPLE, subprocess_of

import csoftmax as cs
from csoftmax.cli import main

PATIENCE = 120  # seconds, on a busy machine


@contextmanager
def program(*words: object, **options: Any) -> Iterator[tuple[subprocess.Popen[str], Client]]:
    """The command on a free port, with a client that has come in."""
    process = subprocess_of("app", "--no-browser", "--port", 0, *words, **options)
    with finished(process) as client:
        yield process, client


@contextmanager
def finished(process: subprocess.Popen[str]) -> Iterator[Client]:
    try:
        assert process.stdout is not None
        line = next(line for line in process.stdout if "the page is at" in line)
        url = urlsplit(line.split()[4])
        assert url.hostname == "127.0.0.1"
        assert url.port
        yield Client(url.port, parse_qs(url.query)["token"][0])
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_a_signal_ends_it_with_streams_open_and_a_run_going_on(number: signal.Signals) -> None:
    with program("--data", SAMPLE) as (process, client):
        client.post("/run", {"epochs": 1000, "pace": 0.05})
        with client.listen() as one, client.listen() as other:
            one.until(lambda event: event.name == "slice")
            process.send_signal(number)
            for stream in (one, other):
                stream.wait_closed()
                assert stream.events[-1].name == "bye"
        out, error = process.communicate(timeout=PATIENCE)
        assert (process.returncode, out, error) == (0, "the page is closed\n", "")


def test_it_begins_with_the_data_and_the_model_that_are_given(
    table: Path, model_file: Path, tmp_path: Path
) -> None:
    words = ("--data", table, "--label-column", "kind", "--test-fraction", 0.3, "--header")
    with program(*words, "--model", model_file) as (_, client):
        state = client.get("/state")
        assert state["data"]["sets"][-1] == "start"
        assert (state["data"]["n_train"], state["data"]["n_test"]) == (140, 60)
        assert state["model"]["trained"] is True
        code = client.get("/code")
        assert "test_fraction=0.3" in code["python"]
        assert f"--data {table}" in code["shell"]
        client.train(epochs=2, batch_size=8)
        assert_runs_to_the_same_bits(client, tmp_path)
        client.post("/data", {"set": "sample"})
        assert client.post("/data", {"set": "start"})["n_train"] == 140


WATCH = """
import sys
def watch(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        where = arguments[0] if event.startswith("socket.get") else arguments[1]
        where = where[0] if isinstance(where, tuple) else where
        if where not in ("127.0.0.1", "::1", "localhost", None):
            print("leaves this machine:", event, where, file=sys.stderr, flush=True)
            raise OSError("no way out")
sys.addaudithook(watch)
"""


def test_nothing_leaves_the_machine(tmp_path: Path) -> None:
    code = f"{WATCH}\nfrom csoftmax.cli import main\nmain(['app', '--port', '0', '--no-browser'])"
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path),
                   "PYTHONPATH": str(Path(cs.__file__).parents[1])}  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    with finished(process) as client:
        sets = client.get("/state")["data"]["sets"]
        for name in sets:
            client.post("/data", {"set": name})
        client.ask("POST", "/data", {"set": "fashion-mnist"})  # also where it is not installed
        client.train(epochs=1)
        for path in ("/", "/static/main.js", "/confusion", "/why?row=0", "/code", "/weights.png",
                     "/samples", "/curves.png", "/model.safetensors"):  # fmt: skip
            assert client.ask("GET", path).status == 200
        client.post("/predict", png([[0, 255], [9, 9]]))
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=PATIENCE) == ("the page is closed\n", "")


def test_the_watch_would_have_seen_it() -> None:
    code = WATCH + "\nimport socket\nsocket.create_connection(('192.0.2.1', 80), timeout=1)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "leaves this machine" in done.stderr


def answer(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The line that the command says in place of a start."""
    assert main(["app", "--no-browser", *map(str, words)]) == 2
    _, error = capsys.readouterr()
    assert error.count("\n") == 1
    return error


def test_mistakes_are_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, table: Path, model_file: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = answer(capsys, "--data", SAMPLE, "--port", port)
        assert f"port {port} of 127.0.0.1 is in use" in line
        assert "--port 0" in line
    for words, said in (
        (("--host", "0.0.0.0"), "--open-to-network"), (("--port", "70000"), "--port is 70000"),
        (("--port", "x"), "--port is x"), (("--data", tmp_path / "no"), "no such file"),
        (("--model", tmp_path / "no"), "no such model"), (("--label-column", "y"), "--data"),
        (("--test-fraction", 0.5), "--test-fraction has no effect"), (("file",), "no place here"),
        (("--data", SAMPLE, "--model", model_file), "known classes: ant, bee, cat"),
        (("--data", table, "--label-column", "no"), "no"),
        (("--host", "300.1.1.1", "--open-to-network"), "300.1.1.1"),
    ):  # fmt: skip
        assert said in answer(capsys, *words)


def test_without_its_libraries_it_says_what_to_install(tmp_path: Path) -> None:
    for name in ("starlette", "uvicorn", "PIL"):
        code = f"import sys; sys.modules['{name}'] = None\n"
        for more in ("from csoftmax.cli import main; sys.exit(main(['app']))",
                     "import csoftmax; csoftmax.app"):  # fmt: skip
            done = subprocess.run(
                [sys.executable, "-c", code + more], capture_output=True, text=True
            )
            assert done.returncode in (1, 2)
            assert done.stderr.endswith(f"needs {name}: pip install 'csoftmax[app]'\n")


def test_serve_shows_a_model_of_ones_own() -> None:
    code = """
import csoftmax as cs, numpy as np
train, test = cs.fashion_mnist_sample()
model = cs.SoftmaxRegression(784, 10, seed=1)
W = model.W.copy()
cs.app.serve(model, test, train, port=0, open_browser=False)
print("unchanged", (model.W == W).all())
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with finished(process) as client:
        state = client.get("/state")
        assert (state["data"]["n_train"], state["data"]["n_test"]) == (6000, 1000)
        assert state["data"]["sets"][-1] == "start"
        assert "your own data" in client.get("/code")["python"]
        client.train(epochs=1)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=PATIENCE)
    assert (out, error) == ("the page is closed\nunchanged True\n", "")


def test_serve_refuses_what_does_not_fit() -> None:
    _, test = cs.fashion_mnist_sample()
    wrong: Any
    for wrong, said in (
        (("model", test), "model is a str"), ((None, [1]), "test is a list"),
        ((None, test, (1, 2)), "train is a tuple"), ((cs.SoftmaxRegression(3, 10), test), "784"),
    ):  # fmt: skip
        with pytest.raises((TypeError, ValueError), match=said):
            cs.app.serve(*wrong, port=0, open_browser=False)


def test_the_browser_is_opened_at_an_address_that_is_good_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[str] = []
    with served() as (page, _):
        monkeypatch.setattr("webbrowser.open", opened.append)
        session = page.session
    another = cs.app.Page(session, port=0)
    shown = threading.Thread(target=another.show, args=(True,))  # not the main thread: no signals
    shown.start()
    while not opened:
        shown.join(0.01)
    client, url = Client(another.port, "none"), urlsplit(opened[0])
    assert another.token not in opened[0]  # others can see what a program is started with
    first, second = (client.ask("GET", f"/?{url.query}") for _ in range(2))
    assert (first.status, second.status) == (303, 403)
    assert another.token in first.headers["set-cookie"]
    another.stop()
    shown.join(PATIENCE)
    assert not shown.is_alive()


def test_who_serves_all_addresses_is_told_one_for_other_machines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "laptop")
    with served() as (page, _):
        another = cs.app.Page(page.session, host="0.0.0.0", port=0, to_network=True)
        shown = threading.Thread(target=another.show, args=(False,))
        shown.start()
        said = ""
        while said.count("\n") < 2:
            shown.join(0.01)
            said += capsys.readouterr().out
        another.stop()
    for host in ("localhost", "laptop"):
        assert f"http://{host}:{another.port}/?token={another.token}" in said
