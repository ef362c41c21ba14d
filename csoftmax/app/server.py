"""The routes: what a request asks for, and what it gets."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from csoftmax.app import downloads, look, pictures, why
from csoftmax.app.code import code_of
from csoftmax.app.data import TEST_SHARE, finite, name_of_upload, suffix_of
from csoftmax.app.log import event_text
from csoftmax.app.safety import Json, Refusal, drain, read_body, small_body, told
from csoftmax.app.session import PageSession

STATIC = Path(__file__).parent / "static"
MOST_MODEL, MOST_DATA = 64, 512  # megabytes
_REST = 1 / 30  # seconds between two packets of a stream: 20 updates a second come one by one
_STILL_HERE = 10.0  # seconds between signs of life
Answer = Callable[[Request], Any]


class App:
    """The application of one session. `closing` ends its streams."""

    def __init__(self, session: PageSession) -> None:
        self.session = session
        self.closing = False
        get, post = self._get, self._post
        self.asgi = Starlette(
            routes=[
                Route("/", lambda request: FileResponse(STATIC / "index.html")),
                Mount("/static", StaticFiles(directory=STATIC)),
                Route("/events", self.events),
                get("/state", lambda request: session.state()),
                get("/samples", self.samples),
                get("/cell", self.cell),
                get("/mistakes", lambda request: look.mistakes(
                    session.view, _integer(request, "count", 30))),
                get("/confusion", lambda request: look.confusion(session.view)),
                get("/features", lambda request: look.features(
                    session.view, _integer(request, "class"), _integer(request, "count", 20))),
                get("/why", lambda request: why.of_row(
                    session.view, request.query_params.get("set", "test"),
                    _integer(request, "row"))),
                get("/code", lambda request: code_of(
                    session.data, session.run, request.query_params.get("lang", "en"))),
                get("/history.csv", lambda _: downloads.history_csv(session), "text/csv"),
                get("/curves.png", lambda _: downloads.curves_png(session), "image/png"),
                get("/confusion.png", lambda _: downloads.confusion_png(session.view), "image/png"),
                get("/weights.png", lambda _: downloads.weights_png(session.view), "image/png"),
                get("/model.safetensors", lambda _: downloads.model_file(session.view),
                    "application/octet-stream"),
                post("/run", self.run),
                post("/control", self.control),
                post("/predict", self.predict),
                post("/data", self.data),
                post("/model", self.model),
            ],
            exception_handlers={
                Refusal: _refused, ValueError: _refused, MemoryError: _refused,
                HTTPException: _refused, Exception: _refused,
            },
        )  # fmt: skip

    @staticmethod
    def _get(path: str, answer: Answer, media_type: str | None = None) -> Route:
        def endpoint(request: Request) -> Response:  # no coroutine: it runs in a thread
            content = answer(request)
            if media_type is None:
                return Json(content)
            name = path.removeprefix("/")
            headers = {"Content-Disposition": f'attachment; filename="{name}"'}
            return Response(content, media_type=media_type, headers=headers)

        return Route(path, endpoint)

    @staticmethod
    def _post(path: str, answer: Answer) -> Route:
        async def endpoint(request: Request) -> Response:
            return Json(await answer(request))

        return Route(path, endpoint, methods=["POST"])

    # ---- the stream of events ------------------------------------------------------------------

    async def events(self, request: Request) -> Response:
        """Send what has happened after the event that the page has seen last, and what happens."""
        seen = request.headers.get("last-event-id", request.query_params.get("after", ""))
        after = int(seen) if seen.isdecimal() else None
        headers = {"X-Accel-Buffering": "no"}
        return StreamingResponse(
            self._stream(after), media_type="text/event-stream", headers=headers
        )

    async def _stream(self, sent: int | None) -> AsyncIterator[str]:
        session, shown = self.session, 0
        yield "retry: 1000\n\n"
        while True:
            text, sent = session.log.since(sent)
            version = session.view.version
            if version != shown:
                shown = version
                weights = session.weights()
                text += "" if weights is None else event_text("weights", weights)
            if self.closing:
                yield text + event_text("bye", {})
                return
            if text:
                yield text
                await asyncio.sleep(_REST)
            elif not await session.log.wait(_STILL_HERE):
                yield ": still here\n\n"

    def close(self) -> None:
        """End the streams; each says goodbye."""
        self.closing = True
        self.session.log.wake()

    # ---- what is looked at ---------------------------------------------------------------------

    def samples(self, request: Request) -> Any:
        part = request.query_params.get("set", "test")
        label = _integer(request, "class", -1)
        return look.samples(self.session.view, part, label, *_extent(request))

    def cell(self, request: Request) -> Any:
        true, predicted = _integer(request, "true"), _integer(request, "predicted")
        return look.cell(self.session.view, true, predicted, *_extent(request))

    async def predict(self, request: Request) -> Any:
        body = await small_body(request)
        is_prepared = request.headers.get("x-prepared") == "1"
        return await run_in_threadpool(self._predict, body, is_prepared)

    def _predict(self, body: bytes, is_prepared: bool) -> Any:
        view = self.session.view
        shape = view.data.shape
        if shape is None:
            raise Refusal(409, "the samples of these data are no pictures", "no pictures")
        picture = pictures.decoded(body, shrink=not is_prepared)
        note = None
        if is_prepared:
            pixels = pictures.as_it_is(picture, shape)
        else:
            pixels, note = pictures.prepared(picture, view, shape)
        return why.explained(view, pictures.as_stored(pixels, view.data.train), pixels, None, note)

    # ---- what is done --------------------------------------------------------------------------

    async def run(self, request: Request) -> Any:
        given = await _json(request)
        await run_in_threadpool(self.session.start, given)
        return {"ok": True}

    async def control(self, request: Request) -> Any:
        given = await _json(request)
        await run_in_threadpool(self.session.control, given)
        return {"ok": True}

    async def data(self, request: Request) -> Any:
        named = request.headers.get("x-file-name")
        if named is None:
            given = await _json(request)
            name = given.get("set") if isinstance(given, dict) else None
            return await run_in_threadpool(self.session.choose, name)
        name = name_of_upload(unquote(named))
        share = float(finite(_number(request.headers.get("x-test-share"), TEST_SHARE),
                             "X-Test-Share", 0.01, 0.99))  # fmt: skip
        label_column = unquote(request.headers.get("x-label-column", "")) or None
        return await self._uploaded(
            request, suffix_of(name), MOST_DATA,
            lambda path: self.session.read(path, name, share, label_column),
        )  # fmt: skip

    async def model(self, request: Request) -> Any:
        return await self._uploaded(request, ".safetensors", MOST_MODEL, self.session.load)

    async def _uploaded(
        self, request: Request, suffix: str, most: int, read: Callable[[Path], Any]
    ) -> Any:
        """Keep a body as a file of our own naming while it is read."""
        try:
            self.session.refuse_while_running()
        except Refusal:
            await drain(request.receive)
            raise
        with tempfile.TemporaryDirectory(dir=self.session.folder.name) as folder:
            path = Path(folder) / f"upload{suffix}"
            with open(path, "wb") as file:
                await read_body(request, most, file.write)
            return await run_in_threadpool(read, path)


def _integer(request: Request, name: str, *default: int) -> int:
    text = request.query_params.get(name)
    if text is None and default:
        return default[0]
    if text is None or not text.removeprefix("-").isdecimal() or len(text) > 12:
        raise ValueError(f"{name} is {text!r}, expected an integer")
    value = int(text)
    if name in ("start", "count", "row") and value < 0:
        raise ValueError(f"{name} is {value}, expected 0 or more")
    return value


def _extent(request: Request) -> tuple[int, int]:
    return _integer(request, "start", 0), _integer(request, "count", 60)


def _number(text: str | None, default: float) -> Any:
    try:
        return default if text is None else float(text)
    except ValueError:
        return text


async def _json(request: Request) -> Any:
    body = await small_body(request)
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the request is no JSON: {error}") from None


async def _refused(request: Request, error: Exception) -> Response:
    """Return a refusal as the page shows it: a sentence, with its status."""
    if isinstance(error, Refusal):
        return Json(told(error), error.status)
    if isinstance(error, HTTPException):
        sentence = "there is no such page" if error.status_code == 404 else error.detail
        return Json({"error": sentence}, error.status_code, error.headers)
    if isinstance(error, ValueError):
        return Json(told(error), 422)
    if isinstance(error, MemoryError):
        return Json({"error": "there is not enough memory for this", "code": "memory"}, 413)
    return Json({"error": f"the program failed ({type(error).__name__}): the terminal says "
                          "where"}, 500)  # fmt: skip
