"""HTTP connections with limits: the size and time of a request's head, and the number of connections.

uvicorn's protocol keeps the head of a request, and the trailers behind its body, however long they are, and puts them
together piece by piece: 100 MB of one header held up every stream for seconds. It has no time limit for a head. And
when asyncio cannot accept a connection for want of descriptors, it does little else than log that.

Java's client asks for HTTP/2 with its first request (``Upgrade: h2c``), whose body uvicorn lost.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any

import msgspec
from httptools import HttpParserUpgrade, HttpRequestParser
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from foundry_lite.machine import descriptors
from foundry_lite.protocol.errors import ErrorReply

_LARGEST_HEAD = 256 << 10  # bytes in which neither a head nor a piece of a body ends; `guards` has narrower bounds
_UNREADABLE = ErrorReply(
    400,
    "this is no request of HTTP/1.1, or its URL is longer than 64 KiB",
    "invalid_request_error",
    code="invalid_http",
)
_TOO_LARGE = ErrorReply(431, f"the head is larger than {_LARGEST_HEAD >> 10} KiB", "invalid_request_error")
_TOO_MANY = ErrorReply(503, "too many connections are open", "server_error", code="too_many_connections", retry_after=1)
_PHRASES = {400: "Bad Request", 431: "Request Header Fields Too Large", 503: "Service Unavailable"}
_FRAMING = (b"content-length", b"transfer-encoding")
_RESERVED = 64  # descriptors for workers, files, the log, and who is being refused; three in four where there are few


def room() -> int:
    """Return how many connections the system's limit of descriptors leaves room for."""
    limit = descriptors()
    return limit - min(_RESERVED, 3 * limit // 4)


class Unframed:
    """Answers of unknown length to clients of HTTP/1.0, which know no chunks: the end of the connection is theirs."""

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._send = cycle.send
        self._has_length = True

    async def send(self, message: ASGISendEvent) -> None:
        if message["type"] == "http.response.start":
            self._has_length = any(name.lower() == b"content-length" for name, _ in message.get("headers", ()))
            if not self._has_length:
                self._cycle.chunked_encoding = False
        elif message["type"] == "http.response.body" and not self._has_length:
            self._cycle.expected_content_length = len(message.get("body", b""))
        await self._send(message)


class Parser:
    """httptools' parser, which stays with HTTP/1.1 when a request asks for another protocol (RFC 9110, section 7.8).

    httptools stops behind the head of such a request, however long a body it announces. Another parser, which has read
    the same announcement, goes on there.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._parser = _parser(connection)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)

    def feed_data(self, data: bytes) -> None:
        while data:
            try:
                self._parser.feed_data(data)
            except HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                self._go_on()
            else:
                return

    def _go_on(self) -> None:
        announced = self._connection.announced_body
        if announced:
            callbacks = _Callbacks(self._connection)
            self._parser = _parser(callbacks)
            self._parser.feed_data(b"POST / HTTP/1.1\r\n" + announced + b"\r\n")
            callbacks.are_told = True


class _Callbacks:
    """Parser callbacks that go to a connection, but are dropped until ``are_told`` is set."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.are_told = False

    def __getattr__(self, name: str) -> Callable[..., None]:
        callback = getattr(self._connection, name)

        def tell(*given: bytes) -> None:
            if self.are_told:
                callback(*given)

        return tell


def _parser(callbacks: object) -> HttpRequestParser:
    parser = HttpRequestParser(callbacks)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does, for what is pipelined
    return parser


class Connection(HttpToolsProtocol):
    """uvicorn's protocol, with heads that are bounded in bytes and in time, and itself in number."""

    patience = 60.0  # seconds for a head
    most = 1000  # connections at a time; fewer where the system allows fewer descriptors

    _collected = 0  # bytes since a head or a piece of a body ended
    _awaits_head = True
    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.parser = Parser(self)  # type: ignore[assignment]
        if len(self.connections) > min(self.most, room()):
            self._refuse(_TOO_MANY)
        else:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._awaits_head and self._waiting is None:
            self._wait()
        self._collected += len(data)
        super().data_received(data)
        if self._collected > _LARGEST_HEAD and not self.transport.is_closing():
            self._refuse(_TOO_LARGE)

    def send_400_response(self, msg: str) -> None:
        """Refuse bytes that are not HTTP, with our JSON error."""
        self._refuse(_UNREADABLE)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._collected, self._awaits_head = 0, False
        self._wait_no_more()
        if self.parser.get_http_version() == "1.0":
            self.cycle.send = Unframed(self.cycle).send  # type: ignore[method-assign] # its task has not begun

    def on_body(self, body: bytes) -> None:
        self._collected = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade() and self.announced_body:
            return  # it is the end of the head
        self._collected, self._awaits_head = 0, True
        super().on_message_complete()

    @property
    def announced_body(self) -> bytes:
        """The header lines that frame the request's body (its length or chunks); empty where there is no body."""
        said = ((name, value) for name, value in self.headers if name in _FRAMING and value.strip(b"0"))
        return b"".join(b"%s: %s\r\n" % one for one in said)

    def _should_upgrade(self) -> bool:
        return False  # nothing of ours is a websocket

    @property
    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # none before the first request
        return cycle is not None and not cycle.response_complete

    @property
    def _is_listening(self) -> bool:
        """Return whether a body is still being read, and the next answer belongs to its request."""
        return not self._awaits_head and not self.cycle.response_started and not self.pipeline

    def _refuse(self, reply: ErrorReply) -> None:
        """Answer and close; only close where an answer to an earlier request is on its way."""
        if not self._is_answering or self._is_listening:
            body = msgspec.json.encode(reply.body)
            head = (
                f"HTTP/1.1 {reply.status} {_PHRASES[reply.status]}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\nx-request-id: req_{secrets.token_hex(16)}\r\n"
            )
            head += "\r\n" if reply.retry_after is None else f"retry-after: {reply.retry_after}\r\n\r\n"
            self.transport.write(head.encode() + body)
        self.transport.close()

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(self.patience, self._give_up)

    def _wait_no_more(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _give_up(self) -> None:
        self._waiting = None
        if not self._is_answering:
            self.transport.close()
