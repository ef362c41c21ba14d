"""Streams of events: each page gets all of them, in order, whenever it comes and comes back."""

from __future__ import annotations

import asyncio
import json
import time
import tracemalloc
from contextlib import ExitStack

import pytest
from app_cases import Client, Stream, served

from csoftmax.app.log import Log, as_json


def is_done(event: object) -> bool:
    return getattr(event, "name", "") == "status" and event.data["status"] == "done"  # type: ignore[attr-defined]


def numbered(stream: Stream) -> list[tuple[int, str, str]]:
    return [(event.number, event.name, json.dumps(event.data))
            for event in stream.events if event.number is not None]  # fmt: skip


def test_two_pages_see_the_same_run() -> None:
    with served() as (_, client), client.listen() as one, client.listen() as other:
        client.post("/run", {"epochs": 2, "pace": 0.001})
        for stream in (one, other):
            stream.until(is_done)
        events = numbered(one)
        assert events == numbered(other)
        assert [number for number, _, _ in events] == list(range(1, len(events) + 1))
        names = [name for _, name, _ in events]
        assert names == [
            "run",
            *["slice"] * 10,
            "epoch",
            *["slice"] * 10,
            "epoch",
            "model",
            "status",
        ]
        state = client.get("/state")
        assert state["event"] == len(events)
        slices = [[*event.data.values()] for event in one.named("slice")]
        assert slices == state["run"]["slices"]
        assert [[*event.data.values()] for event in one.named("epoch")] == state["run"]["epochs"]


def test_who_comes_back_gets_what_it_has_missed() -> None:
    with served() as (_, client):
        with client.listen() as whole:
            with client.listen() as first:
                client.post("/run", {"epochs": 5, "pace": 0.005})
                seen = first.until(lambda event: event.name == "slice" and event.data["x"] > 0.3)
            n = max(number for number, _, _ in numbered(first))
            assert n >= (seen.number or 0)
            with client.listen(after=n) as second:
                second.until(is_done)
            whole.until(is_done)
            assert numbered(first) + numbered(second) == numbered(whole)
        with client.listen() as late:  # who comes new gets the run from its start
            late.until(is_done)
            assert numbered(late) == numbered(whole)


def test_the_page_that_asked_for_the_state_goes_on_from_there() -> None:
    with served() as (_, client):
        client.post("/run", {"epochs": 500, "pace": 0.01})
        state = client.get("/state")
        with client.listen(after=state["event"]) as stream:
            stream.until(lambda event: event.name == "slice")
            client.post("/control", {"do": "stop"})
            stream.until(lambda event: event.data.get("status") == "stopped")
        after = [[*event.data.values()] for event in stream.named("slice")]
        assert state["run"]["slices"] + after == client.get("/state")["run"]["slices"]


def test_a_number_of_another_run_is_answered_by_asking_for_the_state() -> None:
    with served() as (_, client):
        client.train(epochs=1)
        client.train(epochs=1, pace=0)
        for number in (3, 10**9):
            with client.listen(after=number) as stream:
                assert stream.until(lambda event: event.number is not None).name == "state"
                assert stream.events[0].number == client.get("/state")["event"]


def test_weights_come_at_most_thirty_times_a_second() -> None:
    with served() as (_, client), client.listen() as stream:
        began = time.perf_counter()
        client.train(epochs=100, pace=0)
        stream.until(is_done)
        n = len(stream.named("weights"))
        assert 2 <= n <= 3 + 30 * (time.perf_counter() - began)
        assert len(stream.named("slice")) == 1000


def test_streams_say_goodbye() -> None:
    with served() as (page, client), client.listen() as one, client.listen() as other:
        client.post("/run", {"epochs": 1000, "pace": 0.1})
        one.until(lambda event: event.name == "slice")
        began = time.perf_counter()
        page.stop()
        for stream in (one, other):
            stream.wait_closed()
            assert stream.events[-1].name == "bye"
        assert time.perf_counter() - began < 30
        assert page.session.job is not None
        assert not page.session.job.is_alive()


