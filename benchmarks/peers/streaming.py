"""The smallest client that reads server-sent events: it shares the cores with the server that it measures.

A request is one connection. It is opened before the clock starts; while the answer runs, each event is only stamped
and put away, and all are decoded when the last stream has ended.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from benchmarks.peers.processes import PeerFailed

Event = tuple[float, dict[str, Any]]


async def stream_all(url: str, path: str, bodies: Sequence[dict[str, Any]]) -> list[list[Event]]:
    """Post all bodies at once; return each answer's events with their seconds since the first was sent.

    Raises `PeerFailed` for an answer that is no stream of events.
    """
    address = urlsplit(url)
    connections = [await asyncio.open_connection(address.hostname, address.port) for _ in bodies]
    texts = [_request(address.netloc, path, body) for body in bodies]
    began = time.monotonic()
    try:
        stamped = await asyncio.gather(
            *(_stream(*connection, text, began) for connection, text in zip(connections, texts, strict=True))
        )
    finally:
        for _, writer in connections:
            writer.close()
    return [_decode(one) for one in stamped]


def _request(host: str, path: str, body: dict[str, Any]) -> bytes:
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n"
    )
    return f"{head}Connection: close\r\n\r\n".encode() + content


async def _stream(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes, began: float
) -> list[tuple[float, bytes]]:
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n", 1)[0]:
        raise PeerFailed(f"{head.splitlines()[0].decode()}: {(await reader.read()).decode(errors='replace')[:500]}")
    stamped = []
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        chunk = await reader.readexactly(size + 2)
        stamped.append((time.monotonic() - began, chunk[:-2]))
    return stamped


def _decode(stamped: list[tuple[float, bytes]]) -> list[Event]:
    """Put together what chunks cut apart; an event has arrived when its end has."""
    events, rest = [], b""
    for seconds, chunk in stamped:
        *whole, rest = (rest + chunk.replace(b"\r\n", b"\n")).split(b"\n\n")
        events += [(seconds, data) for block in whole if (data := _data(block)) is not None]
    return events


def _data(block: bytes) -> dict[str, Any] | None:
    """Return the JSON of a block, or ``None`` for a comment and for the closing mark."""
    text = b"".join(line[5:].strip() for line in block.split(b"\n") if line.startswith(b"data:"))
    if not text or text == b"[DONE]":
        return None
    decoded = json.loads(text)
    if not isinstance(decoded, dict) or "error" in decoded:
        raise PeerFailed(f"an error in the stream: {text[:500].decode(errors='replace')}")
    return decoded
