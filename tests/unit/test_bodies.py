"""Reading a body: in pieces, too large, too slow, broken off."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
from starlette.requests import Request
from starlette.types import Message

from foundry_lite.errors import RequestStalled, RequestTooLarge
from foundry_lite.server.http.request_body import LARGEST_BODY, read_body
from foundry_lite.server.http.responses import ClientGone


def read(pieces: Iterable[bytes], *, then: Message | None = None, patience: float = 5.0) -> tuple[bytes, int]:
    """Return the body that comes in ``pieces``, and how many pieces were asked for; ``then`` ends it."""
    coming: list[Message] = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    coming += [then] if then else []
    asked = 0

    async def receive() -> Message:
        nonlocal asked
        asked += 1
        return coming.pop(0) if coming else await asyncio.Future()

    request = Request({"type": "http", "method": "POST", "headers": []}, receive)
    return asyncio.run(read_body(request, patience=patience)), asked


END: Message = {"type": "http.request", "body": b"", "more_body": False}


def test_pieces_become_one_body() -> None:
    assert read([b"a", b"", b"bc"], then=END)[0] == b"abc"


def test_a_body_may_be_as_large_as_the_limit_and_no_larger() -> None:
    assert len(read([b"x" * LARGEST_BODY], then=END)[0]) == LARGEST_BODY
    with pytest.raises(RequestTooLarge, match="4 MiB"):
        read([b"x" * LARGEST_BODY, b"x"], then=END)


def test_a_body_without_end_is_not_read_for_ever() -> None:
    with pytest.raises(RequestTooLarge):
        read([b"x" * LARGEST_BODY] * 40)  # after which nothing more would come


def test_a_body_that_does_not_arrive_is_given_up() -> None:
    with pytest.raises(RequestStalled, match="within 0.05 s"):
        read([b"{"], patience=0.05)


def test_a_client_that_leaves_within_its_body_is_no_error_of_ours() -> None:
    with pytest.raises(ClientGone):
        read([b"{"], then={"type": "http.disconnect"})
