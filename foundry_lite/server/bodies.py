"""Reading a request's body, up to the limit."""

from __future__ import annotations

from starlette.requests import Request

from foundry_lite.errors import FoundryError
from foundry_lite.server.guards import LARGEST_BODY


class BodyTooLarge(FoundryError):
    """A body without a declared length went beyond the limit."""


async def read_body(request: Request) -> bytes:
    """Return the whole body. Raises `BodyTooLarge`."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > LARGEST_BODY:
            raise BodyTooLarge("the body is too large")
        chunks.append(chunk)
    return b"".join(chunks)
