"""The guards' side of CORS: pages of origins that are ours may ask, send and read; no others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from foundry_lite.server.http.guards import Guards

PAGE = "http://localhost:3000"
PREFLIGHT = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,x-stainless-os"}


async def _app(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _ask(method: str, **headers: str) -> tuple[int, dict[str, str]]:
    sent: list[Any] = []
    pairs = {"host": "127.0.0.1:5273", **headers}
    raw = [(name.replace("_", "-").lower().encode(), value.encode()) for name, value in pairs.items()]

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    guards = Guards(_app, ("app.example",))
    asyncio.run(guards({"type": "http", "method": method, "path": "/", "headers": raw}, receive, send))
    return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}


@pytest.mark.parametrize("origin", [PAGE, "http://127.0.0.1:8080", "http://[::1]", "https://app.example"])
def test_a_page_of_ours_may_send_and_read(origin: str) -> None:
    status, headers = _ask("OPTIONS", origin=origin, **PREFLIGHT)
    assert status == 204
    assert headers["access-control-allow-origin"] == origin
    assert headers["access-control-allow-headers"] == "authorization,x-stainless-os"
    assert "POST" in headers["access-control-allow-methods"].split(", ")
    status, headers = _ask("POST", origin=origin)
    assert (status, headers["content-type"]) == (200, "text/event-stream")
    assert (headers["access-control-allow-origin"], headers["vary"]) == (origin, "origin")
    assert headers["access-control-expose-headers"].split(", ") == [
        "retry-after",
        "server-timing",
        "x-request-id",
        "x-foundry-lite-model",
    ]


def test_a_page_of_ours_can_read_why_it_is_refused() -> None:
    status, headers = _ask("POST", origin=PAGE, **{"content-length": "2", "content-type": "text/plain"})
    assert (status, headers["access-control-allow-origin"]) == (415, PAGE)


@pytest.mark.parametrize("method", ["OPTIONS", "POST", "GET"])
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost.evil.example", "http://[", ""])
def test_a_page_of_others_may_do_nothing(origin: str, method: str) -> None:
    status, headers = _ask(method, origin=origin, **PREFLIGHT)
    assert status == 403
    assert not [name for name in headers if name.startswith("access-control")]


def test_who_is_no_page_is_told_nothing_of_pages() -> None:
    status, headers = _ask("POST")
    assert (status, set(headers)) == (200, {"content-type", "x-request-id"})
    assert _ask("OPTIONS", origin=PAGE)[0] == 200  # asks for no permission: the application answers it


def test_a_preflight_for_another_host_is_refused() -> None:
    assert _ask("OPTIONS", host="evil.example", origin=PAGE, **PREFLIGHT)[0] == 403


def test_every_answer_has_an_id_of_its_own_or_the_clients() -> None:
    first, second = _ask("GET")[1]["x-request-id"], _ask("GET", host="evil.example")[1]["x-request-id"]
    assert first.startswith("req_") and second.startswith("req_") and first != second
    assert _ask("GET", x_request_id="mine-1")[1]["x-request-id"] == "mine-1"
    assert _ask("GET", x_request_id="no such\tthing")[1]["x-request-id"].startswith("req_")


@pytest.mark.parametrize("name", ["host", "origin", "content-type", "content-encoding", "transfer-encoding"])
def test_a_header_that_decides_something_comes_once(name: str) -> None:
    both = {"host": "localhost", "origin": PAGE, "content-type": "application/json", "content-length": "2"}
    both |= {"content-encoding": "identity", "transfer-encoding": "chunked"}
    assert _ask("POST", **both)[0] == 200
    assert _ask("POST", **both, **{name.upper(): "evil"})[0] == 400


@pytest.mark.parametrize("coding", ["gzip, chunked", "deflate", "chunked;q=1"])
def test_a_body_in_another_transfer_coding_is_refused(coding: str) -> None:
    status, _ = _ask("POST", **{"content-type": "application/json", "transfer-encoding": coding})
    assert status == 415
