"""The program behind the page: a server in a thread, with its address, its start and its end."""

from __future__ import annotations

import asyncio
import errno
import secrets
import signal
import socket
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from csoftmax.app.safety import LOOPBACK, Guard
from csoftmax.app.server import App
from csoftmax.app.session import PageSession

PORT = 8765
_GRACE = 0.7  # seconds for requests that are being answered when the page ends


class Page:
    """A server of one session, from `start` to `stop`; also a context manager.

    Raises
    ------
    OSError
        If the port is taken.
    ValueError
        For a host that others can reach without `to_network`.
    """

    def __init__(
        self, session: PageSession, *, host: str = "127.0.0.1", port: int = PORT,
        to_network: bool = False, token: str | None = None,
    ) -> None:  # fmt: skip
        if host not in LOOPBACK and not to_network:
            raise ValueError(
                f"host is {host}, which other machines can reach: add --open-to-network if those "
                "who have the token may use the page from there"
            )
        self.session, self.host = session, host
        self._socket = _bound(host, port)
        self.port: int = self._socket.getsockname()[1]
        self.token = token or secrets.token_urlsafe(16)
        self.app = App(session)
        guarded = self._guard = Guard(self.app.asgi, self.token, self.port, to_network)
        self._server = uvicorn.Server(
            uvicorn.Config(
                guarded, log_level="error", access_log=False, lifespan="off", ws="none",
                server_header=False, proxy_headers=False, timeout_graceful_shutdown=1,
                timeout_keep_alive=30,
            )
        )  # fmt: skip
        self._ended = threading.Event()  # Ctrl-C in Thread.join would take the thread for ended
        self._thread = threading.Thread(target=self._run, name="csoftmax page", daemon=True)

    @property
    def url(self) -> str:
        """The address with its token."""
        return self._url(self.token)

    def _url(self, token: str, every: str = "localhost") -> str:
        """Return the address; `every` stands for a host that is all addresses of the machine."""
        host = every if self.host in ("0.0.0.0", "::") else self.host
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self.port}/?token={token}"

    def _run(self) -> None:
        async def serve() -> None:
            self.session.log.attach(asyncio.get_running_loop())
            await self._server.serve([self._socket])

        try:
            asyncio.run(serve())
        finally:
            self._ended.set()

    def start(self) -> Page:
        """Serve, and come back as soon as requests are answered."""
        self._thread.start()
        while not self._server.started and not self._ended.wait(0.005):
            pass
        return self

    def show(self, open_browser: bool) -> None:
        """Serve until Ctrl-C, or a signal to end; print the address first."""
        with self, _ended_by_sigterm():
            print(f"the page is at {self.url} (Ctrl-C ends it)", flush=True)
            if self.host in ("0.0.0.0", "::"):
                there = self._url(self.token, socket.gethostname())
                print(f"from other machines it is at {there}", flush=True)
            try:
                if open_browser and self._guard.once is not None:
                    webbrowser.open(self._url(self._guard.once))
                while not self._ended.wait(0.5):
                    pass
            except KeyboardInterrupt:
                print("the page is closed", flush=True)

    def stop(self) -> None:
        """End the streams, the run and the server."""
        self.app.close()
        self._server.should_exit = True
        self.session.close()
        if self._thread.ident is not None:
            self._ended.wait(_GRACE)
        self._socket.close()

    def __enter__(self) -> Page:
        return self.start()

    def __exit__(self, *_: Any) -> None:
        self.stop()


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the page as Ctrl-C does; a thread that is not the first cannot."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        return listener
    except OSError as error:
        listener.close()
        if error.errno != errno.EADDRINUSE:
            raise OSError(f"{host}, port {port}: {error.strerror}") from None
        raise OSError(f"port {port} of {host} is in use, maybe by another page: --port 0 takes one "
                      "that is free") from None  # fmt: skip
