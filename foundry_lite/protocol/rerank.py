"""Reranking as Cohere, Jina and vLLM have it: a query, documents, and scores, best first.

Sources: Cohere's API reference, "Rerank" (v1 and v2), Jina's "Reranker API", and vLLM's "Re-rank API", as of 2026-11.
docs/api-embeddings.md has the table.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from foundry_lite.embedding import Encoded, EncodeRequest
from foundry_lite.protocol.common.decode import convert, decode_object
from foundry_lite.protocol.common.request_fields import Count, read_keep_alive
from foundry_lite.protocol.common.served import Served, ServedModel
from foundry_lite.protocol.embeddings import (
    MOST_TEXTS,
    EncoderBody,
    EncoderTimings,
    EncoderUsage,
    write_timings,
    write_usage,
)

# Fields of other servers, which ask for what we do not do.
UNSUPPORTED = frozenset(
    ["max_chunks_per_doc", "overlap_tokens", "rank_fields", "return_embeddings", "stream", "truncate_prompt_tokens"]
)


class Document(Struct, frozen=True, forbid_unknown_fields=True):
    """A document as an object."""

    text: str


class RerankBody(EncoderBody, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /v1/rerank``."""

    query: Annotated[str, Meta(min_length=1)]
    documents: Annotated[list[str | Document], Meta(min_length=1, max_length=MOST_TEXTS)]
    top_n: Count | None = None
    return_documents: bool | None = None
    max_tokens_per_doc: Count | None = None
    raw_scores: Literal[False] | None = None


class RerankResult(Struct, frozen=True):
    """The score of a document; ``index`` is its position among the documents of the request."""

    index: int
    relevance_score: float
    document: Document | UnsetType = UNSET


class Reranking(Struct, frozen=True):
    """The answer of ``POST /v1/rerank``. It has no ``object``: servers differ in what that is, and clients insist."""

    id: str
    model: str
    results: list[RerankResult]
    usage: EncoderUsage
    timings: EncoderTimings
    foundry_lite: ServedModel


@dataclass(frozen=True, slots=True)
class RerankCall:
    """A decoded rerank request. ``top_n=None`` returns all documents."""

    model: str
    request: EncodeRequest
    top_n: int | None
    returns_documents: bool
    keep_alive: timedelta | None = None


def decode_rerank(body: bytes) -> RerankCall:
    """Decode the body of ``POST /v1/rerank``. Raises `InvalidRequest` naming the field."""
    wire = convert(decode_object(body), RerankBody, known_unsupported=UNSUPPORTED)
    request = EncodeRequest(
        texts=tuple(one if isinstance(one, str) else one.text for one in wire.documents),
        query=wire.query,
        cut=bool(wire.truncate),
        document_tokens=wire.max_tokens_per_doc,
        field="documents",
    )
    keep_alive = read_keep_alive(wire.keep_alive)
    return RerankCall(wire.model, request, wire.top_n, bool(wire.return_documents), keep_alive)


def write_reranking(number: str, served: Served, call: RerankCall, encoded: Encoded) -> Reranking:
    """Return the answer; of documents with the same score, the earlier one comes first."""
    scores = struct.unpack(f"<{len(call.request)}f", encoded.values)
    order = sorted(range(len(scores)), key=lambda index: -scores[index])[: call.top_n]
    texts = call.request.texts
    results = [
        RerankResult(index, scores[index], Document(texts[index]) if call.returns_documents else UNSET)
        for index in order
    ]  # fmt: skip
    return Reranking(number, served.asked, results, write_usage(encoded), write_timings(encoded.timings), served.body)
