"""``POST /v1/completions``: decode, load, admit every prompt, and write what comes."""

from __future__ import annotations

import time

from starlette.requests import Request
from starlette.responses import Response

from foundry_lite.protocol.completions.request import CompletionBody, decode_completion
from foundry_lite.protocol.completions.writer import Completion, CompletionWriter
from foundry_lite.server.generation.exchange import Exchange, answer
from foundry_lite.server.generation.multi_prompt import admit_all
from foundry_lite.server.generation.pending import PendingGeneration
from foundry_lite.server.http.request_body import read_body
from foundry_lite.server.http.routing import Endpoint
from foundry_lite.server.state import Site


def endpoints(site: Site) -> list[Endpoint]:
    """Return the routes of this file."""
    handlers = _Handlers(site)
    return [
        Endpoint(
            "POST",
            "/v1/completions",
            handlers.complete,
            "Go on with a text, or score it",
            takes=CompletionBody,
            gives=Completion,
            streams=Completion,
        )
    ]


class _Handlers:
    def __init__(self, site: Site) -> None:
        self._site = site

    async def complete(self, request: Request) -> Response:
        """Answer one completion call; what is refused soon is refused before a stream begins."""
        began = time.monotonic()
        call = decode_completion(await read_body(request))
        artifact = self._site.artifact(call.model)
        served = self._site.serving.served(artifact, call.model)
        writer = CompletionWriter(served, call)
        source = PendingGeneration(admit_all(self._site.residency, artifact, call.requests, call.keep_alive))
        exchange = Exchange(writer, source, served, began)
        return await answer(request, exchange, streams=call.streams, pulse=self._site.settings.stream_keep_alive)
