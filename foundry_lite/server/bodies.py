"""Reading a request's body, up to the limit."""

from __future__ import annotations

from starlette.requests import Request

from foundry_lite.errors import RequestTooLarge

LARGEST_BODY = 16 << 20  # bytes
_PATIENCE = 8  # times the limit: what is read and thrown away, so that the client gets to read the refusal


async def read_body(request: Request) -> bytes:
    """Return the whole body. Raises `RequestTooLarge`."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > LARGEST_BODY * _PATIENCE:
            break
        if size <= LARGEST_BODY:
            chunks.append(chunk)
    if size > LARGEST_BODY:
        raise RequestTooLarge(f"the body is larger than {LARGEST_BODY >> 20} MiB", hint="Send a shorter conversation.")
    return b"".join(chunks)
