"""Server-sent events: the bytes of a stream, and nothing about what is in them."""

from __future__ import annotations

from typing import Any

import msgspec

DONE = b"data: [DONE]\n\n"
COMMENT = b": keep-alive\n\n"  # no client shows it; it keeps proxies and time limits from closing the connection

_encode = msgspec.json.Encoder().encode

# To the standard they are characters like others; many clients take them for line ends (Python's splitlines, httpx).
_SEPARATORS = ((b"\xc2\x85", rb"\u0085"), (b"\xe2\x80\xa8", rb"\u2028"), (b"\xe2\x80\xa9", rb"\u2029"))


def event(value: Any, name: str = "") -> bytes:
    """Return one event whose data is ``value`` as JSON; ``name`` is one word of ours, such as ``response.created``."""
    line = b"event: " + name.encode() + b"\n" if name else b""
    data = _encode(value)
    if not data.isascii():
        for raw, escaped in _SEPARATORS:
            data = data.replace(raw, escaped)
    return line + b"data: " + data + b"\n\n"
