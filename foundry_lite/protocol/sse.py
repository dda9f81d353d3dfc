"""Server-sent events: the bytes of a stream, and nothing about what is in them."""

from __future__ import annotations

from typing import Any

import msgspec

DONE = b"data: [DONE]\n\n"

_encode = msgspec.json.Encoder().encode


def event(value: Any) -> bytes:
    """Return one event whose data is ``value`` as JSON."""
    return b"data: " + _encode(value) + b"\n\n"
