"""What every request passes before a handler sees it: pure ASGI, so that a stream costs nothing more.

Loopback is not a trust boundary: any page in a browser can send requests to it. So the Host must be one of ours (DNS
rebinding), a foreign Origin is refused (cross-site requests), and a body must call itself JSON (the "simple" requests
that browsers send without asking).
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from foundry_lite.protocol.errors import ErrorReply
from foundry_lite.server.answers import error_answer


class Guards:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, allowed_hosts: tuple[str, ...]) -> None:
        self._app = app
        self._allowed = {"localhost", *(host.lower() for host in allowed_hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or hand it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope["method"], Headers(scope=scope))
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await error_answer(refusal)(scope, receive, send)

    def _refusal(self, method: str, headers: Headers) -> ErrorReply | None:
        host = headers.get("host", "")
        if not self._is_ours(host):
            return _refuse(403, f"this daemon does not answer for the host {host!r}", "Set FOUNDRY_LITE_ALLOWED_HOSTS.")
        origin = headers.get("origin")
        if origin is not None and not self._is_ours(urlsplit(origin).netloc):
            return _refuse(403, f"requests from the origin {origin!r} are refused", "Set FOUNDRY_LITE_ALLOWED_HOSTS.")
        if method != "POST":
            return None
        if headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            return _refuse(415, "the body must be JSON", "Send the header 'content-type: application/json'.")
        return None

    def _is_ours(self, netloc: str) -> bool:
        name = urlsplit(f"//{netloc}").hostname or ""
        return name in self._allowed or _is_loopback(name)


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _refuse(status: int, message: str, hint: str) -> ErrorReply:
    return ErrorReply(status, f"{message}. {hint}", "invalid_request_error")
