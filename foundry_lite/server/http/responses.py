"""Responses: JSON, OpenAI's errors, and event streams that notice when the client leaves."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from foundry_lite.protocol import sse
from foundry_lite.protocol.errors import ErrorReply

T = TypeVar("T")


class ClientGone(Exception):
    """The client closed the connection; nobody reads an answer."""


def json_answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with JSON."""
    return Response(_encode(value), status, headers=headers, media_type="application/json")


def _encode(value: Any) -> bytes:
    """Return JSON; bytes of a path that are not UTF-8 are replaced by question marks."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(value), ensure_ascii=False).encode(errors="replace")


def error_answer(reply: ErrorReply) -> Response:
    """Answer with OpenAI's error object."""
    headers = {"retry-after": str(reply.retry_after)} if reply.retry_after is not None else None
    return json_answer(reply.body, reply.status, headers)


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """Await ``work``; when the client leaves, cancel it and raise `ClientGone`. The body must have been read."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnect(request.receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        await _cancel(working, leaving)


class EventStream(Response):
    """Server-sent events; ``on_end`` is called once, whether the stream was read to its end or the client left.

    Whenever nothing was sent for ``pulse`` seconds (0: never), a comment is, so that nobody takes silence for the end.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncIterator[bytes],
        on_end: Callable[[], None],
        headers: Mapping[str, str] | None = None,
        pulse: float = 0.0,
    ) -> None:
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no", **(headers or {})})
        del self.headers["content-length"]
        self._events = events
        self._on_end = on_end
        self._pulse = pulse
        self._sent = 0.0  # when the last of it was sent
        self._sending = asyncio.Lock()  # the events and the comments wait for the same client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        writing = asyncio.ensure_future(self._write(send))
        leaving = asyncio.ensure_future(_disconnect(receive))
        try:
            await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if writing.done():
                writing.result()
        finally:
            self._on_end()
            await _cancel(writing, leaving)

    async def _write(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        beating = asyncio.ensure_future(self._beat(send))
        try:
            async for chunk in self._events:
                await self._send(send, chunk)
        finally:
            await _cancel(beating)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send, chunk: bytes) -> None:
        async with self._sending:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        self._sent = time.monotonic()

    async def _beat(self, send: Send) -> None:
        """Send comments into the silence; cheaper than a time limit on each event."""
        self._sent = time.monotonic()
        while self._pulse > 0:
            silence = time.monotonic() - self._sent
            if silence < self._pulse:
                await asyncio.sleep(self._pulse - silence)
            else:
                await self._send(send, sse.COMMENT)


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cancel(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
