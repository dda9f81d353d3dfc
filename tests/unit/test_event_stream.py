"""Streams: comments into the silence and nowhere else, and an end of what nobody reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest

from foundry_lite.errors import EngineBusy, FoundryError, InvalidRequest
from foundry_lite.generation import Delta, Finish, Timings, Usage
from foundry_lite.protocol.chat.writer import AnswerWriter
from foundry_lite.protocol.sse import COMMENT, DONE
from foundry_lite.server.generation.exchange import Exchange
from foundry_lite.server.generation.pending import PendingGeneration
from foundry_lite.server.http.responses import EventStream
from tests.support import served

LAST = Delta("a", (), 2, Finish.STOP, Usage(7, 2), Timings(0.001, 0.002, 0.003))


class Client:
    """The other end of an ASGI connection: what it was sent, and when it leaves."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.headers: dict[bytes, bytes] = {}
        self.left = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.headers = dict(message["headers"])
        else:
            self.sent.append(message["body"])


class Source:
    """What makes deltas, as told: a number is a pause in seconds."""

    prompt_tokens = 7
    preparation: ClassVar[dict[str, float]] = {"load": 0.25}

    def __init__(self, *steps: Delta | float | FoundryError) -> None:
        self._steps = steps
        self.is_closed = False

    async def batches(self) -> AsyncIterator[list[Delta]]:
        for step in self._steps:
            if isinstance(step, float):
                await asyncio.sleep(step)
            elif isinstance(step, FoundryError):
                raise step
            else:
                yield [step]

    def close(self) -> None:
        self.is_closed = True


async def admitted_after(seconds: float, source: Source, refusal: FoundryError | None = None) -> Source:
    await asyncio.sleep(seconds)
    if refusal is not None:
        raise refusal
    return source


async def read(stream: EventStream) -> Client:
    client = Client()
    await stream({"type": "http"}, client.receive, client.send)
    return client


def stream_of(source: Any, pulse: float) -> EventStream:
    exchange = Exchange(AnswerWriter(served("m")), source, served("m"), 0.0)
    return EventStream(exchange.events(), exchange.end, exchange.headers(), pulse)


def test_silence_is_filled_with_comments_and_ends_with_the_stream() -> None:
    async def run() -> list[bytes]:
        client = await read(stream_of(Source(0.35, Delta("a"), LAST), pulse=0.1))
        await asyncio.sleep(0.25)
        return client.sent

    sent = asyncio.run(run())
    assert sent[1:3] == [COMMENT, COMMENT]
    assert 2 <= sent.count(COMMENT) <= 3
    assert sent[-2:] == [DONE, b""]
    assert COMMENT not in sent[-4:]


@pytest.mark.parametrize("pulse", [0.0, 0.5])
def test_a_stream_without_silence_or_without_a_pulse_has_no_comments(pulse: float) -> None:
    sent = asyncio.run(read(stream_of(Source(0.05, Delta("a"), 0.05, LAST), pulse))).sent
    assert COMMENT not in sent


def test_a_request_that_is_not_admitted_yet_begins_with_a_comment() -> None:
    async def run() -> list[bytes]:
        source = PendingGeneration(admitted_after(0.25, Source(Delta("a"), LAST)))
        return (await read(stream_of(source, pulse=0.1))).sent

    sent = asyncio.run(run())
    assert sent[0] == COMMENT
    assert sent.count(COMMENT) == 3
    assert sent[-2:] == [DONE, b""]


def test_a_refusal_that_comes_late_is_an_event_and_no_end_of_an_answer() -> None:
    async def run() -> list[bytes]:
        refusal = EngineBusy("no room")
        source = PendingGeneration(admitted_after(0.05, Source(LAST), refusal))
        return (await read(stream_of(source, pulse=0.02))).sent

    sent = [one for one in asyncio.run(run()) if one != COMMENT]
    assert len(sent) == 2
    assert sent[0].startswith(b'data: {"error":{"message":"no room"')
    assert sent[1] == b""


def test_an_error_in_mid_stream_is_the_last_event() -> None:
    sent = asyncio.run(read(stream_of(Source(Delta("a"), EngineBusy("gone")), 0.0))).sent
    assert b'"content":"a"' in sent[1]
    assert sent[2].startswith(b'data: {"error":')
    assert sent[3:] == [b""]


def test_a_refusal_that_comes_soon_is_raised_before_a_stream_begins() -> None:
    async def run() -> None:
        exchange = Exchange(
            AnswerWriter(served("m")),
            PendingGeneration(admitted_after(0, Source(), InvalidRequest("no"))),
            served("m"),
            0.0,
        )
        await exchange.begin(5.0)

    with pytest.raises(InvalidRequest):
        asyncio.run(run())


@pytest.mark.parametrize("seconds", [0.0, 30.0])
def test_a_client_that_leaves_ends_what_was_made_for_it(seconds: float) -> None:
    """Whether it has been admitted or not."""

    async def run() -> tuple[bool, bool]:
        source = Source(30.0)
        admission = PendingGeneration(admitted_after(seconds, source))
        client = Client()
        serving = asyncio.create_task(stream_of(admission, 0.02)({"type": "http"}, client.receive, client.send))
        await asyncio.sleep(0.1)
        assert COMMENT in client.sent
        client.left.set()
        await asyncio.wait_for(serving, 1)
        await asyncio.sleep(0)
        return source.is_closed, admission.is_over

    assert asyncio.run(run()) == (seconds == 0.0, True)


def test_a_whole_answer_and_a_stream_say_where_the_time_went() -> None:
    async def run() -> tuple[Any, dict[str, str], dict[bytes, bytes]]:
        exchange = Exchange(AnswerWriter(served("m")), Source(LAST), served("m"), 0.0)
        body = await exchange.whole()
        return body, exchange.headers(), (await read(stream_of(Source(LAST), 0.0))).headers

    body, whole, streamed = asyncio.run(run())
    assert (body.timings.load_ms, body.timings.queue_ms, body.timings.predicted_ms) == (250.0, 1.0, 3.0)
    assert body.timings.total_ms > 0
    parts = dict(part.split(";dur=") for part in whole["server-timing"].split(", "))
    assert list(parts) == ["load", "queue", "prefill", "decode", "total"]
    assert (float(parts["load"]), float(parts["prefill"])) == (250.0, 2.0)
    assert streamed[b"server-timing"] == b"load;dur=250.000"
