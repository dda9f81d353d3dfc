"""``GET /openapi.json``: what all routes take and give, written once and sent as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from foundry_lite import __version__
from foundry_lite.protocol.openapi import write_document
from foundry_lite.server.http.routing import Endpoint


def with_document(endpoints: Sequence[Endpoint]) -> list[Endpoint]:
    """Return the endpoints, and the one that describes them all."""

    async def answer(_request: Request) -> Response:
        return Response(document, media_type="application/json")

    own = Endpoint("GET", "/openapi.json", answer, "This document", gives=dict[str, Any])
    everything = [*endpoints, own]
    document = msgspec.json.encode(write_document(everything, __version__))
    return everything