def crowd(n: int, seconds: float) -> None:
    """So many streams during a run of so many seconds: nothing is lost, and memory stays."""
    settings = {"pace": 0.05, "slices": 10, "epochs": max(1, round(2 * seconds))}
    with served() as (_, client), ExitStack() as stack:
        client.train(epochs=1)
        streams = [stack.enter_context(client.listen()) for _ in range(n)]
        for stream in streams:
            stream.until(is_done)
            stream.events.clear()
        tracemalloc.start()
        client.post("/run", settings)
        memory = []
        for epoch in range(settings["epochs"]):  # type: ignore[call-overload]
            streams[0].until(lambda e, k=epoch: e.name == "epoch" and e.data["epoch"] > k)
            memory.append(tracemalloc.get_traced_memory()[0])
        for stream in streams:
            stream.until(is_done)
        tracemalloc.stop()
        events = numbered(streams[0])
        assert len(streams[0].named("slice")) == 10 * settings["epochs"]
        for stream in streams:
            assert numbered(stream) == events
        kept = sum(len(str(event)) for stream in streams for event in stream.events)
        assert memory[-1] - memory[0] < 2 * kept + 10_000_000  # what the readers here keep


def test_a_crowd_loses_nothing() -> None:
    crowd(12, 1)


@pytest.mark.slow
def test_fifty_for_ten_seconds_lose_nothing() -> None:
    crowd(50, 10)


def test_a_log_that_nobody_reads_does_not_need_a_loop() -> None:
    log = Log()
    assert log.since(None) == ("", 0)
    log.add("run", None)
    log.add("slice", {"x": 0.1})
    text, last = log.since(1)
    assert (text, last) == ('id: 2\nevent: slice\ndata: {"x":0.1}\n\n', 2)
    assert log.since(2) == ("", 2)
    log.add("run", {})
    assert log.since(2)[0] == "id: 3\nevent: run\ndata: {}\n\n"
    assert "event: state" in log.since(1)[0]
    assert "event: state" in log.since(4)[0]


def test_waiting_ends_with_an_event_or_with_the_time() -> None:
    log = Log()

    async def wait() -> list[bool]:
        log.attach(asyncio.get_running_loop())
        early = await log.wait(0.001)
        waiting = asyncio.create_task(log.wait(30))
        await asyncio.sleep(0)
        log.add("slice", {})
        return [early, await waiting]

    assert asyncio.run(wait()) == [False, True]
    log.add("slice", {})  # the loop has ended: nobody is there to be told


def test_numbers_that_json_does_not_have_are_null() -> None:
    nan, inf = float("nan"), float("inf")
    assert as_json({"a": [nan, 1.5], "b": (inf, "x")}) == '{"a":[null,1.5],"b":[null,"x"]}'


def test_signs_of_life_come_where_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("csoftmax.app.server._STILL_HERE", 0.01)
    with served() as (page, _):
        stream = page.app._stream(None)

        async def three() -> list[str]:
            page.session.log.attach(asyncio.get_running_loop())
            return [await anext(stream) for _ in range(3)]

        texts = asyncio.run(three())
    assert texts[0] == "retry: 1000\n\n"
    assert texts[1].startswith("event: weights")
    assert texts[2] == ": still here\n\n"


def test_a_page_that_went_away_is_forgotten() -> None:
    with served() as (page, client):
        with client.listen() as stream:
            stream.until(lambda event: event.name == "weights")
        _run_until_forgotten(client, page.session.log)


def _run_until_forgotten(client: Client, log: Log) -> None:
    for _ in range(600):
        client.train(epochs=1)  # to write to it is how the server learns of it
        if not log._waiting:
            return
        time.sleep(0.05)
    raise AssertionError("the stream is still waited for")
