"""OpenAI's embeddings: JSON in, domain values out, and the vectors as JSON.

Sources: OpenAI's API reference, "Create embeddings", and the types of its Python client 3.52, read 2026-11; for fields
beyond it, sentence-transformers (``prompt_name``), Cohere (``input_type``), Infinity (``modality``) and Ollama
(``truncate``).
docs/api-embeddings.md has the table.
"""

from __future__ import annotations

import binascii
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Literal, TypeAlias, cast

import msgspec
from msgspec import Meta, Struct

from foundry_lite.embedding import Encoded, EncodeRequest, EncodeTimings, Purpose
from foundry_lite.protocol.common.decode import convert, decode_object, invalid_value
from foundry_lite.protocol.common.request_fields import AdvisoryBody, read_keep_alive
from foundry_lite.protocol.common.served import Served, ServedModel

# Fields of other servers, which ask for what we do not do.
UNSUPPORTED = frozenset(
    ["add_special_tokens", "embed_dtype", "messages", "normalize", "stream", "task", "truncate_prompt_tokens"]
)

MOST_TEXTS = 2048  # OpenAI's limit
_FLOAT_BYTES = 4

TokenId: TypeAlias = Annotated[int, Meta(ge=0, le=2**31 - 1)]
TokenIds: TypeAlias = Annotated[list[TokenId], Meta(min_length=1)]

# Names that APIs have for queries and documents.
_PURPOSES = {
    "query": Purpose.QUERY,
    "search_query": Purpose.QUERY,
    "document": Purpose.DOCUMENT,
    "passage": Purpose.DOCUMENT,
    "search_document": Purpose.DOCUMENT,
}


class EncoderBody(AdvisoryBody, kw_only=True, forbid_unknown_fields=True):
    """Fields of all encoder requests. ``truncate`` (ours) cuts off the end of long texts, which are else refused."""

    model: Annotated[str, Meta(min_length=1, max_length=512)]
    keep_alive: float | str | None = None
    truncate: bool | None = None


class EmbeddingBody(EncoderBody, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /v1/embeddings``: texts, or the ids of their tokens."""

    input: str | Annotated[list[str | TokenId | TokenIds], Meta(min_length=1)]
    dimensions: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    encoding_format: Literal["float", "base64"] | None = None
    # Beyond OpenAI's.
    prompt_name: Annotated[str, Meta(max_length=512)] | None = None
    input_type: Literal["query", "search_query", "document", "passage", "search_document"] | None = None
    modality: Literal["text"] | None = None


class EncoderUsage(Struct, frozen=True):
    """Tokens that were read, special ones included and padding not."""

    prompt_tokens: int
    total_tokens: int


class EncoderTimings(Struct, frozen=True):
    """Timings of an encoder request, in milliseconds. Of batches with texts of other requests, this request's share."""

    queue_ms: float
    tokenize_ms: float
    encode_ms: float


class EmbeddingObject(Struct, frozen=True):
    """The embedding vector of a text: numbers, or base64 of little-endian float32."""

    index: int
    embedding: list[float] | str
    object: Literal["embedding"] = "embedding"


class EmbeddingList(Struct, frozen=True):
    """The answer of ``POST /v1/embeddings``."""

    model: str
    data: list[EmbeddingObject]
    usage: EncoderUsage
    timings: EncoderTimings
    foundry_lite: ServedModel
    object: Literal["list"] = "list"


@dataclass(frozen=True, slots=True)
class EmbeddingCall:
    """A decoded embeddings request."""

    model: str
    request: EncodeRequest
    is_base64: bool
    keep_alive: timedelta | None = None


def decode_embedding(body: bytes) -> EmbeddingCall:
    """Decode the body of ``POST /v1/embeddings``. Raises `InvalidRequest` naming the field."""
    wire = convert(decode_object(body), EmbeddingBody, known_unsupported=UNSUPPORTED)
    if wire.prompt_name is not None and wire.input_type is not None:
        raise invalid_value("input_type", "'prompt_name' says what is put before the texts already")
    texts, tokens = _read_input(wire.input)
    for name in ("prompt_name", "input_type"):
        if tokens and getattr(wire, name) is not None:
            raise invalid_value(name, "nothing is put before tokens; send texts")
    request = EncodeRequest(
        texts=texts,
        tokens=tokens,
        prompt=wire.prompt_name,
        purpose=None if wire.input_type is None else _PURPOSES[wire.input_type],
        dimensions=wire.dimensions or None,  # 0 is what Infinity's client sends for all of them
        cut=bool(wire.truncate),
        is_list=not isinstance(wire.input, str) and not isinstance(wire.input[0], int),
    )
    return EmbeddingCall(wire.model, request, wire.encoding_format == "base64", read_keep_alive(wire.keep_alive))


def _read_input(given: str | Sequence[str | int | list[int]]) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    """Return the texts, or the token ids of each text."""
    if isinstance(given, str):
        return (_not_empty(given, "input"),), ()
    kind = type(given[0])
    odd = next((place for place, one in enumerate(given) if type(one) is not kind), None)
    if odd is not None:
        raise invalid_value(f"input[{odd}]", "texts, tokens and lists of tokens cannot be mixed")
    if kind is int:
        return (), (tuple(cast(Sequence[int], given)),)
    if len(given) > MOST_TEXTS:
        raise invalid_value("input", f"{len(given)} texts are more than the {MOST_TEXTS} of one request")
    if kind is str:
        return tuple(_not_empty(text, f"input[{place}]") for place, text in enumerate(cast(list[str], given))), ()
    return (), tuple(map(tuple, cast(list[list[int]], given)))


def _not_empty(text: str, name: str) -> str:
    if not text:
        raise invalid_value(name, "the text is empty")
    return text


def write_embeddings(encoded: Encoded, start: int, end: int, *, is_base64: bool) -> list[msgspec.Raw]:
    """Return the `EmbeddingObject`s of some texts as JSON; a few at a time, since floats take their time."""
    size, rows = encoded.width * _FLOAT_BYTES, []
    for index in range(start, end):
        row = encoded.values[index * size : (index + 1) * size]
        numbers = binascii.b2a_base64(row, newline=False).decode() if is_base64 else _floats(row)
        rows.append(msgspec.Raw(msgspec.json.encode(EmbeddingObject(index, numbers))))
    return rows


def write_embedding_list(served: Served, rows: list[msgspec.Raw], encoded: Encoded) -> EmbeddingList:
    """Return the answer around what `write_embeddings` made."""
    objects = cast(list[EmbeddingObject], rows)  # they are JSON already
    return EmbeddingList(served.asked, objects, write_usage(encoded), write_timings(encoded.timings), served.body)


def write_usage(encoded: Encoded) -> EncoderUsage:
    """Return the usage."""
    return EncoderUsage(encoded.tokens, encoded.tokens)


def write_timings(timings: EncodeTimings) -> EncoderTimings:
    """Return the timings in milliseconds."""
    return EncoderTimings(*(round(one * 1e3, 3) for one in (timings.queue, timings.tokenize, timings.encode)))


def _floats(row: bytes) -> list[float]:
    return list(struct.unpack(f"<{len(row) // _FLOAT_BYTES}f", row))
