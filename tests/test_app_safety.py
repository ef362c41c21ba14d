"""Who is let in, and what is refused: each refusal has its status and a sentence for the page."""

from __future__ import annotations

import http.client
import socket
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from app_cases import Client, png, served

import csoftmax as cs
from csoftmax.app.page import Page


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with served() as (_, client):
        yield client


def test_the_token_gives_a_cookie_that_scripts_and_other_sites_cannot_use(client: Client) -> None:
    token = client.cookie.partition("=")[2]
    answer = client.ask("GET", f"/?token={token}", cookie="")
    assert (answer.status, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert cookie.startswith(client.cookie.lower())
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    page = client.ask("GET", "/")
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    assert b"<script" in page.body


def test_without_the_token_nothing_is_there(client: Client) -> None:
    wrong = client.cookie[:-1]
    paths = ("/state", "/events", "/static/main.js", "/model.safetensors", "/nowhere")
    for cookie in ("", wrong, "csoftmax=1"):
        for path in paths:
            assert "terminal" in client.refusal(403, "GET", path, cookie=cookie)
        assert "terminal" in client.refusal(403, "POST", "/run", {}, cookie=cookie)
    page = client.ask("GET", "/?token=wrong", cookie="")
    assert page.status == 403
    assert b"open the address of the terminal" in page.body
    assert client.get("/state")["run"] is None


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:{port}", "127.0.0.1", "", "[", "a]b:{port}"]
)
def test_a_foreign_host_is_refused(client: Client, host: str) -> None:
    host = host.format(port=client.port)
    with socket.create_connection(("127.0.0.1", client.port)) as raw:
        head = f"GET /state HTTP/1.1\r\nHost: {host}\r\nCookie: {client.cookie}\r\n\r\n"
        raw.sendall(head.encode())
        answer = http.client.HTTPResponse(raw)
        answer.begin()
        assert answer.status == 400
        assert b"does not serve the host" in answer.read()


def test_this_machine_is_served_by_each_of_its_names(client: Client) -> None:
    for name in ("localhost", "127.0.0.1", "LOCALHOST", "[::1]"):
        client.get("/state", host=f"{name}:{client.port}")


def test_a_foreign_origin_and_a_foreign_site_are_refused(client: Client) -> None:
    own = f"http://127.0.0.1:{client.port}"
    for origin in ("http://evil.example", "null", f"https://127.0.0.1:{client.port}", own + "1"):
        sentence = client.refusal(403, "POST", "/control", {"do": "reset"}, origin=origin)
        assert origin in sentence
    for site in ("cross-site", "same-site"):
        assert "another site" in client.refusal(403, "GET", "/state", sec_fetch_site=site)
        assert client.ask("GET", "/", sec_fetch_site=site).status == 200  # a link to the page
    client.get("/state", origin=own, sec_fetch_site="same-origin")
    client.get("/state", sec_fetch_site="none")


def test_every_answer_forbids_what_the_page_does_not_need(client: Client) -> None:
    for answer in (client.ask("GET", "/"), client.ask("GET", "/state", cookie="")):
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"


def test_bodies_beyond_their_limits_are_refused(client: Client) -> None:
    five = bytes(5 << 20)
    for path in ("/predict", "/run", "/control", "/data"):
        assert client.refusal(413, "POST", path, five) == (
            "this is larger than 4 MB, the most that is taken here"
        )
    assert "64 MB" in client.refusal(413, "POST", "/model", bytes(65 << 20))

    def pieces() -> Iterator[bytes]:  # without a length
        for _ in range(5):
            yield five

    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=60)
    connection.request("POST", "/predict", pieces(), {"Cookie": client.cookie})
    assert connection.getresponse().status == 413
    connection.close()


def test_what_is_no_picture_is_refused(client: Client) -> None:
    whole = png([[0, 255], [255, 0]] * 20)
    for body in (b"", b"hello", b"<svg xmlns='http://www.w3.org/2000/svg'/>", whole[:40]):
        assert "no picture" in client.refusal(415, "POST", "/predict", body)


@pytest.mark.parametrize("side", [8001, 12000, 40000])
def test_a_bomb_is_refused_before_it_is_decoded(client: Client, side: int) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    few = zlib.compress(bytes(1000))
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", few) + chunk(b"IEND", b"")
    assert "64,000,000 pixels" in client.refusal(413, "POST", "/predict", bomb)


def test_no_path_leads_out_of_the_static_files(client: Client) -> None:
    for path in (
        "/static/../server.py", "/static/%2e%2e/server.py", "/static/..%2fserver.py",
        "/static//etc/passwd", "/static/%00", "/..%2f..%2fpyproject.toml",
    ):  # fmt: skip
        assert client.refusal(404, "GET", path) == "there is no such page"
    assert client.ask("GET", "/static/main.js").status == 200
    assert client.refusal(405, "GET", "/run")


