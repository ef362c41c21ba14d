"""The page's server as the tests call it: over a real connection of this machine, as a browser."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

import csoftmax as cs
from csoftmax.app import data as sets
from csoftmax.app.page import Page
from csoftmax.app.session import PageSession

PATIENCE = 60  # seconds, on a busy machine


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Event(NamedTuple):
    number: int | None
    name: str
    data: Any


class Client:
    """One who has come in with the token."""

    def __init__(self, port: int, token: str) -> None:
        self.port = port
        self.cookie = f"csoftmax-{port}={token}"

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Send a request; names of headers are written with _ for -. An empty one is not sent."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        named = {"Cookie": self.cookie}
        named |= {name.replace("_", "-").title(): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, {k: v for k, v in named.items() if v})
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Any:
        answer = self.ask("GET", path, **headers)
        assert answer.status == 200, answer.body
        return answer.json

    def post(self, path: str, body: Any, **headers: str) -> Any:
        answer = self.ask("POST", path, body, **headers)
        assert answer.status == 200, answer.body
        return answer.json

    def refusal(self, status: int, method: str, path: str, body: Any = None, **headers: str) -> str:
        """Return the sentence of a refusal that has this status."""
        answer = self.ask(method, path, body, **headers)
        assert answer.status == status, answer.body
        sentence: str = answer.json["error"]
        return sentence

    def train(self, **settings: Any) -> dict[str, Any]:
        """Run a training to its end; return it as the page sees it."""
        with self.listen(after=self.get("/state")["event"]) as stream:
            self.post("/run", {"pace": 0, **settings})
            stream.until(lambda event: event.name == "status" and event.data["status"] == "done")
        run: dict[str, Any] = self.get("/state")["run"]
        return run

    @contextmanager
    def listen(self, after: int | None = None) -> Iterator[Stream]:
        stream = Stream(self, after)
        try:
            yield stream
        finally:
            stream.close()


class Stream:
    """The events of a page that is open."""

    def __init__(self, client: Client, after: int | None = None) -> None:
        headers = {"Cookie": client.cookie}
        if after is not None:
            headers["Last-Event-ID"] = str(after)
        self._connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=PATIENCE)
        self._connection.request("GET", "/events", headers=headers)
        self._socket = self._connection.sock
        self._answer = self._connection.getresponse()
        assert self._answer.status == 200
        self.events: list[Event] = []
        self._changed = threading.Condition()
        self.is_open = True
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        fields: dict[str, str] = {}
        try:
            for line in self._answer:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name:
                    fields[name] = value
                elif "event" in fields:
                    number = int(fields["id"]) if "id" in fields else None
                    event = Event(number, fields["event"], json.loads(fields["data"]))
                    with self._changed:
                        self.events.append(event)
                        self._changed.notify_all()
                    fields = {}
        except (OSError, ValueError, AttributeError, http.client.HTTPException):
            pass  # it was closed
        with self._changed:
            self.is_open = False
            self._changed.notify_all()

    def until(self, wanted: Callable[[Event], bool]) -> Event:
        """Wait for an event."""
        n = 0
        with self._changed:
            while True:
                for event in self.events[n:]:
                    if wanted(event):
                        return event
                n = len(self.events)
                names = [event.name for event in self.events[-9:]]
                assert self.is_open, names
                assert self._changed.wait(PATIENCE), names

    def named(self, *names: str) -> list[Event]:
        return [event for event in self.events if event.name in names]

    def wait_closed(self) -> None:
        self._thread.join(PATIENCE)
        assert not self.is_open

    def close(self) -> None:
        with contextlib.suppress(OSError):  # it has been closed by the server
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE)
        self._answer.close()
        self._connection.close()


@contextmanager
def served(
    data: sets.Data | None = None, model: cs.SoftmaxRegression | None = None, **options: Any
) -> Iterator[tuple[Page, Client]]:
    """A page on a free port, with one client; the sample of Fashion-MNIST if no data are given."""
    session = PageSession(data or sets.known(sets.SAMPLE), model, is_own=data is not None)
    with Page(session, **{"port": 0, **options}) as page:
        yield page, Client(page.port, page.token)


def own_data(train: cs.Dataset, test: cs.Dataset) -> sets.Data:
    return sets.Data(train, test, sets.Source("own", "train, test = ..., ..."))


def png(pixels: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(file, "PNG")
    return file.getvalue()


def model_of(client: Client, folder: Any) -> cs.SoftmaxRegression:
    """The model that the page lets one download."""
    path = folder / "downloaded.safetensors"
    path.write_bytes(client.ask("GET", "/model.safetensors").body)
    return cs.SoftmaxRegression.load(path)


def assert_runs_to_the_same_bits(client: Client, folder: Path, shell: bool = True) -> None:
    """Run the Python and the command line of the page; both save the model that the page has."""
    model, code = model_of(client, folder), client.get("/code?lang=en")
    home = str(Path(cs.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": home}
    (folder / "csoftmax").write_text(f'#!/bin/sh\nexec {sys.executable} -m csoftmax "$@"\n')
    (folder / "csoftmax").chmod(0o755)
    environment["PATH"] = f"{folder}{os.pathsep}{environment['PATH']}"
    programs = [([sys.executable, "-c", code["python"]], "model.safetensors")]
    if shell:
        words = ["sh", "-c", code["shell"].rstrip() + " --no-plots"]
        programs.append((words, "csoftmax-run/model.safetensors"))
    for words, path in programs:
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        saved = cs.SoftmaxRegression.load(folder / path)
        assert saved.W.tobytes() == model.W.tobytes(), code
        assert saved.b.tobytes() == model.b.tobytes(), code
        assert saved.scale == model.scale
        if path == "model.safetensors":  # files of the sample do not have the set's names, recipe
            assert saved.class_names == model.class_names
            assert saved.recipe == model.recipe
