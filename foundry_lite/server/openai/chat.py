"""``POST /v1/chat/completions``: decode, load, admit, and write what comes."""

from __future__ import annotations

import time

from starlette.requests import Request
from starlette.responses import Response

from foundry_lite.protocol.chat.bodies import ChatChunk, ChatCompletion
from foundry_lite.protocol.chat.request import ChatBody, decode_chat
from foundry_lite.protocol.chat.writer import AnswerWriter
from foundry_lite.server.generation.exchange import Exchange, answer
from foundry_lite.server.generation.pending import PendingGeneration, admit
from foundry_lite.server.http.request_body import read_body
from foundry_lite.server.http.routing import Endpoint
from foundry_lite.server.openai.model_entries import require_provider
from foundry_lite.server.state import Site


def endpoints(site: Site) -> list[Endpoint]:
    """Return the routes of this file."""
    handlers = _Handlers(site)
    return [
        Endpoint(
            "POST",
            "/v1/chat/completions",
            handlers.chat,
            "Continue a conversation",
            takes=ChatBody,
            gives=ChatCompletion,
            streams=ChatChunk,
        )
    ]


class _Handlers:
    def __init__(self, site: Site) -> None:
        self._site = site

    async def chat(self, request: Request) -> Response:
        """Answer one chat completion; what is refused soon is refused before a stream begins."""
        began = time.monotonic()
        call = decode_chat(await read_body(request))
        artifact = self._site.artifact(call.model)
        require_provider(artifact, call.ep, self._site.store, self._site.settings)
        served = self._site.serving.served(artifact, call.model)
        writer = AnswerWriter(
            served,
            call.request.choices,
            has_logprobs=call.request.top_logprobs is not None,
            includes_usage=call.includes_usage,
            includes_timings=call.includes_timings,
            continuous_usage=call.continuous_usage,
        )
        source = PendingGeneration(admit(self._site.residency, artifact, call.request, call.keep_alive))
        exchange = Exchange(writer, source, served, began)
        pulse = self._site.settings.stream_keep_alive
        return await answer(request, exchange, streams=call.streams, pulse=pulse)
