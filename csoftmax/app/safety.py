"""Who may ask this program for something, and how much.

The page is served to one person on one machine. Any web site that this person visits can send
requests to 127.0.0.1 too: so each request needs the cookie that the address with the token gave,
names this machine as its host (a foreign name that was pointed at 127.0.0.1 would not), and does
not come from another site.
"""

from __future__ import annotations

import ipaddress
import secrets
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from csoftmax.app.log import as_json

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MEGABYTE = 1 << 20
MOST_DRAINED = 1024 * MEGABYTE  # of a body that is too large: a browser shows no answer before
LOOPBACK = ("127.0.0.1", "localhost", "::1")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; font-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Refusal(Exception):  # noqa: N818 (it is an answer)
    """A request that is refused: with which status, and why, in a sentence for the page."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Json(Response):
    """A response of JSON without the numbers that JSON does not have."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return as_json(content).encode()


class Guard:
    """The application behind the checks that each request has to pass."""

    def __init__(self, app: Any, token: str, port: int, to_network: bool) -> None:
        self.app, self.token, self.to_network = app, token, to_network
        # for the address that a browser is started with: other users can see a program's arguments
        self.once: str | None = secrets.token_urlsafe(16)
        self.cookie = f"csoftmax-{port}"  # cookies are of a host, not of a port
        self.port = port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        try:
            self.check_site(request)
            answer = self.entrance(request)
        except Refusal as refusal:
            await drain(receive)
            answer = refused(request, refusal)
        await (answer or self.app)(scope, receive, send_with_headers)

    def check_site(self, request: Request) -> None:
        """Refuse what asks for another host or comes from another site."""
        host = request.headers.get("host", "")
        name, port = _host_and_port(host)
        if port != self.port or not (name in LOOPBACK or (self.to_network and _is_ours(name))):
            raise Refusal(400, f"this program does not serve the host {host!r}: open the address "
                               "that the terminal shows")  # fmt: skip
        if is_page(request):
            return  # a link to the page may be anywhere
        origin = request.headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            raise Refusal(403, f"requests from {origin} are refused: they have to come from the "
                               "page itself")  # fmt: skip
        if request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            raise Refusal(403, "requests from another site are refused: they have to come from the "
                               "page itself")  # fmt: skip

    def entrance(self, request: Request) -> Response | None:
        """Let those in who have the cookie, and give it to those who come with the token."""
        if is_page(request) and self.takes(request.query_params.get("token", "")):
            answer = RedirectResponse("/", 303)
            answer.set_cookie(self.cookie, self.token, httponly=True, samesite="strict")
            return answer
        if not self.is_token(request.cookies.get(self.cookie, "")):
            raise Refusal(403, "this page needs its token: open the address of the terminal")
        return None

    def is_token(self, text: str) -> bool:
        return _same(text, self.token)

    def takes(self, token: str) -> bool:
        """Is this the token, or the one that is good once?"""
        if self.once is not None and _same(token, self.once):
            self.once = None
            return True
        return self.is_token(token)


def _same(one: str, other: str) -> bool:
    return secrets.compare_digest(one.encode(), other.encode())


def is_page(request: Request) -> bool:
    """Is the page itself wanted? (The URL of a request is made of its host, which may be bad.)"""
    return request.method == "GET" and request.scope["path"] == "/"


def _host_and_port(host: str) -> tuple[str, int]:
    name, colon, port = host.rpartition(":")
    if not colon or not port.isdecimal():
        return host.strip("[]").lower(), 80
    return name.strip("[]").lower(), int(port)


def _is_ours(name: str) -> bool:
    """Is this an address, which no foreign name can stand for, or a name of this machine?"""
    try:
        ipaddress.ip_address(name)
        return True
    except ValueError:
        own = socket.gethostname().lower()
        return name in (own, own.partition(".")[0], f"{own.partition('.')[0]}.local")


def refused(request: Request, refusal: Refusal) -> Response:
    """Return what a refused request gets: a short page where a page was wanted, or else JSON."""
    if is_page(request):
        page = f"<!doctype html><title>csoftmax</title><p>csoftmax: {_as_html(str(refusal))}.</p>"
        return HTMLResponse(page, refusal.status)
    return Json({"error": str(refusal)}, refusal.status)


def _as_html(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


async def drain(receive: Receive) -> None:
    """Read the rest of a body and forget it: a browser takes an answer after sending it all."""
    n = 0
    while n < MOST_DRAINED:
        message = await receive()
        n += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body"):
            return


async def read_body(request: Request, most: int, write: Callable[[bytes], Any]) -> None:
    """Hand a body over piece by piece; refuse one of more than `most` megabytes."""
    n, limit = 0, most * MEGABYTE
    too_large = int(request.headers.get("content-length") or 0) > limit
    async for chunk in request.stream():
        n += len(chunk)
        too_large = too_large or n > limit
        if n > MOST_DRAINED:
            break
        if not too_large:
            write(chunk)
    if too_large:
        raise Refusal(413, f"this is larger than {most} MB, the most that is taken here")


async def small_body(request: Request, most: int = 4) -> bytes:
    """Return a whole body of at most so many megabytes."""
    body = bytearray()
    await read_body(request, most, body.extend)
    return bytes(body)
