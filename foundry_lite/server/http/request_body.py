"""Reading a request's body, up to the limits of size and patience."""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect, Request

from foundry_lite.errors import RequestStalled, RequestTooLarge
from foundry_lite.server.http.responses import ClientGone

# Several times a context of 128,000 tokens, even where each character is written as six (``\u00e9``). All streams wait
# while a body is decoded: `protocol.common.decode` has the figures.
LARGEST_BODY = 4 << 20  # bytes
_READ_AND_DROPPED = 32  # times the limit, so that the client gets to read the refusal
_PATIENCE = 60.0  # seconds for the whole body


async def read_body(request: Request, *, patience: float = _PATIENCE) -> bytes:
    """Return the whole body. Raises `RequestTooLarge`, or `RequestStalled` after ``patience`` seconds."""
    try:
        async with asyncio.timeout(patience):
            return await _read(request)
    except TimeoutError as error:
        raise RequestStalled(f"the body did not arrive within {patience:g} s") from error
    except ClientDisconnect as error:
        raise ClientGone from error


async def _read(request: Request) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > LARGEST_BODY * _READ_AND_DROPPED:
            break
        if size <= LARGEST_BODY:
            chunks.append(chunk)
    if size > LARGEST_BODY:
        raise RequestTooLarge(f"the body is larger than {LARGEST_BODY >> 20} MiB", hint="Send less in one request.")
    return b"".join(chunks)
