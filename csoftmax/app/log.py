"""What happens in a session, in order, for any number of open pages.

The log is one list. A stream remembers how far it has sent, so nothing is lost, and no queue grows
where a page is slow.
"""

from __future__ import annotations

import asyncio
import json
import math
import threading
from typing import Any


class Log:
    """The events since the present run began, numbered from the start of the program."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: list[str] = []
        self._last = 0  # the number of the last event
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: set[asyncio.Future[None]] = set()
        self._is_waking = False

    @property
    def last(self) -> int:
        """The number of the last event; 0 before the first."""
        return self._last

    def add(self, name: str, data: Any) -> None:
        """Append an event; one of the name "run" makes those before it history."""
        with self._lock:
            if name == "run":
                self._events.clear()
            self._last += 1
            self._events.append(event_text(name, data, self._last))
        self.wake()

    def since(self, number: int | None) -> tuple[str, int]:
        """Return the text of the events after a number, and the number of the last one.

        None stands for all that there are. A number that is not of these events is of another run
        or of another program: then the page has to ask for the whole state.
        """
        with self._lock:
            before = self._last - len(self._events)
            if number is None or number == before:
                return "".join(self._events), self._last
            if before < number <= self._last:
                return "".join(self._events[number - before :]), self._last
            return event_text("state", {}, self._last), self._last

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Say in which loop the streams wait."""
        self._loop = loop

    def wake(self) -> None:
        """Let all streams look again; from any thread, and cheap while they have not yet looked."""
        if self._loop is None or self._is_waking:
            return
        self._is_waking = True
        try:
            self._loop.call_soon_threadsafe(self._wake)
        except RuntimeError:  # the loop has ended
            self._loop = None

    def _wake(self) -> None:
        self._is_waking = False
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    async def wait(self, seconds: float) -> bool:
        """Wait in the loop until there may be something new; False if the time has passed."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await asyncio.wait_for(future, seconds)
        except asyncio.TimeoutError:
            return False
        finally:
            self._waiting.discard(future)
        return True


def event_text(name: str, data: Any, number: int | None = None) -> str:
    """Return a server-sent event as it goes over the wire."""
    head = "" if number is None else f"id: {number}\n"
    return f"{head}event: {name}\ndata: {as_json(data)}\n\n"


def as_json(data: Any) -> str:
    """Return compact JSON; numbers that JSON does not have, NaN and infinity, become null."""
    try:
        return json.dumps(data, separators=(",", ":"), allow_nan=False)
    except ValueError:
        return json.dumps(_finite(data), separators=(",", ":"), allow_nan=False)


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