def test_a_broken_model_is_refused(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    cs.SoftmaxRegression(784, 10, seed=0).save(path)
    whole = path.read_bytes()
    for body in (b"", b"no model", whole[:-4], whole[100:], bytes(8) + whole):
        sentence = client.refusal(422, "POST", "/model", body)
        assert "expected a safetensors file" in sentence
        assert "/" not in sentence.replace("n/a", "")  # no path of this machine
    cs.SoftmaxRegression(784, 3, seed=0).save(path)
    assert client.refusal(422, "POST", "/model", path.read_bytes()) == (
        "the model has 784 features and 3 classes, the data have 784 and 10"
    )
    broken = cs.SoftmaxRegression(784, 10, seed=0)
    broken.b = [float("inf")] * 10
    broken.save(path)
    assert "not finite" in client.refusal(422, "POST", "/model", path.read_bytes())
    assert client.get("/state")["model"]["trained"] is False


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"{", "JSON"), ([], "object"), ({"kind": "adam"}, "kind"), ({"epochs": 0}, "epochs"),
        ({"epochs": 1.5}, "epochs"), ({"epochs": True}, "epochs"), ({"epochs": "3"}, "epochs"),
        ({"lr": -1}, "lr"), ({"lr": "fast"}, "lr"), ({"momentum": 1}, "momentum"),
        ({"nesterov": True}, "nesterov"), ({"batch_size": 0}, "batch_size"),
        ({"weight_decay": -1}, "weight_decay"), ({"seed": -1}, "seed"), ({"pace": -1}, "pace"),
        ({"pace": 1e9}, "pace"), ({"speed": 3}, "speed"), ({"kind": "lbfgs", "C": 0}, "C"),
        ({"kind": "lbfgs", "C": -1}, "C"), ({"kind": "lbfgs", "l1_ratio": 2}, "l1_ratio"),
        ({"kind": "lbfgs", "C": "inf", "l1_ratio": 1}, "l1_ratio"),
        ({"kind": "lbfgs", "epochs": 3}, "epochs"), ({"kind": "sweep", "Cs": [1]}, "Cs"),
        ({"kind": "sweep", "Cs": [1, "x"]}, "C"), ({"kind": "lbfgs", "tol": -1}, "tol"),
    ],
    ids=str,
)  # fmt: skip
def test_bad_settings_are_named(client: Client, body: Any, named: str) -> None:
    assert named in client.refusal(422, "POST", "/run", body)
    assert client.get("/state")["run"] is None


def test_bad_questions_are_named(client: Client) -> None:
    for path, named in (
        ("/samples?class=x", "class"), ("/samples?set=other", "set"),
        ("/samples?start=-1", "start"), ("/why?row=10000", "row"), ("/why?row=-1", "row"),
        ("/why", "row"), ("/cell?true=1", "predicted"),
        ("/features?class=10", "class"), ("/mistakes?count=1e3", "count"),
    ):  # fmt: skip
        assert named in client.refusal(422, "GET", path)
    for body, named in (({"do": "fly"}, "do"), ([], "do"), ({"set": "mine"}, "set")):
        path = "/data" if "set" in body else "/control"
        assert named in client.refusal(422, "POST", path, body)


def test_other_machines_need_a_second_word(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="--open-to-network"), served(host="0.0.0.0"):
        pass
    monkeypatch.setattr(socket, "gethostname", lambda: "Laptop.home")
    with served(host="0.0.0.0", to_network=True) as (page, client):
        assert page.url.startswith(f"http://localhost:{page.port}/?token=")
        for host in ("192.168.1.5", "laptop", "laptop.local", "laptop.home"):
            client.get("/state", host=f"{host}:{page.port}")
        client.refusal(400, "GET", "/state", host=f"evil.example:{page.port}")
        client.refusal(403, "GET", "/state", cookie="")


def test_a_port_that_is_taken_is_told() -> None:
    with (
        served() as (page, _),
        pytest.raises(OSError, match=f"port {page.port} of 127.0.0.1 is in use.*--port 0"),
    ):
        Page(page.session, port=page.port)


def test_pages_of_two_ports_do_not_share_their_cookie() -> None:
    with served() as (_, one), served() as (_, other):
        both = f"{one.cookie}; {other.cookie}"
        one.get("/state", cookie=both)
        other.get("/state", cookie=both)
        assert one.cookie.partition("=")[0] != other.cookie.partition("=")[0]
        one.refusal(403, "GET", "/state", cookie=other.cookie)
