"""What is bounded of a connection before a request has arrived: by real sockets, on the event loop of the test."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from typing import ParamSpec

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from foundry_lite.server import daemon
from foundry_lite.server.http.connection import Connection

P = ParamSpec("P")

GET = b"GET / HTTP/1.1\r\nhost: localhost\r\n"
POST = b"POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
PIECE = b"x" * (64 << 10)
SLOWLY = b"GET /slowly HTTP/1.1\r\nhost: localhost\r\n\r\n"


def on_a_loop(test: Callable[P, Coroutine[None, None, None]]) -> Callable[P, None]:
    @wraps(test)
    def run(*arguments: P.args, **named: P.kwargs) -> None:
        asyncio.run(test(*arguments, **named))

    return run


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer ``ok``; ``/slowly`` takes a fifth of a second; ``/stream`` does not know how much comes; ``/echo``."""
    assert scope["type"] == "http"
    if scope["path"] == "/echo":
        body, has_more = b"", True
        while has_more:
            message = await receive()
            body, has_more = body + message.get("body", b""), message.get("more_body", False)
        length = str(len(body)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": body})
        return
    if scope["path"] == "/stream":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        for piece in (b"one, ", b"", b"two"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return
    if scope["path"] == "/slowly":
        await asyncio.sleep(0.2)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


class Hasty(Connection):
    """Has little patience, and few beside it."""

    patience = 0.05
    most = 2


@asynccontextmanager
async def listening(kind: type[Connection]) -> AsyncIterator[int]:
    """Yield the port of a server with that protocol."""
    config, state = uvicorn.Config(app, lifespan="off", log_config=None), ServerState()
    server = await asyncio.get_running_loop().create_server(lambda: kind(config, state, {}), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        for connection in list(state.connections):
            connection.transport.abort()


async def exchange(port: int, *pieces: bytes) -> bytes:
    """Send some bytes, and return all that comes until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        answer = await asyncio.wait_for(reader.read(), 5)
    except ConnectionError:  # closed before all was read
        pass
    finally:
        writer.close()
    return answer


def status_and_code(answer: bytes) -> tuple[int, str | None]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]["code"]


@pytest.mark.parametrize(
    "beginning",
    [GET + b"x: ", b"GET /", b"GET /?", POST + b"0\r\nx: ", POST + b"2\r\n{}\r\n0\r\nx: "],
    ids=["header", "path", "query", "trailer", "trailer behind a body"],
)
@on_a_loop
async def test_a_head_without_end_is_cut_off(beginning: bytes) -> None:
    async def pour(port: int) -> int:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(beginning)
        for sent in range(200):
            writer.write(PIECE)
            try:
                await writer.drain()
                await asyncio.sleep(0)
            except ConnectionError:
                return sent
        return 200

    async with listening(Connection) as port:
        assert await pour(port) < 200  # 12.5 MiB


@on_a_loop
async def test_who_sends_too_large_a_head_is_told_so() -> None:
    async with listening(Connection) as port:
        answer = await exchange(port, GET + b"x: ", *[PIECE] * 5)
    assert status_and_code(answer) == (431, None)


@pytest.mark.parametrize(
    "rubbish", [b"\x16\x03\x01\x00\xf4", b"GET  / \r\n\r\n", b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n"]
)
@on_a_loop
async def test_what_is_no_http_gets_an_error_like_all_others(rubbish: bytes) -> None:
    async with listening(Connection) as port:
        assert status_and_code(await exchange(port, rubbish)) == (400, "invalid_http")


@on_a_loop
async def test_a_body_that_breaks_off_in_rubbish_gets_an_error_too() -> None:
    async with listening(Connection) as port:
        echo = POST.replace(b" / ", b" /echo ")
        assert status_and_code(await exchange(port, echo + b"2\r\n{}\r\nzz\r\n")) == (400, "invalid_http")
        behind = await exchange(port, SLOWLY, b"rubbish\r\n\r\n")  # the answer that is on its way is not this one's
        assert b"invalid_http" not in behind


UPGRADE = b"host: localhost\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAA\r\n"
LONG = b"z" * 100_000


@pytest.mark.parametrize(
    ("framing", "body", "read"),
    [
        (b"content-length: 5\r\n", b"hello", b"hello"),
        (b"content-length: 100000\r\n", LONG, LONG),
        (b"transfer-encoding: chunked\r\n", b"5\r\nhello\r\n1;a=b\r\n!\r\n0\r\n\r\n", b"hello!"),
        (b"content-length: 0\r\n", b"", b""),
        (b"", b"", b""),
    ],
    ids=["length", "long", "chunks", "empty", "none"],
)
@pytest.mark.parametrize("size", [7, 1 << 20])
@on_a_loop
async def test_a_request_that_would_rather_have_http_2_is_answered_with_http_1_1(
    framing: bytes, body: bytes, read: bytes, size: int
) -> None:
    asked = b"POST /echo HTTP/1.1\r\n" + UPGRADE + framing + b"\r\n" + body
    sent = asked + asked + b"GET /slowly HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    async with listening(Connection) as port:
        answer = await exchange(port, *(sent[at : at + size] for at in range(0, len(sent), size)))
    assert answer.count(b"HTTP/1.1 200") == 3
    assert answer.count(b"\r\n\r\n" + read) >= 2
    assert answer.endswith(b"\r\n\r\nok")


@pytest.mark.parametrize("sent", [b"", b"\r\n", GET], ids=["nothing", "an empty line", "half a head"])
@on_a_loop
async def test_a_head_that_does_not_come_is_not_waited_for(sent: bytes) -> None:
    async with listening(Hasty) as port:
        assert await exchange(port, sent) == b""


@on_a_loop
async def test_half_a_head_behind_an_answer_is_not_waited_for_either() -> None:
    async with listening(Hasty) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET + b"\r\n")
        await reader.readuntil(b"\r\n\r\nok")
        writer.write(GET)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


@on_a_loop
async def test_a_stream_has_chunks_for_http_1_1_alone() -> None:
    async with listening(Connection) as port:
        head, _, body = (await exchange(port, b"GET /stream HTTP/1.0\r\nhost: localhost\r\n\r\n")).partition(
            b"\r\n\r\n"
        )
        assert body == b"one, two"
        assert b"transfer-encoding" not in head.lower()
        assert b"connection: close" in head.lower()
        kept = b"GET / HTTP/1.0\r\nhost: localhost\r\nconnection: keep-alive\r\n\r\n"
        assert (await exchange(port, kept)).endswith(b"\r\n\r\nok")
        chunked = await exchange(port, b"GET /stream HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        assert chunked.endswith(b"\r\n\r\n5\r\none, \r\n3\r\ntwo\r\n0\r\n\r\n")


@on_a_loop
async def test_an_answer_takes_as_long_as_it_takes_whatever_does_not_follow_it() -> None:
    async with listening(Hasty) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(SLOWLY)
        await asyncio.sleep(0.02)
        writer.write(GET)
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\nok"), 5)).startswith(b"HTTP/1.1 200")
        writer.close()


@on_a_loop
async def test_more_connections_than_allowed_are_refused_with_a_time_to_come_back() -> None:
    async with listening(Hasty) as port:
        others = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        answer = await exchange(port)
        for _, writer in others:
            writer.close()
    assert b"\r\nretry-after: 1\r\n" in answer
    assert status_and_code(answer) == (503, "too_many_connections")


@on_a_loop
async def test_requests_that_run_when_the_daemon_stops_are_ended_before_they_are_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(daemon, "_GRACE_SECONDS", 0.05)
    told, began, ready = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def until_told(scope: Scope, receive: Receive, send: Send) -> None:
        began.set()
        await told.wait()
        await app(scope, receive, send)

    async def end_requests() -> None:
        told.set()

    listener = daemon._bind("127.0.0.1", 0)
    config = uvicorn.Config(until_told, lifespan="off", log_config=None, http=Connection, timeout_graceful_shutdown=3)
    server = daemon._Server(config, ready.set, end_requests)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    await ready.wait()
    asking = asyncio.create_task(exchange(listener.getsockname()[1], GET + b"\r\n"))
    await began.wait()
    server.should_exit = True
    assert (await asking).endswith(b"ok")
    await serving
