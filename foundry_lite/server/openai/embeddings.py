"""``POST /v1/embeddings`` and ``POST /v1/rerank``: what encoders make of texts."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from datetime import timedelta

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from foundry_lite.catalog.card import Task
from foundry_lite.embedding import Encoded, EncodeRequest
from foundry_lite.protocol.common.timings import header
from foundry_lite.protocol.embeddings import (
    EmbeddingBody,
    EmbeddingList,
    decode_embedding,
    write_embedding_list,
    write_embeddings,
)
from foundry_lite.protocol.rerank import RerankBody, Reranking, decode_rerank, write_reranking
from foundry_lite.residency.options import require_encoder
from foundry_lite.server.http.request_body import read_body
from foundry_lite.server.http.responses import json_answer, unless_gone
from foundry_lite.server.http.routing import Endpoint
from foundry_lite.server.state import Site
from foundry_lite.store.store import Artifact

log = logging.getLogger(__name__)

_AT_ONCE = 16_384  # numbers that are written before the event loop runs other tasks: a millisecond or two


def endpoints(site: Site) -> list[Endpoint]:
    """Return the routes of this file."""
    handlers = _Handlers(site)
    embed, rerank = "Make a vector of each text", "Order documents by how well they answer a query"
    return [
        Endpoint("POST", "/v1/embeddings", handlers.embed, embed, takes=EmbeddingBody, gives=EmbeddingList),
        Endpoint("POST", "/v1/rerank", handlers.rerank, rerank, takes=RerankBody, gives=Reranking),
        Endpoint("POST", "/v2/rerank", handlers.rerank, rerank, takes=RerankBody, gives=Reranking),
        Endpoint("POST", "/rerank", handlers.rerank, rerank, takes=RerankBody, gives=Reranking),
    ]


class _Handlers:
    def __init__(self, site: Site) -> None:
        self._site = site

    async def embed(self, request: Request) -> Response:
        """Answer with one vector for each text."""
        began = time.monotonic()
        call = decode_embedding(await read_body(request))
        artifact = self._artifact(call.model, Task.EMBED)
        encoded, headers = await self._encode(request, artifact, call.request, call.keep_alive, began)
        rows: list[msgspec.Raw] = []
        step = max(1, _AT_ONCE // encoded.width)
        for start in range(0, len(call.request), step):
            end = min(start + step, len(call.request))
            rows += write_embeddings(encoded, start, end, is_base64=call.is_base64)
            await asyncio.sleep(0)
        served = self._site.serving.served(artifact, call.model)
        return json_answer(write_embedding_list(served, rows, encoded), headers={**headers, **served.headers})

    async def rerank(self, request: Request) -> Response:
        """Answer with the documents' scores."""
        began = time.monotonic()
        call = decode_rerank(await read_body(request))
        artifact = self._artifact(call.model, Task.RERANK)
        encoded, headers = await self._encode(request, artifact, call.request, call.keep_alive, began)
        number = f"rerank-{secrets.token_hex(12)}"
        served = self._site.serving.served(artifact, call.model)
        return json_answer(write_reranking(number, served, call, encoded), headers={**headers, **served.headers})

    def _artifact(self, model: str, task: Task) -> Artifact:
        artifact = self._site.artifact(model)
        require_encoder(artifact, task)
        return artifact

    async def _encode(
        self, request: Request, artifact: Artifact, asked: EncodeRequest, keep_alive: timedelta | None, began: float
    ) -> tuple[Encoded, dict[str, str]]:
        """Return what came of it, and the ``Server-Timing`` header."""
        load = 0.0
        if not self._site.residency.is_loaded(artifact):
            await unless_gone(request, self._site.residency.encoder(artifact, keep_alive))
            load = time.monotonic() - began
        encoded = await unless_gone(request, self._site.residency.encode(artifact, asked, keep_alive))
        times, total = encoded.timings, time.monotonic() - began
        parts = {"load": load} if load else {}
        parts |= {"queue": times.queue, "tokenize": times.tokenize, "encode": times.encode, "total": total}
        spent = " ".join(f"{name}_ms={seconds * 1e3:.0f}" for name, seconds in parts.items())
        log.info("encoded model=%s texts=%d tokens=%d %s", artifact.ref, len(asked), encoded.tokens, spent)
        return encoded, {"server-timing": header(parts)}
