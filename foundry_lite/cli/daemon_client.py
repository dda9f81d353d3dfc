"""Talking to a running daemon, for the commands that ask it something."""

from __future__ import annotations

import http.client
import json
from typing import Any

from foundry_lite.errors import DaemonUnreachable
from foundry_lite.settings import Settings

_TIMEOUT = 10.0  # seconds


def ask_daemon(
    settings: Settings, path: str, method: str = "GET", token: str = "", *, timeout: float = _TIMEOUT
) -> Any:
    """Return the JSON that the daemon answers, to the administrator with a ``token``, after ``timeout`` s at most.

    Raises `DaemonUnreachable`, with the daemon's own words when it refused.
    """
    address = f"{settings.host}:{settings.port}"
    connection = http.client.HTTPConnection(settings.host, settings.port, timeout=timeout)
    try:
        connection.request(method, path, headers={"Authorization": f"Bearer {token}"} if token else {})
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            told = f"what listens on {address} answered {response.status} to {path}"
            raise DaemonUnreachable(f"{told}{_reason(body)}")
        return json.loads(body)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DaemonUnreachable(
            f"no daemon answers on {address}", hint="Start one with 'foundry-lite serve', or name its --port."
        ) from error
    finally:
        connection.close()


def _reason(body: bytes) -> str:
    """Return the message of an error of ours, behind a colon, or nothing."""
    try:
        return f": {json.loads(body)['error']['message']}"
    except (ValueError, TypeError, KeyError):
        return ""
