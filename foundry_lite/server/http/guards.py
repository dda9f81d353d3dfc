"""ASGI middleware that checks Host, Origin, headers and body type of every request; it adds no cost to a stream.

Loopback is not a trust boundary: any page in a browser can send requests to it. So the Host must be one of ours (DNS
rebinding), a foreign Origin is refused (cross-site requests), and a body must call itself JSON (the "simple" requests
that browsers send without asking). Nothing compressed is unpacked: a few bytes could become any number.

Every answer has an ``x-request-id``, the client's own if it sent one: OpenAI's clients show it with errors.

A page of an origin that is ours may use the daemon: CORS headers allow it, before the request (a preflight) and with
every answer (the CORS protocol of https://fetch.spec.whatwg.org). Credentials are never part of it: there are none.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from foundry_lite.protocol.errors import ErrorReply
from foundry_lite.server.http.responses import error_answer

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_HEADERS = 100  # browsers send some twenty
_HEADER_BYTES = 32 << 10
# A duplicate could be read differently by a proxy and by us.
_ONCE = ("host", "origin", "content-type", "content-encoding", "transfer-encoding")
_MAY_SEND = {"access-control-allow-methods": "GET, POST, DELETE", "access-control-max-age": "600"}  # seconds
_MAY_READ = (
    (b"access-control-expose-headers", b"retry-after, server-timing, x-request-id, x-foundry-lite-model"),
    (b"vary", b"origin"),
)


class Guards:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, allowed_hosts: tuple[str, ...]) -> None:
        self._app = app
        self._allowed = {"localhost", *(host.lower() for host in allowed_hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or answer a preflight, or hand it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        send = _with_headers(send, ((b"x-request-id", _request_id(headers).encode()),))
        origin = headers.get("origin")
        if origin is not None and self._is_ours(_authority(origin)):
            send = _with_headers(send, ((b"access-control-allow-origin", origin.encode("latin-1")), *_MAY_READ))
        refusal = self._refusal(headers)
        if refusal is not None:
            await error_answer(refusal)(scope, receive, send)
        elif scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            await _permission(headers)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, headers: Headers) -> ErrorReply | None:
        if len(headers.raw) > _HEADERS or sum(len(name) + len(value) for name, value in headers.raw) > _HEADER_BYTES:
            return _refuse(431, f"the headers are more than {_HEADERS}, or larger than {_HEADER_BYTES >> 10} KiB")
        if twice := next((name for name in _ONCE if len(headers.getlist(name)) > 1), None):
            return _refuse(400, f"the header {twice!r} comes more than once")
        host = headers.get("host", "")
        if not self._is_ours(host):
            return _refuse(403, f"this daemon does not answer for the host {host!r}", "Set FOUNDRY_LITE_ALLOWED_HOSTS.")
        origin = headers.get("origin")
        if origin is not None and not self._is_ours(_authority(origin)):
            return _refuse(403, f"requests from the origin {origin!r} are refused", "Set FOUNDRY_LITE_ALLOWED_HOSTS.")
        return _refuse_body(headers) if _has_body(headers) else None

    def _is_ours(self, authority: str) -> bool:
        try:
            name = urlsplit(f"//{authority}").hostname or ""
        except ValueError:  # such as "["
            return False
        return name in self._allowed or _is_loopback(name)


def _with_headers(send: Send, added: tuple[tuple[bytes, bytes], ...]) -> Send:
    """Return a ``send`` whose answers have these headers too: errors and streams as well."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *added]}
        await send(message)

    return sending


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else f"req_{secrets.token_hex(16)}"


def _permission(headers: Headers) -> Response:
    """Answer a preflight: any header may come, since OpenAI's client sends a dozen of its own."""
    asked = headers.get("access-control-request-headers")
    return Response(
        status_code=204, headers=_MAY_SEND if asked is None else _MAY_SEND | {"access-control-allow-headers": asked}
    )


def _authority(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _has_body(headers: Headers) -> bool:
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


def _refuse_body(headers: Headers) -> ErrorReply | None:
    if headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        return _refuse(415, "the body must be JSON", "Send the header 'content-type: application/json'.")
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        return _refuse(415, "the body is compressed", "Send it as it is, without 'content-encoding'.")
    if headers.get("transfer-encoding", "chunked").strip().lower() != "chunked":
        return _refuse(415, "the body is compressed", "The only 'transfer-encoding' that is read is 'chunked'.")
    return None


def _refuse(status: int, message: str, hint: str = "") -> ErrorReply:
    return ErrorReply(status, f"{message}. {hint}" if hint else message, "invalid_request_error")
